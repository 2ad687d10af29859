//! An entry of the store's index: which files an artefact unpacked to. A compact binary file that
//! ends with a digest of itself, because it is read for every package of every installation and
//! must never be believed when it is damaged.
//!
//! ```text
//! 8 bytes   "BOLIDEIX"
//! u16       format version
//! u8        form
//! strings   name, version (u32 length, UTF-8)
//! u32       number of warnings, each a string
//! u32       number of files, each: string path, u8 flags, u64 size, 32 bytes SHA-256
//! 32 bytes  SHA-256 of everything before
//! ```
//! All numbers are little-endian. A reader of another version treats the entry as absent.

use std::fs::{File, FileTimes};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest;
use rustix::fs::{Mode, OFlags, Stat};

use super::Object;
use crate::limits;
use crate::metadata::Hashes;
use crate::unpack::names;

/// What kind of archive an artefact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A tarball of npm.
    Npm,
    /// A wheel.
    Wheel,
    /// A `.crate`, which is kept as it is: cargo unpacks it itself.
    Crate,
}

impl Form {
    fn suffix(self) -> &'static str {
        match self {
            Form::Npm => "npm",
            Form::Wheel => "wheel",
            Form::Crate => "crate",
        }
    }

    fn byte(self) -> u8 {
        match self {
            Form::Npm => 1,
            Form::Wheel => 2,
            Form::Crate => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Form::Npm, Form::Wheel, Form::Crate].into_iter().find(|form| form.byte() == byte)
    }
}

/// The files of one artefact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The kind of archive.
    pub form: Form,
    /// The name that the package gives itself (npm: `package.json`; wheel: `.dist-info`; crate: its
    /// folder).
    pub name: String,
    /// The version that the package gives itself. Empty for a crate, whose name holds both.
    pub version: String,
    /// What people should know about the archive.
    pub warnings: Vec<String>,
    /// Every file, sorted by path. A crate has one: itself.
    pub files: Vec<StoredFile>,
}

/// One file of an artefact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// The path inside the package, safe to join.
    pub path: Box<str>,
    /// Its content.
    pub object: Object,
    /// Whether it was executable in the archive.
    pub executable: bool,
    /// Whether it begins with `#!` and that line ends as on Windows, which no kernel understands.
    pub windows_shebang: bool,
}

impl Entry {
    /// The file at a path.
    pub fn file(&self, path: &str) -> Option<&StoredFile> {
        let index = self.files.binary_search_by(|file| (*file.path).cmp(path)).ok()?;
        Some(&self.files[index])
    }

    /// Whether a file or a directory has this path.
    pub fn holds(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let first = self.files.partition_point(|file| *file.path < *below);
        let is_directory = self.files.get(first).is_some_and(|file| file.path.starts_with(&below));
        is_directory || self.file(path).is_some()
    }
}

const MAGIC: &[u8; 8] = b"BOLIDEIX";
const FORMAT_VERSION: u16 = 1;
const DIGEST_BYTES: usize = 32;
const FLAG_EXECUTABLE: u8 = 1;
const FLAG_WINDOWS_SHEBANG: u8 = 2;

/// The names of the index entries of an artefact, one per digest.
pub(super) fn names(hashes: &Hashes, form: Form) -> Vec<String> {
    let name = |(algorithm, digest): (&str, &String)| {
        let usable = digest.len() > 2
            && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        usable.then(|| format!("{}/{algorithm}-{}.{}", &digest[..2], &digest[2..], form.suffix()))
    };
    let digests = [("sha512", &hashes.sha512), ("sha256", &hashes.sha256)];
    digests
        .into_iter()
        .filter_map(|(algorithm, digest)| Some((algorithm, digest.as_ref()?)))
        .filter_map(name)
        .collect()
}

pub(super) fn read(index: &OwnedFd, name: &str, form: Form) -> Option<Entry> {
    let (file, bytes) = bytes(index, name)?;
    let entry = decode(&bytes).filter(|entry| entry.form == form)?;
    note_use(&file);
    Some(entry)
}

/// The same of any form, with the digest at its end, for who only counts.
pub(super) fn read_any(index: &OwnedFd, name: &str) -> Option<(Entry, [u8; DIGEST_BYTES])> {
    let (_, bytes) = bytes(index, name)?;
    let end = bytes.last_chunk().copied();
    decode(&bytes).zip(end)
}

