//! Environments that were tampered with: what a look finds, and mending them as a transaction that may break anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use agents_contract::Cancellation;
use rustix::io::Errno;

use super::super::disk::{Hook, Verdict};
use super::*;
use crate::limits::VERIFY_FINDINGS_MAX;

const PLACE: &str = "node_modules";

/// What the installer makes of version 1.0.0, as [`install`] does.
fn build(at: &Path) {
    let write = |path: &str, text: &str| {
        fs::create_dir_all(at.join(path).parent().unwrap()).unwrap();
        fs::write(at.join(path), text).unwrap();
    };
    write("a/index.js", "module.exports = '1.0.0'\n");
    write("a/package.json", "{\"version\":\"1.0.0\"}\n");
    write("only-in-1.0.0/index.js", "1\n");
    fs::create_dir_all(at.join(".bin")).unwrap();
    std::os::unix::fs::symlink("../a/index.js", at.join(".bin/a")).unwrap();
}

/// Every way in which a path can differ.
fn tamper(world: &World) {
    world.write("node_modules/a/index.js", "module.exports = 'evil!'\n");
    fs::remove_dir_all(world.project.join("node_modules/only-in-1.0.0")).unwrap();
    let manifest = world.project.join("node_modules/a/package.json");
    fs::set_permissions(manifest, fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(world.project.join("node_modules/.bin/a")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.project.join("node_modules/.bin/a")).unwrap();
    world.write("node_modules/mine/note", "mine\n");
}

fn inspect(session: &Session) -> Result<Inspection> {
    session.inspect(&path(PLACE), &[], Some(&agents_contract::Threads(3)), &|| Ok(()))
}

fn found(session: &Session) -> Vec<(String, Difference)> {
    let findings = inspect(session).unwrap().findings.into_iter();
    findings.map(|it| (it.path.to_string_lossy().into_owned(), it.difference)).collect()
}

/// Brings back everything; without `force` what loses nothing.
fn mend(session: &mut Session, force: bool) -> Result<Committed> {
    let place = path(PLACE);
    let seen = inspect(session)?;
    let is_harmless =
        |it: &Finding| matches!(it.difference, Difference::Missing | Difference::Mode);
    let taken = seen.findings.iter().enumerate().filter(|(_, it)| force || is_harmless(it));
    let taken: BTreeSet<usize> = taken.map(|(index, _)| index).collect();
    let skipped: BTreeSet<Vec<u8>> = taken
        .iter()
        .map(|index| &seen.findings[*index])
        .filter(|it| it.difference != Difference::Mode)
        .map(|it| it.path.as_os_str().as_bytes().to_vec())
        .collect();
    let live = session.project().path().join(PLACE);
    let open = session.begin(purpose("repair"))?;
    let (copy, reference) = (open.staging().join("mended"), open.staging().join("reference"));
    build(&reference);
    let skip = |path: &[u8]| skipped.contains(path);
    let crew = agents_contract::Threads(1);
    crate::store::clone_tree_without(&live, &copy, &skip, &crew, Cancellation::NEVER)?;
    let mended = open.mend(&place, seen, &taken, ("mended", "reference"))?;
    fs::remove_dir_all(&reference).unwrap();
    let mended = BTreeMap::from([(place, mended)]);
    let options = CommitOptions { mended: Some(&mended), ..CommitOptions::default() };
    open.commit(&[environment(PLACE, "mended", Ecosystem::Npm)], options)
}

fn tampered() -> World {
    let world = World::quick();
    install(&mut world.session(), "1.0.0", false).unwrap();
    tamper(&world);
    world
}

#[test]
fn every_way_to_differ_is_found_in_the_order_of_a_walk() {
    let world = tampered();
    use Difference::{Additional, Content, Missing, Mode, Target};
    let expected = [
        (".bin/a", Target),
        ("a/index.js", Content),
        ("a/package.json", Mode),
        ("mine", Additional),
        ("only-in-1.0.0", Missing),
    ];
    let expected = expected.map(|(path, difference)| (path.to_owned(), difference));
    let session = world.session();
    assert_eq!(found(&session), expected);
    let alone = session.inspect(&path(PLACE), &[], None, &|| Ok(())).unwrap();
    assert_eq!(alone, inspect(&session).unwrap(), "many hands find what one does");
}

#[test]
fn who_wants_no_answer_any_more_gets_none_and_no_wrong_one() {
    let world = tampered();
    let session = world.session();
    let count = AtomicUsize::new(0);
    for after in 0..8 {
        count.store(0, Ordering::SeqCst);
        let keep_on = || match count.fetch_add(1, Ordering::SeqCst) < after {
            true => Ok(()),
            false => Err(Error::cancelled()),
        };
        let looked = session.inspect(&path(PLACE), &[], None, &keep_on);
        assert_eq!(looked.unwrap_err().code, "cancelled", "after {after}");
    }
}

#[test]
fn findings_beyond_the_bound_are_counted() {
    let world = tampered();
    let crowd = world.project.join(PLACE);
    for index in 0..VERIFY_FINDINGS_MAX {
        fs::File::create(crowd.join(format!("z{index}"))).unwrap();
    }
    let found = inspect(&world.session()).unwrap();
    assert_eq!((found.findings.len(), found.left_out), (VERIFY_FINDINGS_MAX, 5));
}

#[test]
fn a_repair_without_force_leaves_what_a_person_made() {
    let world = tampered();
    let mut session = world.session();
    mend(&mut session, false).unwrap();
    assert_eq!(world.read("node_modules/only-in-1.0.0/index.js"), "1\n");
    use Difference::{Additional, Content, Target};
    let kinds: Vec<Difference> = found(&session).into_iter().map(|it| it.1).collect();
    assert_eq!(kinds, [Target, Content, Additional], "what is left is a difference still");
    let committed = mend(&mut session, true).unwrap();
    assert_eq!(found(&session), []);
    let kept = committed.kept.unwrap().join(PLACE);
    assert_eq!(fs::read_to_string(kept.join("mine/note")).unwrap(), "mine\n");
    assert!(fs::read_to_string(kept.join("a/index.js")).unwrap().contains("evil!"));
}

/// Nothing works from one point on, undoing neither: the same as a crash for the one who comes after.
struct Breaks {
    reached: AtomicUsize,
    at: usize,
}

impl Hook for Breaks {
    fn reach(&self, _: &'static str) -> Verdict {
        match self.reached.fetch_add(1, Ordering::SeqCst) < self.at {
            true => Verdict::Proceed,
            false => Verdict::Fail(Errno::IO),
        }
    }
}

#[test]
fn a_repair_that_breaks_anywhere_leaves_the_old_or_the_new() {
    for force in [false, true] {
        let world = tampered();
        let old = world.visible();
        mend(&mut world.session(), force).unwrap();
        let (new, mut undone, mut finished) = (world.visible(), 0, 0);
        for at in 0.. {
            let world = tampered();
            let before = found(&world.session());
            let breaks = Arc::new(Breaks { reached: AtomicUsize::new(0), at });
            let transactions = world.open_on(Disk { hook: Some(breaks.clone()) });
            let done = transactions.and_then(|transactions| {
                let mut session = world.lock(&transactions)?;
                mend(&mut session, force)
            });
            let what = format!("force: {force}, point {at}: {done:?}");
            // Recovers.
            let session = world.session();
            let now = world.visible();
            assert!(now == old || now == new, "{what}: neither the old nor the new tree");
            let is_new = now == new;
            let history = world.open().history(None, 10).unwrap();
            let stands = history[0].operation == "repair" && history[0].state == State::Committed;
            assert_eq!(stands, is_new, "{what}: {history:?}");
            assert!(is_new || done.is_err(), "{what}");
            let left = found(&session);
            match is_new {
                true => assert_eq!(left.len(), if force { 0 } else { 3 }, "{what}"),
                false => assert_eq!(left, before, "{what}"),
            }
            if is_new && force {
                let kept = world.state.join("kept").join(&history[0].id).join(PLACE);
                assert_eq!(fs::read_to_string(kept.join("mine/note")).unwrap(), "mine\n", "{what}");
            }
            drop(session);
            world.assert_clean();
            if is_new {
                finished += 1
            } else {
                undone += 1
            }
            if breaks.reached.load(Ordering::SeqCst) <= at {
                break;
            }
        }
        println!("repair, force {force}: {undone} failures undone, {finished} finished");
        assert!(undone > 1 && finished > 1);
    }
}
