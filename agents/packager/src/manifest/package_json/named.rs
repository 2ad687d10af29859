//! What the right side of an npm dependency names where that is no version of a registry: npm-package-arg's rules for texts, in its
//! order of questions. Nothing here opens a file or knows a registry.

use url::Url;

use crate::io::secret::shown;
use crate::limits::LOCK_TEXT_BYTES_MAX;
use crate::manifest::address::masked;
use crate::spec::steers;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A path on this machine.
    Path {
        /// From whoever asks, or absolute.
        path: String,
        /// Whether its name is that of an archive; else it is a directory.
        is_archive: bool,
    },
    /// An archive at an address.
    Address,
    /// A git repository, or an address of a kind that is not followed.
    Git,
    /// Something that is not followed; why.
    Refused(&'static str),
}

/// Why an address with a query or a fragment is refused: what it leads to is for whoever has the rest, and the rest may be a secret.
pub const MORE_BEHIND: &str = "an archive at an address with a query or a fragment";

/// The scheme of paths.
pub const FILE: &str = "file:";

/// Its domain, the protocols of the web that mean a repository there, and whether a path is one of those.
type Host = (&'static str, &'static [&'static str], fn(&[&str]) -> bool);

/// Where git is kept, as npm knows it.
const HOSTS: [Host; 5] = [
    ("github.com", &["http", "https"], |path| {
        has_project(path) && path.get(2).is_none_or(|kind| matches!(*kind, "" | "tree"))
    }),
    ("bitbucket.org", &["https"], |path| has_project(path) && path.get(2) != Some(&"get")),
    ("gitlab.com", &["https"], |path| {
        let is_file = path.join("/").contains("/archive.tar.gz");
        let is_page = path.iter().rev().skip(1).any(|part| *part == "-");
        let last = path.last().copied().unwrap_or_default();
        !is_file && !is_page && path.len() > 1 && !last.trim_end_matches(".git").is_empty()
    }),
    ("gist.github.com", &["https"], |path| {
        path.first().is_some_and(|part| !part.is_empty()) && path.get(2) != Some(&"raw")
    }),
    ("git.sr.ht", &["https"], |path| has_project(path) && path.get(2) != Some(&"archive")),
];

fn has_project(path: &[&str]) -> bool {
    let part = |at: usize| path.get(at).copied().unwrap_or_default();
    !part(0).is_empty() && !part(1).trim_end_matches(".git").is_empty()
}

/// See the module; `None` for what is for a registry: versions, tags, aliases.
pub fn named(text: &str) -> Option<Named> {
    let has_scheme = |scheme: &str| {
        text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    };
    if text.starts_with(FILE) || is_path(text) {
        return Some(at_path(text));
    }
    if has_scheme("npm:") {
        return None;
    }
    if has_scheme("http:") || has_scheme("https:") {
        return Some(at_address(text));
    }
    let is_file = is_archive(text);
    match is_address(text) || is_shorthand(text) {
        true => Some(Named::Git),
        false if text.contains('/') || is_file => {
            Some(Named::Path { path: text.to_owned(), is_archive: is_file })
        }
        false => None,
    }
}

/// A dependency's text as it may be shown: without what may be a secret in what is refused. What is followed stays what it is.
pub fn told(text: &str) -> String {
    // Nearly always it is a range.
    if !text.contains(':') {
        return text.to_owned();
    }
    let lower = text.get(..5).map(str::to_ascii_lowercase).unwrap_or_default();
    match Url::parse(text) {
        // npm compares addresses as they are written.
        Ok(url) if lower.starts_with("http") => match has_more(&url) {
            true => shown(&url),
            false => text.to_owned(),
        },
        _ if lower.starts_with("http") => "an address".to_owned(),
        Ok(url) if url.has_host() => shown(&url),
        _ => masked(text),
    }
}

/// Whether an address has what may be a secret.
fn has_more(url: &Url) -> bool {
    let has_login = !url.username().is_empty() || url.password().is_some();
    has_login || url.query().is_some() || url.fragment().is_some()
}

/// Whether a text names an archive: what a lock may say of where one comes from.
pub fn is_source(text: &str) -> bool {
    let is_plain = text.len() <= LOCK_TEXT_BYTES_MAX && !text.chars().any(steers);
    is_plain
        && match named(text) {
            Some(Named::Address) => true,
            Some(Named::Path { is_archive, .. }) => is_archive && text.starts_with(FILE),
            _ => false,
        }
}

fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes, [b'.' | b'/', ..] | [b'~', b'/', ..])
        || matches!(bytes, [drive, b':', ..] if drive.is_ascii_alphabetic())
}

