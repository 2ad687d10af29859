//! Collections of garbage: what is needed stays, whoever needs it, and a collection that dies leaves a whole store.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use agents_contract::Cancellation;

use super::*;

const NEVER: &Cancellation = Cancellation::NEVER;

/// A package with some files of its own and one that all packages have.
fn package(number: usize) -> Vec<u8> {
    let own = format!("content of {number}").repeat(1_000);
    let more = format!("{number}");
    npm_package(&[("own", own.as_bytes()), ("more", more.as_bytes()), ("shared", b"the same")])
}

fn add(store: &Store, bytes: &[u8]) -> Hashes {
    let hashes = hashes(bytes);
    store.add_tarball(Source::Bytes(bytes), &hashes, "demo.tgz").expect("honest");
    hashes
}

fn nothing() -> Result<Vec<(Hashes, Form)>> {
    Ok(Vec::new())
}

fn collect(store: &Store, keep: &[&Hashes], bytes_max: u64) -> Collected {
    let keep: Vec<_> = keep.iter().map(|hashes| ((*hashes).clone(), Form::Npm)).collect();
    store.collect(&mut || Ok(keep.clone()), bytes_max, NEVER).expect("alone")
}

fn is_whole(store: &Store, hashes: &Hashes) -> bool {
    store.check(hashes, Form::Npm, true).is_some()
}

/// Everything that the index names is there, and right.
fn check_whole(store: &Store) {
    assert_eq!(store.verify(&mut || Ok(())).expect("a store"), 0);
}

/// Says that an artefact was used so long ago.
fn age(store: &Store, hashes: &Hashes, age: Duration) {
    for name in entry::names(hashes, Form::Npm) {
        let file = fs::File::open(store.root().join("index").join(name)).expect("there");
        let time = SystemTime::now() - age;
        file.set_times(fs::FileTimes::new().set_modified(time)).expect("ours");
    }
}

#[test]
fn what_is_needed_stays_and_the_rest_goes() {
    let (_place, store) = open();
    let (wanted, other) = (add(&store, &package(1)), add(&store, &package(2)));
    let second = Store::open(store.root()).expect("that it is open elsewhere is no matter");
    let done = collect(&store, &[&wanted], 0);
    assert_eq!((done.before.artefacts, done.before.artefacts_needed, done.artefacts), (2, 1, 1));
    assert_eq!(done.freed.files, 4, "two index entries and two files");
    assert!(done.freed.bytes > 10_000);
    assert!(is_whole(&store, &wanted) && is_whole(&second, &wanted));
    assert!(!store.has(&other, Form::Npm));
    // It is known by one digest only, too.
    for known in
        [Hashes { sha256: None, ..wanted.clone() }, Hashes { sha512: None, ..wanted.clone() }]
    {
        collect(&store, &[&known], 0);
        assert!(is_whole(&store, &known));
    }
}

#[test]
fn a_store_that_is_too_large_loses_what_was_used_longest_ago() {
    let (_place, store) = open();
    let all: Vec<Hashes> = (0..10).map(|number| add(&store, &package(number))).collect();
    for (hours, hashes) in all.iter().enumerate() {
        age(&store, hashes, Duration::from_secs(3_600 * (100 + hours as u64)));
    }
    let bytes = collect(&store, &[], u64::MAX).before.bytes;
    let done = collect(&store, &[], bytes);
    assert_eq!((done.artefacts, done.freed.files), (0, 0), "it is not too large");
    // Use is what counts, and the last one is needed.
    assert!(store.entry(&all[8], Form::Npm).is_some());
    let done = collect(&store, &[&all[9]], bytes / 2);
    let left: Vec<usize> = (0..10).filter(|index| store.has(&all[*index], Form::Npm)).collect();
    assert!(done.artefacts >= 5 && left.contains(&8) && left.contains(&9), "{left:?}");
    let oldest_left = *left.iter().find(|index| !matches!(index, 8 | 9)).unwrap_or(&0);
    assert_eq!(oldest_left, 0, "the others went by their age: {left:?}");
    assert!(collect(&store, &[], u64::MAX).before.bytes <= bytes / 2);
    check_whole(&store);
}

#[test]
fn garbage_goes_at_any_size() {
    let (_place, store) = open();
    let kept = add(&store, &package(1));
    let root = store.root();
    let orphan = root.join("files/ab").join("c".repeat(62));
    fs::create_dir_all(orphan.parent().expect("inside")).expect("space");
    for path in [orphan, root.join("tmp/1-2-3"), root.join("index/no-entry")] {
        fs::write(path, "x").expect("space");
    }
    fs::create_dir_all(root.join("index/zz")).expect("space");
    fs::write(root.join("index/zz/broken.npm"), "x").expect("space");
    let done = collect(&store, &[], u64::MAX);
    assert_eq!((done.artefacts, done.freed.files), (0, 3));
    assert!(is_whole(&store, &kept));
}

