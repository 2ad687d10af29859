//! What source says of itself without anything of it being run: `PKG-INFO` where its format promises that a build does not change it
//! (PEP 643), else `[project]` of its `pyproject.toml` as far as nothing in it is `dynamic` (PEP 621). All of it was written by strangers.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr as _;

use pep440_rs::Version;
use pep508_rs::{ExtraName, PackageName};
use serde::{Deserialize, Serialize};

use super::project::{bad, text_of};
use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::io::limits::CORE_METADATA_BYTES_MAX;
use crate::io::pypi::core_metadata::{self, headers};
use crate::io::pypi::source::is_static;
use crate::limits::BUILD_PROJECT_BYTES_MAX;
use crate::metadata::pypi::CoreMetadata;
use agents_versions::shorten;

/// What was found; the texts are of strangers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The name.
    pub(crate) name: Option<String>,
    /// The version, which a build has to confirm.
    pub(crate) version: Option<String>,
    /// What it needs, in the form of core metadata, where that may be believed.
    headers: Option<String>,
}

#[derive(Deserialize)]
struct File {
    project: Option<Project>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Project {
    name: Option<String>,
    version: Option<String>,
    requires_python: Option<String>,
    #[serde(default)]
    dynamic: Vec<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    optional_dependencies: std::collections::BTreeMap<String, Vec<String>>,
}

impl Said {
    /// Reads it from a directory; `shown` is what people call that.
    pub(crate) fn of(source: &Path, shown: &str) -> Result<Self> {
        let info = info(source, shown)?;
        let project = match text_of(source, shown)? {
            Some(text) => {
                toml::from_str::<File>(&text)
                    .map_err(|error| bad(shown, &shorten(error.message())))?
                    .project
            }
            None => None,
        };
        let project = project.map(Project::said).transpose();
        let mut project = project.map_err(|why| bad(shown, &why))?.unwrap_or_default();
        if project.name.is_none() {
            project.name = name_in_setup_cfg(source)?;
        }
        Ok(match info {
            Some(info) if info.headers.is_some() || project.headers.is_none() => Self {
                name: info.name.or(project.name),
                version: info.version.or(project.version),
                headers: info.headers,
            },
            _ => project,
        })
    }

    /// Its version, where it says one.
    pub(crate) fn version(&self) -> Option<Version> {
        Version::from_str(self.version.as_ref()?).ok()
    }

    /// What it needs, where that may be believed without a build; `file` is what people call it.
    pub(crate) fn core(&self, name: &PackageName, file: &str) -> Result<Option<CoreMetadata>> {
        let (Some(headers), Some(version)) = (&self.headers, self.version()) else {
            return Ok(None);
        };
        let parsed = core_metadata::parse(headers.as_bytes(), name, &version);
        parsed.map(Some).map_err(|why| not_usable(file, &why))
    }

