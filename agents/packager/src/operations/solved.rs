//! The part of an operation whose packages are those of a system, and whose tool decides itself what follows: dnf, pacman. It
//! is asked, and what it answers is the plan, with every step by version and digest. Carrying it out is the transaction's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Aim, Asked, Decided, Decision, Task};
use crate::api::InfoAnswer;
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::metadata::Hashes;
use crate::options::Choice;
use crate::resolution::{Artifact, Package, Resolution};
use crate::resolve::{self, ResolveError};
use crate::spec::Spec;
use crate::system::{
    Change, Coming, Going, Snapshot, Solved, Standing, Step, System, Version, Want, WantKind,
};
use crate::transaction::Archives;

/// The options of a resolution that are honoured: the distribution's tool has its own.
const HONOURED: &[Choice] = &[];

pub(super) fn decide(task: &Task<'_>, ecosystem: Ecosystem, asked: &Asked<'_>) -> Decision {
    task.choices.check_honoured(ecosystem, HONOURED)?;
    let (system, mut snapshot) = open(task, ecosystem)?;
    let wants = wants(asked);
    let (comes, goes) = match system.solve(&wants, task.setting.offline)? {
        Solved::Change(comes, goes) => (comes, goes),
        Solved::Conflict(explanation) => {
            let repairs = Vec::new();
            return Err(ResolveError::Conflict(resolve::Conflict { explanation, repairs }));
        }
    };
    let names = || comes.iter().map(|it| &it.name).chain(goes.iter().map(|it| &it.name));
    if names().any(|name| !snapshot.is_settled(name)) {
        // It may be a crash of ours that left it so.
        task.shop.transactions.end_systems()?;
        snapshot = system.snapshot()?;
    }
    if let Some(name) = names().find(|name| !snapshot.is_settled(name)) {
        let message =
            format!("`{name}` is there in several versions, which is not carried out here");
        return Err(Error::new(Kind::Refused, "several-versions", message)
            .hint("use the distribution's own tool for it")
            .into());
    }
    let archives = task.shop.transactions.system_archives()?;
    let known = (&snapshot, &archives);
    let mut change = Change {
        irreversible: Vec::new(),
        manager: system.manager(),
        root: {
            let root = task.system_root();
            root.canonicalize().unwrap_or(root).display().to_string()
        },
        steps: Vec::new(),
    };
    steps(&mut change, (&comes, &goes), &wants, known)?;
    let resolution = resolution(ecosystem, &comes, &goes, &wants, &snapshot);
    let before = before(ecosystem, &change, &resolution, &snapshot);
    let mut warnings = resolution.warnings.clone();
    warnings.extend(change.irreversible.iter().cloned());
    Ok(Decided {
        resolution,
        system: Some(change),
        wants: Vec::new(),
        target: String::new(),
        edits: Vec::new(),
        environment: None,
        beside: Vec::new(),
        preconditions: Vec::new(),
        warnings,
        before: Some(before),
        is_locked: false,
        is_elsewhere: false,
    })
}

fn open(task: &Task<'_>, ecosystem: Ecosystem) -> Result<(System, Snapshot)> {
    let system = System::open(&task.system_root(), &task.shop.transactions.system_place()?)?;
    system.check_kind(ecosystem)?;
    let snapshot = system.snapshot()?;
    Ok((system, snapshot))
}

fn wants(asked: &Asked<'_>) -> Vec<Want> {
    let renewed = match asked.aim {
        Aim::Update(named) => named,
        Aim::Change | Aim::Install => &[],
    };
    let want = |kind: WantKind| {
        move |spec: &Spec| Want {
            kind,
            name: spec.name.clone(),
            version: spec.requirement.strip_prefix('=').map(str::to_owned),
        }
    };
    let added = asked.add.iter().map(want(WantKind::Add));
    let renewed = renewed.iter().map(want(WantKind::Update));
    added.chain(renewed).chain(asked.remove.iter().map(want(WantKind::Remove))).collect()
}

fn is_added(wants: &[Want], name: &str) -> bool {
    wants.iter().any(|want| want.kind == WantKind::Add && want.name == name)
}

