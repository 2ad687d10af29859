//! NuGet's versions and ranges, as `NuGet.Versioning` reads them: one to four numbers, labels as in semver but without
//! regard to case, intervals in brackets, floating versions.

use crate::error::ParseError;
use crate::key::{Key, KeyWriter};
use crate::limits::NUGET_NUMBER_MAX;
use crate::text::{is_digits, not_a_range, not_a_version, shorten};

const SHAPE: &str = "one to four numbers, then `-label`, then `+build`";
/// Stands before labels; a release has none and is above.
const PRERELEASE: u8 = 1;
const RELEASE: u8 = 2;
const END: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;

/// What a floating range looks at.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    numbers: [u64; 4],
    /// The labels as written, in lower case; empty for a release.
    labels: Box<str>,
}

/// Reads a version. Build metadata never takes part in anything.
pub(crate) fn parse(text: &str) -> Result<(Key, Details), ParseError> {
    let (rest, build) = match text.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (text, None),
    };
    let (release, labels) = match rest.split_once('-') {
        Some((release, labels)) => (release, Some(labels)),
        None => (rest, None),
    };
    let numbers = read_numbers(release, text)?;
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let has_zeros = |label: &str| label.len() > 1 && label.starts_with('0') && is_digits(label);
    if labels.is_some_and(|all| all.split('.').any(|label| !is_label(label) || has_zeros(label)))
        || build.is_some_and(|all| !all.split('.').all(is_label))
    {
        return Err(not_a_version(text, SHAPE));
    }
    let labels = labels.unwrap_or("").to_ascii_lowercase();
    Ok((write(numbers, &labels), Details { numbers, labels: labels.into() }))
}

fn read_numbers(release: &str, text: &str) -> Result<[u64; 4], ParseError> {
    let mut numbers = [0; 4];
    for (at, part) in release.split('.').enumerate() {
        let number = numbers.get_mut(at).filter(|_| is_digits(part));
        let number = number.ok_or_else(|| not_a_version(text, SHAPE))?;
        let digits = part.trim_start_matches('0');
        *number = if digits.is_empty() { Some(0) } else { digits.parse().ok() }
            .filter(|number| *number <= NUGET_NUMBER_MAX)
            .ok_or_else(|| ParseError::NumberTooLarge {
                text: shorten(text),
                limit: NUGET_NUMBER_MAX,
            })?;
    }
    Ok(numbers)
}

fn write(numbers: [u64; 4], labels: &str) -> Key {
    let mut key = KeyWriter::with_capacity(24 + labels.len() * 2);
    for number in numbers {
        key.integer(number);
    }
    if labels.is_empty() {
        key.mark(RELEASE);
        return key.finish();
    }
    key.mark(PRERELEASE);
    for label in labels.split('.') {
        // What .NET reads as an `int` is a number, a sign included; anything else is a text.
        match label.parse::<i32>() {
            Ok(number) => {
                let above_lowest = i64::from(number) - i64::from(i32::MIN);
                key.mark(NUMBER).integer(above_lowest.unsigned_abs());
            }
            Err(_) => {
                key.mark(TEXT).text(label.bytes().map(|byte| byte.to_ascii_uppercase()));
            }
        }
    }
    key.mark(END);
    key.finish()
}

#[derive(Clone, Debug)]
struct Bound {
    key: Key,
    is_inclusive: bool,
}

/// How far a floating version leaves open what it is: so many numbers have to be its own.
#[derive(Clone, Debug)]
struct Floating {
    numbers: [u64; 4],
    fixed: usize,
    /// What the labels of a pre-release have to begin with; none where pre-releases are out.
    labels: Option<Box<str>>,
}

impl Floating {
    fn contains(&self, details: &Details) -> bool {
        let is_allowed = details.labels.is_empty()
            || self.labels.as_ref().is_some_and(|prefix| details.labels.starts_with(&**prefix));
        is_allowed && self.numbers[..self.fixed] == details.numbers[..self.fixed]
    }
}

/// An interval, or a floating version alone.
#[derive(Clone, Debug)]
pub struct Range {
    lower: Option<Bound>,
    upper: Option<Bound>,
    floating: Option<Floating>,
}

