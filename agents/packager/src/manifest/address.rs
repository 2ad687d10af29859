//! Python requirements that name a file instead of a version: `name @ https://HOST/x.whl`, `./dist/x-1.0.tar.gz`, `file:///opt/x.whl`; or a
//! repository, `name @ git+https://HOST/x.git@REV` ([`git`]).
//!
//! Text to text. A path within or beside the project becomes the address `project:///dist/x.whl` (`project://parent/x.whl` above it), so that a lock made from it is right
//! wherever the project lies; nothing here opens a file, and nothing knows where the project is.

use std::borrow::Cow;
use std::str::FromStr;

use pep440_rs::Version;
use pep508_rs::{PackageName, Requirement, VersionOrUrl};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::io::pypi::core_metadata;

pub(crate) mod git;
mod masked;

use self::git::Repository;
pub(crate) use self::masked::masked;

/// The scheme of what is named by its path from the project.
pub const PROJECT_SCHEME: &str = "project";
/// Stands for one directory up, in the place of a host: a path would lose it.
const PARENT: &str = "parent";

/// What would end a requirement, or mean something else in an address.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'$')
    .add(b'\\');

/// Says of which package a directory of source is, by its address; only who may open files knows.
pub type Names<'n> = &'n dyn Fn(&str) -> Result<String, String>;

/// For texts whose directories nobody looks at.
pub fn unknown(_: &str) -> Result<String, String> {
    Err("does not say which package it is of".to_owned())
}

/// A line with what it means, in the form `name[extras] @ ADDRESS ; marker`; `None` for one that names no file.
///
/// # Errors
/// Why the line cannot be followed; the words come after the line itself.
pub fn spelled(line: &str, names: Names<'_>) -> Result<Option<String>, String> {
    let (target, marker) = match line.find(" ;").or_else(|| line.find("\t;")) {
        Some(at) => (line[..at].trim(), line[at + 2..].trim()),
        None => (line.trim(), ""),
    };
    let (name, address) = match named(target) {
        Some((name, address)) => (name.to_owned(), address_of(address)?),
        None if names_file(target) => unnamed(target, names)?,
        None if target.contains("://") => return Err(NOT_FOLLOWED.to_owned()),
        None => return Ok(None),
    };
    let marker = if marker.is_empty() { String::new() } else { format!(" ; {marker}") };
    Ok(Some(format!("{name} @ {address}{marker}")))
}

/// What stands behind the `#` of a directory whose code is used where it lies.
pub const EDITABLE: &str = "editable";

/// The same for what stands behind `-e`.
///
/// # Errors
/// As [`spelled`]; and where it names no directory of this machine.
pub fn spelled_editable(line: &str, names: Names<'_>) -> Result<String, String> {
    const NO_DIRECTORY: &str = "names no directory of this machine, and only those can be editable";
    let spelled = spelled(line, names)?.ok_or(NO_DIRECTORY)?;
    let (address, marker) = spelled.split_at(spelled.find(" ;").unwrap_or(spelled.len()));
    let is_here = [" @ project://", " @ file://"].iter().any(|start| address.contains(start));
    if !is_here || address.contains('#') || address.ends_with(".whl") || is_source(address) {
        return Err(NO_DIRECTORY.to_owned());
    }
    Ok(format!("{address}#{EDITABLE}{marker}"))
}

/// Whether the code of what is named is used where it lies.
pub fn is_editable(url: &Url) -> bool {
    url.fragment() == Some(EDITABLE)
}

/// Reads a requirement as [`spelled`] gives it. Its parser knows no scheme of ours, so such an address is put in afterwards.
pub(super) fn parsed(spelled: &str) -> Result<Requirement, String> {
    let ours = format!(" @ {PROJECT_SCHEME}://");
    let Some((name, rest)) = spelled.split_once(&ours) else {
        return core_metadata::requirement(spelled);
    };
    let (path, marker) = rest.split_at(rest.find(" ;").unwrap_or(rest.len()));
    let mut requirement = core_metadata::requirement(&format!("{name} @ file:///{marker}"))?;
    let url = Url::parse(&format!("{PROJECT_SCHEME}://{path}")).map_err(|why| why.to_string())?;
    requirement.version_or_url = Some(VersionOrUrl::Url(url.into()));
    Ok(requirement)
}

/// The words for what is neither a file nor an index's.
const NOT_FOLLOWED: &str =
    "is neither from an index nor a file on the web or here, and is not supported";

