//! A loss of power: what nobody had waited for is not there, in every way that the order of waits allows.
//!
//! A run is cut at one of its waits, then what it had not waited for is taken away: bytes of the journal and of what was staged,
//! rows of the database, exchanges of names. The objects stay the same ones, as they do on a disk.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::super::disk::{Hook, Verdict};
use super::super::journal::{self, Begin, Found, Intent, Item, Journal, Record, Story, Unfinished};
use super::super::order::Order;
use super::*;

pub(super) const KEPT: Order = Order { keeps_journal: true };
const PARTS: [&str; 3] = ["state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm"];

/// Where a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Never,
    /// Before the intent was waited for.
    BeforeIntent,
    /// Before the commit record was written, with all names changed.
    BeforeCommit,
    /// After the commit record was waited for.
    AfterCommit,
}

/// Cuts a run, and tells what it did in order.
pub(super) struct Knife {
    cut: Cut,
    order: Order,
    pub(super) done: Mutex<Vec<&'static str>>,
}

impl Knife {
    pub(super) fn new(cut: Cut, order: Order) -> Arc<Self> {
        Arc::new(Self { cut, order, done: Mutex::default() })
    }

    pub(super) fn disk(self: &Arc<Self>) -> Disk {
        Disk { hook: Some(self.clone()) }
    }

    pub(super) fn waits(&self) -> Vec<&'static str> {
        let done = self.done.lock().unwrap();
        done.iter().copied().filter(|name| matches!(*name, "fsync" | "syncfs")).collect()
    }
}

impl Hook for Knife {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut done = self.done.lock().unwrap();
        let intended = done.iter().position(|name| *name == "syncfs");
        let synced = |at: usize| done[at..].contains(&"fsync");
        let is_over = match self.cut {
            Cut::Never => false,
            Cut::BeforeIntent => name == "syncfs" || done.contains(&"cut"),
            Cut::BeforeCommit => intended.is_some() && name == "fsync" || done.contains(&"cut"),
            Cut::AfterCommit => intended.is_some_and(synced),
        };
        done.push(if is_over { "cut" } else { name });
        if is_over { Verdict::Fail(Errno::IO) } else { Verdict::Proceed }
    }

    fn order(&self) -> Option<Order> {
        Some(self.order)
    }
}

/// The files of the database.
pub(super) struct Rows(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Rows {
    pub(super) fn of(world: &World) -> Self {
        Self(
            PARTS
                .map(|part| world.state.join(part))
                .map(|at| (at.clone(), fs::read(at).ok()))
                .into(),
        )
    }

    /// Nothing of what was written since had been waited for.
    pub(super) fn bring_back(&self) {
        for (at, bytes) in &self.0 {
            let _ = fs::remove_file(at);
            if let Some(bytes) = bytes {
                fs::write(at, bytes).unwrap();
            }
        }
    }
}

pub(super) fn leave() -> CommitOptions<'static> {
    CommitOptions { leaves_rest: true, ..CommitOptions::default() }
}

/// A world in which a run of the first or of a later version was cut, and the rows of before.
pub(super) fn cut_install(version: &str, cut: Cut) -> (World, Rows) {
    let world = World::quick();
    if version != "1.0.0" {
        install(&mut world.session(), "1.0.0", false).unwrap();
    } else {
        drop(world.session());
    }
    let rows = Rows::of(&world);
    let transactions = world.open_on(Knife::new(cut, KEPT).disk()).unwrap();
    let done = install_as(&mut world.lock(&transactions).unwrap(), version, leave());
    assert_eq!(done.is_ok(), cut == Cut::AfterCommit, "{done:?}");
    (world, rows)
}

pub(super) fn told(world: &World) -> (Unfinished, Story, PathBuf) {
    let transactions = world.open();
    let directory = &transactions.inner.journals;
    let which = journal::unfinished(directory).unwrap().remove(0);
    let Found::Told(story) = journal::find(directory, &which).unwrap() else { panic!("no story") };
    let path = journal::path_of(directory, &which);
    (which, *story, path)
}

