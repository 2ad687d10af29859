//! Plans: one digest per content, and refusals that name what changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::transaction::{Change, CommitOptions, Expected, Purpose};

struct World {
    _scratch: tempfile::TempDir,
    transactions: Transactions,
    project: Project,
    now: Arc<AtomicU64>,
}

fn path(path: &str) -> RelativePath {
    RelativePath::new(path).unwrap()
}

fn world() -> World {
    let scratch = tempfile::tempdir().unwrap();
    let x = scratch.path().join("x");
    std::fs::create_dir(&x).unwrap();
    std::fs::write(x.join("package.json"), "{}").unwrap();
    let now = Arc::new(AtomicU64::new(1_000));
    let clock = now.clone();
    let clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let transactions = Transactions::open(&scratch.path().join("state"), clock).unwrap();
    World { project: Project::open(&x).unwrap(), transactions, now, _scratch: scratch }
}

fn plan(world: &World) -> Plan {
    let mut plan = Plan {
        schema_version: SCHEMA_VERSION,
        project: ProjectId::of(&world.project),
        operation: "add".to_owned(),
        requested: Vec::new(),
        resolutions: Vec::new(),
        edits: vec![FileEdit {
            path: path("package.json"),
            before: Some(Content::of(b"{}")),
            after: Some(vec![0xff, 0x00, b'"']),
        }],
        exemptions: Vec::new(),
        is_elsewhere: false,
        system: None,
        environments: vec![Rebuild { place: path("node_modules"), ecosystem: Ecosystem::Npm }],
        preconditions: vec![
            Precondition::environment(&world.transactions, &world.project, path("node_modules"))
                .unwrap(),
            Precondition::file(&world.project, path("package.json")).unwrap(),
            Precondition::file(&world.project, path("package-lock.json")).unwrap(),
        ],
        created_at_ms: 1_000,
        expires_at_ms: 2_000,
    };
    plan.normalise();
    plan
}

/// A plan of npm with this package.
pub(crate) fn example(package: crate::resolution::Package) -> Plan {
    let (packages, warnings) = (vec![package], Vec::new());
    let resolution =
        Resolution { ecosystem: Ecosystem::Npm, links: Vec::new(), packages, warnings };
    Plan { resolutions: vec![resolution], ..plan(&world()) }
}

#[test]
fn the_canonical_bytes_are_written_down() {
    let mut plan = plan(&world());
    plan.project.path = "/x".to_owned();
    plan.project.identity.device = 1;
    plan.project.identity.inode = 2;
    plan.project.identity.born_ns = Some(3);
    let bytes = String::from_utf8(plan.canonical_bytes().unwrap()).unwrap();
    let digest = |parts: &[&[u8]]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, &parts.concat());
        digest.as_ref().to_vec()
    };
    let (begin, rest) = bytes.split_at(bytes.find("[],\"schema").unwrap());
    let (begin, (resolutions, end)) = (&begin["bolide-plan/2\n".len()..], rest.split_at(2));
    let pieces = [begin, resolutions, end].map(|piece| digest(&[piece.as_bytes()]));
    let whole = digest(&[b"bolide-plan/2\n", &pieces[0], &pieces[1], &pieces[2]]);
    assert_eq!(plan.digest().unwrap(), format!("sha256:{}", crate::hex::hex(&whole)));
    assert_eq!(
        bytes,
        "bolide-plan/2\n{\"created_at_ms\":1000,\"edits\":[{\"after\":\"/wAi\",\"before\":{\"bytes\":2,\
         \"sha256\":\"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\
         \"path\":\"package.json\"}],\"environments\":[{\"ecosystem\":\"npm\",\"place\":\"node_modules\"}],\
         \"expires_at_ms\":2000,\"operation\":\"add\",\"preconditions\":[{\"content\":null,\"kind\":\"file\",\
         \"path\":\"package-lock.json\"},{\"content\":{\"bytes\":2,\
         \"sha256\":\"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"kind\":\"file\",\
         \"path\":\"package.json\"},{\"fingerprint\":null,\"generation\":0,\"kind\":\"environment\",\
         \"place\":\"node_modules\"}],\"project\":{\"identity\":{\"born_ns\":3,\"device\":1,\"inode\":2,\
         \"kind\":\"directory\"},\"path\":\"/x\"},\"requested\":[],\"resolutions\":[],\"schema_version\":2}"
    );
}

