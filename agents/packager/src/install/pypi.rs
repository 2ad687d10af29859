//! Virtual environments: made at a staged path for their final path, filled from wheels, and
//! changed by removing and adding packages in a private copy.
//!
//! Nothing here starts an interpreter; the facts about one come in as [`BaseInterpreter`]. No byte
//! code is compiled: the interpreter does that when it first imports a module.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{Options, Report, fill, identity_mismatch};
use crate::error::{Error, Kind, Result};
use crate::manifest::address::git::of_source;
use crate::resolution::{Package, SourceForm};
use crate::store::{Entry, Existing, File, Object, Store};

mod installed;
mod scripts;
mod venv;
mod wheel;

#[cfg(test)]
mod tests;

pub use installed::{Installed, Removed, installed, remove, site_packages_of};
pub use venv::create;

/// What has to be known about the interpreter that an environment is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseInterpreter {
    /// The program itself, absolute (`sys._base_executable`); the environment's `python` links to
    /// it.
    pub executable: PathBuf,
    /// Major, minor and micro version.
    pub version: (u32, u32, u32),
    /// The whole version as `platform.python_version()` gives it (`3.13.0rc1`).
    pub version_text: String,
    /// The name of the library's directory: `python3.11`, `python3.13t`, `pypy3.10`.
    pub library_name: String,
    /// The directory of the standard library (`sysconfig.get_path("stdlib")`), where the templates
    /// of `venv` and the bundled wheels of `ensurepip` are.
    pub stdlib: PathBuf,
}

impl BaseInterpreter {
    /// The directory that packages are installed to, relative to an environment.
    pub fn site_packages(&self) -> String {
        format!("lib/{}/site-packages", self.library_name)
    }
}

/// An environment that is being written.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    /// Where its files are now.
    pub staging: &'a Path,
    /// Where they will be used; every path that is written into a file is this one.
    pub final_path: &'a Path,
    /// Its interpreter.
    pub interpreter: &'a BaseInterpreter,
}

/// Who installed a package, as `INSTALLER` says.
pub const INSTALLER: &str = "bolide";

/// Installs the wheels of `packages` into an environment that exists in staging. Whoever replaces a
/// version removes the old one first ([`remove`]).
pub fn install(
    store: &Store,
    environment: Environment<'_>,
    packages: &[&Package],
    options: Options<'_>,
) -> Result<Report> {
    environment.check_path()?;
    let mut wheels = Vec::new();
    for package in packages {
        let entry = options.entry(store, package)?;
        check_identity(package, &entry)?;
        let source = wheel::Source {
            entry: &entry,
            file_name: &package.artifact.file_name,
            identity: Some((&package.name, &package.version)),
            installer: INSTALLER,
            requested: package.direct,
            direct_url: direct_url(package),
            commands: BTreeMap::new(),
        };
        wheels.push(wheel::layout(store, environment, &source)?);
    }
    write(store, environment, wheels, packages, options)
}

/// Writes several wheels at once, after checking that no two of them claim the same file.
fn write(
    store: &Store,
    environment: Environment<'_>,
    wheels: Vec<wheel::Laid>,
    packages: &[&Package],
    options: Options<'_>,
) -> Result<Report> {
    let mut owners: HashMap<String, (usize, Object)> = HashMap::new();
    let mut report = Report::default();
    let mut files: Vec<File> = Vec::new();
    let names: Vec<String> = wheels.iter().map(|wheel| wheel.name.clone()).collect();
    for (index, wheel) in wheels.into_iter().enumerate() {
        report.warnings.extend(wheel.warnings);
        report.commands.extend(wheel.commands);
        for file in wheel.files {
            let object = file.content.object();
            match owners.get(&file.path) {
                None => {
                    owners.insert(file.path.clone(), (index, object));
                    files.push(file);
                }
                Some((other, same)) if *same == object => {
                    report.warnings.push(format!(
                        "`{}` and `{}` both have `{}`",
                        names[*other], names[index], file.path
                    ));
                }
                Some((other, _)) => {
                    let message = format!(
                        "`{}` and `{}` have different files `{}`",
                        names[*other], names[index], file.path
                    );
                    return Err(Error::new(Kind::Verification, "file-conflict", message)
                        .hint("one would overwrite the other's file; choose only one of them"));
                }
            }
        }
    }
    report.filled =
        fill(store, environment.staging, files, packages, options, Existing::AcceptEqual)?;
    report.commands.sort();
    Ok(report)
}

/// The same of a repository.
fn repository(source: &str) -> Option<serde_json::Value> {
    let (repository, commit) = of_source(source)?;
    let mut info = serde_json::json!({"commit_id": commit, "vcs": "git"});
    if let Some(revision) = repository.requested() {
        info["requested_revision"] = revision.into();
    }
    let mut told = serde_json::json!({"url": repository.shown(), "vcs_info": info});
    if let Some(directory) = repository.subdirectory {
        told["subdirectory"] = directory.into();
    }
    Some(told)
}

/// Where a package came from, as PEP 610 has it, for pip and whoever lists what is installed.
fn direct_url(package: &Package) -> Option<String> {
    let url = package.named_at()?;
    let built = package.artifact.built.as_deref();
    let url_text = crate::io::secret::shown(&url);
    let told = match built.and_then(|built| built.form) {
        Some(SourceForm::Editable) => {
            serde_json::json!({"dir_info": {"editable": true}, "url": url_text})
        }
        Some(SourceForm::Git) => repository(package.artifact.source.as_deref()?)?,
        Some(SourceForm::Tree) => serde_json::json!({"dir_info": {}, "url": url_text}),
        None => {
            let hashes = built.map_or(&package.artifact.hashes, |built| &built.hashes);
            let mut archive = serde_json::json!({"hashes": {}});
            let known = [("sha512", &hashes.sha512), ("sha256", &hashes.sha256)];
            for (algorithm, digest) in known {
                let Some(digest) = digest else { continue };
                archive["hash"] = format!("{algorithm}={digest}").into();
                archive["hashes"][algorithm] = digest.as_str().into();
            }
            serde_json::json!({"archive_info": archive, "url": url_text})
        }
    };
    Some(told.to_string())
}

fn check_identity(package: &Package, entry: &Entry) -> Result<()> {
    match normalize(&entry.name) == normalize(&package.name)
        && same_version(&entry.version, &package.version)
    {
        true => Ok(()),
        false => Err(identity_mismatch(package, &format!("{} {}", entry.name, entry.version))),
    }
}

/// A name as PEP 503 compares it.
fn normalize(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            other => normal.extend(other.to_lowercase()),
        }
    }
    normal
}

/// Versions as PEP 440 compares them; texts that are none must be equal.
fn same_version(left: &str, right: &str) -> bool {
    use std::str::FromStr as _;
    let parse = pep440_rs::Version::from_str;
    match (parse(left), parse(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

impl Environment<'_> {
    /// The final path is written into scripts of shells and into first lines, which cannot quote
    /// everything.
    fn check_path(&self) -> Result<&str> {
        let path = self.final_path;
        let usable = path.to_str().filter(|text| {
            path.is_absolute()
                && !text
                    .chars()
                    .any(|character| character.is_control() || "\"'$`\\:".contains(character))
        });
        usable.ok_or_else(|| {
            let message = format!("an environment cannot be made at `{}`", path.display());
            Error::new(Kind::Usage, "bad-path", message)
                .hint("choose an absolute path without quotes, dollar signs, backslashes, colons and control characters")
        })
    }

    /// The interpreter of the environment at its final path.
    fn python(&self) -> PathBuf {
        self.final_path.join("bin/python")
    }
}
