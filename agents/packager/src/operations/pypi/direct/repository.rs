//! Repositories that the project names: a commit of one is a directory of source that never changes. Which commit a branch or a tag is
//! the server says once; from then on it is the one that is locked, until an update asks again.

use std::sync::Arc;
use std::time::Instant;

use pep508_rs::Requirement;
use serde::{Deserialize, Serialize};
use url::Url;

use super::source::{TREE, file_name};
use super::{Finder, no_file};
use crate::build::said::Said;
use crate::build::tree::{self, Seen};
use crate::error::{Error, Kind, Result};
use crate::git::Meant;
use crate::lock;
use crate::manifest::address;
use crate::manifest::address::git::{Repository, is_commit, of_source};
use crate::metadata::Hashes;
use crate::operations::pypi::sources::{Commit, Direct, Held, Sources};
use crate::resolution::{Package, SourceForm};
use crate::resolve::pypi::policy::Known;

/// What is remembered of a commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Content {
    sha256: String,
    bytes: u64,
}

/// What is known of a commit, and a copy of its files where they had to be looked at.
struct Looked {
    commit: String,
    content: Content,
    said: Said,
    held: Option<Held>,
}

/// What a commit is remembered by, beside the repository that has it.
const STEP: &str = "commit";

impl Finder<'_> {
    pub(super) fn repository(
        &self,
        requirement: &Requirement,
        repository: &Repository,
        warnings: &mut Vec<String>,
    ) -> Result<Known> {
        let name = &requirement.name;
        let before = self.commit_before(requirement, repository);
        let kept = before.clone().filter(|_| !self.asked.is_anew(name.as_ref()));
        let meant = self.meant(requirement, repository, kept.as_ref().map(|(commit, _)| commit))?;
        let Looked { commit, content, said, held } = self.looked(repository, &meant)?;
        let Content { sha256, bytes } = content;
        if let Some((locked, _)) = &before
            && *locked != commit
            && meant.is_tag()
        {
            let (tag, shown) = (repository.wanted(), repository.shown());
            warnings.push(format!(
                "the tag `{tag}` of `{shown}` was moved: it was {locked} and is {commit} now"
            ));
        }
        let is_other = |locked: &Hashes| locked.sha256.as_ref().is_some_and(|it| *it != sha256);
        if kept.is_some_and(|(locked, hashes)| locked == commit && is_other(&hashes)) {
            return Err(not_locked(repository, &commit, name.as_ref()));
        }
        let url = Url::parse(&repository.source(&commit));
        let url =
            url.map_err(|_| Error::new(Kind::Usage, "url-requirement", "names no address"))?;
        let file = self::file(repository, name);
        let form = Some(SourceForm::Git);
        let commit = Some(Commit { repository: repository.clone(), id: commit });
        self.sources.hold(name, Direct { form, path: None, held, commit });
        let hashes = Hashes { sha256: Some(sha256), sha512: None };
        self.known(requirement, &url, (file, hashes, Some(bytes)), &said)
    }

    /// The commit: the one that is locked or installed, that of another tool's lock, the one that is named, else the one that the server says.
    fn meant(
        &self,
        requirement: &Requirement,
        repository: &Repository,
        kept: Option<&String>,
    ) -> Result<Meant> {
        let is_anew = self.asked.is_anew(requirement.name.as_ref());
        let imported = || {
            let packages = self.imported.filter(|_| !is_anew)?.packages.iter();
            let mut sources = packages.filter(|it| it.name == requirement.name.as_ref());
            let found = sources.find_map(|package| of_source(package.source.as_ref()?));
            found.and_then(|(of, commit)| (of.plain() == repository.plain()).then_some(commit))
        };
        let named = || repository.revision.clone().filter(|it| is_commit(it));
        match kept.cloned().or_else(imported).or_else(named) {
            Some(commit) => Ok(Meant::commit(&commit)),
            None => self.timed(|| self.task.ask_repository(repository)),
        }
    }

    /// What takes no time of the resolver.
    fn timed<T>(&self, act: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = act();
        self.sources.spend(began.elapsed());
        done
    }

    /// What a commit holds, as it was found before, or out of its files.
    fn looked(&self, repository: &Repository, meant: &Meant) -> Result<Looked> {
        let key = |commit: &str| repository.source(commit);
        if meant.is_whole()
            && let Some(content) = self.sources.recall::<Content>(STEP, &key(&meant.commit))
            && let Some(said) = self.sources.said_before(&hashes(&content))
        {
            return Ok(Looked { commit: meant.commit.clone(), content, said, held: None });
        }
        let incoming = self.task.shop.new_incoming()?;
        let into = incoming.path().join(TREE);
        let places = (incoming.path(), into.as_path());
        let commit = self.timed(|| self.task.write_commit(repository, meant, places))?;
        let seen = tree::look(&into, &|| self.task.check_wanted())?;
        let gone = || Error::io("read", &into, &std::io::ErrorKind::NotFound.into());
        let Seen { sha256, bytes } = seen.ok_or_else(gone)?;
        let shown = repository.shown();
        let said = Said::of(&into, &shown)?;
        check_project(&into, repository, &commit)?;
        let content = Content { sha256, bytes };
        self.sources.remember(STEP, &key(&commit), &content);
        self.sources.remember_said(&hashes(&content), &said);
        Ok(Looked { commit, content, said, held: Some(Held { incoming, name: TREE }) })
    }

    /// What is locked, else installed, of the same revision of the same repository, wanted anew or not.
    fn commit_before(
        &self,
        requirement: &Requirement,
        repository: &Repository,
    ) -> Option<(String, Hashes)> {
        let mut named =
            self.asked.known()?.packages.iter().filter(|it| it.name == requirement.name.as_ref());
        named.find_map(|package| {
            let commit = commit_of(package, repository)?;
            let built = package.artifact.built.as_deref();
            let hashes = built.map_or(&package.artifact.hashes, |built| &built.hashes);
            Some((commit, hashes.clone()))
        })
    }
}

