//! Sources that the project names by path or address in the place of what an index has: where their bytes are, and what they say of
//! themselves. Not where they are found: that is [`direct`](super::super::direct)'s.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pep508_rs::PackageName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::direct::not_locked;
use super::{Sources, Wanted};
use crate::build::remembered::{Key, recall, remember};
use crate::build::said::Said;
use crate::build::tree::{self, Seen};
use crate::error::{Error, Kind, Result};
use crate::git::Meant;
use crate::limits::BUILD_FILES_MAX;
use crate::manifest::address;
use crate::manifest::address::git::Repository;
use crate::metadata::Hashes;
use crate::metadata::pypi::CoreMetadata;
use crate::operations::incoming::Incoming;
use crate::operations::named::copied;
use crate::resolution::{Artifact, Package, SourceForm};
use crate::unpack::into::unpack_source;

/// One of them.
pub(in super::super) struct Direct {
    /// What it is; nothing for an archive.
    pub(in super::super) form: Option<SourceForm>,
    /// Where it lies on this machine, if it does.
    pub(in super::super) path: Option<PathBuf>,
    /// A copy of what was looked at, where that was.
    pub(in super::super) held: Option<Held>,
    /// Which commit of which repository, where it is of one.
    pub(in super::super) commit: Option<Commit>,
}

/// A commit of a repository.
pub(in super::super) struct Commit {
    pub(in super::super) repository: Repository,
    /// Its whole name.
    pub(in super::super) id: String,
}

/// A copy, for as long as the request takes.
pub(in super::super) struct Held {
    pub(in super::super) incoming: Incoming,
    /// In it.
    pub(in super::super) name: &'static str,
}

impl Held {
    pub(in super::super) fn path(&self) -> PathBuf {
        self.incoming.path().join(self.name)
    }
}

