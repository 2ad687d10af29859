//! The options of a resolution: what a caller wants of the choice of versions beside the packages themselves.
//!
//! [`Options`] is what travels, as people write it and with the contents of the files they name, because the
//! Packager may not see the caller's files. [`Options::check`] makes [`Choices`] of it: typed, bounded, or an error that
//! names the flag. An ecosystem says which choices its resolver honours ([`Choices::check_honoured`]) and refuses the others by
//! name; none is ignored.

mod formats;
mod moment;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use pep440_rs::Version;
use pep508_rs::PackageName;
use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::{
    OPTION_FILE_BYTES_MAX, OPTION_FILES_MAX, OPTION_NAMES_MAX, PYTHON_PLATFORM_BYTES_MAX,
};
use crate::manifest::requirements::{self, Wanted};
use crate::spec::Spec;
use agents_versions::shorten;

pub use formats::Formats;
pub use moment::Moment;

/// What a caller says, as it says it. Empty means what the ecosystem's own client does by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `--python-version`: resolve for this Python instead of the project's.
    pub python_version: Option<String>,
    /// `--python-platform`: resolve for this platform, as uv names them, instead of this machine's.
    pub python_platform: Option<String>,
    /// `--prerelease`.
    pub prerelease: Option<Prerelease>,
    /// `--resolution`.
    pub resolution: Option<Mode>,
    /// `--only-binary`: names, `:all:` or `:none:`.
    pub only_binary: Vec<String>,
    /// `--no-binary`: names, `:all:` or `:none:`.
    pub no_binary: Vec<String>,
    /// `--build`: Python packages that may be built from source, in a sandbox, where no wheel fits.
    pub build: Vec<String>,
    /// `--universal`: resolve for every platform at once.
    pub universal: bool,
    /// `--exclude-newer`: a day (the whole of it still counts, in UTC) or a moment as RFC 3339 writes it.
    pub exclude_newer: Option<String>,
    /// The least age of a version in seconds, from the configuration or `--minimum-age`.
    pub minimum_age_s: Option<u64>,
    /// `--allow-new`: packages to which the two above do not apply.
    pub allow_new: Vec<String>,
    /// `--constraint`: requirements that hold for packages that are needed anyway.
    pub constraints: Vec<OptionFile>,
    /// `--override`: requirements that replace those of any package.
    pub overrides: Vec<OptionFile>,
    /// `--frozen`: only what the lock says; it is an error where the manifests say otherwise.
    pub frozen: bool,
}

/// A file that the caller named, read by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionFile {
    /// As it was named; for messages only.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Which versions count that their authors call unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prerelease {
    /// All of them.
    Allow,
    /// None.
    Disallow,
    /// Where a package has no others.
    IfNecessary,
}

/// Which of the versions that fit is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The newest.
    #[default]
    Highest,
    /// The oldest.
    Lowest,
    /// The oldest of what the project itself asks for, the newest of everything else.
    LowestDirect,
}

impl FromStr for Prerelease {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "allow" => Ok(Self::Allow),
            "disallow" => Ok(Self::Disallow),
            "if-necessary" => Ok(Self::IfNecessary),
            _ => Err("write `allow`, `disallow` or `if-necessary`".to_owned()),
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "highest" => Ok(Self::Highest),
            "lowest" => Ok(Self::Lowest),
            "lowest-direct" => Ok(Self::LowestDirect),
            _ => Err("write `highest`, `lowest` or `lowest-direct`".to_owned()),
        }
    }
}

/// One option by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Choice {
    /// [`Choices::python_version`].
    PythonVersion,
    /// [`Choices::python_platform`].
    PythonPlatform,
    /// [`Choices::prerelease`].
    Prerelease,
    /// [`Choices::mode`], where it is not the usual one.
    Resolution,
    /// [`Choices::only_binary`].
    OnlyBinary,
    /// [`Choices::no_binary`].
    NoBinary,
    /// [`Choices::build`].
    Build,
    /// [`Choices::universal`].
    Universal,
    /// [`Choices::exclude_newer`] and [`Choices::minimum_age_s`].
    ExcludeNewer,
    /// [`Choices::constraints`].
    Constraint,
    /// [`Choices::overrides`].
    Override,
}

