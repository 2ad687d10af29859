//! `requirements.txt`: read line by line as pip does, and edited line by line.
//!
//! [`read`] is for one file by itself and refuses includes (`-r`, `-c`), because what another file says would be lost
//! silently; [`read_all`] follows them. What is saved for a bare name is `name>=VERSION`, as uv does: it installs what was tested or newer, and never blocks.

use std::ops::Range;

use pep508_rs::Requirement;

use super::address::{self, Names};
use super::{invalid, syntax_error, with_bom, without_bom};
use crate::error::{Error, Kind};
use crate::spec::{Spec, normalize_name};
use agents_versions::shorten;

mod include;
mod options;
#[cfg(test)]
mod tests;

pub use include::{Everything, read_all};
pub use options::{Named, Places, named, places};

/// What a requirements file asks for.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// The requirements, in the order of the file.
    pub wanted: Vec<Wanted>,
    /// Options for the installer (`--index-url ...`, `--pre`), as written, with their line.
    pub options: Vec<(usize, String)>,
}

/// One requirement.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The requirement, without its options.
    pub requirement: Requirement,
    /// The digests that it allows (`sha256:...`); empty where it allows any.
    pub hashes: Vec<String>,
    /// Its line, from 1.
    pub line: usize,
}

/// A line with its continuations.
struct Logical {
    /// The bytes in the file, the line end included.
    span: Range<usize>,
    line: usize,
    /// The text without comment and continuations, trimmed.
    body: String,
}

fn logical_lines(text: &str) -> Vec<Logical> {
    let mut lines = Vec::new();
    let mut open: Option<Logical> = None;
    let mut offset = 0;
    for (at, physical) in text.split_inclusive('\n').enumerate() {
        let content = physical.trim_end_matches(['\n', '\r']);
        let mut current = open.take().unwrap_or(Logical {
            span: offset..offset,
            line: at + 1,
            body: String::new(),
        });
        offset += physical.len();
        current.span.end = offset;
        // A comment ends a continuation, as in pip.
        let comment = content.trim_start().starts_with('#');
        match content.strip_suffix('\\').filter(|_| !comment) {
            Some(part) => {
                current.body.push_str(part);
                open = Some(current);
            }
            None => {
                current.body.push_str(content);
                current.body = without_comment(&current.body).trim().to_owned();
                lines.push(current);
            }
        }
    }
    lines.extend(open.map(|mut last| {
        last.body = without_comment(&last.body).trim().to_owned();
        last
    }));
    lines
}

fn without_comment(text: &str) -> &str {
    &text[..comment_start(text).unwrap_or(text.len())]
}

/// A `#` begins a comment at the beginning of the line or after a space.
fn comment_start(text: &str) -> Option<usize> {
    text.match_indices('#')
        .map(|(at, _)| at)
        .find(|&at| text[..at].chars().next_back().is_none_or(char::is_whitespace))
}

/// Reads a requirements file. `file` is for messages.
pub fn read(file: &str, text: &str) -> Result<Requirements, Error> {
    read_lines(file, text, &address::unknown, &mut |logical, _| {
        let message = format!(
            "`{file}` line {}: `{}` includes another file, which is not followed",
            logical.line,
            shorten(&logical.body)
        );
        Err(Error::new(Kind::Usage, "manifest-include", message)
            .hint("put the requirements of both files into one, or name the other file by itself"))
    })
}

/// What to do with a line that includes another file.
type Including<'a> = &'a mut dyn FnMut(&Logical, Included<'_>) -> Result<(), Error>;

/// Another file that a line names.
struct Included<'t> {
    path: &'t str,
    /// Whether it holds constraints only.
    constrains: bool,
}

