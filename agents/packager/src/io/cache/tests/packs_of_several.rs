//! Packs that several write, remove and damage.

use rustix::io::Errno;

use super::*;

const ALWAYS: Duration = Duration::ZERO;
const ONCE: Duration = Duration::MAX;
/// What takes a pack of its own where there may be so many bytes.
const BIG: &[u8] = &[0; 1_900];
const SMALL_CACHE_BYTES: u64 = 7_200;

fn age(metadata: &Path, number: u32, seconds: u64) {
    let file = File::options().write(true).open(packs::index_path(metadata, number));
    let modified = SystemTime::now() - Duration::from_secs(seconds);
    file.expect("a pack").set_modified(modified).expect("a time");
}

#[test]
fn the_oldest_go_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let metadata = directory.path().join("metadata");
    let disk = limited(directory.path(), SMALL_CACHE_BYTES, ALWAYS);
    for name in ["a", "b", "c"] {
        write(&disk, name, BIG);
    }
    drop(disk);
    for (number, seconds) in [(0, 10), (1, 1_000), (2, 100)] {
        age(&metadata, number, seconds);
    }
    let disk = limited(directory.path(), SMALL_CACHE_BYTES, ALWAYS);
    disk.sweep();
    assert!(packs::data_path(&metadata, 1).exists(), "there is room");
    // To look for a pack that is not full makes none younger.
    write(&disk, "d", BIG);
    assert!(packs::data_path(&metadata, 3).exists(), "a pack of its own");
    disk.sweep();
    let found = ["a", "b", "c", "d"].map(|name| body(&disk, name).is_some());
    assert_eq!(found, [true, false, true, true]);
}

#[test]
fn taking_a_pack_does_not_make_it_younger() {
    let directory = tempfile::tempdir().expect("a directory");
    let metadata = directory.path().join("metadata");
    write(&disk(directory.path(), ALWAYS), "a", b"a");
    age(&metadata, 0, 1_000);
    let path = packs::index_path(&metadata, 0);
    let modified = || path.metadata().expect("an index").modified().expect("a time");
    let before = modified();
    let disk = disk(directory.path(), ALWAYS);
    disk.append(key("b"), None, |_, _| Ok(()));
    assert_eq!(modified(), before);
    write(&disk, "b", b"b");
    assert!(modified() > before);
}

#[test]
fn what_others_hold_leaves_room_for_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    write(&disk(directory.path(), ALWAYS), "free", &[0; 500]);
    let free = disk(directory.path(), ALWAYS);
    free.append(key("free"), None, |_, _| Ok(()));
    let held = ["a", "b", "c", "d"].map(|name| {
        let disk = limited(directory.path(), SMALL_CACHE_BYTES, ALWAYS);
        write(&disk, name, BIG);
        disk
    });
    drop(free);
    held[0].sweep();
    let found = ["free", "a", "b", "c", "d"].map(|name| body(&held[0], name).is_some());
    assert_eq!(found, [true; 5]);
}

#[test]
fn what_was_written_stays_known_whoever_looks() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (disk(directory.path(), ALWAYS), disk(directory.path(), ALWAYS));
    for round in 0..4 {
        let (mine, its) = (format!("mine {round}"), format!("its {round}"));
        write(&one, &mine, b"mine");
        write(&other, &its, b"its");
        for name in [&mine, &its] {
            assert!(body(&one, name).is_some() && body(&other, name).is_some(), "{name}");
        }
        // Somebody looks between the line and its writer's taking note of it.
        one.append(key("between"), None, |own, written| {
            own.note(key("between"), Record::gone(written))?;
            lock(&one.known).look(&one.directory, Duration::ZERO);
            Ok(())
        });
        assert!(lock(&one.known).has_line(key("between")));
    }
    assert!((0..4).all(|round| body(&one, &format!("mine {round}")).is_some()));
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = disk(directory.path(), ONCE);
    write(&disk, "a", b"a");
    std::fs::remove_dir_all(&disk.directory).expect("removed");
    write(&disk, "b", b"b");
    assert_eq!(body(&disk, "b").as_deref(), Some(&b"b"[..]));
    assert_eq!(body(&disk, "a"), None);
    assert!(body(&Disk::new(directory.path()), "b").is_some());
}