impl Sources<'_> {
    /// Tells of what the project names.
    pub(in super::super) fn hold(&self, name: &PackageName, direct: Direct) {
        self.state().direct.insert(name.clone(), Arc::new(direct));
    }

    pub(super) fn direct(&self, name: &str) -> Option<Arc<Direct>> {
        let name = name.parse::<PackageName>().ok()?;
        self.state().direct.get(&name).cloned()
    }

    /// What it is, where that is no archive.
    pub(super) fn form(&self, name: &str) -> Option<SourceForm> {
        self.direct(name)?.form
    }

    /// What plans and locks say of where it comes from, where that is a repository.
    pub(super) fn source(&self, name: &str) -> Option<String> {
        let direct = self.direct(name)?;
        let Commit { repository, id } = direct.commit.as_ref()?;
        Some(repository.source(id))
    }

    /// What is remembered of something by its digest, or by what tells it apart as well.
    pub(in super::super) fn recall<T: DeserializeOwned>(
        &self,
        step: &str,
        source: &str,
    ) -> Option<T> {
        recall(&self.task.shop.builds, &Key::new(step, source, &[], self.interpreter))
    }

    /// Remembers it.
    pub(in super::super) fn remember(&self, step: &str, source: &str, what: &impl Serialize) {
        remember(&self.task.shop.builds, &Key::new(step, source, &[], self.interpreter), what);
    }

    /// What a source with this digest said of itself before.
    pub(in super::super) fn said_before(&self, hashes: &Hashes) -> Option<Said> {
        self.recall("said", &hashes.to_string())
    }

    /// Remembers what a source says of itself.
    pub(in super::super) fn remember_said(&self, hashes: &Hashes, said: &Said) {
        self.remember("said", &hashes.to_string(), said);
    }

    /// What a source promises that its wheel will need, to be compared with what it does need.
    pub(in super::super) fn believe(&self, hashes: &Hashes, core: &Arc<CoreMetadata>) {
        self.state().believed.insert(hashes.to_string(), Arc::clone(core));
    }

    /// What only a build tells; refused where nobody asked for one.
    pub(in super::super) fn learnt(&self, package: &Package) -> Result<Arc<CoreMetadata>> {
        Ok(Arc::clone(&self.done(package)?.core))
    }

    /// Whether the lock alone says what is installed.
    pub(in super::super) fn is_frozen(&self) -> bool {
        self.task.choices.frozen
    }

    /// What of a directory decides about what is installed.
    pub(in super::super) fn look(&self, path: &Path, form: SourceForm) -> Result<Option<Seen>> {
        let check = || self.task.check_wanted();
        match form {
            SourceForm::Git | SourceForm::Tree => tree::look(path, &check),
            SourceForm::Editable => tree::look_at_project(path, &check),
        }
    }

    /// Where the code of a package is used where it lies.
    pub(super) fn used_at(&self, wanted: &Wanted<'_>) -> Option<PathBuf> {
        let direct = self.direct(wanted.name.as_ref())?;
        let is_editable = direct.form == Some(SourceForm::Editable);
        direct.path.clone().filter(|_| is_editable)
    }

    /// What a step of a build is remembered by beside its source: what is used where it lies says where that is.
    pub(super) fn step(&self, step: &str, wanted: &Wanted<'_>) -> String {
        match self.used_at(wanted) {
            Some(path) => format!("{step} {}", path.display()),
            None => step.to_owned(),
        }
    }

    /// Refuses an editable build that left something beside the source that only its copy has now: what was compiled there.
    pub(super) fn check_left(&self, wanted: &Wanted<'_>, source: &Path) -> Result<()> {
        let Some(path) = self.used_at(wanted) else { return Ok(()) };
        let (mut left, mut files) = (vec![PathBuf::new()], 0);
        while let Some(folder) = left.pop() {
            let Ok(entries) = std::fs::read_dir(source.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let inside = folder.join(entry.file_name());
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                files += 1;
                if is_directory && files < BUILD_FILES_MAX {
                    left.push(inside);
                } else if inside.extension().is_some_and(|it| it == "so")
                    && path.join(&inside).symlink_metadata().is_err()
                {
                    let (name, inside) = (&wanted.name, inside.display());
                    let message =
                        format!("the editable build of `{name}` makes `{inside}` in its source");
                    return Err(Error::new(Kind::Refused, "editable-compiled", message).hint(
                        "nothing is written into the directory; name it without `-e` to have it built and copied",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Puts the source that is built to `source`.
    pub(super) fn lay(&self, wanted: &Wanted<'_>, archive: &Path, source: &Path) -> Result<()> {
        let Package { artifact, name, .. } = wanted.package;
        let direct = self.direct(name).filter(|_| artifact.by_address);
        let tree = direct.as_ref().filter(|direct| direct.form.is_some());
        let Some(Direct { path, held, commit, .. }) = tree.map(|direct| &**direct) else {
            let archive = self.archive(wanted, archive)?;
            let unpacker = &self.task.shop.unpacker;
            return unpack_source(unpacker, &archive, &artifact.file_name, source).map(drop);
        };
        let fetched = match (held, commit) {
            (None, Some(commit)) => Some(self.fetched(commit)?),
            _ => None,
        };
        let held = held.as_ref().or(fetched.as_ref()).map(Held::path);
        let from = held.or_else(|| path.clone()).unwrap_or_default();
        let seen = tree::copy(&from, source, &|| self.task.check_wanted())?;
        let seen = match tree.and_then(|direct| direct.form) {
            Some(SourceForm::Editable) => self.look(source, SourceForm::Editable)?,
            _ => seen,
        };
        let is_it = |seen: &Seen| artifact.hashes.sha256.as_ref() == Some(&seen.sha256);
        if seen.as_ref().is_some_and(is_it) {
            return Ok(());
        }
        if let Some(Commit { repository, id }) = commit {
            return Err(not_locked(repository, id, name));
        }
        let shown = path.as_deref().unwrap_or(&from).display();
        let message = format!("`{shown}` is not the directory that is locked");
        Err(Error::new(Kind::Verification, "hash-mismatch", message)
            .hint(format!("`bolide update pypi:{name} --build {name}` takes what is there now")))
    }

    /// The files of a commit that is locked.
    fn fetched(&self, Commit { repository, id }: &Commit) -> Result<Held> {
        const TREE: &str = "tree";
        let incoming = self.task.shop.new_incoming()?;
        let into = incoming.path().join(TREE);
        let meant = Meant::commit(id);
        self.task.write_commit(repository, &meant, (incoming.path(), &into))?;
        Ok(Held { incoming, name: TREE })
    }

    /// The archive that is built, verified: where a copy lies already, else at `to`.
    fn archive(&self, wanted: &Wanted<'_>, to: &Path) -> Result<PathBuf> {
        let Package { artifact, name, .. } = wanted.package;
        let Artifact { file_name, hashes, .. } = &**artifact;
        if !address::is_source(file_name) {
            let message = format!("`{file_name}` is of a kind of archive that is not built");
            return Err(Error::new(Kind::Refused, "source-format", message).hint(
                "`.tar.gz` and `.zip` are built; choose a version that has one, or a wheel",
            ));
        }
        let direct = self.direct(name).filter(|_| artifact.by_address);
        if let Some(held) = direct.as_ref().and_then(|direct| direct.held.as_ref()) {
            return Ok(held.path());
        }
        let Some(path) = direct.as_ref().and_then(|direct| direct.path.as_ref()) else {
            self.task.fetch_to(wanted.package, to)?;
            return Ok(to.to_owned());
        };
        let content = copied(self.task, path, to)?;
        if hashes.sha256.as_ref().is_some_and(|planned| *planned != content.sha256) {
            let message = format!("`{}` is not the file that is locked", path.display());
            return Err(Error::new(Kind::Verification, "hash-mismatch", message)
                .hint(format!("`bolide update pypi:{name}` takes what is there now")));
        }
        Ok(to.to_owned())
    }
}
