//! What a plan reads of a project beside the manifests in its root: manifests of members, files that others include, and the
//! directories in which members may appear. Who wants to hear of their changes has the reading recorded, keeps the list, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::directory::RelativePath;
use super::project::{Content, Project};
use crate::limits::{BESIDE_MAX, WORKSPACE_DIRECTORIES_MAX};

/// What makes a directory a member of a workspace.
pub(crate) const MEMBER_MANIFESTS: [&str; 2] = ["Cargo.toml", "package.json"];

/// What of a project matters besides its root, all relative to the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// Files; one that is not there may come.
    pub(crate) files: BTreeSet<String>,
    /// Directories whose own directories are members where they hold a manifest. The project itself is empty.
    pub(crate) directories: BTreeSet<String>,
    /// Whether there is more than may be kept.
    pub(crate) is_cut: bool,
}

/// What files hold, by path: a digest, or a word for why there is none. Whoever compares needs no more.
pub(crate) type Digests = BTreeMap<String, String>;

/// The record of what was read of one project.
#[derive(Debug, Default)]
pub(crate) struct Reads(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    beside: Beside,
    state: Digests,
}

impl Beside {
    /// What they hold now.
    pub(crate) fn state(&self, project: &Project) -> Digests {
        let mut state = Digests::new();
        for file in &self.files {
            state.insert(file.clone(), look(project, file));
        }
        for directory in &self.directories {
            for (path, content) in members_in(project, directory) {
                state.entry(path).or_insert(content);
            }
        }
        state
    }

    /// With what another one has.
    pub(crate) fn with(mut self, other: &Self) -> Self {
        self.is_cut |= other.is_cut;
        for file in &other.files {
            self.add(file, |beside| &mut beside.files);
        }
        for directory in &other.directories {
            self.add(directory, |beside| &mut beside.directories);
        }
        self
    }

    /// Whether it is there afterwards.
    fn add(&mut self, path: &str, of: impl FnOnce(&mut Self) -> &mut BTreeSet<String>) -> bool {
        let is_full = self.files.len() + self.directories.len() >= BESIDE_MAX;
        let set = of(self);
        if set.contains(path) {
            return true;
        }
        if !is_full {
            set.insert(path.to_owned());
        }
        self.is_cut |= is_full;
        !is_full
    }
}

impl Reads {
    /// A file was read, or not found, or not readable.
    pub(super) fn file(&self, path: &str, read: Option<Option<&[u8]>>) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.beside.add(path, |beside| &mut beside.files) {
            let content = read.map(|bytes| bytes.map(Content::of));
            recorded.state.entry(path.to_owned()).or_insert_with(|| word(content));
        }
    }

    /// A directory's own directories were looked through for members.
    pub(super) fn listed(&self, project: &Project, directory: &str) {
        let found = members_in(project, directory);
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.beside.add(directory, |beside| &mut beside.directories) {
            for (path, content) in found {
                recorded.state.entry(path).or_insert(content);
            }
        }
    }

    /// What was recorded, and what it held when it was read.
    pub(crate) fn so_far(&self) -> (Beside, Digests) {
        let recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (recorded.beside.clone(), recorded.state.clone())
    }
}

/// The directory in which everything lies that a pattern of a workspace names; `None` where it names one path alone.
pub(crate) fn root_of_pattern(pattern: &str) -> Option<String> {
    let parts: Vec<&str> = pattern.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let fixed = parts.iter().position(|part| part.contains(['*', '?', '[', '{']))?;
    Some(parts[..fixed].join("/"))
}

/// Whether a directory of this name is looked into for members.
pub(crate) fn may_be_member(name: &str) -> bool {
    !name.starts_with('.') && !matches!(name, "node_modules" | "target")
}

/// The manifests in the directories of a directory. Of a directory that is not there, or may not be read, none.
fn members_in(project: &Project, directory: &str) -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir(project.path().join(directory)) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| may_be_member(name))
        .take(WORKSPACE_DIRECTORIES_MAX)
        .collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        for manifest in MEMBER_MANIFESTS {
            let path = match directory {
                "" => format!("{name}/{manifest}"),
                _ => format!("{directory}/{name}/{manifest}"),
            };
            match look(project, &path) {
                word if word == ABSENT => {}
                word => found.push((path, word)),
            }
        }
    }
    found
}

const ABSENT: &str = "absent";

fn look(project: &Project, path: &str) -> String {
    let path = RelativePath::new(path);
    word(path.and_then(|path| project.content(&path)).ok())
}

fn word(read: Option<Option<Content>>) -> String {
    match read {
        Some(Some(content)) => content.sha256,
        Some(None) => ABSENT.to_owned(),
        None => "unreadable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
        let place = tempfile::tempdir().expect("a directory");
        write(&place, files);
        let project = Project::open(place.path()).expect("a project");
        (place, project)
    }

    fn write(place: &tempfile::TempDir, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
            std::fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn what_was_read_is_what_a_later_look_finds_until_it_changes() {
        let (place, project) = project(&[
            ("base.txt", "a"),
            ("packages/one/package.json", "{}"),
            ("packages/.hidden/package.json", "{}"),
            ("packages/none/readme", ""),
        ]);
        let reads = Reads::default();
        reads.file("base.txt", Some(Some(b"a")));
        reads.file("gone.txt", Some(None));
        reads.listed(&project, "packages");
        let (beside, then) = reads.so_far();
        let paths: Vec<&str> = then.keys().map(String::as_str).collect();
        assert_eq!(paths, ["base.txt", "gone.txt", "packages/one/package.json"]);
        assert_eq!(beside.state(&project), then);
        let changes: [&[(&str, &str)]; 4] = [
            &[("base.txt", "b")],
            &[("gone.txt", "")],
            &[("packages/one/package.json", "{ }")],
            &[("packages/two/Cargo.toml", "")],
        ];
        let mut before = then;
        for change in changes {
            write(&place, change);
            let now = beside.state(&project);
            assert_ne!(now, before, "{change:?}");
            before = now;
        }
        write(&place, &[("packages/none/other", "")]);
        assert_eq!(beside.state(&project), before);
    }

    #[test]
    fn no_more_is_kept_than_may_be_and_it_is_said() {
        let reads = Reads::default();
        for number in 0..=BESIDE_MAX {
            reads.file(&number.to_string(), Some(None));
        }
        let (beside, state) = reads.so_far();
        assert!(beside.is_cut);
        assert_eq!((beside.files.len(), state.len()), (BESIDE_MAX, BESIDE_MAX));
        assert!(Beside::default().with(&beside).is_cut);
    }

    #[test]
    fn a_pattern_has_the_directory_before_its_first_wild_part() {
        for (pattern, root) in [
            ("packages/*", Some("packages")),
            ("./packages/*/", Some("packages")),
            ("*", Some("")),
            ("a/b/{c,d}/e", Some("a/b")),
            ("crates/[ab]*", Some("crates")),
            ("crates/one", None),
        ] {
            assert_eq!(root_of_pattern(pattern).as_deref(), root, "{pattern}");
        }
    }
}
