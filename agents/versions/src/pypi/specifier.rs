//! Version specifiers of PEP 440: clauses of which all have to hold.
//!
//! Pre-releases are in only where a clause other than `!=` names one, as the standard has it for a reader who knows of no
//! other versions to fall back from.

use std::cell::OnceCell;
use std::cmp::Ordering;

use super::{Details, Parts, parse};
use crate::error::ParseError;
use crate::key::Key;
use crate::limits::RANGE_COMPARATORS_MAX;
use crate::operator::{self, Operator};
use crate::text::not_a_range;

/// One clause.
#[derive(Clone, Debug)]
enum Clause {
    Compare(Operator, Bound),
    /// `~=`: at least the bound, and its release without the last number.
    Compatible(Bound, Prefix),
    /// `==1.2.*`, and whether it is `!=`.
    Prefix(Prefix, bool),
    /// `===`: the same text, without regard to case.
    Arbitrary(String),
}

#[derive(Clone, Debug)]
struct Bound {
    key: Key,
    details: Details,
}

/// The beginning of a release. Numbers are kept without zeros in front, zero being empty.
#[derive(Clone, Debug)]
struct Prefix {
    epoch: Box<str>,
    release: Vec<Box<str>>,
}

/// Clauses of which all have to hold; none at all hold for every final release.
#[derive(Clone, Debug)]
pub struct Specifiers {
    clauses: Vec<Clause>,
    allows_prereleases: bool,
}

impl Specifiers {
    /// Reads `>=1.0, !=1.5.*, <2`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let mut specifiers = Self { clauses: Vec::new(), allows_prereleases: false };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (clause, names_prerelease) = clause(part)?;
            specifiers.clauses.push(clause);
            specifiers.allows_prereleases |= names_prerelease;
            if specifiers.clauses.len() > RANGE_COMPARATORS_MAX {
                return Err(not_a_range(text));
            }
        }
        Ok(specifiers)
    }

    pub(crate) fn contains(&self, key: &Key, details: &Details) -> bool {
        let version = Asked { key, details, whole: OnceCell::new(), normal: OnceCell::new() };
        (self.allows_prereleases || !details.is_prerelease)
            && self.clauses.iter().all(|clause| clause.contains(&version))
    }
}

/// A version that many clauses look at; what only some of them need is made at most once.
struct Asked<'a> {
    key: &'a Key,
    details: &'a Details,
    whole: OnceCell<Option<Prefix>>,
    normal: OnceCell<Option<String>>,
}

impl Asked<'_> {
    fn begins_with(&self, prefix: &Prefix) -> bool {
        let whole = || Parts::read(&self.details.text).map(|parts| Prefix::whole(&parts));
        self.whole.get_or_init(whole).as_ref().is_some_and(|whole| prefix.begins(whole))
    }

    fn is_written(&self, text: &str) -> bool {
        let normal = || Parts::read(&self.details.text).map(|parts| parts.normal());
        self.normal.get_or_init(normal).as_deref() == Some(text)
    }
}

/// Reads one clause; says whether it names a pre-release.
fn clause(text: &str) -> Result<(Clause, bool), ParseError> {
    #[derive(Clone, Copy)]
    enum Sign {
        Arbitrary,
        Compatible,
        Compare(Operator),
    }
    const SIGNS: [(&str, Sign); 8] = [
        ("===", Sign::Arbitrary),
        ("~=", Sign::Compatible),
        ("==", Sign::Compare(Operator::Equal)),
        ("!=", Sign::Compare(Operator::NotEqual)),
        ("<=", Sign::Compare(Operator::LessOrEqual)),
        (">=", Sign::Compare(Operator::GreaterOrEqual)),
        ("<", Sign::Compare(Operator::Less)),
        (">", Sign::Compare(Operator::Greater)),
    ];
    let (sign, version) = operator::split(text, &SIGNS).ok_or_else(|| not_a_range(text))?;
    if let Sign::Arbitrary = sign {
        if version.is_empty() || version.contains([' ', '\t', ';', ')']) {
            return Err(not_a_range(text));
        }
        let is_prerelease = parse(version).is_ok_and(|(_, details)| details.is_prerelease);
        return Ok((Clause::Arbitrary(version.to_lowercase()), is_prerelease));
    }
    let is_equality = matches!(sign, Sign::Compare(Operator::Equal | Operator::NotEqual));
    if let (true, Some(prefix)) = (is_equality, version.strip_suffix(".*")) {
        // A star stands behind a release and nothing else.
        let parts = Parts::read(prefix).filter(Parts::is_release);
        let parts = parts.ok_or_else(|| not_a_range(text))?;
        let is_unequal = matches!(sign, Sign::Compare(Operator::NotEqual));
        return Ok((Clause::Prefix(Prefix::whole(&parts), is_unequal), false));
    }
    let parts = Parts::read(version).filter(|parts| is_equality || parts.local.is_none());
    let parts = parts.ok_or_else(|| not_a_range(text))?;
    let (key, details) = parts.write(version);
    let is_unequal = matches!(sign, Sign::Compare(Operator::NotEqual));
    let names_prerelease = details.is_prerelease && !is_unequal;
    let bound = Bound { key, details };
    let clause = match sign {
        Sign::Compare(operator) => Clause::Compare(operator, bound),
        Sign::Compatible | Sign::Arbitrary => {
            let prefix = Prefix::compatible(&parts).ok_or_else(|| not_a_range(text))?;
            Clause::Compatible(bound, prefix)
        }
    };
    Ok((clause, names_prerelease))
}

