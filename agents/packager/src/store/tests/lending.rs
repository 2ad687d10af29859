//! The three ways out of the store, and what an edit in an environment does to it: nothing that anybody else sees.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::*;

/// A store that links, with one package in it, on a file system that can link.
struct Case {
    place: tempfile::TempDir,
    store: Store,
    bytes: Vec<u8>,
    entry: Entry,
}

const CONTENT: &[u8] = b"what the package holds";

impl Case {
    fn new(wanted: Wanted) -> Self {
        let (place, store) = open();
        let store = store.with_mode(wanted);
        let bytes = npm_package(&[("a", CONTENT), ("empty", b"")]);
        let entry =
            store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("honest");
        Self { place, store, bytes, entry }
    }

    fn fill(&self, name: &str) -> Result<Filled> {
        let to = fresh(&self.place, name);
        self.store.fill(&to, files_of(&self.entry), FillOptions::default())
    }

    fn file(&self, environment: &str) -> PathBuf {
        self.place.path().join(environment).join("a")
    }

    fn read(&self, environment: &str) -> Vec<u8> {
        fs::read(self.file(environment)).expect("a file")
    }

    fn inode(&self, environment: &str) -> u64 {
        fs::metadata(self.file(environment)).expect("a file").ino()
    }

    fn again(&self) {
        let hashes = hashes(&self.bytes);
        self.store.add_tarball(Source::Bytes(&self.bytes), &hashes, "demo.tgz").expect("honest");
    }
}

/// Writes into the file as it is.
fn edit_in_place(path: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(path).expect("writable");
    file.write_all(bytes).expect("written");
}

/// The same, and takes back the time that tells of it.
fn edit_secretly(path: &Path, bytes: &[u8]) {
    let before = fs::metadata(path).expect("a file").modified().expect("a time");
    edit_in_place(path, bytes);
    set_modified(path, before);
}

fn set_modified(path: &Path, time: std::time::SystemTime) {
    let file = fs::File::options().write(true).open(path).expect("writable");
    file.set_times(fs::FileTimes::new().set_modified(time)).expect("ours");
}

/// Whether times tell of edits where a test's store lies.
fn are_times_believed(case: &Case) -> bool {
    case.store.witnesses.are_believed()
}

#[test]
fn whatever_the_way_what_was_written_is_known_until_it_is_edited() {
    for wanted in Mode::ALL.map(Wanted::Only) {
        let case = Case::new(wanted);
        for name in ["first", "second"] {
            let written = Written::default();
            let to = fresh(&case.place, name);
            let mut files = files_of(&case.entry);
            let (path, content) = ("made".to_owned(), Content::Bytes(b"made here".to_vec()));
            files.push(super::super::File { path, content, executable: false });
            let options = FillOptions { written: Some(&written), ..FillOptions::default() };
            case.store.fill(&to, files, options).expect("space");
            let known =
                |file: &str| written.digest(&rustix::fs::lstat(to.join(file)).expect("a file"));
            for file in ["a", "empty", "made", "package.json"] {
                let content = fs::read(to.join(file)).expect("a file");
                assert_eq!(known(file), Some(Object::of(&content).digest), "{file} by {wanted:?}");
            }
            // Kernels count these times in ticks; an edit in the same one is not seen.
            let changed = |path: &Path| {
                let status = fs::metadata(path).expect("a file");
                (status.ctime(), status.ctime_nsec())
            };
            let probe = case.place.path().join("probe");
            while !probe.exists() || changed(&probe) <= changed(&to.join("made")) {
                fs::write(&probe, b"x").expect("space");
            }
            edit_in_place(&to.join("made"), b"other");
            assert_eq!(known("made"), None, "it was edited, whatever its time says");
        }
    }
}

