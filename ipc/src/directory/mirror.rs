//! The mirror of the directory: the same bytes under a name, for tools that have no socket.
//!
//! A named segment has no seals: everybody of the same user may write, shrink or remove it. So the router never maps it, it
//! writes with `pwrite` and never reads; and a reader believes it only as much as it believes any bytes. The name is random,
//! made exclusively, and published in the router's private directory. The router holds a lock on the file for as long as it
//! lives, by which others know which of them are left over.
//!
//! Crate `shared_memory` is used on the reading side alone. Making a segment with it would map it (and a mapping of a file
//! that somebody shrinks kills the process that touches it), and its `as_slice` gives a reference to bytes that change. So
//! even the reader does not touch the mapping itself: the kernel copies out of it, and answers `EFAULT` where memory is gone.
#![allow(unsafe_code, reason = "the kernel copies out of a mapping of another crate")]

use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, MemfdFlags, Mode};
use rustix::shm::OFlags;
use shared_memory::{Shmem, ShmemConf, ShmemError};
use thiserror::Error;

use super::format::{GENERATION_AT, HEADER_WORDS, Places};
use super::reader::{places, read};
use super::{DirectoryError, Picture, Writer};
use crate::limits::{
    DIRECTORY_BYTES, DIRECTORY_PASSES_MAX, MIRROR_ATTEMPTS_MAX, MIRROR_NAME_BYTES_MAX,
    MIRRORS_SWEPT_MAX,
};
use crate::sync::AtomicU64;

/// The file in the router's directory that holds the mirror's name.
pub const NAME_FILE: &str = "directory.name";
/// Where named segments lie on Linux.
const SEGMENTS: &str = "/dev/shm";

/// Why there is no mirror, or it cannot be read.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// No name is published, or it is none of ours.
    #[error("no name of a mirror in `{}`", file.display())]
    NoName {
        /// Where it was looked for.
        file: PathBuf,
        /// Why it could not be read, if it was that.
        source: Option<io::Error>,
    },
    /// Somebody else made what has the name.
    #[error("`{name}` is not this user's private segment")]
    NotOurs {
        /// Its name.
        name: String,
    },
    /// It cannot be opened.
    #[error("cannot open the mirror `{name}`")]
    Open {
        /// Its name.
        name: String,
        /// Why.
        source: ShmemError,
    },
    /// It has another size, or loses it while it is read.
    #[error("the mirror `{name}` was cut off")]
    CutOff {
        /// Its name.
        name: String,
    },
    /// What is in it is no directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system refused.
    #[error("cannot {action} the mirror")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn failed(action: &'static str) -> impl Fn(rustix::io::Errno) -> MirrorError {
    move |errno| MirrorError::System { action, source: errno.into() }
}

/// The router's side: a named file that it writes and never maps. Removed when dropped.
#[derive(Debug)]
pub struct MirrorWriter {
    /// Locked.
    file: OwnedFd,
    name: String,
    published: PathBuf,
}

impl MirrorWriter {
    /// Makes a mirror under a fresh name and publishes it in `directory`, which must be private to this user. Removes first
    /// what routers left that are dead. `random` gives 64 random bits.
    pub fn create(
        directory: &Path,
        mut random: impl FnMut() -> io::Result<u64>,
    ) -> Result<Self, MirrorError> {
        sweep();
        let published = directory.join(NAME_FILE);
        for _ in 0..MIRROR_ATTEMPTS_MAX {
            let random = random()
                .map_err(|source| MirrorError::System { action: "choose a name for", source })?;
            let name = format!("{}{random:016x}", prefix());
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
            let file = match rustix::shm::open(&name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => file,
                Err(rustix::io::Errno::EXIST) => continue,
                Err(error) => return Err(failed("make")(error)),
            };
            // Before it is locked, another router that starts may take it for left over and sweep it.
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => continue,
                Err(error) => return Err(failed("lock")(error)),
            }
            if rustix::fs::fstat(&file).map_err(failed("look at"))?.st_nlink == 0 {
                continue;
            }
            crate::fault::point("mirror.made");
            let mirror = Self { file, name, published };
            mirror.publish().map_err(|source| MirrorError::System { action: "publish", source })?;
            return Ok(mirror);
        }
        Err(MirrorError::System { action: "make", source: io::ErrorKind::AlreadyExists.into() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Copies what `directory` holds. The generation is odd in between (rule 2).
    pub fn write(&self, directory: &Writer) -> io::Result<()> {
        let at = GENERATION_AT * 8;
        // Whoever cut it off has it whole again.
        rustix::fs::ftruncate(&self.file, DIRECTORY_BYTES as u64)?;
        directory.for_each_part(|offset, bytes| {
            if offset > 0 {
                return self.write_all(bytes, offset);
            }
            let mut header = bytes.to_vec();
            header[at..at + 8]
                .copy_from_slice(&directory.generation().wrapping_sub(1).to_le_bytes());
            self.write_all(&header, 0)
        })?;
        crate::fault::point("mirror.half-written");
        self.write_all(&directory.generation().to_le_bytes(), at as u64)
    }

    fn write_all(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = rustix::io::pwrite(&self.file, bytes, offset)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
            offset += written as u64;
        }
        Ok(())
    }

    /// A name appears whole or not at all.
    fn publish(&self) -> io::Result<()> {
        let fresh = self.published.with_extension("name.new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        io::Write::write_all(&mut file, self.name.as_bytes())?;
        crate::fault::point("mirror.before-name");
        std::fs::rename(&fresh, &self.published)
    }
}

impl Drop for MirrorWriter {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next router.
        let _ = rustix::shm::unlink(&self.name);
        if std::fs::read_to_string(&self.published).is_ok_and(|name| name == self.name) {
            let _ = std::fs::remove_file(&self.published);
        }
    }
}

/// A tool's side.
pub struct Mirror {
    shared: Shmem,
    name: String,
}

impl Mirror {
    /// Opens the mirror of the router whose private directory this is.
    pub fn in_directory(directory: &Path) -> Result<Self, MirrorError> {
        let file = directory.join(NAME_FILE);
        let no_name = |source| MirrorError::NoName { file: file.clone(), source };
        let found = std::fs::File::open(&file).map_err(|error| no_name(Some(error)))?;
        let mut name = String::new();
        found
            .take(MIRROR_NAME_BYTES_MAX)
            .read_to_string(&mut name)
            .map_err(|error| no_name(Some(error)))?;
        if !is_name(&name) {
            return Err(no_name(None));
        }
        Self::open(&name)
    }

