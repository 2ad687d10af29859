//! What is unpacked where it is given away from is the store's own file, and what does not fit leaves nothing behind that counts.

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use super::*;
use crate::limits;

struct Case {
    place: tempfile::TempDir,
    store: Store,
    fresh: Fresh,
    parent: PathBuf,
}

impl Case {
    fn new() -> Self {
        let (place, store) = open();
        let store = store.with_mode(Wanted::Only(Mode::Link));
        let parent = fresh(&place, "fresh");
        let fresh = Fresh::new(&parent, &store).expect("a directory").expect("files are linked");
        Self { place, store, fresh, parent }
    }

    fn add(&self, bytes: &[u8], commands: &[&str]) -> Result<Entry> {
        let commands: HashSet<&str> = commands.iter().copied().collect();
        let direct = Some(Direct { fresh: &self.fresh, commands: &commands });
        self.store.add_verified_tarball(Source::Bytes(bytes), &hashes(bytes), "demo.tgz", direct)
    }

    fn give(&self, bytes: &[u8], pieces: &[Piece<'_>], name: &str) -> Option<Given> {
        let to = open_directory(self.place.path()).expect("a directory");
        self.fresh.give(&hashes(bytes), pieces, || Some((to.as_fd(), name)))
    }

    /// Directories that are there.
    fn standing(&self) -> usize {
        fs::read_dir(&self.parent).expect("a directory").count()
    }

    fn lent(&self, object: &Object) -> PathBuf {
        self.store.root().join("lent").join(object.name())
    }
}

fn pieces<'e>(entry: &'e Entry, commands: &[&str]) -> Vec<Piece<'e>> {
    let piece = |file: &'e StoredFile| Piece {
        path: &file.path,
        object: file.object,
        executable: file.executable || commands.contains(&&*file.path),
    };
    entry.files.iter().map(piece).collect()
}

#[test]
fn a_package_is_given_as_it_was_unpacked_and_its_files_are_the_stores() {
    let case = Case::new();
    let large = vec![9; limits::COPY_WHOLE_BYTES_MAX as usize + 1];
    let bytes = npm_package(&[("lib/a", b"1"), ("lib/deep/b", &large), ("empty", b"")]);
    let entry = case.add(&bytes, &["lib/a"]).expect("honest");
    assert_eq!(Some(&entry), case.store.check(&hashes(&bytes), Form::Npm, true).as_ref());
    let given = case.give(&bytes, &pieces(&entry, &["lib/a"]), "to").expect("the same");
    let to = case.place.path().join("to");
    let status = rustix::fs::lstat(&to).expect("a directory");
    let modified = (status.st_mtime, status.st_mtime_nsec as i64);
    assert_eq!((given.directory, given.modified), ((status.st_dev, status.st_ino), modified));
    let paths: Vec<&str> = given.inner.iter().map(|mark| &*mark.path).collect();
    assert_eq!(paths, ["empty", "lib", "lib/a", "lib/deep", "lib/deep/b", "package.json"]);
    for mark in &given.inner {
        let status = rustix::fs::lstat(to.join(&*mark.path)).expect("there");
        assert!(mark.is(&status), "{}", mark.path);
    }
    for file in &entry.files {
        let path = to.join(&*file.path);
        assert_eq!(Object::of(&fs::read(&path).expect("a file")), file.object);
        let there = fs::metadata(&path).expect("a file");
        assert_eq!(there.nlink(), if file.object.size > 0 { 2 } else { 1 });
        assert_eq!(there.mode() & 0o111 != 0, &*file.path == "lib/a");
        if file.object.size > 0 {
            let stored = fs::metadata(case.lent(&file.object)).expect("stored");
            assert_eq!(stored.ino(), there.ino());
        }
    }
    assert!(case.give(&bytes, &pieces(&entry, &["lib/a"]), "again").is_none(), "given twice");
    // A second environment gets files of its own, the first one's being lent.
    let second = fresh(&case.place, "second");
    let filled = case.store.fill(&second, files_of(&entry), FillOptions::default());
    assert_eq!(filled.expect("whole").linked, 0);
}

#[test]
fn what_is_not_what_is_to_be_installed_is_removed_so_that_it_can_be_lent() {
    let case = Case::new();
    let bytes = npm_package(&[("a", b"1"), ("b", b"2")]);
    let entry = case.add(&bytes, &[]).expect("honest");
    assert_eq!(case.standing(), 1);
    assert!(case.give(&bytes, &pieces(&entry, &["a"]), "to").is_none(), "another permission");
    assert_eq!(case.standing(), 0);
    let to = fresh(&case.place, "filled");
    let filled = case.store.fill(&to, files_of(&entry), FillOptions::default()).expect("whole");
    assert_eq!(filled.linked, 3);
    // A name that is taken, and a package that is rewritten.
    for (name, is_rewritten) in [("filled", false), ("other", true)] {
        let bytes = npm_package(&[("c", name.as_bytes())]);
        let entry = case.add(&bytes, &[]).expect("honest");
        let pieces = if is_rewritten { Vec::new() } else { pieces(&entry, &[]) };
        assert!(case.give(&bytes, &pieces, name).is_none());
        assert_eq!(case.standing(), 0);
    }
}