impl Range {
    /// Reads `1.0` (that or above), `[1.0,2.0)`, `[1.0]`, `1.*`, `1.0.0-beta.*`. In brackets a floating version is the bound
    /// that it stands for: there floating is about which version is preferred, not about which is allowed.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        if !text.starts_with(['[', '(']) {
            let (lower, floating) = lower_bound(text, true, text)?;
            return Ok(Self { lower, upper: None, floating });
        }
        let from_inclusive = text.starts_with('[');
        let to_inclusive = text.ends_with(']');
        if text.len() < 2 || !text.ends_with([']', ')']) {
            return Err(not_a_range(text));
        }
        let inner = &text[1..text.len() - 1];
        let (from, to) = match inner.split_once(',') {
            Some((from, to)) if !to.contains(',') => (from, to),
            None if from_inclusive && to_inclusive => (inner, inner),
            _ => return Err(not_a_range(text)),
        };
        if from.is_empty() && to.is_empty() {
            return Err(not_a_range(text));
        }
        let (lower, _) = lower_bound(from.trim(), from_inclusive, text)?;
        let upper = match to.trim() {
            "" => None,
            to => Some(Bound { key: parse(to)?.0, is_inclusive: to_inclusive }),
        };
        if let (Some(lower), Some(upper)) = (&lower, &upper) {
            let is_half_open = from_inclusive != to_inclusive;
            if lower.key > upper.key || (lower.key == upper.key && is_half_open) {
                let reason = "the interval is empty";
                return Err(ParseError::Senseless { text: shorten(text), reason });
            }
        }
        Ok(Self { lower, upper, floating: None })
    }

    pub(crate) fn contains(&self, key: &Key, details: &Details) -> bool {
        let at = |bound: &Bound| bound.is_inclusive && *key == bound.key;
        self.lower.as_ref().is_none_or(|bound| *key > bound.key || at(bound))
            && self.upper.as_ref().is_none_or(|bound| *key < bound.key || at(bound))
            && self.floating.as_ref().is_none_or(|floating| floating.contains(details))
    }
}

fn lower_bound(
    from: &str,
    is_inclusive: bool,
    text: &str,
) -> Result<(Option<Bound>, Option<Floating>), ParseError> {
    if from.is_empty() {
        // Nothing at all is refused; nothing before a comma is no bound.
        return if text.is_empty() { Err(ParseError::Empty) } else { Ok((None, None)) };
    }
    if !from.contains('*') {
        return Ok((Some(Bound { key: parse(from)?.0, is_inclusive }), None));
    }
    let (lowest, floating) = float(from).ok_or_else(|| not_a_range(text))?;
    Ok((Some(Bound { key: parse(&lowest)?.0, is_inclusive }), Some(floating)))
}

/// The lowest version of a floating one, and what floats: a number at the end, the labels, or both.
fn float(text: &str) -> Option<(String, Floating)> {
    if text.contains('+') {
        return None;
    }
    let (release, labels) = match text.split_once('-') {
        Some((release, labels)) => (release, Some(labels)),
        None => (text, None),
    };
    let floats = release.ends_with('*');
    let release = match release.strip_suffix('*') {
        Some(fixed) if fixed.is_empty() || fixed.ends_with('.') => format!("{fixed}0"),
        Some(_) => return None,
        None => release.to_owned(),
    };
    let prefix = match labels {
        None => None,
        // A star at the end of the labels, and nowhere else in them.
        Some(labels) => Some(labels.strip_suffix('*').filter(|prefix| !prefix.contains('*'))?),
    };
    if release.contains('*') || (!floats && prefix.is_none()) {
        return None;
    }
    let parts = release.split('.').count();
    let fixed = if floats { parts.checked_sub(1)? } else { 4 };
    let lowest = match prefix {
        None => release.clone(),
        Some(prefix) if prefix.is_empty() || prefix.ends_with('.') => {
            format!("{release}-{prefix}0")
        }
        Some(prefix) => format!("{release}-{prefix}"),
    };
    let numbers = read_numbers(&release, text).ok()?;
    let labels = prefix.map(|prefix| prefix.to_ascii_lowercase().into());
    Some((lowest, Floating { numbers, fixed, labels }))
}
