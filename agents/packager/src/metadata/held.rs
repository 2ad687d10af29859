//! Which versions of a project's packages are held, for resolvers that need not know: of a package that is held there is only
//! what it has.

use std::collections::{BTreeMap, BTreeSet};

use crate::resolution::Resolution;

/// The packages of one ecosystem that are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The versions, by name.
    pub packages: BTreeMap<String, BTreeSet<String>>,
    /// How firmly.
    pub grip: Grip,
}

/// How firmly packages are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grip {
    /// There is nothing but the versions that are held.
    #[default]
    Firm,
    /// Versions that can stand beside those may be had, too: of another major version, where an ecosystem has several of a package
    /// at once.
    Beside,
    /// Others may be had, where they have to be: to find out which hold is in the way.
    Loose,
}

/// What is said of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing: its package is not held, or it stands beside what is.
    None,
    /// It is what is held.
    Held,
    /// Its package is held at another one.
    Back,
}

impl Held {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// Whether a package is held.
    pub fn contains(&self, name: &str) -> bool {
        self.packages.contains_key(name)
    }

    /// What is said of a version.
    pub fn says(&self, name: &str, version: &str) -> Word {
        match self.packages.get(name) {
            None => Word::None,
            Some(versions) if versions.contains(version) => Word::Held,
            Some(versions) => match self.grip {
                Grip::Beside if is_beside(versions, version) => Word::None,
                Grip::Loose => Word::None,
                Grip::Beside | Grip::Firm => Word::Back,
            },
        }
    }

    /// The packages that a resolution does not leave as they are held: another version has their place. What is in it no more is
    /// not one of them, since nothing needs it. What the project itself asks for is never beside.
    pub fn broken_by(&self, resolution: &Resolution) -> Vec<&str> {
        let is_broken = |name: &str, versions: &BTreeSet<String>| {
            let mut found = resolution.packages.iter().filter(|it| it.name == name).peekable();
            let (mut has_held, mut is_broken) = (found.peek().is_none(), false);
            for package in found {
                let is_held = versions.contains(&package.version);
                has_held |= is_held;
                is_broken |= !is_held && (package.direct || !is_beside(versions, &package.version));
            }
            is_broken || !has_held
        };
        let broken = self.packages.iter().filter(|(name, versions)| is_broken(name, versions));
        broken.map(|(name, _)| name.as_str()).collect()
    }

    /// The packages of which a resolution gives the project itself another version than it had, if only another one that is held:
    /// each place has its own. What it asks for no more is not one of them.
    pub fn moved_by(&self, before: Option<&Resolution>, after: &Resolution) -> Vec<&str> {
        let of_project = |resolution: &Resolution, name: &str| -> BTreeSet<String> {
            let packages = resolution.packages.iter().filter(|it| it.direct && it.name == name);
            packages.map(|it| it.version.clone()).collect()
        };
        let is_moved = |name: &str, versions: &BTreeSet<String>| {
            let had = before.map(|before| of_project(before, name)).unwrap_or_default();
            // What stood otherwise already is no matter of the hold.
            let is_of_hold = !had.is_empty() && had.is_subset(versions);
            is_of_hold && !of_project(after, name).is_subset(&had)
        };
        let moved = self.packages.iter().filter(|(name, versions)| is_moved(name, versions));
        moved.map(|(name, _)| name.as_str()).collect()
    }

    /// `name` as people read of it: the versions that it is held at.
    pub fn versions(&self, name: &str) -> String {
        let versions = self.packages.get(name).into_iter().flatten();
        versions.map(String::as_str).collect::<Vec<_>>().join(" and ")
    }
}

/// Whether a version is incompatible with each of these, so that both may be there.
fn is_beside(versions: &BTreeSet<String>, version: &str) -> bool {
    versions.iter().all(|held| compatible(held) != compatible(version))
}

