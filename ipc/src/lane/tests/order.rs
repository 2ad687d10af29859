//! Properties of any sequence of steps: order, wholeness, and that every position is accounted for.

use super::*;
use crate::ring::FLAG_TWO_LINES;

/// What somebody does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Inline,
    Timed,
    /// So many bytes beside the number.
    Large(usize),
    /// One of the readers.
    Receive(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Inline),
        2 => Just(Step::Timed),
        2 => (0usize..1_900).prop_map(Step::Large),
        5 => (0usize..2).prop_map(Step::Receive),
    ]
}

/// Sends a message that says its number everywhere; how many positions it took, or that there is no room.
fn act(sender: &mut Sender, step: Step, number: u32) -> Option<u64> {
    let bytes = number.to_le_bytes();
    let (result, positions) = match step {
        Step::Inline => (sender.send(meta(number), &bytes, WhenFull::Reject), 1),
        Step::Timed => {
            let timing = Timing { deadline_ns: number.into(), ..Timing::default() };
            (sender.send_timed(meta(number), &bytes, timing, WhenFull::Reject), 2)
        }
        Step::Large(length) => {
            let filling = vec![number as u8; length];
            let header = Header::new(Kind::Event);
            let parts: [&[u8]; 2] = [&bytes, &filling];
            let large = Large { header: Some(&header), meta: meta(number), parts: &parts };
            (sender.send_large(large, WhenFull::Reject), 1)
        }
        Step::Receive(_) => panic!("no message"),
    };
    match result {
        Ok(()) => Some(positions),
        Err(SendError::Full) => None,
        Err(other) => panic!("{other}"),
    }
}

/// The number of a whole message, and how many positions it had.
fn read(message: &Message<'_>) -> (u32, u64) {
    let number = message.meta.correlation;
    let (first, filling) = message.payload.split_first_chunk().unwrap();
    assert_eq!(u32::from_le_bytes(*first), number, "torn");
    assert!(filling.iter().all(|byte| *byte == number as u8), "torn");
    let deadline = message.timing.map(|timing| timing.deadline_ns);
    assert!(deadline.is_none_or(|deadline| deadline == u64::from(number)), "another's second line");
    (number, if message.meta.has(FLAG_TWO_LINES) { 2 } else { 1 })
}

/// What a reader of a topic has seen.
#[derive(Default)]
struct Seen {
    next: u32,
    positions: u64,
    lost: u64,
}

impl Seen {
    /// One look; false where there was nothing.
    fn look(&mut self, receiver: &mut Receiver) -> bool {
        match receiver.try_receive() {
            Ok(None) => return false,
            Ok(Some(message)) => {
                let (number, positions) = read(&message);
                assert!(number >= self.next, "out of order");
                self.next = number + 1;
                self.positions += positions;
            }
            Err(ReceiveError::Lost(count)) => self.lost += count,
            Err(other) => panic!("{other}"),
        }
        true
    }
}

proptest! {
    /// Whoever is slow loses, and knows exactly how much; whoever is not loses nothing.
    #[test]
    fn lossy_topic_accounts_for_every_position(steps in prop::collection::vec(step(), 0..200)) {
        let mut sender = topic(TopicPolicy::Lossy);
        let mut readers = [AgentId(1), AgentId(2)].map(|id| (join(&mut sender, id), Seen::default()));
        let (mut number, mut sent) = (0, 0);
        for step in steps {
            if let Step::Receive(index) = step {
                let (receiver, seen) = &mut readers[index];
                seen.look(receiver);
                continue;
            }
            let taken = act(&mut sender, step, number);
            prop_assert!(taken.is_some(), "a lossy topic is never full");
            sent += taken.unwrap();
            number += 1;
        }
        for (receiver, seen) in &mut readers {
            while seen.look(receiver) {}
            prop_assert_eq!(seen.positions + seen.lost, sent);
            prop_assert_eq!(sender.counters().position, sent);
            if seen.lost == 0 {
                prop_assert_eq!(seen.next, number);
            }
            receiver.publish();
            let counters = receiver.memory().counters();
            prop_assert_eq!((counters.position, counters.lost), (sent, seen.lost));
        }
    }

    /// Nobody loses anything, and the writer is refused only where the slowest has not made room.
    #[test]
    fn lossless_topic_gives_everything_to_everybody(steps in prop::collection::vec(step(), 0..200)) {
        let mut sender = topic(TopicPolicy::Lossless);
        let mut readers = [AgentId(1), AgentId(2)].map(|id| (join(&mut sender, id), Seen::default()));
        let mut number = 0;
        for step in steps {
            if let Step::Receive(index) = step {
                let (receiver, seen) = &mut readers[index];
                seen.look(receiver);
                receiver.publish();
                continue;
            }
            let all_read = readers.iter().all(|(_, seen)| seen.next == number);
            match act(&mut sender, step, number) {
                Some(_) => number += 1,
                None => prop_assert!(!all_read, "there is room for everything"),
            }
        }
        for (receiver, seen) in &mut readers {
            while seen.look(receiver) {}
            prop_assert_eq!((seen.next, seen.lost), (number, 0));
            prop_assert_eq!(seen.positions, sender.counters().position);
        }
        prop_assert_eq!(sender.next_detached(), None);
    }
}
