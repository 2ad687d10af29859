//! Which commit a server means, and its objects: as few of them as the server gives alone.

use std::path::Path;

use super::limits::{GIT_FILE_BYTES_MAX, GIT_PLACE_BYTES_MAX, GIT_PLACE_FILES_MAX};
use super::run::{Ended, Git, NOWHERE, Order, Reach};
use super::size;
use crate::error::{Error, Kind, Result};
use crate::manifest::address::git::{COMMIT_DIGITS_MIN, HEADS, Repository, TAGS, is_commit};

/// Where what is wanted goes by here.
const WANTED: &str = "refs/bolide/wanted";
/// All branches and tags, and where they go by here.
const ALL: [&str; 2] = ["+refs/heads/*:refs/bolide/heads/*", "+refs/tags/*:refs/bolide/tags/*"];
/// Where what else the manifest names goes by here.
const NAMED: &str = "refs/bolide/named";
/// What git says of servers that do not give a commit by its name. The last is how it begins to tell what a server ends with in words of
/// its own: a server that has nothing else to give says so once more.
const NOT_BY_NAME: [&str; 4] = ["not our ref", "unadvertised object", NO_REFERENCE, SERVERS_WORDS];
/// What it says of one that has no such reference.
const NO_REFERENCE: &str = "couldn't find remote ref";
/// What it says of those that give nothing but their files: every object is one, as many as such a server likes.
const BY_FILES: &str = "dumb http";
/// As deep as it goes. Without a depth git takes such a server's files, too; with one it refuses.
const WHOLE: &str = "--depth=2147483647";
/// What it says of those that know no depth.
const NOT_ALONE: [&str; 2] = ["does not support shallow", "shallow capabilities"];
/// By HTTP git takes the files of a server that speaks nothing better, and no setting but a depth keeps it from that. One that says first
/// that it knows no depth could give its files the next time.
const NOT_BY_HTTP: [&str; 2] = ["protocol.http.allow=never", "protocol.https.allow=never"];
/// What it says of a way that is not taken, with the way between both.
const WAY_NOT_ALLOWED: [&str; 2] = ["fatal: transport '", "' not allowed"];
/// What a server says begins so, where git ends by it.
const SERVERS_WORDS: &str = "remote error: ";

/// What is wanted of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    /// The commit, or the beginning of its name.
    pub(crate) commit: String,
    /// What the server calls it, where it was asked.
    pub(crate) reference: Option<String>,
}

impl Meant {
    /// A commit by its whole name.
    pub(crate) fn commit(commit: &str) -> Self {
        Self { commit: commit.to_owned(), reference: None }
    }

    pub(crate) fn is_whole(&self) -> bool {
        is_commit(&self.commit)
    }

    /// Whether it is a tag, which nobody expects to move.
    pub(crate) fn is_tag(&self) -> bool {
        self.reference.as_ref().is_some_and(|name| name.starts_with(TAGS))
    }
}