    /// Refuses what is another package's.
    pub(crate) fn check_name(&self, name: &PackageName, file: &str) -> Result<()> {
        match &self.name {
            Some(said) if !PackageName::from_str(said).is_ok_and(|said| said == *name) => {
                Err(not_usable(file, &format!("it is about `{}`", shorten(said))))
            }
            _ => Ok(()),
        }
    }
}

/// The refusal of what a source says.
pub(crate) fn not_usable(file: &str, why: &str) -> Error {
    let message = format!("the metadata of `{file}` cannot be used: {why}");
    Error::new(Kind::Verification, "bad-metadata", message)
        .hint("correct the requirement that names it, or what it names")
}

/// What `PKG-INFO` says, where there is one.
fn info(source: &Path, shown: &str) -> Result<Option<Said>> {
    let path = source.join("PKG-INFO");
    let Some(file) = foreign::open(&path)? else { return Ok(None) };
    let (mut bytes, limit) = (Vec::new(), CORE_METADATA_BYTES_MAX as u64);
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io("read", &path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(not_usable(shown, "its PKG-INFO is too large"));
    }
    let headers = headers(&bytes);
    let (name, version) = core_metadata::said(headers);
    let text = is_static(headers).then(|| String::from_utf8_lossy(headers).into_owned());
    Ok(Some(Said { name, version, headers: text }))
}

/// The beginning of a file, where there is one.
fn beginning(path: &Path) -> Result<Option<String>> {
    let Some(file) = foreign::open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = file.take(BUILD_PROJECT_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| Error::io("read", path, &error))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The name that `setup.py` seems to give, where it stands there as it is. A guess: what is built has to confirm it.
pub(crate) fn name_in_setup_py(source: &Path) -> Result<Option<String>> {
    let Some(text) = beginning(&source.join("setup.py"))? else { return Ok(None) };
    let call = text.find("setup(").map(|at| &text[at + "setup(".len()..]);
    let value = call.and_then(|call| {
        let (before, rest) = call.split_once("name=").or_else(|| call.split_once("name ="))?;
        let is_whole = before.is_empty() || before.ends_with([' ', ',', '\t', '\n']);
        let rest = rest.trim_start();
        let quote = rest.chars().next().filter(|it| is_whole && matches!(it, '"' | '\''))?;
        rest[1..].split(quote).next()
    });
    Ok(value.filter(|name| PackageName::from_str(name).is_ok()).map(str::to_owned))
}

/// The name that setuptools is told in `setup.cfg`.
fn name_in_setup_cfg(source: &Path) -> Result<Option<String>> {
    let Some(text) = beginning(&source.join("setup.cfg"))? else { return Ok(None) };
    let mut lines = text.lines().skip_while(|line| line.trim() != "[metadata]").skip(1);
    let own = lines.by_ref().take_while(|line| !line.starts_with('['));
    let mut pairs = own.filter_map(|line| line.split_once('='));
    let name = pairs.find(|(key, _)| key.trim() == "name").map(|(_, value)| value.trim());
    Ok(name.filter(|name| PackageName::from_str(name).is_ok()).map(str::to_owned))
}

impl Project {
    /// The same as core metadata has it; the error says why it is none.
    fn said(self) -> Result<Said, String> {
        let is_dynamic = |field: &str| self.dynamic.iter().any(|one| one == field);
        let version = self.version.clone().filter(|_| !is_dynamic("version"));
        let deciding = ["dependencies", "optional-dependencies", "requires-python"];
        let headers = match (&self.name, &version) {
            (Some(name), Some(version)) if !deciding.into_iter().any(is_dynamic) => {
                Some(self.headers(name, version)?)
            }
            _ => None,
        };
        Ok(Said { name: self.name, version, headers })
    }

    fn headers(&self, name: &str, version: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut line = |field: &str, value: &str| match value.contains(['\n', '\r']) {
            true => Err(format!("its `{field}` has several lines")),
            // Writing to a string cannot fail.
            false => {
                let _ = writeln!(text, "{field}: {value}");
                Ok(())
            }
        };
        line("Name", name)?;
        line("Version", version)?;
        if let Some(python) = &self.requires_python {
            line("Requires-Python", python)?;
        }
        for dependency in &self.dependencies {
            line("Requires-Dist", &core_metadata::requirement(dependency)?.to_string())?;
        }
        for (extra, dependencies) in &self.optional_dependencies {
            let unfit = |_| format!("`{}` is no name of an extra", shorten(extra));
            let name = ExtraName::from_str(extra).map_err(unfit)?;
            line("Provides-Extra", extra)?;
            for dependency in dependencies {
                let wanted = core_metadata::requirement(dependency)?.with_extra_marker(&name);
                line("Requires-Dist", &wanted.to_string())?;
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version and needs, where they are believed.
    fn said(files: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let place = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            std::fs::write(place.path().join(name), text).expect("written");
        }
        let said = Said::of(place.path(), "a").expect("read");
        let name = PackageName::from_str("a").expect("a name");
        said.check_name(&name, "a").expect("its name");
        let core = said.core(&name, "a").expect("usable");
        let needs = core.map(|core| {
            let needs: Vec<_> = core.requires_dist.iter().map(ToString::to_string).collect();
            needs.join("|")
        });
        (said.version, needs)
    }

    const PROJECT: &str = "[project]\nname = 'A'\nversion = '2'\ndependencies = ['b>=1']\n";

    #[test]
    fn what_may_be_believed_is_taken_without_a_build() {
        let text = |text: &str| Some(text.to_owned());
        let info = "Metadata-Version: 2.2\nName: a\nVersion: 1\nRequires-Dist: c\n";
        assert_eq!(said(&[("PKG-INFO", info)]), (text("1"), text("c")));
        assert_eq!(
            said(&[("PKG-INFO", info), ("pyproject.toml", PROJECT)]),
            (text("1"), text("c"))
        );
        let old = info.replace("2.2", "2.1");
        assert_eq!(said(&[("PKG-INFO", &old)]), (text("1"), None));
        assert_eq!(
            said(&[("PKG-INFO", &old), ("pyproject.toml", PROJECT)]),
            (text("2"), text("b>=1"))
        );
        let extras =
            format!("{PROJECT}optional-dependencies = {{ x = [\"d ; os_name == 'nt'\"] }}\n");
        let (_, needs) = said(&[("pyproject.toml", &extras)]);
        assert_eq!(needs, text("b>=1|d ; os_name == 'nt' and extra == 'x'"));
        for more in ["version", "dependencies", "requires-python", "optional-dependencies"] {
            let dynamic = format!("{PROJECT}dynamic = ['{more}']\n");
            let (version, needs) = said(&[("pyproject.toml", &dynamic)]);
            assert_eq!((version.is_some(), needs), (more != "version", None), "{more}");
        }
        assert_eq!(said(&[("setup.py", "")]), (None, None));
        let place = tempfile::tempdir().expect("a directory");
        let cfg = "[options]\nname = x\n[metadata]\nversion = 1\nname = a-b\n[x]\nname = y\n";
        std::fs::write(place.path().join("setup.cfg"), cfg).expect("written");
        let said = Said::of(place.path(), "a").expect("read");
        assert_eq!((said.name.as_deref(), said.version), (Some("a-b"), None));
        for (text, name) in [
            ("from setuptools import setup\nsetup(name='a-b', version='1')", Some("a-b")),
            ("setup(\n    version=V,\n    name = \"a\",\n)", Some("a")),
            ("setup(name=NAME)", None),
            ("setup(rename='a')", None),
            ("setup(name='!')", None),
            ("name='a'", None),
        ] {
            std::fs::write(place.path().join("setup.py"), text).expect("written");
            assert_eq!(name_in_setup_py(place.path()).expect("read").as_deref(), name, "{text}");
        }
    }

    #[test]
    fn what_is_another_ones_or_none_is_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let write = |text: &str| {
            std::fs::write(place.path().join("pyproject.toml"), text).expect("written");
            Said::of(place.path(), "a")
        };
        let name = PackageName::from_str("b").expect("a name");
        let other = write(PROJECT).expect("read").check_name(&name, "a").expect_err("another");
        assert_eq!((other.code.as_str(), other.kind), ("bad-metadata", Kind::Verification));
        for text in [
            "[project]\nname = 1\n",
            "[project",
            "[project]\nname = 'a'\nversion = '1'\ndependencies = ['!']\n",
            "[project]\nname = 'a'\nversion = \"1\\nRequires-Dist: x\"\n",
        ] {
            assert_eq!(write(text).expect_err(text).code, "build-system");
        }
    }
}
