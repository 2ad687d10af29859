//! What the kernel tells of watched directories (inotify). It says which projects may have changed, never what changed: whoever
//! is told looks at the files, so an event too many costs a look, and events that are lost are made good by looking at everything.
//!
//! A project is watched through its directory, because editors and git replace files. Its ancestors are watched for being moved or
//! deleted themselves; where a part of the path is missing, the nearest directory that exists is watched for it. A change in any of
//! these means that paths lead elsewhere: then everything is watched anew.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::MANIFESTS;
use crate::limits::WATCH_EVENT_BYTES;

/// What happens to names in a directory whose files matter.
const CONTENT: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO);
/// What happens to a directory itself.
const SELF: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);
/// Something may be there that was missing.
const ARRIVAL: WatchFlags = WatchFlags::CREATE.union(WatchFlags::MOVED_TO);

/// The kernel's word on some projects.
#[derive(Debug)]
pub(super) struct Notices {
    descriptor: OwnedFd,
    roles: HashMap<i32, Vec<Role>>,
}

/// Why a directory is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// Its manifests matter to the project.
    Project(PathBuf),
    /// A project's path leads through it.
    Ancestor,
    /// A project's path would go on with this name.
    Missing(Vec<u8>),
    /// Another process changes the list of projects by writing here.
    List,
}

/// What the kernel told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noticed {
    /// Projects whose manifests may have changed.
    pub(super) projects: BTreeSet<PathBuf>,
    /// The list of projects may have changed, paths lead elsewhere, or events were lost: everything is to be watched anew.
    pub(super) everything: bool,
}

/// The result of watching: the notices, and the projects that could not be watched, with the reason.
pub(super) type Watching<Word = Notices> = (Word, Vec<(PathBuf, String)>);

impl Notices {
    /// Watches `projects`, and `list` for changes of the list.
    pub(super) fn new(list: &Path, projects: &[PathBuf]) -> std::io::Result<Watching> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut notices = Self { descriptor, roles: HashMap::new() };
        notices.add(list, CONTENT, Role::List)?;
        let mut failed = Vec::new();
        for project in projects {
            if let Err(errno) = notices.watch(project) {
                failed.push((project.clone(), reason(errno)));
            }
        }
        Ok((notices, failed))
    }

    fn watch(&mut self, project: &Path) -> Result<(), Errno> {
        // From the root downwards: whatever is exchanged above before its watch stands is seen by going on below it.
        let mut above: Vec<&Path> = project.ancestors().skip(1).collect();
        above.reverse();
        let mut parent: Option<&Path> = None;
        for directory in above {
            match self.add(directory, SELF, Role::Ancestor) {
                Ok(()) => parent = Some(directory),
                Err(Errno::NOENT | Errno::NOTDIR) => return self.await_below(parent, directory),
                // What may be passed through and not be read cannot be watched; its own fate shows in what is below.
                Err(Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        }
        match self.add(project, CONTENT | SELF, Role::Project(project.to_owned())) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.await_below(parent, project),
            added => added,
        }
    }

    /// Waits in `parent` for the directory `missing`. What is there and is no directory is missing as well.
    fn await_below(&mut self, parent: Option<&Path>, missing: &Path) -> Result<(), Errno> {
        let Some(parent) = parent else { return Err(Errno::NOENT) };
        let Some(name) = missing.file_name() else { return Ok(()) };
        // In between lies what may not be read: of what comes there nobody would be told.
        if missing.parent() != Some(parent) {
            return Err(Errno::ACCESS);
        }
        self.add(parent, ARRIVAL, Role::Missing(name.as_bytes().to_vec()))?;
        // It may have come between the look and the watch.
        match missing.is_dir() {
            true => Err(Errno::AGAIN),
            false => Ok(()),
        }
    }

    fn add(&mut self, directory: &Path, flags: WatchFlags, role: Role) -> Result<(), Errno> {
        // One directory has one watch, whatever it is watched for.
        let flags = flags | WatchFlags::MASK_ADD | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&self.descriptor, directory, flags)?;
        let roles = self.roles.entry(watch).or_default();
        if !roles.contains(&role) {
            roles.push(role);
        }
        Ok(())
    }

    /// Everything that the kernel has told since the last time; never blocks.
    pub(super) fn read(&mut self) -> Noticed {
        let mut noticed = Noticed::default();
        let mut buffer = [MaybeUninit::uninit(); WATCH_EVENT_BYTES];
        let mut reader = inotify::Reader::new(self.descriptor.as_fd(), &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return noticed,
                Err(_) => return Noticed { everything: true, ..noticed },
            };
            let name = event.file_name().map(|name| name.to_bytes());
            noticed.add(self.roles.get(&event.wd()), event.events(), name);
        }
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Noticed {
    fn add(&mut self, roles: Option<&Vec<Role>>, events: ReadFlags, name: Option<&[u8]>) {
        let gone = ReadFlags::DELETE_SELF
            | ReadFlags::MOVE_SELF
            | ReadFlags::IGNORED
            | ReadFlags::UNMOUNT
            | ReadFlags::QUEUE_OVERFLOW;
        if events.intersects(gone) {
            self.everything = true;
            return;
        }
        let arrived = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        for role in roles.into_iter().flatten() {
            match role {
                Role::Project(project) => {
                    let name = name.map(OsStr::from_bytes);
                    if name.is_some_and(|name| MANIFESTS.iter().any(|known| name == *known)) {
                        self.projects.insert(project.clone());
                    }
                }
                Role::Missing(wanted) => {
                    self.everything |= arrived && name == Some(wanted.as_slice());
                }
                Role::List => self.everything = true,
                Role::Ancestor => {}
            }
        }
    }
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::NOSPC => "the kernel watches no more directories for this user; raise \
                         `fs.inotify.max_user_watches`"
            .to_owned(),
        Errno::ACCESS => "the directory may not be read".to_owned(),
        Errno::AGAIN => AGAIN.to_owned(),
        errno => std::io::Error::from(errno).to_string(),
    }
}

