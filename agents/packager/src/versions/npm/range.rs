//! Ranges of npm versions: alternatives of comparators that all have to hold.
//!
//! The text is rewritten step by step in the order of npm's own library (hyphen ranges, spaces after operators,
//! carets, tildes, x-ranges, stars), because ill-formed text has a meaning only through that order.

use std::cmp::Ordering;
use std::fmt;

use super::scan::{self, PartialParts};
use super::{ParseError, Version, shorten};
use crate::limits::{NPM_RANGE_BYTES_MAX, NPM_RANGE_COMPARATORS_MAX};

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
        if text.len() > NPM_RANGE_BYTES_MAX {
            return Err(ParseError::TooLong { limit: NPM_RANGE_BYTES_MAX });
        }
        let raw = collapse_spaces(text);
        let mut alternatives = Vec::new();
        let mut comparators = 0;
        for part in raw.split("||") {
            let alternative = alternative(scan::trim(part), options)?;
            comparators += alternative.len();
            if comparators > NPM_RANGE_COMPARATORS_MAX {
                return Err(ParseError::TooLong { limit: NPM_RANGE_BYTES_MAX });
            }
            if !alternative.is_empty() {
                alternatives.push(alternative);
            }
        }
        if alternatives.is_empty() {
            return Err(ParseError::NotARange { text: shorten(text) });
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
    let mut set: Vec<Comparator> = Vec::new();
    for token in text.split(' ') {
        let rewritten = rewrite(token, options);
        for piece in rewritten.split(scan::is_space) {
            let piece = if is_lowest(piece, options) { "" } else { piece };
            let Some(comparator) = comparator(piece, options)? else { continue };
            if comparator.is_null() {
                return Ok(vec![comparator]);
            }
            if !set.contains(&comparator) {
                set.push(comparator);
            }
        }
    }
    if set.len() > 1 {
        set.retain(|comparator| comparator.0.is_some());
    }
    Ok(set)
}

/// Removes `+build` wherever it stands, so that it cannot take part in anything.
fn without_build(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('+') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let len = build_len(&after[1..]);
        if len == 0 {
            out.push('+');
        }
        rest = &after[1 + len..];
    }
    out.push_str(rest);
    out
}

fn build_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let word = |from: usize| {
        bytes[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-')
            .count()
    };
    let mut len = word(0);
    while len > 0 && bytes.get(len) == Some(&b'.') {
        match word(len + 1) {
            0 => break,
            more => len += 1 + more,
        }
    }
    len
}

/// `1.2 - 3.4` as two comparators.
fn hyphen_range(text: &str, options: Options) -> Option<String> {
    let at = text.match_indices('-').map(|(at, _)| at).find(|&at| {
        text[..at].ends_with(scan::is_space) && text[at + 1..].starts_with(scan::is_space)
    })?;
    let (left, right) = (scan::trim(&text[..at]), scan::trim(&text[at + 1..]));
    let (from, to) = (scan::partial(left, options.loose)?, scan::partial(right, options.loose)?);
    let zero = if options.include_prerelease { "-0" } else { "" };
    let lower = match (&from.minor, &from.patch) {
        _ if is_x(Some(from.major)) => String::new(),
        (minor, _) if is_x(*minor) => format!(">={}.0.0{zero}", from.major),
        (minor, patch) if is_x(*patch) => {
            format!(">={}.{}.0{zero}", from.major, minor.unwrap_or("0"))
        }
        _ if from.pre.is_some() => format!(">={left}"),
        _ => format!(">={left}{zero}"),
    };
    let upper = match (to.minor, to.patch) {
        _ if is_x(Some(to.major)) => String::new(),
        (minor, _) if is_x(minor) => format!("<{}.0.0-0", next(to.major)),
        (minor, patch) if is_x(patch) => {
            format!("<{}.{}.0-0", to.major, next(minor.unwrap_or("0")))
        }
        (minor, patch) => {
            let (minor, patch) = (minor.unwrap_or("0"), patch.unwrap_or("0"));
            match to.pre {
                Some(pre) => format!("<={}.{minor}.{patch}-{pre}", to.major),
                None if options.include_prerelease => {
                    format!("<{}.{minor}.{}-0", to.major, next(patch))
                }
                None => format!("<={right}"),
            }
        }
    };
    Some(scan::trim(&format!("{lower} {upper}")).to_owned())
}

