//! Readers for the archives of registries that yield nothing but plain files with safe names.
//!
//! What an honest packager never makes is refused, not repaired: a path that leaves the archive, a
//! name that two readers could understand differently, a link, a device, sizes that disagree, data
//! that only one of two common parsers would see, and more output than anybody needs. The readers
//! hash nothing and write nothing; the [`store`](crate::store) does, with an artefact whose hash
//! was checked before it is opened here.
//!
//! Two paths that differ in case only are allowed with a warning: honest packages have them, and
//! files are always created exclusively, so that on a file system which confuses them the second
//! one is an error and never an overwrite. Only for the files that say what a package *is* the
//! case-insensitive twin is refused.

pub mod archive;
#[cfg(any(test, feature = "attacks"))]
pub mod attacks;
pub mod helper;
pub mod into;
pub mod isolation;
pub mod names;
mod process;
mod protocol;
pub mod record;
pub mod source;
pub mod tarball;
pub mod unpacker;
pub mod wheel;
pub mod zip;

use std::io::{self, Read};

pub use archive::{Contents, Kind as ArchiveKind, Outcome};
pub use source::Source;
pub use unpacker::Unpacker;

use crate::error::{Error, Kind};
use crate::limits;

#[cfg(test)]
pub(crate) mod tests;

/// One regular file of an archive, before its content is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The safe relative path.
    pub path: String,
    /// The size that the archive promises; the reader fails if the content differs.
    pub size: u64,
    /// Whether any execute permission is set.
    pub executable: bool,
    /// Whether the same path came before; only npm tarballs get this far with it, and only equal
    /// content may pass.
    pub repeated: bool,
}

/// Why an archive is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name of an entry cannot be used.
    #[error("the name `{name}` {why}")]
    Name {
        /// The name, with everything unprintable escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The same path stands twice in it.
    #[error("it holds `{0}` twice")]
    Repeated(String),
    /// One path is a file and the parent of another one.
    #[error("it uses `{0}` as a file and as a directory")]
    FileAndDirectory(String),
    /// Something else than a file or a directory.
    #[error("`{name}` is a {what}")]
    NotAFile {
        /// The name of the entry.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// Two places of the archive say different things, so that two programs would unpack different
    /// files.
    #[error("its parts disagree about {what} of `{name}`")]
    Disagree {
        /// The name of the entry.
        name: String,
        /// What they disagree about.
        what: &'static str,
    },
    /// A structure that is not as the format says.
    #[error("{0}")]
    Malformed(String),
    /// A feature of the format that no packager uses.
    #[error("`{name}` uses {what}")]
    Unsupported {
        /// The name of the entry.
        name: String,
        /// The feature.
        what: &'static str,
    },
    /// A bound is exceeded.
    #[error("it has more than {max} {what}")]
    TooMuch {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// A file that every package of the kind has is missing, or the package is not what it should
    /// be.
    #[error("{0}")]
    Layout(String),
    /// The compressed data is broken.
    #[error("its data is damaged: {0}")]
    Damaged(String),
    /// The archive could not be read from the disk.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// A refusal by the process that reads archives, in its words.
    #[error("{0}")]
    Told(String),
    /// That process failed, which says nothing about the archive yet.
    #[error("the process that reads archives {0}")]
    Helper(String),
}

/// The code of the error that says that the process which reads archives failed; another try gets
/// another process.
pub const HELPER_FAILED: &str = "unpack-helper";
/// The code of the error that says that an archive is broken.
pub const DAMAGED_ARCHIVE: &str = "damaged-archive";
/// The code of the error that says that an archive holds what is never written.
pub const UNSAFE_ARCHIVE: &str = "unsafe-archive";

impl Refusal {
    /// The failure towards callers; `artifact` names the file.
    pub fn of(self, artifact: &str) -> Error {
        let message = format!("`{artifact}` is refused: {self}");
        match self {
            Refusal::Read(_) => Error::new(Kind::Failed, "io", message),
            Refusal::Helper(_) => {
                let message = format!("`{artifact}` cannot be unpacked: {self}");
                Error::new(Kind::Failed, HELPER_FAILED, message)
                    .hint("run the command again; if it stays so, choose another version and tell the package's authors")
                    .retryable()
            }
            Refusal::Damaged(_) => Error::new(Kind::Verification, DAMAGED_ARCHIVE, message)
                .hint("choose another version; the file has the expected hash, so it was published like this"),
            _ => Error::new(Kind::Verification, UNSAFE_ARCHIVE, message)
                .hint("choose another version; ordinary tools do not make such a file, so tell the package's authors"),
        }
    }

    pub(crate) fn name(name: impl AsRef<[u8]>, why: &'static str) -> Self {
        Refusal::Name { name: printable(name.as_ref()), why }
    }

    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Refusal::Malformed(what.into())
    }

    /// What a failed read of the unpacked stream means; the bounds below travel through
    /// `io::Error`.
    pub fn from_read(error: io::Error) -> Self {
        if error.raw_os_error().is_some() {
            return Refusal::Read(error.to_string());
        }
        let text = error.to_string();
        match error.into_inner().map(|inner| inner.downcast::<Refusal>()) {
            Some(Ok(refusal)) => *refusal,
            _ => Refusal::Damaged(text),
        }
    }
}

/// A name for a message: what a terminal could misunderstand is escaped, and it is cut to a
/// bearable length.
pub(crate) fn printable(name: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 200;
    let shown = &name[..name.len().min(SHOWN_BYTES_MAX)];
    let mut text = String::from_utf8_lossy(shown).escape_debug().to_string();
    if shown.len() < name.len() {
        text.push_str("...");
    }
    text
}

/// Counts what comes out of a decompressor and stops it at the bounds on size and ratio.
pub(crate) struct Bounded<R> {
    inner: R,
    packed_bytes: u64,
    unpacked_bytes: u64,
}

impl<R: Read> Bounded<R> {
    /// `packed_bytes` is the size of the whole compressed input.
    pub(crate) fn new(inner: R, packed_bytes: u64) -> Self {
        Self { inner, packed_bytes, unpacked_bytes: 0 }
    }

    pub(crate) fn into_inner(self) -> R {
        self.inner
    }
}

/// Refuses a total that is beyond the bounds; shared by both archive formats.
pub(crate) fn check_output(packed_bytes: u64, unpacked_bytes: u64) -> Result<(), Refusal> {
    if unpacked_bytes > limits::ARCHIVE_UNPACKED_BYTES_MAX {
        return Err(Refusal::TooMuch {
            what: "unpacked bytes",
            max: limits::ARCHIVE_UNPACKED_BYTES_MAX,
        });
    }
    let allowed = packed_bytes
        .saturating_mul(limits::ARCHIVE_RATIO_MAX)
        .max(limits::ARCHIVE_RATIO_FREE_BYTES);
    if unpacked_bytes > allowed {
        return Err(Refusal::TooMuch {
            what: "unpacked bytes per packed byte",
            max: limits::ARCHIVE_RATIO_MAX,
        });
    }
    Ok(())
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.unpacked_bytes += count as u64;
        check_output(self.packed_bytes, self.unpacked_bytes).map_err(io::Error::other)?;
        Ok(count)
    }
}
