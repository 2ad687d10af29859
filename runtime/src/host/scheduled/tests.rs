//! The host with a directory that a daemon writes, and without one.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipc::directory::{MachineEntry, RouterEntry, Writer};

use super::*;
use crate::machine::monotonic_ns;

fn settings() -> Settings {
    let home = |name: &str| (name == "HOME").then(|| "/nonexistent".into());
    let flags = crate::config::Flags::default();
    crate::config::Config::load(&flags, &home).unwrap().settings
}

fn warm(heavy: bool) -> MachineEntry {
    let state = if heavy { 1 } else { 3 };
    MachineEntry {
        decided_ns: monotonic_ns(),
        state,
        heavy,
        slots: [2, 0, 0],
        ..MachineEntry::default()
    }
}

fn hosted(writer: &Writer) -> ScheduledHost {
    let host = ScheduledHost::new(&settings());
    host.set_directory(Reader::open(writer.as_fd().try_clone_to_owned().unwrap()).unwrap());
    host
}

#[test]
fn every_kind_of_work_is_done_and_can_be_done_again() {
    let host = ScheduledHost::new(&settings());
    let done = AtomicUsize::new(0);
    for work in [Work::Resolve, Work::Unpack, Work::Scan, Work::Background] {
        for _ in 0..2 {
            host.run(&Order::default(), work, 10, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    }
    assert_eq!(done.into_inner(), 80);
    for undertaking in [Undertaking::Download, Undertaking::Heavy] {
        assert!(host.begin(&Order::default(), undertaking).is_some());
    }
}

#[test]
fn a_host_without_work_has_looked_at_nothing() {
    let host = ScheduledHost::new(&settings());
    assert_eq!(host.report(), WorkReport::default());
    assert!(host.working.get().is_none());
}

#[test]
fn what_the_daemon_decides_holds_here_and_a_silent_one_allows_little() {
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    let host = hosted(&writer);
    let heavy = || {
        let cancellation = agents_contract::Cancellation::until(None);
        cancellation.cancel();
        let order = Order { cancellation, ..Order::default() };
        host.begin(&order, Undertaking::Heavy).is_some()
    };
    assert!(!heavy(), "nobody has decided");
    writer.show_machine(&warm(true));
    assert!(heavy());
    writer.show_machine(&warm(false));
    assert!(!heavy());
    writer.show_machine(&warm(true));
    assert!(heavy());
    let long_ago = monotonic_ns().saturating_sub(60_000_000_000).max(1);
    writer.show_machine(&MachineEntry { decided_ns: long_ago, ..warm(true) });
    assert!(!heavy(), "the daemon is gone");
    assert!(host.report().deferred.iter().sum::<u64>() >= 3);
}

#[test]
fn a_daemon_that_falls_silent_leaves_no_more_than_it_allowed_last() {
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    let deciding = |slots: [usize; 3]| {
        let [performance, efficient, low_power] = slots;
        let slots = Slots { performance, efficient, low_power };
        let state = State::Blind;
        Decision { state, slots, heavy: false, background: Background::Efficient }
    };
    let careful = deciding([1, 7, 0]);
    let (_, machine, _) = Keeper::new(&settings().root(), Pinning::Off);
    let pools = Pools::new(careful, machine);
    let reader = Reader::open(writer.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let view = View::of_daemon(reader, careful);
    let followed = |view: &View| {
        view.follow(&pools);
        let Slots { performance, efficient, low_power } = pools.decision().slots;
        [performance, efficient, low_power]
    };
    assert_eq!(followed(&view), [1, 7, 0], "nothing was ever heard");
    let (recent, long_ago) = (monotonic_ns(), monotonic_ns().saturating_sub(60_000_000_000).max(1));
    for (index, (slots, left)) in
        [([1, 0, 0], [1, 0, 0]), ([1, 2, 2], [1, 2, 0]), ([6, 8, 2], [1, 7, 0])]
            .into_iter()
            .enumerate()
    {
        let decided_ns = recent + index as u64;
        let entry = MachineEntry { decided_ns, slots, background: 2, ..warm(true) };
        writer.show_machine(&entry);
        assert_eq!(followed(&view), slots.map(|slots| slots as usize));
        writer.show_machine(&MachineEntry { decided_ns: long_ago, ..entry });
        assert_eq!(followed(&view), left, "{slots:?}");
        assert_eq!(pools.decision().background, Background::Paused);
    }
    view.set_careful(deciding([1, 3, 0]), &pools);
    assert_eq!(followed(&view), [1, 3, 0], "a smaller machine");
}