pub(super) fn every_file(place: &Path, change: &dyn Fn(&Path)) {
    for entry in fs::read_dir(place).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => every_file(&path, change),
            false => change(&path),
        }
    }
}

/// Nothing of a transaction is there, and the project can be worked with.
fn assert_undone(world: &World, before: &str, standing: usize, what: &str) {
    let mut session = world.session();
    assert_eq!(world.everything(), before, "{what}");
    world.assert_clean();
    assert!(!world.state.join("kept").exists(), "{what}: something was taken for a person's");
    let prints = fs::read_dir(world.state.join("fingerprints")).unwrap().count();
    assert_eq!(prints, standing * 4, "{what}");
    let history = world.open().history(None, 10).unwrap();
    assert!(history.iter().all(|entry| entry.state != State::Preparing), "{what}");
    let stands = history.iter().filter(|entry| entry.state == State::Committed).count();
    assert_eq!(stands, standing, "{what}: {history:?}");
    install(&mut session, "3.0.0", false).unwrap();
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(world.everything(), before, "{what}");
}

#[test]
fn an_answer_waits_twice_and_the_journal_goes_after_what_it_can_repeat() {
    let world = World::quick();
    let knife = Knife::new(Cut::Never, KEPT);
    let transactions = world.open_on(knife.disk()).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    let committed = install_as(&mut session, "1.0.0", leave()).unwrap();
    assert!(committed.is_left && committed.unfinished.is_none());
    assert_eq!(knife.waits(), ["syncfs", "fsync"]);
    assert_eq!(world.open().history(None, 1).unwrap()[0].state, State::Committed);
    let staging = fs::read_dir(world.project.join(".bolide/staging")).unwrap();
    assert_eq!(staging.count(), 0, "it has its final place");
    drop(session);
    knife.done.lock().unwrap().clear();
    assert_eq!(world.lock(&transactions).unwrap().recovered()[0].outcome, Outcome::Finished);
    world.assert_clean();
    let done = knife.done.lock().unwrap().clone();
    let waited = done.iter().rposition(|name| *name == "fsync").unwrap();
    let gone = done.iter().position(|name| *name == "unlink").unwrap();
    assert!(waited < gone, "{done:?}");
}

#[test]
fn where_names_keep_no_order_they_are_waited_for_before_the_commit() {
    let world = World::quick();
    let knife = Knife::new(Cut::Never, Order::default());
    let transactions = world.open_on(knife.disk()).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    install_as(&mut session, "1.0.0", leave()).unwrap();
    // The beginning and its name; the intent; the root, the slots, `src/deep`, `src`; the commit record.
    let before: Vec<_> = ["fsync"; 2].into_iter().chain(["syncfs"]).chain(["fsync"; 5]).collect();
    assert_eq!(knife.waits(), before);
    let done = knife.done.lock().unwrap().clone();
    let named = done.iter().rposition(|name| matches!(*name, "exchange")).unwrap();
    let recorded = done.iter().rposition(|name| *name == "append").unwrap();
    assert_eq!(done[named..recorded].iter().filter(|name| **name == "fsync").count(), 4);
}

#[test]
fn a_journal_without_a_beginning_leaves_nothing_of_its_transaction() {
    for version in ["1.0.0", "2.0.0"] {
        let begun = {
            let (world, _) = cut_install(version, Cut::BeforeIntent);
            let (_, _, path) = told(&world);
            let bytes = fs::read(path).unwrap();
            // The length of the first record stands after the magic.
            8 + 8 + u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize + 16
        };
        for length in [0, 1, 8, 20, begun / 2, begun - 1] {
            for (is_zero, rows_are_lost) in [(false, false), (false, true), (true, true)] {
                let (world, rows) = cut_install(version, Cut::BeforeIntent);
                let original = World::quick();
                if version != "1.0.0" {
                    install(&mut original.session(), "1.0.0", false).unwrap();
                }
                let (which, _, path) = told(&world);
                let bytes = fs::read(&path).unwrap();
                let rest = if is_zero { vec![0; bytes.len() - length] } else { Vec::new() };
                fs::write(&path, [&bytes[..length], &rest].concat()).unwrap();
                let staged = world.project.join(".bolide/staging").join(&which.id);
                every_file(&staged, &|file| fs::write(file, "").unwrap_or_default());
                if rows_are_lost {
                    rows.bring_back();
                }
                let what = format!("{version}, {length}, {is_zero}, {rows_are_lost}");
                let visible = world.visible();
                assert_eq!(visible, original.visible(), "{what}");
                let session = world.session();
                assert_eq!(session.recovered().len(), 1, "{what}");
                assert_eq!(session.recovered()[0].outcome, Outcome::Undone, "{what}");
                drop(session);
                let before = world.everything();
                assert_eq!(world.visible(), visible, "{what}");
                assert_eq!(world.has(".bolide"), version != "1.0.0", "{what}");
                assert_undone(&world, &before, usize::from(version != "1.0.0"), &what);
            }
        }
    }
}

