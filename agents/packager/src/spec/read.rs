//! Reads purls and short specs. Hostile text ends in an error that quotes at most its beginning.

use percent_encoding::percent_decode_str;

use super::Spec;
use super::name::{check_extra, normalize_name};
use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind};
use crate::limits::SPEC_BYTES_MAX;
use crate::manifest::package_json::named::{FILE, named, told};
use agents_versions::npm::Version;
use agents_versions::shorten;

const FORMS: &str = "write `npm:express@^4`, `pypi:requests>=2.31`, `cargo:serde@1`, or a purl such as `pkg:npm/express@4.19.2`";

/// Ecosystems that purls and short specs name, and that have no resolver here.
const KNOWN_ONLY: &[&str] = &["apk", "maven", "nuget", "gem", "composer"];

pub(super) fn read(text: &str) -> Result<Spec, Error> {
    let text = text.trim();
    if text.len() > SPEC_BYTES_MAX {
        return Err(invalid(text, &format!("it is longer than {SPEC_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(text, "it has control characters"));
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        let problem = if text.is_empty() { "it is empty" } else { "it does not name an ecosystem" };
        let hint = match normalize_name(Ecosystem::Npm, text) {
            Ok(name) => format!(
                "write `npm:{name}`, `pypi:{name}`, `cargo:{name}`, or a purl such as `pkg:npm/{name}`"
            ),
            Err(_) => FORMS.to_owned(),
        };
        return Err(Error { hint: Some(hint), ..invalid(text, problem) });
    };
    if scheme.eq_ignore_ascii_case("pkg") {
        return read_purl(text, rest);
    }
    let ecosystem = ecosystem(text, scheme)?;
    let (name, extras, requirement) = match ecosystem {
        Ecosystem::Npm => split_npm(rest),
        Ecosystem::Pypi => split_pypi(text, rest)?,
        Ecosystem::Cargo => split_cargo(text, rest)?,
        Ecosystem::Debian => {
            let (name, requirement) = rest.split_once('@').unwrap_or((rest, ""));
            (name.trim(), Vec::new(), requirement)
        }
        Ecosystem::Rpm | Ecosystem::Pacman => {
            let at = rest.char_indices().skip(1).find(|(_, one)| matches!(one, '@' | '='));
            let (name, requirement) =
                at.map_or((rest, ""), |(at, _)| (&rest[..at], &rest[at + 1..]));
            (name.trim(), Vec::new(), requirement)
        }
    };
    build(text, ecosystem, name, &extras, requirement.trim())
}

fn invalid(text: &str, problem: &str) -> Error {
    let message = format!("`{}` is not a package to ask for: {problem}", shorten(text));
    Error::new(Kind::Usage, "invalid-spec", message).hint(FORMS)
}

fn ecosystem(text: &str, name: &str) -> Result<Ecosystem, Error> {
    let lower = name.to_ascii_lowercase();
    // The name of the library, in purls.
    let lower = if lower == "alpm" { Ecosystem::Pacman.to_string() } else { lower };
    if let Some(&found) = Ecosystem::ALL.iter().find(|one| one.as_str() == lower) {
        return Ok(found);
    }
    if KNOWN_ONLY.contains(&lower.as_str()) {
        let message =
            format!("packages of `{lower}` are known but cannot be installed by this version");
        return Err(Error::new(Kind::Usage, "unsupported-ecosystem", message).hint(
            "npm, pypi, cargo, and deb, rpm or pacman where the system has them, can be installed",
        ));
    }
    Err(invalid(text, &format!("`{}` is not an ecosystem", shorten(name))))
}

type Parts<'a> = (&'a str, Vec<&'a str>, &'a str);

fn split_npm(rest: &str) -> Parts<'_> {
    // The first `@` may be that of a scope.
    match rest.char_indices().skip(1).find(|(_, character)| *character == '@') {
        Some((at, _)) => (&rest[..at], Vec::new(), &rest[at + 1..]),
        None => (rest, Vec::new(), ""),
    }
}

fn split_extras<'a>(text: &str, rest: &'a str) -> Result<(Vec<&'a str>, &'a str), Error> {
    let Some(inner) = rest.strip_prefix('[') else { return Ok((Vec::new(), rest)) };
    let Some((extras, rest)) = inner.split_once(']') else {
        return Err(invalid(text, "a `[` is not closed"));
    };
    let extras = extras.split(',').map(str::trim).filter(|extra| !extra.is_empty()).collect();
    Ok((extras, rest))
}

