//! What came of builds, so that the same is not built twice: the wheels themselves are in the store, here stands which ones.
//!
//! An entry stands under the digest of all that it follows from: the source archive, every package that was there for the build, the
//! interpreter. Directory and entries are the user's own, as the store is; what an entry says is compared with what the
//! store has. What cannot be read, or written, is not remembered; nothing fails for that.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::hex::hex;
use crate::kept::keep;
use crate::limits::{BUILD_ANSWER_BYTES_MAX, BUILDS_REMEMBERED_MAX};
use crate::python::Interpreter;
use crate::resolution::BuildRequirement;

/// The version of what is remembered, and of how it is built.
const VERSION: u32 = 1;

/// What a build follows from.
#[derive(Serialize)]
pub(crate) struct Key<'a> {
    version: u32,
    step: &'a str,
    source: &'a str,
    requirements: &'a [BuildRequirement],
    interpreter: String,
}

impl<'a> Key<'a> {
    /// Of one step of the build of a source archive with this digest.
    pub(crate) fn new(
        step: &'a str,
        source: &'a str,
        requirements: &'a [BuildRequirement],
        interpreter: &Interpreter,
    ) -> Self {
        let Interpreter { base_executable, target, platform, implementation, .. } = interpreter;
        let python = &target.python;
        let tags = target.tags.join(",");
        // An environment that was made of it names it in another way.
        let program = base_executable.canonicalize();
        let program = program.as_deref().unwrap_or(base_executable).display();
        let interpreter = format!("{implementation} {python} {platform} {program} {tags}");
        Self { version: VERSION, step, source, requirements, interpreter }
    }

    fn name(&self) -> Option<String> {
        let bytes = serde_json::to_vec(self).ok()?;
        Some(format!("{}.json", hex(digest(&SHA256, &bytes).as_ref())))
    }
}

/// A wheel that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wheel {
    pub(crate) file_name: String,
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

/// What is remembered under a key.
pub(crate) fn recall<T: DeserializeOwned>(directory: &Path, key: &Key<'_>) -> Option<T> {
    let file = File::open(directory.join(key.name()?)).ok()?;
    let mut bytes = Vec::new();
    file.take(2 * BUILD_ANSWER_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Remembers it.
pub(crate) fn remember<T: Serialize>(directory: &Path, key: &Key<'_>, what: &T) {
    let kept = key.name().and_then(|name| keep(&directory.join(name), what, BUILDS_REMEMBERED_MAX));
    if kept.is_none() {
        tracing::debug!(?directory, "what was built is not remembered");
    }
}
