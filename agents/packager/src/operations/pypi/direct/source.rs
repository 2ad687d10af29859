//! Source archives that the project names: read as far as they say what they are and need, built where only a build tells.

use std::path::Path;
use std::sync::Arc;

use pep508_rs::{PackageName, Requirement};
use url::Url;

use super::super::super::named::{copied, file_of, sha512_of};
use super::super::sources::{Direct, Held};
use super::{Finder, compared, no_file};
use crate::build::said::Said;
use crate::build::tree::{self, Seen};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::io::secret::shown;
use crate::metadata::Hashes;
use crate::operations::incoming::Incoming;
use crate::plan::Precondition;
use crate::resolution::{Artifact, Package, SourceForm};
use crate::resolve::pypi::policy::{Known, KnownSource};
use crate::unpack::into::unpack_source;

/// What was read of one.
struct Looked {
    hashes: Hashes,
    size: Option<u64>,
    /// Where its bytes are, where they were needed.
    incoming: Option<Incoming>,
}

impl Finder<'_> {
    /// A source archive, of this machine or of a server.
    pub(super) fn archive(
        &self,
        requirement: &Requirement,
        written: Hashes,
        place: &Url,
        preconditions: &mut Vec<Precondition>,
    ) -> Result<Known> {
        let path = place.to_file_path().ok().filter(|_| place.scheme() == "file");
        let looked = match &path {
            Some(path) => self.source_here(requirement, written, place, path, preconditions)?,
            None => self.source_there(requirement, written, place)?,
        };
        let Looked { hashes, size, incoming } = looked;
        let said = self.said(requirement, place, &hashes, incoming.as_ref())?;
        let held = incoming.map(|incoming| Held { incoming, name: ARCHIVE });
        self.sources.hold(&requirement.name, Direct { form: None, path, held, commit: None });
        let file_name = file_of(place);
        self.known(requirement, place, (file_name, hashes, size), &said)
    }

    /// A directory of this machine.
    pub(super) fn tree(
        &self,
        requirement: &Requirement,
        (written, form): (&Hashes, SourceForm),
        place: &Url,
        preconditions: &mut Vec<Precondition>,
    ) -> Result<Known> {
        let (name, path) = (&requirement.name, place.to_file_path().map_err(|()| no_file(place))?);
        let shown = path.display();
        if !written.is_empty() {
            let message = format!("`{shown}` is a directory, which has no digest to be compared");
            return Err(Error::new(Kind::Usage, "url-requirement", message)
                .hint("leave the digest out, or name an archive of the source"));
        }
        let incoming = self.task.shop.new_incoming()?;
        let copy = incoming.path().join(TREE);
        let seen = tree::copy(&path, &copy, &|| self.task.check_wanted())?;
        let Some(Seen { sha256, bytes }) = seen else {
            let what = if path.exists() {
                "is neither a wheel, nor a source archive"
            } else {
                "is not there"
            };
            let message = format!("`{shown}` {what}, and no directory of source");
            return Err(Error::new(Kind::Failed, "file-missing", message)
                .hint("make it, or correct what names it"));
        };
        // What is used where it lies is another one only where it says so itself.
        let sha256 = match form {
            SourceForm::Git | SourceForm::Tree => sha256,
            SourceForm::Editable => {
                let seen = tree::look_at_project(&copy, &|| self.task.check_wanted())?;
                seen.map_or(sha256, |seen| seen.sha256)
            }
        };
        let file_name = self::file_name(&path, name);
        let locked = self.locked_as(requirement, &file_name).and_then(|hashes| hashes.sha256);
        if locked.is_some_and(|locked| locked != sha256) {
            let message = format!("`{shown}` is not the directory that is locked");
            return Err(Error::new(Kind::Verification, "hash-mismatch", message)
                .hint(format!("`bolide update pypi:{name}` takes what is there now")));
        }
        let said = Said::of(&copy, &file_name)?;
        match form {
            SourceForm::Git | SourceForm::Tree => {
                let path = path.to_string_lossy().into_owned();
                preconditions.push(Precondition::Tree { path, sha256: sha256.clone() });
            }
            SourceForm::Editable => preconditions.extend(deciding(&path)?),
        }
        let (form, held) = (Some(form), Some(Held { incoming, name: TREE }));
        self.sources.hold(name, Direct { form, path: Some(path), held, commit: None });
        let hashes = Hashes { sha256: Some(sha256), sha512: None };
        self.known(requirement, place, (file_name, hashes, Some(bytes)), &said)
    }

    /// What the resolver is told of a source.
    pub(super) fn known(
        &self,
        requirement: &Requirement,
        place: &Url,
        (file_name, hashes, size): (String, Hashes, Option<u64>),
        said: &Said,
    ) -> Result<Known> {
        let name = &requirement.name;
        said.check_name(name, &file_name)?;
        let url = place.to_string();
        let core = said.core(name, &file_name)?.map(Arc::new);
        if let Some(core) = &core {
            self.sources.believe(&hashes, core);
        }
        let version = core.as_ref().map(|core| core.version.clone()).or_else(|| said.version());
        let (version, core) = match (version, core) {
            (Some(version), core) => (version, core),
            (None, _) => {
                let artifact = Artifact {
                    built: None,
                    by_address: true,
                    file_name: file_name.clone(),
                    hashes: hashes.clone(),
                    size,
                    source: None,
                    url: url.clone(),
                };
                let core = self.sources.learnt(&unknown(name.as_ref(), artifact))?;
                (core.version.clone(), Some(core))
            }
        };
        let source = Some(KnownSource { file_name, version });
        Ok(Known { url, hashes, size, core, source })
    }

    fn source_here(
        &self,
        requirement: &Requirement,
        written: Hashes,
        place: &Url,
        path: &Path,
        preconditions: &mut Vec<Precondition>,
    ) -> Result<Looked> {
        let incoming = self.task.shop.new_incoming()?;
        let copy = incoming.path().join(ARCHIVE);
        let content = copied(self.task, path, &copy)?;
        let locked = self.locked(requirement, place).and_then(|hashes| hashes.sha256);
        if locked.is_some_and(|locked| locked != content.sha256) {
            let message = format!("`{}` is not the file that is locked", path.display());
            let hint = format!("`bolide update pypi:{}` takes what is there now", requirement.name);
            return Err(Error::new(Kind::Verification, "hash-mismatch", message).hint(hint));
        }
        self.check_sha512(place, &written, &copy)?;
        let (hashes, size) = (compared(place, written, &content)?, Some(content.bytes));
        let path = path.to_string_lossy().into_owned();
        preconditions.push(Precondition::Named { content, path });
        Ok(Looked { hashes, size, incoming: Some(incoming) })
    }

    fn source_there(
        &self,
        requirement: &Requirement,
        written: Hashes,
        place: &Url,
    ) -> Result<Looked> {
        let written = Some(written).filter(|written| !written.is_empty());
        let digest = written.or_else(|| self.manifest.only_digest(&requirement.name, self.target));
        let digest = digest.or_else(|| self.locked(requirement, place)).unwrap_or_default();
        if !digest.is_empty() && self.sources.said_before(&digest).is_some() {
            return Ok(Looked { hashes: digest, size: None, incoming: None });
        }
        let incoming = self.task.shop.new_incoming()?;
        let copy = incoming.path().join(ARCHIVE);
        let content = self.fetched(place, &copy)?;
        self.check_sha512(place, &digest, &copy)?;
        let (hashes, size) = (compared(place, digest, &content)?, Some(content.bytes));
        Ok(Looked { hashes, size, incoming: Some(incoming) })
    }

    /// Refuses a file whose address has another SHA-512; no store looks at it for that.
    fn check_sha512(&self, place: &Url, written: &Hashes, copy: &Path) -> Result<()> {
        let Some(written) = &written.sha512 else { return Ok(()) };
        let found = sha512_of(self.task, copy)?;
        if found == *written {
            return Ok(());
        }
        let message =
            format!("`{}` has the sha512 {found}, and its requirement another", shown(place));
        Err(Error::new(Kind::Verification, "hash-mismatch", message)
            .hint("find out which of the two is right; nothing was changed"))
    }

    /// What an archive says of itself: as it was found before, or out of its bytes.
    fn said(
        &self,
        requirement: &Requirement,
        place: &Url,
        hashes: &Hashes,
        incoming: Option<&Incoming>,
    ) -> Result<Said> {
        if let Some(said) = self.sources.said_before(hashes) {
            return Ok(said);
        }
        // Bytes that are not here were not needed a moment ago; then a build tells.
        let Some(incoming) = incoming else { return Ok(Said::default()) };
        let (file, source) = (file_of(place), incoming.path().join("looked-at"));
        let archive = incoming.path().join(ARCHIVE);
        unpack_source(&self.task.shop.unpacker, &archive, &file, &source)?;
        let said = Said::of(&source, &file)?;
        tracing::debug!(name = %requirement.name, ?said, "what a source says of itself");
        self.sources.remember_said(hashes, &said);
        Ok(said)
    }
}