/// Whether a line names a file without saying of which package, which only requirements files may.
pub(super) fn is_unnamed(line: &str) -> bool {
    named(line.split(" ;").next().unwrap_or_default().trim()).is_none()
        && names_file(line.split(" ;").next().unwrap_or_default().trim())
}

/// The name (with extras) and the address of `name[extras] @ address`.
fn named(target: &str) -> Option<(&str, &str)> {
    let (name, address) = target.split_once('@')?;
    let (name, address) = (name.trim(), address.trim());
    let plain = name.split('[').next().unwrap_or_default().trim_end();
    let is_name = !plain.is_empty()
        && plain.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && (plain.len() == name.len() || name.ends_with(']'));
    (is_name && !address.is_empty()).then_some((name, address))
}

/// Whether a line without a name is an address or a path, as pip tells it.
fn names_file(target: &str) -> bool {
    let plain = target.split(['[', '#']).next().unwrap_or_default();
    [git::PREFIX, "https://", "http://", "file:", "./", "../", "/", "~"]
        .iter()
        .any(|start| target.starts_with(start))
        || matches!(plain, "." | "..")
        || (!plain.contains([':', ';', ' ', '=', '<', '>', '!', '~', '\''])
            && (plain.contains('/') || plain.ends_with(".whl") || is_source(plain)))
}

/// The name and the address of a file that is named by itself; the file's name says which package it is of.
fn unnamed(target: &str, names: Names<'_>) -> Result<(String, String), String> {
    let (target, extras) = match target.strip_suffix(']').and_then(|it| it.rsplit_once('[')) {
        Some((target, extras)) => (target, format!("[{extras}]")),
        None => (target, String::new()),
    };
    if target.starts_with(git::PREFIX) {
        let git::Read { repository, egg } = git::read(target)?;
        let name = egg.ok_or("does not say which package it is of; write `NAME @` before it")?;
        return Ok((of_egg(&name, &extras)?, repository.address()));
    }
    let address = address_of(target)?;
    let file = file_name(&address).unwrap_or_default();
    let name = match (file.strip_suffix(".whl"), source_stem(&file)) {
        (Some(stem), _) => stem.split('-').next().unwrap_or_default().to_owned(),
        (None, Some(stem)) => name_of_source(stem).to_owned(),
        (None, None) if is_other_source(&file) => return Err(OTHER_SOURCE.to_owned()),
        (None, None) if address.starts_with("http") => {
            return Err("names neither a wheel nor a source archive".to_owned());
        }
        (None, None) => match address.split_once("#egg=") {
            Some((address, name)) => return Ok((of_egg(name, &extras)?, address.to_owned())),
            None => names(&address)?,
        },
    };
    Ok((format!("{}{extras}", package(&name)?), address))
}

/// A name and its extras as pip has them behind `#egg=`.
fn of_egg(text: &str, extras: &str) -> Result<String, String> {
    let (name, own) = text.split_at(text.find('[').unwrap_or(text.len()));
    let extras = if own.is_empty() { extras } else { own };
    Ok(format!("{}{extras}", package(name)?))
}

fn package(name: &str) -> Result<PackageName, String> {
    // An empty name is one to its parser.
    let name = Some(name).filter(|name| !name.is_empty()).and_then(|it| it.parse().ok());
    name.ok_or_else(|| "does not say which package it is of".to_owned())
}

/// Of `name-version`, where the name may have hyphens of its own, and the version one, too.
fn name_of_source(stem: &str) -> &str {
    let is_version = |text: &str| Version::from_str(text).is_ok();
    let end = stem.match_indices('-').find(|(at, _)| is_version(&stem[at + 1..]));
    end.map_or("", |(at, _)| &stem[..at])
}

/// An address as it is kept: on the web, `file:///...`, or `project://...`.
fn address_of(text: &str) -> Result<String, String> {
    if text.starts_with(git::PREFIX) {
        return Ok(git::read(text)?.repository.address());
    }
    let (plain, fragment) = fragment(text);
    let path = match plain.split_once(':') {
        Some(("https" | "http", rest)) if rest.starts_with("//") => return Ok(text.to_owned()),
        Some(("file", rest)) => match rest.strip_prefix("//") {
            Some(rest) => match rest.strip_prefix("localhost").unwrap_or(rest) {
                rest if rest.starts_with('/') => return Ok(format!("file://{rest}{fragment}")),
                _ => return Err("names a file of another machine".to_owned()),
            },
            None => percent_decode_str(rest).decode_utf8_lossy().into_owned(),
        },
        Some((scheme, _)) if !scheme.contains(['/', '.']) => return Err(NOT_FOLLOWED.to_owned()),
        _ => plain.to_owned(),
    };
    if path.starts_with('~') {
        return Err("begins at a home directory, which is not followed".to_owned());
    }
    if path.contains('\0') {
        return Err("names no file".to_owned());
    }
    if path.starts_with('/') {
        return Ok(format!("file://{}{fragment}", utf8_percent_encode(&path, ESCAPED)));
    }
    let (mut parts, mut parents) = (Vec::new(), Vec::new());
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." if parts.pop().is_none() => parents.push(PARENT),
            ".." => {}
            part => parts.push(part),
        }
    }
    let (parents, path) = (parents.join("."), parts.join("/"));
    Ok(format!("{PROJECT_SCHEME}://{parents}/{}{fragment}", utf8_percent_encode(&path, ESCAPED)))
}