fn hashes(content: &Content) -> Hashes {
    Hashes { sha256: Some(content.sha256.clone()), sha512: None }
}

/// What is locked of a package, where that is of the same repository.
fn commit_of(package: &Package, repository: &Repository) -> Option<String> {
    let (of, commit) = of_source(package.artifact.source.as_ref()?)?;
    (of.plain() == repository.plain()).then_some(commit)
}

/// What it goes by in plans and locks: the repository's own name, where that is a plain one.
fn file(repository: &Repository, name: &pep508_rs::PackageName) -> String {
    let path = repository.remote.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let file = file_name(std::path::Path::new(path), name);
    // What ends so is taken for one.
    if file.ends_with(".whl") { name.to_string() } else { file }
}

/// Refuses what is no project of Python, by name.
fn check_project(tree: &std::path::Path, repository: &Repository, commit: &str) -> Result<()> {
    let has = |file: &&str| tree.join(file).symlink_metadata().is_ok();
    if ["pyproject.toml", "setup.py"].iter().any(has) {
        return Ok(());
    }
    let shown = repository.shown();
    let place = match &repository.subdirectory {
        Some(directory) => format!("`{directory}` in `{shown}`"),
        None => format!("`{shown}`"),
    };
    let message = format!(
        "{place} is no Python project at {commit}: it has no `pyproject.toml` and no `setup.py`"
    );
    Err(Error::new(Kind::Failed, "git-no-project", message)
        .hint("name the directory of the project with `#subdirectory=DIR`, or another revision"))
}

/// The tree of a commit is not what the lock says.
pub(in super::super) fn not_locked(repository: &Repository, commit: &str, name: &str) -> Error {
    let shown = repository.shown();
    let message = format!("{commit} of `{shown}` has not the files that are locked");
    Error::new(Kind::Verification, "hash-mismatch", message)
        .hint(format!("`bolide update pypi:{name}` takes what is there; find out which is right"))
}

/// Says of a package of a lock where its repository is; the lock has which commit.
pub(super) fn place_locked(
    package: &mut Package,
    (repository, url): (&Repository, &Url),
    requirement: &Requirement,
    sources: &Sources<'_>,
) -> Result<()> {
    let Some(id) = commit_of(package, repository) else {
        let told = address::told(requirement);
        let message = format!("`{}` has no commit for `{told}`", lock::FILE);
        return Err(Error::new(Kind::Verification, "lock-damaged", message)
            .hint("bring it back from version control, or lock anew with `bolide update`"));
    };
    let source = repository.source(&id);
    let artifact = Arc::make_mut(&mut package.artifact);
    artifact.url = Url::parse(&source).map_err(|_| no_file(url))?.to_string();
    (artifact.by_address, artifact.source) = (true, Some(source));
    let commit = Some(Commit { repository: repository.clone(), id });
    let form = Some(SourceForm::Git);
    sources.hold(&requirement.name, Direct { form, path: None, held: None, commit });
    Ok(())
}
