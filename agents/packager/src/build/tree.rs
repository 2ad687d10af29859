//! A directory of source that a project names: its digest, and a copy of it for a build. Whoever wrote what lies there may have put
//! anything into it, and may go on writing.
//!
//! 1. Everything is opened from the directory above it, and no link is followed. A copy has only what was read into the digest.
//! 2. A link is copied where it cannot lead out of the tree: not absolute, `..` at its beginning only, and no more of those than it lies
//!    deep. Others are refused by name, and so is what is neither a file nor a directory.
//! 3. What tools make by the way is neither read nor copied: version control, byte code, environments, caches, what setuptools leaves,
//!    and what Bolide itself keeps in a project. So a digest stays the same until the source changes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::io::limits::WRITE_CHUNK_BYTES;
use crate::limits::{SOURCE_TREE_BYTES_MAX, SOURCE_TREE_DEPTH_MAX, SOURCE_TREE_FILES_MAX};

/// What the digest begins with: another way to make it is another word.
const FORM: &[u8] = b"bolide tree 1\n";

/// Directories that hold no source, wherever they lie.
const NO_SOURCE: [&[u8]; 9] = [
    b".git",
    b".hg",
    b".svn",
    b".bzr",
    b".bolide",
    b".nox",
    b".tox",
    b"__pycache__",
    b"node_modules",
];
/// Files by which an environment and a cache say what they are.
const MARKS: [&str; 2] = ["pyvenv.cfg", "CACHEDIR.TAG"];

/// Files that say how a tree is built.
pub(crate) const DECIDING: [&str; 3] = ["pyproject.toml", "setup.cfg", "setup.py"];

/// What was read of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Of names, modes and contents.
    pub(crate) sha256: String,
    /// All files together.
    pub(crate) bytes: u64,
}

/// Reads a tree; `None` where there is no directory. `check` ends it between two files.
///
/// # Errors
/// `tree-refused` for what cannot be source; otherwise those of the system.
pub(crate) fn look(tree: &Path, check: &dyn Fn() -> Result<()>) -> Result<Option<Seen>> {
    walk(tree, None, check)
}

/// Copies a tree to `into`, which must not be there; what was copied.
pub(crate) fn copy(
    tree: &Path,
    into: &Path,
    check: &dyn Fn() -> Result<()>,
) -> Result<Option<Seen>> {
    walk(tree, Some(into), check)
}

/// What decides how a tree is built whose code is used where it lies: the files that say so, and nothing else of it.
pub(crate) fn look_at_project(tree: &Path, check: &dyn Fn() -> Result<()>) -> Result<Option<Seen>> {
    let Some(root) = open_root(tree)? else { return Ok(None) };
    let mut walker = Walker::new(tree, check);
    for name in DECIDING {
        walker.entry(root.as_fd(), Path::new(name), None, 0)?;
    }
    Ok(Some(walker.seen()))
}

fn open_root(tree: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(tree, flags, Mode::empty()) {
        Ok(root) => Ok(Some(root)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(Error::io("read the directory", tree, &error.into())),
    }
}

fn walk(tree: &Path, into: Option<&Path>, check: &dyn Fn() -> Result<()>) -> Result<Option<Seen>> {
    let Some(root) = open_root(tree)? else { return Ok(None) };
    let mut walker = Walker::new(tree, check);
    walker.directory(root.as_fd(), Path::new(""), into, 0)?;
    Ok(Some(walker.seen()))
}

struct Walker<'w> {
    tree: &'w Path,
    digest: Context,
    bytes: u64,
    files: usize,
    check: &'w dyn Fn() -> Result<()>,
}