impl Choice {
    /// The flag of the command line.
    pub fn flag(self) -> &'static str {
        match self {
            Choice::PythonVersion => "--python-version",
            Choice::PythonPlatform => "--python-platform",
            Choice::Prerelease => "--prerelease",
            Choice::Resolution => "--resolution",
            Choice::OnlyBinary => "--only-binary",
            Choice::NoBinary => "--no-binary",
            Choice::Build => "--build",
            Choice::Universal => "--universal",
            Choice::ExcludeNewer => "--exclude-newer",
            Choice::Constraint => "--constraint",
            Choice::Override => "--override",
        }
    }

    /// Whether the option means anything for an ecosystem: what is about Python does not concern the others.
    pub fn is_for(self, ecosystem: Ecosystem) -> bool {
        match self {
            Choice::Prerelease | Choice::Resolution | Choice::ExcludeNewer => true,
            _ => ecosystem == Ecosystem::Pypi,
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.flag())
    }
}

/// Python packages that an option names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `:all:` was written.
    pub all: bool,
    /// Those that were named.
    pub names: BTreeSet<PackageName>,
}

impl Names {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty()
    }

    /// Whether a package is named. What is named by itself counts, and what `:all:` means.
    pub fn has(&self, name: &PackageName) -> bool {
        self.all || self.names.contains(name)
    }
}

/// Options that were checked.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// The Python to resolve for, `3.12` or `3.12.4`.
    pub python_version: Option<Version>,
    /// The platform to resolve for, as uv names them (`linux`, `x86_64-manylinux_2_28`, `macos`, `windows`). Only its
    /// alphabet was checked.
    pub python_platform: Option<String>,
    /// Which pre-releases count; `None` is the ecosystem's own rule.
    pub prerelease: Option<Prerelease>,
    /// Which of the versions that fit is wanted.
    pub mode: Mode,
    /// No source archive of these.
    pub only_binary: Names,
    /// No wheel of these.
    pub no_binary: Names,
    /// The two above as they were written, in the order in which they hold.
    pub formats: Vec<(Choice, String)>,
    /// May be built from source where no wheel fits, or counts.
    pub build: Names,
    /// For every platform at once.
    pub universal: bool,
    /// Nothing that was published at this moment or later.
    pub exclude_newer: Option<Moment>,
    /// Nothing younger than this many seconds.
    pub minimum_age_s: Option<u64>,
    /// The packages to which the two above do not apply.
    pub allow_new: BTreeSet<(Ecosystem, String)>,
    /// Requirements for what is needed anyway.
    pub constraints: Vec<Wanted>,
    /// Requirements that replace those of any package.
    pub overrides: Vec<Wanted>,
    /// Only what the lock says.
    pub frozen: bool,
}

impl Options {
    /// The same, typed. Every error names the flag.
    ///
    /// # Errors
    /// `bad-option` for what cannot be meant.
    pub fn check(&self) -> Result<Choices> {
        let mut allow_new = BTreeSet::new();
        for text in bounded(&self.allow_new, "--allow-new")? {
            let spec = Spec::parse(text)?;
            if !spec.requirement.is_empty() || !spec.extras.is_empty() {
                let problem = format!("`{}` names more than a package", shorten(text));
                return Err(bad("--allow-new", &problem, "write it as `npm:express`"));
            }
            allow_new.insert((spec.ecosystem, spec.name));
        }
        let only_binary = names(&self.only_binary, Choice::OnlyBinary)?;
        let no_binary = names(&self.no_binary, Choice::NoBinary)?;
        let formats = self.formats(&no_binary, &only_binary)?;
        let build = self.build(&no_binary, &only_binary)?;
        Ok(Choices {
            python_version: self.python_version.as_deref().map(python_version).transpose()?,
            python_platform: self.python_platform.as_deref().map(python_platform).transpose()?,
            prerelease: self.prerelease,
            mode: self.resolution.unwrap_or_default(),
            only_binary,
            no_binary,
            formats,
            build,
            universal: self.universal,
            exclude_newer: self.exclude_newer.as_deref().map(exclude_newer).transpose()?,
            minimum_age_s: self.minimum_age_s.filter(|seconds| *seconds > 0),
            allow_new,
            constraints: files(&self.constraints, Choice::Constraint)?,
            overrides: files(&self.overrides, Choice::Override)?,
            frozen: self.frozen,
        })
    }
}

