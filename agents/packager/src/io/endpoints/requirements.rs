//! What the project's requirements file says of where packages come from. What else stands in it is its reader's matter.

use std::io::ErrorKind;

use super::Finder;
use crate::error::{Error, Kind, Result};
use crate::manifest::requirements::{Places, places};
use crate::transaction::{Project, RelativePath};

/// The file that counts where the project has no other description.
pub(super) const FILE: &str = "requirements.txt";

/// Reads it with the files that it includes; nothing where there is none.
///
/// # Errors
/// `bad-registry` for an address with a variable in it; those of files that cannot be read.
pub(super) fn read(finder: &Finder<'_>) -> Result<Places> {
    let directory = &finder.environment.project;
    let path = directory.join(FILE);
    match path.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Places::default()),
        // There may be one, and the next index would be asked for what only this one's has.
        Err(error) => return Err(Error::io("read", &path, &error)),
    }
    // As its requirements are read: what is not of the project is not followed.
    let project = Project::open(directory)?;
    let open = &mut |path: &str| {
        let bytes = project.read_file(&RelativePath::new(path)?)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let Some(text) = open(FILE)? else { return Ok(Places::default()) };
    let found = places(FILE, &text, open)?;
    // As an address it would be one that has nothing, and the next index would be asked for the same packages.
    if found.index.iter().chain(&found.others).any(|url| url.contains("${")) {
        let message = format!(
            "an index that `{}` names has a variable in its address, and a project's file reads none",
            path.display()
        );
        return Err(Error::new(Kind::Usage, "bad-registry", message).hint(
            "write the address without its login and put that into netrc; or name the index in `PIP_INDEX_URL` or pip's configuration",
        ));
    }
    Ok(found)
}