#[test]
fn a_torn_beginning_in_a_project_that_is_known_is_ended_by_the_next_start() {
    for rows_are_lost in [false, true] {
        let (world, rows) = cut_install("1.0.0", Cut::BeforeIntent);
        let (_, _, path) = told(&world);
        fs::write(path, "").unwrap();
        if rows_are_lost {
            rows.bring_back();
        }
        let recovered = world.open().recover_all().unwrap();
        let outcome = if rows_are_lost { Outcome::Pending } else { Outcome::Undone };
        assert_eq!(recovered.len(), 1);
        assert_eq!(recovered[0].outcome, outcome);
        assert_undone(&world, &World::quick().everything(), 0, "the next command");
    }
}

#[test]
fn an_intent_whose_contents_are_torn_changes_nothing() {
    for version in ["1.0.0", "2.0.0"] {
        for torn in ["staged", "prints", "both", "gone", "no workshop"] {
            for rows_are_lost in [false, true] {
                let what = format!("{version}, {torn}, {rows_are_lost}");
                let (world, rows) = cut_install(version, Cut::BeforeIntent);
                let (which, story, _) = told(&world);
                assert!(story.intent.is_some() && story.turned.is_empty());
                let staged = world.project.join(".bolide/staging").join(&which.id);
                let prints = |change: &dyn Fn(&Path)| {
                    every_file(&world.state.join("fingerprints"), &|path| {
                        if path.to_string_lossy().contains(&which.id) {
                            change(path);
                        }
                    });
                };
                let empty = |path: &Path| fs::write(path, "").unwrap_or_default();
                if matches!(torn, "staged" | "both") {
                    every_file(&staged, &empty);
                }
                if matches!(torn, "prints" | "both") {
                    prints(&empty);
                }
                if torn == "gone" {
                    fs::remove_dir_all(&staged).unwrap();
                    prints(&|path| fs::remove_file(path).unwrap());
                }
                if torn == "no workshop" && version == "1.0.0" {
                    fs::remove_dir_all(world.project.join(".bolide")).unwrap();
                }
                if rows_are_lost {
                    rows.bring_back();
                }
                let visible = world.visible();
                assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone, "{what}");
                assert_eq!(world.visible(), visible, "{what}");
                assert_eq!(world.has(".bolide"), version != "1.0.0", "{what}");
                let before = world.everything();
                assert_undone(&world, &before, usize::from(version != "1.0.0"), &what);
            }
        }
    }
}

/// Makes the exchange of an item once more, which takes it back.
pub(super) fn exchange_back(world: &World, item: &Item) {
    let live = world.project.join(item.live.as_str());
    let slot = world.project.join(".bolide").join(&item.area).join(&item.owner).join(&item.slot);
    let here = rustix::fs::CWD;
    match (live.symlink_metadata().is_ok(), slot.symlink_metadata().is_ok()) {
        (true, true) => {
            rustix::fs::renameat_with(here, &live, here, &slot, RenameFlags::EXCHANGE).unwrap();
        }
        (true, false) => fs::rename(live, slot).unwrap(),
        (false, true) => fs::rename(slot, live).unwrap(),
        (false, false) => panic!("{live:?} has no object"),
    }
}