#[test]
fn a_plan_of_the_version_before_is_read_by_its_own_digest() {
    let mut plan = Plan { schema_version: 1, ..plan(&world()) };
    let world = world();
    let bytes = plan.canonical_bytes().unwrap();
    assert!(bytes.starts_with(b"bolide-plan/1\n{"));
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let digest = format!("sha256:{}", crate::hex::hex(digest.as_ref()));
    assert_eq!(world.transactions.store_plan(&plan).unwrap(), digest);
    assert_eq!(world.transactions.plan(&digest).unwrap(), plan);
    plan.schema_version = 3;
    let later = world.transactions.store_plan(&plan).unwrap();
    let error = world.transactions.plan(&later).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Stale, "plan-version"));
}

#[test]
fn every_field_is_in_the_digest() {
    let world = world();
    let plan = plan(&world);
    let digest = plan.digest().unwrap();
    assert!(digest.starts_with("sha256:") && digest.len() == 71);
    let changes: [fn(&mut Plan); 6] = [
        |plan| plan.created_at_ms += 1,
        |plan| plan.expires_at_ms += 1,
        |plan| plan.operation.push('x'),
        |plan| plan.edits[0].after = None,
        |plan| plan.environments.clear(),
        |plan| drop(plan.preconditions.pop()),
    ];
    for change in changes {
        let mut other = plan.clone();
        change(&mut other);
        assert_ne!(other.digest().unwrap(), digest);
    }
    let text = serde_json::to_string(&plan).unwrap();
    let again: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(again, plan);
    assert_eq!(again.digest().unwrap(), digest);
}

#[test]
fn a_stored_plan_is_not_an_approved_one() {
    let world = world();
    let plan = plan(&world);
    let early = plan.digest().unwrap();
    assert_eq!(world.transactions.approve(&early, "x", "y").unwrap_err().code, "unknown-plan");
    let digest = world.transactions.store_plan(&plan).unwrap();
    assert_eq!(world.transactions.plan(&digest).unwrap(), plan);
    let error = world.transactions.require_approval(&digest).unwrap_err();
    assert_eq!((error.kind.exit_code(), error.code.as_str()), (4, "approval-needed"));
    world.transactions.approve(&digest, "uid 1000", "--yes").unwrap();
    assert_eq!(world.transactions.require_approval(&digest).unwrap().who, "uid 1000");
    assert_eq!(world.transactions.withdraw_approvals(&digest).unwrap(), 1);
    assert!(world.transactions.require_approval(&digest).is_err());
    assert_eq!(world.transactions.plan("sha256:0").unwrap_err().code, "unknown-plan");
}

fn stale(world: &World, plan: &Plan, words: &[&str]) {
    let error = plan.check_preconditions(&world.transactions, &world.project).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Stale, "plan-stale"));
    for word in words {
        assert!(error.message.contains(word), "{}", error.message);
    }
}

#[test]
fn a_plan_is_stale_when_what_it_read_has_changed() {
    let world = world();
    let plan = plan(&world);
    plan.check_preconditions(&world.transactions, &world.project).unwrap();
    std::fs::write(world.project.path().join("package.json"), "{ }").unwrap();
    std::fs::write(world.project.path().join("package-lock.json"), "{}").unwrap();
    stale(&world, &plan, &["`package.json` was edited", "`package-lock.json` exists now"]);
    std::fs::remove_file(world.project.path().join("package.json")).unwrap();
    stale(&world, &plan, &["`package.json` is gone"]);
    world.now.store(2_000, Ordering::SeqCst);
    stale(&world, &plan, &["expired"]);
}

#[test]
fn a_plan_is_stale_when_an_environment_has_another_generation() {
    let world = world();
    let plan = plan(&world);
    let project = Project::open(world.project.path()).unwrap();
    let mut session = world
        .transactions
        .lock(project, Duration::from_secs(20), agents_contract::Cancellation::NEVER)
        .unwrap();
    let purpose = Purpose {
        operation: "add".to_owned(),
        digest: Some(plan.digest().unwrap()),
        actor: "uid 0".to_owned(),
        summary: serde_json::Value::Null,
    };
    let open = session.begin(purpose).unwrap();
    std::fs::create_dir(open.staging().join("modules")).unwrap();
    let change = Change {
        live: path("node_modules"),
        staged: Some("modules".to_owned()),
        environment: Some(Ecosystem::Npm),
        expected: Expected::Anything,
    };
    open.commit(&[change], CommitOptions::default()).unwrap();
    stale(&world, &plan, &["`node_modules`", "generation 0, now 1"]);
}

#[test]
fn a_plan_for_another_directory_is_refused() {
    let world = world();
    let plan = plan(&world);
    let other = world.project.path().with_file_name("y");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("package.json"), "{}").unwrap();
    let other = Project::open(&other).unwrap();
    let error = plan.check_preconditions(&world.transactions, &other).unwrap_err();
    assert!(error.message.contains("is not the directory"), "{}", error.message);
}
