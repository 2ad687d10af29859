//! One file of an archive, written where its package is given away from ([`Fresh`]), and given its name in the store there.

use std::collections::HashSet;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use ring::digest;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::{Failure, Head, has_windows_shebang};
use crate::error::{Error, Result};
use crate::limits;
use crate::metadata::Hashes;
use crate::store::entry::{Entry, StoredFile};
use crate::store::prepared::{Fresh, Piece, Writing};
use crate::store::{Object, Store};
use crate::unpack::{Entry as Found, Refusal};

/// Where a package is unpacked that is about to be installed.
#[derive(Clone, Copy)]
pub struct Direct<'a> {
    /// The directories of its transaction.
    pub fresh: &'a Fresh,
    /// Paths of its commands, which can be executed whatever the archive says.
    pub commands: &'a HashSet<&'a str>,
}

/// A package on its way there.
pub(super) struct Onto<'a> {
    direct: Direct<'a>,
    writing: Writing<'a>,
}

impl<'a> Onto<'a> {
    pub(super) fn new(direct: Direct<'a>) -> Result<Self> {
        Ok(Self { direct, writing: direct.fresh.begin()? })
    }

    fn is_executable(&self, path: &str, executable: bool) -> bool {
        executable || self.direct.commands.contains(path)
    }

    /// The archive is read to its end, and this was in it.
    pub(super) fn finish(self, hashes: &Hashes, entry: &Entry) {
        let pieces: Vec<Piece<'_>> = entry
            .files
            .iter()
            .map(|file| Piece {
                path: &file.path,
                object: file.object,
                executable: self.is_executable(&file.path, file.executable),
            })
            .collect();
        self.writing.finish(hashes, &pieces);
    }

    /// It will be of no use: what is installed has other names.
    pub(super) fn spoil(&mut self) {
        self.writing.spoil();
    }
}

impl Store {
    /// Stores one file by writing it there. One that comes a second time, or has no place, is stored as ever.
    pub(super) fn store_direct(
        &self,
        onto: &mut Onto<'_>,
        found: &Found,
        content: &mut dyn Read,
        buffer: &mut Vec<u8>,
        file_name: &str,
    ) -> Result<StoredFile, Failure> {
        let executable = onto.is_executable(&found.path, found.executable);
        let mode = if executable { 0o755 } else { 0o644 };
        let created = if found.repeated { None } else { onto.writing.create(&found.path, mode)? };
        let Some(file) = created else {
            let (size, executable) = (found.size, found.executable);
            return Ok(self.store_file(
                &found.path,
                size,
                executable,
                content,
                buffer,
                file_name,
            )?);
        };
        let mut file = std::fs::File::from(file);
        let mut head = Head { content, bytes: Vec::new() };
        let object =
            write_hashed(&mut head, &mut file, found, buffer).map_err(|failed| match failed {
                Failed::Read(error) => Failure::from(Refusal::from_read(error)),
                Failed::Write(error) => {
                    Error::io("write", &onto.writing.shown(&found.path), &error).into()
                }
            })?;
        let file = OwnedFd::from(file);
        self.name_born(onto, &found.path, &file, &object, executable)?;
        onto.writing.note(&found.path, &file, &object);
        let windows_shebang = has_windows_shebang(&head.bytes);
        let path = found.path.as_str().into();
        Ok(StoredFile { path, object, executable: found.executable, windows_shebang })
    }

    /// Seals a complete file and gives it its name in the store. Where the store has the content, that stays, if it is whole; also one that
    /// never left it, or it would be there twice.
    fn name_born(
        &self,
        onto: &Onto<'_>,
        path: &str,
        file: &OwnedFd,
        object: &Object,
        executable: bool,
    ) -> Result<()> {
        // Nobody links what is empty.
        if object.size > 0 {
            let shown = || onto.writing.shown(path);
            self.seal(file, object).map_err(|error| Error::io("seal", &shown(), &error.into()))?;
            let name = object.name();
            if self.is_in_files(&name) && self.has_whole(object) {
                return Ok(());
            }
            let link = || onto.writing.link(path, (self.lent.as_fd(), &name));
            let linked = match link() {
                Err(Errno::NOENT) => {
                    // Whoever was quicker made the same; what cannot be made is told below.
                    let mode = Mode::from_raw_mode(0o700);
                    let _ = rustix::fs::mkdirat(&self.lent, &name[..2], mode);
                    link()
                }
                linked => linked,
            };
            if linked.is_ok() {
                return Ok(());
            }
        }
        // What is there may be damaged, and what was in the way is told by who writes it.
        let clone = file.try_clone().map_err(|error| Error::io("read", self.root(), &error))?;
        let mut content = ReadAt { file: clone.into(), position: 0 };
        let size = (object.size, executable);
        let failed = |error| Error::io("read", &onto.writing.shown(path), &error);
        if !self.has_whole(object) {
            self.put_reader(&mut content, size, &mut Vec::new(), failed)?;
        }
        Ok(())
    }
}

enum Failed {
    Read(std::io::Error),
    Write(std::io::Error),
}

/// Writes a file as it comes; a small one at once. `buffer` has the whole of a small one afterwards.
fn write_hashed(
    content: &mut dyn Read,
    file: &mut std::fs::File,
    found: &Found,
    buffer: &mut Vec<u8>,
) -> Result<Object, Failed> {
    buffer.clear();
    if found.size <= limits::COPY_WHOLE_BYTES_MAX {
        content.take(found.size + 1).read_to_end(buffer).map_err(Failed::Read)?;
        file.write_all(buffer).map_err(Failed::Write)?;
        return Ok(Object::of(buffer));
    }
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut size = 0;
    buffer.resize(limits::COPY_WHOLE_BYTES_MAX as usize, 0);
    loop {
        let count = content.read(buffer).map_err(Failed::Read)?;
        if count == 0 {
            let digest = crate::store::object::finish(hash.finish());
            return Ok(Object { digest, size });
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(Failed::Write)?;
        size += count as u64;
    }
}

/// A file from its beginning, wherever it was written last.
struct ReadAt {
    file: std::fs::File,
    position: u64,
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
