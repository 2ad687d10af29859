//! What is in a project's manifests, for comparison alone: a change is what differs from what was answered last.

use std::sync::Arc;

use ring::digest;

use super::MANIFESTS;
use crate::error::Result;
use crate::hex::hex;
use crate::transaction::{Beside, Digests, Project, RelativePath};

/// All that matters of one moment.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) root: Root,
    /// What matters beside the root.
    pub(super) beside: Arc<Beside>,
    state: Digests,
    pub(super) digest: String,
    /// The same without our lock.
    pub(super) wishes: String,
}

/// The manifests in the project's own directory.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// Those that are there.
    pub(super) names: Vec<&'static str>,
    lines: Vec<String>,
}

impl Seen {
    /// What is there now.
    pub(super) fn now(project: &Project, beside: &Arc<Beside>) -> Result<Self> {
        let mut root = Root { names: Vec::new(), lines: Vec::new() };
        for name in MANIFESTS {
            let Some(content) = project.content(&RelativePath::new(name)?)? else { continue };
            root.names.push(name);
            root.lines.push(content.sha256);
        }
        Ok(Self::new(root, Arc::clone(beside), beside.state(project)))
    }

    fn new(root: Root, beside: Arc<Beside>, state: Digests) -> Self {
        let [mut all, mut wishes] = [(); 2].map(|()| digest::Context::new(&digest::SHA256));
        for (name, content) in root.names.iter().zip(&root.lines) {
            // Neither a name nor a digest has a line end in it.
            let line = format!("{name} {content}\n");
            all.update(line.as_bytes());
            if *name != crate::lock::FILE {
                wishes.update(line.as_bytes());
            }
        }
        for (path, content) in &state {
            // A path may have one, so it is escaped.
            let line = format!("{path:?} {content}\n");
            all.update(line.as_bytes());
            wishes.update(line.as_bytes());
        }
        let [digest, wishes] = [all, wishes].map(|context| hex(context.finish().as_ref()));
        Self { root, beside, state, digest, wishes }
    }

    /// The same root, with what was read beside it meanwhile: all of it, or what was read until something failed.
    pub(super) fn with_read(&self, (read, held): (Beside, Digests), is_all: bool) -> Self {
        let (read, held) = ours(read, held);
        if is_all {
            return Self::new(self.root.clone(), Arc::new(read), held);
        }
        let mut state = self.state.clone();
        state.extend(held);
        Self::new(self.root.clone(), Arc::new(read.with(&self.beside)), state)
    }
}

/// Without what stands in the root's line already, and without locks, which say nothing of what is wanted.
fn ours(mut read: Beside, mut held: Digests) -> (Beside, Digests) {
    let is_ours = |path: &str| !MANIFESTS.contains(&path) && !path.ends_with(".lock");
    read.files.retain(|path| is_ours(path));
    held.retain(|path, _| is_ours(path));
    (read, held)
}