fn split_pypi<'a>(text: &str, rest: &'a str) -> Result<Parts<'a>, Error> {
    let name_len = rest
        .find(|character: char| !(character.is_alphanumeric() || "-_.".contains(character)))
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(name_len);
    let (extras, rest) = split_extras(text, rest.trim_start())?;
    let rest = rest.trim_start();
    if rest.starts_with('@') {
        let hint = "pin a version with `==`, `pypi:requests==2.31.0`; addresses are not installed";
        return Err(invalid(text, "`@` means an address in Python's requirements").hint(hint));
    }
    if rest.contains(';') {
        return Err(invalid(text, "environment markers belong into a manifest"));
    }
    Ok((name, extras, rest))
}

fn split_cargo<'a>(text: &str, rest: &'a str) -> Result<Parts<'a>, Error> {
    let name_len = rest.find(['[', '@']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(name_len);
    let (extras, rest) = split_extras(text, rest)?;
    match rest.strip_prefix('@') {
        Some(requirement) => Ok((name, extras, requirement)),
        None if rest.trim().is_empty() => Ok((name, extras, "")),
        None => Err(invalid(text, "after the name comes `@` and a version")),
    }
}

fn build(
    text: &str,
    ecosystem: Ecosystem,
    name: &str,
    extras: &[&str],
    requirement: &str,
) -> Result<Spec, Error> {
    let name = normalize_name(ecosystem, name)
        .map_err(|error| if error.hint.is_some() { error } else { error.hint(FORMS) })?;
    let mut extras =
        extras.iter().map(|extra| check_extra(ecosystem, extra)).collect::<Result<Vec<_>, _>>()?;
    extras.sort();
    extras.dedup();
    check_requirement(text, ecosystem, requirement)?;
    let requirement = match ecosystem {
        // As npm writes it down; so it is never taken for what a registry has.
        Ecosystem::Npm if !requirement.contains(':') && named(requirement).is_some() => {
            &*format!("{FILE}{requirement}")
        }
        Ecosystem::Rpm | Ecosystem::Pacman if !requirement.is_empty() => {
            &*format!("={}", requirement.trim_start_matches('=').trim())
        }
        _ => requirement,
    };
    Ok(Spec { ecosystem, name, extras, requirement: requirement.to_owned() })
}

fn check_requirement(text: &str, ecosystem: Ecosystem, requirement: &str) -> Result<(), Error> {
    if requirement.is_empty() {
        return Ok(());
    }
    let shown = shorten(requirement);
    let problem = match ecosystem {
        Ecosystem::Npm => crate::resolve::npm::requirement_problem(requirement)
            .map(|problem| format!("`{}` is {problem}", shorten(&told(requirement)))),
        Ecosystem::Pypi => requirement
            .parse::<pep440_rs::VersionSpecifiers>()
            .err()
            .map(|_| format!("`{shown}` is not a version specifier such as `>=2.31,<3`")),
        Ecosystem::Cargo => semver::VersionReq::parse(requirement)
            .err()
            .map(|error| format!("`{shown}` is not a version requirement: {error}")),
        Ecosystem::Debian => crate::metadata::debian::Bound::parse(requirement)
            .is_none()
            .then(|| format!("`{shown}` is not a version or a relation such as `>=1.2`")),
        Ecosystem::Rpm | Ecosystem::Pacman => {
            (!is_version(requirement.trim_start_matches('=').trim()))
                .then(|| format!("`{shown}` is not one version such as `1.2-3`"))
        }
    };
    // The text of an npm package may have a secret in it.
    let told = match (ecosystem, text.strip_suffix(requirement)) {
        (Ecosystem::Npm, Some(head)) => format!("{head}{}", told(requirement)),
        _ => text.to_owned(),
    };
    problem.map_or(Ok(()), |problem| Err(invalid(&told, &problem)))
}

/// `pkg:type/namespace/name@version?qualifiers#subpath`, read from the right as the purl specification says.
fn read_purl(text: &str, rest: &str) -> Result<Spec, Error> {
    let (rest, subpath) = rest.split_once('#').unwrap_or((rest, ""));
    if !subpath.trim_matches('/').is_empty() {
        return Err(invalid(text, "a part of a package (`#...`) cannot be installed"));
    }
    let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
    let rest = rest.trim_matches('/');
    let Some((kind, path)) = rest.split_once('/') else {
        return Err(invalid(text, "a purl has a type and a name, `pkg:npm/express`"));
    };
    let ecosystem = ecosystem(text, kind)?;
    let name_start = path.rfind('/').map_or(0, |at| at + 1);
    // An `@` at the very start of a part is a scope that was left unencoded, not a version.
    let version_at = path[name_start..].rfind('@').filter(|&at| at > 0).map(|at| name_start + at);
    let (path, version) = match version_at {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, ""),
    };
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        segments.push(decoded(text, segment)?);
    }
    if ecosystem.is_of_system() && segments.len() == 2 {
        // The distribution. Its tool takes what its own lists have.
        segments.remove(0);
    }
    let name = segments.join("/");
    if ecosystem != Ecosystem::Npm && segments.len() > 1 {
        return Err(invalid(text, &format!("packages of {ecosystem} have no namespace")));
    }
    let version = decoded(text, version)?;
    let mut requirement = exact(text, ecosystem, &version)?;
    if let Some(epoch) = epoch_of(ecosystem, qualifiers).filter(|_| !requirement.is_empty()) {
        requirement = format!("={epoch}:{}", &requirement[1..]);
    }
    let extras = extras_of(text, ecosystem, qualifiers)?;
    let extras: Vec<&str> = extras.iter().map(String::as_str).collect();
    build(text, ecosystem, &name, &extras, &requirement)
}

