//! Which project a command is about: from the directory that it was started in, or that was named, upwards.

use std::path::{Path, PathBuf};

use agents_contract::ToolError;
use agents_packager::ecosystem::Ecosystem;
use agents_packager::spec::Spec;
use agents_packager::workspace::{self, Found, Purpose};

use super::exit::Failure;
use super::output;
use super::packages::{Common, tool_error};

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

/// The project of a directory.
pub(super) fn find(directory: &Path, purpose: Purpose<'_>) -> Result<Found, Failure> {
    let home = std::env::home_dir();
    let found = workspace::find(directory, home.as_deref(), purpose);
    found.map_err(|error| ToolError::from(error).into())
}
