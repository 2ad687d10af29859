//! Which names an ecosystem allows, and how it writes them. The rules are those of the ecosystems' own clients.

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::limits::{
    CRATE_NAME_BYTES_MAX, DEBIAN_NAME_BYTES_MAX, NPM_NAME_BYTES_MAX, PYPI_NAME_BYTES_MAX,
};
use agents_versions::shorten;

/// The name as the ecosystem writes it, or why it is none.
pub fn normalize_name(ecosystem: Ecosystem, name: &str) -> Result<String, Error> {
    check_name(ecosystem, name)?;
    Ok(match ecosystem {
        Ecosystem::Npm
        | Ecosystem::Cargo
        | Ecosystem::Debian
        | Ecosystem::Rpm
        | Ecosystem::Pacman => name.to_owned(),
        Ecosystem::Pypi => normalize_pypi(name),
    })
}

/// PEP 503: lower case, and each run of `-`, `_` and `.` is one hyphen.
pub(super) fn normalize_pypi(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            _ => out.push(character.to_ascii_lowercase()),
        }
    }
    out
}

/// Whether the ecosystem could have a package of that name.
pub fn check_name(ecosystem: Ecosystem, name: &str) -> Result<(), Error> {
    let problem = match ecosystem {
        Ecosystem::Npm => npm_problem(name),
        Ecosystem::Pypi => pypi_problem(name),
        Ecosystem::Cargo => cargo_problem(name),
        Ecosystem::Debian => debian_problem(name),
        Ecosystem::Rpm => system_problem(name, b"._+-"),
        Ecosystem::Pacman => system_problem(name, b"@._+-"),
    };
    match problem {
        None => Ok(()),
        Some(problem) => {
            let message = format!(
                "`{}` is not a name for a package of {ecosystem}: {problem}",
                shorten(name)
            );
            Err(Error::new(Kind::Usage, "invalid-name", message))
        }
    }
}

fn npm_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > NPM_NAME_BYTES_MAX {
        return Some("it is longer than 214 bytes");
    }
    if let Some(scoped) = name.strip_prefix('@') {
        let Some((scope, package)) = scoped.split_once('/') else {
            return Some("a scope needs a name after it, `@scope/name`");
        };
        return npm_segment_problem(scope).or_else(|| npm_segment_problem(package));
    }
    if name.starts_with(['.', '_', '-']) {
        return Some("it begins with `.`, `_` or `-`");
    }
    npm_segment_problem(name)
}

fn npm_segment_problem(segment: &str) -> Option<&'static str> {
    if segment.is_empty() {
        return Some("a part of it is empty");
    }
    if segment.starts_with('.') {
        return Some("a part of it begins with `.`");
    }
    if ["node_modules", "favicon.ico"].iter().any(|taken| segment.eq_ignore_ascii_case(taken)) {
        return Some("the name is reserved");
    }
    // What JavaScript's `encodeURIComponent` leaves alone.
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
    (!segment.bytes().all(safe)).then_some("it has characters that an address cannot have")
}

fn pypi_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > PYPI_NAME_BYTES_MAX {
        return Some("it is longer than 200 bytes");
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.bytes().all(inner) {
        return Some("only letters, digits, `-`, `_` and `.` are allowed");
    }
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (!ends(bytes.first()) || !ends(bytes.last())).then_some("it begins or ends with punctuation")
}

fn cargo_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > CRATE_NAME_BYTES_MAX {
        return Some("it is longer than 64 bytes");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Some("only letters, digits, `-` and `_` are allowed");
    }
    (!name.starts_with(|first: char| first.is_ascii_alphabetic()))
        .then_some("it does not begin with a letter")
}

/// Debian policy: lower case, digits, `+`, `-`, `.`; and an architecture after a colon.
fn debian_problem(name: &str) -> Option<&'static str> {
    let (name, architecture) = name.split_once(':').unwrap_or((name, "any"));
    if name.len() < 2 {
        return Some("it has less than two characters");
    }
    if name.len() > DEBIAN_NAME_BYTES_MAX {
        return Some("it is longer than 255 bytes");
    }
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name.bytes().all(|byte| lower(byte) || b"+-.".contains(&byte)) {
        return Some("only lower-case letters, digits, `+`, `-` and `.` are allowed");
    }
    if !name.bytes().next().is_some_and(lower) {
        return Some("it does not begin with a letter or digit");
    }
    let is_good = architecture.bytes().all(|byte| lower(byte) || byte == b'-');
    (architecture.is_empty() || !is_good).then_some("what stands after `:` is no architecture")
}

/// Packages of rpm and pacman: never a pattern, a path or an option of their tools.
fn system_problem(name: &str, more: &[u8]) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > DEBIAN_NAME_BYTES_MAX {
        return Some("it is longer than 255 bytes");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte)) {
        return Some("it has characters that names of such packages cannot have");
    }
    (!name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_'))
        .then_some("it does not begin with a letter or digit")
}

/// Whether a text can be an extra of PyPI or a feature of cargo; npm has neither.
pub(super) fn check_extra(ecosystem: Ecosystem, extra: &str) -> Result<String, Error> {
    let valid = match ecosystem {
        Ecosystem::Npm | Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => false,
        Ecosystem::Pypi => pypi_problem(extra).is_none(),
        Ecosystem::Cargo => {
            extra.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
                && extra.len() <= CRATE_NAME_BYTES_MAX * 2
                && extra
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_+./".contains(&byte))
        }
    };
    if valid {
        return Ok(match ecosystem {
            Ecosystem::Pypi => normalize_pypi(extra),
            _ => extra.to_owned(),
        });
    }
    let message = match ecosystem {
        Ecosystem::Npm | Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => {
            format!("packages of {ecosystem} have no extras, so `[...]` means nothing here")
        }
        Ecosystem::Pypi => format!("`{}` is not a name of an extra", shorten(extra)),
        Ecosystem::Cargo => format!("`{}` is not a name of a feature", shorten(extra)),
    };
    Err(Error::new(Kind::Usage, "invalid-extra", message))
}
