//! The files of a commit, written by us out of its objects. Whoever made the commit could have put anything into it, whatever git itself
//! would have refused to.
//!
//! 1. Everything is counted and judged by its list before anything is written: names, kinds, sizes, how deep.
//! 2. Files are made anew, and never through a link: links come last, and a name that is there already is refused.
//! 3. What a link may lead to is the same as in a directory ([`leads_out`]). A submodule is another repository, and refused by name.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::limits::{
    GIT_AROUND_BYTES_MAX, GIT_LINK_BYTES_MAX, GIT_LIST_BYTES_MAX, GIT_PATH_BYTES_MAX,
};
use super::run::{Ended, Git, LACKS, Order, Reach};
use crate::build::tree::leads_out;
use crate::error::{Error, Kind, Result};
use crate::limits::{SOURCE_TREE_BYTES_MAX, SOURCE_TREE_DEPTH_MAX, SOURCE_TREE_FILES_MAX};
use crate::manifest::address::git::Repository;
use crate::unpack::printable;

/// The code of what a repository fails with that lost something or was changed; never of what only this machine did not let be done.
pub(crate) const DAMAGED: &str = "git-damaged";

/// Kinds of objects that no file is.
const OTHER_KINDS: [&str; 3] = ["commit", "tag", "tree"];

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    File,
    Program,
    Link,
}

/// One file of the list.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'l> {
    what: What,
    object: &'l str,
    bytes: u64,
    path: &'l [u8],
}

impl Git<'_> {
    /// Writes what a commit has in the repository's subdirectory to `into`, which must not be there. `scratch` is a directory for what is
    /// needed on the way.
    pub(crate) fn write_tree(
        &self,
        (repository, commit): (&Repository, &str),
        place: &Path,
        (scratch, into): (&Path, &Path),
    ) -> Result<()> {
        let list = self.list((repository, commit), place)?;
        if let Some(path) = unreadable(&list) {
            return Err(damaged(repository, path, "its object cannot be read"));
        }
        let entries = entries(&list).map_err(|(path, why)| refused(repository, path, &why))?;
        let files = [scratch.join("objects"), scratch.join("contents")];
        let about = (repository, commit);
        let written = self.write_entries(about, &entries, place, (&files, into));
        // However it went: whoever tries it once more needs the names.
        let removed = files.each_ref().map(|path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", path, &error))
            }
            _ => Ok(()),
        });
        written.and(removed.into_iter().collect())
    }

    /// Writes what the list has, by a file of names that git is told and one of what it says.
    fn write_entries(
        &self,
        (repository, commit): (&Repository, &str),
        entries: &[Entry<'_>],
        place: &Path,
        ([input, output], into): (&[PathBuf; 2], &Path),
    ) -> Result<()> {
        let names: Vec<&str> = entries.iter().flat_map(|entry| [entry.object, "\n"]).collect();
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| Error::io(what, &path, &error)
        };
        std::fs::write(input, names.concat()).map_err(failed("write", input))?;
        std::fs::create_dir(into).map_err(failed("create", into))?;
        if !entries.is_empty() {
            let order = Order::new(Reach::Here, Some(place), &["cat-file", "--batch", "--buffer"]);
            let ended = self.run(&Order { files: Some((input, output)), ..order })?;
            if !ended.is_well {
                // git says the same where it cannot write.
                takes(output, size_around(entries)).map_err(failed("write", output))?;
                return Err(unread((repository, commit), &ended));
            }
            let contents = File::open(output).map_err(failed("read", output))?;
            Writer { repository, into, made: BTreeSet::new(), contents: BufReader::new(contents) }
                .write(entries)?;
        }
        Ok(())
    }

    /// All files below, with what they are.
    fn list(&self, (repository, commit): (&Repository, &str), place: &Path) -> Result<Vec<u8>> {
        let directory = repository.subdirectory.as_deref().unwrap_or_default();
        let tree = format!("{commit}:{directory}");
        let arguments = ["ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", &tree];
        let order = Order::new(Reach::Here, Some(place), &arguments);
        let order = Order { said_bytes_max: GIT_LIST_BYTES_MAX, ..order };
        let ended = self.run(&order)?;
        if ended.said.len() as u64 >= GIT_LIST_BYTES_MAX {
            return Err(refused(repository, b"", "has too many files"));
        }
        if ended.is_well {
            return Ok(ended.said);
        }
        let Some(instead) = self.no_directory((commit, directory), place)? else {
            return Err(unread((repository, commit), &ended));
        };
        let shown = repository.shown();
        let message = format!("`{shown}` has no directory `{directory}` in `{commit}`{instead}");
        Err(Error::new(Kind::Failed, "git-no-directory", message)
            .hint("correct the subdirectory that the manifest names"))
    }

    /// What is in the place of a directory, where what lies above can be read and does not have it. git says the same of one that is there
    /// and damaged.
    fn no_directory(
        &self,
        (commit, directory): (&str, &str),
        place: &Path,
    ) -> Result<Option<&'static str>> {
        if directory.is_empty() {
            return Ok(None);
        }
        let arguments =
            ["ls-tree", "-d", "-z", "--full-tree", "--end-of-options", commit, "--", directory];
        let ended = self.run(&Order::new(Reach::Here, Some(place), &arguments))?;
        Ok(match ended.said.as_slice() {
            _ if !ended.is_well => None,
            [] => Some(""),
            said if said.starts_with(b"160000 ") => {
                Some(": what is called so is a submodule, which is not followed")
            }
            _ => None,
        })
    }
}

