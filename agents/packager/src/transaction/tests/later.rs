//! Installations that are answered before the device has them: what is waited for and when, and what a loss of power, an error of the
//! device or a person in between leaves.

use std::sync::Mutex;

use rustix::io::Errno;

use super::super::disk::{Hook, Verdict};
use super::super::journal::{self, Intent, Item};
use super::super::order::Order;
use super::power::{Cut, KEPT, Knife, Rows, every_file, exchange_back, told};
use super::*;

pub(super) const THIS_START: &str = "6f1c2a5e-0d9b-4a3e-8f57-1f0f5f1f9a10";
const NEXT_START: &str = "0a8d11f4-95b7-4c55-9d8e-7c2b0e0d6b21";

pub(super) fn answer() -> CommitOptions<'static> {
    CommitOptions { leaves_rest: true, leaves_device: true, ..CommitOptions::default() }
}

pub(super) fn world() -> World {
    World { start: Some(THIS_START.to_owned()), ..World::quick() }
}

/// A world in which a version was answered and its process died right afterwards, and the rows of before.
pub(super) fn answered(version: &str) -> (World, Rows) {
    let world = world();
    drop(world.session());
    if version != "1.0.0" {
        install(&mut world.session(), "1.0.0", false).unwrap();
    }
    let rows = Rows::of(&world);
    let transactions = world.open_on(Knife::new(Cut::Never, KEPT).disk()).unwrap();
    let committed = install_as(&mut world.lock(&transactions).unwrap(), version, answer()).unwrap();
    assert!(committed.is_left && !committed.is_stored && committed.unfinished.is_none());
    (world, rows)
}

/// The power takes content of a file that nobody has touched: its time stays what it was.
pub(super) fn tear(path: &Path, content: &[u8]) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, content).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn original(version: &str) -> World {
    let world = World::quick();
    if version != "1.0.0" {
        install(&mut world.session(), "1.0.0", false).unwrap();
    }
    world
}

/// The machine starts anew.
pub(super) fn restart(world: World) -> World {
    World { start: Some(NEXT_START.to_owned()), ..world }
}

/// The old tree stands, nothing of the transaction is there, history says why, and the project can be worked with.
pub(super) fn assert_taken_back(world: &World, version: &str, what: &str) {
    let standing = usize::from(version != "1.0.0");
    let visible = original(version).visible();
    assert_eq!(world.visible(), visible, "{what}");
    world.assert_clean();
    assert_eq!(world.has(".bolide"), standing > 0, "{what}");
    let prints = fs::read_dir(world.state.join("fingerprints")).unwrap().count();
    assert_eq!(prints, standing * 4, "{what}");
    let history = world.open().history(None, 10).unwrap();
    let count = |state| history.iter().filter(|entry| entry.state == state).count();
    assert_eq!((count(State::Preparing), count(State::Committed)), (0, standing), "{what}");
    let stands =
        world.open().environment(&Project::open(&world.project).unwrap(), &path("node_modules"));
    assert_eq!(stands.unwrap().fingerprint.is_some(), standing > 0, "{what}");
    let mut session = world.session();
    assert!(!session.is_edited(&path("node_modules")).unwrap(), "{what}");
    install(&mut session, "3.0.0", false).unwrap();
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.visible(), visible, "{what}");
}

#[test]
fn an_answer_waits_for_nothing_and_the_journal_stays_until_the_device_has_all() {
    let world = world();
    let knife = Knife::new(Cut::Never, KEPT);
    let transactions = world.open_on(knife.disk()).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    let committed = install_as(&mut session, "1.0.0", answer()).unwrap();
    assert!(committed.is_left && !committed.is_stored);
    assert_eq!(knife.waits(), Vec::<&str>::new());
    assert!(world.has("node_modules/a/index.js"));
    assert_eq!(world.open().history(None, 1).unwrap()[0].state, State::Committed);
    assert!(transactions.has_unfinished(session.project()).unwrap());
    assert_eq!(session.confirm().unwrap()[0].outcome, Outcome::Finished);
    assert_eq!(knife.waits(), ["syncfs", "fsync"], "all of it, then the record that says so");
    world.assert_clean();
    let done = knife.done.lock().unwrap().clone();
    let waited = done.iter().rposition(|name| *name == "syncfs").unwrap();
    let gone = done.iter().rposition(|name| *name == "unlink").unwrap();
    assert!(waited < gone, "{done:?}");
    assert!(session.confirm().unwrap().is_empty());
}

