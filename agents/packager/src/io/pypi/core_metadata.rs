//! METADATA files: headers in the manner of mail, of which resolution needs a handful.

use std::borrow::Cow;
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{PackageName, Requirement};

use agents_versions::shorten;

use crate::error::{Error, Kind};
use crate::io::limits::TABLE_ENTRIES_MAX;
use crate::metadata::pypi::CoreMetadata;

/// A requirement: the longest in use are about 1 KiB.
const REQUIREMENT_BYTES_MAX: usize = 8 << 10;
/// Parentheses within each other: markers are parsed by recursion.
const REQUIREMENT_DEPTH_MAX: usize = 32;
/// Mentions of extras in one marker: markers become decision diagrams, whose size can double with each.
const REQUIREMENT_EXTRAS_MAX: usize = 24;
/// A licence's name; longer texts are the licence itself.
const LICENSE_BYTES_MAX: usize = 200;

/// The part before the description.
pub(crate) fn headers(bytes: &[u8]) -> &[u8] {
    let mut start = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // Blank lines at the start do not end anything, and a line of spaces continues the field above it: licences
        // that are written out in full have such lines.
        let is_blank = matches!(line, b"\n" | b"\r\n");
        if is_blank && !bytes[..start].trim_ascii().is_empty() {
            break;
        }
        start += line.len();
    }
    &bytes[..start]
}

/// Whether it begins as metadata does, which a page of an overly helpful server does not.
pub(crate) fn looks_right(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = first.split(|byte| *byte == b':').next().unwrap_or_default();
    name.len() < first.len()
        && !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// The error for metadata that cannot be used; other versions of the project may do.
pub(crate) fn bad(file_name: &str, why: &str) -> Error {
    let message = format!("the metadata of `{file_name}` cannot be used: {why}");
    Error::new(Kind::Failed, "bad-metadata", message).hint("choose another version of the package")
}

/// Reads the headers of a distribution that should be `name` at `version`.
pub(crate) fn parse(
    headers: &[u8],
    name: &PackageName,
    version: &Version,
) -> Result<CoreMetadata, String> {
    let text = String::from_utf8_lossy(headers);
    let mut said_name = None;
    let mut said_version = None;
    let mut license = None;
    let mut license_expression = None;
    let mut metadata = CoreMetadata {
        name: name.clone(),
        version: version.clone(),
        requires_dist: Vec::new(),
        requires_python: None,
        extras: Vec::new(),
        license: None,
    };
    for (field, value) in fields(text.trim_start_matches('\u{feff}')) {
        match field.to_ascii_lowercase().as_str() {
            "name" => said_name = said_name.or(Some(value)),
            "version" => said_version = said_version.or(Some(value)),
            "requires-dist" if metadata.requires_dist.len() >= TABLE_ENTRIES_MAX => {
                return Err(format!("it has more than {TABLE_ENTRIES_MAX} requirements"));
            }
            "requires-dist" => metadata.requires_dist.push(requirement(&value)?),
            "requires-python" => metadata.requires_python = specifiers(&value),
            "provides-extra" if metadata.extras.len() < TABLE_ENTRIES_MAX => {
                metadata.extras.push(shorten(&value));
            }
            "license-expression" => license_expression = license_expression.or(Some(value)),
            "license" => license = license.or(Some(value)),
            _ => {}
        }
    }
    let said_name = said_name.ok_or("it has no name")?;
    if !PackageName::from_str(&said_name).is_ok_and(|said| said == *name) {
        return Err(format!("it is about `{}`", shortened(&said_name)));
    }
    let said_version = said_version.ok_or("it has no version")?;
    if !Version::from_str(&said_version).is_ok_and(|said| said == *version) {
        return Err(format!("it is about version `{}`", shortened(&said_version)));
    }
    let usable = |text: &String| {
        !text.is_empty()
            && !text.contains(char::is_control)
            && text.len() <= LICENSE_BYTES_MAX
            && text != "UNKNOWN"
    };
    metadata.license = license_expression.filter(usable).or(license.filter(usable));
    Ok(metadata)
}

/// The name and the version that headers say.
pub(crate) fn said(headers: &[u8]) -> (Option<String>, Option<String>) {
    let text = String::from_utf8_lossy(headers);
    let all = fields(text.trim_start_matches('\u{feff}'));
    let first = |name: &str| {
        let mut values = all.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value.clone())
    };
    (first("name"), first("version"))
}

/// Header fields; continuation lines stay separated by a line end.
fn fields(text: &str) -> Vec<(&str, String)> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim_end(), value.trim().to_owned()));
        } else if line.is_empty() && !fields.is_empty() {
            break;
        }
    }
    fields
}