/// The name of a copy.
const ARCHIVE: &str = "archive";
pub(super) const TREE: &str = "tree";

/// What a directory goes by in plans and locks: its own name, where that is a plain one.
pub(super) fn file_name(path: &Path, name: &PackageName) -> String {
    let own = path.file_name().and_then(|own| own.to_str()).unwrap_or_default();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_plain = own.len() <= 100 && !own.starts_with('.') && own.chars().all(is_word);
    if own.is_empty() || !is_plain { name.to_string() } else { own.to_owned() }
}

/// That the files stay as they are by which a tree says how it is built.
fn deciding(tree: &Path) -> Result<Vec<Precondition>> {
    let mut preconditions = Vec::new();
    for path in tree::DECIDING.map(|name| tree.join(name)) {
        if let Some(content) = foreign::content(&path)? {
            let path = path.to_string_lossy().into_owned();
            preconditions.push(Precondition::Named { content, path });
        }
    }
    Ok(preconditions)
}

/// A package of which only a build tells the version.
fn unknown(name: &str, artifact: Artifact) -> Package {
    Package {
        artifact: Arc::new(artifact),
        bin: std::collections::BTreeMap::new(),
        dependencies: Vec::new(),
        direct: true,
        ecosystem: Ecosystem::Pypi,
        extras: Vec::new(),
        license: None,
        name: name.to_owned(),
        place: String::new(),
        published: None,
        scripts: Vec::new(),
        version: String::new(),
    }
}
