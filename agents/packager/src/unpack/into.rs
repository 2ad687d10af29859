//! An archive unpacked into a directory by itself, for `bolide unpack`: all of it, or nothing. Not how packages are installed:
//! they go through the [`store`](crate::store).
//!
//! Files are written into a new directory beside the wanted one, private until everything is there and sound, which then takes
//! its place by one rename. It is locked by whoever writes it; one whose lock is free was left by a process that died, and the next
//! one that unpacks something there removes it. Files have the names that they have in the archive, and of their modes only whether they may be
//! executed; directories without a file in them are not made.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::archive::{Contents, Kind};
use super::{Entry, HELPER_FAILED, Refusal, Source, Unpacker};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::limits;
use crate::store::{open_beneath, open_directory, sync_tree};

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// How the archive was read: `tar`, `tar.gz`, `crate`, `zip` or `wheel`.
    pub format: &'static str,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Unpacks `file` into the directory `into`, which must be empty and is made if it is missing.
///
/// # Errors
/// A refusal of the archive has the kind [`ErrorKind::Verification`]; the directory is empty then, as after every failure.
pub fn unpack(unpacker: &Unpacker, file: &Path, into: &Path) -> Result<Unpacked> {
    let shown = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    let archive = open_archive(file)?;
    let place = Place::prepare(into)?;
    let unpack = || -> Result<Unpacked> {
        let format = recognize(&archive, &shown).map_err(|refusal| refusal.of(&shown))?;
        place.remove_abandoned();
        let staging = Staging::new(&place)?;
        let unpacked = write_all(unpacker, &archive, &format, &staging, &shown)?;
        staging.take_place()?;
        Ok(unpacked)
    };
    match unpack() {
        // It says nothing about the archive: another process reads it from the beginning.
        Err(error) if error.code == HELPER_FAILED => unpack(),
        done => done,
    }
}

/// Unpacks a source archive of Python (`.tar.gz`, `.zip`), whose one folder is dropped; links are left out. `name` is the archive's.
///
/// # Errors
/// As [`unpack`].
pub(crate) fn unpack_source(
    unpacker: &Unpacker,
    file: &Path,
    name: &str,
    into: &Path,
) -> Result<Unpacked> {
    if !name.ends_with(".zip") {
        let format = Format { name: "tar.gz", kind: OwnedKind::Source };
        return unpack_as(unpacker, file, &format, name, into);
    }
    // Its reader knows no folder around all.
    let whole = into.with_extension("whole");
    let format = Format { name: "zip", kind: OwnedKind::Zip };
    let unpacked = unpack_as(unpacker, file, &format, name, &whole)?;
    let failed = |error: io::Error| Error::io("read the directory", &whole, &error);
    let mut entries = std::fs::read_dir(&whole).map_err(failed)?;
    let only = match (entries.next().transpose().map_err(failed)?, entries.next()) {
        (Some(only), None) if only.path().is_dir() => only.path(),
        _ => whole.clone(),
    };
    std::fs::rename(only, into).map_err(|error| Error::io("create", into, &error))?;
    Ok(unpacked)
}

/// Unpacks an archive of a known kind.
fn unpack_as(
    unpacker: &Unpacker,
    file: &Path,
    format: &Format,
    name: &str,
    into: &Path,
) -> Result<Unpacked> {
    let archive = open_archive(file)?;
    let place = Place::prepare(into)?;
    let unpack = || -> Result<Unpacked> {
        let staging = Staging::new(&place)?;
        let unpacked = write_all(unpacker, &archive, format, &staging, name)?;
        staging.take_place()?;
        Ok(unpacked)
    };
    match unpack() {
        Err(error) if error.code == HELPER_FAILED => unpack(),
        done => done,
    }
}

