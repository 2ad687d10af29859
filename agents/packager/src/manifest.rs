//! What people keep in their projects: manifests, read into types and edited without disturbing what they wrote.
//!
//! Text in, text out: comments, order, indentation, line ends, the byte order mark and the last line end stay as they
//! are. Nothing here opens a file; a path is only ever part of a message.

pub mod address;
pub mod cargo_toml;
pub mod package_json;
pub mod pyproject;
pub mod requirements;

use crate::error::{Error, Kind};
use crate::limits::MANIFEST_BYTES_MAX;

/// The mark that some editors put at the beginning of UTF-8 text.
const BOM: char = '\u{feff}';

/// The text without its byte order mark, and whether it had one. Refuses what is too large.
fn without_bom<'a>(file: &str, text: &'a str) -> Result<(&'a str, bool), Error> {
    if text.len() > MANIFEST_BYTES_MAX {
        let message = format!("`{file}` is longer than {MANIFEST_BYTES_MAX} bytes");
        return Err(Error::new(Kind::Failed, "manifest-too-large", message));
    }
    Ok(match text.strip_prefix(BOM) {
        Some(rest) => (rest, true),
        None => (text, false),
    })
}

fn with_bom(text: String, bom: bool) -> String {
    if bom { format!("{BOM}{text}") } else { text }
}

/// A manifest that does not read, with the place and what is wrong there.
fn syntax_error(file: &str, line: usize, column: usize, problem: &str) -> Error {
    Error::new(
        Kind::Failed,
        "manifest-syntax",
        format!("`{file}` line {line} column {column}: {problem}"),
    )
    .hint(format!("correct `{file}`, then run the command again; nothing was changed"))
}

/// A manifest that reads but does not mean anything.
fn invalid(file: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::Failed, "manifest-invalid", format!("`{file}`: {problem}"))
        .hint(format!("correct `{file}`, then run the command again; nothing was changed"))
}

/// Line and column, both from 1, of a byte offset; the column counts characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Reads one Python requirement; an address in it is spelled in one way. The error is for people, and comes after the place.
fn python_requirement(
    line: &str,
    names: address::Names<'_>,
) -> Result<pep508_rs::Requirement, String> {
    let shown = || agents_versions::shorten(&address::masked(line));
    let spelled = match address::editable(line) {
        Some(target) => address::spelled_editable(target, names).map(Some),
        None => address::spelled(line, names),
    };
    let spelled = spelled.map_err(|why| format!("`{}` {why}", shown()))?;
    let parsed = address::parsed(spelled.as_deref().unwrap_or(line));
    let requirement = parsed.map_err(|text| {
        let problem = text.lines().next().unwrap_or("not a requirement");
        format!("{} in `{}`", address::masked(problem), shown())
    })?;
    address::problem(&requirement).map_or(Ok(requirement), Err)
}

/// Reads TOML for editing; an error names the place.
fn read_toml(file: &str, text: &str) -> Result<toml_edit::DocumentMut, Error> {
    text.parse::<toml_edit::DocumentMut>().map_err(|error| {
        let (line, column) = error.span().map_or((1, 1), |span| line_and_column(text, span.start));
        let problem = error.message().lines().next().unwrap_or("not valid TOML").to_owned();
        syntax_error(file, line, column, &problem)
    })
}

/// TOML keeps line ends as written, but what is added has `\n`: brings all to what the file uses.
fn with_line_ends_of(original: &str, edited: String) -> String {
    if original.contains("\r\n") {
        edited.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        edited
    }
}
