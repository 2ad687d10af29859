//! Wait sets over real lanes: who is told of, and what wakes a set that sleeps.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::classes::{ALL, linked};
use super::*;
use crate::class::SendingHalf;
use crate::ring::Meta;
use crate::wait_set::WaitSet;

fn send(link: &mut Link, payload: &[u8]) {
    link.sender().raw().send(Meta::default(), payload, wait_for()).unwrap();
}

fn lanes_of(links: &mut [Link]) -> Vec<&mut dyn ReceivingHalf> {
    links.iter_mut().map(|link| link.receiver().raw() as &mut dyn ReceivingHalf).collect()
}

/// Clients with a link of each class between them.
fn linked_by_all(router: &Path) -> (Client, Vec<Client>, Vec<Link>, Vec<Link>) {
    let (mut one, two, mine, theirs) = linked(router, ALL[0]);
    let (mut others, mut ours, mut yours) = (vec![two], vec![mine], vec![theirs]);
    for class in &ALL[1..] {
        let request = LinkOptions { class: *class };
        let (near, far) = meet(&mut one, &mut others[0], request);
        ours.push(near);
        yours.push(far);
    }
    others.shrink_to_fit();
    (one, others, ours, yours)
}

/// One more link, opened by the second and accepted by the first.
fn meet(one: &mut Client, two: &mut Client, options: LinkOptions) -> (Link, Link) {
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| two.open_link("one", options).unwrap());
        let near = loop {
            match one.next_event(later()).unwrap() {
                Some(Event::LinkOffered(offer)) => break one.accept(offer).unwrap(),
                Some(_) => {}
                None => panic!("no offer came"),
            }
        };
        (near, opened.join().unwrap())
    })
}