/// The address and the digests behind it. A path may have a `#` of its own, but not where its wheel's name has ended.
fn fragment(text: &str) -> (&str, &str) {
    let known = ["#sha256=", "#sha512=", "#egg=", "#subdirectory="];
    let endings = SOURCE_ENDINGS.iter().chain(&[".whl"]);
    let ends = endings.filter_map(|end| Some(text.find(&format!("{end}#"))? + end.len()));
    let at = known.iter().filter_map(|known| text.find(known)).chain(ends).min();
    text.split_at(at.unwrap_or(text.len()))
}

/// The last part of an address, as a file has it.
fn file_name(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let last = url.path().rsplit('/').next().filter(|last| !last.is_empty())?;
    Some(percent_decode_str(last).decode_utf8().ok()?.into_owned())
}

/// Endings of the source archives that are followed.
const SOURCE_ENDINGS: [&str; 3] = [".tar.gz", ".tgz", ".zip"];

/// The words for the other kinds.
const OTHER_SOURCE: &str =
    "is a source archive of a kind that is not built; `.tar.gz` and `.zip` are";

fn source_stem(file: &str) -> Option<&str> {
    SOURCE_ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))
}

/// Whether a name is that of a source archive that can be built.
pub fn is_source(file: &str) -> bool {
    source_stem(file).is_some()
}

fn is_other_source(file: &str) -> bool {
    [".tar.bz2", ".tar.xz", ".tar.Z", ".tar"].iter().any(|ending| file.ends_with(ending))
}

/// The path from the project that a `project://` address means.
pub fn path_of(url: &Url) -> Option<String> {
    let path = (url.scheme() == PROJECT_SCHEME).then(|| url.path())?;
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let parents = url.host_str().map_or(0, |host| host.split('.').count());
    Some(format!("{}{}", "../".repeat(parents), path.strip_prefix('/')?))
}

/// What stands behind `-e`, however that is written.
pub(super) fn editable(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("--editable").or_else(|| line.strip_prefix("-e"))?;
    let is_apart = rest.starts_with([' ', '\t', '=']) || !line.starts_with("--");
    let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest).trim();
    // Quotes around all of it are a shell's; one at its end alone may be a marker's.
    let inside = |quote: char| rest.strip_prefix(quote)?.strip_suffix(quote);
    is_apart.then(|| inside('"').or_else(|| inside('\'')).unwrap_or(rest))
}

/// The name of the package that a line is about, where it names a file.
pub(super) fn name_of(line: &str, names: Names<'_>) -> Option<String> {
    let spelled = match editable(line) {
        Some(line) => spelled_editable(line, names).ok()?,
        None => spelled(line, names).ok().flatten()?,
    };
    let name = spelled.split(['[', ' ']).next()?;
    Some(PackageName::from_str(name).ok()?.to_string())
}

/// A requirement as it stands in a manifest: pip knows paths without a name only.
pub fn written(requirement: &Requirement) -> String {
    let path = match &requirement.version_or_url {
        Some(VersionOrUrl::Url(url)) => path_of(url).map(|path| (path, url.fragment())),
        _ => None,
    };
    let Some((path, fragment)) = path else { return requirement.to_string() };
    let start = if fragment == Some(EDITABLE) { "-e " } else { "" };
    let fragment = fragment
        .filter(|it| *it != EDITABLE)
        .map(|digests| format!("#{digests}"))
        .unwrap_or_default();
    let extras: Vec<&str> = requirement.extras.iter().map(AsRef::as_ref).collect();
    let extras = match extras.is_empty() {
        true => String::new(),
        false => format!("[{}]", extras.join(",")),
    };
    let here = if path.starts_with("../") { "" } else { "./" };
    format!("{start}{here}{path}{fragment}{extras}")
}

/// A requirement for eyes and files that others see: what an address asks its server with may be a secret.
pub fn shown(requirement: &Requirement) -> String {
    without_secret(requirement).to_string()
}

