//! Ranges of npm versions: alternatives of comparators that all have to hold.
//!
//! The text is rewritten step by step in the order of npm's own library (hyphen ranges, spaces after operators,
//! carets, tildes, x-ranges, stars), because ill-formed text has a meaning only through that order.

mod rewrite;

use std::cmp::Ordering;
use std::fmt;

use rewrite::{hyphen_range, join_marks, join_operators, rewrite, split_operator, without_build};

use super::Version;
use super::scan;
use crate::error::ParseError;
use crate::limits::{RANGE_BYTES_MAX, RANGE_COMPARATORS_MAX};
use crate::text::not_a_range;

/// How a range is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Accept and repair what registries carry: leading zeros, `1.2.3beta`, parts that make no sense.
    pub loose: bool,
    /// Pre-releases count like any other version. Used for `engines`, never for dependencies.
    pub include_prerelease: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    fn is_upward(self) -> bool {
        matches!(self, Operator::Greater | Operator::GreaterOrEqual)
    }

    fn is_downward(self) -> bool {
        matches!(self, Operator::Less | Operator::LessOrEqual)
    }

    fn is_inclusive(self) -> bool {
        matches!(self, Operator::GreaterOrEqual | Operator::LessOrEqual)
    }

    fn as_str(self) -> &'static str {
        match self {
            Operator::Equal => "",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        }
    }
}

/// One bound; `None` stands for "any version".
#[derive(Clone, Debug, PartialEq, Eq)]
struct Comparator(Option<(Operator, Version)>);

/// A range, as it stands in a dependency table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    alternatives: Vec<Vec<Comparator>>,
    include_prerelease: bool,
}

