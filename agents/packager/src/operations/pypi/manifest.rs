//! What a Python project says that it wants: pyproject.toml or requirements.txt with what it includes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use pep508_rs::{PackageName, Requirement};
use url::Url;

use super::super::named::whole_path;
use super::super::read_text;
use crate::build::said::{Said, name_in_setup_py};
use crate::error::{Error, Kind, Result};
use crate::lock;
use crate::manifest::requirements::{Everything, Wanted};
use crate::manifest::{address, pyproject, requirements};
use crate::metadata::Hashes;
use crate::options::{Choice, Formats, Prerelease};
use crate::python::PythonTarget;
use crate::resolution::{Package, Resolution};
use crate::resolve::pypi;
use crate::resolve::pypi::policy::Policy;
use crate::transaction::Project;
use agents_versions::shorten;

pub(super) const PYPROJECT: &str = "pyproject.toml";
pub(super) const REQUIREMENTS: &str = "requirements.txt";
/// Options of a requirements file that change nothing here: a wheel comes before source in any case.
const HARMLESS_OPTIONS: [&str; 1] = ["--prefer-binary"];

/// The file that says what the project wants.
#[derive(Default)]
pub(super) struct Manifest {
    pub(super) path: &'static str,
    pub(super) text: Option<String>,
    /// What stands in the file itself.
    pub(super) wanted: Vec<Requirement>,
    /// What is wanted beside it: by included files, by dependency groups.
    pub(super) beside: Vec<Requirement>,
    pub(super) constraints: Vec<Requirement>,
    pub(super) takes_prereleases: bool,
    /// What it says of kinds of files.
    own_formats: Vec<(Choice, String)>,
    /// The same with what pip is configured with and what the caller says.
    pub(super) formats: Formats,
    /// The lines that name digests (`sha256:...`).
    pub(super) pinned: Vec<Wanted>,
    /// Every package must have one.
    pub(super) requires_digests: bool,
    pub(super) requires_python: Option<String>,
    /// Which packages come from an index of their own, by its name.
    pub(super) indexes: Vec<(PackageName, String)>,
    /// Packages that come from no index, by what the manifest says beside its requirements.
    pub(super) elsewhere: BTreeSet<String>,
    /// The files that it includes.
    pub(super) files: Vec<String>,
    /// Of which packages the directories are that it names without saying so.
    names: BTreeMap<String, String>,
}

impl Manifest {
    /// pyproject.toml where it has a `[project]`, else requirements.txt, which need not exist yet.
    pub(super) fn read(project: &Project) -> Result<Self> {
        if let Some(text) = read_text(project, PYPROJECT)?
            && let Some(described) = pyproject::read(PYPROJECT, &text)?
        {
            let (path, wanted) = (PYPROJECT, described.dependencies);
            let (beside, requires_python) = (described.development, described.requires_python);
            return Ok(Self {
                path,
                text: Some(text),
                wanted,
                beside,
                requires_python,
                indexes: described.indexes,
                elsewhere: described.elsewhere,
                ..Self::default()
            });
        }
        let text = read_text(project, REQUIREMENTS)?;
        let names = RefCell::new(BTreeMap::new());
        let name = |address: &str| {
            let name = name_of_tree(project, address)?;
            names.borrow_mut().insert(address.to_owned(), name.clone());
            Ok(name)
        };
        let read = match &text {
            Some(text) => {
                let open = &mut |path: &str| read_text(project, path);
                requirements::read_all(REQUIREMENTS, text, &name, open)?
            }
            None => Everything::default(),
        };
        let own = read.own.options.iter().map(|(line, option)| (REQUIREMENTS, line, option));
        let others = read.options.iter().map(|(file, line, option)| (&**file, line, option));
        let (mut takes_prereleases, mut requires_digests) = (false, false);
        let (mut own_formats, mut places) = (Vec::new(), requirements::Places::default());
        for (file, line, options) in own.chain(others) {
            for option in requirements::named(options) {
                let kind = [Choice::NoBinary, Choice::OnlyBinary];
                let kind = kind.into_iter().find(|choice| choice.flag() == option.name);
                match (option.name, kind, option.value) {
                    (_, Some(kind), Some(text)) => own_formats.push((kind, text.to_owned())),
                    ("--pre", _, None) => takes_prereleases = true,
                    ("--require-hashes", _, None) => requires_digests = true,
                    (name, _, None) if HARMLESS_OPTIONS.contains(&name) => {}
                    // Whoever looks for the indexes reads them himself.
                    _ if places.take(&option) => {}
                    (name, ..) => return Err(not_followed(file, *line, name)),
                }
            }
        }
        let all = [&read.own.wanted, &read.included, &read.constraints];
        let has_digest = |wanted: &&Wanted| !wanted.hashes.is_empty();
        let pinned = all.into_iter().flatten().filter(has_digest).cloned().collect();
        let plain = |wanted: Vec<Wanted>| wanted.into_iter().map(|one| one.requirement).collect();
        Ok(Self {
            path: REQUIREMENTS,
            text,
            wanted: plain(read.own.wanted),
            beside: plain(read.included),
            constraints: plain(read.constraints),
            takes_prereleases,
            own_formats,
            formats: Formats::default(),
            pinned,
            requires_digests,
            requires_python: None,
            indexes: Vec::new(),
            elsewhere: BTreeSet::new(),
            files: read.files,
            names: names.into_inner(),
        })
    }

