//! One call for every kind of archive, in whatever process it is made.

use std::io::Read;

use super::tarball::{self, Layout};
use super::wheel::{Identity, Wheel};
use super::{Entry, Refusal, Source, zip};

/// What an archive is to be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A tarball of npm; see [`Layout::Npm`].
    Npm,
    /// A `.crate`; see [`Layout::Crate`].
    Crate {
        /// `name-version`.
        folder: &'a str,
    },
    /// A wheel, with its `RECORD`.
    Wheel,
    /// Any zip archive.
    Zip,
    /// Any tar archive, gzipped.
    TarGz {
        /// The one folder in which everything has to lie.
        folder: Option<&'a str>,
    },
    /// Any tar archive as it is.
    Tar,
}

/// Which files' content the caller wants; the archive is read to its end in any case but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents<'a> {
    /// That of all.
    All,
    /// None: it asks what there is, and whether the archive is sound.
    Names,
    /// That of one path alone; no other file is mentioned, and what follows it is not read.
    Only(&'a str),
}

/// What an archive says beside its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What people should know.
    pub warnings: Vec<String>,
    /// What a wheel is.
    pub identity: Option<Identity>,
}

/// Why reading stops before the end.
enum Stop<E> {
    Enough,
    Failed(E),
}

impl<E: From<Refusal>> From<Refusal> for Stop<E> {
    fn from(refusal: Refusal) -> Self {
        Stop::Failed(refusal.into())
    }
}

/// Reads an archive in this process and hands each file to `take`, in the archive's order.
pub fn read<E: From<Refusal>>(
    source: Source<'_>,
    kind: Kind<'_>,
    contents: Contents<'_>,
    mut take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<Outcome, E> {
    let read = read_all(source, kind, |entry: Entry, content: &mut dyn Read| match contents {
        Contents::Only(path) if entry.path != path => Ok(()),
        Contents::Only(_) => match take(entry, content) {
            Ok(()) => Err(Stop::Enough),
            Err(error) => Err(Stop::Failed(error)),
        },
        Contents::All | Contents::Names => take(entry, content).map_err(Stop::Failed),
    });
    match read {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Enough) => Ok(Outcome::default()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn read_all<E: From<Refusal>>(
    source: Source<'_>,
    kind: Kind<'_>,
    take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<Outcome, E> {
    let mut identity = None;
    let warnings = match kind {
        Kind::Npm => tarball::read(source, Layout::Npm, take)?,
        Kind::Crate { folder } => tarball::read(source, Layout::Crate { folder }, take)?,
        Kind::Wheel => {
            let wheel = Wheel::open(source)?;
            identity = Some(wheel.identity().clone());
            wheel.read(take)?
        }
        Kind::Zip => zip::read(source, take)?,
        Kind::TarGz { folder } => tarball::read(source, Layout::Plain { folder }, take)?,
        Kind::Tar => tarball::read_uncompressed(source, Layout::Plain { folder: None }, take)?,
    };
    Ok(Outcome { warnings, identity })
}