/// Of a committed run the exchanges of `lost` items, by their bits, were not on the device.
pub(super) fn lose_names(world: &World, intent: &Intent, lost: usize) {
    for (index, item) in intent.items.iter().enumerate() {
        if lost & 1 << index != 0 {
            exchange_back(world, item);
        }
    }
    for directory in intent.directories.iter().rev() {
        // One with something in it was waited for with that.
        let _ = fs::remove_dir(world.project.join(directory.as_str()));
    }
}

#[test]
fn a_commit_whose_names_are_not_there_is_brought_forward() {
    let new = {
        let world = World::quick();
        let mut session = world.session();
        install(&mut session, "1.0.0", false).unwrap();
        install(&mut session, "2.0.0", false).unwrap();
        world.visible()
    };
    let old = {
        let world = World::quick();
        install(&mut world.session(), "1.0.0", false).unwrap();
        world.visible()
    };
    for version in ["1.0.0", "2.0.0"] {
        for lost in 0..1 << 5 {
            let what = format!("{version}, {lost:b}");
            let (world, rows) = cut_install(version, Cut::AfterCommit);
            let (which, story, _) = told(&world);
            assert!(story.committed && story.begin.id == which.id);
            let intent = story.intent.unwrap();
            assert!(intent.items.len() >= 4 && world.visible() != World::quick().visible());
            lose_names(&world, &intent, lost & ((1 << intent.items.len()) - 1));
            rows.bring_back();
            let mut session = world.session();
            assert_eq!(session.recovered()[0].outcome, Outcome::Finished, "{what}");
            let expected = if version == "1.0.0" { &old } else { &new };
            assert_eq!(&world.visible(), expected, "{what}");
            world.assert_clean();
            let history = world.open().history(None, 10).unwrap();
            assert_eq!(history[0].state, State::Committed, "{what}");
            assert_eq!(history[0].id, which.id, "{what}");
            session.rollback(None, "uid 0", false).unwrap();
            if version == "1.0.0" {
                assert_eq!(world.everything(), World::quick().everything(), "{what}");
            } else {
                assert_eq!(world.visible(), old, "{what}");
            }
        }
    }
}

#[test]
fn a_rollback_whose_names_are_not_there_is_brought_forward() {
    for lost in 0..1 << 5 {
        let what = format!("{lost:b}");
        let world = World::quick();
        install(&mut world.session(), "1.0.0", false).unwrap();
        let rows = Rows::of(&world);
        let transactions = world.open_on(rollback_knife().disk()).unwrap();
        let mut session = world.lock(&transactions).unwrap();
        let undone = session.rollback(None, "uid 0", false).unwrap();
        assert!(undone.is_left && undone.unfinished.is_some(), "{what}");
        drop((session, transactions));
        let (_, story, _) = told(&world);
        assert!(story.committed);
        let intent = story.intent.unwrap();
        assert_eq!(intent.items.len(), 5);
        lose_names(&world, &intent, lost);
        rows.bring_back();
        assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished, "{what}");
        assert_eq!(world.everything(), World::quick().everything(), "{what}");
        world.assert_clean();
        let history = world.open().history(None, 10).unwrap();
        assert_eq!(history[0].state, State::Committed, "{what}");
        assert_eq!(history[1].state, State::RolledBack, "{what}");
    }
}

/// Ends after the second wait: the intent's and the commit record's.
pub(super) fn rollback_knife() -> Arc<Second> {
    Arc::new(Second(Mutex::default()))
}

pub(super) struct Second(Mutex<usize>);

impl Second {
    pub(super) fn disk(self: &Arc<Self>) -> Disk {
        Disk { hook: Some(self.clone()) }
    }
}

impl Hook for Second {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut waits = self.0.lock().unwrap();
        if *waits == 2 {
            return Verdict::Fail(Errno::IO);
        }
        *waits += usize::from(name == "fsync");
        Verdict::Proceed
    }

    fn order(&self) -> Option<Order> {
        Some(KEPT)
    }
}

