//! How files come into the store, and that whatever is stored, lent, edited and removed in whatever order, an environment has what
//! it was given and what was edited in it.

use std::collections::BTreeMap;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;

const LINK: Wanted = Wanted::Only(Mode::Link);

fn names(store: &Store, part: &str) -> Vec<String> {
    let mut names = Vec::new();
    for folder in fs::read_dir(store.root().join(part)).expect("there").flatten() {
        let folder_name = folder.file_name().into_string().expect("digits");
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            names.push(format!("{folder_name}/{}", file.file_name().to_string_lossy()));
        }
    }
    names
}

fn edit_in_place(path: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(path).expect("writable");
    file.write_all(bytes).expect("written");
}

#[test]
fn a_file_is_born_whole_where_it_stays_and_lending_changes_nothing_of_it() {
    for always_named in [false, true] {
        let (place, store) = open();
        let store = store.with_mode(LINK);
        let store = if always_named { store.always_named() } else { store };
        let large = vec![3; crate::limits::COPY_WHOLE_BYTES_MAX as usize + 1];
        for (content, executable) in [(&b"small"[..], true), (&large[..], false)] {
            let mut reader = content;
            let size = (content.len() as u64, executable);
            let refuse = |error| Error::io("read", Path::new("memory"), &error);
            let object = store.put_reader(&mut reader, size, &mut Vec::new(), refuse);
            let object = object.expect("space");
            assert_eq!(object, Object::of(content));
            let born = if store.are_births_sealed() { "lent" } else { "files" };
            assert_eq!(names(&store, born), [object.name()], "{always_named}");
            let path = store.root().join(born).join(object.name());
            let before = fs::metadata(&path).expect("a file");
            let status = rustix::fs::stat(&path).expect("a file");
            assert_eq!(store.is_sealed(&object, &status), store.are_births_sealed());
            assert_eq!(fs::read_dir(store.root().join("tmp")).expect("there").count(), 0);
            // Once more is not written.
            store.put(content, executable).expect("space");
            assert_eq!(fs::metadata(&path).expect("a file").ino(), before.ino());
            let to = fresh(&place, &object.hex());
            let file = File { path: "a".into(), content: Content::Object(object), executable };
            let filled = store.fill(&to, vec![file], FillOptions::default()).expect("space");
            let after = fs::metadata(to.join("a")).expect("a file");
            assert_eq!((filled.linked, after.ino()), (1, before.ino()));
            if store.are_births_sealed() {
                assert_eq!(after.modified().expect("a time"), before.modified().expect("a time"));
                assert_eq!(after.permissions().mode(), before.permissions().mode());
            }
            fs::remove_dir_all(store.root().join("lent").join(&object.name()[..2])).expect("ours");
        }
    }
}

#[test]
fn what_lost_its_seal_is_written_anew_and_its_environment_keeps_what_it_has() {
    for always_named in [false, true] {
        let (place, store) = open();
        let store = store.with_mode(LINK);
        let store = if always_named { store.always_named() } else { store };
        let object = store.put(b"content", false).expect("space");
        let fill = |name: &str| {
            let to = fresh(&place, name);
            let content = Content::Object(object);
            let file = File { path: "a".into(), content, executable: false };
            store.fill(&to, vec![file], FillOptions::default()).map(|_| to.join("a"))
        };
        let one = fill("one").expect("space");
        edit_in_place(&one, b"CONTENT");
        store.put(b"content", false).expect("space");
        let two = fill("two").expect("what was put is right");
        assert_eq!(fs::read(&two).expect("a file"), b"content");
        assert_eq!(fs::read(&one).expect("a file"), b"CONTENT");
        assert_eq!(fs::metadata(&two).expect("a file").nlink(), 2, "lent, not copied");
    }
}

#[test]
fn a_store_that_copies_keeps_its_files_where_nobody_writes() {
    let (_place, store) = open();
    let store = store.with_mode(Wanted::Only(Mode::Copy));
    let object = store.put(b"content", true).expect("space");
    assert_eq!((names(&store, "files"), names(&store, "lent")), (vec![object.name()], vec![]));
    let path = store.root().join("files").join(object.name());
    assert_eq!(fs::metadata(path).expect("a file").permissions().mode() & 0o777, 0o444);
}

#[test]
fn what_is_compared_for_a_copy_is_sealed_for_this_start_where_nobody_else_has_it() {
    let (place, store) = open();
    // The same machine after a start, and a project on another file system, where files come as copies.
    let in_start = |start: &str| {
        let store = Store::open(store.root()).expect("a store").with_mode(LINK);
        let store = store.in_start(&start.repeat(36));
        let is_sealed = store.are_births_sealed();
        store.fall_back(open_directory(place.path()).expect("there").as_fd());
        is_sealed.then_some(store)
    };
    let Some(first) = in_start("1") else {
        eprintln!("not tried: times are not believed where the temporary directory is");
        return;
    };
    let object = first.put(b"content", false).expect("space");
    let path = store.root().join("lent").join(object.name());
    let status = || rustix::fs::stat(&path).expect("a file");
    let fill = |store: &Store, name: &str| {
        let to = fresh(&place, name);
        let file = File { path: "a".into(), content: Content::Object(object), executable: false };
        let filled = store.fill(&to, vec![file], FillOptions::default()).expect("it is right");
        assert_eq!((filled.files, filled.linked), (1, 0));
        assert_eq!(fs::read(to.join("a")).expect("a file"), b"content");
        store.is_sealed(&object, &status())
    };
    let second = in_start("2").expect("as before");
    assert!(!second.is_sealed(&object, &status()), "the seal ended with its start");
    assert!(fill(&second, "one"), "compared once");
    // Who has it may be writing it.
    let third = in_start("3").expect("as before");
    fs::hard_link(&path, place.path().join("held")).expect("one file system");
    assert!(!fill(&third, "two"));
    fs::remove_file(place.path().join("held")).expect("ours");
    // So may who holds the lock on it, and who touched it.
    let held = fs::File::open(&path).expect("a file");
    held.lock().expect("nobody else");
    assert!(!fill(&third, "three"));
    held.unlock().expect("ours");
    assert!(fill(&in_start("3").expect("a process that knows nothing"), "four"));
    let file = fs::File::options().write(true).open(&path).expect("ours");
    file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).expect("ours");
    assert!(!fill(&third, "five") && !fill(&in_start("4").expect("as before"), "six"));
}