#[test]
fn where_it_would_not_be_safe_an_answer_waits_as_ever() {
    for (start, order, is_wanted) in [
        (None, KEPT, true),
        (Some(THIS_START.to_owned()), Order::default(), true),
        (Some(THIS_START.to_owned()), KEPT, false),
    ] {
        let world = World { start, ..World::quick() };
        let knife = Knife::new(Cut::Never, order);
        let transactions = world.open_on(knife.disk()).unwrap();
        let mut session = world.lock(&transactions).unwrap();
        let options = CommitOptions { leaves_device: is_wanted, ..answer() };
        assert!(install_as(&mut session, "1.0.0", options).unwrap().is_stored);
        let waits = knife.waits();
        assert!(waits.contains(&"syncfs") && waits.last() == Some(&"fsync"), "{waits:?}");
    }
}

#[test]
fn an_intent_whose_note_finds_no_room_is_waited_for() {
    struct NoNotes;
    impl Hook for NoNotes {
        fn reach(&self, name: &'static str) -> Verdict {
            if name == "note" { Verdict::Fail(Errno::NOSPC) } else { Verdict::Proceed }
        }
        fn order(&self) -> Option<Order> {
            Some(KEPT)
        }
    }
    let world = world();
    let transactions = world.open_on(Disk { hook: Some(Arc::new(NoNotes)) }).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    assert!(install_as(&mut session, "1.0.0", answer()).unwrap().is_stored);
    drop(session);
    let transactions = world.open_on(Knife::new(Cut::Never, KEPT).disk()).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    let mut open = session.begin(purpose("add")).unwrap();
    let changes: Vec<Change> = (0..400_u64)
        .map(|index| {
            // Names that no compression makes short.
            let name = crate::hex::hex(&tree::digest_of(&index.to_le_bytes()));
            open.stage_file(path(&name), name.as_bytes(), Expected::Absent).unwrap()
        })
        .collect();
    assert!(open.commit(&changes, answer()).unwrap().is_stored);
}

#[test]
fn the_death_of_a_process_after_the_answer_changes_nothing() {
    for version in ["1.0.0", "2.0.0"] {
        let (world, _) = answered(version);
        let new = world.visible();
        assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
        assert_eq!(world.visible(), new);
        world.assert_clean();
    }
}

#[test]
fn what_the_device_has_all_of_stands_after_a_loss_of_power() {
    for version in ["1.0.0", "2.0.0"] {
        for rows_are_lost in [false, true] {
            let (world, rows) = answered(version);
            if rows_are_lost {
                rows.bring_back();
            }
            let new = world.visible();
            let world = restart(world);
            assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
            assert_eq!(world.visible(), new);
            world.assert_clean();
            let history = world.open().history(None, 10).unwrap();
            assert_eq!(history[0].state, State::Committed);
            world.session().rollback(None, "uid 0", false).unwrap();
            assert_eq!(world.visible(), original(version).visible());
        }
    }
}

/// The lengths at which the records of a journal begin.
fn records(bytes: &[u8]) -> Vec<usize> {
    let mut at = 8;
    let mut found = vec![at];
    while let Some(length) = bytes.get(at..at + 4) {
        at += 8 + u32::from_le_bytes(length.try_into().unwrap()) as usize + 16;
        found.push(at);
    }
    found
}

