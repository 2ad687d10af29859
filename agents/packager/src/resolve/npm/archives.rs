//! Packages that a dependency names by the archive itself, at an address or in a file of this machine, in the place of a version of a
//! registry. What is in it somebody else finds out; here it is one package that does for who names the same archive, and for whoever
//! would do with its version.

use std::sync::Arc;

use super::catalogue::{Catalogue, PackageId};
use super::names::NameId;
use super::ready::Ready;
use super::want::Want;
use crate::error::{Error, Kind};
use crate::manifest::package_json::named::FILE;
use crate::metadata::npm::Version as Entry;
use crate::resolution::Artifact;

/// What is inside of archives that are named. `key` is the address as it is written, or `file:` and the path from the project; `folder`
/// is the name that it is asked for by.
pub trait Archives: Sync {
    /// The package. Blocks.
    ///
    /// # Errors
    /// Of [`Kind::Verification`] for what nobody may go on with, even where the package is optional.
    fn archive(&self, key: &str, folder: &str) -> Result<Arc<Archive>, Error>;
}

/// The code of a refusal that is about the name that an archive is asked for by.
pub(crate) const TOO_YOUNG: &str = "too-young";

/// One of them.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The package's own name; what asks for it may have another one for it.
    pub name: String,
    /// What it says of itself.
    pub entry: Arc<Entry>,
    /// The file, with its digest.
    pub artifact: Arc<Artifact>,
}

/// Nothing is named, or nobody can look.
#[cfg(test)]
pub(super) struct NoArchives;

#[cfg(test)]
impl Archives for NoArchives {
    fn archive(&self, key: &str, _: &str) -> Result<Arc<Archive>, Error> {
        Err(Error::new(Kind::Failed, "file-missing", format!("there is no `{key}`")))
    }
}

impl Catalogue<'_> {
    /// The package in an archive; asked for once, whatever comes of it, but for what it may be by another name.
    pub(super) fn archive(&mut self, folder: &str, key: &Arc<str>) -> Result<PackageId, Error> {
        if let Some(known) = self.archives.get(key) {
            return known.clone();
        }
        let found = self.archive_source.archive(key, folder).and_then(|archive| {
            let name = self.known.names.intern(&archive.name);
            let ready = Arc::new(Ready::of_archive(&archive));
            self.push(name, &ready, Some(Arc::clone(key))).ok_or_else(|| no_version(&archive))
        });
        if let Err(error) = &found
            && error.kind == Kind::Network
        {
            self.failed_on_the_network(error);
        }
        if !matches!(&found, Err(error) if error.code == TOO_YOUNG) {
            self.archives.insert(Arc::clone(key), found.clone());
        }
        found
    }

    /// Whether a package is the archive of that key.
    pub(super) fn is_archive(&self, package: PackageId, key: &str) -> bool {
        self.package(package).archive.as_deref() == Some(key)
    }

    /// Whether a package came from a file of this machine, which no tag of a registry means.
    pub(super) fn is_file(&self, package: PackageId) -> bool {
        self.package(package).archive.as_ref().is_some_and(|key| key.starts_with(FILE))
    }

    /// Whether one who asks for a name asks for an archive, of which a registry knows no other versions.
    pub(super) fn is_want_of_archive(&self, want: super::catalogue::WantId) -> bool {
        matches!(self.want_ref(want), Want::Archive(_))
    }

    /// The name of the package that a registry is asked about for a dependency; an archive's is nobody's business.
    pub(super) fn asked_name(&mut self, name: NameId, want: &Want) -> Option<NameId> {
        match want {
            Want::Local(_) | Want::Archive(_) | Want::Unsupported(_) => None,
            want => Some(self.package_id(name, want)),
        }
    }
}

fn no_version(archive: &Archive) -> Error {
    let (file, version) = (&archive.artifact.file_name, &archive.entry.version);
    let message = format!("`{file}` says that its version is `{version}`, which is none");
    Error::new(Kind::Verification, "bad-metadata", message)
}
