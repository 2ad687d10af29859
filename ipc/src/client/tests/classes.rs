//! Links of every class over one router: the same calls, the fall to the next class down, the end.

use std::os::fd::AsRawFd;

use super::*;
use crate::batch::{Draft, Pool};
use crate::class::{Class, SendingHalf};
use crate::lane::ReceiveError;
use crate::link::Reference;
use crate::ring::Meta;

pub(super) const ALL: [Class; 3] = [Class::Critical, Class::High, Class::Normal];

fn wanted(class: Class) -> LinkOptions {
    LinkOptions { class }
}

/// What a link of this class becomes where nothing is forbidden: a machine without rings says so.
fn expected(class: Class) -> Class {
    match crate::class::high::available() {
        Err(error) if class == Class::High => {
            println!("no rings here: {error}");
            Class::Normal
        }
        _ => class,
    }
}

#[test]
fn a_link_of_each_class_carries_calls_streams_grants_and_errors() {
    for class in ALL {
        with_server(|router| {
            let mut client = connect(router, "client", &[]);
            let mut link = client.open_link("server", wanted(class)).unwrap();
            assert_eq!(link.class(), expected(class), "{:?}", link.terms());
            for size in [0, 1, 48, 1_000, 200_000, 3_000_000, 16_000_000] {
                let payload: Vec<u8> = (0..size).map(|index| index as u8).collect();
                let outcome = client.call(&mut link, "echo", &payload, &[], later(), |_| {});
                assert!(outcome.unwrap() == Outcome::Done(payload), "{size} over {class}");
            }
            let mut steps = Vec::new();
            let progress = |bytes: &[u8]| steps.push(bytes[0]);
            let counted = link.call("count", &[5], &[], later(), progress).unwrap();
            assert_eq!(counted, Outcome::Done(b"counted".to_vec()));
            assert_eq!(steps, [0, 1, 2, 3, 4]);
            let failed = client.call(&mut link, "fail", b"", &[], later(), |_| {}).unwrap();
            assert_eq!(failed, Outcome::Failed(b"no such tool".to_vec()));
            let (reading, mut writing) = std::io::pipe().unwrap();
            writing.write_all(b"through the pipe").unwrap();
            drop(writing);
            let grant = client.grant(link.lane(), reading.as_fd()).unwrap();
            let read = client.call(&mut link, "read", b"", &[grant], later(), |_| {}).unwrap();
            assert_eq!(read, Outcome::Done(b"through the pipe".to_vec()));
        });
    }
}

#[test]
fn a_call_over_each_class_ends_with_its_deadline_and_the_link_goes_on() {
    for class in ALL {
        with_server(|router| {
            let mut client = connect(router, "client", &[]);
            let mut link = client.open_link("server", wanted(class)).unwrap();
            let soon = Instant::now() + Duration::from_millis(20);
            let mut began = 0;
            let late = client.call(&mut link, "stall", b"", &[], soon, |_| began += 1);
            assert!(matches!(late, Err(CallError::Deadline { .. })), "{late:?}");
            let outcome = client.call(&mut link, "echo", b"on", &[], later(), |_| {}).unwrap();
            assert_eq!(outcome, Outcome::Done(b"on".to_vec()));
        });
    }
}

#[test]
fn a_class_that_the_router_forbids_falls_one_down_and_says_why() {
    let chain = [
        (ClassSet::LINKS.without(Class::Critical), Class::Critical, expected(Class::High)),
        (ClassSet::NONE.with(Class::Normal), Class::Critical, Class::Normal),
        (ClassSet::LINKS.without(Class::High), Class::High, Class::Normal),
    ];
    for (allowed, class, got) in chain {
        with_server_over(&Router::allowing(allowed), ClassSet::LINKS, |router| {
            let mut client = connect(router, "client", &[]);
            let mut link = client.open_link("server", wanted(class)).unwrap();
            assert_eq!((link.class(), link.terms().wanted), (got, class));
            let reason = &link.terms().reason;
            assert!(reason.contains("the router does not allow it"), "{reason}");
            let outcome = link.call("echo", b"x", &[], later(), |_| {}).unwrap();
            assert_eq!(outcome, Outcome::Done(b"x".to_vec()));
        });
    }
}