#[test]
fn a_number_that_is_not_to_be_had_is_passed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let metadata = directory.path().join("metadata");
    std::fs::create_dir_all(packs::index_path(&metadata, 0)).expect("a directory");
    let elsewhere = directory.path().join("elsewhere");
    std::fs::write(&elsewhere, b"not ours").expect("a file");
    std::os::unix::fs::symlink(&elsewhere, packs::index_path(&metadata, 1)).expect("a link");
    std::fs::write(packs::index_path(&metadata, 2), [b'x'; 200]).expect("another build's");
    let disk = limited(directory.path(), SMALL_CACHE_BYTES, ALWAYS);
    for name in ["a", "b", "c", "d"] {
        write(&disk, name, BIG);
    }
    assert!(packs::data_path(&metadata, 3).exists());
    age(&metadata, 3, 100);
    disk.sweep();
    assert!(body(&disk, "d").is_some());
    assert_eq!(std::fs::read(&elsewhere).expect("a file"), b"not ours");
    assert!(packs::index_path(&metadata, 0).is_dir());
}

#[test]
fn a_confirmation_is_a_line_and_what_is_in_use_moves_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let metadata = directory.path().join("metadata");
    let now = SystemTime::now();
    let one = disk(directory.path(), ALWAYS);
    one.write(key("a"), &validators(), (b"archive", b"body"));
    let (index, data) = (packs::index_path(&metadata, 0), packs::data_path(&metadata, 0));
    let (lines, bytes) = (length(&index), length(&data));
    confirm(&one, "a", now);
    assert_eq!((length(&index), length(&data)), (lines + 88, bytes));
    // Another process has another pack.
    let other = disk(directory.path(), ALWAYS);
    for later in 1..4 {
        confirm(&other, "a", now + Duration::from_secs(later));
        assert_eq!(length(&data), bytes);
        assert_eq!(length(&packs::data_path(&metadata, 1)), bytes, "it moved {later}");
    }
    let stored = one.open(key("a")).expect("an entry");
    assert_eq!(stored.confirmed(), now + Duration::from_secs(3));
    assert_eq!(stored.archive().as_deref(), Some(&b"archive"[..]));
    assert_eq!(stored.entry().expect("whole").body, b"body");
}

#[test]
fn an_answer_that_was_written_by_a_wrong_clock_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (disk(directory.path(), ALWAYS), disk(directory.path(), ALWAYS));
    write(&one, "a", b"of the future");
    let stored = one.open(key("a")).expect("an entry");
    one.append(key("a"), None, |own, written| {
        own.note(key("a"), Record { written: written + (1 << 60), ..stored.record })
    });
    write(&other, "a", b"of today");
    for disk in [&one, &other, &Disk::new(directory.path())] {
        assert_eq!(body(disk, "a").as_deref(), Some(&b"of today"[..]));
    }
    one.remove(key("a"));
    assert!([&one, &other].iter().all(|disk| body(disk, "a").is_none()));
}

#[test]
fn an_older_answer_does_not_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other) = (disk(directory.path(), ONCE), disk(directory.path(), ONCE));
    write(&one, "a", b"first");
    write(&other, "b", b"b");
    let stored = other.open(key("a")).expect("an entry");
    write(&one, "a", b"second");
    other.confirm(&stored, SystemTime::now());
    other.rewrite(&stored, (b"archive", b"first"), SystemTime::now());
    for disk in [&one, &other, &Disk::new(directory.path())] {
        assert_eq!(body(disk, "a").as_deref(), Some(&b"second"[..]));
    }
    // Nor where a process has written the later one that nobody has heard of yet.
    let stored = other.open(key("a")).expect("an entry");
    let third = disk(directory.path(), ONCE);
    write(&third, "a", b"third");
    other.confirm(&stored, SystemTime::now());
    assert_eq!(body(&Disk::new(directory.path()), "a").as_deref(), Some(&b"third"[..]));
}

