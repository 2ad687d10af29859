//! Addresses of repositories: `git+https://HOST/x.git@REV#subdirectory=DIR`, as pip and PEP 610 have them.
//!
//! Text to text, and strict: what is read here becomes an argument of a program, so nothing is let through that this program could
//! take for an option, for another way to connect, or for more than one word. Nothing here runs it.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::limits::LOCK_TEXT_BYTES_MAX;

/// What an address of a repository begins with.
pub(crate) const PREFIX: &str = "git+";
/// Who everybody is on a server of repositories: not a secret, and not to be left out.
const EVERYBODY: &str = "git";

/// A repository, and what of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    /// What git is told: `https://HOST/x.git`.
    pub(crate) remote: String,
    /// A branch, a tag, a commit, or a whole name of a reference; nothing for what the server calls `HEAD`.
    pub(crate) revision: Option<String>,
    /// The directory in it, decoded; nothing for all of it.
    pub(crate) subdirectory: Option<String>,
}

/// A repository and what a fragment says of the package: its name with extras, which only lines without a name need.
pub(super) struct Read {
    pub(super) repository: Repository,
    pub(super) egg: Option<String>,
}

impl Repository {
    /// What an address means; `None` for one that is none of a repository, or none that may be followed.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        read(url.as_str()).ok().map(|read| read.repository)
    }

    /// The address in the one way in which it is written.
    pub(crate) fn address(&self) -> String {
        self.written(&self.remote, &[])
    }

    /// The same without a name that only one person has.
    pub(crate) fn plain(&self) -> String {
        self.written(&self.shown(), &[])
    }

    /// The same with the commit that it means, for plans and locks.
    pub(crate) fn source(&self, commit: &str) -> String {
        self.written(&self.shown(), &[format!("commit={commit}")])
    }

    /// The repository alone, for people, plans and locks.
    pub(crate) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.remote.split_once("://") else { return String::new() };
        // A path may have an `@` of its own, and what stands before that is no name of anybody.
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        match authority.split_once('@') {
            Some((user, host)) if user != EVERYBODY => format!("{scheme}://{host}{path}"),
            _ => self.remote.clone(),
        }
    }

    /// The reference or commit that is meant, for people.
    pub(crate) fn wanted(&self) -> &str {
        self.revision.as_deref().unwrap_or("HEAD")
    }

    /// The same as whoever installs it asked for it.
    pub(crate) fn requested(&self) -> Option<&str> {
        let revision = self.revision.as_deref()?;
        let names = [HEADS, TAGS];
        Some(names.iter().find_map(|name| revision.strip_prefix(name)).unwrap_or(revision))
    }

    fn written(&self, remote: &str, more: &[String]) -> String {
        let revision = self.revision.as_ref().map(|it| format!("@{it}")).unwrap_or_default();
        let directory = self.subdirectory.as_ref().map(|it| {
            let encoded = percent_encoding::utf8_percent_encode(it, super::ESCAPED);
            format!("subdirectory={encoded}")
        });
        let parts: Vec<String> = directory.into_iter().chain(more.iter().cloned()).collect();
        let fragment = if parts.is_empty() { "" } else { "#" };
        format!("{PREFIX}{remote}{revision}{fragment}{}", parts.join("&"))
    }
}

/// Where branches are.
pub(crate) const HEADS: &str = "refs/heads/";
/// Where tags are.
pub(crate) const TAGS: &str = "refs/tags/";

/// Whether a text is the whole name of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    matches!(text.len(), 40 | 64) && text.bytes().all(is_digit)
}

/// Reads what [`Repository::source`] wrote: what a lock says of where a package comes from.
pub(crate) fn of_source(text: &str) -> Option<(Repository, String)> {
    let (head, commit) = text.rsplit_once("commit=")?;
    let address = head.strip_suffix(['#', '&'])?;
    let Read { repository, egg } = read(address).ok()?;
    let is_whole = is_commit(commit) && egg.is_none() && text.len() <= LOCK_TEXT_BYTES_MAX;
    (is_whole && repository.source(commit) == text).then(|| (repository, commit.to_owned()))
}