#[test]
fn what_a_person_did_after_the_answer_stays() {
    let (world, _) = cut_install("1.0.0", Cut::AfterCommit);
    world.write("package.json.new", "mine");
    fs::rename(world.project.join("package.json.new"), world.project.join("package.json")).unwrap();
    fs::remove_dir_all(world.project.join("node_modules")).unwrap();
    fs::remove_dir_all(world.project.join("src")).unwrap();
    world.write("old.txt", "mine, too");
    let theirs = world.visible();
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    assert_eq!(world.visible(), theirs);
    world.assert_clean();
}

#[test]
fn what_a_person_edited_before_it_was_brought_forward_comes_back_with_a_rollback() {
    let (world, rows) = cut_install("1.0.0", Cut::AfterCommit);
    let intent = told(&world).1.intent.unwrap();
    lose_names(&world, &intent, (1 << intent.items.len()) - 1);
    rows.bring_back();
    world.write("package.json", "edited in its place");
    world.write("old.txt", "this one, too");
    let edited = world.everything();
    let mut session = world.session();
    assert!(world.read("package.json").contains("1.0.0") && !world.has("old.txt"));
    session.rollback(None, "uid 0", false).unwrap();
    assert_ne!(world.everything(), edited, "only `.bolide` was there");
    assert_eq!(world.read("package.json"), "edited in its place");
    assert_eq!(world.read("old.txt"), "this one, too");
}

/// Takes from a journal all records after its intent, which nobody waits for before the commit record.
pub(super) fn lose_marks(world: &World, path: &Path, story: &Story) {
    fs::remove_file(path).unwrap();
    let transactions = world.open();
    let disk = Disk::default();
    let begin: Begin = story.begin.clone();
    let mut journal = Journal::create(&disk, &transactions.inner.journals, begin, false).unwrap();
    journal.append(&disk, &Record::Intent(story.intent.clone().unwrap())).unwrap();
}

#[test]
fn an_edit_in_what_was_live_is_kept_where_the_marks_and_the_record_are_lost() {
    for (is_damaged, is_stopped) in [(false, false), (true, false), (false, true), (true, true)] {
        let what = format!("{is_damaged}, {is_stopped}");
        let (world, _) = cut_install("1.0.0", Cut::BeforeCommit);
        let (which, story, path) = told(&world);
        // It could not undo anything either.
        assert!(world.read("node_modules/a/index.js").contains("1.0.0"), "{what}");
        assert_eq!(story.turned.len(), story.intent.as_ref().unwrap().items.len());
        lose_marks(&world, &path, &story);
        world.write("node_modules/a/index.js", "mine");
        if is_damaged {
            let print = world.state.join("fingerprints").join(format!("{}.0", which.id));
            fs::write(print, "damaged").unwrap();
        }
        if is_stopped {
            // A recovery that is stopped after it has settled names back.
            let knife = Arc::new(AfterExchanges(Mutex::default()));
            let transactions = world.open_on(Disk { hook: Some(knife) }).unwrap();
            assert!(world.lock(&transactions).is_err());
            assert!(!world.has("node_modules"), "{what}");
        }
        drop(world.session());
        assert_eq!(world.everything(), World::quick().everything(), "{what}");
        world.assert_clean();
        let mut kept = BTreeMap::new();
        let root = world.state.join("kept").join(&which.id);
        for name in ["a/index.js", "a/package.json", "only-in-1.0.0/index.js"] {
            kept.insert(name, fs::read_to_string(root.join("node_modules").join(name)).ok());
        }
        assert_eq!(kept["a/index.js"].as_deref(), Some("mine"), "{what}");
        // Of a record that tells nothing, nothing can be told apart.
        assert_eq!(kept["a/package.json"].is_some(), is_damaged, "{what}");
        assert_eq!(kept["only-in-1.0.0/index.js"].is_some(), is_damaged, "{what}");
        assert!(!root.join(".venv").exists(), "{what}");
    }
}

/// Ends when all names have been settled back.
pub(super) struct AfterExchanges(pub(super) Mutex<bool>);

impl Hook for AfterExchanges {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut is_over = self.0.lock().unwrap();
        *is_over |= matches!(name, "keep" | "rmdir" | "unlink");
        if *is_over { Verdict::Fail(Errno::IO) } else { Verdict::Proceed }
    }
}