#[test]
fn each_way_gives_the_same_files_and_says_what_it_was() {
    for wanted in Mode::ALL.map(Wanted::Only).into_iter().chain([Wanted::Best]) {
        let case = Case::new(wanted);
        let filled = case.fill("to").expect("space");
        assert_eq!((filled.files, case.read("to").as_slice()), (3, CONTENT), "{wanted:?}");
        let found = case.store.mode_at(case.place.path()).expect("a directory");
        // The file system decides; a mode that it does not have is a copy.
        if let Wanted::Only(mode) = wanted {
            assert!(found == mode || found == Mode::Copy, "{wanted:?} gave {found:?}");
        }
        let shared = (filled.cloned > 0, filled.linked > 0);
        assert_eq!(shared, (found == Mode::Reflink, found == Mode::Link), "{wanted:?}");
        let status = fs::metadata(case.file("to")).expect("a file");
        let names = if found == Mode::Link { 2 } else { 1 };
        assert_eq!((status.nlink(), status.permissions().mode() & 0o200), (names, 0o200));
        let left = fs::read_dir(case.place.path().join("to")).expect("there").count();
        assert_eq!(left, 3, "no probe stays");
        assert_eq!(fs::read_dir(case.store.root().join("tmp")).expect("there").count(), 0);
    }
}

#[test]
fn another_file_system_gets_copies() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let case = Case::new(Wanted::Best);
    let device = |path: &Path| fs::metadata(path).expect("there").dev();
    if device(elsewhere.path()) == device(case.place.path()) {
        return;
    }
    let to = elsewhere.path().join("to");
    fs::create_dir(&to).expect("space");
    let filled = case.store.fill(&to, files_of(&case.entry), FillOptions::default());
    let filled = filled.expect("space");
    assert_eq!((filled.files, filled.cloned, filled.linked), (3, 0, 0));
    assert_eq!(case.store.mode_at(elsewhere.path()).expect("there"), Mode::Copy);
}

#[test]
fn memory_and_disk_both_link_within_themselves() {
    for parent in [Path::new("/dev/shm"), &std::env::temp_dir()] {
        let Ok(place) = tempfile::tempdir_in(parent) else { continue };
        let store = Store::open(&place.path().join("store")).expect("a store");
        let store = store.with_mode(Wanted::Only(Mode::Link));
        assert_eq!(store.mode_at(place.path()).expect("there"), Mode::Link, "{parent:?}");
    }
}

#[test]
fn a_file_is_in_one_environment_and_the_store_at_most() {
    let case = Case::new(Wanted::Only(Mode::Link));
    assert_eq!(case.fill("one").expect("space").linked, 2, "an empty file is not worth it");
    let second = case.fill("two").expect("space");
    assert_eq!((second.files, second.linked), (3, 0));
    assert_ne!(case.inode("one"), case.inode("two"));
    edit_in_place(&case.file("one"), b"WHAT");
    assert_eq!(case.read("two"), CONTENT, "nobody else sees an edit");
    // When its environment is gone it may be linked again.
    let case = Case::new(Wanted::Only(Mode::Link));
    case.fill("one").expect("space");
    let inode = case.inode("one");
    fs::remove_dir_all(case.place.path().join("one")).expect("ours");
    assert_eq!(case.fill("two").expect("space").linked, 2);
    assert_eq!(case.inode("two"), inode);
}

#[test]
fn a_file_that_is_lent_again_is_not_changed_once_more() {
    let case = Case::new(Wanted::Only(Mode::Link));
    case.fill("one").expect("space");
    let status = || fs::metadata(case.file("one")).expect("a file");
    let (modified, permissions) = (status().modified().expect("a time"), status().mode());
    fs::rename(case.place.path().join("one"), case.place.path().join("away")).expect("ours");
    fs::remove_dir_all(case.place.path().join("away")).expect("ours");
    let written = Written::default();
    let to = fresh(&case.place, "one");
    let how = FillOptions { written: Some(&written), ..FillOptions::default() };
    assert_eq!(case.store.fill(&to, files_of(&case.entry), how).expect("space").linked, 2);
    assert_eq!(status().modified().expect("a time"), modified, "its content is of that time");
    assert_eq!(status().mode(), permissions);
    let seen = rustix::fs::lstat(case.file("one")).expect("a file");
    assert_eq!(written.digest(&seen), Some(Object::of(CONTENT).digest), "it need not be read");
}

