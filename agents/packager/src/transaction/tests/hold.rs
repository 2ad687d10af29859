//! Packages that are held: as long as the transaction stands that says so.

use std::collections::BTreeSet;

use super::*;

fn hold(name: &str, versions: &[&str]) -> Hold {
    let versions: BTreeSet<String> = versions.iter().map(|it| (*it).to_owned()).collect();
    Hold { ecosystem: Ecosystem::Npm, name: name.to_owned(), versions }
}

/// The holds of the project, as `name versions`.
fn held(world: &World) -> Vec<String> {
    let project = Project::open(&world.project).unwrap();
    let holds = world.open().holds(&project).unwrap();
    let packages = holds.values().flat_map(|held| &held.packages);
    packages
        .map(|(name, versions)| {
            format!("{name} {}", Vec::from_iter(versions.iter().map(String::as_str)).join(" "))
        })
        .collect()
}

#[test]
fn the_last_word_that_stands_counts_and_a_rollback_brings_the_one_before_back() {
    let world = World::quick();
    let before = world.everything();
    let mut session = world.session();
    session
        .hold(purpose("hold"), vec![hold("a", &["1.0.0"]), hold("b", &["1.0.0", "2.0.0"])])
        .unwrap();
    assert_eq!(held(&world), ["a 1.0.0", "b 1.0.0 2.0.0"]);
    session.hold(purpose("hold"), vec![hold("a", &["2.0.0"])]).unwrap();
    assert_eq!(held(&world), ["a 2.0.0", "b 1.0.0 2.0.0"]);
    session.hold(purpose("unhold"), vec![hold("b", &[])]).unwrap();
    assert_eq!(held(&world), ["a 2.0.0"]);
    install(&mut session, "1.0.0", false).unwrap();
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(held(&world), ["a 2.0.0"], "what came later is no matter of a hold");
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(held(&world), ["a 2.0.0", "b 1.0.0 2.0.0"]);
    session.rollback(None, "uid 0", false).unwrap();
    session.rollback(None, "uid 0", false).unwrap();
    assert_eq!(held(&world), [""; 0]);
    assert_eq!(world.everything(), before);
}

#[test]
fn holds_are_those_of_one_project() {
    let (world, other) = (World::quick(), World::quick());
    let transactions = world.open();
    world.lock(&transactions).unwrap().hold(purpose("hold"), vec![hold("a", &["1.0.0"])]).unwrap();
    let project = Project::open(&other.project).unwrap();
    assert!(transactions.holds(&project).unwrap().is_empty());
}

#[test]
fn a_hold_that_is_interrupted_anywhere_is_there_or_not_and_history_agrees() {
    use super::super::disk::{Hook, Verdict};
    use rustix::io::Errno;
    use std::sync::atomic::{AtomicUsize, Ordering};
    struct Breaks(AtomicUsize, usize);
    impl Hook for Breaks {
        fn reach(&self, _: &'static str) -> Verdict {
            // Nothing works from there on, undoing neither: the same as a crash for the one who comes after.
            match self.0.fetch_add(1, Ordering::SeqCst) < self.1 {
                true => Verdict::Proceed,
                false => Verdict::Fail(Errno::IO),
            }
        }
    }
    let (mut made, mut undone) = (0, 0);
    for at in 0.. {
        let world = World::quick();
        let before = world.everything();
        let breaks = Arc::new(Breaks(AtomicUsize::new(0), at));
        let disk = Disk { hook: Some(breaks.clone()) };
        let done = world.open_on(disk).and_then(|transactions| {
            let mut session = world.lock(&transactions)?;
            session.hold(purpose("hold"), vec![hold("a", &["1.0.0"])])
        });
        let session = world.session();
        let history = world.open().history(None, 10).unwrap();
        let stands = history.iter().any(|entry| entry.state == State::Committed);
        assert_eq!(stands, held(&world) == ["a 1.0.0"], "point {at}: {done:?}");
        assert!(stands || done.is_err(), "point {at}");
        assert_eq!(stands, world.has(".bolide"), "point {at}");
        drop(session);
        world.assert_clean();
        match stands {
            true => made += 1,
            false => {
                assert_eq!(world.everything(), before, "point {at}");
                undone += 1;
            }
        }
        if breaks.0.load(Ordering::SeqCst) <= at {
            break;
        }
    }
    println!("a hold: {undone} failures undone, {made} finished");
    assert!(made > 1 && undone > 1);
}