/// Every package that changes, with what stands before and after; and what is there already and is asked for by name.
fn steps(
    change: &mut Change,
    (comes, goes): (&[Coming], &[Going]),
    wants: &[Want],
    (snapshot, archives): (&Snapshot, &Archives),
) -> Result<()> {
    let mut steps: BTreeMap<&str, Step> = BTreeMap::new();
    for Going { name, version, sha256 } in goes {
        let mut before = snapshot.standing(name);
        archives.fill(name, &mut before);
        if let Standing::Installed(installed) = &mut before {
            installed.sha256 = installed.sha256.take().or_else(|| sha256.clone());
            if installed.sha256.is_none() {
                change.irreversible.push(format!(
                    "`{name}` {version} could not be brought back: no archive has it any more"
                ));
            }
        }
        let step = Step { after: Standing::Absent, before, name: name.clone() };
        steps.insert(name, step);
    }
    for it in comes {
        let step = steps.entry(&it.name).or_insert_with(|| {
            let before = snapshot.standing(&it.name);
            Step { after: Standing::Absent, before, name: it.name.clone() }
        });
        let sha256 = it.sha256.clone().ok_or_else(|| {
            let message =
                format!("its repository names no SHA-256 of `{}` {}", it.name, it.version);
            Error::new(Kind::Verification, "no-hash", message)
        })?;
        let was_automatic = step.before.version().is_none_or(|before| before.is_automatic);
        step.after = Standing::Installed(Version {
            architecture: it.architecture.clone(),
            is_automatic: was_automatic && !is_added(wants, &it.name),
            origin: it.origin.clone(),
            sha256: Some(sha256),
            version: it.version.clone(),
        });
    }
    for want in wants.iter().filter(|want| want.kind == WantKind::Add) {
        let mut before = snapshot.standing(&want.name);
        archives.fill(&want.name, &mut before);
        // What was there for others is from now on there for itself.
        let marked = before.version().filter(|it| it.is_automatic).cloned();
        if let Some(version) = marked.filter(|_| !steps.contains_key(want.name.as_str())) {
            let after = Standing::Installed(Version { is_automatic: false, ..version });
            steps.insert(&want.name, Step { after, before, name: want.name.clone() });
        }
    }
    change.steps = steps.into_values().collect();
    Ok(())
}

/// The packages that come, and those asked for that stay.
fn resolution(
    ecosystem: Ecosystem,
    comes: &[Coming],
    goes: &[Going],
    wants: &[Want],
    snapshot: &Snapshot,
) -> Resolution {
    let mut packages: BTreeMap<&str, Package> = BTreeMap::new();
    for it in comes {
        let mut found = package(ecosystem, &it.name, &it.version, is_added(wants, &it.name));
        found.artifact = Arc::new(Artifact {
            built: None,
            by_address: false,
            file_name: it.file.clone(),
            hashes: Hashes { sha256: it.sha256.clone(), ..Hashes::default() },
            size: it.size,
            source: None,
            url: String::new(),
        });
        found.license.clone_from(&it.license);
        packages.insert(&it.name, found);
    }
    for want in wants.iter().filter(|want| want.kind != WantKind::Remove) {
        if let Standing::Installed(version) = snapshot.standing(&want.name) {
            let is_direct = want.kind == WantKind::Add;
            let stays = || package(ecosystem, &want.name, &version.version, is_direct);
            packages.entry(&want.name).or_insert_with(stays);
        }
    }
    let places: BTreeMap<&str, usize> =
        packages.keys().enumerate().map(|(at, name)| (*name, at)).collect();
    for it in comes {
        if let Some(found) = packages.get_mut(it.name.as_str()) {
            let mut used: Vec<usize> =
                it.uses.iter().filter_map(|name| places.get(name.as_str()).copied()).collect();
            used.sort_unstable();
            found.dependencies = used;
        }
    }
    // In the resolution too, so that the digest that is approved covers what goes.
    let leaves = goes.iter().filter(|it| comes.iter().all(|other| other.name != it.name));
    let warnings = leaves.map(|it| format!("`{}` is taken away", it.name)).collect();
    let packages = packages.into_values().collect();
    Resolution { ecosystem, links: Vec::new(), packages, warnings }
}

/// The versions that are replaced or taken away, and those asked for that stay.
fn before(
    ecosystem: Ecosystem,
    change: &Change,
    resolution: &Resolution,
    snapshot: &Snapshot,
) -> Resolution {
    let names = change.steps.iter().map(|step| &step.name);
    let names = names.chain(resolution.packages.iter().map(|package| &package.name));
    let names: std::collections::BTreeSet<&String> = names.collect();
    let standing = |name: &String| {
        let version = snapshot.standing(name).version()?.version.clone();
        Some(package(ecosystem, name, &version, false))
    };
    let packages = names.into_iter().filter_map(standing).collect();
    Resolution { ecosystem, links: Vec::new(), packages, warnings: Vec::new() }
}

fn package(ecosystem: Ecosystem, name: &str, version: &str, direct: bool) -> Package {
    Package {
        artifact: Arc::new(Artifact {
            built: None,
            by_address: false,
            file_name: String::new(),
            hashes: Hashes::default(),
            size: None,
            source: None,
            url: String::new(),
        }),
        bin: BTreeMap::new(),
        dependencies: Vec::new(),
        direct,
        ecosystem,
        extras: Vec::new(),
        license: None,
        name: name.to_owned(),
        place: String::new(),
        published: None,
        scripts: Vec::new(),
        version: version.to_owned(),
    }
}

/// What the tool's repositories say about one package.
pub(super) fn info(task: &Task<'_>, spec: &Spec) -> Result<InfoAnswer> {
    let (system, _) = open(task, spec.ecosystem)?;
    let version = spec.requirement.strip_prefix('=');
    let found = system.describe(&spec.name, version, task.setting.offline)?;
    Ok(InfoAnswer {
        schema: super::read::schema(),
        purl: crate::spec::purl(spec.ecosystem, &spec.name, &found.version),
        version: found.version,
        latest: found.latest,
        versions_count: found.count,
        license: found.license,
        published: None,
        hash: Hashes { sha256: found.sha256, sha512: None }.to_string(),
        requires: found.requires,
        withdrawn: None,
        scripts: Vec::new(),
    })
}