#[test]
fn an_acceptor_that_does_without_rings_makes_the_link_normal_for_both() {
    let without = ClassSet::LINKS.without(Class::High);
    with_server_over(&Router::start(), without, |router| {
        let mut client = connect(router, "client", &[]);
        let mut link = client.open_link("server", wanted(Class::High)).unwrap();
        assert_eq!(link.class(), Class::Normal);
        assert!(link.terms().reason.starts_with("high: "), "{:?}", link.terms());
        let outcome = link.call("echo", b"x", &[], later(), |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Done(b"x".to_vec()));
    });
}

#[test]
fn where_no_class_is_left_the_opener_is_told_all_reasons() {
    let router = Router::allowing(ClassSet::NONE.with(Class::Batch));
    let mut client = connect(router.path(), "client", &[]);
    for class in Class::ALL {
        let refused = client.open_link("server", wanted(class)).unwrap_err();
        let ClientError::NoClass { wanted, reason } = refused else { panic!("{refused:?}") };
        assert_eq!(wanted, class);
        assert!(reason.contains(class.name()), "{reason}");
    }
}

/// Two clients of this process with a link between them.
pub(super) fn linked(router: &Path, class: Class) -> (Client, Client, Link, Link) {
    let mut one = connect(router, "one", &[]);
    let mut two = connect(router, "two", &[]);
    std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let Some(Event::LinkOffered(offer)) = two.next_event(later()).unwrap() else {
                panic!("no offer")
            };
            let accepted = two.accept(offer).unwrap();
            (two, accepted)
        });
        let opened = one.open_link("two", wanted(class)).unwrap();
        let (two, accepted) = accepted.join().unwrap();
        (one, two, opened, accepted)
    })
}

#[test]
fn both_sides_know_the_class_and_a_reopened_link_has_a_greater_epoch() {
    for class in ALL {
        let router = Router::start();
        let (mut one, mut two, opened, accepted) = linked(router.path(), class);
        assert_eq!(
            opened.terms(),
            &Terms { ring: opened.terms().ring, ..accepted.terms().clone() }
        );
        assert_eq!((opened.class(), opened.epoch()), (accepted.class(), accepted.epoch()));
        two.decline(accepted.lane(), "restart").unwrap();
        drop(accepted);
        let again = std::thread::scope(|scope| {
            let accepted = scope.spawn(|| {
                let Some(Event::LinkOffered(offer)) = two.next_event(later()).unwrap() else {
                    panic!("no offer")
                };
                two.accept(offer).unwrap()
            });
            let again = one.reopen(&opened).unwrap();
            // Its ring must be there until the opener has fetched it.
            drop(accepted.join().unwrap());
            again
        });
        assert!(again.epoch() > opened.epoch());
        assert_eq!(again.class(), opened.class());
    }
}

#[test]
fn what_was_sent_before_the_end_arrives_over_every_class_and_then_the_end() {
    for class in ALL {
        let router = Router::start();
        let (mut one, _two, mut opened, mut accepted) = linked(router.path(), class);
        for number in 0..100 {
            let meta = Meta { correlation: number, ..Meta::default() };
            opened.sender().raw().send(meta, b"last words", wait_for()).unwrap();
        }
        one.decline(opened.lane(), "done").unwrap();
        drop(opened);
        let way = accepted.receiver().raw();
        for number in 0..100 {
            assert_eq!(way.receive(Some(later())).unwrap().meta.correlation, number);
        }
        let end = way.receive(Some(later())).unwrap_err();
        assert_eq!(end, ReceiveError::Ended(Ended::Closed), "{class}");
    }
}

/// A number in the kernel's own words about a ring of this process.
fn ring_number(ring: i32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{ring}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no `{name}` in {text}")).trim().parse().unwrap()
}

