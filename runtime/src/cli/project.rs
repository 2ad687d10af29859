//! Which project a command is about: from the directory that it was started in, or that was named, upwards.

use std::path::{Path, PathBuf};

use agents_contract::ToolError;
use agents_packager::api::{HistoryAnswer, HistoryEntry, HistoryRequest};
use agents_packager::ecosystem::Ecosystem;
use agents_packager::manifest::package_json::named::{Named, named};
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
        let texts = packages.iter().copied().flatten();
        let specs: Vec<Spec> = texts.filter_map(|text| Spec::parse(text).ok()).collect();
        let mut named: Vec<Ecosystem> = specs.iter().map(|spec| spec.ecosystem).collect();
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
        let is_here = self.dir.canonicalize().is_ok_and(|start| start == found.root);
        // Of a member the Packager says what to do.
        if !is_here && found.member.is_empty() && specs.iter().any(is_relative) {
            let message = format!(
                "a package is named by a path, which counts from the project at `{}`",
                found.root.display()
            );
            let hint = "run the command there, with the path from there";
            return Err(tool_error(2, "relative-path", &message, hint).into());
        }
        // A member is meant where its packages are named.
        let member = if named.is_empty() { String::new() } else { found.member.clone() };
        Ok((self.told(found), member))
    }

    /// The same at the project whose manifests are followed.
    pub(super) fn at_project(&self) -> Result<Self, Failure> {
        Ok(self.told(find(&self.dir, Purpose::Whole)?))
    }

    /// The same at the project whose manifests are followed, and at the others that may be meant: the directory's own, and those
    /// of its workspaces.
    pub(super) fn candidates(&self) -> Result<(Self, Vec<Self>), Failure> {
        let first = self.silently()?;
        let mut others = self.roots()?;
        others.retain(|other| *other != first.dir);
        others.dedup();
        Ok((first, others.into_iter().map(|dir| self.with(dir)).collect()))
    }

    /// The directory's own project, and the roots of its workspaces.
    fn roots(&self) -> Result<Vec<PathBuf>, Failure> {
        let own = find(&self.dir, Purpose::Named(&[]))?.root;
        // What is broken above is told about by whoever needs it.
        let above = [Ecosystem::Npm, Ecosystem::Cargo];
        let above = above.iter().filter_map(|it| {
            Some(find(&self.dir, Purpose::Named(std::slice::from_ref(it))).ok()?.root)
        });
        Ok([own].into_iter().chain(above).collect())
    }

    /// The same at the project that has a record of what was done.
    pub(super) fn at_record(&self) -> Result<Self, Failure> {
        Ok(self.told(find(&self.dir, Purpose::Record)?))
    }

    /// The same at the project that has a transaction, of those that may be meant.
    pub(super) fn at_transaction(&self, wanted: &str, context: &Context) -> Result<Self, Failure> {
        let places = self.with_records()?;
        if places.len() > 1 {
            for place in &places {
                if self
                    .with(place.clone())
                    .newest(context, |it| it.transaction == wanted)?
                    .is_some()
                {
                    return Ok(self.told(Found::at(place)));
                }
            }
        }
        // It is refused there, with what leads on.
        self.at_record()
    }

    /// The same at the project whose latest transaction is taken back where none is named: the nearest in which anything was done.
    /// Where something that stands was done later in another of those that may be meant, it has to be said which.
    pub(super) fn at_latest(&self, context: &Context) -> Result<Self, Failure> {
        let places = self.with_records()?;
        let mut nearest: Option<(&PathBuf, Option<HistoryEntry>)> = None;
        let mut latest: Option<(&PathBuf, HistoryEntry)> = None;
        for place in &places {
            let there = self.with(place.clone());
            if places.len() == 1 || there.newest(context, |_| true)?.is_none() {
                continue;
            }
            let standing = there.newest(context, stands)?;
            // Names of transactions sort by time.
            if let Some(entry) = &standing
                && latest.as_ref().is_none_or(|(_, other)| entry.transaction > other.transaction)
            {
                latest = Some((place, entry.clone()));
            }
            nearest = nearest.or(Some((place, standing)));
        }
        let Some((nearest, own)) = nearest else { return self.at_record() };
        let Some((place, entry)) = latest.filter(|(place, _)| *place != nearest) else {
            return Ok(self.told(Found::at(nearest)));
        };
        let message = format!(
            "it is not clear what is to be taken back: what was done last, `{}`, was done in `{}`, and not in `{}`",
            entry.summary,
            place.display(),
            nearest.display()
        );
        let mut hint = format!("run `bolide rollback {}` to undo that", entry.transaction);
        if let Some(own) = own {
            let HistoryEntry { transaction, summary, .. } = own;
            hint += &format!(", or `bolide rollback {transaction}` to undo `{summary}` here");
        }
        Err(tool_error(2, "rollback-unclear", &message, &hint).into())
    }

    /// The directories in which something that is meant may have been done, the nearest first.
    fn with_records(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut places = self.roots()?;
        places.extend(find(&self.dir, Purpose::Record).map(|found| found.root).ok());
        places.push(self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone()));
        places.sort_by_key(|place| std::cmp::Reverse(place.components().count()));
        places.dedup();
        Ok(places)
    }

    /// The newest transaction here that is as asked for.
    fn newest(
        &self,
        context: &Context,
        is_wanted: impl Fn(&HistoryEntry) -> bool,
    ) -> Result<Option<HistoryEntry>, Failure> {
        let mut asker = Asker::open(self, context)?;
        let mut request = HistoryRequest::default();
        loop {
            let answer: HistoryAnswer = asker.ask("pkg.history", &request)?;
            let oldest = answer.transactions.last().map(|entry| entry.transaction.clone());
            let found = answer.transactions.into_iter().find(&is_wanted);
            if found.is_some() || !answer.has_more || oldest.is_none() {
                return Ok(found);
            }
            request.before = oldest;
        }
    }

    /// The same at the project whose configuration counts, for an answer that is not about the project.
    pub(super) fn silently(&self) -> Result<Self, Failure> {
        Ok(self.with(find(&self.dir, Purpose::Whole)?.root))
    }

    fn with(&self, dir: PathBuf) -> Self {
        Self { dir, ..self.clone() }
    }

    /// Says which project it is, where it is not the directory itself, and which it is not.
    pub(super) fn told(&self, found: Found) -> Self {
        let is_other = self.dir.canonicalize().is_ok_and(|start| start != found.root);
        if is_other && !self.json {
            output::note(&format!("project: {}", found.root.display()));
        }
        if let Some(passed) = found.passed_over.filter(|_| !self.json) {
            let quoted = workspace::quoted(&passed.to_string_lossy());
            let passed = passed.display();
            output::note(&format!(
                "`{passed}` looks like a project, but others may write there, or it lies beyond the home directory or on \
                 another file system, so it is left alone; `--dir {quoted}` takes it"
            ));
        }
        self.with(found.root)
    }
}

/// Whether a rollback can undo it.
fn stands(entry: &HistoryEntry) -> bool {
    entry.state == "committed" && entry.operation != "rollback"
}

/// Whether a package is named by a path that is relative to something.
fn is_relative(spec: &Spec) -> bool {
    match spec.ecosystem {
        Ecosystem::Npm => match named(&spec.requirement) {
            Some(Named::Path { path, .. }) => !path.starts_with(['/', '~']),
            _ => false,
        },
        Ecosystem::Pypi => {
            let address = spec.requirement.trim_start_matches(['@', ' ']);
            address.strip_prefix("file:").is_some_and(|path| !path.starts_with('/'))
        }
        _ => false,
    }
}

/// The project of a directory.
pub(super) fn find(directory: &Path, purpose: Purpose<'_>) -> Result<Found, Failure> {
    let home = std::env::home_dir();
    let found = workspace::find(directory, home.as_deref(), purpose);
    found.map_err(|error| ToolError::from(error).into())
}
