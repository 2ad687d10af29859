//! What the project's requirements file says of where packages come from. What else stands in it is its reader's matter.

use super::Finder;
use crate::error::{Error, Result};
use crate::io::environment::read_small;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::manifest::requirements::{Places, places};

/// The file that counts where the project has no other description.
pub(super) const FILE: &str = "requirements.txt";

/// Reads it with the files that it includes; nothing where there is none.
pub(super) fn read(finder: &Finder<'_>) -> Result<Places> {
    let project = &finder.environment.project;
    let open = &mut |path: &str| {
        let path = project.join(path);
        let bytes = read_small(&path, MANIFEST_BYTES_MAX as u64)
            .map_err(|error| Error::io("read", &path, &error))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    match open(FILE)? {
        Some(text) => places(FILE, &text, open),
        None => Ok(Places::default()),
    }
}