/// Why a commit cannot be read: it is damaged, or this machine did not let it be read.
fn unread((repository, commit): (&Repository, &str), ended: &Ended) -> Error {
    let message = format!("`{commit}` of `{}` cannot be read: {}", repository.shown(), ended.why);
    match ended.is_of_what_it_read() {
        true => Error::new(Kind::Failed, DAMAGED, message)
            .hint("`bolide cache collect --all` throws away what was kept of it"),
        false => Error::new(Kind::Failed, "git-failed", message).hint(LACKS),
    }
}

/// Bytes of what git says of all entries, at most.
fn size_around(entries: &[Entry<'_>]) -> u64 {
    entries.iter().map(|entry| entry.bytes.saturating_add(GIT_AROUND_BYTES_MAX)).sum()
}

/// Whether the disk takes what was to be written to a file.
fn takes(path: &Path, bytes: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().append(true).open(path)?;
    match rustix::io::retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, bytes)) {
        // Not every disk can say so beforehand.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            (&file).write_all(&[0; GIT_AROUND_BYTES_MAX as usize])?;
        }
        taken => taken?,
    }
    file.sync_data()
}

/// The first path whose object git itself cannot read, which it lists all the same.
fn unreadable(list: &[u8]) -> Option<&[u8]> {
    let paths = list.split(|byte| *byte == 0).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'\t')?;
        let head = line[..at].trim_ascii_end();
        head.ends_with(b" BAD").then_some(&line[at + 1..])
    });
    paths.into_iter().next()
}

/// Why a path is refused.
type Refusal<'l> = (&'l [u8], String);

/// Reads the list and judges it.
fn entries(list: &[u8]) -> std::result::Result<Vec<Entry<'_>>, Refusal<'_>> {
    let (mut found, mut bytes) = (Vec::new(), 0_u64);
    for line in list.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
        let entry = entry(line)?;
        check_path(entry.path)?;
        let limit = if entry.what == What::Link { GIT_LINK_BYTES_MAX } else { u64::MAX };
        bytes = bytes.saturating_add(entry.bytes);
        if entry.bytes > limit {
            return Err((entry.path, "is a link to a path that is too long".to_owned()));
        }
        if bytes > SOURCE_TREE_BYTES_MAX {
            return Err((entry.path, format!("makes it more than {SOURCE_TREE_BYTES_MAX} bytes")));
        }
        found.push(entry);
        if found.len() > SOURCE_TREE_FILES_MAX {
            return Err((b"", format!("has more than {SOURCE_TREE_FILES_MAX} files")));
        }
    }
    Ok(found)
}

