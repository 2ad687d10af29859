//! An installation from a lock one of whose archives is not where it is by custom, struck where it fetches: above all in its second
//! round, in which the registry was asked where that one is. The tree is whole or not there, and the next command has all of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::far::{forget, locked, standing};
use super::look;
use super::tracer::{Ended, Kind, Point, Strike, Traced, output, stopped_first};
use super::world::{World, bolide_program};

const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// Strikes in a sample.
const SAMPLE_STRIKES: usize = 12;
/// Packages that are installed, two of them in the first round.
const PACKAGES: usize = 3;

struct Place {
    world: World,
    outputs: tempfile::TempDir,
}

impl Place {
    fn traced(&self, strike: Option<(Point, Strike)>) -> (Ended, BTreeMap<String, Kind>, bool) {
        let mut shell = self.world.command("/bin/sh");
        shell.stdin(std::fs::File::open("/dev/null").unwrap());
        let place = |name: &str| output(&self.outputs.path().join(name));
        shell.stdout(place("out")).stderr(place("err"));
        let command = stopped_first(shell, &bolide_program(), &["install"]);
        let root: PathBuf = self.world.place("").components().collect();
        let class = move |path: &Path| Some(look::class(&root, path));
        Traced::start(command, RUN_TIME_MAX, strike, class).end()
    }

    /// Whether it was done, nothing where the point was not reached; nothing is installed or fetched when it returns.
    fn strike(&self, point: &Point, strike: Strike) -> Option<bool> {
        let (ended, _, has_struck) = self.traced(Some((point.clone(), strike)));
        let what = format!("{point:?} {strike:?} {ended:?}");
        assert!(!ended.has_hung && !ended.has_orphans, "{what}");
        let is_done = standing(&self.world) == PACKAGES;
        assert!(is_done || standing(&self.world) == 0, "{what}");
        if let Some(code) = ended.code {
            assert_eq!(code == 0, is_done, "{what}");
        }
        let again = self.world.bolide(&["install"]);
        assert_eq!((again.code, standing(&self.world)), (0, PACKAGES), "{what}: {again:?}");
        for place in ["incoming", "store/leases", "store/tmp"] {
            let left = look::names(&self.world.place("home/cache/bolide").join(place));
            assert!(left.is_empty(), "{what}: {left:?} in {place}");
        }
        forget(&self.world);
        has_struck.then_some(is_done)
    }
}

#[test]
fn a_strike_where_what_is_elsewhere_is_fetched_leaves_all_or_nothing() {
    if !super::tracer::is_allowed() {
        return super::world::not_shown("tracing what a test itself starts is forbidden");
    }
    let place = Place { world: locked(), outputs: tempfile::tempdir().unwrap() };
    let (ended, kinds, _) = place.traced(None);
    assert_eq!((ended.code, standing(&place.world)), (Some(0), PACKAGES));
    forget(&place.world);
    let fetches = |kind: &str| kind.contains("/incoming/") || kind.contains("/partial/");
    let is_whole = std::env::var("BOLIDE_CRASH").is_ok_and(|how| how == "all");
    let mut blows = super::blows(&kinds);
    blows.retain(|(point, _)| fetches(&point.kind));
    if !is_whole {
        // The last of each kind is the second round's, where that has the kind.
        blows.retain(|(point, _)| point.index + 1 == kinds[&point.kind].count);
        blows = super::sample(blows, SAMPLE_STRIKES);
    }
    let count = blows.len();
    let struck: Vec<bool> =
        blows.iter().filter_map(|(point, strike)| place.strike(point, *strike)).collect();
    let done = struck.iter().filter(|is_done| **is_done).count();
    println!(
        "what is elsewhere: {} of {count} strikes: {done} left all, the others nothing",
        struck.len()
    );
    assert!(!struck.is_empty(), "no strike has reached its point");
}