#[test]
fn every_message_of_class_high_passes_through_the_readers_ring() {
    if expected(Class::High) != Class::High {
        return;
    }
    let router = Router::start();
    let (_one, _two, mut opened, mut accepted) = linked(router.path(), Class::High);
    let ring = accepted.receiver().raw().descriptor().unwrap().as_raw_fd();
    let target = std::fs::read_link(format!("/proc/self/fd/{ring}")).unwrap();
    assert_eq!(target.to_str(), Some("anon_inode:[io_uring]"));
    let before = (ring_number(ring, "CqTail"), ring_number(ring, "CqHead"));
    for _ in 0..10 {
        opened.sender().raw().send(Meta::default(), b"x", wait_for()).unwrap();
        accepted.receiver().raw().receive(Some(later())).unwrap();
    }
    assert_eq!(ring_number(ring, "CqTail"), before.0 + 10, "the kernel posted each");
    assert!(ring_number(ring, "CqHead") >= before.1 + 10, "and the reader took them");
}

#[test]
fn links_of_all_classes_wake_one_sleeper() {
    let router = Router::start();
    let mut one = connect(router.path(), "one", &[]);
    let mut two = connect(router.path(), "two", &[]);
    let (mut opened, mut accepted) = std::thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            ALL.map(|_| match two.next_event(later()).unwrap() {
                Some(Event::LinkOffered(offer)) => two.accept(offer).unwrap(),
                other => panic!("no offer: {other:?}"),
            })
        });
        let opened = ALL.map(|class| one.open_link("two", wanted(class)).unwrap());
        (opened, accepted.join().unwrap())
    });
    for round in 0..300 {
        let link = &mut opened[round % ALL.len()];
        std::thread::scope(|scope| {
            scope.spawn(|| link.sender().raw().send(Meta::default(), b"x", wait_for()).unwrap());
            while matches!(accepted[round % ALL.len()].receiver().raw().try_receive(), Ok(None)) {
                let lanes = accepted.iter_mut();
                let lanes = lanes.map(|link| link.receiver().raw() as &mut dyn ReceivingHalf);
                two.wait(&mut lanes.collect::<Vec<_>>(), Some(later())).unwrap();
            }
        });
    }
}

/// The next message that is neither request nor answer, as a reference.
fn referred(link: &mut Link) -> Reference {
    match link.next(later()).unwrap() {
        Incoming::Other { payload, .. } => Reference::decode(&payload).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frozen_and_lent_payloads_go_to_the_peer_of_a_link_of_any_class() {
    for class in ALL {
        let router = Router::start();
        let (mut one, mut two, mut opened, mut accepted) = linked(router.path(), class);
        let mut draft = Draft::create(5_000_000).unwrap();
        draft.bytes_mut().fill(7);
        one.send_frozen(&mut opened, &draft.freeze().unwrap(), wait_for()).unwrap();
        let reference = referred(&mut accepted);
        let frozen = two.take_frozen(accepted.lane(), reference, 8 << 20, later()).unwrap();
        assert!(frozen.len() == 5_000_000 && frozen.iter().all(|byte| *byte == 7));

        let mut pool = Pool::create(3, 1 << 20).unwrap();
        one.offer_pool(&mut opened, &pool, wait_for()).unwrap();
        let reference = referred(&mut accepted);
        let mut borrower = two.borrow(&mut accepted, reference, 1 << 20, later()).unwrap();
        let returns = referred(&mut opened);
        assert!(matches!(returns, Reference::Returns { pool: 3, .. }));
        one.attach_borrower(&mut opened, &mut pool, returns, later()).unwrap();
        let mut loan = pool.loan(600_000, WhenFull::Reject).unwrap();
        loan.fill(9);
        opened.lend(&mut pool, loan, wait_for()).unwrap();
        let Incoming::Other { payload, .. } = accepted.next(later()).unwrap() else { panic!() };
        let lent = borrower.take(&payload).unwrap();
        let mut end = [0; 2];
        lent.read_at(599_998, &mut end).unwrap();
        assert_eq!((lent.length(), end), (600_000, [9, 9]));
        assert!(pool.loan(600_000, WhenFull::Reject).is_err(), "it is out");
        // The end of the link is the return of what is out.
        two.decline(accepted.lane(), "done").unwrap();
        drop(accepted);
        assert!(opened.next(later()).is_err());
        assert!(pool.loan(600_000, wait_for()).is_ok());
        drop(lent);
    }
}