/// Reads an address; why it cannot be followed comes after the line that has it.
pub(super) fn read(text: &str) -> Result<Read, String> {
    let refused = |what: &str| Err(format!("{what}, so it is not followed"));
    // What is left are letters that mean themselves to a shell, to git and in an address.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#[]@!'()*+,;=%&".contains(c);
    if text.len() > LOCK_TEXT_BYTES_MAX || !text.chars().all(is_plain) {
        return refused("has a character that no address of a repository has");
    }
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    let address = address.strip_prefix(PREFIX).unwrap_or_default();
    let Some((scheme, rest)) = address.split_once("://") else {
        return refused("is no address such as `git+https://HOST/x.git`");
    };
    if !matches!(scheme, "https" | "ssh" | "file") {
        return Err(format!(
            "is reached by `{scheme}`, which is not supported; `https`, `ssh` and `file` are"
        ));
    }
    if rest.contains('?') {
        return refused("asks its server something with a `?`");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority_of(scheme, authority)?;
    let (path, revision) = match path.rsplit_once('@') {
        Some((path, revision)) => (path, Some(revision)),
        None => (path, None),
    };
    if let Some(revision) = revision.filter(|revision| !is_revision(revision)) {
        return Err(format!("names `{revision}`, which is no branch, tag or commit"));
    }
    check_path(path)?;
    let (subdirectory, egg) = fragment_of(fragment)?;
    let remote = format!("{scheme}://{authority}{path}");
    // A shorter one may be the name of a branch or a tag.
    let lower = |it: &str| Some(it.to_ascii_lowercase()).filter(|lower| is_commit(lower));
    let revision = revision.map(|it| lower(it).unwrap_or_else(|| it.to_owned()));
    Ok(Read { repository: Repository { remote, revision, subdirectory }, egg })
}

/// The host with its port, and who is asked for by ssh.
fn authority_of(scheme: &str, authority: &str) -> Result<String, String> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let is_word = |text: &str| {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !text.is_empty() && !text.starts_with(['-', '.']) && text.chars().all(is_letter)
    };
    match (scheme, user) {
        (_, None) => {}
        ("ssh", Some(user)) if is_word(user) => {}
        _ => return Err(LOGIN.to_owned()),
    }
    if scheme == "file" {
        return match host {
            "" | "localhost" => Ok(String::new()),
            _ => Err("names a repository of another machine by its path".to_owned()),
        };
    }
    let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':').or((port.is_empty()).then_some("0"))),
        None => host.split_once(':').map_or((host, Some("0")), |(name, port)| (name, Some(port))),
    };
    let is_number = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    let is_name = match host.starts_with('[') {
        true => name.contains(':') && name.chars().all(is_number),
        false => is_word(name),
    };
    let is_digits = |port: &&str| !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
    let is_port = port.filter(is_digits).is_some_and(|port| port.parse::<u16>().is_ok());
    if !is_name || !is_port {
        return Err("has no usable host".to_owned());
    }
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    Ok(format!("{user}{}", host.to_ascii_lowercase()))
}

/// Said without the words themselves.
const LOGIN: &str =
    "has a login in its address, which belongs into git's own credential helper or into ssh's keys";

/// A path from the root that leads to something, without a step back.
fn check_path(path: &str) -> Result<(), String> {
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| NO_PATH)?;
    let is_step = |part: &str| matches!(part, "." | "..");
    let is_fine = path.starts_with('/')
        && !path.trim_matches('/').is_empty()
        && !path.contains("//")
        && !decoded.split('/').any(is_step)
        && !decoded.chars().any(crate::spec::steers);
    is_fine.then_some(()).ok_or_else(|| NO_PATH.to_owned())
}

const NO_PATH: &str = "names no repository by its path";

/// Fewer digits name no commit: git itself writes seven.
pub(crate) const COMMIT_DIGITS_MIN: usize = 7;

