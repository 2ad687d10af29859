//! What is waited for before what, and what of others stays where a loss of power left a name of ours behind.

use std::sync::Mutex;

use rustix::io::Errno;

use super::super::disk::{Hook, Verdict};
use super::super::journal::{self, Unfinished};
use super::power::{
    AfterExchanges, Cut, KEPT, Knife, cut_install, leave, lose_marks, lose_names, rollback_knife,
    told,
};
use super::*;

/// Writes down what is done, and fails one exchange where it is told which.
struct Watch {
    fails_at: Option<usize>,
    done: Mutex<Vec<&'static str>>,
    /// Directories through which their file system was waited for.
    through: Mutex<Vec<u64>>,
}

impl Watch {
    fn new(fails_at: Option<usize>) -> Arc<Self> {
        Arc::new(Self { fails_at, done: Mutex::default(), through: Mutex::default() })
    }

    fn disk(self: &Arc<Self>) -> Disk {
        Disk { hook: Some(self.clone()) }
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.done.lock().unwrap())
    }
}

impl Hook for Watch {
    fn reach(&self, name: &'static str) -> Verdict {
        let mut done = self.done.lock().unwrap();
        let exchanges = done.iter().filter(|name| **name == "exchange").count();
        let is_turn = self.fails_at == Some(exchanges) && !done.contains(&"failure");
        let fails = name == "exchange" && is_turn;
        done.push(if fails { "failure" } else { name });
        if fails { Verdict::Fail(Errno::IO) } else { Verdict::Proceed }
    }

    fn waits_for(&self, inode: u64) {
        self.through.lock().unwrap().push(inode);
    }
}

/// Gives a journal the name that an earlier version gave it.
fn give_old_name(path: &Path) {
    let old = path.to_str().unwrap().replace(".first.journal", ".journal");
    assert_ne!(path.to_str().unwrap(), old);
    fs::rename(path, old).unwrap();
}

#[test]
fn a_journal_with_the_name_of_an_earlier_version_is_ended_and_gone() {
    let original = World::quick().everything();
    for is_stopped in [false, true] {
        let (world, _) = cut_install("1.0.0", Cut::BeforeCommit);
        let (_, story, path) = told(&world);
        assert!(!story.begin.had_workshop);
        lose_marks(&world, &path, &story);
        give_old_name(&path);
        world.write("node_modules/a/index.js", "mine");
        if is_stopped {
            // What was live has to be found in the journal by who comes then.
            let knife = Arc::new(AfterExchanges(Mutex::default()));
            let transactions = world.open_on(Disk { hook: Some(knife) }).unwrap();
            assert!(world.lock(&transactions).is_err());
        }
        assert_eq!(world.session().recovered()[0].outcome, Outcome::Undone);
        assert_eq!(world.everything(), original);
        world.assert_clean();
        let kept = world.state.join("kept").join(story.begin.id).join("node_modules/a/index.js");
        assert_eq!(fs::read_to_string(kept).unwrap(), "mine", "{is_stopped}");
        assert!(world.session().recovered().is_empty());
    }
    let (world, _) = cut_install("1.0.0", Cut::AfterCommit);
    give_old_name(&told(&world).2);
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    world.assert_clean();
    let (world, _) = cut_install("1.0.0", Cut::BeforeIntent);
    let (_, story, path) = told(&world);
    give_old_name(&path);
    let transactions = world.open();
    let (journals, which) = (&transactions.inner.journals, Unfinished::of(&story.begin));
    assert!(journal::read(journals, &which).unwrap().is_some());
    assert!(journal::Journal::resume(&Disk::default(), journals, &which).unwrap().is_some());
}

#[test]
fn names_are_waited_for_before_the_commit_where_the_state_lies_elsewhere() {
    let world = World::quick();
    let elsewhere = tempfile::tempdir().unwrap();
    let device = |path: &Path| rustix::fs::stat(path).unwrap().st_dev;
    if device(elsewhere.path()) == device(&world.project) {
        return;
    }
    let world = World { state: elsewhere.path().join("state"), ..world };
    let watch = Watch::new(None);
    let transactions = world.open_on(watch.disk()).unwrap();
    install_as(&mut world.lock(&transactions).unwrap(), "1.0.0", leave()).unwrap();
    let done = watch.take();
    let recorded = done.iter().rposition(|name| *name == "append").unwrap();
    let is_change = |name: &&'static str| matches!(*name, "exchange" | "rename");
    let named = done[..recorded].iter().rposition(is_change).unwrap();
    let waits = done[named..recorded].iter().filter(|name| **name == "fsync").count();
    // The root, the slots, `src/deep`, `src`.
    assert_eq!(waits, 4, "{done:?}");
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    world.assert_clean();
}

#[test]
fn what_somebody_put_in_the_place_of_a_name_that_was_lost_stays() {
    for (version, place) in [
        ("1.0.0", "package.json"),
        ("2.0.0", "node_modules"),
        ("1.0.0", "src"),
        ("1.0.0", "old.txt"),
    ] {
        let (world, rows) = cut_install(version, Cut::AfterCommit);
        let intent = told(&world).1.intent.unwrap();
        lose_names(&world, &intent, (1 << intent.items.len()) - 1);
        rows.bring_back();
        // As an editor saves it.
        world.write("mine", "mine");
        let at = world.project.join(place);
        let _ = fs::remove_dir_all(&at);
        fs::rename(world.project.join("mine"), at).unwrap();
        let mut session = world.session();
        assert_eq!(session.recovered()[0].outcome, Outcome::Finished, "{place}");
        assert_eq!(world.read(place), "mine");
        assert!(world.read(".venv/lib/site.py").contains(version), "all others are there");
        world.assert_clean();
        // It is no part of the transaction, so nobody asks for it when that is taken back.
        session.rollback(None, "uid 0", false).unwrap();
        assert_eq!(world.read(place), "mine");
        assert_eq!(world.has(".venv"), version != "1.0.0", "{place}");
    }
}

