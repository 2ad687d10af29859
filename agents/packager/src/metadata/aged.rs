//! Metadata without what does not count, for resolvers that need not know: what was published too recently, since a malicious
//! release is mostly found within days, and other versions of a package than those that it is held at.
//!
//! A version whose publication time nobody tells counts as too young: the opposite could be had by leaving the time out. What
//! is installed or locked already, and what a person lets through by name, counts whatever its age.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use pep508_rs::PackageName;

use super::held::{Held, Word};
use super::{cargo, npm, pypi};
use crate::error::Error;
use crate::options::Moment;

/// What counts.
#[derive(Clone, Debug, Default)]
pub struct Limit {
    /// Nothing published at this moment or later.
    pub before: Option<Moment>,
    /// Packages to which that does not apply.
    pub names: BTreeSet<String>,
    /// Versions to which it does not apply, by name.
    pub versions: BTreeMap<String, BTreeSet<String>>,
    /// Packages of which only some versions count, whatever their age.
    pub held: Held,
}

impl Limit {
    /// Whether a version counts.
    pub fn allows(&self, name: &str, version: &str, published: Option<&str>) -> bool {
        match self.held.says(name, version) {
            Word::Held => return true,
            Word::Back => return false,
            Word::None => {}
        }
        let Some(before) = self.before else { return true };
        let is_old = published.and_then(Moment::parse).is_some_and(|published| published < before);
        is_old
            || self.names.contains(name)
            || self.versions.get(name).is_some_and(|versions| versions.contains(version))
    }

    /// Whether some versions of a package may not count.
    fn concerns(&self, name: &str) -> bool {
        self.before.is_some() || self.held.contains(name)
    }
}

/// What was left out of one package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Versions, or files for PyPI, that are too young.
    pub young: usize,
    /// Those of which nobody tells when they were published.
    pub undated: usize,
}

/// A registry's metadata with the limit applied. Answers are computed once for each package.
pub struct Aged<'a, M: ?Sized, Answer> {
    inner: &'a M,
    limit: Limit,
    answers: Mutex<HashMap<String, Arc<Answer>>>,
    left_out: Mutex<BTreeMap<String, LeftOut>>,
}

impl<'a, M: ?Sized, Answer> Aged<'a, M, Answer> {
    /// Wraps a registry.
    pub fn new(inner: &'a M, limit: Limit) -> Self {
        Self { inner, limit, answers: Mutex::default(), left_out: Mutex::default() }
    }

    /// What was left out so far, by package.
    pub fn left_out(&self) -> BTreeMap<String, LeftOut> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `key` is what the registry is asked for, `name` the package's name.
    fn answer(
        &self,
        (key, name): (&str, &str),
        make: impl FnOnce(&mut dyn FnMut(&str, Option<&str>) -> bool) -> Result<Arc<Answer>, Error>,
    ) -> Result<Arc<Answer>, Error> {
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = answers().get(key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut left_out = LeftOut::default();
        let answer = make(&mut |version, published| {
            let counts = self.limit.allows(name, version, published);
            match published {
                _ if counts || self.limit.held.says(name, version) == Word::Back => {}
                Some(_) => left_out.young += 1,
                None => left_out.undated += 1,
            }
            counts
        })?;
        if left_out != LeftOut::default() {
            let mut all = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(name.to_owned(), left_out);
        }
        answers().insert(key.to_owned(), Arc::clone(&answer));
        Ok(answer)
    }
}

impl npm::Metadata for Aged<'_, dyn npm::Metadata + '_, npm::Packument> {
    fn packument(&self, name: &str) -> Result<Arc<npm::Packument>, Error> {
        if !self.limit.concerns(name) {
            return self.inner.packument(name);
        }
        self.answer((name, name), |counts| {
            let whole = self.inner.packument(name)?;
            let versions = whole.versions.iter();
            let kept = versions.filter(|(text, one)| counts(text, one.published.as_deref()));
            let versions: npm::Versions = kept.map(|(text, one)| (text.to_owned(), one)).collect();
            let dist_tags = tags(&whole.dist_tags, &versions, self.limit.held.contains(name));
            Ok(Arc::new(npm::Packument { name: whole.name.clone(), dist_tags, versions }))
        })
    }

    fn prefetch(&self, name: &str) -> bool {
        self.inner.prefetch(name)
    }

    /// Whoever walks ahead sees everything: at worst it announces what nobody asks for.
    fn follow(&self, ahead: &Arc<dyn npm::Ahead>) {
        self.inner.follow(ahead);
    }
}

/// A tag whose version is left out means the newest before it that is not, as npm has it with `before`; of a package that is
/// held at something newer that.
fn tags(
    tags: &BTreeMap<String, String>,
    versions: &npm::Versions,
    is_held: bool,
) -> BTreeMap<String, String> {
    use agents_versions::npm::Version;
    let moved = tags.iter().filter_map(|(tag, text)| {
        if versions.listed(text).is_some() {
            return Some((tag.clone(), text.clone()));
        }
        let tagged = Version::parse_loose(text).ok()?;
        let is_older = |one: &npm::Listed<'_>| one.number().is_some_and(|it| it < tagged);
        let is_final = |one: &npm::Listed<'_>| one.number().is_some_and(|it| !it.is_prerelease());
        let mut older = versions.ranked().filter(is_older);
        let newest = older.find(is_final).or_else(|| versions.ranked().find(is_older));
        let newest = newest.or_else(|| versions.ranked().next().filter(|_| is_held))?;
        Some((tag.clone(), newest.text().to_owned()))
    });
    moved.collect()
}

impl pypi::Metadata for Aged<'_, dyn pypi::Metadata + '_, pypi::Project> {
    fn project(&self, name: &PackageName) -> Result<Arc<pypi::Project>, Error> {
        if !self.limit.concerns(name.as_ref()) {
            return self.inner.project(name);
        }
        self.answer((name.as_ref(), name.as_ref()), |counts| {
            let whole = self.inner.project(name)?;
            let kept = whole
                .files()
                .filter(|file| counts(&file.version.to_string(), file.published.as_deref()));
            Ok(Arc::new(pypi::Project::new(whole.name.clone(), kept.collect())))
        })
    }

