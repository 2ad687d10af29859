//! What an environment holds, and how a package leaves it: by its own `RECORD`, and never by a path
//! that leads out of the environment.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Environment, normalize, wheel};
use crate::error::{Error, Kind, Result};
use crate::limits;
use crate::store::{open_beneath, open_directory};
use crate::unpack::record;

/// One installed distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The name as the package spells it.
    pub name: String,
    /// The version.
    pub version: String,
    /// Who installed it, where that is recorded.
    pub installer: Option<String>,
    /// Whether a person asked for it, rather than another package.
    pub requested: bool,
    /// The name of its directory in `site-packages`.
    pub directory: String,
}

/// What a removal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files removed.
    pub files: usize,
    /// Files left because another package has them, too.
    pub shared: usize,
}

/// The directory for packages of an existing environment, relative to it, whatever its interpreter
/// is called.
pub fn site_packages_of(environment: &Path) -> Option<String> {
    let libraries = fs::read_dir(environment.join("lib")).ok()?;
    let mut names: Vec<String> =
        libraries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| format!("lib/{name}/site-packages"))
        .find(|path| environment.join(path).is_dir())
}

/// Every distribution with a `.dist-info` in `site_packages`, sorted by name.
pub fn installed(site_packages: &Path) -> Result<Vec<Installed>> {
    let read_error = |error: std::io::Error| Error::io("read the directory", site_packages, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(site_packages).map_err(read_error)? {
        let Ok(directory) = entry.map_err(read_error)?.file_name().into_string() else { continue };
        let Some(stem) = directory.strip_suffix(".dist-info") else { continue };
        let place = site_packages.join(&directory);
        let metadata = read_text(&place.join("METADATA"), limits::PACKAGE_DESCRIPTION_BYTES_MAX)?
            .unwrap_or_default();
        let from_name = stem.split_once('-').unwrap_or((stem, ""));
        let name = wheel::field(&metadata, "Name").unwrap_or(from_name.0).to_owned();
        let version = wheel::field(&metadata, "Version").unwrap_or(from_name.1).to_owned();
        let installer = read_text(&place.join("INSTALLER"), limits::PACKAGE_DESCRIPTION_BYTES_MAX)?
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty());
        let requested = place.join("REQUESTED").exists();
        found.push(Installed { name, version, installer, requested, directory });
    }
    found.sort_by_cached_key(|installed| (normalize(&installed.name), installed.version.clone()));
    Ok(found)
}

/// Removes a package from an environment in staging: every file of its `RECORD` and the byte code
/// made from them. Files that another package lists, too, stay. Nothing is removed if a single path
/// leads out of the environment.
pub fn remove(environment: Environment<'_>, name: &str) -> Result<Removed> {
    let site = environment.interpreter.site_packages();
    let site_path = environment.staging.join(&site);
    let all = installed(&site_path)?;
    let (mine, others): (Vec<&Installed>, Vec<&Installed>) =
        all.iter().partition(|installed| normalize(&installed.name) == normalize(name));
    if mine.is_empty() {
        return Err(Error::new(Kind::Usage, "not-installed", format!("`{name}` is not installed"))
            .hint("see what is: `bolide list`"));
    }
    let mut wanted = BTreeSet::new();
    for installed in mine {
        wanted
            .extend(recorded(environment, &site, installed)?.ok_or_else(|| no_record(installed))?);
    }
    let mut shared = HashSet::new();
    for other in others {
        // Another package's broken list protects nothing, but must not stop this removal either.
        shared.extend(recorded(environment, &site, other).ok().flatten().unwrap_or_default());
    }
    let root = open_directory(environment.staging)?;
    let mut remover =
        Remover { environment, root, emptied: BTreeSet::new(), removed: Removed::default() };
    // Looked at as a whole before the first file goes: a link on the way to any of them stops
    // everything.
    for path in &wanted {
        remover.parent(path)?;
    }
    for path in &wanted {
        match shared.contains(path) {
            true => remover.removed.shared += 1,
            false => remover.remove_file(path)?,
        }
    }
    remover.remove_empty_directories(&site)?;
    Ok(remover.removed)
}

fn no_record(installed: &Installed) -> Error {
    let message = format!(
        "`{} {}` has no `RECORD`, so nobody knows its files",
        installed.name, installed.version
    );
    Error::new(Kind::Refused, "no-record", message)
        .hint("remove it with the tool that installed it")
}

/// The paths that a package lists, relative to the environment. `None` without a list.
fn recorded(
    environment: Environment<'_>,
    site: &str,
    installed: &Installed,
) -> Result<Option<Vec<String>>> {
    let path = environment.staging.join(site).join(&installed.directory).join("RECORD");
    let Some(text) = read_text(&path, limits::RECORD_BYTES_MAX)? else { return Ok(None) };
    let lines = record::parse(&text).map_err(|refusal| refusal.of(&path.display().to_string()))?;
    lines
        .iter()
        .map(|line| resolve(environment, site, &line.path, installed))
        .collect::<Result<_>>()
        .map(Some)
}

