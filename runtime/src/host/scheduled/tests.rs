//! The host with a directory that a daemon writes, and without one.

mod files;
mod following;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use agents_contract::{Agent, Caller, Cancellation, Conversation, Request};
use agents_packager::api::{PlanRequest, Setting};
use agents_packager::ecosystem::Ecosystem;
use agents_packager::service::{Packager, Places, Policy};
use agents_packager::unpack::Unpacker;
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
        assert!(host.begin(&Order::default(), undertaking, &|_| {}).is_some());
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
        host.begin(&order, Undertaking::Heavy, &|_| {}).is_some()
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

/// Somebody who only waits for the answer.
struct Patient;

impl Conversation for Patient {
    fn progress(&self, _: &[u8]) {}
    fn cancellation(&self) -> &Cancellation {
        Cancellation::NEVER
    }
    fn publish(&self, _: &str, _: &[u8]) {}
}

/// Asks for a plan with the package `name`, in a project of its own; gives how it was refused.
fn plan(packager: &Packager, registry: &str, home: &Path, name: &str) -> String {
    let project = home.join(name);
    std::fs::create_dir(&project).unwrap();
    let setting = Setting {
        registry: BTreeMap::from([(Ecosystem::Npm, registry.to_owned())]),
        variables: BTreeMap::from([("HOME".to_owned(), home.to_string_lossy().into_owned())]),
        ..Setting::default()
    };
    let asked = PlanRequest { add: vec![format!("npm:{name}")], setting, ..PlanRequest::default() };
    let mut payload = Vec::new();
    ciborium::into_writer(&asked, &mut payload).unwrap();
    let uid = rustix::process::getuid().as_raw();
    let request = Request {
        tool: "pkg.plan".to_owned(),
        payload,
        directory: Some(std::fs::File::open(&project).unwrap().into()),
        caller: Caller { name: name.to_owned(), uid, pid: std::process::id() },
        priority: 5,
        deadline: None,
    };
    packager.call(request, &Patient).unwrap_err().code
}

#[test]
fn two_plans_wait_for_a_silent_registry_at_the_same_time_with_one_slot() {
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    writer.show_machine(&MachineEntry { slots: [1, 0, 0], ..warm(true) });
    let host = Arc::new(hosted(&writer));
    let place = tempfile::tempdir().unwrap();
    let places = Places { state: place.path().join("state"), cache: place.path().join("cache") };
    let packager =
        Packager::new(&places, Policy::default(), Unpacker::here(), host.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = format!("http://{}/", listener.local_addr().unwrap());
    let codes = std::thread::scope(|scope| {
        let names = ["first", "second"];
        let (packager, registry, home) = (&packager, &registry, place.path());
        let plans = names.map(|name| scope.spawn(move || plan(packager, registry, home, name)));
        // Nobody is told anything before both have asked.
        let mut asked: BTreeMap<String, TcpStream> = BTreeMap::new();
        while asked.len() < names.len() {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(&stream).lines().map_while(|line| line.ok());
            let Some(first) = lines.next() else { continue };
            lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
            asked.insert(first, stream);
        }
        // The bytes may be faster than the thread that goes to wait for their answer.
        while host.report().running != [0; 4] {
            std::thread::yield_now();
        }
        for mut stream in asked.into_values() {
            let answer = "HTTP/1.1 404 Test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
        plans.map(|plan| plan.join().unwrap())
    });
    assert_eq!(codes, ["unknown-package", "unknown-package"]);
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

#[test]
fn who_waits_for_heat_is_told_for_how_long_at_most() {
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    writer.show_machine(&warm(false));
    let host = hosted(&writer);
    let (told, writer) = (Mutex::new(Vec::new()), Mutex::new(writer));
    let waits = |wait| {
        told.lock().unwrap().push(wait);
        writer.lock().unwrap().show_machine(&warm(true));
    };
    // The keeper hears of it.
    assert!(host.begin(&Order::default(), Undertaking::Heavy, &waits).is_some());
    let at_most = Some(std::time::Duration::from_secs(600));
    assert_eq!(told.into_inner().unwrap(), [Wait { obstacle: Obstacle::Heat, at_most }]);
}

#[test]
fn who_asks_again_waits_for_the_rest_of_the_time_and_is_counted_once() {
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    writer.show_machine(&warm(false));
    let host = hosted(&writer);
    let (told, writer) = (Mutex::new(Vec::new()), Mutex::new(writer));
    let waits = |wait: Wait| {
        told.lock().unwrap().push(wait);
        writer.lock().unwrap().show_machine(&warm(true));
    };
    let first = std::time::Instant::now() - Duration::from_secs(590);
    let again = Order { asked_at: Some(first), noted: vec![Obstacle::Heat], ..Order::default() };
    for order in [&Order::default(), &again] {
        writer.lock().unwrap().show_machine(&warm(false));
        assert!(host.begin(order, Undertaking::Heavy, &waits).is_some());
    }
    let told = told.into_inner().unwrap();
    assert_eq!(told[0].at_most, Some(Duration::from_secs(600)));
    assert!(told[1].at_most.unwrap() <= Duration::from_secs(10), "{told:?}");
    assert_eq!(host.report().deferred.iter().sum::<u64>(), 1, "it is one change");
}

#[test]
fn how_workers_are_pinned_follows_the_daemon() {
    use crate::machine::pinning_number;
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    let entry = |pinning| MachineEntry { pinning: pinning_number(pinning), ..warm(true) };
    writer.show_machine(&entry(Pinning::Strict));
    let reader = || Reader::open(writer.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let (_, _, decision) = Keeper::new(&settings().root(), Pinning::Off);
    let view = View::of_daemon(reader(), decision);
    assert_eq!(view.pinning(), Some(Pinning::Strict));
    writer.show_machine(&entry(Pinning::Off));
    assert_eq!(view.pinning(), Some(Pinning::Off));
    writer.show_machine(&warm(true));
    assert_eq!(view.pinning(), None, "an earlier daemon");
    assert_eq!(View::own(settings().root(), Thresholds::default()).pinning(), None);
}

#[test]
fn jobs_for_later_are_done_in_the_background_or_at_once_where_there_is_no_later() {
    let mut writer = Writer::create(RouterEntry::default()).unwrap();
    // Background work is paused.
    writer.show_machine(&MachineEntry { background: 2, ..warm(true) });
    let host = hosted(&writer);
    let done = Arc::new(Mutex::new(Vec::new()));
    let job = |name: &'static str| -> Job {
        let done = Arc::clone(&done);
        Box::new(move || {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            done.lock().unwrap().push((name, thread));
        })
    };
    host.later(Box::new(|| panic!("a job's own")));
    host.later(job("first"));
    host.later(job("second"));
    while host.report().waiting.iter().sum::<u32>() == 0 {
        std::thread::yield_now();
    }
    assert!(done.lock().unwrap().is_empty(), "it is not the time for it");
    writer.show_machine(&warm(true));
    while done.lock().unwrap().len() < 2 {
        std::thread::yield_now();
    }
    let by = |name| (name, "worker-idle-0".to_owned());
    assert_eq!(*done.lock().unwrap(), [by("first"), by("second")]);
    done.lock().unwrap().clear();
    let alone = ScheduledHost::new(&settings());
    alone.later(job("alone"));
    assert_eq!(done.lock().unwrap()[0].0, "alone");
    assert!(alone.working.get().is_none(), "nothing was made for it");
}