#[test]
fn what_a_rollback_could_not_bring_back_to_its_name_is_kept() {
    for place in ["package.json", "old.txt"] {
        let world = World::quick();
        install(&mut world.session(), "1.0.0", false).unwrap();
        let transactions = world.open_on(rollback_knife().disk()).unwrap();
        world.lock(&transactions).unwrap().rollback(None, "uid 0", false).unwrap();
        drop(transactions);
        let (which, story, _) = told(&world);
        let intent = story.intent.unwrap();
        lose_names(&world, &intent, (1 << intent.items.len()) - 1);
        world.write("mine", "mine");
        fs::rename(world.project.join("mine"), world.project.join(place)).unwrap();
        assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished, "{place}");
        assert_eq!(world.read(place), "mine");
        assert!(!world.has("node_modules") && !world.has(".bolide"));
        world.assert_clean();
        let kept = fs::read_to_string(world.state.join("kept").join(which.id).join(place));
        assert_eq!(kept.unwrap(), World::quick().read(place));
    }
}

#[test]
fn a_file_in_the_place_of_a_directory_is_no_reason_to_refuse_everything() {
    let (world, _) = cut_install("1.0.0", Cut::AfterCommit);
    fs::remove_dir_all(world.project.join("src")).unwrap();
    world.write("src", "mine");
    assert_eq!(world.session().recovered()[0].outcome, Outcome::Finished);
    assert_eq!(world.read("src"), "mine");
    world.assert_clean();
}

#[test]
fn marks_are_waited_for_before_a_name_goes_back() {
    let is_change = |name: &&'static str| matches!(*name, "exchange" | "rename");
    // By who made them.
    let world = World::quick();
    install(&mut world.session(), "1.0.0", false).unwrap();
    let watch = Watch::new(Some(2));
    let transactions = world.open_on(watch.disk()).unwrap();
    install(&mut world.lock(&transactions).unwrap(), "2.0.0", false).unwrap_err();
    let done = watch.take();
    let failed = done.iter().position(|name| *name == "failure").expect("a failure");
    let back = failed + done[failed..].iter().position(is_change).unwrap();
    assert!(done[failed..back].contains(&"fsync"), "{:?}", &done[failed..]);
    assert!(world.read("node_modules/a/index.js").contains("1.0.0"));
    // By who finds them: they may be in memory only.
    let (world, _) = cut_install("1.0.0", Cut::BeforeCommit);
    let (which, story, path) = told(&world);
    lose_marks(&world, &path, &story);
    let transactions = world.open();
    let resumed =
        journal::Journal::resume(&Disk::default(), &transactions.inner.journals, &which).unwrap();
    let mut resumed = resumed.unwrap();
    for index in &story.turned {
        resumed.append(&Disk::default(), &journal::Record::Turn(*index)).unwrap();
    }
    drop(resumed);
    assert!(!story.turned.is_empty() && !told(&world).1.committed);
    let knife = Knife::new(Cut::Never, KEPT);
    let transactions = world.open_on(knife.disk()).unwrap();
    drop(world.lock(&transactions).unwrap());
    let done = knife.done.lock().unwrap().clone();
    let back = done.iter().position(is_change).unwrap();
    assert!(done[..back].contains(&"fsync"), "{done:?}");
}

/// How many descriptors of the log of a world's database this process has.
fn logs(world: &World) -> usize {
    let log = world.state.join("state.sqlite3-wal");
    let all = fs::read_dir("/proc/self/fd").unwrap();
    all.filter(|one| fs::read_link(one.as_ref().unwrap().path()).is_ok_and(|it| it == log)).count()
}

#[test]
fn a_transaction_waits_for_its_rows_by_a_descriptor_that_is_older_than_they() {
    let world = World::quick();
    let watch = Watch::new(None);
    let transactions = world.open_on(watch.disk()).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    let before = logs(&world);
    let open = session.begin(purpose("add")).unwrap();
    assert_eq!(logs(&world), before + 1);
    open.abort("enough").unwrap();
    assert_eq!(logs(&world), before);
    install_as(&mut session, "1.0.0", leave()).unwrap();
    assert_eq!(logs(&world), before + 1, "until the rest is waited for");
    drop(session);
    // What is there is another file by then: what the old one had was worked into the database.
    let log = world.state.join("state.sqlite3-wal");
    let copy = fs::read(&log).unwrap();
    fs::remove_file(&log).unwrap();
    fs::write(&log, copy).unwrap();
    watch.take();
    drop(world.lock(&transactions).unwrap());
    let done = watch.take();
    let waits: Vec<_> = done.iter().filter(|name| matches!(**name, "fsync" | "syncfs")).collect();
    assert_eq!(waits, [&"fsync", &"fsync", &"syncfs"], "the old one, the new one, the database");
    world.assert_clean();
    assert_eq!(logs(&world), 0);
}

#[test]
fn a_transaction_waits_for_its_files_by_a_descriptor_that_is_older_than_they() {
    use std::os::unix::fs::MetadataExt;
    let world = World::quick();
    let watch = Watch::new(None);
    let transactions = world.open_on(watch.disk()).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    watch.through.lock().unwrap().clear();
    install(&mut session, "1.0.0", false).unwrap();
    // Whatever others were told since the project was opened, this one is told, too.
    let root = world.project.metadata().unwrap().ino();
    assert_eq!(watch.through.lock().unwrap().first(), Some(&root));
}