impl Options {
    /// What is said of kinds of files: what is about all packages before what names some, since nobody knows in which order they stood.
    fn formats(&self, no_binary: &Names, only_binary: &Names) -> Result<Vec<(Choice, String)>> {
        let (no, only) = (Choice::NoBinary, Choice::OnlyBinary);
        let twice = no_binary.names.intersection(&only_binary.names).next();
        if twice.is_some() || (no_binary.all && only_binary.all) {
            let name = twice.map_or_else(|| ":all:".to_owned(), ToString::to_string);
            let problem = format!("`{name}` stands behind `{only}`, too");
            return Err(bad(no.flag(), &problem, "leave one of the two out"));
        }
        let texts = |choice: Choice, texts: &[String]| {
            texts.iter().map(|text| (choice, text.clone())).collect::<Vec<_>>()
        };
        let both = [texts(no, &self.no_binary), texts(only, &self.only_binary)];
        let [no, only] = both;
        Ok(if only_binary.all { [only, no].concat() } else { [no, only].concat() })
    }

    /// The packages that may be built, each named by itself: whoever lets code run says whose. Who wants no wheel of a package by its name
    /// says so, too.
    fn build(&self, no_binary: &Names, only_binary: &Names) -> Result<Names> {
        let mut build = names(&self.build, Choice::Build)?;
        let flag = Choice::Build.flag();
        if build.all {
            let hint = "name each package whose code may be run for that";
            return Err(bad(flag, "everything is never built", hint));
        }
        if self.python_version.is_none() && self.python_platform.is_none() {
            build.names.extend(no_binary.names.iter().cloned());
        }
        let is_kept =
            |name: &&PackageName| only_binary.has(name) && !no_binary.names.contains(name);
        if let Some(name) = build.names.iter().find(is_kept) {
            let problem = format!("`{name}` is kept from being built by `{}`", Choice::OnlyBinary);
            return Err(bad(flag, &problem, "leave one of the two out"));
        }
        let elsewhere = match (&self.python_version, &self.python_platform) {
            (None, None) => return Ok(build),
            (Some(_), _) => Choice::PythonVersion,
            (None, Some(_)) => Choice::PythonPlatform,
        };
        match build.is_empty() {
            true => Ok(build),
            false => {
                let problem = format!("`{elsewhere}` is about another place than it is built at");
                Err(bad(flag, &problem, "leave one of the two out"))
            }
        }
    }

    /// Refuses to install with options that are about another machine or interpreter than this.
    ///
    /// # Errors
    /// `not-for-here`, with the flag.
    pub fn check_here(&self) -> Result<()> {
        let choice = match (&self.python_version, &self.python_platform) {
            (None, None) => return Ok(()),
            (Some(_), _) => Choice::PythonVersion,
            (None, Some(_)) => Choice::PythonPlatform,
        };
        let message = format!("`{choice}` is about another place, so nothing is installed here");
        Err(Error::new(Kind::Usage, "not-for-here", message)
            .hint(format!("leave `{choice}` out, or look at what `bolide plan` says with it")))
    }
}

impl Choices {
    /// The options that were chosen and change something, `--frozen` apart, which is not the resolvers' matter.
    pub fn given(&self) -> Vec<Choice> {
        let all = [
            (Choice::PythonVersion, self.python_version.is_some()),
            (Choice::PythonPlatform, self.python_platform.is_some()),
            (Choice::Prerelease, self.prerelease.is_some()),
            (Choice::Resolution, self.mode != Mode::Highest),
            (Choice::OnlyBinary, !self.only_binary.is_empty()),
            (Choice::NoBinary, !self.no_binary.is_empty()),
            (Choice::Build, !self.build.is_empty()),
            (Choice::Universal, self.universal),
            (Choice::ExcludeNewer, self.exclude_newer.is_some() || self.minimum_age_s.is_some()),
            (Choice::Constraint, !self.constraints.is_empty()),
            (Choice::Override, !self.overrides.is_empty()),
        ];
        all.into_iter().filter(|(_, is_given)| *is_given).map(|(choice, _)| choice).collect()
    }

    /// Refuses what was chosen, concerns this ecosystem and is not among what its resolver honours.
    ///
    /// # Errors
    /// `option-not-honoured`, with the flag and the ecosystem.
    pub fn check_honoured(&self, ecosystem: Ecosystem, honoured: &[Choice]) -> Result<()> {
        let left = self
            .given()
            .into_iter()
            .find(|choice| choice.is_for(ecosystem) && !honoured.contains(choice));
        let Some(choice) = left else { return Ok(()) };
        let message = format!("`{choice}` is not honoured for packages of {ecosystem} yet");
        Err(Error::new(Kind::Usage, "option-not-honoured", message).hint(format!(
            "leave `{choice}` out, or ask for packages of {ecosystem} by themselves"
        )))
    }