/// One requirement, with the mistakes put right that are frequent in published metadata.
pub(crate) fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.replace('\n', " ");
    let refused = |why: &str| Err(format!("the requirement `{}` {why}", shortened(&text)));
    if text.len() > REQUIREMENT_BYTES_MAX {
        return refused("is too long");
    }
    if depth(&text) > REQUIREMENT_DEPTH_MAX
        || text.matches("extra").count() > REQUIREMENT_EXTRAS_MAX
    {
        return refused("is too complicated");
    }
    // The parser replaces these by the values of environment variables, which strangers must not get at.
    if text.contains("${") {
        return refused("refers to an environment variable");
    }
    parse_requirement(&text).or_else(|first| {
        let (head, marker) =
            text.split_once(';').map_or((&*text, None), |(head, marker)| (head, Some(marker)));
        let mut repaired = repair(head);
        if let Some(marker) = marker {
            repaired.push_str(" ;");
            repaired.push_str(marker);
        }
        parse_requirement(&repaired).or_else(|_| refused(&format!("cannot be read: {first}")))
    })
}

fn parse_requirement(text: &str) -> Result<Requirement, String> {
    if !has_whole_names(text) {
        return Err("a name ends in the middle".to_owned());
    }
    if !has_meaningful_comparisons(text) {
        return Err("`~=` compares versions only".to_owned());
    }
    Requirement::from_str(&with_plain_marker(text)?).map_err(|error| error.message.to_string())
}

/// The same with spaces in its marker where other white space stands. Nothing but ASCII belongs there (PEP 508), not between
/// quotes either; the parser panics at some of the rest.
fn with_plain_marker(text: &str) -> Result<Cow<'_, str>, String> {
    let Some((head, marker)) = text.split_once(';').filter(|(_, marker)| !marker.is_ascii()) else {
        return Ok(Cow::Borrowed(text));
    };
    let marker: String = marker.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    match marker.is_ascii() {
        true => Ok(Cow::Owned(format!("{head};{marker}"))),
        false => Err("a character that is not ASCII stands behind the `;`".to_owned()),
    }
}

/// Whether the names of the package and its extras end as names do; the parser panics where they do not.
fn has_whole_names(text: &str) -> bool {
    let is_whole = |name: &str| !name.trim_end().ends_with(['.', '-', '_']);
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let text = text.trim_start();
    let (name, rest) = text.split_at(text.find(|c| !in_name(c)).unwrap_or(text.len()));
    let extras = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next());
    is_whole(name) && extras.unwrap_or_default().split([',', ' ', '\t']).all(is_whole)
}

/// Whether `~=` in the marker stands behind a version. Elsewhere the parser may panic, and worse, do so while it
/// holds the lock of the table of all markers, after which no marker can be parsed in this process any more.
fn has_meaningful_comparisons(text: &str) -> bool {
    let versions = ["python_version", "python_full_version", "implementation_version"];
    let Some((_, marker)) = text.split_once(';') else { return true };
    let mut before = marker.match_indices("~=").map(|(index, _)| marker[..index].trim_end());
    before.all(|before| versions.iter().any(|version| before.ends_with(version)))
}

/// Version specifiers, with the same repairs; `None` where that does not help.
pub(crate) fn specifiers(text: &str) -> Option<VersionSpecifiers> {
    if text.len() > REQUIREMENT_BYTES_MAX {
        return None;
    }
    VersionSpecifiers::from_str(text).or_else(|_| VersionSpecifiers::from_str(&repair(text))).ok()
}

/// Puts right what older tools let pass: missing or trailing commas, stray quotes, `.*` after an ordering,
/// a number with a trailing dot, spaces within an operator.
fn repair(text: &str) -> String {
    let cleaned = text
        .replace(['\'', '"'], "")
        .replace("= =", "==")
        .replace("> =", ">=")
        .replace("< =", "<=");
    let mut result = String::new();
    let mut rest = cleaned.as_str();
    let is_operator = |c: char| "<>=!~".contains(c);
    while let Some(start) = rest.find(is_operator) {
        let (before, from) = rest.split_at(start);
        let separated = before.trim_end().ends_with([',', '(']) || result.is_empty();
        let before = if separated { before } else { before.trim_end() };
        result.push_str(before);
        if !separated {
            result.push(',');
        }
        let operator_end = from.find(|c| !is_operator(c)).unwrap_or(from.len());
        let (operator, after) = from.split_at(operator_end);
        let after = after.trim_start();
        let is_end = |c: char| is_operator(c) || c.is_whitespace() || ",();".contains(c);
        let (mut version, after) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        if !matches!(operator, "==" | "!=") {
            version = version.strip_suffix(".*").unwrap_or(version);
        }
        result.push_str(operator);
        result.push_str(version.trim_end_matches('.'));
        rest = after;
    }
    result.push_str(rest);
    let trimmed = result.trim_end();
    let (body, close) = trimmed.strip_suffix(')').map_or((trimmed, ""), |body| (body, ")"));
    format!("{}{close}", body.trim_end().trim_end_matches(','))
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn shortened(text: &str) -> String {
    text.chars().take(120).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
