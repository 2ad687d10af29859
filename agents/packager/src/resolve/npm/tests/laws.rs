//! Laws that hold for the tree of every universe, judged by a lookup of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::universe::{Universe, request, root};
use crate::error::Error;
use crate::metadata::npm::{AtHand, Edition, Metadata, Packument};
use crate::resolution::{Package, Resolution};
use crate::resolve::ResolveError;
use crate::resolve::npm::{Order, Preferred, is_of, resolve};
use agents_versions::npm::{Range, Version};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const WANTS: [&str; 6] = ["*", "1", "2", "^1.1.0", ">=1.1.0", "1.0.0"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0"];
const ROLES: [&str; 8] = ["", "", "", "", "", "peer ", "opt ", "optpeer "];

fn wish() -> impl Strategy<Value = String> {
    let part = (0..ROLES.len(), 0..NAMES.len(), 0..WANTS.len());
    part.prop_map(|(role, name, want)| format!(" {}{}@{}", ROLES[role], NAMES[name], WANTS[want]))
}

fn universe() -> impl Strategy<Value = String> {
    let versions = NAMES.len() * VERSIONS.len();
    proptest::collection::vec((proptest::collection::vec(wish(), 0..4), 0..12u8), versions)
        .prop_map(|all| {
            let mut text = String::new();
            for (at, (wishes, extra)) in all.iter().enumerate() {
                let (name, version) = (NAMES[at / VERSIONS.len()], VERSIONS[at % VERSIONS.len()]);
                let extra = match extra {
                    0 => " deprecated",
                    1 => " os=darwin",
                    _ => "",
                };
                text.push_str(&format!("{name}@{version}{extra}:{}\n", wishes.concat()));
            }
            text
        })
}

/// What node finds for `name` from a place: the nearest folder on the way up.
fn lookup<'a>(tree: &BTreeMap<&str, &'a Package>, place: &str, name: &str) -> Option<&'a Package> {
    let mut at = place.to_owned();
    loop {
        let slash = if at.is_empty() { "" } else { "/" };
        if let Some(found) = tree.get(format!("{at}{slash}node_modules/{name}").as_str()) {
            return Some(found);
        }
        if at.is_empty() {
            return None;
        }
        at = match at.rfind("/node_modules/") {
            Some(end) => at[..end].to_owned(),
            None => String::new(),
        };
    }
}

fn judge(universe: &Universe, wanted: &str, resolution: &Resolution) -> Result<(), TestCaseError> {
    prop_assert!(is_of(&root(wanted), &[], resolution), "what is locked is not followed");
    let tree: BTreeMap<&str, &Package> =
        resolution.packages.iter().map(|one| (one.place.as_str(), one)).collect();
    prop_assert_eq!(tree.len(), resolution.packages.len(), "a place is used twice");
    let mut tree = tree;
    for link in &resolution.links {
        let target = tree.get(link.target.as_str()).copied();
        prop_assert!(target.is_some(), "{} leads to nothing", link.place);
        let above = link.place.starts_with(&format!("{}/", link.target));
        prop_assert!(above, "{} does not lead up", link.place);
        tree.extend(target.map(|target| (link.place.as_str(), target)));
    }
    let fits = |package: &Package, want: &str| {
        let version = Version::parse(&package.version).expect("version");
        want == "*" || Range::parse(want).expect("range").satisfies(&version)
    };
    for (name, want) in &root(wanted).dependencies {
        let found = lookup(&tree, "", name);
        prop_assert!(
            found.is_some_and(|one| fits(one, want) && one.direct),
            "the project's {}",
            name
        );
    }
    for package in &resolution.packages {
        let parent = package.place.rsplit_once("/node_modules/").map(|(parent, _)| parent);
        prop_assert!(parent.is_none_or(|parent| tree.contains_key(parent)), "a folder in nothing");
        let entry =
            &universe.packages[&package.name].versions.get(&package.version).expect("there");
        for (name, want) in &entry.dependencies {
            let found = lookup(&tree, &package.place, name);
            prop_assert!(
                found.is_some_and(|one| fits(one, want)),
                "{} finds {:?} for {}@{}",
                package.place,
                found.map(|one| &one.version),
                name,
                want
            );
        }
        for (name, want) in &entry.peer_dependencies {
            if entry.dependencies.contains_key(name)
                || entry.optional_dependencies.contains_key(name)
            {
                continue;
            }
            let found = lookup(&tree, &package.place, name);
            let optional = entry.optional_peers.contains(name) && found.is_none();
            let id = format!("`{}@{}`", package.name, package.version);
            let warned =
                resolution.warnings.iter().any(|one| one.contains(&id) && one.contains("peer"));
            prop_assert!(
                optional || warned || found.is_some_and(|one| fits(one, want)),
                "{} has no peer {}@{} and nobody said so",
                package.place,
                name,
                want
            );
        }
        for &index in &package.dependencies {
            prop_assert!(index < resolution.packages.len());
        }
    }
    Ok(())
}