/// Whether a text can be a name of a reference as git takes it, and nothing else that git would understand in its place.
fn is_revision(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-' | '+');
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.'])
            && !part.ends_with(".lock")
    };
    text.len() <= REVISION_BYTES_MAX
        && text.chars().all(is_letter)
        && !text.contains("..")
        && text.split('/').all(is_part)
}

/// Bytes of a branch's or a tag's name: a file's.
const REVISION_BYTES_MAX: usize = 255;

/// The directory and the name of the package that a fragment says.
fn fragment_of(fragment: &str) -> Result<(Option<String>, Option<String>), String> {
    let (mut subdirectory, mut egg) = (None, None);
    for part in fragment.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("egg", name)) if egg.is_none() && !name.is_empty() => egg = Some(name.to_owned()),
            Some(("subdirectory", path)) if subdirectory.is_none() => {
                subdirectory = Some(directory(path)?);
            }
            // The key alone: what follows may be a secret.
            Some((key, _)) => return Err(format!("has `#{key}=`, which is not known")),
            None => return Err("has a `#` and then what is not known".to_owned()),
        }
    }
    Ok((subdirectory.filter(|path| !path.is_empty()), egg))
}

fn directory(path: &str) -> Result<String, String> {
    let no_path = || "has a subdirectory that is no path within the repository".to_owned();
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| no_path())?;
    let is_odd = |part: &&str| matches!(*part, "..") || part.eq_ignore_ascii_case(".git");
    let parts: Vec<&str> =
        decoded.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let steers = decoded.chars().any(|c| crate::spec::steers(c) || matches!(c, '\\' | ':' | '&'));
    if decoded.starts_with('/') || steers || parts.iter().any(is_odd) {
        return Err(no_path());
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_in_one_way() {
        for (text, expected) in [
            ("git+https://H.invalid/a/x.git", "git+https://h.invalid/a/x.git"),
            ("git+https://h/x@v1.0", "git+https://h/x@v1.0"),
            ("git+https://h/x@release/1+a_b-c", "git+https://h/x@release/1+a_b-c"),
            ("git+https://h:8443/x.git@20240101B", "git+https://h:8443/x.git@20240101B"),
            ("git+https://evil/@h/p/x.git@v1", "git+https://evil/@h/p/x.git@v1"),
            ("git+ssh://git@evil/me@h/x@DEADBEEF", "git+ssh://git@evil/me@h/x@DEADBEEF"),
            ("git+file:///srv/@x/y@main", "git+file:///srv/@x/y@main"),
            ("git+ssh://git@h/x.git@main#egg=a", "git+ssh://git@h/x.git@main"),
            ("git+ssh://me@[::1]:22/~me/x", "git+ssh://me@[::1]:22/~me/x"),
            ("git+file:///srv/my%20x.git#egg=a[b]", "git+file:///srv/my%20x.git"),
            ("git+file://localhost/x#subdirectory=./a//b/", "git+file:///x#subdirectory=a/b"),
            ("git+https://h/x#subdirectory=a%20b&egg=c", "git+https://h/x#subdirectory=a%20b"),
            ("git+https://h/x#subdirectory=.", "git+https://h/x"),
            ("git+https://h/X.git/@refs/tags/v1", "git+https://h/X.git/@refs/tags/v1"),
        ] {
            let address = read(text).map(|read| read.repository.address());
            assert_eq!(address.as_deref(), Ok(expected));
            let url = Url::parse(expected).expect("an address");
            assert_eq!(url.as_str(), expected);
            let again = Repository::of(&url).expect("the same");
            assert_eq!(again.address(), expected);
            let commit = "0123456789abcdef0123456789abcdef01234567";
            let (found, of) = of_source(&again.source(commit)).expect("a source");
            assert_eq!((found.wanted(), of.as_str()), (again.wanted(), commit));
            // Whom git asks is who is shown, but for a name that only one person has.
            assert_eq!(found.remote, again.remote.replace("me@[", "["));
            let whole = format!("git+https://h/x@{}", commit.to_ascii_uppercase());
            assert_eq!(read(&whole).expect("one").repository.wanted(), commit);
        }
        // What only looks alike are two repositories.
        let remote = |text: &str| read(text).expect(text).repository.remote;
        let all = ["git+https://h/x", "git+https://h/X", "git+https://h/x.git", "git+https://h/x/"];
        let found: std::collections::BTreeSet<String> = all.map(remote).into();
        assert_eq!(found.len(), all.len());
    }

    #[test]
    fn what_a_program_could_take_for_something_else_is_refused() {
        for (text, why) in [
            ("git+http://h/x", "by `http`"),
            ("git+git://h/x", "by `git`"),
            ("git+ext::sh", "no address"),
            ("git+ext://sh/x", "by `ext`"),
            ("git+https://me:hush@h/x", "a login"),
            ("git+https://hush@h/x", "a login"),
            ("git+ssh://git:hush@h/x", "a login"),
            ("git+ssh://-oProxyCommand=hush/x", "no usable host"),
            ("git+ssh://-v@h/x", "a login"),
            ("git+https:///x", "no usable host"),
            ("git+https://h:/x", "no usable host"),
            ("git+https://h:99999/x", "no usable host"),
            ("git+https://h", "no repository"),
            ("git+https://h/", "no repository"),
            ("git+https://h/a/../x", "no repository"),
            ("git+https://h/%2e%2e/x", "no repository"),
            ("git+https://h/a%0ab", "no repository"),
            ("git+file://h/x", "another machine"),
            ("git+https://h/x@", "names ``"),
            ("git+https://h/x@--upload-pack=y", "names `--upload-pack=y`"),
            ("git+https://h/x@a..b", "names `a..b`"),
            ("git+https://h/x@a~1", "names `a~1`"),
            ("git+https://h/x@a/-b", "names `a/-b`"),
            ("git+https://h/x@a.lock", "names `a.lock`"),
            ("git+https://h/x@:/fix", "names `:/fix`"),
            ("git+https://h/x?hush", "asks its server"),
            ("git+https://h/x#subdirectory=../y", "subdirectory"),
            ("git+https://h/x#subdirectory=/y", "subdirectory"),
            ("git+https://h/x#subdirectory=a/.GIT/b", "subdirectory"),
            ("git+https://h/x#subdirectory=a%3ab", "subdirectory"),
            ("git+https://h/x#sha256=00", "`#sha256=`, which is not known"),
            ("git+https://h/x#token=hush", "`#token=`, which is not known"),
            ("git+https://h/x#egg=x&hush", "not known"),
            ("git+https://h/x y", "a character"),
            ("git+https://h/${HOME}", "a character"),
            ("git+https://h/x\u{202e}", "a character"),
        ] {
            let refused = read(text).err().unwrap_or_else(|| panic!("{text} is read"));
            assert!(refused.contains(why), "{text}: {refused}");
            assert!(!refused.contains("hush"), "{refused}");
        }
        for source in [
            "git+https://h/x#commit=0123",
            "git+https://h/x",
            "git+https://h/x#egg=a&commit=0123456789abcdef0123456789abcdef01234567",
            "git+ssh://me@h/x#commit=0123456789abcdef0123456789abcdef01234567",
            "git+https://H/x#commit=0123456789abcdef0123456789abcdef01234567",
        ] {
            assert_eq!(of_source(source), None, "{source}");
        }
    }

    #[test]
    fn a_name_that_only_one_person_has_is_not_shown() {
        let shown = |text: &str| read(text).expect(text).repository.source("0");
        assert_eq!(shown("git+ssh://alice@h/x@v1"), "git+ssh://h/x@v1#commit=0");
        let git = shown("git+ssh://git@h/x#subdirectory=a");
        assert_eq!(git, "git+ssh://git@h/x#subdirectory=a&commit=0");
        let requested =
            |text: &str| read(text).expect(text).repository.requested().map(str::to_owned);
        assert_eq!(requested("git+https://h/x@refs/tags/v1").as_deref(), Some("v1"));
        assert_eq!(requested("git+https://h/x@v1").as_deref(), Some("v1"));
        assert_eq!(requested("git+https://h/x"), None);
    }
}
