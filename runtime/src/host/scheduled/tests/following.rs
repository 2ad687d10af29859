//! Several threads that follow the daemon, and what of their work the governor hears.

use std::cell::{Cell, RefCell};

use super::super::followed::Followed;
use super::super::keeper::load_of;
use super::*;

fn deciding(decided_ns: u64, performance: u32) -> MachineEntry {
    MachineEntry { decided_ns, slots: [performance, 0, 0], ..warm(true) }
}

/// A time of decisions that are not too old, however long a test is held up.
fn ahead_ns() -> u64 {
    monotonic_ns() + 3_600_000_000_000
}

fn pools() -> Pools {
    let (_, machine, careful) = Keeper::new(&settings().root(), Pinning::Off);
    Pools::new(careful, machine)
}

#[test]
fn a_thread_that_was_held_up_does_not_bring_an_older_decision_back() {
    let pools = pools();
    let followed = Followed::new(pools.decision());
    let now = ahead_ns();
    let (older, newer) = (deciding(now, 6), deciding(now + 1, 2));
    let (written, is_first) = (RefCell::new(older), Cell::new(true));
    // Between the look of one thread and whatever follows it the daemon decides anew, and another thread follows that.
    let read = || {
        let seen = *written.borrow();
        if is_first.replace(false) {
            *written.borrow_mut() = newer;
            followed.follow(|| Some(*written.borrow()), &pools);
            assert_eq!(pools.decision().slots.performance, 2);
        }
        Some(seen)
    };
    followed.follow(read, &pools);
    assert_eq!(pools.decision().slots.performance, 2, "the newer one holds");
}

#[test]
fn whoever_follows_last_has_what_was_decided_last() {
    let pools = &pools();
    let followed = &Followed::new(pools.decision());
    let start = ahead_ns();
    let decided = &AtomicUsize::new(0);
    let read = || {
        let slots = decided.load(Ordering::Acquire) as u32;
        Some(deciding(start + u64::from(slots), slots))
    };
    followed.follow(read, pools);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 16 {
                    followed.follow(read, pools);
                    let slots = pools.decision().slots.performance;
                    // Of what one thread sees nothing goes backwards.
                    assert!(slots >= last, "{slots} after {last}");
                    last = slots;
                }
            });
        }
        for slots in 1..=16 {
            decided.store(slots, Ordering::Release);
            std::thread::yield_now();
        }
    });
    assert_eq!(pools.decision().slots.performance, 16);
}

/// What a thread logs, line by line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Those that `code` logs on this thread.
    fn of(code: impl FnOnce()) -> Vec<String> {
        let lines = Self::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
        tracing::subscriber::with_default(log.finish(), code);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_daemon_that_falls_silent_again_and_again_is_told_of_now_and_then() {
    const SILENCES: usize = 50;
    let pools = pools();
    let followed = Followed::new(pools.decision());
    let began = std::time::Instant::now();
    let lines = Lines::of(|| {
        for silence in 0..SILENCES {
            // Nobody says that it is silent still.
            (0..3).for_each(|_| followed.follow(|| None, &pools));
            assert_eq!(pools.decision().state, State::Blind);
            followed.follow(|| Some(deciding(ahead_ns() + silence as u64, 2)), &pools);
            assert_ne!(pools.decision().state, State::Blind);
        }
    });
    let said = "the daemon does not say what may run: little does until then";
    assert!(lines.iter().all(|line| line.contains("WARN") && line.contains(said)), "{lines:#?}");
    let minutes = 1 + began.elapsed().as_secs() as usize / 60;
    let most = crate::limits::LINES_PER_PERIOD_MAX * minutes;
    assert!((1..=most.min(SILENCES - 1)).contains(&lines.len()), "{lines:#?}");
    assert!(lines[0].contains("left_out=0"), "{lines:#?}");
}

#[test]
fn who_waits_for_heat_or_for_a_file_does_not_ask_for_slots() {
    let pools = pools();
    let hot = Decision { heavy: false, ..pools.decision() };
    pools.set_decision(Decision { state: State::Normal, ..hot });
    let order = admission::Order { requester: Arc::from("a"), priority: 5, waited: Duration::ZERO };
    let files: Vec<_> = (0..scheduler::limits::DOWNLOADS_MAX)
        .map(|_| pools.begin(&order, Begun::Download, &|| true, &|_| {}).unwrap())
        .collect();
    let is_wanted = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let begin = |what| {
            let (pools, order, is_wanted) = (&pools, &order, &is_wanted);
            scope.spawn(move || {
                let is_wanted = || is_wanted.load(Ordering::Relaxed);
                assert!(pools.begin(order, what, &is_wanted, &|_| {}).is_none());
            });
        };
        begin(Begun::Heavy);
        begin(Begun::Download);
        let deferred = || pools.report().deferred[admission::Reason::Heat as usize].waiting;
        while deferred() < 1 || pools.transfers().waiting < 1 {
            std::thread::yield_now();
        }
        let load = load_of(&pools);
        is_wanted.store(false, Ordering::Relaxed);
        assert!(!load.is_waiting && load.in_flight.sum() == 0, "{load:?}");
    });
    drop(files);
    assert!(pools.is_idle());
}
