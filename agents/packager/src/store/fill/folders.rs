//! Which directories a list of files needs, and in which pieces both are made. Pure; knows no disk.
//!
//! Directories come level by level, so that those of one level, whose parents are all there, can be made side by side. Files come in
//! batches of one directory each. A directory is locked by the kernel for every name that is made in it, so batches of the same one
//! are kept apart: first the first batch of each directory, then the second of each, and so on.

use std::collections::HashMap;

use super::File;
use crate::limits;

/// The directory and the name.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The directories of some files, and the files of each.
#[derive(Debug, Default)]
pub(super) struct Folders<'f> {
    /// Each directory that has files, in the order in which it came first, with the indices of its files.
    filled: Vec<(&'f str, Vec<usize>)>,
}

/// Directories to make in one parent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Siblings<'f> {
    /// Their parent; empty for the root.
    pub(super) parent: &'f str,
    /// Their names.
    pub(super) names: Vec<&'f str>,
}

/// Files to make in one directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch<'f> {
    /// The directory; empty for the root.
    pub(super) directory: &'f str,
    /// Their indices.
    pub(super) files: Vec<usize>,
}

impl<'f> Folders<'f> {
    pub(super) fn of(files: &'f [File]) -> Self {
        let mut filled: Vec<(&str, Vec<usize>)> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut last = None;
        for (index, file) in files.iter().enumerate() {
            let directory = split(&file.path).0;
            // Neighbours in the list are mostly neighbours on the disk.
            let place = match last {
                Some((place, before)) if before == directory => place,
                _ => *known.entry(directory).or_insert_with(|| {
                    filled.push((directory, Vec::new()));
                    filled.len() - 1
                }),
            };
            filled[place].1.push(index);
            last = Some((place, directory));
        }
        Self { filled }
    }

    /// What is to be made, level by level; those of one level in any order.
    pub(super) fn levels(&self) -> Vec<Vec<Siblings<'f>>> {
        let mut parents: HashMap<&str, Vec<&str>> = HashMap::new();
        for (directory, _) in &self.filled {
            let mut rest = *directory;
            while !rest.is_empty() {
                let (parent, name) = split(rest);
                let is_first_child = !parents.contains_key(parent);
                let names = parents.entry(parent).or_default();
                names.push(name);
                // Whoever has a child already was put into its own parent then.
                if !is_first_child {
                    break;
                }
                rest = parent;
            }
        }
        let mut levels: Vec<Vec<Siblings<'f>>> = Vec::new();
        for (parent, mut names) in parents {
            names.sort_unstable();
            names.dedup();
            let depth = match parent {
                "" => 0,
                parent => parent.split('/').count(),
            };
            if levels.len() <= depth {
                levels.resize_with(depth + 1, Vec::new);
            }
            let pieces = names.chunks(limits::COPY_BATCH_FILES_MAX);
            levels[depth].extend(pieces.map(|names| Siblings { parent, names: names.to_vec() }));
        }
        for level in &mut levels {
            level.sort_unstable_by_key(|siblings| {
                (siblings.parent, siblings.names.first().copied())
            });
        }
        levels
    }

    /// The files, none of the batches too large for one worker.
    pub(super) fn batches(self) -> Vec<Batch<'f>> {
        let mut batches: Vec<(usize, Batch<'f>)> = Vec::new();
        for (directory, files) in self.filled {
            let chunks = files.chunks(limits::COPY_BATCH_FILES_MAX).enumerate();
            batches.extend(
                chunks.map(|(turn, files)| (turn, Batch { directory, files: files.to_vec() })),
            );
        }
        // Stable, so those of one turn stay in their order.
        batches.sort_by_key(|(turn, _)| *turn);
        batches.into_iter().map(|(_, batch)| batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Content;

    fn files(paths: &[&str]) -> Vec<File> {
        let file = |path: &&str| File {
            path: (*path).to_owned(),
            content: Content::Bytes(Vec::new()),
            executable: false,
        };
        paths.iter().map(file).collect()
    }

    #[test]
    fn every_directory_is_made_once_and_after_its_parent() {
        let files = files(&["a/b/c/x", "top", "a/b/y", "a-b/z", "a/d/e/x", "a/b/c/w", "a/b-c/v"]);
        let levels = Folders::of(&files).levels();
        let expected: [&[(&str, &[&str])]; 3] = [
            &[("", &["a", "a-b"])],
            &[("a", &["b", "b-c", "d"])],
            &[("a/b", &["c"]), ("a/d", &["e"])],
        ];
        let shown: Vec<Vec<(&str, &[&str])>> = levels
            .iter()
            .map(|level| level.iter().map(|it| (it.parent, it.names.as_slice())).collect())
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn batches_of_one_directory_are_kept_apart_and_have_every_file_once() {
        let most = limits::COPY_BATCH_FILES_MAX;
        let large = (0..2 * most + 1).map(|number| format!("large/{number}"));
        let paths: Vec<String> = large.chain(["small/a".to_owned(), "b".to_owned()]).collect();
        let files = files(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let batches = Folders::of(&files).batches();
        let shown: Vec<(&str, usize)> =
            batches.iter().map(|it| (it.directory, it.files.len())).collect();
        let expected = [("large", most), ("small", 1), ("", 1), ("large", most), ("large", 1)];
        assert_eq!(shown, expected);
        let mut all: Vec<usize> = batches.into_iter().flat_map(|it| it.files).collect();
        all.sort_unstable();
        assert_eq!(all, (0..files.len()).collect::<Vec<_>>());
    }

    #[test]
    fn files_of_the_root_need_no_directory() {
        assert!(Folders::of(&files(&["a", "b"])).levels().is_empty());
    }
}