fn open_archive(file: &Path) -> Result<File> {
    // A pipe must not be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let archive = rustix::fs::open(file, flags, Mode::empty())
        .map_err(|error| Error::io("open", file, &error.into()))?;
    let stat =
        rustix::fs::fstat(&archive).map_err(|error| Error::io("examine", file, &error.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(archive.into()),
        _ => {
            let message = format!("`{}` is not a file", file.display());
            Err(Error::new(ErrorKind::Usage, "not-a-file", message))
        }
    }
}

/// How an archive is read.
struct Format {
    name: &'static str,
    kind: OwnedKind,
}

enum OwnedKind {
    Tar,
    TarGz,
    Crate(String),
    Zip,
    Wheel,
    Source,
}

impl OwnedKind {
    fn kind(&self) -> Kind<'_> {
        match self {
            OwnedKind::Tar => Kind::Tar,
            OwnedKind::TarGz => Kind::TarGz { folder: None },
            OwnedKind::Crate(folder) => Kind::TarGz { folder: Some(folder) },
            OwnedKind::Zip => Kind::Zip,
            OwnedKind::Wheel => Kind::Wheel,
            // As npm's packages, it has everything in one folder, and that has any name.
            OwnedKind::Source => Kind::Npm,
        }
    }
}

/// The format is what the file begins with, and its name has to agree: a file that is two kinds of archive is a way to show two
/// programs different files.
fn recognize(archive: &File, name: &str) -> Result<Format, Refusal> {
    let mut magic = [0; limits::UNPACK_MAGIC_BYTES];
    let mut filled = 0;
    while filled < magic.len() {
        match archive.read_at(&mut magic[filled..], filled as u64).map_err(Refusal::from_read)? {
            0 => break,
            count => filled += count,
        }
    }
    let magic = &magic[..filled];
    let lower = name.to_ascii_lowercase();
    let ends = |ending: &str| lower.ends_with(ending);
    let (found, format) = if magic.starts_with(&[0x1f, 0x8b]) {
        let format = match name.strip_suffix(".crate") {
            Some(folder) => Format { name: "crate", kind: OwnedKind::Crate(folder.to_owned()) },
            None => Format { name: "tar.gz", kind: OwnedKind::TarGz },
        };
        (ends(".tgz") || ends(".gz") || ends(".crate"), format)
    } else if magic.starts_with(b"PK\x03\x04") || magic.starts_with(b"PK\x05\x06") {
        let format = match ends(".whl") {
            true => Format { name: "wheel", kind: OwnedKind::Wheel },
            false => Format { name: "zip", kind: OwnedKind::Zip },
        };
        (ends(".zip") || ends(".whl"), format)
    } else if magic.len() == limits::UNPACK_MAGIC_BYTES {
        // Whether it is one, its first header says, which has a checksum.
        (ends(".tar"), Format { name: "tar", kind: OwnedKind::Tar })
    } else {
        return Err(Refusal::malformed("it is neither a tar nor a zip archive"));
    };
    let endings = [".tgz", ".gz", ".crate", ".zip", ".whl", ".tar"];
    if !found && endings.iter().any(|ending| ends(ending)) {
        let text = format!("its name is that of another kind of archive than `{}`", format.name);
        return Err(Refusal::Layout(text));
    }
    Ok(format)
}

/// Where it is to go.
struct Place {
    parent: OwnedFd,
    path: PathBuf,
    name: std::ffi::OsString,
    mode: Mode,
}

impl Place {
    fn prepare(into: &Path) -> Result<Self> {
        std::fs::create_dir_all(into)
            .map_err(|error| Error::io("create the directory", into, &error))?;
        let failed = |error: io::Error| Error::io("use the directory", into, &error);
        let path = into.canonicalize().map_err(failed)?;
        if std::fs::read_dir(&path).map_err(failed)?.next().is_some() {
            return Err(not_empty(&path));
        }
        let unusable = |why: &str| {
            let message = format!("`{}` {why}", path.display());
            Error::new(ErrorKind::Usage, "directory-unusable", message)
                .hint("name a directory that is not there yet")
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(unusable("has nothing beside it"));
        };
        if std::env::current_dir().is_ok_and(|current| current == path) {
            return Err(unusable("is the current directory, whose place is to be taken"));
        }
        let stat = rustix::fs::stat(&path).map_err(|error| failed(error.into()))?;
        Ok(Self {
            parent: open_directory(parent)?,
            name: name.to_owned(),
            mode: Mode::from_raw_mode(stat.st_mode & 0o7777),
            path,
        })
    }
}

