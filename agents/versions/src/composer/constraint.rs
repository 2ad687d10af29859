//! Constraints of Composer: carets, tildes, hyphens, wildcards and comparisons, joined by commas, spaces and `||`.
//!
//! As in its own parser the bounds are made as text and normalised again, because their meaning comes from there: a bound
//! without a stability has `-dev` added, so that it is below the pre-releases of its version.

use super::normalise::{self, Modifier, STABILITIES};
use super::{Details, write};
use crate::error::ParseError;
use crate::key::Key;
use crate::limits::RANGE_COMPARATORS_MAX;
use crate::operator::Operator;
use crate::text::{next_number, not_a_range};

/// One comparison; `None` holds for everything.
type Comparator = Option<(Operator, Key, Details)>;

/// Alternatives of comparisons that all have to hold.
#[derive(Clone, Debug)]
pub struct Constraints(Vec<Vec<Comparator>>);

impl Constraints {
    /// Reads `^1.2 || >=2.1 <3, !=2.5`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let mut alternatives = Vec::new();
        let mut count = 0;
        for alternative in split_or(text) {
            let mut all = Vec::new();
            for part in split_and(alternative) {
                all.extend(constraint(part).ok_or_else(|| not_a_range(text))?);
            }
            count += all.len();
            if count > RANGE_COMPARATORS_MAX {
                return Err(not_a_range(text));
            }
            alternatives.push(all);
        }
        Ok(Self(alternatives))
    }

    pub(crate) fn contains(&self, key: &Key, details: &Details) -> bool {
        self.0.iter().any(|all| {
            all.iter().all(|comparator| {
                let Some((operator, bound, of_bound)) = comparator else { return true };
                match (operator, details.is_branch, of_bound.is_branch) {
                    (Operator::NotEqual, true, _) | (Operator::NotEqual, _, true) => key != bound,
                    (_, true, true) => *operator == Operator::Equal && key == bound,
                    (_, false, false) => operator.holds(key.cmp(bound)),
                    // A branch and a version have nothing to do with each other.
                    _ => false,
                }
            })
        })
    }
}

/// At `|` or `||`, with the spaces around.
fn split_or(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('|') {
        parts.push(before.trim_end());
        rest = after.strip_prefix('|').unwrap_or(after).trim_start();
    }
    parts.push(rest);
    parts
}

/// At commas and spaces, but not at those of `1.0 - 2.0`, `>= 1.0` and `dev-main as 1.0`.
fn split_and(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        match separator(bytes, at) {
            Some(end) => {
                parts.push(&text[from..at]);
                (from, at) = (end, end);
            }
            None => at += 1,
        }
    }
    parts.push(&text[from..]);
    parts
}

/// `(?<!^|as|[=>< ,]) *(?<!-)[, ](?!-) *(?!,|as|$)` at `at`: where it ends.
fn separator(bytes: &[u8], at: usize) -> Option<usize> {
    let spaces = |from: usize| bytes[from..].iter().take_while(|byte| **byte == b' ').count();
    let before = &bytes[..at];
    if before.is_empty()
        || before.ends_with(b"as")
        || matches!(before.last(), Some(b'=' | b'>' | b'<' | b' ' | b','))
    {
        return None;
    }
    (0..=spaces(at)).rev().map(|skipped| at + skipped).find_map(|mark| {
        let is_mark = matches!(bytes.get(mark), Some(b',' | b' '))
            && bytes[mark - 1] != b'-'
            && bytes.get(mark + 1) != Some(&b'-');
        if !is_mark {
            return None;
        }
        (0..=spaces(mark + 1)).rev().map(|skipped| mark + 1 + skipped).find(|end| {
            let after = &bytes[*end..];
            !after.is_empty() && after[0] != b',' && !after.starts_with(b"as")
        })
    })
}

/// A version in a constraint: up to four numbers and a modifier, or `.x-dev`.
struct Written<'a> {
    numbers: [&'a str; 4],
    modifier: Modifier<'a>,
    is_branch: bool,
}

impl<'a> Written<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (body, build) = match text.split_once('+') {
            Some((body, build)) => (body, Some(build)),
            None => (text, None),
        };
        if build.is_some_and(|build| build.is_empty() || build.contains([' ', '\t'])) {
            return None;
        }
        let (numbers, rest) = normalise::numbers(body.strip_prefix(['v', 'V']).unwrap_or(body))?;
        if let Some(modifier) = Modifier::read(rest) {
            return Some(Self { numbers, modifier, is_branch: false });
        }
        let rest = rest.strip_prefix('.')?.strip_prefix(['x', 'X', '*'])?;
        let rest = rest.strip_prefix(['.', '-']).unwrap_or(rest);
        let modifier = Modifier::default();
        rest.eq_ignore_ascii_case("dev").then_some(Self { numbers, modifier, is_branch: true })
    }

    fn is_without_stability(&self) -> bool {
        self.modifier.stability.is_empty() && !self.modifier.is_dev && !self.is_branch
    }

    /// How many numbers are written.
    fn len(&self) -> usize {
        self.numbers.iter().rposition(|number| !number.is_empty()).map_or(1, |at| at + 1)
    }
}

