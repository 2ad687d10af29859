//! What the names of Python's files say: project, version, build number, compatibility tags.

use std::str::FromStr;

use pep440_rs::Version;
use pep508_rs::PackageName;

use crate::io::limits::WHEEL_TAGS_MAX;
use crate::metadata::pypi::FileKind;

/// Endings of source archives, as PyPI accepts or once accepted them.
const SOURCE_ENDINGS: [&str; 6] = [".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz", ".tar.Z"];

/// Reads the name of a file of `project`; `None` for other projects' files, other kinds, and damaged names.
pub(crate) fn parse(name: &str, project: &PackageName) -> Option<(Version, FileKind)> {
    // Names reach terminals, plans and the disk.
    if name.contains(['/', '\\']) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    match name.strip_suffix(".whl") {
        Some(stem) => wheel(stem, project),
        None => {
            let stem = SOURCE_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
            Some((source_version(stem, project)?, FileKind::Source))
        }
    }
}

/// `name-version(-build)?-python-abi-platform`, each of the last three a set joined by dots.
fn wheel(stem: &str, project: &PackageName) -> Option<(Version, FileKind)> {
    let parts: Vec<&str> = stem.split('-').collect();
    let (name, version, build, tags) = match parts.as_slice() {
        [name, version, tags @ ..] if tags.len() == 3 => (name, version, None, tags),
        [name, version, build, tags @ ..] if tags.len() == 3 => (name, version, Some(*build), tags),
        _ => return None,
    };
    if !is_name_of(name, project)
        || build.is_some_and(|build| !build.starts_with(|c: char| c.is_ascii_digit()))
    {
        return None;
    }
    let version = Version::from_str(version).ok()?;
    let tags = expand(tags[0], tags[1], tags[2])?;
    Some((version, FileKind::Wheel { build: build.map(str::to_owned), tags }))
}

fn expand(pythons: &str, abis: &str, platforms: &str) -> Option<Vec<String>> {
    let count = |set: &str| set.split('.').count();
    if count(pythons) * count(abis) * count(platforms) > WHEEL_TAGS_MAX {
        return None;
    }
    let mut tags = Vec::new();
    for python in pythons.split('.') {
        for abi in abis.split('.') {
            for platform in platforms.split('.') {
                if python.is_empty() || abi.is_empty() || platform.is_empty() {
                    return None;
                }
                tags.push(format!("{python}-{abi}-{platform}"));
            }
        }
    }
    Some(tags)
}

/// Names may hold hyphens, so the place where the version starts is where the rest is the project's name.
fn source_version(stem: &str, project: &PackageName) -> Option<Version> {
    stem.match_indices('-').find_map(|(index, _)| {
        let (name, version) = (&stem[..index], &stem[index + 1..]);
        is_name_of(name, project).then(|| Version::from_str(version).ok()).flatten()
    })
}

fn is_name_of(text: &str, project: &PackageName) -> bool {
    text == project.as_ref() || PackageName::from_str(text).is_ok_and(|name| name == *project)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, project: &str, expected: Option<(&str, Option<&[&str]>)>) {
        let project = PackageName::from_str(project).expect("a name");
        let parsed = parse(name, &project).map(|(version, kind)| {
            let tags = match kind {
                FileKind::Wheel { tags, .. } => Some(tags),
                FileKind::Source => None,
            };
            (version.to_string(), tags)
        });
        let expected = expected.map(|(version, tags)| {
            let tags =
                tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
            (version.to_owned(), tags)
        });
        assert_eq!(parsed, expected, "{name}");
    }

    #[test]
    fn wheels_give_version_and_expanded_tags() {
        check(
            "requests-2.31.0-py3-none-any.whl",
            "requests",
            Some(("2.31.0", Some(&["py3-none-any"]))),
        );
        check(
            "six-1.16.0-py2.py3-none-any.whl",
            "six",
            Some(("1.16.0", Some(&["py2-none-any", "py3-none-any"]))),
        );
        check(
            "Zope.Interface-5.4-1b-cp39-abi3-manylinux1_x86_64.manylinux2010_x86_64.whl",
            "zope-interface",
            Some(("5.4", Some(&["cp39-abi3-manylinux1_x86_64", "cp39-abi3-manylinux2010_x86_64"]))),
        );
        check(
            "torch-2.0+cu118-cp311-cp311-linux_x86_64.whl",
            "torch",
            Some(("2.0+cu118", Some(&["cp311-cp311-linux_x86_64"]))),
        );
    }

    #[test]
    fn what_is_no_wheel_of_the_project_is_skipped() {
        for name in [
            "other-1.0-py3-none-any.whl",
            "a-1.0-py3-none.whl",
            "a-1.0-x-py3-none-any.whl",
            "a-1.0-1-2-py3-none-any.whl",
            "a-one-py3-none-any.whl",
            "a-1.0-py3..py2-none-any.whl",
            "../a-1.0-py3-none-any.whl",
            "a-1.0-py3-none-any\u{1b}[31m.whl",
            "a-1.0 -py3-none-any.whl",
            "a-1.0-py3-none-\u{e4}.whl",
            "a-1.0.exe",
            "a.whl",
            ".whl",
            "",
        ] {
            check(name, "a", None);
        }
    }

    #[test]
    fn a_source_name_may_hold_hyphens() {
        check("python-dateutil-2.8.2.tar.gz", "python-dateutil", Some(("2.8.2", None)));
        check("python_dateutil-2.8.2.tar.gz", "python-dateutil", Some(("2.8.2", None)));
        check("requests-0.2.0.zip", "requests", Some(("0.2.0", None)));
        check("a-1-2.tar.gz", "a", Some(("1.post2", None)));
        check("requests-oauthlib-1.0.tar.gz", "requests", None);
    }

    #[test]
    fn a_bomb_of_tags_is_skipped() {
        let many = vec!["x"; 100].join(".");
        check(&format!("a-1.0-{many}-{many}-{many}.whl"), "a", None);
    }
}