#[test]
fn an_edit_in_place_is_noticed_before_the_file_is_used_again() {
    for is_gone in [false, true] {
        let case = Case::new(Wanted::Only(Mode::Link));
        case.fill("one").expect("space");
        edit_in_place(&case.file("one"), b"WHAT");
        if is_gone {
            // What remains of it is only in the store now.
            fs::remove_dir_all(case.place.path().join("one")).expect("ours");
        }
        let error = case.fill("two").expect_err("damaged");
        assert_eq!((error.code.as_str(), error.retry), (DAMAGED, true));
        assert!(!case.file("two").exists() || case.read("two") != b"WHAT the package holds");
        // The entry is forgotten by whoever asks for the package, which then is fetched.
        assert!(case.store.check(&hashes(&case.bytes), Form::Npm, false).is_none());
        case.again();
        case.fill("three").expect("whole again");
        assert_eq!(case.read("three"), CONTENT);
        if !is_gone {
            assert_eq!(case.read("one"), b"WHAT the package holds", "a person's edit stays");
        }
    }
}

#[test]
fn an_edit_whose_time_was_taken_back_is_noticed_where_digests_are_compared() {
    for is_gone in [false, true] {
        let case = Case::new(Wanted::Only(Mode::Link));
        case.fill("one").expect("space");
        edit_secretly(&case.file("one"), b"WHAT");
        if is_gone {
            fs::remove_dir_all(case.place.path().join("one")).expect("ours");
        }
        let to = fresh(&case.place, "two");
        let how = FillOptions { verify: true, ..FillOptions::default() };
        let error = case.store.fill(&to, files_of(&case.entry), how).expect_err("damaged");
        assert_eq!(error.code, DAMAGED);
        // The seal is the whole of what is believed elsewhere, and where times are not believed nothing is.
        let case = Case::new(Wanted::Only(Mode::Link));
        case.fill("one").expect("space");
        edit_secretly(&case.file("one"), b"WHAT");
        assert_eq!(case.fill("two").is_ok(), are_times_believed(&case));
    }
}

#[test]
fn a_sealed_file_is_linked_without_being_read_and_a_touched_one_is_read() {
    let case = Case::new(Wanted::Only(Mode::Link));
    let again = |name: &str| {
        case.fill(name).expect("space");
        let status = rustix::fs::lstat(case.file(name)).expect("a file");
        let sealed = case.store.is_sealed(&Object::of(CONTENT), &status);
        fs::remove_dir_all(case.place.path().join(name)).expect("ours");
        (sealed, status.st_ino)
    };
    let (sealed, inode) = again("one");
    assert_eq!(sealed, are_times_believed(&case));
    assert_eq!(again("two"), (sealed, inode));
    // What has other bytes than its name says, and its seal, cannot be told from what is right; that it was not read shows.
    let stored = case.store.root().join("lent").join(Object::of(CONTENT).name());
    edit_secretly(&stored, b"WHAT");
    assert_eq!(case.fill("three").is_ok(), sealed);
    if sealed {
        assert!(case.read("three").starts_with(b"WHAT"));
        fs::remove_dir_all(case.place.path().join("three")).expect("ours");
        set_modified(&stored, std::time::SystemTime::now());
        assert_eq!(case.fill("four").expect_err("damaged").code, DAMAGED);
    }
}

