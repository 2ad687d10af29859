//! The steps that turn the text of a range into plain comparators, in the order of npm's own library.
//!
//! Text in, text out; whether the result reads as a comparator is decided by the caller.

use super::Options;
use crate::npm::scan::{self, PartialParts};

/// Removes `+build` wherever it stands, so that it cannot take part in anything.
pub(super) fn without_build(text: &str) -> String {
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
pub(super) fn hyphen_range(text: &str, options: Options) -> Option<String> {
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
pub(super) fn join_operators(text: &str) -> String {
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
pub(super) fn join_marks(text: &str) -> String {
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

pub(super) fn rewrite(token: &str, options: Options) -> String {
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

pub(super) fn split_operator(text: &str) -> (&str, &str) {
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
