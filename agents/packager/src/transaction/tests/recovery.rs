//! Recovery: of all projects, of moved ones, and where a person came in between.

use super::super::disk::{Hook, Verdict};
use super::*;
use rustix::io::Errno;

/// Lets a number of changes of names pass, then fails everything: what a crash leaves, in this process.
struct StopAfter(&'static str, std::sync::atomic::AtomicUsize);

impl Hook for StopAfter {
    fn reach(&self, name: &'static str) -> Verdict {
        use std::sync::atomic::Ordering::SeqCst;
        let left = self.1.load(SeqCst);
        if left == 0 {
            return Verdict::Fail(Errno::IO);
        }
        if name == self.0 {
            self.1.store(left - 1, SeqCst);
        }
        Verdict::Proceed
    }
}

/// Leaves the install of `version` after `exchanges` exchanges.
fn interrupt(world: &World, version: &str, exchanges: usize) {
    let disk = Disk { hook: Some(Arc::new(StopAfter("exchange", exchanges.into()))) };
    let transactions = world.open_on(disk).unwrap();
    let mut session = world.lock(&transactions).unwrap();
    install(&mut session, version, false).unwrap_err();
}

#[test]
fn all_projects_are_recovered_but_those_that_are_away() {
    let worlds = [World::quick(), World::quick(), World::quick()];
    let state = worlds[0].state.clone();
    let worlds = worlds.map(|world| World { state: state.clone(), ..world });
    let before = worlds[0].everything();
    for world in &worlds {
        interrupt(world, "1.0.0", 1);
        assert_ne!(world.visible(), before);
    }
    fs::remove_dir_all(&worlds[1].project).unwrap();
    let busy = Project::open(&worlds[2].project).unwrap();
    let directory = fs::File::open(busy.path()).unwrap();
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let transactions = worlds[0].open();
    let unfinished = |world: &World| {
        transactions.has_unfinished(&Project::open(&world.project).unwrap()).unwrap()
    };
    assert!(unfinished(&worlds[0]) && unfinished(&worlds[2]));
    let recovered = transactions.recover_all().unwrap();
    assert!(!unfinished(&worlds[0]) && unfinished(&worlds[2]), "each has journals of its own");
    // Who fetches has the lock, and no journal yet.
    let at_work = worlds[0].session();
    assert!(unfinished(&worlds[0]), "others wait for it");
    drop(at_work);
    assert!(!unfinished(&worlds[0]));
    let outcomes: Vec<_> = recovered.iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::Undone, Outcome::Pending, Outcome::Pending]);
    assert_eq!(recovered[2].error.as_ref().unwrap().code, "locked");
    assert_eq!(worlds[0].everything(), before);
    drop(directory);
    assert_eq!(worlds[2].session().recovered().len(), 1);
    assert_eq!(worlds[2].everything(), before);
}

#[test]
fn a_project_that_was_moved_is_recovered_where_it_is_now() {
    let world = World::new();
    let before = world.everything();
    interrupt(&world, "1.0.0", 1);
    let moved = world.project.with_file_name("moved");
    fs::rename(&world.project, &moved).unwrap();
    let transactions = world.open();
    assert_eq!(transactions.recover_all().unwrap()[0].outcome, Outcome::Pending);
    let project = Project::open(&moved).unwrap();
    let mut session = transactions
        .lock(project, Duration::from_secs(20), agents_contract::Cancellation::NEVER)
        .unwrap();
    assert_eq!(session.recovered()[0].outcome, Outcome::Undone);
    assert_eq!(tree_hash(&moved).unwrap(), before);
    // History moves along.
    install(&mut session, "1.0.0", false).unwrap();
    let history = transactions.history(Some(session.project()), 10).unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].project, moved.canonicalize().unwrap().display().to_string());
}

#[test]
fn an_edit_of_a_file_that_was_not_yet_replaced_survives_the_recovery() {
    let world = World::quick();
    {
        let mut session = world.session();
        install(&mut session, "1.0.0", false).unwrap();
    }
    // Two environments were exchanged, the manifest was not; an editor saves it under a new inode.
    interrupt(&world, "2.0.0", 2);
    assert!(world.read("node_modules/a/index.js").contains("2.0.0"));
    world.write("package.json.new", "{\"mine\":1}\n");
    fs::rename(world.project.join("package.json.new"), world.project.join("package.json")).unwrap();
    drop(world.session());
    assert_eq!(world.read("package.json"), "{\"mine\":1}\n");
    assert!(world.read("node_modules/a/index.js").contains("1.0.0"));
}

#[test]
fn an_edit_in_what_was_live_for_a_while_is_kept() {
    let world = World::quick();
    let before = world.everything();
    interrupt(&world, "1.0.0", 1);
    world.write("node_modules/a/index.js", "mine");
    let session = world.session();
    let id = session.recovered()[0].transaction.clone();
    assert_eq!(world.everything(), before);
    let kept = world.state.join("kept").join(id).join("node_modules/a/index.js");
    assert_eq!(fs::read_to_string(kept).unwrap(), "mine");
}

#[test]
fn what_is_in_the_way_of_a_recovery_is_named_and_left_alone() {
    let world = World::quick();
    interrupt(&world, "1.0.0", 1);
    // The new manifest is live; somebody saves another one over it.
    let id = fs::read_dir(world.project.join(".bolide/staging")).unwrap().next().unwrap().unwrap();
    assert_eq!(fs::read_to_string(id.path().join("file-0")).unwrap(), "{}\n");
    world.write("package.json.new", "mine");
    fs::rename(world.project.join("package.json.new"), world.project.join("package.json")).unwrap();
    let error = world.lock(&world.open()).err().unwrap();
    assert_eq!(error.code, "changed-meanwhile");
    assert_eq!(world.read("package.json"), "mine");
    // As the hint says: move it away, and the next command finishes.
    fs::rename(world.project.join("package.json"), world.project.join("../mine.json")).unwrap();
    drop(world.session());
    assert_eq!(world.read("package.json"), "{}\n");
    world.assert_clean();
}

#[test]
fn sessions_may_go_to_other_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Session>();
    is_send::<Open<'_>>();
    is_send::<Transactions>();
    is_sync::<Transactions>();
}
