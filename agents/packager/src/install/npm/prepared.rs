//! Packages that stand ready, or were just unpacked beside, put into a tree as they are; only the others are written file by file.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::{Options, Placed};
use crate::store::{
    Filled, Given, Mark, Piece, Prepared, Tree, Written, open_beneath, open_directory,
};

/// Puts into `staging`, which is empty, what stands ready of these packages or was unpacked for it; answers which of them are there now.
pub(super) fn take(
    staging: &Path,
    placed: &[Placed<'_>],
    options: Options<'_>,
    filled: &mut Filled,
) -> Vec<bool> {
    let mut taken = vec![false; placed.len()];
    let is_wanted = !options.verify && (options.prepared.is_some() || options.fresh.is_some());
    // Who fills it says why where it cannot be opened.
    let Some(directory) = is_wanted.then(|| open_directory(staging).ok()).flatten() else {
        return taken;
    };
    let prepared = options.prepared.filter(|prepared| prepared.fits(directory.as_fd()));
    let fits = options.fresh.is_some_and(|fresh| fresh.fits(directory.as_fd()));
    // What holds anything that is not the store's is made for this tree alone.
    let contents: Vec<Vec<Piece<'_>>> = placed
        .iter()
        .map(|one| if one.rewritten.is_empty() { one.pieces.clone() } else { Vec::new() })
        .collect();
    let none = || contents.iter().map(|_| None).collect();
    let mut claimed = prepared.map_or_else(none, |prepared| prepared.claim(&contents));
    let is_whole = match prepared {
        Some(prepared) => look(prepared, &claimed, options),
        None => vec![None; placed.len()],
    };
    // A package is there before what stands inside of it.
    let mut order: Vec<usize> = (0..placed.len()).collect();
    order.sort_by_key(|index| placed[*index].inside().matches("node_modules/").count());
    let outer = with_inner(placed);
    let mut parents = Parents { directory: directory.as_fd(), known: HashSet::from([""]) };
    for index in order {
        let one = &placed[index];
        let (above, name) = split(one.inside());
        let standing = prepared.zip(claimed[index].take());
        let given = match (standing, options.fresh) {
            (Some((prepared, tree)), _) => {
                let to = || Some((parents.open(above)?, name));
                give(prepared, tree, is_whole[index], to)
            }
            (None, Some(fresh)) => {
                let hashes = &one.package.artifact.hashes;
                let to = || Some((parents.open(above)?, name));
                let given = fresh.give(hashes, &contents[index], || fits.then(to).flatten());
                if let (Some(_), Some(written)) = (&given, options.written) {
                    written.note_unpacked(one.pieces.len());
                }
                given
            }
            (None, None) => None,
        };
        let Some(given) = given else { continue };
        taken[index] = true;
        filled.files += one.pieces.len() as u64;
        filled.bytes += one.pieces.iter().map(|piece| piece.object.size).sum::<u64>();
        // It was there when it was given.
        let Some(parent) = parents.open(above) else { continue };
        match options.written {
            Some(written) if !outer.contains(one.inside()) => written.note_given(given),
            Some(written) => note_files(written, &given, one, (parent.as_fd(), name)),
            None => {}
        }
    }
    taken
}

/// One that stands ready, if it is as it was made.
fn give<'n>(
    prepared: &Prepared,
    tree: Tree,
    is_whole: Option<bool>,
    to: impl FnOnce() -> Option<(OwnedFd, &'n str)>,
) -> Option<Given> {
    let place = match is_whole {
        Some(true) => to(),
        Some(false) => {
            prepared.discard(tree);
            return None;
        }
        // A crew leaves out what is not wanted any more.
        None => None,
    };
    let Some((parent, name)) = place else {
        prepared.put_back(tree);
        return None;
    };
    prepared.give(tree, (parent.as_fd(), name))
}

/// The packages inside of which something else is made.
fn with_inner<'p>(placed: &[Placed<'p>]) -> HashSet<&'p str> {
    let mut outer = HashSet::new();
    for one in placed {
        let mut rest = one.inside();
        while let Some((above, _)) = rest.rsplit_once("/node_modules/") {
            outer.insert(above);
            rest = above;
        }
        // What a package brings along may get links to its commands.
        if one.pieces.iter().any(|piece| piece.path.starts_with("node_modules/")) {
            outer.insert(one.inside());
        }
    }
    outer
}

/// What each file of such a package is like.
fn note_files(
    written: &Written,
    given: &Given,
    one: &Placed<'_>,
    (parent, name): (BorrowedFd<'_>, &str),
) {
    let marks: HashMap<&str, &Mark> = given.inner.iter().map(|mark| (&*mark.path, mark)).collect();
    // What cannot be looked at is read by whoever describes it.
    let Ok(directory) = open_beneath(parent, name) else { return };
    for piece in &one.pieces {
        let status = rustix::fs::statat(&directory, piece.path, AtFlags::SYMLINK_NOFOLLOW);
        if let (Ok(status), Some(mark)) = (status, marks.get(piece.path))
            && mark.is(&status)
        {
            written.note_linked(&status, &piece.object);
        }
    }
}

/// Which of them are as they were made; nothing of those that nobody looked at.
fn look(prepared: &Prepared, claimed: &[Option<Tree>], options: Options<'_>) -> Vec<Option<bool>> {
    let looked: Vec<OnceLock<bool>> = claimed.iter().map(|_| OnceLock::new()).collect();
    options.crew.run(claimed.len(), &|index| {
        if let Some(tree) = &claimed[index] {
            // Each piece is run once.
            let _ = looked[index].set(prepared.is_whole(tree));
        }
    });
    looked.into_iter().map(OnceLock::into_inner).collect()
}

/// The directories that packages are put into.
struct Parents<'p> {
    directory: BorrowedFd<'p>,
    known: HashSet<&'p str>,
}

impl<'p> Parents<'p> {
    /// Opens one, which is made where it is not there; `None` where something is in the way, which the one finds who fills the rest.
    fn open(&mut self, path: &'p str) -> Option<OwnedFd> {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for above in ends.map(|end| &path[..end]) {
            if self.known.contains(above) {
                continue;
            }
            let (parent, name) = split(above);
            let parent = open_beneath(self.directory, parent).ok()?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => self.known.insert(above),
                Err(_) => return None,
            };
        }
        open_beneath(self.directory, path).ok()
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
