//! Pages and directories that list files of all packages beside what the indexes have (`find-links`, flat indexes).
//!
//! They are read once for a request, or once for as long as an answer counts, and cut up by package. What lies in a directory has no
//! digest there: whoever wants a package's files has those hashed ([`local`](super::local)).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use pep508_rs::PackageName;
use url::Url;

use super::page::{self, Collect, Listed};
use super::{PypiClient, Resolved, file_name, local_path, page_html};
use crate::error::{Error, Kind, Result};
use crate::io::cache::memory::Value;
use crate::io::cache::{Entry, Key};
use crate::io::http::{Request, Urgency, Validators, nonsense};
use crate::io::limits::{LINKED_FILES_MAX, PROJECT_BYTES_MAX};
use crate::io::resource::{Answer, Fetched, Parsed, Resource, wrong_kind};
use crate::io::secret::shown;
use crate::metadata::Hashes;
use crate::metadata::pypi::Project;

/// What one listed file takes in memory, about.
const LISTED_BYTES: usize = 512;

/// The files that one place lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linked {
    /// By the package in their names, in the order of the place.
    wheels: HashMap<String, Vec<Listed>>,
    /// Whose a source archive is, only somebody can tell who knows for which package it could be.
    sources: Vec<Listed>,
    count: usize,
}

impl Linked {
    /// What could be of a package; whoever looks at the whole name knows.
    pub(super) fn of<'l>(&'l self, name: &PackageName) -> impl Iterator<Item = &'l Listed> {
        // A name is spelled in its normal form with hyphens, or with one of these in their place.
        let first = name.as_ref().as_bytes().first().map(u8::to_ascii_lowercase);
        let begins =
            move |it: &&Listed| it.name.as_bytes().first().map(u8::to_ascii_lowercase) == first;
        let wheels = self.wheels.get(name.as_ref()).into_iter().flatten();
        wheels.chain(self.sources.iter().filter(begins))
    }

    fn all(&self) -> Vec<&Listed> {
        self.wheels.values().flatten().chain(&self.sources).collect()
    }
}

impl Collect for Linked {
    fn add(&mut self, listed: Listed) {
        if self.count >= LINKED_FILES_MAX {
            return;
        }
        self.count += 1;
        match listed.name.strip_suffix(".whl").and_then(|stem| stem.split('-').next()) {
            Some(name) => {
                let Ok(name) = name.parse::<PackageName>() else { return };
                self.wheels.entry(name.to_string()).or_default().push(listed);
            }
            None => self.sources.push(listed),
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What a directory of this machine lists: the files in it, not those further down.
///
/// # Errors
/// `links-missing` where there is no such directory, `too-many-files`; otherwise those of the system.
fn of_directory(path: &Path) -> Result<Linked> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            let message =
                format!("there is no directory `{}` to look for packages in", path.display());
            Error::new(Kind::Failed, "links-missing", message)
                .hint("make it, or take it out of `find-links` where it is configured")
        }
        _ => Error::io("read", path, &error),
    };
    let mut linked = Linked::default();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // What cannot be written down is no file of a package either.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(url) = Url::from_file_path(path.join(&name)) else { continue };
        if linked.count >= LINKED_FILES_MAX {
            let message = format!("`{}` has more than {LINKED_FILES_MAX} files", path.display());
            return Err(Error::new(Kind::Failed, "too-many-files", message));
        }
        linked.add(Listed { name, url: url.into(), ..Listed::default() });
    }
    Ok(linked)
}

impl PypiClient {
    /// What is listed of a package beside the indexes. A package with an index of its own comes from there alone.
    fn linked(&self, name: &PackageName) -> Result<Vec<Listed>> {
        let resolved = self.resolved()?;
        let endpoint = &resolved.endpoint;
        if endpoint.links.is_empty() || endpoint.pins.contains_key(name) {
            return Ok(Vec::new());
        }
        let mut directories = self.directories()?.iter();
        let mut found = Vec::new();
        for url in &endpoint.links {
            if local_path(url).is_some() {
                let listed = directories.next().into_iter().flat_map(|linked| linked.of(name));
                for one in listed.filter(|one| file_name::parse(&one.name, name).is_some()) {
                    found.push(self.hashed(one)?);
                }
                continue;
            }
            let page = Page { url: url.clone(), resolved: Arc::clone(resolved) };
            match self.session.ask(Arc::new(page))? {
                // What has no digest cannot be used, and must not stand in the way of an index's file of that name.
                Value::Links(linked) => {
                    let listed = linked.of(name).filter(|listed| !listed.hashes.is_empty());
                    found.extend(listed.cloned());
                }
                _ => return Err(wrong_kind()),
            }
        }
        Ok(found)
    }

    /// What the directories list, in their order.
    fn directories(&self) -> Result<&[Linked]> {
        let endpoint = &self.resolved()?.endpoint;
        let read = || {
            let paths = endpoint.links.iter().filter_map(local_path);
            paths.map(|path| of_directory(&path)).collect()
        };
        let found: &Result<Vec<Linked>> = self.directories.get_or_init(read);
        found.as_deref().map_err(Clone::clone)
    }