impl Place {
    /// Removes what processes of ours that died had begun to unpack beside it.
    fn remove_abandoned(&self) {
        let Some(parent) = self.path.parent() else { return };
        let Ok(entries) = std::fs::read_dir(parent) else { return };
        let names = entries.flatten().map(|entry| entry.file_name());
        let begun = names.filter(|name| is_begun(name));
        for name in begun.take(limits::UNPACK_ABANDONED_MAX) {
            let Ok(directory) = open_staging(&self.parent, &name) else { continue };
            let own = rustix::process::geteuid().as_raw();
            let is_ours = rustix::fs::fstat(&directory).is_ok_and(|status| status.st_uid == own);
            if is_ours && rustix::fs::flock(&directory, LOCK).is_ok() {
                // What cannot be removed now may be another time.
                let _ = std::fs::remove_dir_all(parent.join(name));
            }
        }
    }
}

/// What names of directories begin with in which something is being unpacked.
const BEGUN: &str = ".bolide-unpack-";
const LOCK: FlockOperation = FlockOperation::NonBlockingLockExclusive;

/// Whether it is a name that [`Staging::new`] gives: two numbers.
fn is_begun(name: &OsStr) -> bool {
    let numbers = name.to_str().and_then(|name| name.strip_prefix(BEGUN)?.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(process, count)| is_number(process) && is_number(count))
}

fn open_staging(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Whether it is locked for us now, or cannot be for anybody. Otherwise somebody took it for abandoned before it was.
fn is_locked(staging: &OwnedFd) -> bool {
    match rustix::fs::flock(staging, LOCK) {
        Ok(()) => rustix::fs::fstat(staging).is_ok_and(|status| status.st_nlink > 0),
        Err(error) => error != Errno::WOULDBLOCK,
    }
}

fn not_empty(path: &Path) -> Error {
    let message = format!("`{}` is not empty", path.display());
    Error::new(ErrorKind::Verification, "directory-not-empty", message)
        .hint("name a directory that is empty or not there yet; nothing was changed")
}

/// The directory in which everything is written; removed with all that is in it unless it took its place.
struct Staging<'p> {
    place: &'p Place,
    name: String,
    path: PathBuf,
    root: OwnedFd,
    is_kept: bool,
}