fn read_lines(
    file: &str,
    text: &str,
    names: Names<'_>,
    including: Including<'_>,
) -> Result<Requirements, Error> {
    let (text, _) = without_bom(file, text)?;
    let mut requirements = Requirements::default();
    for logical in logical_lines(text) {
        if logical.body.is_empty() {
            continue;
        }
        if !logical.body.starts_with('-') || address::editable(&logical.body).is_some() {
            requirements.wanted.push(read_wanted(file, &logical, names)?);
        } else if let Some(included) = included(&logical.body) {
            including(&logical, included)?;
        } else {
            requirements.options.push((logical.line, logical.body));
        }
    }
    Ok(requirements)
}

/// The file that an option names: `-r other.txt`, `-rother.txt`, `--requirement=other.txt`.
fn included(body: &str) -> Option<Included<'_>> {
    let forms = [("--requirement", false), ("-r", false), ("--constraint", true), ("-c", true)];
    forms.into_iter().find_map(|(option, constrains)| {
        let rest = body.strip_prefix(option)?;
        let is_long = option.starts_with("--");
        // `--requirements` and the like are other options; `-rother.txt` is one word to pip.
        let path = match rest.trim_start_matches([' ', '\t']) {
            path if path.len() < rest.len() => path.strip_prefix('=').unwrap_or(path),
            path if is_long && !path.is_empty() => path.strip_prefix('=')?,
            path => path,
        };
        Some(Included { path: path.trim().trim_matches(['"', '\'']), constrains })
    })
}

fn read_wanted(file: &str, logical: &Logical, names: Names<'_>) -> Result<Wanted, Error> {
    let (body, options) = split_options(&logical.body);
    let line = logical.line;
    let requirement = super::python_requirement(body, names).map_err(|problem| {
        let is_plain = address::editable(body).is_none();
        match is_plain && matches!(address::spelled(body, names), Ok(None)) {
            true => syntax_error(file, line, 1, &problem),
            false => invalid(file, format!("line {line}: {problem}")),
        }
    })?;
    let mut hashes = Vec::new();
    let mut words = options.split_whitespace();
    while let Some(word) = words.next() {
        match word.strip_prefix("--hash") {
            Some("") => hashes.extend(words.next().map(str::to_owned)),
            Some(rest) => hashes.extend(rest.strip_prefix('=').map(str::to_owned)),
            None => {}
        }
    }
    Ok(Wanted { requirement, hashes, line })
}

/// The requirement and the options behind it.
fn split_options(body: &str) -> (&str, &str) {
    match body.find(" --").or_else(|| body.find("\t--")) {
        Some(at) => (body[..at].trim_end(), body[at..].trim_start()),
        None => (body, ""),
    }
}

fn name_of(body: &str, names: Names<'_>) -> Option<String> {
    if let Some(name) = address::name_of(split_options(body).0, names) {
        return Some(name);
    }
    let len = body
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(body.len());
    normalize_name(crate::ecosystem::Ecosystem::Pypi, &body[..len]).ok()
}

/// The line for a spec: as it was asked, or at least the version that was chosen.
pub fn saved_requirement(spec: &Spec, resolved: &str) -> String {
    let extras = match spec.extras.is_empty() {
        true => String::new(),
        false => format!("[{}]", spec.extras.join(",")),
    };
    if spec.requirement.is_empty() {
        // A lower bound cannot name a local version (`+cpu`).
        let public = resolved.split('+').next().unwrap_or(resolved);
        return format!("{}{extras}>={public}", spec.name);
    }
    format!("{}{extras}{}", spec.name, spec.requirement)
}

/// The text with requirements added or changed; `None` is a file that does not exist yet.
///
/// A changed line keeps its marker and its comment. A line with hashes is refused: the file is another tool's output.
/// So is a new line in a file with hashes: pip wants them on every line as soon as one has them.
pub fn add(
    file: &str,
    text: Option<&str>,
    wanted: &[&str],
    names: Names<'_>,
) -> Result<String, Error> {
    let (text, bom) = without_bom(file, text.unwrap_or_default())?;
    let mut text = text.to_owned();
    for line in wanted {
        let name = name_of(line, names)
            .ok_or_else(|| invalid(file, format!("`{}` has no name", shorten(line))))?;
        text = add_one(file, &text, (&name, line), names)?;
    }
    Ok(with_bom(text, bom))
}