#[test]
fn a_lease_keeps_what_it_names_until_its_owner_is_gone() {
    let (_place, store) = open();
    let (bytes, other) = (package(1), add(&store, &package(2)));
    let hashes = hashes(&bytes);
    let lease = store.lease([(&hashes, Form::Npm)], NEVER).expect("space");
    // Also what comes only later.
    add(&store, &bytes);
    let elsewhere = Store::open(store.root()).expect("a second process");
    collect(&elsewhere, &[], 0);
    assert!(is_whole(&store, &hashes) && !store.has(&other, Form::Npm));
    drop(lease);
    let left = fs::read_dir(store.root().join("leases")).expect("there").count();
    assert_eq!(left, 0);
    // One that nobody has locked was left behind.
    let name = entry::names(&hashes, Form::Npm).remove(0);
    fs::write(store.root().join("leases/1-dead"), name).expect("space");
    collect(&elsewhere, &[], 0);
    assert!(!store.has(&hashes, Form::Npm));
    assert_eq!(fs::read_dir(store.root().join("leases")).expect("there").count(), 0);
}

#[test]
fn files_that_an_environment_has_take_no_space_and_stay_there() {
    let (place, store) = open();
    let store = store.with_mode(Wanted::Only(Mode::Link));
    let bytes = package(1);
    let entry =
        store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("honest");
    let before = collect(&store, &[], u64::MAX).before.bytes;
    let to = fresh(&place, "to");
    store.fill(&to, files_of(&entry), FillOptions::default()).expect("space");
    let after = collect(&store, &[], u64::MAX).before.bytes;
    assert!(after + 10_000 < before, "{before} {after}");
    collect(&store, &[], 0);
    assert_eq!(fs::read(to.join("shared")).expect("still there"), b"the same");
    assert_eq!(fs::read_dir(to).expect("there").count(), 4);
}

#[test]
fn a_collection_that_dies_anywhere_leaves_a_whole_store() {
    let mut point = 0;
    loop {
        let (_place, store) = open();
        let kept = add(&store, &package(0));
        (1..4).for_each(|number| drop(add(&store, &package(number))));
        store.removals_left.store(point, Ordering::Relaxed);
        let done = store.collect(&mut || Ok(vec![(kept.clone(), Form::Npm)]), 0, NEVER);
        store.removals_left.store(i64::MAX, Ordering::Relaxed);
        check_whole(&store);
        assert!(is_whole(&store, &kept));
        if done.is_ok() {
            break;
        }
        // The next one ends what was begun.
        collect(&store, &[&kept], 0);
        assert!(is_whole(&store, &kept));
        let folders = ["files", "lent"].map(|part| fs::read_dir(store.root().join(part)));
        let folders = folders.into_iter().flat_map(|listed| listed.expect("there").flatten());
        let files: usize =
            folders.map(|folder| fs::read_dir(folder.path()).expect("there").count()).sum();
        assert_eq!(files, 4, "nothing is left of the others");
        point += 1;
    }
    assert_eq!(point, 3 * 4, "two entries and two files of each");
}

#[test]
fn a_collection_waits_for_nobody_for_ever_and_lets_others_in_afterwards() {
    let (_place, store) = open();
    let elsewhere = Store::open(store.root()).expect("a second process");
    let inside = store.gate.enter(NEVER).expect("a lock");
    for other in [&store, &elsewhere] {
        let error = other.gate.enter_alone(Duration::from_millis(1)).expect_err("in use");
        assert_eq!((error.code.as_str(), error.retry), ("store-busy", true));
    }
    drop(inside);
    let alone = store.gate.enter_alone(Duration::from_millis(1)).expect("nobody is inside");
    assert!(elsewhere.gate.enter_alone(Duration::from_millis(1)).is_err());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| elsewhere.gate.enter(NEVER).map(drop));
        drop(alone);
        waits.join().expect("an end").expect("a lock");
    });
    drop(store.gate.enter(NEVER).expect("a lock"));
}

#[test]
fn nobody_waits_for_a_collection_for_ever_or_once_it_is_cancelled() {
    let (_place, store) = open();
    let elsewhere = Store::open(store.root()).expect("a second process");
    let _alone = store.gate.enter_alone(Duration::from_millis(1)).expect("nobody is inside");
    for other in [&store, &elsewhere] {
        let late = other.gate.enter_within(Duration::from_millis(1), NEVER).expect_err("in use");
        assert_eq!((late.code.as_str(), late.retry), ("store-busy", true));
        let cancellation = Cancellation::until(None);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| other.gate.enter(&cancellation).map(drop));
            cancellation.cancel();
            let error = waits.join().expect("an end").expect_err("nobody wants it");
            assert_eq!(error.code, "cancelled");
        });
    }
}

#[test]
fn a_collection_that_is_cancelled_removes_nothing_more() {
    let (_place, store) = open();
    let hashes = add(&store, &package(1));
    let cancellation = Cancellation::until(None);
    cancellation.cancel();
    let error = store.collect(&mut nothing, 0, &cancellation).expect_err("nobody wants it");
    assert_eq!(error.code, "cancelled");
    assert!(is_whole(&store, &hashes));
}