#[test]
fn all_lanes_with_something_are_told_of_whatever_their_class() {
    let router = Router::start();
    for spin in [Spin::None, Spin::Adaptive, Spin::Forever] {
        let (mut client, _others, mut ours, mut theirs) = linked_by_all(router.path());
        let mut set = WaitSet::new(spin).unwrap();
        let subsets: [&[usize]; 5] = [&[0], &[1], &[2], &[0, 2], &[0, 1, 2]];
        for expected in subsets {
            for index in expected {
                send(&mut theirs[*index], b"news");
            }
            let mut found = Vec::new();
            while found.len() < expected.len() {
                let ready = set.wait(&mut client, &mut lanes_of(&mut ours), Some(later())).unwrap();
                assert!(!ready.lanes.is_empty(), "{ready:?}");
                for index in ready.lanes {
                    while let Some(message) = ours[*index].receiver().raw().try_receive().unwrap() {
                        assert_eq!(message.payload, b"news");
                        found.push(*index);
                    }
                }
            }
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_set_that_sleeps_is_woken_by_a_message_of_any_class() {
    let router = Router::start();
    let (mut client, _others, mut ours, mut theirs) = linked_by_all(router.path());
    let mut set = WaitSet::new(Spin::None).unwrap();
    std::thread::scope(|scope| {
        let (heard, wait_until_heard) = std::sync::mpsc::channel();
        scope.spawn(move || {
            for round in 0..30usize {
                send(&mut theirs[round % 3], &round.to_le_bytes());
                wait_until_heard.recv().unwrap();
            }
        });
        for round in 0..30usize {
            let mut taken = false;
            while !taken {
                let ready = set.wait(&mut client, &mut lanes_of(&mut ours), Some(later())).unwrap();
                let lanes = ready.lanes.to_vec();
                assert!(!ready.is_empty(), "nothing woke it in round {round}");
                for index in lanes {
                    let found = ours[index].receiver().raw().try_receive().unwrap();
                    taken |= found.is_some_and(|found| found.payload == round.to_le_bytes());
                }
            }
            heard.send(()).unwrap();
        }
    });
}

#[test]
fn timers_and_deadlines_end_a_wait() {
    let router = Router::start();
    for spin in [Spin::None, Spin::Adaptive, Spin::Forever] {
        let mut client = connect(router.path(), "client", &[]);
        let mut set = WaitSet::new(spin).unwrap();
        let first = set.at(Instant::now() + Duration::from_millis(2)).unwrap();
        let second = set.every(Duration::from_millis(5)).unwrap();
        let ready = set.wait(&mut client, &mut [], Some(later())).unwrap();
        assert_eq!(ready.timers[0], first);
        for _ in 0..3 {
            let ready = set.wait(&mut client, &mut [], Some(later())).unwrap();
            assert_eq!(ready.timers, [second]);
        }
        set.cancel(second);
        let ready = set.wait(&mut client, &mut [], Some(Instant::now())).unwrap();
        assert!(ready.is_empty());
    }
}

#[test]
fn the_routers_news_and_ends_of_lanes_wake_a_set() {
    let router = Router::start();
    for class in ALL {
        let (mut client, other, ours, theirs) = linked(router.path(), class);
        let mut ours = [ours];
        let mut set = WaitSet::new(Spin::None).unwrap();
        send_last(theirs, other);
        let mut ended = false;
        while !ended {
            let ready = set.wait(&mut client, &mut lanes_of(&mut ours), Some(later())).unwrap();
            assert!(!ready.is_empty());
            let lanes = ready.lanes.len();
            while client.next_event(Instant::now()).unwrap().is_some() {}
            if lanes > 0 {
                ended = loop {
                    match ours[0].receiver().raw().try_receive() {
                        Ok(Some(message)) => assert_eq!(message.payload, b"last"),
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                };
            }
        }
        assert!(ours[0].receiver().raw().is_over());
    }
}

fn send_last(mut link: Link, client: Client) {
    send(&mut link, b"last");
    client.bye().unwrap();
}

#[test]
fn an_event_loop_of_ones_own_waits_for_one_descriptor() {
    let router = Router::start();
    let (mut client, _others, mut ours, mut theirs) = linked_by_all(router.path());
    let mut set = WaitSet::new(Spin::Adaptive).unwrap();
    for round in 0..30usize {
        // Sent before it is armed, and after: both must be noticed.
        let link = &mut theirs[round % 3];
        if round % 2 == 0 {
            send(link, b"before");
            assert!(!set.arm(&mut client, &mut lanes_of(&mut ours)).unwrap());
        } else {
            assert!(set.arm(&mut client, &mut lanes_of(&mut ours)).unwrap());
            send(link, b"after");
            let mut polled = [PollFd::new(&set, PollFlags::IN)];
            poll(&mut polled, None).unwrap();
            set.disarm(&mut client, &mut lanes_of(&mut ours)).unwrap();
        }
        // A lane of rings is told of once for nothing, at its beginning.
        assert!(set.ready().lanes.contains(&(round % 3)), "{:?}", set.ready());
        for index in set.ready().lanes {
            while ours[*index].receiver().raw().try_receive().unwrap().is_some() {}
        }
    }
    let soon = set.at(Instant::now() + Duration::from_millis(1)).unwrap();
    assert!(set.arm(&mut client, &mut []).unwrap());
    let mut polled = [PollFd::new(&set, PollFlags::IN)];
    poll(&mut polled, None).unwrap();
    assert_eq!(set.disarm(&mut client, &mut []).unwrap().timers, [soon]);
}

#[test]
fn a_lane_that_has_ended_and_is_left_out_lets_the_set_sleep() {
    let router = Router::start();
    for class in ALL {
        let (mut client, mut other, ours, theirs) = linked(router.path(), class);
        let mut ours = [ours];
        let mut set = WaitSet::new(Spin::None).unwrap();
        // So that the set has listened to it once, whatever comes.
        let now = Some(Instant::now());
        set.wait(&mut client, &mut lanes_of(&mut ours), now).unwrap();
        other.decline(theirs.lane(), "done").unwrap();
        drop(theirs);
        while ours[0].receiver().raw().receive(Some(later())).is_ok() {}
        let is_closed = |event: Event| matches!(event, Event::LinkClosed { .. });
        while !client.next_event(later()).unwrap().is_some_and(is_closed) {}
        // What was heard before may wake it a few times more, but not without end.
        let is_quiet = (0..20).any(|_| {
            assert!(set.arm(&mut client, &mut []).unwrap(), "nothing is left to do");
            let mut polled = [PollFd::new(&set, PollFlags::IN)];
            let woken = poll(&mut polled, Some(&Timespec::default())).unwrap();
            assert!(set.disarm(&mut client, &mut []).unwrap().is_empty());
            woken == 0
        });
        assert!(is_quiet, "{class}");
    }
}

#[test]
fn what_was_pushed_and_not_announced_is_told_of_and_can_be_had() {
    let router = Router::start();
    for (class, spin) in ALL.into_iter().zip([Spin::None, Spin::Forever, Spin::Adaptive]) {
        let (mut client, _other, ours, mut theirs) = linked(router.path(), class);
        let mut ours = [ours];
        let mut set = WaitSet::new(spin).unwrap();
        // The signal that tried the way, and its look for nothing.
        while ours[0].receiver().raw().try_receive().unwrap().is_some() {}
        theirs.sender().raw().push(Meta::default(), b"pushed", wait_for()).unwrap();
        let ready = set.wait(&mut client, &mut lanes_of(&mut ours), Some(later())).unwrap();
        assert_eq!(ready.lanes, [0], "{class}");
        let message = ours[0].receiver().raw().try_receive().unwrap();
        assert_eq!(message.map(|message| message.payload.to_vec()), Some(b"pushed".to_vec()));
    }
}

#[test]
fn a_writer_that_sleeps_is_woken_by_room_whatever_its_class() {
    let router = Router::start();
    let (mut client, _others, mut ours, mut theirs) = linked_by_all(router.path());
    for (mine, yours) in ours.iter_mut().zip(&mut theirs) {
        let class = mine.class();
        let lane = mine.sender().raw();
        assert!(lane.is_told_of_room(), "{class}");
        let mut sent = 0u32;
        let full = |lane: &mut crate::class::AnySender, sent: &mut u32| {
            while lane.send(Meta::default(), &sent.to_le_bytes(), WhenFull::Reject).is_ok() {
                *sent += 1;
            }
        };
        full(lane, &mut sent);
        for round in 0..3 {
            std::thread::scope(|scope| {
                let (mut expected, all) = (0u32, sent);
                let receiver = yours.receiver().raw();
                scope.spawn(move || {
                    while expected < all {
                        let message = receiver.receive(Some(later())).unwrap();
                        if round == 0 {
                            assert_eq!(message.payload, expected.to_le_bytes());
                        }
                        expected += 1;
                    }
                });
                let mut more = 0;
                while more == 0 {
                    // Without a deadline: a wake-up that is lost is seen by whoever watches over the test.
                    let woken = client.wait_for_room(&mut [], &mut [&mut *lane], None).unwrap();
                    assert_eq!(woken, Woken::News, "{class}");
                    full(lane, &mut more);
                }
                sent = more;
            });
            full(lane, &mut sent);
        }
    }
}