/// `> 1.2.3` becomes `>1.2.3`; only where something like a version follows.
fn join_operators(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match operator_and_start(rest) {
            Some((kept, skipped, len)) => {
                out.push_str(&rest[..kept]);
                out.push_str(&rest[kept + skipped..len]);
                rest = &rest[len..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// Lengths, in bytes: leading space and operator, the space after it, and all up to the first character of the version.
fn operator_and_start(text: &str) -> Option<(usize, usize, usize)> {
    let space = |text: &str| text.len() - text.trim_start_matches(scan::is_space).len();
    let lead = space(text);
    let rest = &text[lead..];
    let mut operator = usize::from(rest.starts_with(['<', '>']));
    operator += usize::from(rest[operator..].starts_with('='));
    let kept = lead + operator;
    let skipped = space(&text[kept..]);
    let body = &text[kept + skipped..];
    let prefix =
        body.len() - body.trim_start_matches(|c| matches!(c, 'v' | '=') || scan::is_space(c)).len();
    let first = body[prefix..].chars().next()?;
    (first.is_ascii_digit() || matches!(first, 'x' | 'X' | '*')).then_some((
        kept,
        skipped,
        kept + skipped + prefix + 1,
    ))
}

/// `~ 1`, `~> 1` and `^ 1` lose their space.
fn join_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['~', '^']) {
        out.push_str(&rest[..=at]);
        let tilde = rest[at..].starts_with('~');
        rest = &rest[at + 1..];
        let after = if tilde { rest.strip_prefix('>').unwrap_or(rest) } else { rest };
        if after.starts_with(scan::is_space) {
            rest = after.trim_start_matches(scan::is_space);
        }
    }
    out.push_str(rest);
    out
}

fn is_x(part: Option<&str>) -> bool {
    part.is_none_or(|part| matches!(part, "x" | "X" | "*"))
}

/// The next number as text; digits too long to hold stay too long, so that the comparator is refused later.
fn next(digits: &str) -> String {
    match digits.parse::<u64>() {
        Ok(number) => (u128::from(number) + 1).to_string(),
        Err(_) => digits.to_owned(),
    }
}

fn rewrite(token: &str, options: Options) -> String {
    let token = without_build(token);
    if let Some(rest) = token.strip_prefix('^')
        && let Some(parts) = scan::partial(rest, options.loose)
    {
        return caret(&parts, options);
    }
    if let Some(rest) = token.strip_prefix('~')
        && let rest = rest.strip_prefix('>').unwrap_or(rest)
        && let Some(parts) = scan::partial(rest, options.loose)
    {
        return tilde(&parts, options);
    }
    without_star(x_range(&token, options).unwrap_or(token))
}

fn caret(parts: &PartialParts<'_>, options: Options) -> String {
    let zero = if options.include_prerelease { "-0" } else { "" };
    let major = parts.major;
    if is_x(Some(major)) {
        return String::new();
    }
    let Some(minor) = parts.minor.filter(|minor| !is_x(Some(minor))) else {
        return format!(">={major}.0.0{zero} <{}.0.0-0", next(major));
    };
    let Some(patch) = parts.patch.filter(|patch| !is_x(Some(patch))) else {
        return match major {
            "0" => format!(">={major}.{minor}.0{zero} <{major}.{}.0-0", next(minor)),
            _ => format!(">={major}.{minor}.0{zero} <{}.0.0-0", next(major)),
        };
    };
    let pre = parts.pre.map(|pre| format!("-{pre}")).unwrap_or_default();
    let upper = match (major, minor) {
        ("0", "0") => format!("<{major}.{minor}.{}-0", next(patch)),
        ("0", _) => format!("<{major}.{}.0-0", next(minor)),
        _ => format!("<{}.0.0-0", next(major)),
    };
    format!(">={major}.{minor}.{patch}{pre} {upper}")
}

fn tilde(parts: &PartialParts<'_>, options: Options) -> String {
    let zero = if options.include_prerelease { "-0" } else { "" };
    let major = parts.major;
    if is_x(Some(major)) {
        return String::new();
    }
    let Some(minor) = parts.minor.filter(|minor| !is_x(Some(minor))) else {
        return format!(">={major}.0.0{zero} <{}.0.0-0", next(major));
    };
    let upper = format!("<{major}.{}.0-0", next(minor));
    let Some(patch) = parts.patch.filter(|patch| !is_x(Some(patch))) else {
        return format!(">={major}.{minor}.0{zero} {upper}");
    };
    let pre = parts.pre.map(|pre| format!("-{pre}")).unwrap_or_default();
    format!(">={major}.{minor}.{patch}{pre} {upper}")
}

fn split_operator(text: &str) -> (&str, &str) {
    let mut len = usize::from(text.starts_with(['<', '>']));
    len += usize::from(text[len..].starts_with('='));
    text.split_at(len)
}

/// `1.x`, `>1`, `<=1.2`; `None` where the text is not of that shape or needs no change.
fn x_range(token: &str, options: Options) -> Option<String> {
    let (operator, rest) = split_operator(token);
    let parts = scan::partial(rest, options.loose)?;
    let (major, minor, patch) = (parts.major, parts.minor, parts.patch);
    let any_major = is_x(Some(major));
    if (any_major && !is_x(minor)) || (is_x(minor) && patch.is_some() && !is_x(patch)) {
        return None;
    }
    let any_minor = any_major || is_x(minor);
    if !any_minor && !is_x(patch) {
        return None;
    }
    let zero = if options.include_prerelease { "-0" } else { "" };
    if any_major {
        return Some(if matches!(operator, "<" | ">") { "<0.0.0-0" } else { "*" }.to_owned());
    }
    let minor = minor.filter(|_| !any_minor).unwrap_or("0");
    let above = |any_minor: bool| match any_minor {
        true => format!("{}.0.0", next(major)),
        false => format!("{major}.{}.0", next(minor)),
    };
    Some(match operator {
        ">" => format!(">={}{zero}", above(any_minor)),
        "<=" => {
            let upper = if any_minor { format!("{}.{minor}.0", next(major)) } else { above(false) };
            format!("<{upper}-0")
        }
        "<" => format!("<{major}.{minor}.0-0"),
        ">=" => format!(">={major}.{minor}.0{zero}"),
        _ => format!(">={major}.{minor}.0{zero} <{}-0", above(any_minor)),
    })
}

/// A star means "any" and is dropped with the operator before it.
fn without_star(text: String) -> String {
    let Some(at) = text.find('*') else { return text };
    let before = text[..at].trim_end_matches(scan::is_space);
    let before = before.strip_suffix('=').unwrap_or(before);
    let before = before.strip_suffix(['<', '>']).unwrap_or(before);
    format!("{before}{}", &text[at + 1..])
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
            false => Err(ParseError::NotARange { text: shorten(text) }),
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
