//! What operations do with the store: they notice its damage, mend it by fetching, and keep in it what is needed.

use std::io::Write as _;

use super::*;
use crate::api::{CacheAction, CacheAnswer, CacheRequest, RollbackAnswer, RollbackRequest};
use crate::io::testing::LaterHost;
use crate::service::StoreRules;
use crate::store::{Mode, Wanted};

fn linking(verify: bool) -> World {
    let mode = Wanted::Only(Mode::Link);
    World::with(Policy {
        store: StoreRules { mode, verify, ..StoreRules::default() },
        ..Policy::default()
    })
}

impl World {
    fn module(&self, name: &str) -> PathBuf {
        let library = std::fs::read_dir(self.project().join(".venv/lib")).expect("an environment");
        let python = library.flatten().next().expect("one python");
        python.path().join("site-packages").join(name).join("__init__.py")
    }

    fn cache(&self, action: CacheAction, all: bool) -> CacheAnswer {
        self.ask("pkg.cache", &CacheRequest { action, all }).expect("an answer")
    }

    /// Installs something, and says whether it had to be fetched for that.
    fn fetches(&self) -> bool {
        let answer = self.install(Options::default()).expect("installed");
        assert!(answer.transaction.is_some(), "there was something to do");
        answer.downloaded_bytes > 0
    }

    fn rollback(&self) -> RollbackAnswer {
        let request = RollbackRequest { force: true, ..RollbackRequest::default() };
        self.ask("pkg.rollback", &request).expect("rolled back")
    }
}

/// Writes into the file as it is.
fn edit_in_place(path: &std::path::Path, bytes: &[u8]) {
    let mut file = std::fs::File::options().write(true).open(path).expect("writable");
    file.write_all(bytes).expect("written");
}

/// The same, and takes back the time that tells of it.
fn edit_secretly(path: &std::path::Path, bytes: &[u8]) {
    let before = std::fs::metadata(path).expect("a file").modified().expect("a time");
    let mut file = std::fs::File::options().write(true).open(path).expect("writable");
    file.write_all(bytes).expect("written");
    file.set_times(std::fs::FileTimes::new().set_modified(before)).expect("ours");
}

#[test]
fn what_was_edited_in_one_project_is_fetched_again_for_the_next() {
    let world = linking(false);
    world.write("requirements.txt", "base\n");
    assert!(world.installs(Options::default()));
    let right = std::fs::read(world.module("base")).expect("a module");
    edit_in_place(&world.module("base"), b"EVIL");
    std::fs::rename(world.project(), world.directory.path().join("other")).expect("ours");
    std::fs::create_dir(world.project()).expect("space");
    world.write("requirements.txt", "base\n");
    assert!(world.fetches(), "in one go, without being asked again");
    assert_eq!(std::fs::read(world.module("base")).expect("a module"), right);
}

#[test]
fn an_edit_in_place_is_no_part_of_an_undo() {
    let world = linking(false);
    world.write("requirements.txt", "base\n");
    assert!(world.installs(Options::default()));
    let right = std::fs::read(world.module("base")).expect("a module");
    world.write("requirements.txt", "base\ngood\n");
    assert!(world.installs(Options::default()));
    edit_secretly(&world.module("base"), b"EVIL");
    world.rollback();
    assert!(!world.has_module("good"));
    assert_eq!(std::fs::read(world.module("base")).expect("a module"), right);
}

#[test]
fn damage_without_an_edit_is_noticed_when_asked() {
    let world = linking(true);
    world.write("requirements.txt", "base\n");
    assert!(world.installs(Options::default()));
    // What is in the store alone, as if the disk had done it.
    std::fs::remove_dir_all(world.project()).expect("ours");
    std::fs::create_dir(world.project()).expect("space");
    let files = world.directory.path().join("cache/store");
    let damaged = walk(&files).into_iter().filter(|path| {
        let content = std::fs::read(path).expect("a file");
        content.starts_with(b"VERSION = ")
    });
    let damaged: Vec<PathBuf> = damaged.collect();
    assert_eq!(damaged.len(), 1);
    edit_secretly(&damaged[0], b"EVIL");
    assert_eq!(world.cache(CacheAction::Verify, false).damaged, Some(1));
    assert_eq!(world.cache(CacheAction::Verify, false).damaged, Some(0));
    world.write("requirements.txt", "base\n");
    assert!(world.fetches());
    let text = std::fs::read_to_string(world.module("base")).expect("a module");
    assert_eq!(text, "VERSION = '2.0'\n");
}

fn walk(directory: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory").flatten();
    let inside = |path: PathBuf| if path.is_dir() { walk(&path) } else { vec![path] };
    entries.flat_map(|entry| inside(entry.path())).collect()
}