/// The numbers with the one at `position` (from 1) replaced by the next, zeros after it, and `-dev`.
fn above(numbers: [&str; 4], position: usize) -> String {
    bound(numbers, position, true)
}

fn bound(numbers: [&str; 4], position: usize, next: bool) -> String {
    let part = |(at, number): (usize, &&str)| match at + 1 {
        place if place > position => "0".to_owned(),
        place if place == position && next => match number.trim_start_matches('0') {
            "" => "1".to_owned(),
            digits => next_number(digits),
        },
        _ => (*number).to_owned(),
    };
    let parts: Vec<String> = numbers.iter().enumerate().map(part).collect();
    parts.join(".") + "-dev"
}

fn comparator(operator: Operator, normal: &str) -> Comparator {
    let (key, details) = write(normal);
    Some((operator, key, details))
}

fn interval(lower: &str, upper: &str) -> Vec<Comparator> {
    vec![comparator(Operator::GreaterOrEqual, lower), comparator(Operator::Less, upper)]
}

/// One constraint, in the order in which Composer tries its forms; none where it is not one.
fn constraint(text: &str) -> Option<Vec<Comparator>> {
    let text = normalise::without_alias(text);
    let (text, stability) = without_flag(text);
    let text = without_reference(text);
    if let Some(everything) = wildcard(text) {
        return Some(everything);
    }
    if let Some(rest) = text.strip_prefix('~') {
        // The `>` of other ecosystems' `~>` is refused by name.
        if let Some(written) = Written::read(rest) {
            return tilde(text, &written);
        }
    }
    if let Some(written) = text.strip_prefix('^').and_then(Written::read) {
        return caret(text, &written);
    }
    x_range(text).or_else(|| hyphen(text)).or_else(|| comparison(text, stability))
}

/// Without `@stability`; nothing before it is a star. `@stable` says nothing.
fn without_flag(text: &str) -> (&str, Option<&str>) {
    let Some((version, flag)) = text.rsplit_once('@') else { return (text, None) };
    let is_known = STABILITIES.iter().any(|known| flag.eq_ignore_ascii_case(known));
    if !is_known || version.contains([',', ' ', '\t']) {
        return (text, None);
    }
    (if version.is_empty() { "*" } else { version }, Some(flag).filter(|flag| *flag != "stable"))
}

/// Without `#commit` after a branch.
fn without_reference(text: &str) -> &str {
    let Some((version, reference)) = text.split_once('#') else { return text };
    let is_branch = (normalise::split_prefix(version, "dev-").is_some() && version.len() > 4)
        || (version.len() > 6
            && version.is_char_boundary(version.len() - 6)
            && version[version.len() - 6..].eq_ignore_ascii_case(".x-dev"));
    match is_branch && !reference.is_empty() && !version.contains([',', ' ', '\t', '@']) {
        true => version,
        false => text,
    }
}

/// `*` is everything, `*.*` and `v*` every version that is not a branch.
fn wildcard(text: &str) -> Option<Vec<Comparator>> {
    let body = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let is_star = |part: &str| matches!(part, "x" | "X" | "*");
    body.split('.').all(is_star).then(|| {
        let is_bare = body.len() == 1 && body.len() == text.len();
        vec![if is_bare { None } else { comparator(Operator::GreaterOrEqual, "0.0.0.0-dev") }]
    })
}

/// The lower bound of a caret or a tilde: the version itself, below its pre-releases where none is named.
fn lower(text: &str, written: &Written<'_>) -> Option<String> {
    let suffix = if written.is_without_stability() { "-dev" } else { "" };
    normalise::version(&format!("{}{suffix}", &text[1..]))
}

fn tilde(text: &str, written: &Written<'_>) -> Option<Vec<Comparator>> {
    let position = written.len() + usize::from(written.is_branch);
    let upper = above(filled(written.numbers), (position - 1).max(1));
    Some(interval(&lower(text, written)?, &upper))
}

fn caret(text: &str, written: &Written<'_>) -> Option<Vec<Comparator>> {
    let [major, minor, patch, _] = written.numbers;
    let position = match (major, minor, patch) {
        (major, minor, _) if major != "0" || minor.is_empty() => 1,
        (_, minor, patch) if minor != "0" || patch.is_empty() => 2,
        _ => 3,
    };
    Some(interval(&lower(text, written)?, &above(filled(written.numbers), position)))
}