/// A registry whose packuments stay the same objects, packed as a cache has them: what one request notes the next one finds.
struct Kept(HashMap<String, Arc<Packument>>, u64);

impl Kept {
    fn new(universe: &Universe) -> Self {
        let packed = universe.packages.iter().map(|(name, packument)| {
            let bytes = packument.pack().expect("an archive");
            (name.clone(), Arc::new(Packument::unpack(&bytes).expect("its own archive")))
        });
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(packed.collect(), COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Metadata for Kept {
    fn packument(&self, name: &str) -> Result<Arc<Packument>, Error> {
        Ok(Arc::clone(self.0.get(name).expect("all names exist")))
    }

    fn at_hand(&self, name: &str) -> Option<AtHand> {
        let packument = Arc::clone(self.0.get(name)?);
        Some(AtHand { packument, until: SystemTime::UNIX_EPOCH + Duration::from_secs(2) })
    }

    fn edition(&self) -> Option<(Edition, SystemTime)> {
        let mut edition = [0; 32];
        edition[..8].copy_from_slice(&self.1.to_le_bytes());
        Some((Edition(edition), SystemTime::UNIX_EPOCH + Duration::from_secs(1)))
    }

    fn prefetch(&self, _name: &str) -> bool {
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_tree_is_sound_and_the_same_each_time(
        text in universe(),
        wishes in proptest::collection::btree_map(0..NAMES.len(), 0..WANTS.len(), 1..4),
    ) {
        let universe = Universe::parse(&text);
        let wanted: Vec<String> =
            wishes.iter().map(|(name, want)| format!("{}@{}", NAMES[*name], WANTS[*want])).collect();
        let wanted = wanted.join(" ");
        let first = resolve(&request(root(&wanted)), &universe);
        let second = resolve(&request(root(&wanted)), &universe);
        prop_assert_eq!(&first, &second);
        match first {
            Ok(resolution) => judge(&universe, &wanted, &resolution)?,
            Err(ResolveError::Conflict(conflict)) => prop_assert!(!conflict.explanation.is_empty()),
            Err(ResolveError::Other(error)) => {
                prop_assert_eq!(error.code, "unsupported-platform");
            }
        }
    }

    #[test]
    fn a_tree_that_is_locked_is_kept(
        text in universe(),
        name in 0..NAMES.len(),
        want in 0..WANTS.len(),
    ) {
        let universe = Universe::parse(&text);
        let wanted = format!("{}@{}", NAMES[name], WANTS[want]);
        let Ok(first) = resolve(&request(root(&wanted)), &universe) else { return Ok(()) };
        let mut again = request(root(&wanted));
        for one in &first.packages {
            let preferred = Preferred { name: one.name.clone(), version: one.version.clone(), archive: None };
            again.preferred.insert(one.place.clone(), preferred);
        }
        if let Ok(second) = resolve(&again, &universe) {
            judge(&universe, &wanted, &second)?;
            let clean = first.warnings.iter().all(|one| !one.contains("peer") && !one.contains("left out"));
            if clean {
                let places = |tree: &Resolution| -> BTreeSet<String> {
                    tree.packages.iter().map(|one| format!("{} {}", one.place, one.version)).collect()
                };
                prop_assert_eq!(places(&first), places(&second));
            }
        }
    }

    #[test]
    fn what_one_request_learnt_changes_no_answer_of_another(
        text in universe(),
        other in universe(),
        wishes in proptest::collection::vec(
            (0..NAMES.len(), 0..WANTS.len(), 0..3_u8, 0..3_u8), 2..6),
    ) {
        let universe = Universe::parse(&text.replace(" deprecated", " deprecated node=>=20"));
        let other = Universe::parse(&other);
        let requests: Vec<_> = wishes
            .into_iter()
            .map(|(name, want, order, node)| {
                let mut request = request(root(&format!("{}@{}", NAMES[name], WANTS[want])));
                request.order =
                    [Order::Highest, Order::Lowest, Order::LowestDirect][usize::from(order)];
                request.node_version =
                    [Some("20.0.0".to_owned()), Some("18.0.0".to_owned()), None][usize::from(node)]
                        .clone();
                request
            })
            .collect();
        let fresh = |universe: &Universe| -> Vec<_> {
            requests.iter().map(|request| resolve(request, universe)).collect()
        };
        let (fresh, fresh_of_other) = (fresh(&universe), fresh(&other));
        let (kept, kept_of_other) = (Kept::new(&universe), Kept::new(&other));
        // One after the other, so that each begins with what the one before has learnt.
        for (request, fresh) in requests.iter().zip(&fresh) {
            prop_assert_eq!(&resolve(request, &kept), fresh);
            prop_assert_eq!(&resolve(request, &kept), fresh);
        }
        for ((request, fresh), other) in requests.iter().zip(&fresh).zip(&fresh_of_other) {
            prop_assert_eq!(&resolve(request, &kept_of_other), other);
            prop_assert_eq!(&resolve(request, &kept), fresh);
        }
    }
}