    fn core_metadata(
        &self,
        project: &pypi::Project,
        file: &Arc<pypi::File>,
    ) -> Result<Arc<pypi::CoreMetadata>, Error> {
        self.inner.core_metadata(project, file)
    }

    fn prefetch_project(&self, name: &PackageName) -> bool {
        self.inner.prefetch_project(name)
    }

    fn prefetch_core_metadata(&self, project: &Arc<pypi::Project>, file: &Arc<pypi::File>) {
        self.inner.prefetch_core_metadata(project, file);
    }

    fn follow(&self, ahead: &Arc<dyn pypi::Ahead>) {
        self.inner.follow(ahead);
    }
}

impl cargo::Metadata for Aged<'_, dyn cargo::Metadata + '_, cargo::Crate> {
    fn krate(&self, key: &str) -> Result<Arc<cargo::Crate>, Error> {
        let (name, _) = cargo::scope::split(key);
        if !self.limit.concerns(name) {
            return self.inner.krate(key);
        }
        self.answer((key, name), |counts| {
            let whole = self.inner.krate(key)?;
            Ok(Arc::new(whole.only(|one| counts(&one.number().to_string(), one.published()))))
        })
    }

    fn prefetch(&self, name: &str) -> bool {
        self.inner.prefetch(name)
    }

    fn follow(&self, ahead: &Arc<dyn cargo::Ahead>) {
        self.inner.follow(ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::npm::Metadata as _;
    use super::*;

    struct Registry(npm::Packument);

    impl npm::Metadata for Registry {
        fn packument(&self, _name: &str) -> Result<Arc<npm::Packument>, Error> {
            Ok(Arc::new(self.0.clone()))
        }

        fn prefetch(&self, _name: &str) -> bool {
            true
        }
    }

    fn packument(versions: &[(&str, Option<&str>)]) -> npm::Packument {
        let entry = |(text, published): &(&str, Option<&str>)| {
            let version = (*text).to_owned();
            let published = published.map(str::to_owned);
            (version.clone(), Arc::new(npm::Version { version, published, ..Default::default() }))
        };
        let latest = versions.last().expect("versions").0.to_owned();
        npm::Packument {
            name: "leaf".to_owned(),
            dist_tags: BTreeMap::from([("latest".to_owned(), latest)]),
            versions: versions.iter().map(entry).collect(),
        }
    }

    #[test]
    fn young_and_undated_versions_do_not_count_unless_they_are_let_through() {
        let registry = Registry(packument(&[
            ("1.0.0", Some("2020-01-01T00:00:00Z")),
            ("1.1.0", None),
            ("1.2.0-rc.1", Some("2020-01-02T00:00:00.000Z")),
            ("2.0.0", Some("2026-01-01T00:00:00Z")),
            ("2.1.0", Some("2026-01-02T00:00:00Z")),
        ]));
        let check = |limit: Limit, versions: &[&str], latest: &str| {
            let aged = Aged::new(&registry as &dyn npm::Metadata, limit);
            let answer = aged.packument("leaf").expect("an answer");
            assert_eq!(answer.versions.keys().collect::<Vec<_>>(), versions);
            assert_eq!(answer.dist_tags["latest"], latest);
            aged.left_out().get("leaf").copied().unwrap_or_default()
        };
        let before = Moment::parse("2026-01-01T00:00:00Z");
        let limit = Limit { before, ..Limit::default() };
        let left = check(limit.clone(), &["1.0.0", "1.2.0-rc.1"], "1.0.0");
        assert_eq!(left, LeftOut { young: 2, undated: 1 });
        let versions = BTreeMap::from([("leaf".to_owned(), BTreeSet::from(["2.0.0".to_owned()]))]);
        let locked = Limit { versions, ..limit.clone() };
        check(locked, &["1.0.0", "1.2.0-rc.1", "2.0.0"], "2.0.0");
        let all = &["1.0.0", "1.1.0", "1.2.0-rc.1", "2.0.0", "2.1.0"];
        let named = Limit { names: BTreeSet::from(["leaf".to_owned()]), ..limit };
        assert_eq!(check(named, all, "2.1.0"), LeftOut::default());
        let at = |version: &str| Held {
            packages: BTreeMap::from([("leaf".to_owned(), BTreeSet::from([version.to_owned()]))]),
            ..Held::default()
        };
        let held = Limit { before, held: at("1.1.0"), ..Limit::default() };
        let left = check(held, &["1.1.0"], "1.1.0");
        assert_eq!(left, LeftOut::default(), "what is held back is not called too young");
        check(Limit { held: at("2.1.0"), ..Limit::default() }, &["2.1.0"], "2.1.0");
        assert_eq!(check(Limit::default(), all, "2.1.0"), LeftOut::default());
    }
}