#[test]
fn a_verification_forgets_what_is_damaged_and_nothing_else() {
    let (_place, store) = open();
    let (good, bad) = (add(&store, &package(1)), add(&store, &package(2)));
    let path = store.object_path(&Object::of(b"2"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
    fs::write(&path, "3").expect("space");
    assert_eq!(store.verify(&mut || Ok(())).expect("a store"), 1, "under both of its names");
    assert!(is_whole(&store, &good) && !store.has(&bad, Form::Npm));
    add(&store, &package(2));
    assert!(is_whole(&store, &bad));
}

/// Not a test: what other processes do in the next one.
#[test]
fn other_process() {
    let Some(root) = std::env::var_os("BOLIDE_TEST_STORE") else { return };
    let store = Store::open(Path::new(&root)).expect("a store");
    for turn in 0_u64.. {
        let number = (turn % 5) as usize;
        let bytes = package(number);
        let hashes = hashes(&bytes);
        let _lease = store.lease([(&hashes, Form::Npm)], NEVER).expect("space");
        add(&store, &bytes);
        assert!(is_whole(&store, &hashes), "a collection took what a lease names");
        println!("turn {turn}");
        if turn % 3 == 0 {
            let _ = store.collect(&mut nothing, 0, NEVER);
        }
    }
}

#[test]
fn processes_that_are_killed_at_any_moment_leave_a_whole_store() {
    let (_place, store) = open();
    let mine = add(&store, &package(100));
    let _lease = store.lease([(&mine, Form::Npm)], NEVER).expect("space");
    let start = || {
        let name = "store::tests::collecting::other_process";
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args([name, "--exact", "--nocapture"]).env("BOLIDE_TEST_STORE", store.root());
        command.stdout(Stdio::piped()).spawn().expect("a process")
    };
    for round in 1..6 {
        let mut processes = [start(), start()];
        for (index, process) in processes.iter_mut().enumerate() {
            let output = BufReader::new(process.stdout.take().expect("a pipe"));
            let turns = output.lines().map_while(|line| line.ok());
            let turns = turns.filter(|line| line.starts_with("turn")).take(round + index);
            assert_eq!(turns.count(), round + index, "it must not have failed");
            process.kill().expect("ours");
            process.wait().expect("an end");
        }
        check_whole(&store);
        assert!(is_whole(&store, &mine));
    }
    // What they said that they need is over with them.
    collect(&store, &[&mine], 0);
    assert_eq!(fs::read_dir(store.root().join("leases")).expect("there").count(), 1);
    assert_eq!(collect(&store, &[&mine], 0).before.artefacts, 1);
}

#[test]
fn what_the_dead_left_goes_at_the_next_start_and_nothing_of_the_living() {
    let (_place, store) = open();
    let hashes = add(&store, &package(1));
    fs::write(store.root().join("tmp/1-2-3"), "unfinished").expect("a file");
    fs::write(store.root().join("leases/1-ab"), "a name\n").expect("a file");
    let _lease = store.lease([(&hashes, Form::Npm)], NEVER).expect("ours");
    let count = |name: &str| fs::read_dir(store.root().join(name)).expect("there").count();
    let other = Store::open(store.root()).expect("open elsewhere, too");
    let inside = other.gate.enter(NEVER).expect("free");
    assert_eq!(store.remove_abandoned().expect("nothing to do").files, 0);
    assert_eq!((count("tmp"), count("leases")), (1, 2), "somebody is in the store");
    drop(inside);
    assert_eq!(store.remove_abandoned().expect("alone").files, 1);
    assert_eq!((count("tmp"), count("leases")), (0, 1));
    assert!(is_whole(&store, &hashes));
    assert_eq!(store.remove_abandoned().expect("alone").files, 0);
}

#[test]
fn a_lease_and_a_file_that_cannot_be_deleted_at_their_end_are_tried_again() {
    let (_place, store) = open();
    let hashes = hashes(&package(1));
    let lease = store.lease([(&hashes, Form::Npm)], NEVER).expect("space");
    let temporary = store.temporary(0o600).expect("space");
    let leases = fs::read_dir(store.root().join("leases")).expect("there");
    let names: Vec<_> =
        leases.flatten().map(|entry| entry.path()).chain([temporary.path()]).collect();
    assert_eq!(names.len(), 2);
    // A file cannot be deleted where a directory has its name.
    let aside = |path: &std::path::Path| store.root().join(path.file_name().expect("a name"));
    for path in &names {
        fs::rename(path, aside(path)).expect("the same file system");
        fs::create_dir(path).expect("a directory");
    }
    drop((lease, temporary));
    for path in &names {
        fs::remove_dir(path).expect("ours");
        fs::rename(aside(path), path).expect("the same file system");
    }
    store.leftovers.try_again();
    assert!(store.leftovers.is_empty() && names.iter().all(|path| !path.exists()));
}