    /// Of which package a directory is that the manifest names.
    fn name_of(&self, address: &str) -> std::result::Result<String, String> {
        self.names.get(address).cloned().map_or_else(|| address::unknown(address), Ok)
    }

    /// Puts together which kinds of files count: what pip is configured with, then what the caller says, then what stands here.
    pub(super) fn settle_formats(
        &mut self,
        configured: &[(Choice, String)],
        said: &[(Choice, String)],
    ) -> Result<()> {
        for (choice, text) in configured.iter().chain(said).chain(&self.own_formats) {
            self.formats.take(*choice, text).map_err(|why| {
                Error::new(Kind::Usage, "bad-option", format!("`{choice}`: {why}"))
                    .hint("write names, `:all:` or `:none:`, in the manifest and in pip's settings")
            })?;
        }
        Ok(())
    }

    /// Refuses a wheel of a package that counts as source only, where a lock has one.
    pub(super) fn check_formats(&self, resolution: &Resolution) -> Result<()> {
        let is_unwanted = |package: &&Package| {
            let is_wheel = !package.is_source() && package.artifact.built.is_none();
            let name = PackageName::from_str(&package.name);
            let is_out = name.is_ok_and(|name| !self.formats.has_wheels(&name));
            is_out && is_wheel && !package.artifact.by_address
        };
        let Some(package) = resolution.packages.iter().find(is_unwanted) else { return Ok(()) };
        let (purl, name) = (package.purl(), &package.name);
        let message = format!("`{purl}` is locked as a wheel, and `--no-binary` is set for it");
        Err(Error::new(Kind::Refused, "wheel-not-wanted", message).hint(format!(
            "`bolide update pypi:{name} --build {name}` builds it; or change pip's settings"
        )))
    }

    /// Refuses an interpreter that the project does not want to be run by.
    pub(super) fn check_python(&self, target: &PythonTarget) -> Result<()> {
        let Some(text) = &self.requires_python else { return Ok(()) };
        let Some(wanted) = crate::io::pypi::core_metadata::specifiers(text) else {
            let message = format!("`{}`: `requires-python` cannot be read", self.path);
            return Err(Error::new(Kind::Failed, "manifest-invalid", message));
        };
        if pypi::admits_python(&wanted, &target.python) {
            return Ok(());
        }
        let message = format!(
            "`{}` wants Python {}, and this is {}",
            self.path,
            shorten(text),
            target.python
        );
        Err(Error::new(Kind::Failed, "other-python-wanted", message)
            .hint("choose an interpreter that fits with `--python`"))
    }

