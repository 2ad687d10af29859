//! Files that a project names by their path and that nobody vouches for: an archive that was just built, a share of other people's.
//!
//! A pipe does not hang us, a device has an end, and what changes while it is read is told by its digest.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use ring::digest::{Context, SHA256};
use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Kind, Result};
use crate::hex::hex;
use crate::io::limits::{ARTIFACT_BYTES_MAX, WRITE_CHUNK_BYTES};
use crate::transaction::Content;

/// Opens a file; `None` where there is none.
///
/// # Errors
/// `file-refused` for what is no file; otherwise those of the system.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    let failed = |error: std::io::Error| Error::io("read", path, &error);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    match metadata.is_file() {
        // What grows later is noticed while it is read.
        true if metadata.len() > ARTIFACT_BYTES_MAX => Err(too_large(path)),
        true => Ok(Some(file)),
        false => {
            let message = format!("`{}` is not a file", path.display());
            Err(Error::new(Kind::Refused, "file-refused", message)
                .hint("name an archive; directories and devices are not installed from"))
        }
    }
}

/// What a file holds, copied to `into` on the way. `check` ends it between two chunks.
pub(crate) fn read(
    file: &mut dyn Read,
    path: &Path,
    into: Option<&mut File>,
    check: &dyn Fn() -> Result<()>,
) -> Result<Content> {
    let (mut into, mut digest, mut bytes) = (into, Context::new(&SHA256), 0_u64);
    let mut buffer = vec![0; WRITE_CHUNK_BYTES];
    loop {
        check()?;
        let count = match file.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", path, &error)),
        };
        if count == 0 {
            break;
        }
        bytes += count as u64;
        if bytes > ARTIFACT_BYTES_MAX {
            return Err(too_large(path));
        }
        digest.update(&buffer[..count]);
        if let Some(into) = into.as_deref_mut() {
            into.write_all(&buffer[..count]).map_err(|error| Error::io("copy", path, &error))?;
        }
    }
    Ok(Content { sha256: hex(digest.finish().as_ref()), bytes })
}

fn too_large(path: &Path) -> Error {
    let message = format!("`{}` has more than {ARTIFACT_BYTES_MAX} bytes", path.display());
    Error::new(Kind::Refused, "file-refused", message)
}

/// What a file holds now; `None` where there is none.
pub(crate) fn content(path: &Path) -> Result<Option<Content>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    read(&mut file, path, None, &|| Ok(())).map(Some)
}
