//! A plan: everything that an operation would do, decided and nothing done yet.
//!
//! Its canonical bytes have a digest, and that is what an approval names. The digest covers all fields: equal
//! digests are equal plans. It is made of the digests of three pieces (`canonical`), so that of a large plan two are made at once. A plan holds what it was made from (the content of manifests and locks, the
//! generations of environments), so that one which no longer fits is refused instead of half right.

mod canonical;
#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;

use ring::digest::{self, Digest};
use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::error::{Error, Kind, Result};
use crate::limits::PLAN_BYTES_MAX;
use crate::resolution::Resolution;
use crate::spec::Spec;
use crate::system::Change;
use crate::transaction::{
    Content, EnvironmentState, Identity, Project, RelativePath, Transactions,
};

/// The version of the canonical form. It is part of the digest.
pub const SCHEMA_VERSION: u32 = 2;
/// The one before, of which plans that tell what is installed may be stored: its digest is over all bytes at once.
const SCHEMA_VERSION_OF_ONE_PIECE: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Files that change: manifests and lock files, sorted by path.
    pub edits: Vec<FileEdit>,
    /// Environments that are built anew, sorted by place.
    pub environments: Vec<Rebuild>,
    /// Packages that are younger than the age that is asked for, and why they are let through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<Exemption>,
    /// From then on it is refused.
    pub expires_at_ms: u64,
    /// Whether it is for another Python or platform than this machine's: to be looked at, and never carried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_elsewhere: bool,
    /// `add`, `remove`, `install`, `update`.
    pub operation: String,
    /// What it was made from.
    pub preconditions: Vec<Precondition>,
    /// The project.
    pub project: ProjectId,
    /// What was asked for, sorted.
    pub requested: Vec<Spec>,
    /// What was found, one for each ecosystem, sorted by it.
    pub resolutions: Vec<Resolution>,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What happens to packages of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Change>,
}

/// One package that is let through although it is too young.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exemption {
    /// The package URL.
    pub purl: String,
    /// When it was published, as the registry says; `None` where it does not.
    pub published: Option<String>,
    /// Who let it through: `named`, by its name or address; `locked`, because it was there before.
    pub reason: String,
}

/// Which project a plan is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectId {
    /// Its canonical path.
    pub path: String,
    /// Which directory that was.
    pub identity: Identity,
}

impl ProjectId {
    /// Names an open project.
    pub fn of(project: &Project) -> Self {
        Self { path: project.path().to_string_lossy().into_owned(), identity: project.identity() }
    }
}

/// One file that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEdit {
    /// All of its new bytes; `None`: it is removed.
    #[serde(with = "canonical::base64_bytes")]
    pub after: Option<Vec<u8>>,
    /// What it held; `None`: there was none.
    pub before: Option<Content>,
    /// Relative to the project.
    pub path: RelativePath,
}

/// One environment that is built anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// `node_modules`, `.venv`; relative to the project.
    pub place: RelativePath,
    /// Whose it is.
    pub ecosystem: Ecosystem,
}

/// One thing that has to be as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Precondition {
    /// A file that was read, or looked for in vain.
    File {
        /// Relative to the project.
        path: RelativePath,
        /// What it held; `None`: there was none.
        content: Option<Content>,
    },
    /// A file that the project names by its path, wherever it lies.
    Named {
        /// What it held.
        content: Content,
        /// Absolute.
        path: String,
    },
    /// A directory of source that the project names by its path.
    Tree {
        /// Absolute.
        path: String,
        /// The digest of what is source in it.
        sha256: String,
    },
    /// An environment.
    Environment {
        /// Relative to the project.
        place: RelativePath,
        /// How many changes it has seen; 0 before the first.
        generation: u64,
        /// What we installed there last.
        fingerprint: Option<String>,
    },
}

impl Precondition {
    /// That a file stays as it is now.
    pub fn file(project: &Project, path: RelativePath) -> Result<Self> {
        let content = project.content(&path)?;
        Ok(Self::File { path, content })
    }

    /// That an environment stays as it is now.
    pub fn environment(
        transactions: &Transactions,
        project: &Project,
        place: RelativePath,
    ) -> Result<Self> {
        let EnvironmentState { generation, fingerprint, .. } =
            transactions.environment(project, &place)?;
        Ok(Self::Environment { place, generation, fingerprint })
    }
}

