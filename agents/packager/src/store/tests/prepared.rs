//! What stands ready is given as it was made, once, and what was touched meanwhile never.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use super::*;
use crate::limits::PREPARED_ALIKE_MAX;

struct Case {
    place: tempfile::TempDir,
    store: Store,
    entry: Entry,
    prepared: Prepared,
    parent: PathBuf,
}

impl Case {
    fn new(wanted: Wanted) -> Self {
        Self::within(wanted, 1 << 30)
    }

    fn within(wanted: Wanted, bytes_max: u64) -> Self {
        let (place, store) = open();
        let store = store.with_mode(wanted);
        let bytes = npm_package(&[("lib/a", b"1"), ("lib/deep/b", b"22"), ("empty", b"")]);
        let entry =
            store.add_tarball(Source::Bytes(&bytes), &hashes(&bytes), "demo.tgz").expect("honest");
        let parent = fresh(&place, "prepared");
        let prepared =
            Prepared::new(&parent, Room { bytes_max, free_min: 0 }).expect("a directory");
        Self { place, store, entry, prepared, parent }
    }

    fn pieces(&self) -> Vec<Piece<'_>> {
        let files = self.entry.files.iter();
        let piece = files.map(|file| Piece {
            path: &file.path,
            object: file.object,
            executable: file.executable,
        });
        piece.collect()
    }

    fn claim(&self) -> Option<Tree> {
        self.prepared.claim(self.prepared.begin(), &self.pieces())
    }

    /// Makes everything that is wanted.
    fn make(&self) {
        while self.prepared.make_next(&self.store, Cancellation::NEVER) {}
    }

    /// A directory that stands ready, and its place.
    fn made(&self) -> PathBuf {
        assert!(self.claim().is_none(), "nothing was made yet");
        self.make();
        let mut there = fs::read_dir(&self.parent).expect("a directory");
        there.next().expect("what was made").expect("an entry").path()
    }

    fn give(&self, tree: Tree, name: &str) -> Option<Given> {
        let to = open_directory(self.place.path()).expect("a directory");
        self.prepared.give(tree, (to.as_fd(), name))
    }
}

#[test]
fn what_was_wanted_is_made_given_once_and_wanted_again() {
    for mode in [Mode::Link, Mode::Copy] {
        let case = Case::new(Wanted::Only(mode));
        case.made();
        assert_eq!(case.prepared.standing().packages, 1);
        let tree = case.claim().expect("it stands ready");
        assert!(case.prepared.is_whole(&tree));
        assert!(case.claim().is_none(), "another one was given the same");
        let given = case.give(tree, "to").expect("a free name");
        let to = case.place.path().join("to");
        let status = rustix::fs::lstat(&to).expect("a directory");
        let own = (status.st_dev, status.st_ino);
        let modified = (status.st_mtime, status.st_mtime_nsec as i64);
        assert_eq!((given.directory, given.modified), (own, modified));
        let paths: Vec<&str> = given.inner.iter().map(|mark| &*mark.path).collect();
        assert_eq!(paths, ["empty", "lib", "lib/a", "lib/deep", "lib/deep/b", "package.json"]);
        for file in &case.entry.files {
            let path = to.join(&*file.path);
            assert_eq!(Object::of(&fs::read(&path).expect("a file")), file.object);
            let status = rustix::fs::lstat(&path).expect("a file");
            let mark = given.inner.iter().find(|mark| mark.path == file.path).expect("a mark");
            assert_eq!((mark.inode, mark.digest), (status.st_ino, Some(file.object.digest)));
            assert_eq!(mark.changed, (status.st_ctime, status.st_ctime_nsec as i64));
            assert_eq!(
                status.st_nlink,
                if mode == Mode::Link && file.object.size > 0 { 2 } else { 1 }
            );
        }
        case.make();
        let tree = case.claim().expect("it was made again");
        assert!(case.prepared.is_whole(&tree));
        assert!(case.give(tree, "to").is_none(), "the name is taken");
        assert!(case.claim().is_some_and(|tree| case.prepared.is_whole(&tree)), "it is lost");
    }
}

