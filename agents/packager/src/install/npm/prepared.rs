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
    let mut claimed =
        prepared.map_or_else(HashMap::new, |prepared| claim(prepared, placed, options));
    // A package is there before what stands inside of it.
    let mut order: Vec<usize> = (0..placed.len()).collect();
    order.sort_by_key(|index| placed[*index].inside().matches("node_modules/").count());
    let outer = with_inner(placed);
    let mut parents =
        Parents { directory: directory.as_fd(), known: HashSet::from([""]), last: None };
    for index in order {
        let one = &placed[index];
        let (above, name) = split(one.inside());
        let standing = prepared.zip(claimed.remove(&index));
        let given = match (standing, options.fresh) {
            (Some((prepared, claimed)), _) => {
                let parents = &mut parents;
                give(prepared, claimed, move || Some((parents.open(above)?, name)))
            }
            (None, Some(fresh)) => {
                let hashes = &one.package.artifact.hashes;
                let parents = &mut parents;
                let given = fresh.give(hashes, contents(one), move || match fits {
                    true => Some((parents.open(above)?, name)),
                    false => None,
                });
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
        match options.written {
            Some(written) if !outer.contains(one.inside()) => written.note_given(given),
            // It was there when it was given.
            Some(written) => {
                let Some(parent) = parents.open(above) else { continue };
                note_files(written, &given, one, (parent, name));
            }
            None => {}
        }
    }
    taken
}

/// One that stands ready, if it is as it was made.
fn give<'n>(
    prepared: &Prepared,
    (tree, is_whole): (Tree, bool),
    to: impl FnOnce() -> Option<(BorrowedFd<'n>, &'n str)>,
) -> Option<Given> {
    if !is_whole {
        prepared.discard(tree);
        return None;
    }
    let Some((parent, name)) = to() else {
        prepared.put_back(tree);
        return None;
    };
    prepared.give(tree, (parent, name))
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

/// What of a package a directory may stand ready for: what holds anything that is not the store's is made for this tree alone.
fn contents<'a, 'p>(one: &'a Placed<'p>) -> &'a [Piece<'p>] {
    if one.rewritten.is_empty() { &one.pieces } else { &[] }
}

/// What stands ready of these packages, by their numbers, and whether it is as it was made. All hands look for it and at it; a crew leaves
/// out what is not wanted any more, and that is not claimed.
fn claim(
    prepared: &Prepared,
    placed: &[Placed<'_>],
    options: Options<'_>,
) -> HashMap<usize, (Tree, bool)> {
    // The largest first: whoever came to one last would be waited for.
    let mut order: Vec<usize> = (0..placed.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(placed[*index].pieces.len()));
    let round = prepared.begin();
    let looked: Vec<OnceLock<(Tree, bool)>> = order.iter().map(|_| OnceLock::new()).collect();
    options.crew.run(order.len(), &|turn| {
        if let Some(tree) = prepared.claim(round, contents(&placed[order[turn]])) {
            let is_whole = prepared.is_whole(&tree);
            // Each piece is run once.
            let _ = looked[turn].set((tree, is_whole));
        }
    });
    let looked = looked.into_iter().map(OnceLock::into_inner);
    order.into_iter().zip(looked).filter_map(|(index, one)| Some((index, one?))).collect()
}

/// The directories that packages are put into.
struct Parents<'p> {
    directory: BorrowedFd<'p>,
    known: HashSet<&'p str>,
    /// Packages of one scope come one after the other.
    last: Option<(&'p str, OwnedFd)>,
}

impl<'p> Parents<'p> {
    /// Opens one, which is made where it is not there; `None` where something is in the way, which the one finds who fills the rest.
    fn open(&mut self, path: &'p str) -> Option<BorrowedFd<'_>> {
        if path.is_empty() {
            return Some(self.directory);
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            self.last = Some((path, self.make(path)?));
        }
        self.last.as_ref().map(|(_, opened)| opened.as_fd())
    }

    fn make(&mut self, path: &'p str) -> Option<OwnedFd> {
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
