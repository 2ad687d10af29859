//! Which project a command is about: from the directory that it was started in, or that was named, upwards.

use std::path::{Path, PathBuf};

use agents_contract::ToolError;
use agents_packager::api::{HistoryAnswer, HistoryRequest};
use agents_packager::ecosystem::Ecosystem;
use agents_packager::spec::Spec;
use agents_packager::workspace::{self, Found, Purpose};

use super::Context;
use super::exit::Failure;
use super::output;
use super::packages::{Asker, Common, tool_error};

impl Common {
    /// The same at the project in which packages are changed, with the workspace's member that is meant.
    pub(super) fn at_member(&self, packages: &[&Vec<String>]) -> Result<(Self, String), Failure> {
        // What cannot be read is refused by whoever carries the request out.
        let specs = packages.iter().copied().flatten().filter_map(|text| Spec::parse(text).ok());
        let mut named: Vec<Ecosystem> = specs.map(|spec| spec.ecosystem).collect();
        named.sort();
        named.dedup();
        let purpose = if named.is_empty() { Purpose::Whole } else { Purpose::Named(&named) };
        let found = find(&self.dir, purpose)?;
        if !found.member.is_empty() && named.len() > 1 {
            let message = format!(
                "`{}` is a member of the workspace at `{}`, which is changed by itself",
                self.dir.display(),
                found.root.display()
            );
            let hint = "ask for the packages of each ecosystem in a command of its own";
            return Err(tool_error(2, "workspace-member", &message, hint).into());
        }
        let Found { root, member } = found;
        let is_here = self.dir.canonicalize().is_ok_and(|start| start == root);
        let mut texts = packages.iter().copied().flatten();
        if let Some(text) = texts.find(|text| !is_here && is_relative(text)) {
            let message = format!(
                "`{text}` names a path, which counts from the project at `{}`",
                root.display()
            );
            let hint = "run the command there, with the path from there";
            return Err(tool_error(2, "relative-path", &message, hint).into());
        }
        // A member is meant where its packages are named.
        let member = if named.is_empty() { String::new() } else { member };
        Ok((self.told(root), member))
    }

    /// The same at the project whose manifests are followed.
    pub(super) fn at_project(&self) -> Result<Self, Failure> {
        Ok(self.told(find(&self.dir, Purpose::Whole)?.root))
    }

    /// The same at the project without its workspace.
    pub(super) fn at_own(&self) -> Result<Self, Failure> {
        Ok(self.told(find(&self.dir, Purpose::Named(&[]))?.root))
    }

    /// The same at the project that has a record of what was done.
    pub(super) fn at_record(&self) -> Result<Self, Failure> {
        Ok(self.told(find(&self.dir, Purpose::Record)?.root))
    }

    /// The same at the project whose latest transaction is taken back where none is named. Where something was done in more than one
    /// of those that may be meant, the directory itself and those above, it has to be said which.
    pub(super) fn at_latest(&self, context: &Context) -> Result<Self, Failure> {
        let found = find(&self.dir, Purpose::Record)?.root;
        let mut others = vec![self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone())];
        others.push(find(&self.dir, Purpose::Named(&[]))?.root);
        let named = [Ecosystem::Npm, Ecosystem::Cargo];
        others.push(find(&self.dir, Purpose::Named(&named))?.root);
        others.sort();
        others.dedup();
        others.retain(|other| *other != found);
        let latest = |directory: &PathBuf| -> Result<Option<String>, Failure> {
            let there = Self { dir: directory.clone(), ..self.clone() };
            let mut asker = Asker::open(&there, context)?;
            let history: HistoryAnswer = asker.ask("pkg.history", &HistoryRequest::default())?;
            Ok(history.transactions.into_iter().next().map(|entry| entry.transaction))
        };
        for other in others {
            // Names of transactions sort by time.
            let (theirs, ours) = (latest(&other)?, latest(&found)?);
            if theirs.is_none() || found.starts_with(&other) && theirs <= ours {
                continue;
            }
            let (found, other) = (found.display(), other.display());
            let message = format!(
                "it is not clear what is to be taken back: something was done in `{found}` and in `{other}`"
            );
            let hint = "name the transaction: `bolide history --all` lists them; without a name \
                        `bolide rollback` takes back what was done last in a project's own directory";
            return Err(tool_error(2, "rollback-unclear", &message, hint).into());
        }
        Ok(self.told(found))
    }

    /// The same at the project whose configuration counts, for an answer that is not about the project.
    pub(super) fn silently(&self) -> Result<Self, Failure> {
        let dir = find(&self.dir, Purpose::Whole)?.root;
        Ok(Self { dir, ..self.clone() })
    }

    /// Says which project it is, where it is not the directory itself.
    fn told(&self, root: PathBuf) -> Self {
        let is_other = self.dir.canonicalize().is_ok_and(|start| start != root);
        if is_other && !self.json {
            output::note(&format!("project: {}", root.display()));
        }
        Self { dir: root, ..self.clone() }
    }
}

/// Whether a package is named by a file at a path that is relative to something.
fn is_relative(text: &str) -> bool {
    let path = text.split_once("file:").map(|(_, path)| path);
    path.is_some_and(|path| !path.starts_with('/'))
}

/// The project of a directory.
pub(super) fn find(directory: &Path, purpose: Purpose<'_>) -> Result<Found, Failure> {
    let home = std::env::home_dir();
    let found = workspace::find(directory, home.as_deref(), purpose);
    found.map_err(|error| ToolError::from(error).into())
}