fn filled(numbers: [&str; 4]) -> [&str; 4] {
    numbers.map(|number| if number.is_empty() { "0" } else { number })
}

/// `1.2.*`
fn x_range(text: &str) -> Option<Vec<Comparator>> {
    let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
    let mut numbers = [""; 4];
    let mut len = 0;
    let mut stars = 0;
    for part in parts.by_ref() {
        match part {
            "x" | "X" | "*" if len > 0 => stars += 1,
            part if stars == 0 && len < 3 && crate::text::is_digits(part) => {
                numbers[len] = part;
                len += 1;
            }
            _ => return None,
        }
    }
    if stars == 0 {
        return None;
    }
    let (low, high) = (bound(filled(numbers), len, false), above(filled(numbers), len));
    Some(match low.as_str() {
        "0.0.0.0-dev" => vec![comparator(Operator::Less, &high)],
        low => interval(low, &high),
    })
}

/// `1.0 - 2.0`
fn hyphen(text: &str) -> Option<Vec<Comparator>> {
    let (from, rest) = text.split_once(' ')?;
    let to = rest.trim_start_matches(' ').strip_prefix("- ")?.trim_start_matches(' ');
    let (low, high) = (Written::read(from)?, Written::read(to)?);
    let suffix = if low.is_without_stability() { "-dev" } else { "" };
    let lower = comparator(Operator::GreaterOrEqual, &(normalise::version(from)? + suffix));
    let normal = normalise::version(to)?;
    let [_, minor, patch, _] = high.numbers;
    let is_whole = !minor.is_empty() && !patch.is_empty();
    let upper = if is_whole || !high.is_without_stability() {
        comparator(Operator::LessOrEqual, &normal)
    } else {
        let position = if minor.is_empty() { 1 } else { 2 };
        comparator(Operator::Less, &above(filled(high.numbers), position))
    };
    Some(vec![lower, upper])
}

/// `>=1.0`, `1.0`, `dev-main`, `main-dev`
fn comparison(text: &str, stability: Option<&str>) -> Option<Vec<Comparator>> {
    const OPERATORS: [(&str, Operator); 8] = [
        ("<>", Operator::NotEqual),
        ("!=", Operator::NotEqual),
        (">=", Operator::GreaterOrEqual),
        (">", Operator::Greater),
        ("<=", Operator::LessOrEqual),
        ("<", Operator::Less),
        ("==", Operator::Equal),
        ("=", Operator::Equal),
    ];
    let (operator, written) =
        crate::operator::split(text, &OPERATORS).unwrap_or((Operator::Equal, text.trim_start()));
    let mut normal = normalise::version(written).or_else(|| branch_backwards(written))?;
    if let (Some(stability), true) = (stability, operator != Operator::Equal)
        && is_stable(&normal)
    {
        normal += &format!("-{stability}");
    } else if matches!(operator, Operator::Less | Operator::GreaterOrEqual)
        && !ends_in_stability(&written.to_lowercase())
        && !written.starts_with("dev-")
    {
        normal += "-dev";
    }
    Some(vec![comparator(operator, &normal)])
}

/// `main-dev` is `dev-main`, whatever was meant.
fn branch_backwards(text: &str) -> Option<String> {
    let name = text.strip_suffix("-dev")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'/');
    text.bytes().all(is_plain).then(|| normalise::version(&format!("dev-{name}")))?
}

/// Whether a normal version names no stability below the release.
fn is_stable(normal: &str) -> bool {
    !normal.starts_with("dev-")
        && !normal.ends_with("-dev")
        && !["-alpha", "-beta", "-RC"].iter().any(|stability| normal.contains(stability))
}

/// Whether a text in lower case ends in a hyphen and a modifier. `rc` is none to Composer here, because it looks for `RC`.
fn ends_in_stability(text: &str) -> bool {
    text.match_indices('-').any(|(at, _)| {
        Modifier::read(&text[at + 1..]).is_some_and(|modifier| modifier.stability != "rc")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_those_of_composer() {
        let check = |text, expected: &[&str]| assert_eq!(split_and(text), expected, "{text}");
        check(">=1.0 <2.0", &[">=1.0", "<2.0"]);
        check(">= 1.0, < 2.0", &[">= 1.0", "< 2.0"]);
        check("1.0 - 2.0", &["1.0 - 2.0"]);
        check("dev-main as 1.0", &["dev-main as 1.0"]);
        check("1.0,", &["1.0,"]);
        check("1.0 ,2.0", &["1.0", "2.0"]);
    }
}