/// A listed path as one without `..`, relative to the environment; an error if it leads out.
fn resolve(
    environment: Environment<'_>,
    site: &str,
    listed: &str,
    installed: &Installed,
) -> Result<String> {
    let escapes = || {
        let message = format!(
            "`RECORD` of `{}` lists `{}`, which is outside of the environment",
            installed.name,
            crate::unpack::printable(listed.as_bytes())
        );
        Error::new(Kind::Verification, "record-escapes", message)
            .hint("the environment was tampered with; make it anew")
    };
    let below = match listed.starts_with('/') {
        true => {
            let inside =
                Path::new(listed).strip_prefix(environment.final_path).map_err(|_| escapes())?;
            inside.to_str().ok_or_else(escapes)?.to_owned()
        }
        false => format!("{site}/{listed}"),
    };
    let mut components: Vec<&str> = Vec::new();
    for component in below.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop().ok_or_else(escapes)?;
            }
            other if other.contains('\0') => return Err(escapes()),
            other => components.push(other),
        }
    }
    if components.first() == Some(&"lib64") {
        components[0] = "lib";
    }
    match components.is_empty() {
        true => Err(escapes()),
        false => Ok(components.join("/")),
    }
}

struct Remover<'a> {
    environment: Environment<'a>,
    root: OwnedFd,
    emptied: BTreeSet<String>,
    removed: Removed,
}

impl Remover<'_> {
    /// The directory of a path, reached without links; `None` if it is gone.
    fn parent(&self, path: &str) -> Result<Option<OwnedFd>> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        match open_beneath(self.root.as_fd(), parent) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
                let message = format!(
                    "`{}` is reached through a link",
                    self.environment.staging.join(path).display()
                );
                Err(Error::new(Kind::Refused, "link-in-the-way", message)
                    .hint("remove the package with the tool that made the link"))
            }
            Err(error) => Err(self.failed(path, error)),
        }
    }

    fn remove_file(&mut self, path: &str) -> Result<()> {
        let Some(directory) = self.parent(path)? else { return Ok(()) };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) => self.removed.files += 1,
            // Some tools list directories; those go when they are empty.
            Err(Errno::NOENT | Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(self.failed(path, error)),
        }
        self.emptied.insert(parent.to_owned());
        if let Some(stem) = name.strip_suffix(".py") {
            self.remove_byte_code(&directory, parent, stem)?;
        }
        Ok(())
    }

    fn remove_byte_code(&mut self, directory: &OwnedFd, parent: &str, stem: &str) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(cache) = rustix::fs::openat(directory, "__pycache__", flags, Mode::empty()) else {
            return Ok(());
        };
        let path = format!("{parent}/__pycache__");
        let listing =
            rustix::fs::Dir::read_from(&cache).map_err(|error| self.failed(&path, error))?;
        for entry in listing {
            let entry = entry.map_err(|error| self.failed(&path, error))?;
            let name = entry.file_name().to_string_lossy();
            let compiled = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
            if compiled.is_some_and(|rest| rest.ends_with(".pyc")) {
                rustix::fs::unlinkat(&cache, entry.file_name(), AtFlags::empty())
                    .map_err(|error| self.failed(&path, error))?;
            }
        }
        self.emptied.insert(path);
        Ok(())
    }

    /// Removes what became empty, from the bottom up, but never a directory that environments have.
    fn remove_empty_directories(&mut self, site: &str) -> Result<()> {
        let keep = ["", "bin", "lib", "include", site];
        let library = site.rsplit_once('/').map_or("", |(library, _)| library);
        while let Some(path) = self.emptied.pop_last() {
            if keep.contains(&path.as_str()) || path == library {
                continue;
            }
            let Some(directory) = self.parent(&path)? else { continue };
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            match rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR) {
                Ok(()) => {
                    self.emptied.insert(parent.to_owned());
                }
                Err(Errno::NOENT) => {
                    self.emptied.insert(parent.to_owned());
                }
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => {}
                Err(error) => return Err(self.failed(&path, error)),
            }
        }
        Ok(())
    }

    fn failed(&self, path: &str, error: Errno) -> Error {
        Error::io("remove", &self.environment.staging.join(path), &error.into())
    }
}

/// The text of a file of bounded size; `None` if there is none.
fn read_text(path: &PathBuf, bytes_max: u64) -> Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, &error))?;
    match bytes.len() as u64 > bytes_max {
        true => {
            let message = format!("`{}` has more than {bytes_max} bytes", path.display());
            Err(Error::new(Kind::Verification, "too-large", message)
                .hint("make the environment anew"))
        }
        false => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
    }
}