impl<'w> Walker<'w> {
    fn new(tree: &'w Path, check: &'w dyn Fn() -> Result<()>) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(FORM);
        Self { tree, digest, bytes: 0, files: 0, check }
    }

    fn seen(self) -> Seen {
        Seen { sha256: hex(self.digest.finish().as_ref()), bytes: self.bytes }
    }

    /// One directory, `path` from the root, and everything in it, by name.
    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        into: Option<&Path>,
        depth: usize,
    ) -> Result<()> {
        if depth > SOURCE_TREE_DEPTH_MAX {
            return Err(self.refused(path, "lies too deep"));
        }
        if let Some(into) = into {
            std::fs::create_dir(into).map_err(|error| Error::io("create", into, &error))?;
        }
        let failed = |error: Errno| Error::io("read", &self.tree.join(path), &error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
            if self.files + names.len() > SOURCE_TREE_FILES_MAX {
                return Err(self
                    .refused(path, &format!("makes it more than {SOURCE_TREE_FILES_MAX} files")));
            }
        }
        names.sort_unstable();
        for name in names {
            (self.check)()?;
            let name = std::ffi::OsStr::from_bytes(&name);
            let (path, into) = (path.join(name), into.map(|into| into.join(name)));
            self.entry(directory, &path, into.as_deref(), depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        into: Option<&Path>,
        depth: usize,
    ) -> Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let failed = |error: Errno| Error::io("read", &self.tree.join(path), &error.into());
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It is no part of the tree any more.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |more: OFlags| rustix::fs::openat(directory, name, flags | more, Mode::empty());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = open(OFlags::DIRECTORY).map_err(failed)?;
                if is_no_source(&inner, name.as_bytes(), depth == 0) {
                    return Ok(());
                }
                self.told(b'd', path, &[]);
                self.directory(inner.as_fd(), path, into, depth + 1)
            }
            FileType::RegularFile if is_left_out(name.as_bytes(), depth == 0) => Ok(()),
            FileType::RegularFile => {
                let file = open(OFlags::empty()).map_err(failed)?;
                self.file(file, path, into)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(failed)?;
                self.link(target.as_bytes(), path, into, depth)
            }
            _ => Err(self.refused(path, "is neither a file nor a directory")),
        }
    }

    fn file(&mut self, file: OwnedFd, path: &Path, into: Option<&Path>) -> Result<()> {
        let failed = |error: std::io::Error| Error::io("read", &self.tree.join(path), &error);
        let mut file = File::from(file);
        let status = file.metadata().map_err(failed)?;
        if !status.is_file() {
            return Err(self.refused(path, "is neither a file nor a directory"));
        }
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        let is_executable = status.permissions().mode() & 0o100 != 0;
        let mode = if is_executable { 0o755 } else { 0o644 };
        let mut copy = match into {
            Some(into) => {
                let mut options = std::fs::OpenOptions::new();
                let made = options.write(true).create_new(true).mode(mode).open(into);
                Some(made.map_err(|error| Error::io("create", into, &error))?)
            }
            None => None,
        };
        let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; WRITE_CHUNK_BYTES]);
        loop {
            let count = match file.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            if count == 0 {
                break;
            }
            self.bytes += count as u64;
            if self.bytes > SOURCE_TREE_BYTES_MAX {
                return Err(self
                    .refused(path, &format!("makes it more than {SOURCE_TREE_BYTES_MAX} bytes")));
            }
            digest.update(&buffer[..count]);
            if let Some(copy) = &mut copy {
                copy.write_all(&buffer[..count]).map_err(failed)?;
            }
        }
        let kind = if is_executable { b'x' } else { b'f' };
        self.told(kind, path, digest.finish().as_ref());
        Ok(())
    }

    fn link(&mut self, to: &[u8], path: &Path, into: Option<&Path>, depth: usize) -> Result<()> {
        if leads_out(to, depth) {
            return Err(self.refused(path, "is a link that may lead out of it"));
        }
        if let Some(into) = into {
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(to), into)
                .map_err(|error| Error::io("create", into, &error))?;
        }
        self.told(b'l', path, to);
        Ok(())
    }

    /// One entry of the digest. Lengths come first, so that no two trees read the same.
    fn told(&mut self, kind: u8, path: &Path, content: &[u8]) {
        self.files += 1;
        let path = path.as_os_str().as_bytes();
        self.digest.update(&[kind]);
        for part in [path, content] {
            self.digest.update(&(part.len() as u64).to_le_bytes());
            self.digest.update(part);
        }
    }

    fn refused(&self, path: &Path, why: &str) -> Error {
        let path: PathBuf = self.tree.join(path);
        let message = format!("`{}` {why}: it is not built of such a tree", path.display());
        Error::new(Kind::Refused, "tree-refused", message)
            .hint("take it out of the tree, or name an archive of the source; nothing was changed")
    }
}

/// Whether a link that lies so deep in a tree may lead out of it.
pub(crate) fn leads_out(to: &[u8], depth: usize) -> bool {
    let parts: Vec<&[u8]> = to.split(|byte| *byte == b'/').collect();
    let up = parts.iter().take_while(|part| ***part == *b"..").count();
    to.starts_with(b"/") || up > depth || parts[up..].contains(&&b".."[..])
}

/// Whether a directory holds what tools make and no source.
fn is_no_source(directory: &OwnedFd, name: &[u8], is_top: bool) -> bool {
    let has = |name: &str| rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    // What setuptools leaves in a tree; a package of that name has its own file.
    let is_output = |begins: &[&[u8]]| {
        let entries = Dir::read_from(directory).ok().into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_bytes().to_vec());
        names.any(|name| begins.iter().any(|begin| name.starts_with(begin)))
    };
    NO_SOURCE.contains(&name)
        || name.ends_with(b".egg-info")
        || MARKS.into_iter().any(has)
        || (is_top && name == b"build" && !has("__init__.py") && is_output(&[b"lib", b"bdist."]))
}