#[test]
fn what_was_touched_meanwhile_is_not_whole() {
    type Edit = fn(&Path);
    let edits: [(&str, Edit); 6] = [
        ("a write", |tree| fs::write(tree.join("lib/a"), "9").expect("writable")),
        ("a permission", |tree| {
            let path = tree.join("lib/a");
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("owner");
        }),
        ("a file more", |tree| fs::write(tree.join("lib/deep/c"), "").expect("space")),
        ("a file more at the top", |tree| fs::write(tree.join("c"), "").expect("space")),
        ("a file less", |tree| fs::remove_file(tree.join("lib/deep/b")).expect("a file")),
        ("another file", |tree| {
            fs::write(tree.join("lib/x"), "1").expect("space");
            fs::rename(tree.join("lib/x"), tree.join("lib/a")).expect("the same directory");
        }),
    ];
    for (what, edit) in edits {
        let case = Case::new(Wanted::Only(Mode::Copy));
        let made = case.made();
        edit(&made);
        let tree = case.claim().expect("it stands ready");
        assert!(!case.prepared.is_whole(&tree), "{what}");
        case.prepared.discard(tree);
        assert_eq!(case.prepared.take_discarded(), [made], "{what}");
        case.make();
        let tree = case.claim().expect("it was made again");
        assert!(case.prepared.is_whole(&tree), "{what}");
    }
}

#[test]
fn what_the_store_lost_meanwhile_is_not_given_as_its_own() {
    let case = Case::new(Wanted::Only(Mode::Link));
    case.made();
    case.store.collect(&mut || Ok(Vec::new()), 0, Cancellation::NEVER).expect("nobody is inside");
    let tree = case.claim().expect("it stands ready");
    assert!(!case.prepared.is_whole(&tree), "its files have one name less");
}

#[test]
fn an_edit_of_what_was_given_is_no_part_of_what_is_made_next() {
    let case = Case::new(Wanted::Only(Mode::Link));
    case.made();
    assert!(case.claim().is_some_and(|tree| case.give(tree, "to").is_some()));
    fs::write(case.place.path().join("to/lib/a"), "9").expect("writable");
    case.make();
    assert!(case.claim().is_none(), "the store's own file is what was edited, so none was made");
    let path = case.entry.file("lib/a").map(|file| case.store.object_path(&file.object));
    assert!(path.is_some_and(|path| !path.exists()), "it is known as damaged");
}

#[test]
fn it_is_given_only_where_the_same_would_be_made() {
    let case = Case::new(Wanted::Only(Mode::Copy));
    let open = |path: &Path| open_directory(path).expect("a directory");
    let plain = fresh(&case.place, "plain");
    assert!(case.prepared.fits(open(&plain).as_fd()));
    assert_eq!(fs::read_dir(&plain).expect("a directory").count(), 0, "the try is left there");
    assert_eq!(fs::read_dir(&case.parent).expect("a directory").count(), 0);
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o2755)).expect("owner");
    assert!(!case.prepared.fits(open(&plain).as_fd()), "its group would be another one");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).expect("owner");
    // Version 2; the owner, the group and all others, as tag, permissions and nobody by name.
    let entries = [(1_u16, 7_u16), (4, 5), (0x20, 5)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in entries {
        list.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        list.extend(u32::MAX.to_le_bytes());
    }
    let (name, flags) = ("system.posix_acl_default", rustix::fs::XattrFlags::empty());
    // Not every file system has them.
    if rustix::fs::setxattr(&plain, name, &list, flags).is_ok() {
        assert!(!case.prepared.fits(open(&plain).as_fd()), "what is made there gets a list");
        rustix::fs::removexattr(&plain, name).expect("it was set");
        assert!(case.prepared.fits(open(&plain).as_fd()));
    }
    let given_away = fresh(&case.place, "given-away");
    fs::set_permissions(&given_away, fs::Permissions::from_mode(0o2755)).expect("owner");
    let room = Room { bytes_max: 1 << 30, free_min: 0 };
    let prepared = Prepared::new(&given_away, room).expect("a directory");
    assert!(!prepared.fits(open(&plain).as_fd()), "what is prepared has the bit");
    assert!(!case.prepared.fits(open(Path::new("/proc/self")).as_fd()), "another file system");
}