    /// Where a file of a package lies, in the first directory that has it.
    pub(crate) fn here(&self, name: &PackageName, file: &str) -> Result<Option<PathBuf>> {
        let endpoint = &self.resolved()?.endpoint;
        if endpoint.pins.contains_key(name) || file_name::parse(file, name).is_none() {
            return Ok(None);
        }
        let mut all = self.directories()?.iter().flat_map(|linked| linked.of(name));
        let found = all.find(|listed| listed.name == file);
        Ok(found.and_then(|it| local_path(&Url::parse(&it.url).ok()?)))
    }

    /// A file of this machine with what it hashes to. One that cannot be read is not passed over: an index would answer for it.
    fn hashed(&self, listed: &Listed) -> Result<Listed> {
        let gone = || {
            let message = format!("`{}` is listed where it lies, and is not there", listed.url);
            Error::new(Kind::Failed, "file-missing", message)
                .hint("a link that leads nowhere? Take it away, or put the file there")
        };
        let path = Url::parse(&listed.url).ok().as_ref().and_then(local_path).ok_or_else(gone)?;
        let digests = &self.session.shared.local_digests;
        let content = digests.of(&path, &self.session.request.cancellation)?.ok_or_else(gone)?;
        Ok(Listed {
            hashes: Hashes { sha256: Some(content.sha256), sha512: None },
            size: Some(content.bytes),
            core_metadata: Some(false),
            ..listed.clone()
        })
    }

    /// The files of a package, those that are listed beside the indexes first.
    pub(super) fn with_linked(&self, name: &PackageName) -> Result<Arc<Project>> {
        let linked = self.linked(name)?;
        let is_asked = !self.resolved()?.endpoint.has_no_index;
        let merged =
            |page: Option<&Project>| Arc::new(page::merged(name, linked.iter().cloned(), page));
        if !is_asked {
            return match merged(None) {
                project if project.files_count() > 0 => Ok(project),
                _ => Err(without_index(name)),
            };
        }
        let page = match self.session.ask(self.maker()?.project(name)?) {
            Ok(Value::Project(page)) => page,
            Ok(_) => return Err(wrong_kind()),
            Err(error) if error.code == "unknown-package" && !linked.is_empty() => {
                let project = merged(None);
                return if project.files_count() > 0 { Ok(project) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        Ok(if linked.is_empty() { page } else { merged(Some(&page)) })
    }
}

/// A page on the web.
struct Page {
    url: Url,
    resolved: Arc<Resolved>,
}

impl Resource for Page {
    fn key(&self) -> Key {
        Key::new("pypi-links", &self.url, Some(&self.resolved.endpoint.credentials), "")
    }

    fn title(&self) -> String {
        format!("pypi-links:{}", shown(&self.url))
    }

    fn fetch<'a>(
        &'a self,
        validators: Option<&'a Validators>,
        urgency: &'a Urgency,
    ) -> BoxFuture<'a, Result<Fetched>> {
        Box::pin(async move {
            let credentials = &self.resolved.endpoint.credentials;
            let mut request = Request::new(self.url.clone(), Some(credentials), PROJECT_BYTES_MAX);
            request.accept = Some("text/html");
            request.validators = validators;
            Fetched::of(self.resolved.http.get(&request, urgency).await?)
        })
    }

    fn parse(&self, answer: &Answer) -> Result<Parsed> {
        let mut linked = Linked::default();
        page_html::parse(&answer.body, &answer.url, &mut linked)
            .map_err(|why| nonsense(&answer.url, why))?;
        if linked.count >= LINKED_FILES_MAX {
            let why = format!("it lists more than {LINKED_FILES_MAX} files");
            return Err(nonsense(&answer.url, why));
        }
        let linked = Arc::new(linked);
        let value = Value::Links(Arc::clone(&linked));
        // Texts and numbers always serialise.
        let stored = move || serde_json::to_vec(&linked.all()).unwrap_or_default().into();
        Ok(Parsed { value, stored: Box::new(stored), packed: Bytes::new() })
    }

    fn weight(&self, value: &Value, length: usize) -> usize {
        if let Value::Links(linked) = value { linked.count * LISTED_BYTES } else { length }
    }

    fn restore(&self, entry: &Entry) -> Result<Value> {
        let all: Vec<Listed> =
            serde_json::from_slice(&entry.body).map_err(|why| nonsense(&self.url, why))?;
        let mut linked = Linked::default();
        all.into_iter().for_each(|listed| linked.add(listed));
        Ok(Value::Links(Arc::new(linked)))
    }

    fn missing(&self, _near: &[String]) -> Error {
        let message = format!("there is no page `{}` to look for packages on", shown(&self.url));
        Error::new(Kind::Network, "links-missing", message)
            .hint("correct its address, or take it out of `find-links` where it is configured")
    }
}

/// The error for a package that nothing lists, where no index is to be asked.
fn without_index(name: &PackageName) -> Error {
    let message = format!("no file of `{name}` is where packages are looked for");
    Error::new(Kind::Failed, "unknown-package", message).hint(
        "no index is asked (`no-index`): put a wheel of it into a directory of `find-links`, or let an index be asked",
    )
}