/// What came to the device of names: the first `count` exchanges, and the last place of the slots only with all of them.
fn keep_names(world: &World, intent: &Intent, id: &str, count: usize) {
    let at = |area: &str| world.project.join(".bolide").join(area);
    if count <= intent.items.len() {
        fs::create_dir_all(at("staging")).unwrap();
        fs::rename(at("generations").join(id), at("staging").join(id)).unwrap();
        let _ = fs::remove_dir(at("generations"));
    }
    for item in intent.items.iter().skip(count).rev() {
        exchange_back(world, item);
    }
    if count == 0 {
        for directory in intent.directories.iter().rev() {
            let _ = fs::remove_dir(world.project.join(directory.as_str()));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Torn {
    Nothing,
    /// All new files are empty.
    Emptied,
    /// All new files are as long as they were, and zeroes.
    Zeroed,
    /// One file is empty.
    One,
    /// The manifest is.
    Manifest,
    /// The records of what was installed are empty.
    Prints,
}

impl Torn {
    const ALL: [Self; 6] =
        [Self::Nothing, Self::Emptied, Self::Zeroed, Self::One, Self::Manifest, Self::Prints];

    fn tear(self, world: &World, id: &str, intent: &Intent) {
        let empty = |path: &Path| tear(path, b"");
        let zero = |path: &Path| {
            let length = path.symlink_metadata().unwrap().len() as usize;
            tear(path, &vec![0; length]);
        };
        let new = |change: &dyn Fn(&Path)| {
            let is_wanted =
                |item: &&Item| self != Self::Manifest || item.live.as_str() == "package.json";
            for item in intent.items.iter().filter(is_wanted) {
                let live = world.project.join(item.live.as_str());
                let slot = world.project.join(".bolide/staging").join(id).join(&item.slot);
                for place in [live, slot] {
                    every_new(&place, item, change);
                }
            }
        };
        match self {
            Self::Nothing => {}
            Self::Emptied | Self::Manifest => new(&empty),
            Self::Zeroed => new(&zero),
            Self::One => new(&|path| {
                if path.ends_with("a/index.js") {
                    empty(path);
                }
            }),
            Self::Prints => every_file(&world.state.join("fingerprints"), &|path| {
                if path.to_string_lossy().contains(id) {
                    empty(path);
                }
            }),
        }
    }
}

/// The files of a new object, wherever it is; those of the old one were on the device.
fn every_new(place: &Path, item: &Item, change: &dyn Fn(&Path)) {
    use std::os::unix::fs::MetadataExt as _;
    let is_new = |found: &fs::Metadata| item.new.is_some_and(|new| new.inode == found.ino());
    let change = |path: &Path| {
        if path.symlink_metadata().is_ok_and(|it| it.is_file()) {
            change(path);
        }
    };
    match place.symlink_metadata() {
        Ok(found) if is_new(&found) && found.is_dir() => every_file(place, &change),
        Ok(found) if is_new(&found) => change(place),
        _ => {}
    }
}

#[test]
fn whatever_the_device_has_kept_the_old_or_the_new_tree_stands() {
    let (mut old, mut new) = (0, 0);
    for version in ["1.0.0", "2.0.0"] {
        let points = {
            let (world, _) = answered(version);
            let (_, story, path) = told(&world);
            let start = story.intent.unwrap().start.unwrap();
            assert!(start.starts_with(THIS_START) && start.len() > THIS_START.len() + 1);
            records(&fs::read(path).unwrap())
        };
        let last = *points.last().unwrap();
        let lengths = [0, points[1], points[2] - 3, points[4], last];
        let mut case = 0;
        for length in lengths {
            for torn in Torn::ALL {
                for count in [0, 2, 6] {
                    // Half of the cases, and all of them over both ways to lose rows.
                    case += 1;
                    let rows_are_lost = case % 2 == 0;
                    let what = format!("{version}, {length}, {torn:?}, {count}, {rows_are_lost}");
                    let (world, rows) = answered(version);
                    let expected = world.visible();
                    let (which, story, journal) = told(&world);
                    let intent = story.intent.unwrap();
                    keep_names(&world, &intent, &which.id, count);
                    torn.tear(&world, &which.id, &intent);
                    let bytes = fs::read(&journal).unwrap();
                    fs::write(&journal, &bytes[..length.min(bytes.len())]).unwrap();
                    if rows_are_lost {
                        rows.bring_back();
                    }
                    let world = restart(world);
                    let outcome = world.session().recovered()[0].outcome;
                    // The record of a commit is there only after all names.
                    let is_whole = length == last && torn == Torn::Nothing;
                    let found = if is_whole { Outcome::Finished } else { Outcome::Undone };
                    assert_eq!(outcome, found, "{what}");
                    if is_whole {
                        assert_eq!(world.visible(), expected, "{what}");
                        world.assert_clean();
                        new += 1;
                        continue;
                    }
                    // Of what may have been live without a record nobody knows what is a person's.
                    let has_kept = world.state.join("kept").exists();
                    assert!(!has_kept || torn == Torn::Prints, "{what}");
                    assert_taken_back(&world, version, &what);
                    old += 1;
                }
            }
        }
    }
    println!("{old} taken back, {new} finished");
}

#[test]
fn a_taking_back_that_is_stopped_is_gone_on_with_in_any_start() {
    let steps = {
        let (world, _) = answered("2.0.0");
        tear(&world.project.join("node_modules/a/index.js"), b"");
        let knife = Knife::new(Cut::Never, KEPT);
        let world = restart(world);
        drop(world.lock(&world.open_on(knife.disk()).unwrap()).unwrap());
        knife.done.lock().unwrap().len()
    };
    assert!(steps > 10);
    for at in 0..steps {
        for is_next_start in [false, true] {
            let (world, _) = answered("2.0.0");
            tear(&world.project.join("node_modules/a/index.js"), b"");
            let mut world = restart(world);
            let stop = Arc::new(StopAt { at, count: Mutex::default() });
            let _ = world.open_on(Disk { hook: Some(stop) }).and_then(|it| world.lock(&it));
            if is_next_start {
                world.start = Some(THIS_START.replace('6', "7"));
            }
            drop(world.session());
            assert_taken_back(&world, "2.0.0", &format!("stopped at {at}, {is_next_start}"));
        }
    }
}

/// Everything from one change on fails.
struct StopAt {
    at: usize,
    count: Mutex<usize>,
}

impl Hook for StopAt {
    fn reach(&self, _: &'static str) -> Verdict {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        if *count > self.at { Verdict::Fail(Errno::IO) } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

/// The device refuses what it is given after the answer, once.
#[derive(Default)]
struct Refusing(Mutex<bool>);

impl Hook for Refusing {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut has_refused = self.0.lock().unwrap();
        let refuses = name == "syncfs" && !*has_refused;
        *has_refused |= refuses;
        if refuses { Verdict::Fail(Errno::IO) } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn what_the_device_refuses_is_taken_back_and_told() {
    for version in ["1.0.0", "2.0.0"] {
        let world = world();
        if version != "1.0.0" {
            install(&mut world.session(), "1.0.0", false).unwrap();
        }
        let hook = Arc::new(Refusing::default());
        let transactions = world.open_on(Disk { hook: Some(hook) }).unwrap();
        let mut session = world.lock(&transactions).unwrap();
        let committed = install_as(&mut session, version, answer()).unwrap();
        world.write("node_modules/a/index.js", "mine");
        let ended = session.confirm().unwrap();
        assert_eq!(ended[0].outcome, Outcome::Undone);
        drop(session);
        let told = world.lock(&transactions).unwrap().take_notes();
        assert!(told.len() == 1 && told[0].contains(&committed.transaction), "{told:?}");
        assert!(world.lock(&transactions).unwrap().take_notes().is_empty(), "it is told once");
        assert_eq!(transactions.figure().value, 1);
        let history = world.open().history(None, 1).unwrap();
        assert_eq!(history[0].id, committed.transaction);
        assert!(history[0].error.as_deref().unwrap_or_default().contains("disk"), "{history:?}");
        let kept = world.state.join("kept").join(&committed.transaction);
        let kept = fs::read_to_string(kept.join("node_modules/a/index.js")).unwrap();
        assert_eq!(kept, "mine");
        assert_taken_back(&world, version, version);
    }
}

#[test]
fn what_a_person_did_after_the_answer_is_kept_when_it_is_taken_back() {
    let (world, _) = answered("2.0.0");
    let (which, ..) = told(&world);
    world.write("node_modules/a/index.js", "mine");
    world.write("node_modules/mine.js", "mine, too");
    // An editor replaces files.
    world.write("package.json.new", "my manifest");
    fs::rename(world.project.join("package.json.new"), world.project.join("package.json")).unwrap();
    // The power went before this one was there.
    tear(&world.project.join("node_modules/a/package.json"), b"");
    let world = restart(world);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
    let kept = |path: &str| {
        let root = world.state.join("kept").join(&which.id);
        fs::read_to_string(root.join(path)).ok()
    };
    assert_eq!(kept("node_modules/a/index.js").as_deref(), Some("mine"));
    assert_eq!(kept("node_modules/mine.js").as_deref(), Some("mine, too"));
    assert_eq!(kept("node_modules/a/package.json"), None, "that is nothing a person wrote");
    assert_eq!(world.read("package.json"), "my manifest");
    assert!(kept("package.json").is_some_and(|old| old.contains("1.0.0")), "the old one");
    assert!(world.read("node_modules/a/index.js").contains("1.0.0"));
    world.assert_clean();
}

#[test]
fn the_plan_that_was_carried_out_has_to_be_there() {
    let world = world();
    let digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let transactions = world.open_on(Knife::new(Cut::Never, KEPT).disk()).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    let purpose = Purpose { digest: Some(digest.to_owned()), ..purpose("add") };
    let mut open = session.begin(purpose).unwrap();
    let change = open.stage_file(path("new.txt"), b"new", Expected::Absent).unwrap();
    assert!(!open.commit(&[change], answer()).unwrap().is_stored);
    drop((session, transactions));
    let world = restart(world);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
    assert!(!world.has("new.txt"));
}

#[test]
fn a_note_says_what_the_records_say() {
    let (world, _) = answered("2.0.0");
    let (which, story, path) = told(&world);
    let bytes = fs::read(&path).unwrap();
    let directory = &world.open().inner.journals;
    for length in [0, 8, records(&bytes)[1]] {
        fs::write(&path, &bytes[..length]).unwrap();
        let read = journal::read(directory, &which).unwrap().unwrap();
        assert_eq!(read.intent, story.intent, "{length}");
        assert_eq!((&read.begin.id, read.begin.key()), (&story.begin.id, story.begin.key()));
        assert!(!read.committed);
    }
}