#[test]
fn no_more_is_made_than_there_is_room_for() {
    let case = Case::within(Wanted::Only(Mode::Copy), 100_000);
    assert!(case.claim().is_none());
    assert!(!case.prepared.has_work(), "three blocks are more than a tenth of what all may take");

    let case = Case::new(Wanted::Only(Mode::Copy));
    for _ in 0..PREPARED_ALIKE_MAX + 2 {
        assert!(case.claim().is_none());
    }
    assert_eq!(case.prepared.standing().waiting, PREPARED_ALIKE_MAX as u64);
    case.make();
    assert_eq!(case.prepared.standing().packages, PREPARED_ALIKE_MAX as u64);
    assert_eq!(case.prepared.standing().waiting, 0);
    case.prepared.clear();
    assert_eq!(case.prepared.standing().packages, 0);
    assert_eq!(case.prepared.take_discarded().len(), PREPARED_ALIKE_MAX);
    assert!(!case.prepared.has_work());
}

#[test]
fn the_oldest_makes_room_but_not_for_its_own_round() {
    let case = Case::within(Wanted::Only(Mode::Copy), 12 * 4_096 + 4_000);
    let contents: Vec<[u8; 200]> = (0..20).map(|number| [number; 200]).collect();
    for content in &contents {
        case.store.put(content, false).expect("space");
    }
    let tree = |number: usize| {
        vec![Piece { path: "a", object: Object::of(&contents[number]), executable: false }]
    };
    let (first, second): (Vec<_>, Vec<_>) = ((0..15).map(tree).collect(), vec![tree(19)]);
    let claim = |all: &[Vec<Piece<'_>>]| -> Vec<Option<Tree>> {
        let round = case.prepared.begin();
        all.iter().map(|pieces| case.prepared.claim(round, pieces)).collect()
    };
    assert!(claim(&first).iter().all(Option::is_none));
    case.make();
    assert_eq!(case.prepared.standing().packages, 12, "what has room of one round");
    assert!(claim(&second)[0].is_none());
    case.make();
    let standing = case.prepared.standing();
    assert_eq!((standing.packages, standing.bytes), (12, 12 * 4_096));
    let claimed = claim(&[tree(0), tree(1), tree(19)]);
    let is_there: Vec<bool> = claimed.iter().map(Option::is_some).collect();
    assert_eq!(is_there, [false, true, true], "the oldest one went");
}

#[test]
fn nothing_is_made_where_the_disk_has_no_room_and_nothing_of_it_waits() {
    let mut case = Case::new(Wanted::Only(Mode::Copy));
    let room = Room { bytes_max: 1 << 30, free_min: u64::MAX };
    case.prepared = Prepared::new(&case.parent, room).expect("a directory");
    assert!(case.claim().is_none());
    assert!(!case.prepared.make_next(&case.store, Cancellation::NEVER));
    assert!(!case.prepared.has_work());
    assert_eq!(case.prepared.standing().waiting, 0);
    assert_eq!(fs::read_dir(&case.parent).expect("a directory").count(), 0);
}

#[test]
fn what_was_claimed_while_everything_was_taken_away_does_not_come_back() {
    let case = Case::new(Wanted::Only(Mode::Copy));
    let made = case.made();
    let tree = case.claim().expect("it stands ready");
    case.prepared.clear();
    case.prepared.put_back(tree);
    assert_eq!(case.prepared.take_discarded(), [made]);
    assert!(case.claim().is_none());
}