/// Whether a file is no source: byte code, and the lock that changes when it is installed.
fn is_left_out(name: &[u8], is_top: bool) -> bool {
    name.ends_with(b".pyc") || (is_top && name == crate::lock::FILE.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a directory");
        write(place.path(), "a/b.py", "b");
        write(place.path(), "setup.py", "s");
        place
    }

    fn write(tree: &Path, path: &str, text: &str) {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn digest(tree: &Path) -> String {
        look(tree, &|| Ok(())).expect("read").expect("there").sha256
    }

    #[test]
    fn a_digest_changes_with_the_source_and_with_nothing_else() {
        let place = place();
        let tree = place.path();
        let before = digest(tree);
        for by_the_way in [
            ".git/HEAD",
            "a/__pycache__/b.pyc",
            "a/b.pyc",
            ".venv/pyvenv.cfg",
            "cache/CACHEDIR.TAG",
            "x.egg-info/PKG-INFO",
            "build/lib/a/b.py",
            ".bolide/x",
            "bolide.lock",
        ] {
            write(tree, by_the_way, "x");
            assert_eq!(digest(tree), before, "{by_the_way}");
        }
        let copied = place.path().join(".bolide/copy");
        let seen = copy(tree, &copied, &|| Ok(())).expect("copied").expect("there");
        assert_eq!((seen.sha256.as_str(), seen.bytes), (before.as_str(), 2));
        assert_eq!(digest(&copied), before);
        assert!(!copied.join(".git").exists());
        let mut seen = vec![before];
        let mut is_new = |tree: &Path| {
            let now = digest(tree);
            assert!(!seen.contains(&now));
            seen.push(now);
        };
        write(tree, "a/b.py", "c");
        is_new(tree);
        std::fs::set_permissions(tree.join("a/b.py"), std::fs::Permissions::from_mode(0o755))
            .expect("changed");
        is_new(tree);
        symlink("../a/b.py", tree.join("a/link")).expect("linked");
        is_new(tree);
        write(tree, "a/bolide.lock", "x");
        is_new(tree);
        std::fs::rename(tree.join("setup.py"), tree.join("setup.cfg")).expect("renamed");
        is_new(tree);
        assert_eq!(look(&tree.join("gone"), &|| Ok(())).expect("looked"), None);
        assert_eq!(look(&tree.join("setup.cfg"), &|| Ok(())).expect("looked"), None);
    }

    #[test]
    fn what_leads_out_of_a_tree_is_refused() {
        for target in ["/etc/passwd", "../x", "../../x", "b/../../x", "./.."] {
            let place = place();
            let link = if target == "../x" { "link" } else { "a/link" };
            symlink(target, place.path().join(link)).expect("linked");
            let error = look(place.path(), &|| Ok(())).expect_err(target);
            assert_eq!(error.code, "tree-refused", "{target}");
            assert!(error.message.contains("link"), "{error}");
        }
        let place = place();
        symlink("../setup.py", place.path().join("a/link")).expect("linked");
        look(place.path(), &|| Ok(())).expect("inside");
        let pipe = place.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("a pipe");
        let error = look(place.path(), &|| Ok(())).expect_err("a pipe");
        assert!(error.message.contains("neither a file nor a directory"), "{error}");
    }

    #[test]
    fn of_a_tree_that_is_used_where_it_lies_only_the_project_counts() {
        let place = place();
        let project = || {
            let seen = look_at_project(place.path(), &|| Ok(()));
            seen.expect("read").expect("there").sha256
        };
        let before = project();
        write(place.path(), "a/b.py", "c");
        assert_eq!(project(), before);
        write(place.path(), "setup.py", "t");
        let changed = project();
        assert_ne!(changed, before);
        write(place.path(), "pyproject.toml", "");
        assert_ne!(project(), changed);
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let mut deep = place.path().to_owned();
        for _ in 0..SOURCE_TREE_DEPTH_MAX + 2 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).expect("made");
        let error = look(place.path(), &|| Ok(())).expect_err("too deep");
        assert!(error.message.contains("too deep"), "{error}");
        let place = tempfile::tempdir().expect("a directory");
        let large = File::create(place.path().join("large")).expect("made");
        large.set_len(SOURCE_TREE_BYTES_MAX + 1).expect("sparse");
        let stop = || Err(Error::new(Kind::Failed, "cancelled", "by its caller"));
        assert_eq!(look(place.path(), &stop).expect_err("cancelled").code, "cancelled");
    }
}