fn decoded(text: &str, part: &str) -> Result<String, Error> {
    let hex = |at: usize| part.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    if part.match_indices('%').any(|(at, _)| !hex(at + 1) || !hex(at + 2)) {
        return Err(invalid(text, "a `%` is not followed by two hexadecimal digits"));
    }
    match percent_decode_str(part).decode_utf8() {
        Ok(decoded) if !decoded.chars().any(char::is_control) => Ok(decoded.into_owned()),
        Ok(_) => Err(invalid(text, "it has control characters")),
        Err(_) => Err(invalid(text, "its percent-encoding is not UTF-8")),
    }
}

/// A purl names one version, never a range.
fn exact(text: &str, ecosystem: Ecosystem, version: &str) -> Result<String, Error> {
    let not_a_version = || {
        let shown = shorten(version);
        invalid(text, &format!("`{shown}` is not one version, and a purl names exactly one"))
    };
    match ecosystem {
        _ if version.is_empty() => Ok(String::new()),
        Ecosystem::Npm => Version::parse(version)
            .map(|version| format!("={version}"))
            .map_err(|_| not_a_version()),
        Ecosystem::Pypi => version
            .parse::<pep440_rs::Version>()
            .map(|version| format!("=={version}"))
            .map_err(|_| not_a_version()),
        Ecosystem::Cargo => semver::Version::parse(version)
            .map(|version| format!("={version}"))
            .map_err(|_| not_a_version()),
        Ecosystem::Debian => crate::metadata::debian::Bound::parse(&format!("={version}"))
            .map(|bound| format!("={}", bound.text))
            .ok_or_else(not_a_version),
        Ecosystem::Rpm | Ecosystem::Pacman if is_version(version) => Ok(format!("={version}")),
        Ecosystem::Rpm | Ecosystem::Pacman => Err(not_a_version()),
    }
}

/// Whether a text can be a version of rpm or pacman, `[epoch:]version[-release]`. Never an option of a tool.
fn is_version(text: &str) -> bool {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~^-".contains(&byte);
    let is_number =
        !epoch.is_empty() && epoch.len() < 10 && epoch.bytes().all(|it| it.is_ascii_digit());
    is_number
        && rest.starts_with(|one: char| one.is_ascii_alphanumeric())
        && rest.bytes().all(inner)
}

/// The epoch of a package of rpm, which its purl has apart.
fn epoch_of(ecosystem: Ecosystem, qualifiers: &str) -> Option<&str> {
    let mut values = qualifiers.split('&').filter_map(|it| it.strip_prefix("epoch="));
    values.find(|it| ecosystem == Ecosystem::Rpm && it.bytes().all(|byte| byte.is_ascii_digit()))
}

fn extras_of(text: &str, ecosystem: Ecosystem, qualifiers: &str) -> Result<Vec<String>, Error> {
    let wanted = match ecosystem {
        Ecosystem::Npm | Ecosystem::Debian | Ecosystem::Rpm | Ecosystem::Pacman => "",
        Ecosystem::Pypi => "extras",
        Ecosystem::Cargo => "features",
    };
    let mut extras = Vec::new();
    for qualifier in qualifiers.split('&').filter(|qualifier| !qualifier.is_empty()) {
        let (key, value) = qualifier.split_once('=').unwrap_or((qualifier, ""));
        if value.is_empty() {
            continue;
        }
        // Says where a package comes from or what it is for; read with the name.
        if ecosystem.is_of_system() && matches!(key, "arch" | "distro") {
            continue;
        }
        if key == "epoch" && epoch_of(ecosystem, qualifier).is_some() {
            continue;
        }
        if wanted.is_empty() || !key.eq_ignore_ascii_case(wanted) {
            return Err(invalid(
                text,
                &format!("the qualifier `{}` is not supported", shorten(key)),
            ));
        }
        let value = decoded(text, value)?;
        extras.extend(value.split(',').map(str::trim).filter(|e| !e.is_empty()).map(str::to_owned));
    }
    Ok(extras)
}