#[test]
fn a_collection_keeps_what_stands_and_what_waits_for_an_approval() {
    let world = linking(false);
    world.write("requirements.txt", "base\n");
    assert!(world.installs(Options::default()));
    world.write("requirements.txt", "base\ngood\n");
    assert!(world.installs(Options::default()));
    let full = world.cache(CacheAction::Show, false);
    assert!(full.bytes > 0 && full.artefacts >= 2, "{full:?}");
    let done = world.cache(CacheAction::Collect, false);
    assert_eq!(done.removed, 0, "the store is small");
    world.cache(CacheAction::Collect, true);
    world.rollback();
    // What was taken back may still be approved once more: its plan has not expired.
    world.cache(CacheAction::Collect, true);
    assert!(!world.fetches(), "nothing was lost");
    // A project that is gone needs nothing; its plans may be applied for a day, and so are kept.
    std::fs::remove_dir_all(world.project()).expect("ours");
    std::fs::create_dir(world.project()).expect("space");
    let needed = world.cache(CacheAction::Collect, true);
    assert_eq!((needed.artefacts, needed.artefacts_needed), (2, 2), "{needed:?}");
}

#[test]
fn a_collection_keeps_what_was_planned_before_the_plan_is_written() {
    let world = World::new();
    world.write("requirements.txt", "base\n");
    assert!(world.fetches());
    let host = Arc::new(LaterHost::default());
    let world = world.again(host.clone());
    world.write("requirements.txt", "base\n");
    world.plan_install(Options::default()).expect("it is known");
    let left = world.cache(CacheAction::Collect, true);
    assert_eq!(left.artefacts_needed, 1, "{left:?}");
    assert!(!world.fetches(), "nothing was lost");
    host.do_what_waits();
}

#[test]
fn a_store_beyond_its_limit_is_made_smaller_after_an_installation() {
    let rules = StoreRules { bytes_max: 1, ..StoreRules::default() };
    let world = World::with(Policy { store: rules, ..Policy::default() });
    world.write("requirements.txt", "base\n");
    assert!(world.installs(Options::default()));
    // Only the wheel of pip that came with the interpreter can go; it does without being asked.
    let left = world.cache(CacheAction::Show, false);
    assert_eq!((left.artefacts, left.artefacts_needed), (1, 1), "{left:?}");
    assert!(!world.installs(Options::default()));
}

#[test]
fn what_is_not_here_is_not_fetched_offline_even_where_its_address_is_known() {
    let world = linking(false);
    world.write("requirements.txt", "base\n");
    world.plan_install(Options::default()).expect("the index is known now");
    let asked = world.index.paths().len();
    let mut setting = world.setting(Options::default());
    setting.offline = true;
    let request = || ChangeRequest {
        packages: Vec::new(),
        approve: true,
        force: false,
        setting: setting.clone(),
    };
    let refused: Result<ApplyAnswer, _> = world.ask("pkg.install", &request());
    let error = refused.expect_err("it is not here");
    assert_eq!((error.exit_code, error.code.as_str()), (7, "offline-missing"), "{error:?}");
    assert!(error.message.contains("pkg:pypi/base@2.0"), "{error:?}");
    assert_eq!(world.index.paths().len(), asked);
    assert!(world.fetches());
    let asked = world.index.paths().len();
    std::fs::remove_dir_all(world.project()).expect("ours");
    std::fs::create_dir(world.project()).expect("space");
    world.write("requirements.txt", "base\n");
    let done: ApplyAnswer = world.ask("pkg.install", &request()).expect("all of it is here");
    assert!(done.transaction.is_some());
    assert_eq!(world.index.paths().len(), asked);
}

#[test]
fn artefacts_that_are_kept_mend_the_store_without_a_network() {
    let store = StoreRules { archives: true, ..StoreRules::default() };
    let world = World::with(Policy { store, ..Policy::default() });
    world.write("requirements.txt", "base\n");
    assert!(world.fetches());
    let store = world.directory.path().join("cache/store");
    let archives = walk(&store.join("archives"));
    assert_eq!(archives.len(), 1);
    assert_eq!(std::fs::read(&archives[0]).expect("there"), wheel("base", "2.0"));
    std::fs::remove_dir_all(store.join("files")).expect("ours");
    std::fs::remove_dir_all(store.join("lent")).expect("ours");
    for part in ["files", "lent"] {
        std::fs::create_dir(store.join(part)).expect("space");
    }
    // A process that opens the store as it is now.
    let again = |world: &World| {
        std::fs::remove_dir_all(world.project()).expect("ours");
        std::fs::create_dir(world.project()).expect("space");
        world.write("requirements.txt", "base\n");
    };
    let (index, directory) = (world.index, world.directory);
    let places =
        Places { state: directory.path().join("state"), cache: directory.path().join("cache") };
    let unpacker = crate::unpack::Unpacker::here();
    let host = Arc::new(PlainHost);
    let packager = Packager::new(&places, Policy::default(), unpacker, host).expect("a packager");
    let world = World { directory, packager, index };
    again(&world);
    assert!(!world.fetches(), "it was there");
    assert!(world.has_module("base"));
    // One that is damaged itself is of no use, and goes.
    edit_secretly(&archives[0], b"EVIL");
    world.cache(CacheAction::Verify, false);
    let files = walk(&store.join("index"));
    files.iter().for_each(|file| std::fs::remove_file(file).expect("ours"));
    again(&world);
    assert!(world.fetches());
    assert!(walk(&store.join("archives")).is_empty());
}
