//! Files of Python packages that lie in a directory of this machine: what they hash to, and what they say of themselves.
//!
//! A digest is remembered under the status that the file had before and after it was read. A file that changed a moment ago could
//! change once more without another status, so of such a one nothing is remembered.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use agents_contract::Cancellation;
use bytes::Bytes;

use super::{core_metadata, source, verify, wheel};
use crate::error::{Error, Kind, Result};
use crate::file_state::FileState;
use crate::foreign;
use crate::io::limits::{LOCAL_DIGESTS_MAX, SOURCE_IN_MEMORY_BYTES_MAX};
use crate::metadata::Hashes;
use crate::metadata::pypi::FileKind;
use crate::transaction::Content;
use crate::unpack::Unpacker;

/// How long a status has to be unchanged before it is believed: longer than the clock of any file system ticks.
const SETTLED_FOR: Duration = Duration::from_secs(3);

/// The state of an open file.
fn state_of(file: &File, path: &Path) -> Result<FileState> {
    let status = file.metadata().map_err(|error| Error::io("read", path, &error))?;
    Ok(FileState::of(&status))
}

/// Whether its last change lies back far enough.
fn is_settled(state: &FileState) -> bool {
    let changed =
        Duration::from_secs(u64::try_from(state.changed_seconds()).unwrap_or(u64::MAX / 2));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    changed.checked_add(SETTLED_FOR).is_some_and(|then| then < now)
}

/// The digests of files, as a process remembers them.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<HashMap<PathBuf, (FileState, Content)>>);

impl Digests {
    /// What a file holds; `None` where there is none.
    pub(super) fn of(&self, path: &Path, cancellation: &Cancellation) -> Result<Option<Content>> {
        let Some(mut file) = foreign::open(path)? else { return Ok(None) };
        Ok(Some(self.of_open(path, &mut file, cancellation)?.1))
    }

    /// The same for one that was just opened, with the status in which it holds that.
    fn of_open(
        &self,
        path: &Path,
        file: &mut File,
        cancellation: &Cancellation,
    ) -> Result<(FileState, Content)> {
        let before = state_of(file, path)?;
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, content)) = known().get(path).filter(|(seen, _)| *seen == before) {
            return Ok((before, content.clone()));
        }
        let content = foreign::read(file, path, None, &|| Error::if_cancelled(cancellation))?;
        if state_of(file, path)? == before && is_settled(&before) {
            let mut known = known();
            if known.len() >= LOCAL_DIGESTS_MAX {
                known.clear();
            }
            known.insert(path.to_owned(), (before.clone(), content.clone()));
        }
        Ok((before, content))
    }
}

/// What a file says of itself, if it is the one with these digests: the METADATA of a wheel, the PKG-INFO of a source archive.
pub(super) fn metadata(
    path: &Path,
    kind: &FileKind,
    hashes: &Hashes,
    (digests, unpacker): (&Digests, &Unpacker),
    cancellation: &Cancellation,
) -> Result<Bytes> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let gone = || {
        let message =
            format!("`{}` is not there any more, or holds something else", path.display());
        Error::new(Kind::Verification, "hash-mismatch", message)
            .hint("somebody changes that directory at this moment; try again")
    };
    let mut file = foreign::open(path)?.ok_or_else(gone)?;
    if *kind == FileKind::Source {
        let mut bytes = Vec::new();
        let limit = SOURCE_IN_MEMORY_BYTES_MAX as u64;
        let read = (&file).take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("read", path, &error))?;
        if bytes.len() as u64 > limit {
            return Err(source::needs_build(&file_name));
        }
        let place = url::Url::from_file_path(path).map_err(|()| gone())?;
        verify(&bytes, hashes, &place)?;
        return source::package_info(unpacker, &bytes, &file_name);
    }
    // Of the open file, so that what is said is of the bytes that were hashed, whatever lies at its path.
    let (before, content) = digests.of_open(path, &mut file, cancellation)?;
    if Some(content.sha256) != hashes.sha256 {
        return Err(gone());
    }
    let said = wheel::metadata_of_file(&file, &file_name)
        .map_err(|error| Error::io("read", path, &error))?
        .map_err(|why| core_metadata::bad(&file_name, why))?;
    match state_of(&file, path)? == before {
        true => Ok(said),
        false => Err(gone()),
    }
}