#[test]
fn an_older_answer_does_not_come_back_when_the_pack_with_the_later_one_goes() {
    for is_removed in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let small = || limited(directory.path(), SMALL_CACHE_BYTES, ALWAYS);
        let resident = small();
        for name in ["a", "kept"] {
            write(&resident, name, b"first");
        }
        let other = small();
        write(&other, "a", b"second");
        if is_removed {
            other.remove(key("a"));
        }
        write(&other, "b", BIG);
        let held = ["c", "d", "e"].map(|name| {
            let disk = small();
            write(&disk, name, BIG);
            disk
        });
        drop((other, held));
        let metadata = directory.path().join("metadata");
        age(&metadata, 1, 1_000);
        resident.sweep();
        assert!(!packs::data_path(&metadata, 1).exists());
        for disk in [&resident, &small()] {
            assert_eq!((body(disk, "a"), body(disk, "b")), (None, None));
            assert_eq!(body(disk, "kept").as_deref(), Some(&b"first"[..]));
        }
        write(&resident, "a", b"third");
        assert_eq!(body(&small(), "a").as_deref(), Some(&b"third"[..]));
    }
}

#[test]
fn what_a_child_inherits_keeps_no_pack_from_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = disk(directory.path(), ALWAYS);
    write(&first, "a", b"a");
    let inherited = lock(&first.writer).own.as_ref().expect("a pack").inherited();
    drop(first);
    let second = disk(directory.path(), ALWAYS);
    write(&second, "b", b"b");
    assert_eq!(packs::numbers(&directory.path().join("metadata")), [0]);
    // Nor is what it was given meanwhile taken from the next one.
    let third = disk(directory.path(), ALWAYS);
    drop(inherited);
    write(&third, "c", b"c");
    assert_eq!(packs::numbers(&directory.path().join("metadata")), [0, 1]);
}

#[test]
fn what_is_gone_is_forgotten_where_nothing_can_be_written_down() {
    let directory = tempfile::tempdir().expect("a directory");
    for interval in [ALWAYS, ONCE] {
        let disk = disk(directory.path(), interval);
        for name in ["a", "b", "c"] {
            write(&disk, name, b"body");
        }
        lock(&disk.writer).own.as_mut().expect("a pack").fill_disk();
        // The second one while nobody tries to write.
        for name in ["a", "b"] {
            disk.remove(key(name));
        }
        for disk in [&disk, &Disk::new(directory.path())] {
            let found = ["a", "b", "c"].map(|name| body(disk, name).is_some());
            assert_eq!(found, [false, false, true]);
        }
        // Nor is it there where not even that is possible.
        let data = packs::data_path(&disk.directory, 0);
        lock(&disk.writer).refused = Some(Instant::now());
        std::fs::rename(&data, directory.path().join("moved")).expect("moved");
        disk.remove(key("c"));
        assert!(interval == ALWAYS || body(&disk, "c").is_none());
        std::fs::rename(directory.path().join("moved"), &data).expect("back");
    }
}

#[test]
fn where_nothing_can_be_locked_each_process_has_what_it_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let bounds = Bounds { bytes_max: SMALL_CACHE_BYTES, index_bytes_max: DISK_INDEX_BYTES_MAX };
    let unlocked = || Disk::with(directory.path(), bounds, ALWAYS, |_| Err(Errno::NOTSUP));
    let (one, other) = (unlocked(), unlocked());
    for (disk, name) in [(&one, "a"), (&other, "b"), (&one, "c")] {
        write(disk, name, &[0; 100]);
    }
    let found = ["a", "b", "c"].map(|name| body(&unlocked(), name).is_some());
    assert_eq!(found, [true; 3]);
    assert!(!packs::data_path(&one.directory, 2).exists(), "one for each");
    drop(one);
    let third = unlocked();
    write(&third, "d", b"d");
    assert!(packs::data_path(&third.directory, 2).exists(), "nobody goes on with another's");
}

#[test]
fn where_nothing_can_be_locked_numbers_do_not_run_out() {
    for bytes_max in [SMALL_CACHE_BYTES, DISK_BYTES_MAX] {
        let directory = tempfile::tempdir().expect("a directory");
        let bounds = Bounds { bytes_max, index_bytes_max: DISK_INDEX_BYTES_MAX };
        let unlocked = || Disk::with(directory.path(), bounds, ALWAYS, |_| Err(Errno::NOTSUP));
        for _ in 0..200 {
            let disk = unlocked();
            if write(&disk, "e", b"e") {
                disk.sweep();
            }
            assert!(body(&disk, "e").is_some());
        }
        // Nobody found the time for it.
        while packs::numbers(&unlocked().directory).len() < 64 {
            write(&unlocked(), "f", b"f");
        }
        let late = unlocked();
        assert!(write(&late, "g", b"g"), "room is to be made");
        assert!(body(&late, "g").is_none());
        late.sweep();
        write(&late, "g", b"g");
        assert!(body(&late, "g").is_some());
    }
}

