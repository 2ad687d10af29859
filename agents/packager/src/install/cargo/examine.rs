//! Looks whether the crates of a lock file and their index entries are where cargo's own offline build looks for them, and are
//! what they should be. Changes nothing, and takes no lock: whatever cargo puts there appears by a rename.

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use agents_contract::Crew;
use ring::digest;

use super::index;
use crate::error::{Error, Result};
use crate::limits::{CARGO_INDEX_ENTRY_BYTES_MAX, CRATE_BYTES_EXAMINED_MAX};
use crate::resolution::Package;
use crate::transaction::Difference;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// Files that were looked at.
    pub looked_at: u64,
    /// Those that are not as they should be, in the order of the crates.
    pub findings: Vec<(PathBuf, Difference)>,
}

/// Looks at the `.crate` of each of `crates` and at its index entry, below the directories `cache` and `index` of its registry.
pub fn examine(
    (cache, index_directory): (&Path, &Path),
    crates: &[&Package],
    crew: &dyn Crew,
    keep_on: &(dyn Fn() -> Result<()> + Sync),
) -> Result<Examined> {
    let findings: Mutex<Vec<(usize, PathBuf, Difference)>> = Mutex::default();
    let failure: Mutex<Option<Error>> = Mutex::default();
    crew.run(crates.len(), &|at| {
        let package = crates[at];
        let looked = keep_on().and_then(|()| {
            let name = format!("{}-{}.crate", package.name, package.version);
            crate::unpack::names::check(&name).map_err(|refusal| refusal.of(&name))?;
            let entry = index_directory.join(".cache").join(index::entry_path(&package.name)?);
            let file = cache.join(name);
            let expected = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
            let found = difference(&file, CRATE_BYTES_EXAMINED_MAX, expected)?;
            Ok([(entry_difference(&entry, package)?, entry), (found, file)])
        });
        match looked {
            Ok(looked) => {
                let found = looked.into_iter().filter_map(|(found, path)| Some((at, path, found?)));
                findings.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
            }
            Err(error) => {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    // What a crew does not begin is nothing that was found to be right.
    keep_on()?;
    let mut findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_by_key(|(at, ..)| *at);
    // Versions of one crate share their entry.
    let mut seen = HashSet::new();
    findings.retain(|(_, path, _)| seen.insert(path.clone()));
    let findings = findings.into_iter().map(|(_, path, found)| (path, found)).collect();
    Ok(Examined { looked_at: 2 * crates.len() as u64, findings })
}

/// How a file is not what its SHA-256 names.
pub fn difference(path: &Path, bytes_max: u64, expected: &str) -> Result<Option<Difference>> {
    let mut context = digest::Context::new(&digest::SHA256);
    let read = read(path, bytes_max, &mut |bytes| context.update(bytes));
    let found = crate::hex::hex(context.finish().as_ref());
    Ok(match read? {
        Some(difference) => Some(difference),
        None => (!expected.eq_ignore_ascii_case(&found)).then_some(Difference::Content),
    })
}

/// How an index entry does not say of a crate what the lock does.
fn entry_difference(path: &Path, package: &Package) -> Result<Option<Difference>> {
    let mut entry = Vec::new();
    let read = read(path, CARGO_INDEX_ENTRY_BYTES_MAX, &mut |bytes| entry.extend(bytes))?;
    let known = index::checksums(&entry, &package.version).unwrap_or_default();
    let expected = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
    let is_right = !known.is_empty() && known.iter().all(|one| one.eq_ignore_ascii_case(expected));
    Ok(read.or((!is_right).then_some(Difference::Content)))
}

/// Reads a file that is no larger than it may be; why not, where it cannot be.
fn read(path: &Path, bytes_max: u64, take: &mut dyn FnMut(&[u8])) -> Result<Option<Difference>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A pipe in the place of a file keeps nobody waiting.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Some(Difference::Missing));
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Ok(Some(Difference::Unreadable));
        }
        Err(error) => return Err(Error::io("open", path, &error)),
    };
    match file.metadata() {
        Ok(metadata) if !metadata.is_file() => return Ok(Some(Difference::Kind)),
        Ok(metadata) if metadata.len() > bytes_max => return Ok(Some(Difference::Content)),
        Ok(_) => {}
        Err(error) => return Err(Error::io("read", path, &error)),
    }
    let mut rest = (&mut file).take(bytes_max);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => take(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(Some(Difference::Unreadable)),
        }
    }
}