impl Clause {
    fn contains(&self, version: &Asked<'_>) -> bool {
        let (key, details) = (version.key, version.details);
        match self {
            Clause::Compare(operator, bound) => compare(*operator, bound, key, details),
            Clause::Compatible(bound, prefix) => {
                bound.public_order(key, details) != Ordering::Less && version.begins_with(prefix)
            }
            Clause::Prefix(prefix, is_unequal) => version.begins_with(prefix) != *is_unequal,
            Clause::Arbitrary(text) => version.is_written(text),
        }
    }
}

fn compare(operator: Operator, bound: &Bound, key: &Key, details: &Details) -> bool {
    let (of_bound, exact) = (&bound.details, key.cmp(&bound.key));
    match operator {
        // A local part counts where the clause has one.
        Operator::Equal | Operator::NotEqual if of_bound.has_local => operator.holds(exact),
        Operator::Equal | Operator::NotEqual | Operator::LessOrEqual | Operator::GreaterOrEqual => {
            operator.holds(bound.public_order(key, details))
        }
        // `<2` is not meant to bring pre-releases of 2, nor `>2` what came after it under the same number.
        Operator::Less => {
            let is_before_same = details.is_prerelease && bound.is_same_release(key, details);
            exact.is_lt() && (of_bound.is_prerelease || !is_before_same)
        }
        Operator::Greater => {
            let is_own_local = bound.public_order(key, details).is_eq();
            let has_posts = !of_bound.is_postrelease && !of_bound.is_development;
            exact.is_gt() && !is_own_local && !(has_posts && bound.is_same_pre(key, details))
        }
    }
}

impl Bound {
    /// How a version stands to the bound, local parts aside.
    fn public_order(&self, key: &Key, details: &Details) -> Ordering {
        let own = &self.key.as_bytes()[..self.details.public_end];
        key.as_bytes()[..details.public_end].cmp(own)
    }

    /// Whether release and pre-release are the bound's, so that the version came after it under the same number.
    fn is_same_pre(&self, key: &Key, details: &Details) -> bool {
        let own = &self.key.as_bytes()[..self.details.pre_end];
        key.as_bytes()[..details.pre_end] == *own
    }

    fn is_same_release(&self, key: &Key, details: &Details) -> bool {
        let own = &self.key.as_bytes()[..self.details.release_end];
        key.as_bytes()[..details.release_end] == *own
    }
}

fn without_zeros(digits: &str) -> Box<str> {
    digits.trim_start_matches('0').into()
}

impl Prefix {
    fn whole(parts: &Parts<'_>) -> Self {
        let release = parts.release.split('.').map(without_zeros).collect();
        Self { epoch: without_zeros(parts.epoch), release }
    }

    /// The release without its last number; none where there is only one.
    fn compatible(parts: &Parts<'_>) -> Option<Self> {
        let mut prefix = Self::whole(parts);
        prefix.release.pop();
        (!prefix.release.is_empty()).then_some(prefix)
    }

    /// Whether a whole version begins with it; a shorter release goes on with zeros.
    fn begins(&self, whole: &Self) -> bool {
        self.epoch == whole.epoch
            && self
                .release
                .iter()
                .enumerate()
                .all(|(at, number)| whole.release.get(at).map_or("", |own| own) == &**number)
    }
}