#[test]
fn what_a_full_disk_cuts_is_taken_off_and_not_tried_a_thousand_times() {
    for interval in [ALWAYS, ONCE] {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = disk(directory.path(), interval);
        write(&disk, "a", b"a");
        let data = packs::data_path(&disk.directory, 0);
        let before = length(&data);
        lock(&disk.writer).own.as_mut().expect("a pack").fill_disk();
        write(&disk, "b", BIG);
        assert_eq!(length(&data), before);
        write(&disk, "c", b"c");
        assert_eq!(body(&disk, "c").is_some(), interval == ALWAYS);
        assert!(body(&disk, "a").is_some() && body(&disk, "b").is_none());
    }
}

#[test]
fn a_pack_is_full_of_lines_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let two_lines = 32 + 2 * 88;
    let bounds = Bounds { bytes_max: DISK_BYTES_MAX, index_bytes_max: 8 * two_lines };
    let disk = Disk::with(directory.path(), bounds, ALWAYS, packs::flock);
    for count in 0..40 {
        if write(&disk, &format!("{count}"), b"x") {
            disk.sweep();
        }
    }
    let indexes = (0..64).map(|number| packs::index_path(&disk.directory, number));
    let lengths: Vec<u64> = indexes.filter(|path| path.exists()).map(|it| length(&it)).collect();
    assert!(lengths.iter().all(|length| *length <= two_lines), "{lengths:?}");
    assert!(lengths.iter().sum::<u64>() <= bounds.index_bytes_max, "{lengths:?}");
    assert!(body(&disk, "39").is_some() && body(&disk, "0").is_none());
}

#[test]
fn whether_there_is_an_answer_is_said_without_looking() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = disk(directory.path(), ONCE);
    assert!(disk.has(key("a")), "nobody has looked");
    assert!(disk.open(key("a")).is_none());
    assert!(!disk.has(key("a")));
    write(&disk, "a", b"a");
    assert!(disk.has(key("a")));
    let known = lock(&disk.known);
    assert!(disk.has(key("b")), "somebody is about to know");
    drop(known);
    assert!(!disk.has(key("b")));
}

#[test]
fn who_rests_lets_go_of_all_and_knows_it_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = disk(directory.path(), ONCE);
    write(&disk, "a", b"a");
    assert!(!disk.rest(Duration::MAX));
    assert!(disk.rest(Duration::ZERO));
    let other = Disk::new(directory.path());
    write(&other, "b", b"b");
    assert!(!packs::data_path(&disk.directory, 1).exists(), "the pack was let go of");
    assert!(body(&disk, "a").is_some() && body(&disk, "b").is_some());
}

#[test]
fn a_removal_that_broke_off_leaves_nobody_blind() {
    let directory = tempfile::tempdir().expect("a directory");
    let metadata = directory.path().join("metadata");
    let resident = disk(directory.path(), ALWAYS);
    write(&disk(directory.path(), ALWAYS), "a", b"a");
    assert!(body(&resident, "a").is_some());
    // The pack went and its index did not: the next owner takes another file.
    std::fs::remove_file(packs::data_path(&metadata, 0)).expect("removed");
    write(&disk(directory.path(), ALWAYS), "b", b"b");
    write(&disk(directory.path(), ALWAYS), "c", b"c");
    assert!(packs::data_path(&metadata, 0).exists());
    let found = ["a", "b", "c"].map(|name| body(&resident, name).is_some());
    assert_eq!(found, [false, true, true]);
    // Somebody else has cut an index.
    let index = File::options().write(true).open(packs::index_path(&metadata, 0));
    index.expect("an index").set_len(0).expect("a cut");
    assert!(body(&resident, "c").is_none());
    write(&disk(directory.path(), ALWAYS), "d", b"d");
    assert!(body(&resident, "d").is_some() && body(&resident, "b").is_some());
}