/// Whether a path ends as archives do.
pub fn is_archive(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".tgz", ".tar.gz", ".tar"].iter().any(|end| lower.ends_with(end))
}

/// npm reads `file:/../x` and `file://../x` as `../x`, and `file://x` as `/x`.
fn at_path(text: &str) -> Named {
    let (written, has_scheme) = match text.strip_prefix(FILE) {
        Some(path) => (path, true),
        None => (text, false),
    };
    let bare = written.trim_start_matches('/');
    let slashes = written.len() - bare.len();
    let is_relative = matches!(bare.split('/').next(), Some("." | ".."));
    let path = match slashes {
        0 => written.to_owned(),
        1..=3 if has_scheme && is_relative => bare.to_owned(),
        _ => format!("/{bare}"),
    };
    let unrooted = path.trim_start_matches('/');
    if unrooted == "~" || unrooted.starts_with("~/") {
        return Named::Refused("a path from a home directory");
    }
    if path.contains('\0') || path.len() > LOCK_TEXT_BYTES_MAX || path.chars().any(steers) {
        return Named::Refused("no usable path");
    }
    Named::Path { is_archive: is_archive(text), path }
}

fn at_address(text: &str) -> Named {
    let Ok(url) = Url::parse(text) else { return Named::Refused("no usable address") };
    let domain = url.host_str().unwrap_or_default();
    let domain = domain.strip_prefix("www.").unwrap_or(domain);
    let path: Vec<&str> = url.path().split('/').skip(1).collect();
    let is_repository = |(host, schemes, is_one): &Host| {
        *host == domain && schemes.contains(&url.scheme()) && is_one(&path)
    };
    if HOSTS.iter().any(is_repository) {
        return Named::Git;
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Named::Refused(
            "an archive at an address with a password, which belongs into npmrc",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Named::Refused(MORE_BEHIND);
    }
    if text.len() > LOCK_TEXT_BYTES_MAX || text.chars().any(steers) {
        return Named::Refused("no usable address");
    }
    Named::Address
}

/// `git+ssh://...`, `github:u/p`, `git@host:u/p`.
fn is_address(text: &str) -> bool {
    let text = text.strip_prefix("git+").unwrap_or(text);
    let scheme = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    scheme > 0 && text[scheme..].starts_with(':')
        || text.split_once('@').is_some_and(|(user, rest)| !user.is_empty() && rest.contains(':'))
}

/// `user/project`, and a `#` with what of it behind.
fn is_shorthand(text: &str) -> bool {
    let (plain, has_hash) = match text.split_once('#') {
        Some((plain, _)) => (plain, true),
        None => (text, false),
    };
    let is_odd = |c: char| c.is_whitespace() || matches!(c, '@' | ':');
    let Some((user, project)) = plain.split_once('/') else { return false };
    let ends_well = !project.contains('/') && (!project.is_empty() || !has_hash);
    !user.is_empty() && !project.is_empty() && ends_well && !plain.contains(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn archive(text: &str, path: &str) {
        let expected = Named::Path { path: path.to_owned(), is_archive: true };
        assert_eq!(named(text), Some(expected), "{text}");
    }

    /// What npm-package-arg 13 makes of the same texts.
    #[test]
    fn paths_are_read_as_npm_reads_them() {
        archive("file:../x-1.0.0.tgz", "../x-1.0.0.tgz");
        archive("./x.tgz", "./x.tgz");
        archive("../a b/x.TAR.GZ", "../a b/x.TAR.GZ");
        archive("file:x.tar", "x.tar");
        archive("file:./x%20y.tgz", "./x%20y.tgz");
        archive("file:/../x.tgz", "../x.tgz");
        archive("file://./x.tgz", "./x.tgz");
        archive("file:///../x.tgz", "../x.tgz");
        archive("file:/opt/x.tgz", "/opt/x.tgz");
        archive("file://opt/x.tgz", "/opt/x.tgz");
        archive("file:///opt/x.tgz", "/opt/x.tgz");
        archive("/opt/x.tgz", "/opt/x.tgz");
        archive("x.tgz", "x.tgz");
        archive("file:v/a?b.tgz", "v/a?b.tgz");
        archive("./v/a#b.tgz", "./v/a#b.tgz");
        archive("file:v/a%23b.tgz", "v/a%23b.tgz");
        archive("vendor/deep/x.tgz", "vendor/deep/x.tgz");
        for directory in ["file:../x", "./x", ".", "file:x.tgz/", "file:x.tgz#sha512-0", "a/b/c"] {
            let found = named(directory);
            assert!(matches!(found, Some(Named::Path { is_archive: false, .. })), "{found:?}");
        }
        for refused in ["~/x.tgz", "file:~/x.tgz", "file:///~/x.tgz", "./a\u{202e}.tgz"] {
            assert!(matches!(named(refused), Some(Named::Refused(_))), "{refused}");
        }
    }

    #[test]
    fn addresses_are_archives_or_repositories_as_npm_tells_them() {
        for address in [
            "https://h.invalid/x-1.0.0.tgz",
            "http://h.invalid/x",
            "HTTPS://h.invalid/x%3Fa=b%23c",
            "https://github.com/u/p/archive/v1.tar.gz",
            "https://codeload.github.com/u/p/tar.gz/v1",
            "https://gitlab.com/u/p/-/archive/v1/p.tar.gz",
            "https://bitbucket.org/u/p/get/v1.tar.gz",
            "https://git.sr.ht/~u/p/archive/v1.tar.gz",
            "https://gist.github.com/u/p/raw/x.tgz",
            "http://gitlab.com/u/p",
            "https://github.com/u",
        ] {
            assert_eq!(named(address), Some(Named::Address), "{address}");
        }
        for git in [
            "https://github.com/u/p",
            "https://www.github.com/u/p.git#v1",
            "https://github.com/u/p/tree/v1",
            "https://gitlab.com/g/u/p",
            "https://gist.github.com/p",
            "git+https://h.invalid/x.git",
            "git@h.invalid:u/p.git",
            "github:u/p",
            "ssh://h.invalid/x",
            "u/p",
            "vendor/x.tgz",
            "FILE:x.tgz",
            "u/p#a b/c@d:e",
        ] {
            assert_eq!(named(git), Some(Named::Git), "{git}");
        }
        for version in ["^1.0.0", "latest", "", "*", "npm:x@1", "npm:x@https://h/x.tgz", "1 || 2"] {
            assert_eq!(named(version), None, "{version}");
        }
        for refused in ["https://me:hush@h.invalid/x.tgz", "https://", "http://me@h.invalid/x"] {
            assert!(matches!(named(refused), Some(Named::Refused(_))), "{refused}");
        }
        for more in ["https://h.invalid/x?a", "http://h/x.tgz?", "HTTPS://h/x#c", "https://h/x#"] {
            assert_eq!(named(more), Some(Named::Refused(MORE_BEHIND)), "{more}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_told() {
        for (text, expected) in [
            ("https://h.invalid/x.tgz?t=hush#hush", "https://h.invalid/x.tgz?..."),
            ("https://me:hush@h.invalid/x.tgz", "https://h.invalid/x.tgz"),
            ("git+https://me:hush@h.invalid/x", "git+https://h.invalid/x"),
            ("https://me:hush@[/x", "an address"),
            ("HTTPS://H.invalid:443/a b.tgz", "HTTPS://H.invalid:443/a b.tgz"),
            ("npm:x@https://me:hush@h.invalid/x?hush", "npm:x@https://...@h.invalid/x?..."),
            ("file:../x?t=1.tgz", "file:../x?t=1.tgz"),
            ("file:c://x.tgz", "file:c://x.tgz"),
            ("^1.0.0", "^1.0.0"),
        ] {
            assert_eq!(told(text), expected);
        }
        for fine in ["https://h.invalid/x.tgz", "file:../x.tgz", "file:a?b#c.tgz"] {
            assert!(is_source(fine), "{fine}");
        }
        for odd in
            ["", "npm", "x.tgz", "file:x", "https://h.invalid/x?...", "https://a@h.invalid/x"]
        {
            assert!(!is_source(odd), "{odd}");
        }
    }
}