fn add_one(
    file: &str,
    text: &str,
    (name, wanted): (&str, &str),
    names: Names<'_>,
) -> Result<String, Error> {
    let lines = logical_lines(text);
    let is_same = |logical: &&Logical| name_of(&logical.body, names).as_deref() == Some(name);
    let same: Vec<&Logical> = lines.iter().filter(is_same).collect();
    match same.as_slice() {
        [] => match lines.iter().find(|logical| has_hash(logical)) {
            Some(logical) => Err(generated(file, logical)),
            None => Ok(append(text, wanted)),
        },
        [logical] => replace(file, text, logical, wanted),
        [first, second, ..] => Err(invalid(
            file,
            format!(
                "`{name}` stands in line {} and in line {}; change it by hand",
                first.line, second.line
            ),
        )),
    }
}

/// Whether the line puts pip into its mode of hashes.
fn has_hash(logical: &Logical) -> bool {
    let word = |word: &str| word == "--hash" || word.starts_with("--hash=");
    split_options(&logical.body).1.split_whitespace().any(word)
}

fn generated(file: &str, logical: &Logical) -> Error {
    let (body, options) = split_options(&logical.body);
    let message = format!(
        "`{file}` line {}: `{}` has `{}`, so the file is made by another tool",
        logical.line,
        shorten(body.split(';').next().unwrap_or(body).trim_end()),
        shorten(options.split(['=', ' ', '\t']).next().unwrap_or(options))
    );
    Error::new(Kind::Usage, "generated-manifest", message)
        .hint("change the file that it is made from, and make it again")
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn append(text: &str, wanted: &str) -> String {
    let end = line_end(text);
    if text.is_empty() || text.ends_with('\n') {
        return format!("{text}{wanted}{end}");
    }
    // A file without a last line end keeps none.
    format!("{text}{end}{wanted}")
}

fn replace(file: &str, text: &str, logical: &Logical, wanted: &str) -> Result<String, Error> {
    let (body, options) = split_options(&logical.body);
    let (old, marker) = match body.split_once(';') {
        Some((old, marker)) => (old.trim_end(), Some(marker.trim())),
        None => (body, None),
    };
    if old == wanted {
        return Ok(text.to_owned());
    }
    if !options.is_empty() {
        return Err(generated(file, logical));
    }
    let written = &text[logical.span.clone()];
    let content = written.trim_end_matches(['\n', '\r']);
    let indent = &content[..content.len() - content.trim_start().len()];
    let comment = match comment_start(content) {
        Some(at) if !content.contains('\\') => {
            let before = content[..at].trim_end().len();
            &content[before..]
        }
        _ => "",
    };
    let marker = marker.map(|marker| format!("; {marker}")).unwrap_or_default();
    let line = format!("{indent}{wanted}{marker}{comment}{}", &written[content.len()..]);
    Ok(format!("{}{line}{}", &text[..logical.span.start], &text[logical.span.end..]))
}

/// The text without the lines of these names.
pub fn remove(file: &str, text: &str, removed: &[&str], names: Names<'_>) -> Result<String, Error> {
    let (text, bom) = without_bom(file, text)?;
    let removed: Vec<String> = removed.iter().filter_map(|name| name_of(name, names)).collect();
    let mut out = String::with_capacity(text.len());
    let mut removed_last = false;
    for logical in logical_lines(text) {
        removed_last = name_of(&logical.body, names).is_some_and(|name| removed.contains(&name));
        if !removed_last {
            out.push_str(&text[logical.span]);
        }
    }
    if removed_last && !text.ends_with('\n') {
        let len = out.trim_end_matches(['\n', '\r']).len();
        out.truncate(len);
    }
    Ok(with_bom(out, bom))
}
