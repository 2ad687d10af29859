//! Repositories of git in an operation: which commit is meant, and its files; fetched once, and found again offline.

use std::path::Path;

use super::{Shop, Task};
use crate::error::{Error, Kind, Result};
use crate::git::{self, DAMAGED, Git, Kept, Meant, Other, Room};
use crate::manifest::address::git::Repository;

impl Task<'_> {
    /// Asks the server of a repository which commit is meant.
    pub(super) fn ask_repository(&self, repository: &Repository) -> Result<Meant> {
        if self.setting.offline {
            return Err(not_here(repository, repository.wanted()));
        }
        let shown = repository.shown();
        let wanted = repository.wanted();
        self.say("resolve", format!("asking `{shown}` for `{wanted}`"), 0, 0);
        self.with_git(|git| git.ask(repository))
    }

    /// Writes the files of a commit to `into`; `scratch` is a directory of this request. Which commit it is: a branch may have moved
    /// between two questions.
    pub(super) fn write_commit(
        &self,
        repository: &Repository,
        meant: &Meant,
        (scratch, into): (&Path, &Path),
    ) -> Result<String> {
        let root = &self.shop.repositories;
        let mut other = Other::AsGood;
        if let Some(kept) = Kept::find(root, repository, &meant.commit)? {
            let about = (repository, meant.commit.as_str());
            let written = self.with_git(|git| git.write_tree(about, kept.path(), (scratch, into)));
            match written {
                // Its disk may have lost something, or changed it. What was begun is the request's, and goes with it.
                Err(error) if error.code == DAMAGED && !self.setting.offline => {
                    tracing::warn!(%error, "a repository that was kept is fetched again");
                    other = kept.discard(&mut |path| self.shop.remove_repository(path));
                    let away = scratch.join("unfinished");
                    std::fs::rename(into, &away)
                        .or_else(absent_is_fine)
                        .map_err(|error| Error::io("move", into, &error))?;
                }
                written => return written.map(|()| meant.commit.clone()),
            }
        }
        if self.setting.offline {
            return Err(not_here(repository, &meant.commit));
        }
        let (shown, wanted) = (repository.shown(), &meant.commit);
        self.say("fetch", format!("fetching `{wanted}` of `{shown}`"), 0, 0);
        let place = scratch.join("repository");
        let commit = self.with_git(|git| git.fetch(repository, meant, &place))?;
        let about = (repository, commit.as_str());
        let written = self.with_git(|git| git.write_tree(about, &place, (scratch, into)));
        // Kept it would be thrown away and fetched again by every run.
        if let Err(error) = &written
            && error.code == DAMAGED
        {
            return Err(not_whole(&error.message));
        }
        let kept = Kept::keep(root, (repository, &commit), &place, other)?;
        self.shop.shrink_repositories(Room::Usual);
        drop(kept);
        written.map(|()| commit)
    }

    fn with_git<T>(&self, act: impl FnOnce(&Git<'_>) -> Result<T>) -> Result<T> {
        self.check_wanted()?;
        let helper = git::own_program();
        let variable = |name: &str| self.variable(name);
        let cancellation = self.conversation.cancellation();
        act(&Git { helper: &helper, variable: &variable, cancellation })
    }
}

impl Shop {
    /// Removes repositories that were not used for longest, until the others fit, or all that nobody reads; bytes of them.
    pub(super) fn shrink_repositories(&self, room: Room) -> u64 {
        git::shrink(&self.repositories, room, &mut |path| self.remove_repository(path))
    }

    /// Moves one to where what nobody needs is removed.
    fn remove_repository(&self, path: &Path) -> Result<()> {
        let away = self.new_incoming()?;
        let to = away.path().join("repository");
        std::fs::rename(path, &to).map_err(|error| Error::io("move away", path, &error))
    }
}

fn absent_is_fine(error: std::io::Error) -> std::io::Result<()> {
    match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// Why what was fetched just now cannot be read.
fn not_whole(why: &str) -> Error {
    Error::new(
        Kind::Failed,
        "git-not-whole",
        format!("what was fetched just now is not whole: {why}"),
    )
    .hint("name another revision, or an archive of the source; nothing was changed")
}

fn not_here(repository: &Repository, wanted: &str) -> Error {
    let shown = repository.shown();
    let message =
        format!("`{wanted}` of `{shown}` is not kept here, and nothing is fetched offline");
    Error::new(Kind::Network, "offline-missing", message)
        .hint("run the command once without `--offline`")
}