/// The same for messages about a manifest: a path as it is written there.
pub fn told(requirement: &Requirement) -> String {
    written(&without_secret(requirement))
}

fn without_secret(requirement: &Requirement) -> Cow<'_, Requirement> {
    match &requirement.version_or_url {
        Some(VersionOrUrl::Url(url)) if !url.username().is_empty() => {
            let plain = Repository::of(url.raw()).and_then(|it| Url::parse(&it.plain()).ok());
            let version_or_url = plain.map(|plain| VersionOrUrl::Url(plain.into()));
            Cow::Owned(Requirement { version_or_url, ..requirement.clone() })
        }
        Some(VersionOrUrl::Url(url)) if url.query().is_some() => {
            let mut plain = url.to_url();
            plain.set_query(Some("..."));
            let version_or_url = Some(VersionOrUrl::Url(plain.into()));
            Cow::Owned(Requirement { version_or_url, ..requirement.clone() })
        }
        _ => Cow::Borrowed(requirement),
    }
}

/// Whether an address has what may be a secret. By ssh a name is none: its key is.
pub(crate) fn has_login(url: &Url) -> bool {
    let is_name = Repository::of(url).is_some();
    url.password().is_some() || !(url.username().is_empty() || is_name)
}

/// Why an address cannot stand in a manifest.
pub(super) fn problem(requirement: &Requirement) -> Option<String> {
    let Some(VersionOrUrl::Url(url)) = &requirement.version_or_url else { return None };
    let name = &requirement.name;
    has_login(url.raw()).then(|| {
        format!("`{name}` is asked for by an address with a password, which belongs into netrc")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_tests(address: &str) -> Result<String, String> {
        let path = address.strip_prefix("project://").ok_or("is elsewhere")?;
        Ok(path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("root").to_owned())
    }

    #[track_caller]
    fn check(line: &str, expected: Result<Option<&str>, &str>) {
        match (spelled(line, &of_tests), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), expected, "{line}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{line}: {found}"),
            (found, _) => panic!("{line}: {found:?}"),
        }
    }

    #[test]
    fn files_are_spelled_with_the_name_of_their_package() {
        for (line, expected) in [
            ("./dist/A_b-1.0-py3-none-any.whl", "a-b @ project:///dist/A_b-1.0-py3-none-any.whl"),
            ("a-1-py3-none-any.whl[x, y]", "a[x, y] @ project:///a-1-py3-none-any.whl"),
            (
                "../l/a-1-py3-none-any.whl ; os_name == 'nt'",
                "a @ project://parent/l/a-1-py3-none-any.whl ; os_name == 'nt'",
            ),
            (
                "/opt/my wheels/a-1-py3-none-any.whl",
                "a @ file:///opt/my%20wheels/a-1-py3-none-any.whl",
            ),
            ("file:dist/a-1-py3-none-any.whl", "a @ project:///dist/a-1-py3-none-any.whl"),
            ("file://localhost/o/a-1-py3-none-any.whl", "a @ file:///o/a-1-py3-none-any.whl"),
            ("b @ ./a-1-py3-none-any.whl", "b @ project:///a-1-py3-none-any.whl"),
            ("./a-1-py3-none-any.whl#md5=0", "a @ project:///a-1-py3-none-any.whl#md5=0"),
            (
                "a[x] @ file:///o/a-1%2Bc-py3-none-any.whl#sha256=00",
                "a[x] @ file:///o/a-1%2Bc-py3-none-any.whl#sha256=00",
            ),
            (
                "https://h/a-1%2Bc-py3-none-any.whl#sha256=00",
                "a @ https://h/a-1%2Bc-py3-none-any.whl#sha256=00",
            ),
            ("a@https://h/x.whl", "a @ https://h/x.whl"),
            ("./d/A_b-1.0.tar.gz", "a-b @ project:///d/A_b-1.0.tar.gz"),
            ("a-b-1.0-2.zip[x]", "a-b[x] @ project:///a-b-1.0-2.zip"),
            ("../a-1!2.0.tgz#sha256=00", "a @ project://parent/a-1!2.0.tgz#sha256=00"),
            ("https://h/a-1.0.tar.gz#sha256=00", "a @ https://h/a-1.0.tar.gz#sha256=00"),
            ("a @ https://h/archive/main.zip", "a @ https://h/archive/main.zip"),
            ("./libs/A_b[x]", "a-b[x] @ project:///libs/A_b"),
            ("../a/ ; os_name == 'nt'", "a @ project://parent/a ; os_name == 'nt'"),
            (".", "root @ project:///"),
            ("..", "root @ project://parent/"),
            ("/opt/pkg#egg=a[x]", "a[x] @ file:///opt/pkg"),
            ("a @ ./libs/b", "a @ project:///libs/b"),
            ("git+https://H/a.git#egg=A_b[x]", "a-b[x] @ git+https://h/a.git"),
            (
                "a[x]@git+ssh://git@h/a@v1#subdirectory=s ; os_name == 'nt'",
                "a[x] @ git+ssh://git@h/a@v1#subdirectory=s ; os_name == 'nt'",
            ),
        ] {
            check(line, Ok(Some(expected)));
            let requirement = parsed(expected).expect("a requirement");
            assert_eq!(requirement.to_string(), expected.replace(", ", ","));
        }
        for line in [
            "a; os_name == 'a/b.whl'",
            "a",
            "a[x]>=1 ; os_name == 'nt'",
            "a (>=1)",
            "a ; os_name == '@://'",
        ] {
            check(line, Ok(None));
        }
    }

    #[test]
    fn what_cannot_be_followed_says_so() {
        for (line, why) in [
            ("/opt/pkg", "elsewhere"),
            ("https://h/pkg", "neither a wheel nor"),
            ("./pkg#egg=", "which package"),
            ("./a-1.tar.xz", "of a kind that is not built"),
            ("https://h/a-1.tar.bz2", "of a kind that is not built"),
            ("https://h/a.tar.gz", "which package"),
            ("./-1.0.zip", "which package"),
            ("git+https://h/a", "which package"),
            ("a @ git+http://h/a", "not supported"),
            ("a @ hg+https://h/a", "not supported"),
            ("a @ git+https://h/a@-x", "no branch, tag or commit"),
            ("a @ ftp://h/a-1-py3-none-any.whl", "not supported"),
            ("file://elsewhere/o/a-1-py3-none-any.whl", "another machine"),
            ("~/a-1-py3-none-any.whl", "home"),
            ("./-1-py3-none-any.whl", "which package"),
        ] {
            check(line, Err(why));
        }
    }

    #[test]
    fn what_is_used_where_it_lies_says_so_in_its_address() {
        for (line, expected) in [
            ("-e ./libs/a", "a @ project:///libs/a#editable"),
            ("-e.[x]", "root[x] @ project:///#editable"),
            (
                "--editable=../a ; os_name == 'nt'",
                "a @ project://parent/a#editable ; os_name == 'nt'",
            ),
            ("-e /opt/b#egg=a", "a @ file:///opt/b#editable"),
        ] {
            let target = editable(line).expect(line);
            let spelled = spelled_editable(target, &of_tests).expect(line);
            assert_eq!(spelled, expected);
            assert!(parsed(&spelled).is_ok(), "{line}");
        }
        let told = told(&parsed("a[x] @ project:///libs/a#editable").expect("one"));
        assert_eq!(told, "-e ./libs/a[x]");
        for line in ["a", "https://h/a-1.zip", "./a-1.tar.gz", "./a-1-py3-none-any.whl", "/x"] {
            assert!(spelled_editable(line, &of_tests).is_err(), "{line}");
        }
        assert_eq!((editable("--editables x"), editable("--extra x")), (None, None));
    }

    #[test]
    fn secrets_are_not_shown() {
        let requirement = parsed("a @ https://h/x.whl?t=hush#sha256=0").expect("one");
        assert_eq!(shown(&requirement), "a @ https://h/x.whl?...#sha256=0");
        assert_eq!(told(&requirement), "a @ https://h/x.whl?...#sha256=0");
        let requirement = parsed("a @ git+ssh://alice@h/a@v1#subdirectory=s").expect("one");
        assert_eq!(shown(&requirement), "a @ git+ssh://h/a@v1#subdirectory=s");
        let requirement = parsed("a @ project:///d/a-1-py3-none-any.whl").expect("one");
        assert_eq!(told(&requirement), "./d/a-1-py3-none-any.whl");
    }

    #[test]
    fn a_path_is_written_as_pip_reads_it() {
        for line in [
            "./d/a-1-py3-none-any.whl",
            "../../d e/x-1+y-py3-none-any.whl",
            "../a-1-py3-none-any.whl#sha256=00[x]",
            "a>=1",
            "./libs/a",
            "../../libs/a[x]",
        ] {
            let text = spelled(line, &of_tests).expect("fine").unwrap_or_else(|| line.to_owned());
            assert_eq!(written(&parsed(&text).expect("one")), line);
        }
    }
}