impl Range {
    /// Reads a range as npm reads dependency tables: loose, pre-releases only where asked for.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, Options { loose: true, include_prerelease: false })
    }

    /// Reads a range; tags (`latest`) and addresses are not ranges.
    pub fn parse_with(text: &str, options: Options) -> Result<Self, ParseError> {
        if text.len() > RANGE_BYTES_MAX {
            return Err(ParseError::TooLong { limit: RANGE_BYTES_MAX });
        }
        let raw = collapse_spaces(text);
        let mut alternatives = Vec::new();
        let mut comparators = 0;
        for part in raw.split("||") {
            let alternative = alternative(scan::trim(part), options)?;
            comparators += alternative.len();
            if comparators > RANGE_COMPARATORS_MAX {
                return Err(ParseError::TooLong { limit: RANGE_BYTES_MAX });
            }
            if !alternative.is_empty() {
                alternatives.push(alternative);
            }
        }
        if alternatives.is_empty() {
            return Err(not_a_range(text));
        }
        Ok(Self {
            alternatives: without_idle_alternatives(alternatives),
            include_prerelease: options.include_prerelease,
        })
    }

    /// Whether the range contains the version. A pre-release is only in a range that names a pre-release of the
    /// same `major.minor.patch`.
    pub fn satisfies(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|set| test_set(set, version, self.include_prerelease))
    }

    /// Whether some pre-release of these three numbers could be in the range. For nearly all ranges it cannot, which spares
    /// whoever goes through many versions reading the rest of their texts.
    pub fn admits_prereleases_of(&self, release: (u64, u64, u64)) -> bool {
        let names = |comparator: &Comparator| {
            matches!(&comparator.0, Some((_, bound))
                if !bound.pre.is_empty() && bound.release() == release)
        };
        self.include_prerelease || self.alternatives.iter().flatten().any(names)
    }

    /// Whether the range is `*` (or the empty text).
    pub fn is_any(&self) -> bool {
        self.alternatives.iter().any(|set| matches!(set.as_slice(), [Comparator(None)]))
    }

    /// The one version, where the range names exactly one.
    pub fn exact(&self) -> Option<&Version> {
        match self.alternatives.as_slice() {
            [set] => match set.as_slice() {
                [Comparator(Some((Operator::Equal, version)))] => Some(version),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether some version could be in both ranges.
    pub fn intersects(&self, other: &Range) -> bool {
        let pre = self.include_prerelease;
        self.alternatives.iter().filter(|set| satisfiable(set, pre)).any(|left| {
            other.alternatives.iter().filter(|set| satisfiable(set, pre)).any(|right| {
                left.iter().all(|one| right.iter().all(|two| one.intersects(two, pre)))
            })
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, set) in self.alternatives.iter().enumerate() {
            if index > 0 {
                formatter.write_str("||")?;
            }
            for (index, comparator) in set.iter().enumerate() {
                if index > 0 {
                    formatter.write_str(" ")?;
                }
                comparator.fmt(formatter)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Comparator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((operator, version)) => write!(formatter, "{}{version}", operator.as_str()),
            None => Ok(()),
        }
    }
}

impl Comparator {
    fn contains(&self, version: &Version) -> bool {
        let Some((operator, bound)) = &self.0 else { return true };
        let order = version.cmp(bound);
        match operator {
            Operator::Equal => order == Ordering::Equal,
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Greater => order == Ordering::Greater,
            Operator::GreaterOrEqual => order != Ordering::Less,
        }
    }

    /// `<0.0.0-0`: nothing is below it.
    fn is_null(&self) -> bool {
        matches!(&self.0, Some((Operator::Less, version))
            if version.release() == (0, 0, 0) && version.to_string() == "0.0.0-0")
    }

    fn intersects(&self, other: &Comparator, include_prerelease: bool) -> bool {
        let (Some((left, low)), Some((right, high))) = (&self.0, &other.0) else { return true };
        if *left == Operator::Equal {
            return test_set(std::slice::from_ref(other), low, include_prerelease);
        }
        if *right == Operator::Equal {
            return test_set(std::slice::from_ref(self), high, include_prerelease);
        }
        let nothing_below = |operator: &Operator, version: &Version| {
            *operator == Operator::Less
                && version.release() == (0, 0, 0)
                && (!include_prerelease || version.to_string() == "0.0.0-0")
        };
        if nothing_below(left, low) || nothing_below(right, high) {
            return false;
        }
        if left.is_upward() == right.is_upward() {
            return true;
        }
        match low.cmp(high) {
            Ordering::Equal => left.is_inclusive() && right.is_inclusive(),
            Ordering::Less => left.is_upward() && right.is_downward(),
            Ordering::Greater => left.is_downward() && right.is_upward(),
        }
    }
}

fn satisfiable(set: &[Comparator], include_prerelease: bool) -> bool {
    set.iter().enumerate().all(|(index, one)| {
        set[..index].iter().all(|other| one.intersects(other, include_prerelease))
    })
}

fn test_set(set: &[Comparator], version: &Version, include_prerelease: bool) -> bool {
    set.iter().all(|comparator| comparator.contains(version))
        && (version.pre.is_empty()
            || include_prerelease
            || set.iter().any(|comparator| {
                matches!(&comparator.0, Some((_, bound))
                    if !bound.pre.is_empty() && bound.release() == version.release())
            }))
}

/// Alternatives that allow nothing are dropped beside others; one that allows everything stands alone.
fn without_idle_alternatives(mut alternatives: Vec<Vec<Comparator>>) -> Vec<Vec<Comparator>> {
    if alternatives.len() == 1 {
        return alternatives;
    }
    let any = |set: &Vec<Comparator>| set.len() == 1 && set[0].0.is_none();
    if let Some(index) = alternatives.iter().position(any) {
        return vec![alternatives.swap_remove(index)];
    }
    if alternatives.iter().all(|set| set[0].is_null()) {
        alternatives.truncate(1);
    } else {
        alternatives.retain(|set| !set[0].is_null());
    }
    alternatives
}

fn collapse_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(scan::is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

fn alternative(text: &str, options: Options) -> Result<Vec<Comparator>, ParseError> {
    let text = without_build(text);
    let text = hyphen_range(&text, options).unwrap_or(text);
    let text = join_operators(&text);
    let text = join_marks(&text);
    let rewritten: Vec<String> = text.split(' ').map(|token| rewrite(token, options)).collect();
    let rewritten = rewritten.join(" ");
    let mut set: Vec<Comparator> = Vec::new();
    for piece in pieces(&rewritten) {
        let piece = if is_lowest(piece, options) { "" } else { piece };
        if let Some(comparator) = comparator(piece, options)?
            && !set.contains(&comparator)
        {
            set.push(comparator);
        }
    }
    if let Some(at) = set.iter().position(Comparator::is_null) {
        return Ok(vec![set.swap_remove(at)]);
    }
    if set.len() > 1 {
        set.retain(|comparator| comparator.0.is_some());
    }
    Ok(set)
}

/// The words of a text; an "any" between others leaves no trace, one at either end is an empty word, as when npm's
/// library joins the comparators and splits them again.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let edge = |is: bool| is.then_some("");
    let words = text.split(scan::is_space).filter(|word| !word.is_empty());
    edge(text.is_empty() || text.starts_with(scan::is_space))
        .into_iter()
        .chain(words)
        .chain(edge(text.ends_with(scan::is_space)))
}

fn is_lowest(piece: &str, options: Options) -> bool {
    piece == if options.include_prerelease { ">=0.0.0-0" } else { ">=0.0.0" }
}

/// One comparator; `None` where loose reading throws the text away.
fn comparator(text: &str, options: Options) -> Result<Option<Comparator>, ParseError> {
    if text.is_empty() {
        return Ok(Some(Comparator(None)));
    }
    let (operator, version) = split_operator(text);
    if scan::version(version, options.loose).is_none() {
        return match options.loose {
            true => Ok(None),
            false => Err(not_a_range(text)),
        };
    }
    let operator = match operator {
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        _ => Operator::Equal,
    };
    Ok(Some(Comparator(Some((operator, Version::parse_with(version, options.loose)?)))))
}