    /// Refuses what was chosen and concerns none of these ecosystems.
    ///
    /// # Errors
    /// `option-out-of-place`, with the flag.
    pub fn check_in_place(&self, concerned: &BTreeSet<Ecosystem>) -> Result<()> {
        let is_idle = |choice: &Choice| !concerned.iter().any(|one| choice.is_for(*one));
        let Some(choice) = self.given().into_iter().find(is_idle) else { return Ok(()) };
        let message = format!("`{choice}` is about Python packages, and none is concerned");
        Err(Error::new(Kind::Usage, "option-out-of-place", message)
            .hint(format!("leave `{choice}` out")))
    }
}

fn bad(flag: &str, problem: &str, hint: &str) -> Error {
    Error::new(Kind::Usage, "bad-option", format!("`{flag}`: {problem}")).hint(hint)
}

/// Refuses a list that is longer than anybody writes.
fn bounded<'t>(texts: &'t [String], flag: &str) -> Result<&'t [String]> {
    match texts.len() > OPTION_NAMES_MAX {
        true => {
            let problem = format!("{} names; the limit is {OPTION_NAMES_MAX}", texts.len());
            Err(bad(flag, &problem, "name fewer"))
        }
        false => Ok(texts),
    }
}

fn python_version(text: &str) -> Result<Version> {
    let refused = || {
        let problem = format!("`{}` is not a version of Python", shorten(text));
        bad(Choice::PythonVersion.flag(), &problem, "write it as `3.12` or `3.12.4`")
    };
    let version: Version = text.parse().map_err(|_| refused())?;
    let is_plain = version.epoch() == 0 && !version.is_local() && !version.is_post();
    match is_plain && !version.any_prerelease() && matches!(version.release().len(), 2 | 3) {
        true => Ok(version),
        false => Err(refused()),
    }
}

fn python_platform(text: &str) -> Result<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if text.is_empty() || text.len() > PYTHON_PLATFORM_BYTES_MAX || !text.bytes().all(known) {
        let problem = format!("`{}` is not a platform", shorten(text));
        let hint = "write it as `linux`, `macos`, `windows` or `x86_64-manylinux_2_28`";
        return Err(bad(Choice::PythonPlatform.flag(), &problem, hint));
    }
    Ok(text.to_owned())
}

/// Names as pip reads them: each text may be a list with commas, `:all:` and `:none:` change what was said before.
fn names(texts: &[String], choice: Choice) -> Result<Names> {
    let mut names = Names::default();
    for text in bounded(texts, choice.flag())? {
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                ":all:" => names = Names { all: true, names: BTreeSet::new() },
                ":none:" => names = Names::default(),
                _ => {
                    let name = PackageName::from_str(name).map_err(|_| {
                        let problem = format!("`{}` is not a Python package", shorten(name));
                        bad(choice.flag(), &problem, "write a name, `:all:` or `:none:`")
                    })?;
                    names.names.insert(name);
                }
            }
        }
        if names.names.len() > OPTION_NAMES_MAX {
            return Err(bad(choice.flag(), "too many names", "name fewer, or write `:all:`"));
        }
    }
    Ok(names)
}

fn exclude_newer(text: &str) -> Result<Moment> {
    Moment::end_of(text).ok_or_else(|| {
        let problem = format!("`{}` is not a date", shorten(text));
        let hint = "write it as `2026-01-31` or `2026-01-31T12:00:00Z`";
        bad(Choice::ExcludeNewer.flag(), &problem, hint)
    })
}

fn files(files: &[OptionFile], choice: Choice) -> Result<Vec<Wanted>> {
    if files.len() > OPTION_FILES_MAX {
        let problem = format!("{} files; the limit is {OPTION_FILES_MAX}", files.len());
        return Err(bad(choice.flag(), &problem, "put them into one"));
    }
    let mut all = Vec::new();
    for file in files {
        let name = shorten(&file.name).to_string();
        if file.text.len() > OPTION_FILE_BYTES_MAX {
            let problem = format!("`{name}` has more than {OPTION_FILE_BYTES_MAX} bytes");
            return Err(bad(choice.flag(), &problem, "leave out what is not needed"));
        }
        let read = requirements::read(&name, &file.text)?;
        if let Some((line, option)) = read.options.first() {
            let option = option.split(['=', ' ']).next().unwrap_or_default();
            let problem = format!("`{name}` line {line}: `{option}` is not followed here");
            return Err(bad(choice.flag(), &problem, "the file holds requirements only"));
        }
        all.extend(read.wanted);
    }
    Ok(all)
}