/// `MODE KIND OBJECT SIZE<tab>PATH`.
fn entry(line: &[u8]) -> std::result::Result<Entry<'_>, Refusal<'_>> {
    let odd = || (line, "is nothing that a list of files has".to_owned());
    let at = line.iter().position(|byte| *byte == b'\t').ok_or_else(odd)?;
    let (head, path) = (&line[..at], &line[at + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| odd())?;
    let words: Vec<&str> = head.split_ascii_whitespace().collect();
    let [mode, kind, object, bytes] = words[..] else { return Err(odd()) };
    let what = match (mode, kind) {
        ("160000", _) | (_, "commit") => {
            return Err((path, "is a submodule, which is not followed".to_owned()));
        }
        ("100755", "blob") => What::Program,
        ("120000", "blob") => What::Link,
        (mode, "blob") if mode.starts_with("100") => What::File,
        _ => return Err((path, "is neither a file nor a link".to_owned())),
    };
    let bytes = bytes.parse().map_err(|_| odd())?;
    Ok(Entry { what, object, bytes, path })
}

fn check_path(path: &[u8]) -> std::result::Result<(), Refusal<'_>> {
    let parts = || path.split(|byte| *byte == b'/');
    let is_odd = |part: &[u8]| {
        part.is_empty() || part == b"." || part == b".." || part.eq_ignore_ascii_case(b".git")
    };
    match () {
        () if parts().any(is_odd) => Err((path, "is no path within a tree".to_owned())),
        () if path.len() > GIT_PATH_BYTES_MAX => Err((path, "is too long".to_owned())),
        () if parts().count() > SOURCE_TREE_DEPTH_MAX => Err((path, "lies too deep".to_owned())),
        () => Ok(()),
    }
}

fn refused(repository: &Repository, path: &[u8], why: &str) -> Error {
    let shown = repository.shown();
    let what = match path {
        [] => format!("`{shown}` {why}"),
        path => format!("`{}` in `{shown}` {why}", printable(path)),
    };
    Error::new(Kind::Refused, "tree-refused", format!("{what}: it is not built of such a tree"))
        .hint("name an archive of the source, or another revision; nothing was changed")
}

fn damaged(repository: &Repository, path: &[u8], why: &str) -> Error {
    let (path, shown) = (printable(path), repository.shown());
    let message = format!("`{path}` of `{shown}` cannot be read: {why}");
    Error::new(Kind::Failed, DAMAGED, message)
        .hint("`bolide cache collect --all` throws away what was kept of it")
}

/// Writes files as git gives their contents.
struct Writer<'w> {
    repository: &'w Repository,
    into: &'w Path,
    /// The directories that are there.
    made: BTreeSet<PathBuf>,
    contents: BufReader<File>,
}

