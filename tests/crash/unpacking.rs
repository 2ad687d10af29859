//! `bolide unpack`, struck at each of its changes: the directory is whole or empty, and the next one leaves nothing beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::look;
use super::packages::{self, Npm};
use super::tracer::{Ended, Kind, Point, Strike, Traced, output, stopped_first};
use super::world::{Outcome, World, bolide_program};

const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// Strikes in a sample.
const SAMPLE_STRIKES: usize = 12;

struct Place {
    world: World,
    outputs: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let world = World::quick();
        let package = Npm { name: "leaf", version: "1.0.0", dependencies: &[] };
        std::fs::write(world.place("leaf.tgz"), packages::npm_tarball(&package)).unwrap();
        std::fs::create_dir(world.place("out")).unwrap();
        Self { world, outputs: tempfile::tempdir().unwrap() }
    }

    fn arguments(&self) -> [String; 4] {
        let text = |path: PathBuf| path.display().to_string();
        let (file, into) = (self.world.place("leaf.tgz"), self.world.place("out/files"));
        ["unpack".to_owned(), text(file), "--into".to_owned(), text(into)]
    }

    fn traced(
        &self,
        strike: Option<(Point, Strike)>,
    ) -> (Ended, std::collections::BTreeMap<String, Kind>, bool) {
        let mut shell = self.world.command("/bin/sh");
        shell.stdin(std::fs::File::open("/dev/null").unwrap());
        let place = |name: &str| output(&self.outputs.path().join(name));
        shell.stdout(place("out")).stderr(place("err"));
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = stopped_first(shell, &bolide_program(), &arguments);
        let root: PathBuf = self.world.place("").components().collect();
        let class = move |path: &Path| Some(look::class(&root, path));
        Traced::start(command, RUN_TIME_MAX, strike, class).end()
    }

    fn files(&self) -> usize {
        look::files(&self.world.place("out/files")).len()
    }

    /// Whether it was done, nothing where the point was not reached; everything is gone again when it returns.
    fn strike(&self, point: &Point, strike: Strike) -> Option<bool> {
        let (ended, _, has_struck) = self.traced(Some((point.clone(), strike)));
        let what = format!("{point:?} {strike:?} {ended:?}");
        assert!(!ended.has_hung && !ended.has_orphans, "{what}");
        let is_done = self.files() == FILES;
        assert!(is_done || self.files() == 0, "{what}: {} files", self.files());
        if let Some(code) = ended.code {
            assert_eq!(code == 0, is_done, "{what}");
        }
        let _ = std::fs::remove_dir_all(self.world.place("out/files"));
        let mut again = self.world.command(bolide_program());
        Outcome::of(again.args(self.arguments())).succeeds();
        assert_eq!(self.files(), FILES, "{what}");
        assert_eq!(look::names(&self.world.place("out")), ["files"], "{what}");
        std::fs::remove_dir_all(self.world.place("out/files")).unwrap();
        has_struck.then_some(is_done)
    }
}

/// In the package of the registry here.
const FILES: usize = 3;

#[test]
fn a_strike_anywhere_in_unpacking_leaves_all_or_nothing_and_nothing_beside() {
    if !super::tracer::is_allowed() {
        return super::world::not_shown("tracing what a test itself starts is forbidden");
    }
    let place = Place::new();
    let (ended, kinds, _) = place.traced(None);
    assert_eq!((ended.code, place.files()), (Some(0), FILES));
    std::fs::remove_dir_all(place.world.place("out/files")).unwrap();
    let all = super::blows(&kinds);
    let points: u32 = kinds.values().map(|kind| kind.count).sum();
    assert!(points > 0, "it changes nothing on the disk");
    let chosen = match std::env::var("BOLIDE_CRASH").is_ok_and(|how| how == "all") {
        true => all,
        false => super::sample(all, SAMPLE_STRIKES),
    };
    let count = chosen.len();
    let struck: Vec<bool> =
        chosen.iter().filter_map(|(point, strike)| place.strike(point, *strike)).collect();
    let done = struck.iter().filter(|is_done| **is_done).count();
    println!(
        "unpack: {points} points, {} of {count} strikes: {done} left all, the others nothing",
        struck.len()
    );
    assert!(!struck.is_empty(), "no strike has reached its point");
}