fn bytes(index: &OwnedFd, name: &str) -> Option<(File, Vec<u8>)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::openat(index, name, flags, Mode::empty()).ok()?);
    // Read in one piece: who does not know the length looks for the end in small steps.
    let length = file.metadata().ok()?.len().min(limits::STORE_INDEX_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    (&file).read_exact(&mut bytes).ok()?;
    Some((file, bytes))
}

/// The time of an entry says when it was used last, so that a collection takes away first what has not been for long. Not written
/// for every use of a busy day. Whoever may not write it only looks.
fn note_use(file: &File) {
    let status = rustix::fs::fstat(file);
    if status.is_ok_and(|status| is_use_to_be_noted(&status)) {
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
    }
}

/// Whether the time of the last use of an entry with this status is long ago, or still to come.
pub(super) fn is_use_to_be_noted(status: &Stat) -> bool {
    let seconds = u64::try_from(status.st_mtime).unwrap_or_default();
    let age = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(seconds));
    !age.is_ok_and(|age| age < limits::STORE_USE_NOTED_AFTER)
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + entry.files.len() * 96);
    let string = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.push(entry.form.byte());
    string(&mut bytes, &entry.name);
    string(&mut bytes, &entry.version);
    bytes.extend_from_slice(&(entry.warnings.len() as u32).to_le_bytes());
    for warning in &entry.warnings {
        string(&mut bytes, warning);
    }
    bytes.extend_from_slice(&(entry.files.len() as u32).to_le_bytes());
    for file in &entry.files {
        string(&mut bytes, &file.path);
        let executable = if file.executable { FLAG_EXECUTABLE } else { 0 };
        let shebang = if file.windows_shebang { FLAG_WINDOWS_SHEBANG } else { 0 };
        bytes.push(executable | shebang);
        bytes.extend_from_slice(&file.object.size.to_le_bytes());
        bytes.extend_from_slice(&file.object.digest);
    }
    let digest = digest::digest(&digest::SHA256, &bytes);
    bytes.extend_from_slice(digest.as_ref());
    bytes
}

/// `None` for everything that is not a whole, undamaged entry of this version.
pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
    let (body, expected) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    if digest::digest(&digest::SHA256, body).as_ref() != expected {
        return None;
    }
    let mut reader = Reader(body);
    if reader.take(MAGIC.len())? != MAGIC || u16::from_le_bytes(reader.array()?) != FORMAT_VERSION {
        return None;
    }
    let form = Form::from_byte(reader.array::<1>()?[0])?;
    let (name, version) = (reader.string()?.to_owned(), reader.string()?.to_owned());
    let mut warnings = Vec::new();
    for _ in 0..reader.count()? {
        warnings.push(reader.string()?.to_owned());
    }
    let count = reader.count()?;
    let mut files = Vec::with_capacity(count.min(body.len() / 45));
    for _ in 0..count {
        let path = reader.string()?;
        names::check(path).ok()?;
        let [flags] = reader.array()?;
        let size = u64::from_le_bytes(reader.array()?);
        let digest = reader.array()?;
        files.push(StoredFile {
            path: path.into(),
            object: Object { digest, size },
            executable: flags & FLAG_EXECUTABLE != 0,
            windows_shebang: flags & FLAG_WINDOWS_SHEBANG != 0,
        });
    }
    reader.0.is_empty().then_some(Entry { form, name, version, warnings, files })
}

/// Form, name and version at the beginning of an entry. A crate's name is that of its folder.
pub(super) fn name(bytes: &[u8]) -> Option<(Form, String, String)> {
    let mut reader = Reader(bytes);
    if reader.take(MAGIC.len())? != MAGIC || u16::from_le_bytes(reader.array()?) != FORMAT_VERSION {
        return None;
    }
    let form = Form::from_byte(reader.array::<1>()?[0])?;
    let (name, version) = (reader.string()?, reader.string()?);
    if form != Form::Crate {
        return Some((form, name.to_owned(), version.to_owned()));
    }
    let is_version = |at: &usize| semver::Version::parse(&name[at + 1..]).is_ok();
    let at = name.match_indices('-').map(|(at, _)| at).find(is_version)?;
    Some((form, name[..at].to_owned(), name[at + 1..].to_owned()))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn count(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.array()?) as usize)
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}