impl Git<'_> {
    /// Asks the server which commit is meant. Of a branch and a tag of one name it is the branch, as for pip and uv.
    pub(crate) fn ask(&self, repository: &Repository) -> Result<Meant> {
        let names: Vec<String> = match repository.revision.as_deref() {
            None => vec!["HEAD".to_owned()],
            Some(name) if name.starts_with("refs/") => vec![name.to_owned()],
            Some(name) => [HEADS, TAGS].map(|begin| format!("{begin}{name}")).into(),
        };
        let peeled: Vec<String> = names.iter().map(|name| format!("{name}^{{}}")).collect();
        let mut arguments = vec!["ls-remote", "--quiet", "--", repository.remote.as_str()];
        arguments.extend(names.iter().chain(&peeled).map(String::as_str));
        let nowhere = Some(Path::new(NOWHERE));
        let ended = self.run(&Order::new(Reach::Server, nowhere, &arguments))?;
        if !ended.is_well {
            return Err(unreachable(repository, &ended));
        }
        let said = String::from_utf8_lossy(&ended.said);
        let found = |wanted: &str| {
            let mut lines = said.lines().filter_map(|line| line.split_once('\t'));
            lines.find_map(|(object, name)| (name == wanted && is_commit(object)).then_some(object))
        };
        for (name, peeled) in names.iter().zip(&peeled) {
            if let Some(object) = found(peeled).or_else(|| found(name)) {
                return Ok(Meant { commit: object.to_owned(), reference: Some(name.clone()) });
            }
        }
        let wanted = repository.wanted();
        let is_digits = wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        match is_digits && (COMMIT_DIGITS_MIN..64).contains(&wanted.len()) {
            // Only now: branches and tags may be called so in capitals.
            true => Ok(Meant::commit(&wanted.to_ascii_lowercase())),
            false => Err(unknown(repository, wanted)),
        }
    }

    /// Makes a repository at `place` that has the commit; which one it is.
    pub(crate) fn fetch(
        &self,
        repository: &Repository,
        meant: &Meant,
        place: &Path,
    ) -> Result<String> {
        let format = if meant.commit.len() == 64 { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        let path = place.to_string_lossy();
        let init = ["init", "--bare", "--quiet", "--template=", &format, &path];
        self.run_here(&Order::new(Reach::Here, None, &init))?;
        let is_not_alone = |ended: &Ended| !ended.says(&[BY_FILES]) && ended.says(&NOT_ALONE);
        let mut depth = Some(WHOLE);
        if meant.is_whole() {
            let name = meant.reference.as_ref().unwrap_or(&meant.commit);
            let one = format!("+{name}:{WANTED}");
            let ended = self.fetch_some(repository, place, Some("--depth=1"), &[&one])?;
            if ended.is_well {
                return self.commit_of(repository, WANTED, place);
            }
            let is_by_name =
                meant.reference.is_none() && ended.says(&NOT_BY_NAME) && !ended.says(&[BY_FILES]);
            match is_not_alone(&ended) {
                true => depth = None,
                false if is_by_name => {}
                false => return Err(unreachable(repository, &ended)),
            }
        }
        // A server that does not give one alone has it behind a branch, a tag or what the manifest names, or nowhere.
        let mut named = named(repository, meant).map(|name| format!("+{name}:{NAMED}"));
        loop {
            let all: Vec<&str> = ALL.into_iter().chain(named.as_deref()).collect();
            let ended = self.fetch_some(repository, place, depth, &all)?;
            let is_way_closed = || WAY_NOT_ALLOWED.iter().all(|words| ended.says(&[words]));
            match () {
                () if ended.is_well => break,
                () if depth.is_some() && is_not_alone(&ended) => depth = None,
                // It may be gone, and the commit behind a branch by now.
                () if named.is_some() && ended.says(&[NO_REFERENCE]) => named = None,
                () if depth.is_none() && is_way_closed() && !ended.says(&[SERVERS_WORDS]) => {
                    return Err(without_depth(repository));
                }
                () => return Err(unreachable(repository, &ended)),
            }
        }
        self.pack_names(place)?;
        self.commit_of(repository, &meant.commit, place)
    }

    /// Writes the names of all branches and tags into one file, where each of them is one before. Without that they only take more room.
    fn pack_names(&self, place: &Path) -> Result<()> {
        let order = Order::new(Reach::Here, Some(place), &["pack-refs", "--all", "--prune"]);
        let ended = self.run(&order)?;
        if !ended.is_well {
            tracing::debug!(?place, why = ended.why, "names of branches stay as they are");
        }
        Ok(())
    }

    /// Fetches as much as a depth says; without one never by HTTP.
    ///
    /// # Errors
    /// Those of [`Git::run`], and `git-too-large`: nobody asks once more for what has no room.
    fn fetch_some(
        &self,
        repository: &Repository,
        place: &Path,
        depth: Option<&str>,
        references: &[&str],
    ) -> Result<Ended> {
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ];
        arguments.extend(depth);
        arguments.extend(["--", repository.remote.as_str()]);
        arguments.extend(references);
        let order = Order::new(Reach::Server, Some(place), &arguments);
        let off: &[&str] = if depth.is_some() { &[] } else { &NOT_BY_HTTP };
        let ended = self.run(&Order { off, ..order })?;
        match !ended.is_well && is_too_large(place) {
            true => Err(too_large(repository)),
            false => Ok(ended),
        }
    }

    fn commit_of(&self, repository: &Repository, name: &str, place: &Path) -> Result<String> {
        let commit = format!("{name}^{{commit}}");
        let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", &commit];
        let ended = self.run(&Order::new(Reach::Here, Some(place), &arguments))?;
        let said = String::from_utf8_lossy(&ended.said);
        let commit = said.lines().rev().map(str::trim).find(|line| is_commit(line));
        let commit = commit.filter(|_| ended.is_well);
        commit.map(str::to_owned).ok_or_else(|| unknown(repository, name))
    }
}

/// What is fetched beside branches and tags: what the manifest names and is neither, as a request for a merge.
fn named<'n>(repository: &'n Repository, meant: &'n Meant) -> Option<&'n str> {
    let name = meant.reference.as_deref().or(repository.revision.as_deref()).unwrap_or("HEAD");
    let is_other =
        name.starts_with("refs/") && ![HEADS, TAGS].iter().any(|it| name.starts_with(it));
    (is_other || name == "HEAD").then_some(name)
}

/// Whether a bound ended what was fetched. It is seen by what lies there, since words get lost among those of a server, and can be forged by
/// it: whoever writes a file beyond its bound is ended there, and what takes too much room stays as it was when it was ended.
fn is_too_large(place: &Path) -> bool {
    let size = size::of(place, GIT_PLACE_FILES_MAX);
    size.largest_bytes >= GIT_FILE_BYTES_MAX
        || size.bytes > GIT_PLACE_BYTES_MAX
        || size.files > GIT_PLACE_FILES_MAX
}

fn too_large(repository: &Repository) -> Error {
    let shown = repository.shown();
    let message = format!("`{shown}` is too large to be fetched: it takes more room than it may");
    Error::new(Kind::Refused, "git-too-large", message).hint("name an archive of its source")
}

fn without_depth(repository: &Repository) -> Error {
    let shown = repository.shown();
    let message = format!(
        "the server of `{shown}` knows no depth of a history, and without one git would take file by file from it by HTTP"
    );
    Error::new(Kind::Refused, "git-without-depth", message)
        .hint("reach it by ssh, name a mirror with a newer server, or an archive of its source")
}

fn unreachable(repository: &Repository, ended: &Ended) -> Error {
    let (shown, why) = (repository.shown(), &ended.why);
    if ended.says(&[BY_FILES]) {
        let message =
            format!("`{shown}` is given file by file, without an end that could be known before");
        return Error::new(Kind::Refused, "git-by-files", message)
            .hint("name a mirror that speaks git's own protocol, or an archive of its source");
    }
    Error::new(Kind::Network, "git-unreachable", format!("git cannot read `{shown}`: {why}")).hint(
        format!("see whether `git ls-remote {shown}` works; logins are git's and ssh's own matter"),
    )
}

fn unknown(repository: &Repository, wanted: &str) -> Error {
    let shown = repository.shown();
    let wanted = wanted.strip_prefix("refs/bolide/").unwrap_or(wanted);
    let message = format!("`{shown}` has no branch, tag or commit `{wanted}`");
    Error::new(Kind::Failed, "git-no-revision", message)
        .hint("correct what the manifest names; where it was locked, `bolide update` takes what is there now")
}