#[test]
fn a_content_that_the_store_has_stays_where_it_is_unless_it_is_damaged() {
    let case = Case::new();
    let first = case.add(&npm_package(&[("a", b"same")]), &[]).expect("honest");
    let object = first.file("a").expect("a file").object;
    let inode = fs::metadata(case.lent(&object)).expect("stored").ino();
    let bytes = npm_package(&[("b", b"same"), ("c", b"same")]);
    let second = case.add(&bytes, &[]).expect("honest");
    assert_eq!(fs::metadata(case.lent(&object)).expect("stored").ino(), inode);
    case.give(&bytes, &pieces(&second, &[]), "to").expect("the same");
    assert_eq!(fs::metadata(case.place.path().join("to/b")).expect("a file").nlink(), 1);
    // Somebody edited it in the first environment.
    fs::write(case.lent(&object), b"evil").expect("writable");
    let bytes = npm_package(&[("d", b"same")]);
    let third = case.add(&bytes, &[]).expect("honest");
    assert_eq!(Some(third), case.store.check(&hashes(&bytes), Form::Npm, true));
}

#[test]
fn a_content_that_never_left_the_store_is_not_stored_a_second_time() {
    for (stored, is_right) in [(b"same", true), (b"evil", false)] {
        let case = Case::new();
        let object = Object::of(b"same");
        let path = case.store.root().join("files").join(object.name());
        fs::create_dir(path.parent().expect("a folder")).expect("a directory");
        fs::write(&path, stored).expect("space");
        let bytes = npm_package(&[("a", b"same")]);
        let entry = case.add(&bytes, &[]).expect("honest");
        assert_eq!((path.exists(), case.lent(&object).exists()), (is_right, !is_right));
        case.give(&bytes, &pieces(&entry, &[]), "to").expect("the same");
        assert_eq!(fs::read(case.place.path().join("to/a")).expect("a file"), b"same");
        assert_eq!(Some(&entry), case.store.check(&hashes(&bytes), Form::Npm, true).as_ref());
    }
}

#[test]
fn a_hostile_archive_is_refused_and_nothing_of_it_is_given() {
    let case = Case::new();
    let manifest = b"{\"name\":\"demo\",\"version\":\"1.0.0\"}";
    let base = || vec![file("package/package.json", manifest), file("package/a", b"1")];
    let with = |more: Vec<forge::TarEntry>| tarball(&[base(), more].concat());
    let hostile = [
        with(vec![file("package/../../evil", b"x")]),
        with(vec![file("package/a", b"2")]),
        with(vec![file("package/a/b", b"x")]),
        tarball(&[file("package/a", b"no manifest")]),
        with(Vec::new())[..100].to_vec(),
    ];
    for bytes in hostile {
        let error = case.add(&bytes, &[]).expect_err("hostile");
        assert!(["unsafe-archive", "damaged-archive"].contains(&&*error.code), "{error}");
        assert!(!case.store.has(&hashes(&bytes), Form::Npm));
        assert!(case.give(&bytes, &[], "to").is_none());
        assert!(!case.place.path().join("evil").exists() && !case.parent.join("evil").exists());
    }
    // Twice the same is one file.
    let twice = with(vec![file("package/a", b"1")]);
    let entry = case.add(&twice, &[]).expect("equal");
    assert_eq!(entry.files.len(), 2);
    assert!(case.give(&twice, &pieces(&entry, &[]), "to").is_some());
}

#[test]
fn a_file_that_is_installed_under_another_name_is_not_given() {
    let case = Case::new();
    let bytes = npm_package(&[(".gitignore", b"x")]);
    let entry = case.add(&bytes, &[]).expect("honest");
    assert!(entry.file(".npmignore").is_some());
    assert!(case.give(&bytes, &pieces(&entry, &[]), "to").is_none());
    assert_eq!(case.standing(), 0);
}

#[test]
fn it_fits_only_where_the_same_would_be_made() {
    let case = Case::new();
    let plain = fresh(&case.place, "plain");
    let fits = |path: &Path| case.fresh.fits(open_directory(path).expect("it").as_fd());
    assert!(fits(&plain));
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o2755)).expect("owner");
    assert!(!fits(&plain), "what is made there gets another group");
    assert!(!fits(Path::new("/dev/shm")), "another file system");
    // What has another file system can have no name in the store.
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let made = Fresh::new(elsewhere.path(), &case.store).expect("a directory");
    assert!(made.is_none());
    assert_eq!(fs::read_dir(elsewhere.path()).expect("a directory").count(), 0);
    // Copies leave the store: nothing of it can be given.
    let (place, store) = open();
    let store = store.with_mode(Wanted::Only(Mode::Copy));
    assert!(Fresh::new(&fresh(&place, "fresh"), &store).expect("a directory").is_none());
}