impl<'p> Staging<'p> {
    fn new(place: &'p Place) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        const TRIES_MAX: u32 = 1_000;
        for _ in 0..TRIES_MAX {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{BEGUN}{}-{count}", std::process::id());
            let path = place.path.with_file_name(&name);
            let failed = |error: Errno| Error::io("create the directory", &path, &error.into());
            match rustix::fs::mkdirat(&place.parent, name.as_str(), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(failed(error)),
            }
            let root = match open_staging(&place.parent, OsStr::new(&name)) {
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    let _ = std::fs::remove_dir(&path);
                    return Err(failed(error));
                }
                Ok(root) if is_locked(&root) => root,
                Ok(_) => continue,
            };
            return Ok(Self { place, name, path, root, is_kept: false });
        }
        let message = format!("there are too many directories beside `{}`", place.path.display());
        Err(Error::new(ErrorKind::Failed, "io", message))
    }

    /// Creates a file; `None` where there is one.
    fn create(&self, entry: &Entry) -> rustix::io::Result<Option<File>> {
        let (parent, name) = match entry.path.rsplit_once('/') {
            Some((parent, name)) => (self.directory(parent)?, name),
            None => (self.root.try_clone().map_err(|_| Errno::MFILE)?, entry.path.as_str()),
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if entry.executable { 0o777 } else { 0o666 });
        match rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, mode) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a file that was written before.
    fn reopen(&self, path: &str) -> rustix::io::Result<File> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = open_beneath(self.root.as_fd(), parent)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(parent, name, flags, Mode::empty()).map(File::from)
    }

    /// Opens a directory below, and makes what is missing of its path.
    fn directory(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        match open_beneath(self.root.as_fd(), path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let mode = Mode::from_raw_mode(0o777);
            match rustix::fs::mkdirat(&self.root, &path[..end], mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        open_beneath(self.root.as_fd(), path)
    }

    /// Makes it what was asked for, durable and with the mode of the directory whose place it takes.
    fn take_place(mut self) -> Result<()> {
        let Place { parent, name, path, mode } = self.place;
        let failed = |error: Errno| Error::io("put everything into", path, &error.into());
        sync_tree(&self.path)?;
        rustix::fs::fchmod(&self.root, *mode).map_err(failed)?;
        match rustix::fs::renameat(parent, self.name.as_str(), parent, name) {
            Ok(()) => {
                self.is_kept = true;
                Ok(())
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(not_empty(path)),
            Err(error @ (Errno::BUSY | Errno::XDEV)) => {
                Err(failed(error).hint("name a directory that is no mount point"))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed stays beside until somebody unpacks there again.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Either side's failure while an archive is read.
enum Failure {
    Archive(Refusal),
    Disk(Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Archive(refusal)
    }
}

fn write_all(
    unpacker: &Unpacker,
    archive: &File,
    format: &Format,
    staging: &Staging<'_>,
    shown: &str,
) -> Result<Unpacked> {
    let mut unpacked = Unpacked { format: format.name, ..Unpacked::default() };
    let kind = format.kind.kind();
    let mut buffer = vec![0; limits::UNPACK_BUFFER_BYTES];
    let mut manifest = false;
    let take = |entry: Entry, content: &mut dyn Read| -> Result<(), Failure> {
        if let Kind::TarGz { folder: Some(folder) } = kind {
            manifest |= entry.path.strip_prefix(folder) == Some("/Cargo.toml");
        }
        let failed = |error: io::Error| {
            Failure::Disk(Error::io("write", &staging.place.path.join(&entry.path), &error))
        };
        match staging.create(&entry).map_err(|error| failed(error.into()))? {
            Some(mut file) => {
                copy(content, &mut buffer, |bytes| file.write_all(bytes).map_err(failed))?;
                unpacked.files += 1;
                unpacked.bytes += entry.size;
                Ok(())
            }
            None if entry.repeated => {
                let same = staging.reopen(&entry.path).map_err(|error| failed(error.into()))?;
                compare(&entry, content, &mut buffer, &same, failed)
            }
            // Only a file system that confuses names comes here.
            None => Err(Refusal::Repeated(entry.path).into()),
        }
    };
    let read = unpacker.read(Source::File(archive), kind, Contents::All, take);
    unpacked.warnings = read
        .map_err(|failure| match failure {
            Failure::Archive(refusal) => refusal.of(shown),
            Failure::Disk(error) => error,
        })?
        .warnings;
    match kind {
        Kind::TarGz { folder: Some(_) } if !manifest => {
            Err(Refusal::Layout("it has no `Cargo.toml`".to_owned()).of(shown))
        }
        _ => Ok(unpacked),
    }
}

fn copy(
    content: &mut dyn Read,
    buffer: &mut [u8],
    mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        match content.read(buffer).map_err(Refusal::from_read)? {
            0 => return Ok(()),
            count => write(&buffer[..count])?,
        }
    }
}

/// A path that stands twice in an archive is one file as long as both say the same.
fn compare(
    entry: &Entry,
    content: &mut dyn Read,
    buffer: &mut [u8],
    first: &File,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let differs = || Refusal::Repeated(entry.path.clone());
    if first.metadata().map_err(&failed)?.len() != entry.size {
        return Err(differs().into());
    }
    let (half, mut offset) = (buffer.len() / 2, 0);
    let (here, there) = buffer.split_at_mut(half);
    loop {
        let count = content.read(here).map_err(Refusal::from_read)?;
        if count == 0 {
            return Ok(());
        }
        first.read_exact_at(&mut there[..count], offset).map_err(&failed)?;
        if here[..count] != there[..count] {
            return Err(differs().into());
        }
        offset += count as u64;
    }
}
