//! What a project names by a path or an address in the place of what a registry has, as far as it is the same for all ecosystems.
//!
//! What nobody gave a digest gets one of the bytes that were read: they are copied first, then hashed, put into the store and asked
//! what they need, so all of that is of the same bytes, whatever becomes of the file.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA512};
use url::Url;

use super::Task;
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::hex::hex;
use crate::io::limits::WRITE_CHUNK_BYTES;
use crate::store::Entry;
use crate::transaction::{Content, Project};
use crate::unpack::HELPER_FAILED;

/// A path from the project as a whole one. The project's own path has no links in it, so that `..` means what it says.
pub(super) fn whole_path(project: &Project, path: &str) -> PathBuf {
    let mut whole: PathBuf = project.path().to_path_buf();
    for part in path.split('/') {
        match part {
            ".." => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole
}

/// The last part of an address, as a file has it.
pub(super) fn file_of(place: &Url) -> String {
    let last = place.path().rsplit('/').next().unwrap_or_default();
    percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned()
}

/// Copies a file of this machine; what it held.
pub(super) fn copied(task: &Task<'_>, path: &Path, to: &Path) -> Result<Content> {
    let Some(mut file) = foreign::open(path)? else {
        let message = format!("there is no file `{}`", path.display());
        return Err(Error::new(Kind::Failed, "file-missing", message)
            .hint("make it, or correct what names it"));
    };
    let mut copy = File::create(to).map_err(|error| Error::io("create", to, &error))?;
    foreign::read(&mut file, path, Some(&mut copy), &|| task.check_wanted())
}

/// The SHA-512 of a copy.
pub(super) fn sha512_of(task: &Task<'_>, copy: &Path) -> Result<String> {
    let failed = |error: std::io::Error| Error::io("read", copy, &error);
    let mut file = File::open(copy).map_err(failed)?;
    let (mut digest, mut buffer) = (Context::new(&SHA512), vec![0; WRITE_CHUNK_BYTES]);
    loop {
        task.check_wanted()?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(digest.finish().as_ref())),
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// What is in the store already, else what adding a copy gives.
pub(super) fn kept(
    known: Option<Entry>,
    copy: &Path,
    add: &dyn Fn(&File) -> Result<Entry>,
) -> Result<Entry> {
    if let Some(known) = known {
        return Ok(known);
    }
    let opened = File::open(copy).map_err(|error| Error::io("open", copy, &error))?;
    match add(&opened) {
        // It says nothing about the file: another process reads it from the beginning.
        Err(error) if error.code == HELPER_FAILED => add(&opened),
        added => added,
    }
}
