//! The few things that a log asks of a file system, and the real one.
//!
//! Files are written with `pwrite`, not through a mapping; figures in the header of `log`. A trait,
//! so that tests can be a disk that loses power: every call that changes something is one point at
//! which they crash.
//!
//! Not here: what the bytes mean (`format`), when something is synced (`commit`).

use std::fmt::Debug;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// One file of a log.
pub(super) trait SegmentFile: Debug + Send + Sync {
    /// Reads what is there, at most until the buffer is full.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all, or fails with any part of it written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file at least so long, with the space taken; what was not written reads as zero.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Forgets what is behind this length.
    fn truncate(&self, length: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
    /// Returns when the bytes survive power loss.
    fn sync(&self) -> io::Result<()>;
    /// For a mechanism that syncs several files at once; `None` where only [`Self::sync`] can.
    fn descriptor(&self) -> Option<&File>;
}

/// The directory of a log.
pub(super) trait Storage: Debug + Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new file; fails where there is one.
    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Replaces a file that has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Returns when the names survive power loss.
    fn sync_directory(&self) -> io::Result<()>;
}

/// A directory of this machine. While it is held no other process can hold it.
#[derive(Debug)]
pub(super) struct Directory {
    file: File,
    path: PathBuf,
}

impl Directory {
    /// Makes the directory where there is none, for its owner only, and locks it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) => {
                // Its name must survive as well; the directory above is the caller's.
                let above = path.parent().filter(|above| !above.as_os_str().is_empty());
                File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Err(_) => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { file, path: path.to_owned() })
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<Arc<dyn SegmentFile>> {
        let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Arc::new(File::from(file)))
    }
}

impl Storage for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name()));
        let names: io::Result<Vec<_>> = names.collect();
        // A name that is no text is none of ours.
        Ok(names?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        self.open_with(name, OFlags::CREATE | OFlags::EXCL)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        self.open_with(name, OFlags::empty())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.file, name, AtFlags::empty())?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.file, from, &self.file, to)?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl SegmentFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, length) {
            // This file system cannot; a full disk is then found by the write itself.
            Err(Errno::OPNOTSUPP) if self.metadata()?.len() < length => self.set_len(length),
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn descriptor(&self) -> Option<&File> {
        Some(self)
    }
}