#[test]
fn a_seal_counts_until_the_machine_starts_again_and_is_then_given_anew_to_what_is_right() {
    const STARTS: [&str; 3] = [
        "0a3b6a4e-61f5-4f5b-9c3c-6d2f1f7b0001",
        "0a3b6a4e-61f5-4f5b-9c3c-6d2f1f7b0002",
        "0a3b6a4e-61f5-4f5b-9c3c-6d2f1f7b0003",
    ];
    let case = Case::new(Wanted::Only(Mode::Link));
    let object = Object::of(CONTENT);
    let store_in = |start: &str| {
        Store::open(case.store.root())
            .expect("a store")
            .with_mode(Wanted::Only(Mode::Link))
            .in_start(start)
    };
    let fill = |store: &Store, name: &str| {
        store.fill(&fresh(&case.place, name), files_of(&case.entry), FillOptions::default())?;
        let status = rustix::fs::lstat(case.file(name)).expect("a file");
        fs::remove_dir_all(case.place.path().join(name)).expect("ours");
        Ok::<_, crate::error::Error>(status)
    };
    let first = store_in(STARTS[0]);
    let sealed = fill(&first, "one").expect("space");
    if !are_times_believed(&case) {
        return;
    }
    assert!(first.is_sealed(&object, &sealed));
    // Another start: compared, right, and sealed for this one.
    let second = store_in(STARTS[1]);
    assert!(!second.is_sealed(&object, &sealed) && second.was_sealed(&object, &sealed));
    let sealed = fill(&second, "two").expect("space");
    assert!(second.is_sealed(&object, &sealed) && !first.is_sealed(&object, &sealed));
    // What was written right before power was lost, and whose time never came to the disk.
    let stored = case.store.root().join("lent").join(object.name());
    edit_secretly(&stored, b"WHAT");
    let third = store_in(STARTS[2]);
    let status = rustix::fs::lstat(&stored).expect("a file");
    assert!(third.was_sealed(&object, &status), "its time says nothing");
    assert_eq!(fill(&third, "three").expect_err("damaged").code, DAMAGED);
    // What was touched in between gets no seal again, for who touched it may be at work.
    case.again();
    let sealed = fill(&third, "four").expect("space");
    assert!(third.is_sealed(&object, &sealed));
    set_modified(&stored, std::time::SystemTime::now());
    let status = fill(&store_in(STARTS[0]), "five").expect("space");
    let again = store_in(STARTS[0]);
    assert!(!again.is_sealed(&object, &status) && !again.was_sealed(&object, &status));
}

#[test]
fn what_a_loss_of_power_cut_off_is_noticed_whatever_its_time_says() {
    for (bytes_left, is_gone) in [(0, true), (0, false), (5, true), (5, false)] {
        let case = Case::new(Wanted::Only(Mode::Link));
        case.fill("one").expect("space");
        let stored = case.store.root().join("lent").join(Object::of(CONTENT).name());
        // The name came to the disk with its time, and of the content the beginning at most.
        let sealed = fs::metadata(&stored).expect("a file").modified().expect("a time");
        let file = fs::File::options().write(true).open(&stored).expect("writable");
        file.set_len(bytes_left).expect("ours");
        set_modified(&stored, sealed);
        if is_gone {
            fs::remove_dir_all(case.place.path().join("one")).expect("ours");
        }
        // Another process, after another start of the machine: nothing is remembered.
        let again = Store::open(case.store.root()).expect("a store").with_mode(Wanted::Best);
        let fill = |name: &str| {
            again.fill(&fresh(&case.place, name), files_of(&case.entry), FillOptions::default())
        };
        assert_eq!(fill("two").expect_err("cut off").code, DAMAGED);
        assert!(again.check(&hashes(&case.bytes), Form::Npm, false).is_none(), "it is fetched");
        case.again();
        fill("three").expect("whole again");
        assert_eq!(case.read("three"), CONTENT);
    }
}

#[test]
fn other_permissions_than_a_file_was_lent_with_are_those_of_a_copy() {
    let case = Case::new(Wanted::Only(Mode::Link));
    case.fill("one").expect("space");
    fs::remove_dir_all(case.place.path().join("one")).expect("ours");
    let to = fresh(&case.place, "two");
    let mut files = files_of(&case.entry);
    files.iter_mut().for_each(|file| file.executable = true);
    let filled = case.store.fill(&to, files, FillOptions::default()).expect("space");
    assert_eq!(filled.linked, if are_times_believed(&case) { 0 } else { 2 });
    assert_eq!(fs::metadata(case.file("two")).expect("a file").mode() & 0o111, 0o111);
}