    /// Opens a mirror by name.
    pub fn open(name: &str) -> Result<Self, MirrorError> {
        let name = name.to_owned();
        let path = Path::new(SEGMENTS).join(name.trim_start_matches('/'));
        let private = |found: &std::fs::Metadata| {
            let uid = rustix::process::geteuid().as_raw();
            found.is_file() && found.uid() == uid && found.mode() & 0o077 == 0
        };
        // Where segments lie elsewhere there is nothing to look at beforehand.
        let found = std::fs::symlink_metadata(path).ok();
        if !is_name(&name) || found.as_ref().is_some_and(|found| !private(found)) {
            return Err(MirrorError::NotOurs { name });
        }
        // An empty one cannot even be mapped.
        if found.is_some_and(|found| found.len() != DIRECTORY_BYTES as u64) {
            return Err(MirrorError::CutOff { name });
        }
        let opened = ShmemConf::new().os_id(&name).open();
        let shared = match opened {
            Ok(shared) => shared,
            Err(source) => return Err(MirrorError::Open { name, source }),
        };
        if shared.len() != DIRECTORY_BYTES {
            return Err(MirrorError::CutOff { name });
        }
        Ok(Self { shared, name })
    }

    /// What the router wrote last. Tries a bounded number of times to get all of it from one refresh.
    pub fn read(&self) -> Result<Picture, MirrorError> {
        let mut last = None;
        for _ in 0..DIRECTORY_PASSES_MAX {
            let before = self.generation()?;
            let words = self.copy(DIRECTORY_BYTES / 8)?;
            let places: Places = places(&words)?;
            let mut picture = read(&words, &places);
            picture.whole = picture.whole && before == self.generation()?;
            if picture.whole {
                return Ok(picture);
            }
            last = Some(picture);
            std::thread::yield_now();
        }
        last.ok_or_else(|| MirrorError::CutOff { name: self.name.clone() })
    }

    fn generation(&self) -> Result<u64, MirrorError> {
        let header = self.copy(HEADER_WORDS)?;
        Ok(header[GENERATION_AT].load(crate::sync::Ordering::Relaxed))
    }

    /// The first words, copied by the kernel through a file of our own.
    fn copy(&self, words: usize) -> Result<Vec<AtomicU64>, MirrorError> {
        let system = |action| move |source| MirrorError::System { action, source };
        let private = rustix::fs::memfd_create("mirror", MemfdFlags::CLOEXEC)
            .map_err(failed("make room for"))?;
        let mut done = 0;
        while done < words * 8 {
            // SAFETY: the offset is within the mapping, which has `DIRECTORY_BYTES`, as was checked when it was opened.
            let start = unsafe { self.shared.as_ptr().add(done) };
            // SAFETY: only the kernel reads there, as from any process's memory: it needs no bytes that keep still, and where
            // the file was cut off it gives an error and no signal. The mapping lives as long as `self`.
            let written = unsafe {
                libc::write(private.as_raw_fd(), start.cast_const().cast(), words * 8 - done)
            };
            match usize::try_from(written) {
                Ok(written) if written > 0 => done += written,
                _ => return Err(MirrorError::CutOff { name: self.name.clone() }),
            }
        }
        let mut file = std::fs::File::from(private);
        file.rewind().map_err(system("copy"))?;
        let mut bytes = Vec::with_capacity(words * 8);
        file.read_to_end(&mut bytes).map_err(system("copy"))?;
        let words = bytes.as_chunks::<8>().0.iter();
        Ok(words.map(|word| AtomicU64::new(u64::from_le_bytes(*word))).collect())
    }
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mirror").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the names of this user's mirrors begin with.
fn prefix() -> String {
    format!("/bolide-directory-{}-", rustix::process::geteuid().as_raw())
}

fn is_name(name: &str) -> bool {
    let random = name.strip_prefix(&prefix()).unwrap_or_default();
    random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Removes mirrors whose router is dead: nobody holds their lock.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(SEGMENTS) else { return };
    let names = entries.filter_map(|entry| Some(format!("/{}", entry.ok()?.file_name().to_str()?)));
    for name in names.filter(|name| is_name(name)).take(MIRRORS_SWEPT_MAX) {
        let Ok(file) = rustix::shm::open(&name, OFlags::RDWR, Mode::empty()) else { continue };
        if rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = rustix::shm::unlink(&name);
        }
    }
}
