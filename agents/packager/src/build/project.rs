//! How a source archive says that it is built: `[build-system]` of its `pyproject.toml` (PEP 517, 518). All of it was written by
//! strangers.

use std::io::Read as _;
use std::path::Path;

use pep508_rs::{Requirement, VersionOrUrl};
use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::foreign;
use crate::io::pypi::core_metadata;
use crate::limits::{BUILD_PROJECT_BYTES_MAX, BUILD_REQUIREMENTS_MAX};
use agents_versions::shorten;

/// Who builds where nobody says, as pip has it.
const LEGACY_BACKEND: &str = "setuptools.build_meta:__legacy__";
/// What is needed for that.
const LEGACY_REQUIRES: &str = "setuptools>=40.8.0";

/// How it is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct System {
    /// What has to be there.
    pub(crate) requires: Vec<Requirement>,
    /// `module:object`.
    pub(crate) backend: String,
    /// Where the backend lies within the source, if it does.
    pub(crate) backend_path: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "build-system")]
    system: Option<Table>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Table {
    requires: Vec<String>,
    build_backend: Option<String>,
    #[serde(default)]
    backend_path: Vec<String>,
}

impl System {
    /// Reads it from an archive that was unpacked to `source`; `archive` is its name.
    pub(crate) fn of(source: &Path, archive: &str) -> Result<Self> {
        read(text_of(source, archive)?.as_deref(), archive)
    }
}

/// The `pyproject.toml` of an archive that was unpacked to `source`, where it has one; `archive` is its name.
pub(super) fn text_of(source: &Path, archive: &str) -> Result<Option<String>> {
    let path = source.join("pyproject.toml");
    let Some(file) = foreign::open(&path)? else { return Ok(None) };
    let mut text = String::new();
    let limit = BUILD_PROJECT_BYTES_MAX;
    file.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(|error| Error::io("read", &path, &error))?;
    match text.len() as u64 > limit {
        true => Err(bad(archive, &format!("it has more than {limit} bytes"))),
        false => Ok(Some(text)),
    }
}

pub(super) fn bad(archive: &str, why: &str) -> Error {
    let message = format!("the `pyproject.toml` of `{archive}` cannot be used: {why}");
    Error::new(Kind::Failed, "build-system", message)
        .hint("choose another version of the package, or one that has a wheel")
}

fn read(text: Option<&str>, archive: &str) -> Result<System> {
    let file = match text {
        Some(text) => {
            toml::from_str::<File>(text).map_err(|error| bad(archive, &shorten(error.message())))?
        }
        None => File { system: None },
    };
    let Some(table) = file.system else {
        let requires = requirements(&[LEGACY_REQUIRES.to_owned()], archive)?;
        let backend = LEGACY_BACKEND.to_owned();
        return Ok(System { requires, backend, backend_path: Vec::new() });
    };
    let backend = table.build_backend.unwrap_or_else(|| LEGACY_BACKEND.to_owned());
    let is_name = |name: &str| {
        let is_part = |part: &str| {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            !part.is_empty() && part.chars().all(is_word)
        };
        name.split('.').all(is_part)
    };
    let (module, object) = backend.split_once(':').unwrap_or((&backend, "x"));
    if !is_name(module) || !is_name(object) {
        return Err(bad(archive, &format!("`{}` is no backend", shorten(&backend))));
    }
    let is_inside = |path: &String| {
        let parts = path.split('/').all(|part| part != ".." && !part.contains('\0'));
        parts && !path.starts_with('/') && !path.is_empty()
    };
    if table.backend_path.len() > BUILD_REQUIREMENTS_MAX {
        return Err(bad(archive, "it has too many places of a backend"));
    }
    if let Some(outside) = table.backend_path.iter().find(|path| !is_inside(path)) {
        let outside = shorten(outside);
        return Err(bad(archive, &format!("`{outside}`, a place of its backend, is outside")));
    }
    let requires = requirements(&table.requires, archive)?;
    Ok(System { requires, backend, backend_path: table.backend_path })
}

/// What has to be there for a build, as the archive or its backend says it. An address is refused: nobody else than the person and the
/// index decides where code comes from.
pub(crate) fn requirements(texts: &[String], archive: &str) -> Result<Vec<Requirement>> {
    let refused = |why: &str| {
        let message = format!("`{archive}` cannot be built: {why}");
        Error::new(Kind::Failed, "build-requirements", message)
            .hint("choose another version of the package, or one that has a wheel")
    };
    if texts.len() > BUILD_REQUIREMENTS_MAX {
        return Err(refused("it needs too much for that"));
    }
    let mut requirements = Vec::with_capacity(texts.len());
    for text in texts {
        let requirement = core_metadata::requirement(text).map_err(|why| refused(&why))?;
        if matches!(requirement.version_or_url, Some(VersionOrUrl::Url(_))) {
            let name = &requirement.name;
            return Err(refused(&format!("it needs `{name}` from an address, not from an index")));
        }
        requirements.push(requirement);
    }
    Ok(requirements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(text: &str) -> System {
        read(Some(text), "a-1.tar.gz").expect("a build system")
    }

    #[test]
    fn what_nobody_says_is_what_pip_does() {
        let legacy = read(None, "a-1.tar.gz").expect("a build system");
        assert_eq!(legacy.backend, "setuptools.build_meta:__legacy__");
        assert_eq!(legacy.requires[0].to_string(), "setuptools>=40.8.0");
        assert_eq!(system("[project]\nname = \"a\"\n"), legacy);
        let named = system("[build-system]\nrequires = [\"wheel\"]\n");
        assert_eq!((named.backend, named.requires.len()), (legacy.backend, 1));
    }

    #[test]
    fn a_backend_is_a_name_and_lies_inside() {
        let of = |more: &str| format!("[build-system]\nrequires = [\"b>=1\"]\n{more}");
        let own = system(&of("build-backend = \"b.c:d.e\"\nbackend-path = [\".\", \"x/y\"]\n"));
        assert_eq!((own.backend.as_str(), own.backend_path.len()), ("b.c:d.e", 2));
        for more in [
            "build-backend = \"b; import os\"",
            "build-backend = \"b:\"",
            "build-backend = \"\"",
            "build-backend = 1",
            "backend-path = [\"..\"]",
            "backend-path = [\"a/../..\"]",
            "backend-path = [\"/usr\"]",
            "backend-path = [\"\"]",
        ] {
            let refused = read(Some(&of(more)), "a-1.tar.gz").expect_err(more);
            assert_eq!(refused.code, "build-system", "{refused}");
        }
        assert!(read(Some("[build-system]\nbackend-path = []\n"), "a").is_err(), "no requires");
    }

    #[test]
    fn requirements_of_a_build_come_from_an_index() {
        let of = |text: &str| requirements(&[text.to_owned()], "a-1.tar.gz");
        assert_eq!(of("b[x]>=1; python_version >= '3'").expect("a requirement").len(), 1);
        for text in ["b @ https://h.invalid/b-1-py3-none-any.whl", "!", ""] {
            assert_eq!(of(text).expect_err(text).code, "build-requirements");
        }
        let many = vec!["b".to_owned(); BUILD_REQUIREMENTS_MAX + 1];
        assert!(requirements(&many, "a-1.tar.gz").is_err());
    }
}