#[test]
fn what_was_lent_is_verified_where_it_is_read_as_a_whole() {
    let case = Case::new(Wanted::Only(Mode::Link));
    case.fill("one").expect("space");
    let object = Object::of(CONTENT);
    assert_eq!(case.store.read_object(&object, 1 << 20).expect("unchanged"), CONTENT);
    edit_in_place(&case.file("one"), b"WHAT");
    assert_eq!(case.store.read_object(&object, 1 << 20).expect_err("changed").code, DAMAGED);
}

#[test]
fn a_file_that_somebody_holds_is_copied() {
    let case = Case::new(Wanted::Only(Mode::Link));
    let object = Object::of(CONTENT);
    // Who links a sealed one changes nothing about it, and takes no lock.
    if case.store.are_births_sealed() {
        set_modified(&case.store.object_path(&object), std::time::SystemTime::now());
    }
    let held = fs::File::open(case.store.object_path(&object)).expect("there");
    held.lock().expect("nobody else");
    assert_eq!(case.fill("one").expect("space").linked, 1, "the other one");
    assert_eq!(case.read("one"), CONTENT);
    // Closing it is not enough where another test has just started a process, which has it until it becomes a program.
    held.unlock().expect("ours");
    case.fill("two").expect("space");
    assert_eq!(fs::metadata(case.file("two")).expect("there").nlink(), 2);
}

#[test]
fn many_at_once_share_no_file() {
    let case = Case::new(Wanted::Only(Mode::Link));
    let again = Store::open(case.store.root()).expect("a second process would do so");
    let again = again.with_mode(Wanted::Only(Mode::Link));
    std::thread::scope(|scope| {
        for index in 0..8 {
            let store = if index % 2 == 0 { &case.store } else { &again };
            let (to, files) = (fresh(&case.place, &index.to_string()), files_of(&case.entry));
            scope.spawn(move || store.fill(&to, files, FillOptions::default()).expect("space"));
        }
    });
    let mut inodes: Vec<u64> = (0..8).map(|index| case.inode(&index.to_string())).collect();
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), 8);
    assert!((0..8).all(|index| case.read(&index.to_string()) == CONTENT));
}

#[test]
fn a_name_that_is_taken_is_a_conflict_and_not_replaced() {
    let case = Case::new(Wanted::Only(Mode::Link));
    let to = fresh(&case.place, "to");
    fs::write(to.join("a"), "mine").expect("space");
    let error = case.store.fill(&to, files_of(&case.entry), FillOptions::default());
    assert_eq!(error.expect_err("there already").code, "file-conflict");
    assert_eq!(case.read("to"), b"mine");
}

#[test]
fn verification_on_reading_notices_what_was_never_lent() {
    for wanted in Mode::ALL.map(Wanted::Only) {
        let case = Case::new(wanted);
        let path = case.store.object_path(&Object::of(CONTENT));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        edit_in_place(&path, b"WHAT");
        let verify = FillOptions { verify: true, ..FillOptions::default() };
        let to = fresh(&case.place, "to");
        let error = case.store.fill(&to, files_of(&case.entry), verify).expect_err("damaged");
        assert_eq!(error.code, DAMAGED, "{wanted:?}");
        case.again();
        let to = fresh(&case.place, "again");
        case.store.fill(&to, files_of(&case.entry), verify).expect("whole again");
    }
}

#[test]
fn modes_have_names_that_are_read_back() {
    for wanted in Mode::ALL.map(Wanted::Only).into_iter().chain([Wanted::Best]) {
        assert_eq!(Wanted::from_name(wanted.name()), Some(wanted));
    }
    assert_eq!(Wanted::from_name("hardlink"), None);
}