impl Writer<'_> {
    fn write(mut self, entries: &[Entry<'_>]) -> Result<()> {
        let mut links = Vec::new();
        for entry in entries {
            self.head(entry)?;
            if entry.what == What::Link {
                let mut target = Vec::new();
                let read = (&mut self.contents).take(entry.bytes).read_to_end(&mut target);
                read.map_err(|error| self.not_read(entry, &error))?;
                links.push((entry, target));
            } else {
                self.file(entry)?;
            }
            let mut end = [0];
            match self.contents.read_exact(&mut end) {
                Ok(()) if end == *b"\n" => {}
                _ => return Err(self.damaged(entry, "it ends in the middle")),
            }
        }
        for (entry, target) in links {
            let depth = entry.path.iter().filter(|byte| **byte == b'/').count();
            if leads_out(&target, depth) || target.is_empty() || target.contains(&0) {
                let why = "is a link that may lead out of it";
                return Err(refused(self.repository, entry.path, why));
            }
            let path = self.path(entry)?;
            let target = std::ffi::OsStr::from_bytes(&target);
            symlink(target, &path).map_err(|error| self.not_made(entry, &error))?;
        }
        Ok(())
    }

    /// `OBJECT blob SIZE`, which has to be what the list said.
    fn head(&mut self, entry: &Entry<'_>) -> Result<()> {
        let mut line = Vec::new();
        let read = (&mut self.contents).take(GIT_AROUND_BYTES_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| self.not_read(entry, &error))?;
        let expected = format!("{} blob {}\n", entry.object, entry.bytes);
        let is_of = |kind: &&str| line.starts_with(format!("{} {kind} ", entry.object).as_bytes());
        match () {
            () if line == expected.as_bytes() => Ok(()),
            // Nothing is lost: whoever made the tree called it so.
            () if OTHER_KINDS.iter().any(is_of) => {
                Err(refused(self.repository, entry.path, "is said to be a file and is none"))
            }
            () => Err(self.damaged(entry, "it is not in the repository")),
        }
    }

    fn file(&mut self, entry: &Entry<'_>) -> Result<()> {
        let path = self.path(entry)?;
        let mode = if entry.what == What::Program { 0o755 } else { 0o644 };
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(mode).open(&path);
        let mut file = made.map_err(|error| self.not_made(entry, &error))?;
        let copied = std::io::copy(&mut (&mut self.contents).take(entry.bytes), &mut file);
        let copied = copied.map_err(|error| Error::io("write", &path, &error))?;
        file.flush().map_err(|error| Error::io("write", &path, &error))?;
        if copied != entry.bytes {
            return Err(self.damaged(entry, "it ends in the middle"));
        }
        Ok(())
    }

    /// Its place, with the directories above. None of them is a link: those are not made yet.
    fn path(&mut self, entry: &Entry<'_>) -> Result<PathBuf> {
        let inside = Path::new(std::ffi::OsStr::from_bytes(entry.path));
        let above: Vec<&Path> = inside.ancestors().skip(1).collect();
        for directory in above.into_iter().rev().filter(|it| !it.as_os_str().is_empty()) {
            if self.made.insert(directory.to_owned()) {
                let path = self.into.join(directory);
                std::fs::create_dir(path).map_err(|error| self.not_made(entry, &error))?;
            }
        }
        Ok(self.into.join(inside))
    }

    fn not_made(&self, entry: &Entry<'_>, error: &std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                refused(self.repository, entry.path, "stands there twice")
            }
            _ => Error::io("create", &self.into.join(printable(entry.path)), error),
        }
    }

    /// What git has said lies here, and cannot be read.
    fn not_read(&self, entry: &Entry<'_>, error: &std::io::Error) -> Error {
        Error::io("read the contents of", &self.into.join(printable(entry.path)), error)
    }

    fn damaged(&self, entry: &Entry<'_>, why: &str) -> Error {
        damaged(self.repository, entry.path, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[track_caller]
    fn refuses(mode: &str, kind: &str, bytes: &str, path: &str, why: &str) {
        let list = format!("{mode} {kind} {OBJECT} {bytes:>7}\t{path}\0");
        let (_, said) = entries(list.as_bytes()).expect_err(path);
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn a_list_is_judged_before_anything_is_written() {
        let list = format!("100644 blob {OBJECT}       3\ta b/c\0120000 blob {OBJECT} 1\td\0");
        let found = entries(list.as_bytes()).expect("a list");
        let file = Entry { what: What::File, object: OBJECT, bytes: 3, path: b"a b/c" };
        assert_eq!(found[0], file);
        assert_eq!(found[1].what, What::Link);
        refuses("160000", "commit", "-", "sub", "a submodule");
        refuses("100644", "blob", "1", "../x", "no path within");
        refuses("100644", "blob", "1", "/x", "no path within");
        refuses("100644", "blob", "1", "a//x", "no path within");
        refuses("100644", "blob", "1", "a/.GIT/config", "no path within");
        refuses("100644", "blob", "3000000000", "x", "bytes");
        refuses("120000", "blob", "5000", "x", "too long");
        refuses("040000", "tree", "-", "x", "neither");
        refuses("100644", "blob", "1", &"d/".repeat(200), "no path within");
        refuses("100644", "blob", "1", &format!("{}x", "d/".repeat(200)), "too deep");
        refuses("100644", "blob", "1", &"x".repeat(5_000), "too long");
        let many = format!("100644 blob {OBJECT} 0\tx\0").repeat(SOURCE_TREE_FILES_MAX + 1);
        assert!(entries(many.as_bytes()).expect_err("too many").1.contains("files"));
    }

    #[test]
    fn what_git_cannot_read_is_damage_and_what_is_called_wrongly_is_refused() {
        let bad =
            format!("100644 blob {OBJECT}       3\ta BAD\0100644 blob {OBJECT}     BAD\tb\tc\0");
        assert_eq!(unreadable(bad.as_bytes()), Some(&b"b\tc"[..]));
        let fine = format!("100644 blob {OBJECT}       3\ta BAD\0100644 blob {OBJECT} 3\t BAD\0");
        assert_eq!(unreadable(fine.as_bytes()), None);
        let one = [Entry { what: What::File, object: OBJECT, bytes: 1, path: b"a" }];
        let refused = written(&one, &format!("{OBJECT} tree 1\na\n")).expect_err("a directory");
        assert!(refused.code == "tree-refused" && refused.message.contains("is none"), "{refused}");
        for said in [format!("{OBJECT} missing\n"), format!("{OBJECT} blob 2\nab\n")] {
            assert_eq!(written(&one, &said).expect_err("damaged").code, DAMAGED, "{said}");
        }
    }

    fn written(entries: &[Entry<'_>], contents: &str) -> Result<tempfile::TempDir> {
        let place = tempfile::tempdir().expect("a directory");
        let (into, path) = (place.path().join("tree"), place.path().join("contents"));
        std::fs::create_dir(&into).expect("a directory");
        std::fs::write(&path, contents).expect("a file");
        let repository =
            Repository { remote: "https://h/x".into(), revision: None, subdirectory: None };
        let contents = BufReader::new(File::open(path).expect("a file"));
        Writer { repository: &repository, into: &into, made: BTreeSet::new(), contents }
            .write(entries)
            .map(|()| place)
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let entry = |what, path: &'static str, bytes| Entry {
            what,
            object: OBJECT,
            bytes,
            path: path.as_bytes(),
        };
        let content = |text: &str| format!("{OBJECT} blob {}\n{text}\n", text.len());
        let (link, file) = (content("../.."), content("hush"));
        // A tree that git itself would not make: a link, and a directory of the same name.
        let both = [entry(What::Link, "a", 1), entry(What::File, "a/x", 4)];
        let error = written(&both, &format!("{}{file}", content("b"))).expect_err("twice");
        assert!(error.message.contains("stands there twice"), "{error}");
        let out = [entry(What::Link, "a/b", 5)];
        assert!(written(&out, &link).expect_err("out").message.contains("may lead out"));
        let fine = [
            entry(What::Link, "a/b", 4),
            entry(What::Program, "a/c", 4),
            entry(What::File, "d", 0),
        ];
        let all = [content("../d"), file.clone(), content("")].concat();
        let place = written(&fine, &all).expect("written");
        let read = std::fs::read_to_string(place.path().join("tree/a/c")).expect("a file");
        assert_eq!(read, "hush");
        assert!(place.path().join("tree/a/b").symlink_metadata().expect("one").is_symlink());
        for cut in [1, 60, all.len() - 1] {
            assert!(written(&fine, &all[..cut]).is_err(), "{cut}");
        }
    }
}