    /// Adds the digests of lines that the caller gave.
    pub(super) fn pin<'w>(&mut self, wanted: impl Iterator<Item = &'w Wanted>) {
        self.pinned.extend(wanted.filter(|one| !one.hashes.is_empty()).cloned());
    }

    /// What the manifest says beside its requirements.
    pub(super) fn policy(&self, target: &PythonTarget) -> Policy {
        Policy {
            constraints: self.constraints.clone(),
            formats: self.formats.clone(),
            prerelease: self.takes_prereleases.then_some(Prerelease::Allow),
            digests: self.digests(target),
            ..Policy::default()
        }
    }

    /// The SHA-256 digests that the file allows, by package.
    fn digests(&self, target: &PythonTarget) -> BTreeMap<PackageName, BTreeSet<String>> {
        let mut digests: BTreeMap<PackageName, BTreeSet<String>> = BTreeMap::new();
        let applies = |line: &&Wanted| line.requirement.evaluate_markers(&target.markers, &[]);
        for line in self.pinned.iter().filter(applies) {
            let known = line.hashes.iter().filter_map(|one| one.strip_prefix("sha256:"));
            let held = digests.entry(line.requirement.name.clone()).or_default();
            held.extend(known.map(str::to_ascii_lowercase));
        }
        digests
    }

    /// The digest that the lines of a package allow, where it is one.
    pub(super) fn only_digest(&self, name: &PackageName, target: &PythonTarget) -> Option<Hashes> {
        let mut allowed = self.digests(target).remove(name)?.into_iter();
        let sha256 = allowed.next().filter(|_| allowed.next().is_none());
        let is_digest = |it: &String| it.len() == 64 && it.bytes().all(|b| b.is_ascii_hexdigit());
        sha256.filter(is_digest).map(|it| Hashes { sha256: Some(it), sha512: None })
    }

    pub(super) fn check_digests(
        &self,
        resolution: &Resolution,
        target: &PythonTarget,
    ) -> Result<()> {
        for package in &resolution.packages {
            let lines = self.pinned.iter().filter(|line| {
                line.requirement.name.as_ref() == package.name
                    && line.requirement.evaluate_markers(&target.markers, &[])
            });
            let allowed: Vec<&str> =
                lines.flat_map(|line| line.hashes.iter().map(String::as_str)).collect();
            if allowed.is_empty() && self.requires_digests {
                let message = format!(
                    "`{}` has `--require-hashes` and no hash of `{}`, which is needed",
                    self.path, package.name
                );
                return Err(Error::new(Kind::Verification, "no-hash", message)
                    .hint("make the file again with the tool that it is made by"));
            }
            if allowed.is_empty() {
                continue;
            }
            let known: Vec<&str> =
                allowed.iter().filter_map(|one| one.strip_prefix("sha256:")).collect();
            if known.is_empty() {
                let message = format!(
                    "`{}` has only hashes of `{}` that the index does not give",
                    self.path, package.name
                );
                return Err(Error::new(Kind::Failed, "unsupported-hash", message)
                    .hint("add its SHA-256 to the file"));
            }
            let digest = package.artifact.hashes.sha256.as_deref().unwrap_or_default();
            if !known.contains(&digest) {
                let message = format!(
                    "the hash of `{}` is not one of those that `{}` allows for `{}`",
                    package.artifact.file_name, self.path, package.name
                );
                return Err(Error::new(Kind::Verification, "hash-mismatch", message)
                    .hint("find out which of the two is right; nothing was changed"));
            }
        }
        Ok(())
    }

    /// What another text of the same file asks for, with what is wanted beside it.
    pub(super) fn wanted_in(&self, text: &str) -> Result<Vec<Requirement>> {
        let mut wanted: Vec<Requirement> = match self.path {
            PYPROJECT => pyproject::read(PYPROJECT, text)?.unwrap_or_default().dependencies,
            path => {
                // What included files say was read before and does not change with this one.
                let nothing = &mut |_: &str| Ok(Some(String::new()));
                let name = |address: &str| self.name_of(address);
                let read = requirements::read_all(path, text, &name, nothing)?.own.wanted;
                read.into_iter().map(|wanted| wanted.requirement).collect()
            }
        };
        wanted.extend(self.beside.iter().cloned());
        Ok(wanted)
    }

    /// What the lock has to be made from: these requirements, and what the manifest says beside them.
    pub(super) fn wants(&self, requirements: &[Requirement]) -> Vec<String> {
        let mut wants = lock::of_pypi(requirements, &self.constraints, self.takes_prereleases);
        // What keeps source out never changes what is chosen without a person's leave to build.
        let no_binary = self.own_formats.iter().filter(|(choice, _)| *choice == Choice::NoBinary);
        wants.extend(no_binary.map(|(choice, text)| format!("{choice} {text}")));
        wants.extend(self.indexes.iter().map(|(name, index)| format!("index {name} {index}")));
        wants.sort();
        wants
    }

    pub(super) fn edited(&self, add: &[String], remove: &[&str]) -> Result<String> {
        let add: Vec<&str> = add.iter().map(String::as_str).collect();
        let mut text = self.text.clone();
        let name = |address: &str| self.name_of(address);
        if let (Some(present), false) = (&text, remove.is_empty()) {
            text = Some(match self.path {
                PYPROJECT => pyproject::remove(self.path, present, remove)?,
                _ => requirements::remove(self.path, present, remove, &name)?,
            });
        }
        match (text, self.path) {
            (Some(text), _) if add.is_empty() => Ok(text),
            (Some(text), PYPROJECT) => pyproject::add(self.path, &text, &add),
            (text, _) => requirements::add(self.path, text.as_deref(), &add, &name),
        }
    }
}

/// Of which package a directory says that it is, without anything of it being run; the error comes after the line that names it.
fn name_of_tree(project: &Project, address: &str) -> std::result::Result<String, String> {
    let place = Url::parse(address).map_err(|_| "names no directory")?;
    let path = match address::path_of(&place) {
        Some(path) => whole_path(project, &path),
        None => place.to_file_path().map_err(|()| "names no directory")?,
    };
    let unusable = |error: Error| format!("cannot be used: {error}");
    let said = Said::of(&path, address).map_err(unusable)?;
    let name = match said.name {
        None => name_in_setup_py(&path).map_err(unusable)?,
        name => name,
    };
    match (name, path.is_dir()) {
        (Some(name), true) => Ok(name),
        (None, true) => {
            Err("does not say which package it is of; add `#egg=NAME` to its path".to_owned())
        }
        (_, false) => Err("names no directory, and no file of a known kind".to_owned()),
    }
}

fn not_followed(file: &str, line: usize, option: &str) -> Error {
    let message = format!("`{file}` line {line}: `{}` is not followed", shorten(option));
    Error::new(Kind::Failed, "manifest-option", message).hint(
        "take it out of the file; what pip is configured with, and `--registry pypi=URL`, hold as well",
    )
}
