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
fn a_shared_file_is_one_in_all_and_nobody_new_gets_what_was_edited() {
    let (place, store) = open();
    let store = store.with_mode(Wanted::Only(Mode::Share));
    let object = store.put(b"content", false).expect("space");
    let fill = |name: &str, verify: bool| {
        let to = fresh(&place, name);
        let file = File { path: "a".into(), content: Content::Object(object), executable: false };
        let options = FillOptions { verify, ..FillOptions::default() };
        store.fill(&to, vec![file], options).map(|_| to.join("a"))
    };
    let inode = |path: &Path| fs::metadata(path).expect("a file").ino();
    let [one, two, three] =
        [("one", false), ("two", false), ("three", true)].map(|(n, v)| fill(n, v).expect("space"));
    assert!(inode(&one) == inode(&two) && inode(&two) == inode(&three));
    edit_in_place(&one, b"CONTENT");
    assert_eq!(fs::read(&two).expect("a file"), b"CONTENT", "this is what was asked for");
    assert_eq!(fill("four", false).expect_err("changed").code, DAMAGED);
    store.put(b"content", false).expect("space");
    let five = fill("five", false).expect("whole again");
    assert_eq!(fs::read(&five).expect("a file"), b"content");
    // What was touched is read before it is shared on, and has no seal any more.
    let file = fs::File::options().write(true).open(&five).expect("ours");
    file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).expect("ours");
    let six = fill("six", false).expect("it is right");
    assert_eq!(inode(&six), inode(&five));
    assert!(!store.is_sealed(&object, &rustix::fs::stat(&six).expect("a file")));
    edit_in_place(&six, b"other..");
    assert_eq!(fill("seven", false).expect_err("changed").code, DAMAGED);
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