/// The reason of a project that came while it was looked for: watching anew finds it.
pub(super) const AGAIN: &str = "it comes and goes while it is looked for";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Place {
        directory: tempfile::TempDir,
        notices: Notices,
    }

    impl Place {
        fn new(make: impl FnOnce(&Path)) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("list")).unwrap();
            make(directory.path());
            let notices = Self::watch(directory.path());
            Self { directory, notices }
        }

        fn watch(place: &Path) -> Notices {
            let (notices, failed) =
                Notices::new(&place.join("list"), &[place.join("above/project")]).unwrap();
            assert!(failed.is_empty(), "{failed:?}");
            notices
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn told(&mut self) -> (usize, bool) {
            let noticed = self.notices.read();
            (noticed.projects.len(), noticed.everything)
        }

        fn again(&mut self) {
            self.notices = Self::watch(self.directory.path());
        }
    }

    fn with_project(place: &Path) {
        fs::create_dir_all(place.join("above/project")).unwrap();
    }

    #[test]
    fn a_manifest_that_is_written_replaced_linked_or_removed_is_told_of_and_nothing_else() {
        let mut place = Place::new(with_project);
        assert_eq!(place.told(), (0, false));
        let manifest = place.path("above/project/package.json");
        fs::write(&manifest, "{}").unwrap();
        assert_eq!(place.told(), (1, false));
        fs::write(place.path("above/project/other"), "{}").unwrap();
        assert_eq!(place.told(), (0, false));
        fs::rename(place.path("above/project/other"), &manifest).unwrap();
        assert_eq!(place.told(), (1, false));
        fs::write(place.path("above/new"), "{}").unwrap();
        fs::rename(place.path("above/new"), &manifest).unwrap();
        assert_eq!(place.told(), (1, false));
        fs::hard_link(&manifest, place.path("above/project/Cargo.toml")).unwrap();
        assert_eq!(place.told(), (1, false));
        fs::remove_file(&manifest).unwrap();
        assert_eq!(place.told(), (1, false));
    }

    #[test]
    fn a_project_that_is_moved_away_and_back_is_found_again() {
        let mut place = Place::new(with_project);
        fs::rename(place.path("above"), place.path("elsewhere")).unwrap();
        assert_eq!(place.told(), (0, true));
        place.again();
        fs::write(place.path("elsewhere/project/package.json"), "{}").unwrap();
        assert_eq!(place.told(), (0, false));
        fs::rename(place.path("elsewhere"), place.path("above")).unwrap();
        assert_eq!(place.told(), (0, true));
        place.again();
        fs::write(place.path("above/project/package.json"), "{}").unwrap();
        assert_eq!(place.told(), (1, false));
    }

    #[test]
    fn a_project_that_does_not_exist_yet_is_awaited_directory_by_directory() {
        let mut place = Place::new(|_| {});
        fs::create_dir(place.path("unrelated")).unwrap();
        assert_eq!(place.told(), (0, false));
        fs::create_dir(place.path("above")).unwrap();
        assert_eq!(place.told(), (0, true));
        place.again();
        fs::create_dir(place.path("above/project")).unwrap();
        assert_eq!(place.told(), (0, true));
        place.again();
        fs::remove_dir_all(place.path("above")).unwrap();
        assert_eq!(place.told(), (0, true));
        place.again();
        assert_eq!(place.told(), (0, false));
    }

    #[test]
    fn a_plain_file_in_the_way_is_awaited_like_what_is_missing() {
        let mut place = Place::new(|place| {
            fs::create_dir(place.join("above")).unwrap();
            fs::write(place.join("above/project"), "").unwrap();
        });
        assert_eq!(place.told(), (0, false));
        fs::create_dir(place.path("new")).unwrap();
        fs::remove_file(place.path("above/project")).unwrap();
        fs::rename(place.path("new"), place.path("above/project")).unwrap();
        assert_eq!(place.told(), (0, true));
        fs::remove_dir_all(place.path("above")).unwrap();
        fs::write(place.path("above"), "").unwrap();
        place.again();
        fs::remove_file(place.path("above")).unwrap();
        assert_eq!(place.told(), (0, false));
        fs::create_dir(place.path("above")).unwrap();
        assert_eq!(place.told(), (0, true));
    }

    #[test]
    fn lost_events_and_a_changed_list_mean_everything() {
        let mut place = Place::new(with_project);
        fs::write(place.path("list/changed"), "").unwrap();
        assert_eq!(place.told(), (0, true));
        let mut noticed = Noticed::default();
        noticed.add(None, ReadFlags::QUEUE_OVERFLOW, None);
        assert!(noticed.everything);
    }
}