#[test]
fn the_memory_that_files_are_copied_with_keeps_its_length() {
    let (place, _store) = open();
    let path = place.path().join("file");
    fs::write(&path, b"content").expect("space");
    let from = || fs::File::open(&path).expect("a file");
    let to = fs::File::create(place.path().join("to")).expect("space");
    let mut buffer = Vec::new();
    assert_eq!(copy::copy_seen(from().as_fd(), to.as_fd(), &mut buffer, |_| {}), Ok(7));
    let length = buffer.len();
    assert_eq!(copy::read_expected(from().as_fd(), 7, &mut buffer), Ok(7));
    assert_eq!((&buffer[..7], buffer.len()), (&b"content"[..], length));
    assert_eq!(copy::read_expected(from().as_fd(), 3, &mut buffer), Ok(4), "one byte more");
}

/// Something that somebody does.
#[derive(Clone, Debug)]
enum Step {
    Store { content: usize, by: usize },
    Fill { environment: usize, by: usize, executable: bool },
    Edit { environment: usize, content: usize },
    Remove { environment: usize },
}

const CONTENTS: [&[u8]; 3] = [b"one", b"the other", b"a third"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3_usize, 0..2_usize).prop_map(|(content, by)| Step::Store { content, by }),
        (0..4_usize, 0..2_usize, any::<bool>())
            .prop_map(|(environment, by, executable)| Step::Fill { environment, by, executable }),
        (0..4_usize, 0..3_usize)
            .prop_map(|(environment, content)| Step::Edit { environment, content }),
        (0..4_usize).prop_map(|environment| Step::Remove { environment }),
    ];
    proptest::collection::vec(step, 1..24)
}

/// What each environment should have.
type Expected = BTreeMap<(usize, usize), Vec<u8>>;

struct World {
    place: tempfile::TempDir,
    stores: [Store; 2],
    expected: Expected,
}

impl World {
    fn path(&self, environment: usize) -> std::path::PathBuf {
        self.place.path().join(environment.to_string())
    }

    fn remove(&mut self, environment: usize) {
        let _ = fs::remove_dir_all(self.path(environment));
        self.expected.retain(|(of, _), _| *of != environment);
    }

    fn fill(&mut self, environment: usize, by: usize, executable: bool) {
        self.remove(environment);
        for _ in 0..=CONTENTS.len() {
            let to = self.path(environment);
            fs::create_dir(&to).expect("space");
            let file = |(index, content): (usize, &&[u8])| File {
                path: index.to_string(),
                content: Content::Object(Object::of(content)),
                executable,
            };
            let files = CONTENTS.iter().enumerate().map(file).collect();
            match self.stores[by].fill(&to, files, FillOptions::default()) {
                Ok(_) => {
                    let whole = CONTENTS.iter().enumerate();
                    self.expected
                        .extend(whole.map(|(index, it)| ((environment, index), it.to_vec())));
                    return;
                }
                // As a transaction does: what is damaged or missing is fetched, and all begins again.
                Err(error) => assert_eq!(error.code, DAMAGED),
            }
            fs::remove_dir_all(&to).expect("ours");
            for content in CONTENTS {
                self.stores[by].put(content, false).expect("space");
            }
        }
        panic!("what was stored a moment ago is damaged");
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Store { content, by } => {
                self.stores[by].put(CONTENTS[content], false).expect("space");
            }
            Step::Fill { environment, by, executable } => self.fill(environment, by, executable),
            Step::Edit { environment, content } => {
                if let Some(bytes) = self.expected.get_mut(&(environment, content)) {
                    bytes[0] = bytes[0].wrapping_add(1);
                    let path = self.place.path().join(environment.to_string());
                    edit_in_place(&path.join(content.to_string()), &bytes[..1]);
                }
            }
            Step::Remove { environment } => self.remove(environment),
        }
    }

    fn check(&self) {
        for ((environment, content), bytes) in &self.expected {
            let path = self.path(*environment).join(content.to_string());
            assert_eq!(&fs::read(&path).expect("it is there"), bytes);
            assert!(fs::metadata(&path).expect("it is there").nlink() <= 2);
        }
        assert_eq!(fs::read_dir(self.stores[0].root().join("tmp")).expect("there").count(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_stored_lent_edited_and_removed_environments_share_nothing(steps in steps()) {
        let (place, store) = open();
        let again = Store::open(store.root()).expect("another process would do so");
        let stores = [store.with_mode(LINK), again.with_mode(LINK).always_named()];
        let mut world = World { place, stores, expected: Expected::new() };
        for step in steps {
            world.take(step);
            world.check();
        }
    }
}