/// What a version is compatible with, as npm's `^` and cargo have it: its numbers up to the first that is not zero.
fn compatible(version: &str) -> &str {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let is_first = |(at, part): &(usize, &str)| *at == 2 || !part.trim_matches('0').is_empty();
    let mut end = 0;
    for (at, part) in numbers.split('.').enumerate() {
        end += part.len() + usize::from(at > 0);
        if is_first(&(at, part)) {
            break;
        }
    }
    numbers.get(..end).unwrap_or(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecosystem::Ecosystem;
    use crate::resolution::{Artifact, Package};

    fn held(grip: Grip) -> Held {
        let versions = BTreeSet::from(["1.1.0".to_owned()]);
        Held { packages: BTreeMap::from([("leaf".to_owned(), versions)]), grip }
    }

    fn resolution(packages: &[(&str, &str, bool)]) -> Resolution {
        let package = |(name, version, direct): &(&str, &str, bool)| Package {
            artifact: Artifact {
                built: None,
                by_address: false,
                file_name: String::new(),
                hashes: crate::metadata::Hashes::default(),
                size: None,
                source: None,
                url: String::new(),
            }
            .into(),
            bin: BTreeMap::new(),
            dependencies: Vec::new(),
            direct: *direct,
            ecosystem: Ecosystem::Npm,
            extras: Vec::new(),
            license: None,
            name: (*name).to_owned(),
            place: String::new(),
            published: None,
            scripts: Vec::new(),
            version: (*version).to_owned(),
        };
        Resolution {
            ecosystem: Ecosystem::Npm,
            links: Vec::new(),
            packages: packages.iter().map(package).collect(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn of_a_held_package_there_is_what_it_has_and_perhaps_what_stands_beside() {
        let check = |grip, version, expected| {
            assert_eq!(held(grip).says("leaf", version), expected, "{version}");
        };
        check(Grip::Firm, "1.1.0", Word::Held);
        check(Grip::Firm, "1.2.0", Word::Back);
        check(Grip::Firm, "2.0.0", Word::Back);
        check(Grip::Beside, "1.2.0-rc.1", Word::Back);
        check(Grip::Beside, "2.0.0", Word::None);
        check(Grip::Beside, "0.1.0", Word::None);
        check(Grip::Loose, "1.2.0", Word::None);
        check(Grip::Loose, "1.1.0", Word::Held);
        assert_eq!(held(Grip::Firm).says("tree", "9.0.0"), Word::None);
    }

    #[test]
    fn zeros_count_until_the_first_other_number() {
        let pairs = [("1.2.3", "1"), ("10.0.0", "10"), ("0.2.3", "0.2"), ("0.0.3-a.1", "0.0.3")];
        for (version, expected) in pairs {
            assert_eq!(compatible(version), expected);
        }
        assert_eq!(compatible("0.0.0+x"), "0.0.0");
        assert_eq!(compatible(""), "");
    }

    #[test]
    fn the_project_keeps_its_own_of_several_versions() {
        let versions = BTreeSet::from(["1.1.0".to_owned(), "1.2.0".to_owned()]);
        let packages = BTreeMap::from([("leaf".to_owned(), versions)]);
        let held = Held { packages, grip: Grip::Firm };
        let before = resolution(&[("leaf", "1.1.0", true), ("leaf", "1.2.0", false)]);
        let check = |packages: &[(&str, &str, bool)], expected: &[&str]| {
            let after = resolution(packages);
            assert_eq!(held.moved_by(Some(&before), &after), expected, "{packages:?}");
        };
        check(&[("leaf", "1.1.0", true), ("leaf", "1.2.0", false)], &[]);
        check(&[("leaf", "1.2.0", true)], &["leaf"]);
        check(&[("leaf", "1.1.0", false), ("leaf", "1.2.0", true)], &["leaf"]);
        check(&[("leaf", "1.2.0", false)], &[]);
        check(&[], &[]);
        let after = resolution(&[("leaf", "1.2.0", true)]);
        assert_eq!(held.moved_by(None, &after), [""; 0]);
        let stranger = resolution(&[("leaf", "3.0.0", true)]);
        assert_eq!(held.moved_by(Some(&stranger), &after), [""; 0]);
    }

    #[test]
    fn another_version_in_its_place_breaks_a_hold_and_one_beside_it_does_not() {
        let check = |packages: &[(&str, &str, bool)], expected: &[&str]| {
            assert_eq!(held(Grip::Firm).broken_by(&resolution(packages)), expected, "{packages:?}");
        };
        check(&[("leaf", "1.1.0", true), ("tree", "2.0.0", true)], &[]);
        check(&[("leaf", "1.1.0", true), ("leaf", "2.0.0", false)], &[]);
        check(&[("tree", "2.0.0", true)], &[]);
        check(&[("leaf", "2.0.0", false)], &["leaf"]);
        check(&[("leaf", "1.1.0", false), ("leaf", "2.0.0", true)], &["leaf"]);
        check(&[("leaf", "1.1.0", true), ("leaf", "1.2.0", false)], &["leaf"]);
    }
}
