//! Bounds on what git does for us; those of trees of source are [`limits`](crate::limits)'.

use std::time::Duration;

use crate::limits::{BUILD_MEMORY_BYTES_MAX, SOURCE_TREE_BYTES_MAX, SOURCE_TREE_FILES_MAX};

/// How long one run of git may take: a whole history of the largest kind by a slow line takes a third of it.
pub(super) const GIT_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How long a run may take that only looks at what is here.
pub(super) const GIT_LOCAL_TIME_MAX: Duration = Duration::from_secs(2 * 60);
/// Bytes of one file that git writes: the pack of a repository, or all files of a tree.
pub(super) const GIT_FILE_BYTES_MAX: u64 = 3 << 30;
/// Bytes of everything that one fetch may put on the disk: a pack with its index and the names of its branches and tags.
pub(super) const GIT_PLACE_BYTES_MAX: u64 = 4 << 30;
/// Files of the same: the name of each branch and tag is one.
pub(super) const GIT_PLACE_FILES_MAX: usize = 1 << 18;
/// How often both are looked at, at most.
pub(super) const GIT_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How much longer than a look took nobody looks again.
pub(super) const GIT_LOOK_PAUSE_FACTOR: u32 = 10;
/// Settings of git that are taken out of variables.
pub(super) const GIT_SETTINGS_MAX: usize = 64;
/// Bytes that git says: names of references, complaints.
pub(super) const GIT_SAID_BYTES_MAX: u64 = 1 << 20;
/// Bytes of the list of a tree's files: 100,000 with names of usual length take a tenth.
pub(super) const GIT_LIST_BYTES_MAX: u64 = 64 << 20;
/// Bytes of one path in a tree.
pub(super) const GIT_PATH_BYTES_MAX: usize = 4_096;
/// Bytes of where a link leads.
pub(super) const GIT_LINK_BYTES_MAX: u64 = 4_096;
/// Bytes that git puts around a file's own when it writes them all: its name, its kind, its size.
pub(super) const GIT_AROUND_BYTES_MAX: u64 = 128;
/// Repositories that are kept, each of one commit.
pub(super) const REPOSITORIES_KEPT_MAX: usize = 64;
/// Bytes of all of them.
pub(super) const REPOSITORIES_BYTES_MAX: u64 = 4 << 30;
/// How often one is looked for that others keep and remove meanwhile: with each turn it is less likely that both come in between.
pub(super) const REPOSITORY_TURNS_MAX: usize = 32;
/// Memory of each process that asks which commit is meant: a server answers with names, and a little of it can be much once it is unpacked.
pub(super) const GIT_ASK_MEMORY_BYTES_MAX: u64 = 1 << 30;
/// The same of a fetch, which has what it knows of every object in memory.
pub(super) const GIT_FETCH_MEMORY_BYTES_MAX: u64 = 4 << 30;
/// The same of what only looks at what is here: the largest file of a tree.
pub(super) const GIT_LOCAL_MEMORY_BYTES_MAX: u64 = BUILD_MEMORY_BYTES_MAX;

const _: () = assert!(SOURCE_TREE_FILES_MAX as u64 * 128 < GIT_LIST_BYTES_MAX);
const _: () = assert!(
    SOURCE_TREE_BYTES_MAX + SOURCE_TREE_FILES_MAX as u64 * GIT_AROUND_BYTES_MAX
        < GIT_FILE_BYTES_MAX
);
const _: () = assert!(GIT_FILE_BYTES_MAX < GIT_PLACE_BYTES_MAX);
const _: () = assert!(SOURCE_TREE_BYTES_MAX < GIT_LOCAL_MEMORY_BYTES_MAX);
const _: () = assert!(GIT_PLACE_BYTES_MAX <= REPOSITORIES_BYTES_MAX);