/// The code of the refusal of a plan in another directory than its own.
pub const ELSEWHERE: &str = "plan-elsewhere";

impl Plan {
    /// Brings all lists into their canonical order. Packages of a resolution keep theirs.
    pub fn normalise(&mut self) {
        self.requested.sort();
        self.requested.dedup();
        self.resolutions.sort_by_key(|resolution| resolution.ecosystem);
        sort_edits(&mut self.edits);
        self.environments.sort();
        self.exemptions.sort();
        self.preconditions.sort_by(|left, right| left.name().cmp(&right.name()));
        self.preconditions.dedup();
    }

    /// The bytes that the digest covers: a version line, then JSON with sorted keys and no spaces.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = canonical::line(self).into_bytes();
        bytes.append(&mut self.to_stored()?.json.whole());
        Ok(bytes)
    }

    /// `sha256:...` of [`Self::canonical_bytes`].
    pub fn digest(&self) -> Result<String> {
        Ok(self.to_stored()?.digest)
    }

    /// The digest, and the form that is stored: what it covers without the line before.
    pub(crate) fn to_stored(&self) -> Result<Stored> {
        self.join_stored(self.begin_stored(&self.edits)?, self.resolutions_stored()?)
    }

    /// The stored form up to the resolutions, with these for the files that change: for whoever has another thread that writes the
    /// resolutions meanwhile.
    pub(crate) fn begin_stored(&self, edits: &[FileEdit]) -> Result<Piece> {
        canonical::begin(self, edits).map(Piece::new)
    }

    /// The resolutions as they stand in the stored form.
    pub(crate) fn resolutions_stored(&self) -> Result<Piece> {
        canonical::resolutions(&self.resolutions).map(Piece::new)
    }

    /// The stored form of both.
    pub(crate) fn join_stored(&self, begin: Piece, resolutions: Piece) -> Result<Stored> {
        let pieces = [begin, resolutions, Piece::new(canonical::end(self)?)];
        let mut context = digest::Context::new(&digest::SHA256);
        let line = canonical::line(self);
        context.update(line.as_bytes());
        match self.schema_version {
            SCHEMA_VERSION_OF_ONE_PIECE => {
                pieces.iter().for_each(|piece| context.update(&piece.json));
            }
            _ => pieces.iter().for_each(|piece| context.update(piece.sha256.as_ref())),
        }
        let digest = format!("sha256:{}", crate::hex::hex(context.finish().as_ref()));
        let json = Json(pieces.map(|piece| piece.json));
        match line.len() + json.len() {
            bytes if bytes > PLAN_BYTES_MAX => Err(too_large(bytes)),
            _ => Ok(Stored { digest, json }),
        }
    }

    /// Reads the stored form.
    pub(crate) fn from_json(text: &str) -> Result<Self> {
        let plan: Self = serde_json::from_str(text).map_err(|error| malformed(&error))?;
        if !(SCHEMA_VERSION_OF_ONE_PIECE..=SCHEMA_VERSION).contains(&plan.schema_version) {
            let message = format!(
                "the plan is of version {}; this program knows up to {SCHEMA_VERSION}",
                plan.schema_version
            );
            return Err(Error::new(Kind::Stale, "plan-version", message)
                .hint("use the newer program that made it; a daemon that runs since before has to be started anew"));
        }
        Ok(plan)
    }

    /// Refuses a plan for another Python or platform: what was committed counts as what is installed, and nothing of it could be.
    pub fn check_here(&self) -> Result<()> {
        if !self.is_elsewhere {
            return Ok(());
        }
        let message =
            "the plan is for another Python or platform, so nothing of it is installed here";
        Err(Error::new(Kind::Usage, "not-for-here", message)
            .hint("make a plan without `--python-version` and `--python-platform`"))
    }

    /// Refuses a plan that has expired, is for another project, or was made from something that has changed.
    /// To be asked under the project's lock. Names all that changed.
    pub fn check_preconditions(
        &self,
        transactions: &Transactions,
        project: &Project,
    ) -> Result<()> {
        if !project.identity().same_object(&self.project.identity) {
            let message = format!(
                "the plan no longer holds: `{}` is not the directory `{}` that it was made for",
                project.path().display(),
                self.project.path
            );
            return Err(Error::new(Kind::Stale, ELSEWHERE, message)
                .hint("name its directory, or make a new plan from what is there now"));
        }
        let mut changed = Vec::new();
        if transactions.now_ms() >= self.expires_at_ms {
            changed.push("it has expired".to_owned());
        }
        for precondition in &self.preconditions {
            if let Some(what) = precondition.broken(transactions, project)? {
                changed.push(what);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let message = format!("the plan no longer holds: {}", changed.join(", "));
        Err(Error::new(Kind::Stale, "plan-stale", message)
            .hint("make a new plan from what is there now")
            .retryable())
    }
}

impl Precondition {
    fn name(&self) -> (u8, &str) {
        match self {
            Self::File { path, .. } => (0, path.as_str()),
            Self::Environment { place, .. } => (1, place.as_str()),
            Self::Named { path, .. } => (2, path),
            Self::Tree { path, .. } => (3, path),
        }
    }

    fn broken(&self, transactions: &Transactions, project: &Project) -> Result<Option<String>> {
        match self {
            Self::File { path, content } => {
                let now = project.content(path)?;
                Ok(match (content, &now) {
                    (before, now) if before == now => None,
                    (None, _) => Some(format!("`{path}` exists now")),
                    (Some(_), None) => Some(format!("`{path}` is gone")),
                    (Some(_), Some(_)) => Some(format!("`{path}` was edited")),
                })
            }
            Self::Named { path, content } => {
                let now = crate::foreign::content(Path::new(path))?;
                Ok(match now {
                    Some(now) if now == *content => None,
                    Some(_) => Some(format!("`{path}` was changed")),
                    None => Some(format!("`{path}` is gone")),
                })
            }
            Self::Tree { path, sha256 } => {
                let now = crate::build::tree::look(Path::new(path), &|| Ok(()))?;
                Ok(match now {
                    Some(now) if now.sha256 == *sha256 => None,
                    Some(_) => Some(format!("`{path}` was changed")),
                    None => Some(format!("`{path}` is gone")),
                })
            }
            Self::Environment { place, generation, fingerprint } => {
                let now = transactions.environment(project, place)?;
                let same = now.generation == *generation && now.fingerprint == *fingerprint;
                Ok((!same).then(|| {
                    let now = now.generation;
                    format!("`{place}` was changed by another transaction (generation {generation}, now {now})")
                }))
            }
        }
    }
}

/// Brings them into their canonical order.
pub(crate) fn sort_edits(edits: &mut [FileEdit]) {
    edits.sort_by(|left, right| left.path.cmp(&right.path));
}

/// The form of a plan that is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// `sha256:...`.
    pub(crate) digest: String,
    pub(crate) json: Json,
}

/// A text, made of texts, in the pieces in which it was written: whoever waits for the digest need not wait until they are put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Json([Vec<u8>; 3]);

impl Json {
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self([text.as_bytes().to_vec(), Vec::new(), Vec::new()])
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// All of it.
    pub(crate) fn whole(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// Lets the next plan be written where this one stood, once it is on the disk.
    pub(crate) fn give_back(self) {
        let [begin, resolutions, _] = self.0;
        canonical::give_back(begin, resolutions);
    }
}

/// A piece of it, hashed.
pub(crate) struct Piece {
    json: Vec<u8>,
    sha256: Digest,
}

impl Piece {
    fn new(json: Vec<u8>) -> Self {
        Self { sha256: digest::digest(&digest::SHA256, &json), json }
    }
}

fn malformed(error: &serde_json::Error) -> Error {
    let message = format!("the plan is not one: {error}");
    Error::new(Kind::Verification, "plan-damaged", message).hint("make a new plan")
}

/// The refusal of a plan that would not fit anywhere.
fn too_large(bytes: usize) -> Error {
    let message = format!("the plan has {bytes} bytes; the limit is {PLAN_BYTES_MAX}");
    Error::new(Kind::Failed, "plan-too-large", message)
}
