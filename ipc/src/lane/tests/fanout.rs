//! One writer and many readers: late ones, sleeping ones, slow ones; every position accounted for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::limits::READERS_LOOKED_AT_MAX;

const SLOTS: usize = 32;

fn keeping(policy: TopicPolicy, messages: u32) -> Sender {
    let mut sender = Sender::for_topic(options(SLOTS, 4096), policy).unwrap();
    sender.set_history(messages);
    sender
}

fn begin(sender: &Sender, start: Start, spin: Spin) -> Receiver {
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    Receiver::for_topic(WRITER, slots, region, None, start, spin).unwrap()
}

fn drain(receiver: &mut Receiver) -> Vec<u32> {
    std::iter::from_fn(|| take(receiver)).collect()
}

/// All that is there, and how many lines were lost before and in between.
fn drain_lossy(receiver: &mut Receiver) -> (Vec<u32>, u64) {
    let (mut there, mut lost) = (Vec::new(), 0);
    loop {
        match receiver.try_receive() {
            Ok(Some(message)) => there.push(message.meta.correlation),
            Ok(None) => return (there, lost),
            Err(ReceiveError::Lost(count)) => lost += count,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn late_reader_is_given_the_last_messages_and_no_more() {
    for (sent, kept, expected) in [(0, 5, 0), (3, 5, 3), (5, 5, 5), (100, 5, 5), (9, 1, 1)] {
        let mut sender = keeping(TopicPolicy::Lossy, kept);
        for number in 0..sent {
            send(&mut sender, number).unwrap();
        }
        let mut late = begin(&sender, Start::History, Spin::Adaptive);
        assert_eq!(late.is_behind_join(), expected > 0);
        assert_eq!(drain(&mut late), (sent - expected..sent).collect::<Vec<_>>());
        assert!(!late.is_behind_join());
        let mut live = begin(&sender, Start::Live, Spin::Adaptive);
        assert!(drain(&mut live).is_empty());
        send(&mut sender, sent).unwrap();
        assert_eq!((drain(&mut late), drain(&mut live)), (vec![sent], vec![sent]));
    }
}

#[test]
fn history_is_at_most_half_of_the_ring() {
    let mut sender = keeping(TopicPolicy::Lossless, 1_000);
    for number in 0..200 {
        send(&mut sender, number).unwrap();
    }
    let mut late = begin(&sender, Start::History, Spin::Adaptive);
    assert_eq!(drain(&mut late).len(), SLOTS / 2);
}

#[test]
fn large_messages_of_the_history_are_whole_or_said_to_be_lost() {
    let mut sender = keeping(TopicPolicy::Lossless, 4);
    for number in 0..6u32 {
        let payload = vec![number as u8; 1_500];
        let large = Large { header: None, meta: meta(number), parts: &[&payload] };
        sender.send_large(large, WhenFull::Reject).unwrap();
    }
    // The region of 4,096 bytes has the last two.
    let mut late = begin(&sender, Start::History, Spin::Adaptive);
    for _ in 0..2 {
        assert_eq!(late.try_receive(), Err(ReceiveError::Lost(1)));
    }
    for number in 4..6u32 {
        assert_eq!(late.try_receive().unwrap().unwrap().payload, vec![number as u8; 1_500]);
    }
    assert_eq!((late.received(), late.lost()), (2, 2));
}

#[test]
fn a_history_longer_than_the_ring_is_given_as_far_as_it_is_whole_and_the_rest_is_counted() {
    const SMALL: u32 = 7;
    let mut sender = keeping(TopicPolicy::Lossless, SMALL + 1);
    // Of so many chunks that it does not stand in the ring beside the small ones.
    let chunks = SLOTS as u64 - 3;
    let payload = vec![1; 2_048 * chunks as usize];
    let large = Large { header: None, meta: meta(99), parts: &[&payload] };
    sender.send_large(large, WhenFull::Reject).unwrap();
    for number in 0..SMALL {
        send(&mut sender, number).unwrap();
    }
    let mut late = begin(&sender, Start::History, Spin::Adaptive);
    assert!(late.is_behind_join());
    let joined_at = late.joined_at();
    assert_eq!(drain_lossy(&mut late), ((0..SMALL).collect(), chunks));
    assert_eq!(late.lost(), chunks, "fewer came than are kept");
    assert_eq!(late.position(), joined_at + u64::from(SMALL) + late.lost());
    let mut live = begin(&sender, Start::Live, Spin::Adaptive);
    assert_eq!(drain_lossy(&mut live), (vec![], 0));
    send(&mut sender, SMALL).unwrap();
    assert_eq!((drain(&mut late), drain(&mut live)), (vec![SMALL], vec![SMALL]));
}

#[test]
fn reader_goes_on_where_the_one_before_it_stopped_and_hears_how_much_it_missed() {
    for (away, lost) in [(3, 0), (SLOTS as u32, 0), (SLOTS as u32 + 1, 9), (500, 475)] {
        let mut sender = keeping(TopicPolicy::Lossless, 0);
        let mut first = begin(&sender, Start::Live, Spin::Adaptive);
        sender.attach(READER, copy(first.cursor_fd()), None).unwrap();
        for number in 0..10 {
            send(&mut sender, number).unwrap();
        }
        assert_eq!(drain(&mut first).len(), 10);
        first.commit();
        let position = first.counters_of_cursor();
        sender.detach(READER);
        drop(first);
        for number in 10..10 + away {
            send(&mut sender, number).unwrap();
        }
        let mut second = begin(&sender, Start::At(position), Spin::Adaptive);
        let (rest, missed) = drain_lossy(&mut second);
        assert_eq!(missed, lost);
        let expected: Vec<u32> = (10 + lost as u32..10 + away).collect();
        assert_eq!(rest, expected, "{away}");
    }
}

impl Receiver {
    fn counters_of_cursor(&self) -> u64 {
        self.memory().counters().position
    }
}

#[test]
fn reader_that_slept_before_it_was_attached_is_woken() {
    let mut sender = topic(TopicPolicy::Lossless);
    let mut reader = begin(&sender, Start::Live, Spin::None);
    let cursor = copy(reader.cursor_fd());
    std::thread::scope(|scope| {
        let deadline = Some(Instant::now() + Duration::from_secs(20));
        let received = scope.spawn(move || reader.receive(deadline).map(|_| ()));
        while !crate::segment::Cursor::open(copy(cursor.as_fd())).unwrap().is_asleep() {
            std::thread::yield_now();
        }
        // Nobody knows of the reader yet, so nobody wakes it.
        send(&mut sender, 1).unwrap();
        sender.attach(READER, cursor, None).unwrap();
        received.join().unwrap().unwrap();
    });
}

/// Sleeping readers in numbers, a writer that pauses at random: a wake-up that gets lost ends at the deadline.
#[test]
fn many_sleeping_readers_hear_of_everything() {
    const COUNT: u32 = 3_000;
    for readers in [1, READERS_LOOKED_AT_MAX, 12] {
        let mut sender = Sender::for_topic(options(256, 4096), TopicPolicy::Lossless).unwrap();
        let spins = [Spin::None, Spin::Adaptive, Spin::None];
        let joined: Vec<Receiver> = (0..readers)
            .map(|index| {
                let reader = begin(&sender, Start::Live, spins[index % 3]);
                let id = AgentId(index as u32);
                sender.attach(id, copy(reader.cursor_fd()), None).unwrap();
                reader
            })
            .collect();
        std::thread::scope(|scope| {
            for mut reader in joined {
                scope.spawn(move || {
                    let deadline = Some(Instant::now() + Duration::from_secs(60));
                    for number in 0..COUNT {
                        let message = reader.receive(deadline).unwrap();
                        assert_eq!(message.meta.correlation, number);
                    }
                });
            }
            let mut random = 0x9E37_79B9u32;
            for number in 0..COUNT {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match random >> 28 {
                    0 => std::thread::sleep(Duration::from_micros(200)),
                    1..4 => {
                        let pause = Instant::now() + Duration::from_micros(u64::from(random >> 24));
                        while Instant::now() < pause {
                            std::hint::spin_loop();
                        }
                    }
                    _ => {}
                }
                sender.send(meta(number), &number.to_le_bytes(), soon()).unwrap();
            }
        });
    }
}

#[test]
fn reader_that_never_reads_is_let_go_of_when_patience_ends() {
    let mut sender = topic(TopicPolicy::Lossless);
    sender.set_patience(Some(Duration::from_millis(20)));
    let mut honest = join(&mut sender, AgentId(1));
    let mut idle = join(&mut sender, AgentId(2));
    for number in 0..100 {
        sender.send(meta(number), &number.to_le_bytes(), soon()).unwrap();
        assert_eq!(take(&mut honest), Some(number));
    }
    let dropped = DetachedReader { reader: AgentId(2), cause: DetachCause::TooSlow };
    assert_eq!((sender.next_detached(), sender.next_detached()), (Some(dropped), None));
    assert_eq!(sender.readers(), 1);
    let (rest, lost) = drain_lossy(&mut idle);
    assert!(lost > 0, "it was lapped");
    assert_eq!(rest.len() as u64 + lost, 100);
}

/// While one reader stands still the writer looks at no other cursor; those that read on meanwhile are not its like.
#[test]
fn reader_that_read_on_while_another_stood_still_is_kept() {
    let mut sender = topic(TopicPolicy::Lossless);
    sender.set_patience(Some(Duration::from_millis(5)));
    // First, so that of two at the same place it is taken for the slowest.
    let _idle = join(&mut sender, AgentId(2));
    let mut honest = join(&mut sender, AgentId(1));
    for number in 0..SLOTS_MIN as u32 {
        send(&mut sender, number).unwrap();
    }
    assert_eq!(send(&mut sender, 8), Err(SendError::Full), "now both are known to be at the start");
    assert_eq!(drain(&mut honest).len(), SLOTS_MIN);
    sender.send(meta(8), &8u32.to_le_bytes(), soon()).unwrap();
    assert_eq!(sender.readers(), 1);
    assert_eq!(sender.next_detached().map(|detached| detached.reader), Some(AgentId(2)));
    assert_eq!(drain(&mut honest), [8]);
}

#[test]
fn patience_counts_over_calls_that_do_not_wait() {
    let mut sender = topic(TopicPolicy::Lossless);
    sender.set_patience(Some(Duration::from_millis(5)));
    let _idle = join(&mut sender, AgentId(2));
    let until = Instant::now() + Duration::from_secs(20);
    let mut sent = 0;
    while sent < 100 {
        sent += u32::from(send(&mut sender, sent).is_ok());
        assert!(Instant::now() < until, "held up for ever");
    }
    assert_eq!(sender.readers(), 0);
}

#[test]
fn what_was_sent_since_a_refusal_is_no_waiting() {
    let mut sender = topic(TopicPolicy::Lossless);
    let patience = Duration::from_millis(5);
    sender.set_patience(Some(patience));
    let _idle = join(&mut sender, AgentId(2));
    let large = Large { header: None, meta: Meta::default(), parts: &[&[1; 2_000]] };
    while sender.send_large(large, WhenFull::Reject).is_ok() {}
    let refused = Instant::now();
    send(&mut sender, 1).unwrap();
    while refused.elapsed() < patience {}
    // The region is still full, and this message is held up only now.
    assert_eq!(sender.send_large(large, WhenFull::Reject), Err(SendError::Full));
    assert_eq!(sender.readers(), 1);
}

#[test]
fn lossless_topic_without_patience_is_full_until_the_deadline() {
    let mut sender = topic(TopicPolicy::Lossless);
    let _idle = join(&mut sender, AgentId(2));
    let when = || WhenFull::WaitUntil(Instant::now() + Duration::from_millis(5));
    let full = (0..100).map(|number| sender.send(meta(number), b"", when()));
    assert_eq!(full.filter(|sent| *sent == Err(SendError::Full)).count(), 100 - SLOTS_MIN);
    assert_eq!(sender.readers(), 1);
}

/// Readers join again and again while the writer goes on at full speed.
#[test]
fn readers_that_join_under_load_see_whole_messages_in_order_and_count_what_they_missed() {
    const COUNT: u32 = 300_000;
    let mut sender = Sender::for_topic(options(64, 4096), TopicPolicy::Lossy).unwrap();
    sender.set_history(10);
    let (slots, region) = (copy(sender.slots_fd()), copy(sender.region_fd()));
    let done = AtomicBool::new(false);
    let joins = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                send(&mut sender, number).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let parts = (copy(slots.as_fd()), copy(region.as_fd()));
            let start = Start::History;
            let reader = Receiver::for_topic(WRITER, parts.0, parts.1, None, start, Spin::Adaptive);
            let mut reader = reader.unwrap();
            let mut next = reader.joined_at();
            for _ in 0..200 {
                match reader.try_receive() {
                    Ok(Some(message)) => {
                        let number = u32::from_le_bytes(message.payload.try_into().unwrap());
                        assert_eq!(message.meta.correlation, number, "torn");
                        assert_eq!(u64::from(number), next, "in order, none twice, gaps exact");
                        next += 1;
                    }
                    Ok(None) => {}
                    Err(ReceiveError::Lost(lost)) => next += lost,
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!(reader.received() + reader.lost(), next - reader.joined_at());
            joins.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(joins.load(Ordering::Relaxed) > 0);
}

/// What a step of the property below does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Inline,
    Timed,
    Large(usize),
    Join(u8),
    Leave(u8),
    Read(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Inline),
        2 => Just(Step::Timed),
        2 => (1usize..1_900).prop_map(Step::Large),
        2 => any::<u8>().prop_map(Step::Join),
        1 => any::<u8>().prop_map(Step::Leave),
        8 => any::<(u8, u8)>().prop_map(|(reader, count)| Step::Read(reader, count % 24)),
    ]
}

/// A reader beside what an oracle says that it must see.
struct Watched {
    id: AgentId,
    receiver: Receiver,
    /// The line that it must see next.
    next: u64,
}

/// All that was ever sent: the line at which each message begins, its lines, its number.
type Sent = Vec<(u64, u64, u32)>;

impl Watched {
    fn read(&mut self, sent: &Sent) {
        match self.receiver.try_receive() {
            Ok(None) => {
                let end = sent.last().map_or(0, |(start, lines, _)| start + lines);
                assert_eq!(self.next, end, "nothing is there only where everything was read");
            }
            Ok(Some(message)) => {
                let at = sent.binary_search_by_key(&self.next, |(start, ..)| *start);
                let (_, lines, number) = sent[at.expect("a message begins where the reader is")];
                assert_eq!(message.meta.correlation, number);
                let first = message.payload[0];
                assert!(message.payload.iter().all(|byte| *byte == first), "torn");
                assert_eq!(first, number as u8);
                self.next += lines;
            }
            Err(ReceiveError::Lost(lost)) => self.next += lost,
            Err(other) => panic!("{other}"),
        }
        assert_eq!(self.receiver.position(), self.next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever joins, reads and leaves in whatever order: each reader sees the messages from where it joined in their order,
    /// each whole and once, and every line in between is counted.
    #[test]
    fn received_and_lost_are_all_that_was_published(
        lossless in any::<bool>(),
        kept in 0u32..20,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let policy = if lossless { TopicPolicy::Lossless } else { TopicPolicy::Lossy };
        let mut sender = keeping(policy, kept);
        let mut sent: Sent = Vec::new();
        let mut readers: Vec<Watched> = Vec::new();
        let mut position = 0;
        for (index, step) in steps.into_iter().enumerate() {
            let number = index as u32;
            let done = match step {
                Step::Inline => Some((sender.send(meta(number), &[number as u8; 9], WhenFull::Reject), 1)),
                Step::Timed => {
                    let (timing, when) = (Timing::default(), WhenFull::Reject);
                    Some((sender.send_timed(meta(number), &[number as u8; 9], timing, when), 2))
                }
                Step::Large(bytes) => {
                    let payload = vec![number as u8; bytes];
                    let large = Large { header: None, meta: meta(number), parts: &[&payload] };
                    Some((sender.send_large(large, WhenFull::Reject), 1))
                }
                Step::Join(how) => {
                    let start = match how % 3 {
                        0 => Start::Live,
                        1 => Start::History,
                        _ => Start::At(position - u64::from(how).min(position)),
                    };
                    let receiver = begin(&sender, start, Spin::Adaptive);
                    let next = match start {
                        Start::Live => position,
                        Start::At(position) => position,
                        Start::History => {
                            let first = sent.len().saturating_sub(kept.min(16) as usize);
                            sent.get(first).map_or(position, |(start, ..)| *start)
                        }
                    };
                    prop_assert_eq!(receiver.joined_at(), next);
                    let id = AgentId(number);
                    sender.attach(id, copy(receiver.cursor_fd()), None).unwrap();
                    // One that begins in the middle of a message hears of it as lost.
                    readers.push(Watched { id, receiver, next });
                    None
                }
                Step::Leave(which) if !readers.is_empty() => {
                    let left = readers.swap_remove(usize::from(which) % readers.len());
                    sender.detach(left.id);
                    None
                }
                Step::Read(which, count) if !readers.is_empty() => {
                    let which = usize::from(which) % readers.len();
                    (0..count).for_each(|_| readers[which].read(&sent));
                    None
                }
                Step::Leave(_) | Step::Read(..) => None,
            };
            match done {
                Some((Ok(()), lines)) => {
                    sent.push((position, lines, number));
                    position += lines;
                }
                Some((Err(error), _)) => {
                    prop_assert!(lossless && error == SendError::Full, "{:?}", error);
                    // Those that are far behind are read to the end, so that it goes on.
                    for reader in &mut readers {
                        while reader.next < position {
                            reader.read(&sent);
                        }
                        reader.receiver.commit();
                    }
                }
                None => {}
            }
        }
        for mut reader in readers {
            while reader.next < position {
                reader.read(&sent);
            }
            let advanced = reader.next - reader.receiver.joined_at();
            prop_assert!(reader.receiver.lost() <= advanced);
        }
    }
}

#[test]
fn what_a_batch_took_before_an_error_counts_and_the_error_comes_next() {
    let mut sender = keeping(TopicPolicy::Lossy, 0);
    let mut reader = begin(&sender, Start::Live, Spin::Adaptive);
    send(&mut sender, 0).unwrap();
    for number in 1..4u32 {
        let payload = vec![number as u8; 1_500];
        let large = Large { header: None, meta: meta(number), parts: &[&payload] };
        sender.send_large(large, WhenFull::Reject).unwrap();
    }
    // The region of 4,096 bytes has the last two.
    let mut seen = Vec::new();
    let mut batch = |reader: &mut Receiver| {
        reader.receive_batch(10, |message| seen.push(message.meta.correlation))
    };
    assert_eq!(batch(&mut reader), Ok(1));
    assert!(!reader.arm(), "there is something to be told");
    assert_eq!(batch(&mut reader), Err(ReceiveError::Lost(1)));
    assert_eq!(batch(&mut reader), Ok(2));
    assert_eq!(seen, [0, 2, 3]);
}
