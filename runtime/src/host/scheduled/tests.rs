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
fn whoever_waits_looks_at_the_daemon_often_and_at_its_own_sensor_no_oftener() {
    use crate::limits::{MACHINE_INTERVAL, MACHINE_INTERVAL_HOT, MACHINE_INTERVAL_WAITING};
    let writer = Writer::create(RouterEntry::default()).unwrap();
    let reader = Reader::open(writer.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let (_, _, decision) = Keeper::new(&settings().root(), Pinning::Off);
    let daemon = View::of_daemon(reader, decision);
    let own = View::own(settings().root(), Thresholds::default());
    for interval in [MACHINE_INTERVAL, MACHINE_INTERVAL_HOT] {
        assert_eq!(own.pace(interval, true), interval);
        assert_eq!(own.pace(interval, false), interval);
        assert_eq!(daemon.pace(interval, true), MACHINE_INTERVAL_WAITING);
        assert_eq!(daemon.pace(interval, false), interval);
    }
}