#[test]
fn what_was_found_right_is_not_read_twice_until_somebody_touches_it() {
    let case = Case::new(Wanted::Only(Mode::Link));
    case.fill("one").expect("space");
    let object = Object::of(CONTENT);
    let is_known = || {
        let status = rustix::fs::stat(case.file("one")).expect("a file");
        case.store.witnesses.know(&object, &status)
    };
    // What was touched is not sealed any more, whatever it holds.
    set_modified(&case.file("one"), std::time::SystemTime::now());
    assert!(!is_known(), "nobody has looked at it since it left");
    case.fill("two").expect("space");
    // On tmpfs, say, it is read each time.
    assert_eq!(is_known(), are_times_believed(&case));
    case.fill("three").expect("space");
    assert_eq!(case.read("three"), CONTENT);
    edit_secretly(&case.file("one"), b"WHAT");
    assert!(!is_known(), "also where the time of the edit was taken back");
    assert_eq!(case.fill("four").expect_err("damaged").code, DAMAGED);
}

#[test]
fn what_became_somebody_elses_is_neither_lent_nor_believed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root gives files away");
        return;
    }
    for (user, group) in [(Some(1000), None), (None, Some(1000))] {
        let case = Case::new(Wanted::Only(Mode::Link));
        case.fill("one").expect("space");
        let (stored, own) = (case.inode("one"), fs::metadata(case.file("one")).expect("a file"));
        std::os::unix::fs::chown(case.file("one"), user, group).expect("root may");
        fs::remove_dir_all(case.place.path().join("one")).expect("ours");
        // Not where there are seals, and not where every digest is compared.
        for (name, verify) in [("two", false), ("three", true)] {
            let to = fresh(&case.place, name);
            let how = FillOptions { verify, ..FillOptions::default() };
            case.store.fill(&to, files_of(&case.entry), how).expect("its bytes are right");
            let status = fs::metadata(case.file(name)).expect("a file");
            assert_eq!((status.uid(), status.gid()), (own.uid(), own.gid()));
            assert_ne!(status.ino(), stored);
        }
        // Its owner sets its time at will, so that it says nothing.
        let path = case.store.root().join("lent").join(Object::of(CONTENT).name());
        edit_secretly(&path, b"WHAT");
        assert_eq!(case.fill("four").expect_err("compared").code, DAMAGED);
        case.again();
        case.fill("five").expect("whole again");
        assert_eq!(
            (case.read("five").as_slice(), fs::metadata(case.file("five")).expect("a file").uid()),
            (CONTENT, own.uid())
        );
        assert_eq!(fs::metadata(case.file("five")).expect("a file").nlink(), 2, "it is lent again");
    }
}

#[test]
fn wrong_bytes_of_the_right_size_get_no_seal() {
    for wanted in [Wanted::Only(Mode::Link), Wanted::Best] {
        for is_fetched_first in [false, true] {
            let mut case = Case::new(Wanted::Only(Mode::Copy));
            let path = case.store.root().join("files").join(Object::of(CONTENT).name());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
            edit_in_place(&path, b"WHAT");
            let root = case.store.root().to_owned();
            case.store = Store::open(&root).expect("a store").with_mode(wanted);
            if case.store.mode_at(case.place.path()).expect("there") != Mode::Link {
                eprintln!("not tried: files are not linked here");
                continue;
            }
            if is_fetched_first && case.store.are_births_sealed() {
                case.again();
                assert!(!path.exists(), "what is fetched is compared with what is there");
            } else {
                assert_eq!(case.fill("one").expect_err("compared").code, DAMAGED);
                assert!(case.store.check(&hashes(&case.bytes), Form::Npm, false).is_none());
                case.again();
            }
            assert_eq!(case.fill("two").expect("whole again").linked, 2);
            assert_eq!(case.read("two"), CONTENT);
        }
    }
}
