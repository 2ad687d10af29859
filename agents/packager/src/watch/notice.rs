//! What the kernel tells of watched directories (inotify). It says which projects may have changed, never what changed: whoever
//! is told looks at the files, so an event too many costs a look, and events that are lost are made good by looking at everything.
//!
//! A project is watched through its directory, because editors and git replace files. Its ancestors are watched for being moved or
//! deleted themselves; where a part of the path is missing, the nearest directory that exists is watched for it. A change in any of
//! these means that paths lead elsewhere: then everything is watched anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::MANIFESTS;
use crate::limits::{BESIDE_MAX, WATCH_EVENT_BYTES};
use crate::transaction::{Beside, MEMBER_MANIFESTS, may_be_member};

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

/// The projects that are watched, each with what else of it matters.
pub(super) type Projects = BTreeMap<PathBuf, Arc<Beside>>;

/// Why a directory is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// Its manifests matter to the project.
    Project(PathBuf),
    /// A file of this name in it matters to the project.
    File(PathBuf, Vec<u8>),
    /// The way to what matters to the project leads through the directory of this name in it.
    Through(PathBuf, Vec<u8>),
    /// Each directory in it may be a member of the project.
    Members(PathBuf),
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
    /// Those of them in which directories came or went: what is beside their root is to be watched anew.
    pub(super) wider: BTreeSet<PathBuf>,
    /// The list of projects may have changed, paths lead elsewhere, or events were lost: everything is to be watched anew.
    pub(super) everything: bool,
}

/// The result of watching: the notices, and the projects that could not be watched, with the reason.
pub(super) type Watching<Word = Notices> = (Word, Vec<(PathBuf, String)>);

impl Notices {
    /// Watches `projects`, and `list` for changes of the list.
    pub(super) fn new(list: &Path, projects: &Projects) -> std::io::Result<Watching> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut notices = Self { descriptor, roles: HashMap::new() };
        notices.add(list, CONTENT, Role::List)?;
        let mut failed = Vec::new();
        for (project, beside) in projects {
            let watched = notices.watch(project).map_err(reason);
            if let Err(reason) = watched.and_then(|()| notices.widen(project, beside)) {
                failed.push((project.clone(), reason));
            }
        }
        Ok((notices, failed))
    }

    /// Watches what matters to a project beside its root, too. What is not there is awaited in the nearest directory that is; there may
    /// be more below it then. Why not all of it could be watched, for people.
    pub(super) fn widen(&mut self, project: &Path, beside: &Beside) -> Result<(), String> {
        let in_part = |errno| format!("in part only: {}", reason(errno));
        for file in &beside.files {
            self.lead_to(project, file, false).map_err(in_part)?;
        }
        for directory in &beside.directories {
            self.lead_to(project, directory, true).map_err(in_part)?;
        }
        Ok(())
    }

    /// Watches all on the way from the project to a file, or to a directory and those in it.
    fn lead_to(&mut self, project: &Path, path: &str, is_listed: bool) -> Result<(), Errno> {
        let mut place = project.to_owned();
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let name = part.as_bytes().to_vec();
            let is_file = parts.peek().is_none() && !is_listed;
            let of = if is_file { Role::File } else { Role::Through };
            match self.add(&place, CONTENT, of(project.to_owned(), name)) {
                // Its name is awaited one directory above.
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                added => added?,
            }
            place.push(part);
        }
        match is_listed {
            true => self.watch_members(project, &place),
            false => Ok(()),
        }
    }

    fn watch_members(&mut self, project: &Path, place: &Path) -> Result<(), Errno> {
        match self.add(place, CONTENT, Role::Members(project.to_owned())) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            added => added?,
        }
        // What comes from here on is told; what the file system cannot say is looked at with the next change.
        let Ok(entries) = std::fs::read_dir(place) else { return Ok(()) };
        let members = entries.flatten().filter(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir())
                && entry.file_name().to_str().is_some_and(may_be_member)
        });
        for member in members.take(BESIDE_MAX) {
            for manifest in MEMBER_MANIFESTS {
                let role = Role::File(project.to_owned(), manifest.as_bytes().to_vec());
                match self.add(&member.path(), CONTENT, role) {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                    added => added?,
                }
            }
        }
        Ok(())
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
            let (watch, events) = (event.wd(), event.events());
            noticed.add(self.roles.get(&watch), events, name);
            // The kernel watches it no more, and may give its number to another.
            if events.contains(ReadFlags::IGNORED) {
                self.roles.remove(&watch);
            }
        }
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Noticed {
    fn widen(&mut self, project: &Path) {
        self.projects.insert(project.to_owned());
        self.wider.insert(project.to_owned());
    }

    fn add(&mut self, roles: Option<&Vec<Role>>, events: ReadFlags, name: Option<&[u8]>) {
        let gone = ReadFlags::DELETE_SELF
            | ReadFlags::MOVE_SELF
            | ReadFlags::IGNORED
            | ReadFlags::UNMOUNT
            | ReadFlags::QUEUE_OVERFLOW;
        let roles = roles.map(Vec::as_slice).unwrap_or_default();
        if events.intersects(gone) {
            // What is beside a root is told of by the directory above it, which is watched as well.
            let is_beside = !roles.is_empty() && roles.iter().all(Role::is_beside);
            self.everything |= !is_beside || events.contains(ReadFlags::QUEUE_OVERFLOW);
            return;
        }
        let arrived = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        let is_directory = events.contains(ReadFlags::ISDIR);
        for role in roles {
            match role {
                Role::File(project, wanted) => {
                    if name == Some(wanted.as_slice()) {
                        self.projects.insert(project.clone());
                    }
                }
                Role::Through(project, wanted) => {
                    if name == Some(wanted.as_slice()) {
                        self.widen(project);
                    }
                }
                Role::Members(project) => {
                    let name = name.and_then(|name| std::str::from_utf8(name).ok());
                    if is_directory && name.is_some_and(may_be_member) {
                        self.widen(project);
                    }
                }
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

impl Role {
    fn is_beside(&self) -> bool {
        matches!(self, Self::File(..) | Self::Through(..) | Self::Members(_))
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
            let projects = [(place.join("above/project"), Arc::new(beside()))].into();
            let (notices, failed) = Notices::new(&place.join("list"), &projects).unwrap();
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

    fn beside() -> Beside {
        Beside {
            files: ["base.txt", "reqs/deep/more.txt"].map(str::to_owned).into(),
            directories: ["packages"].map(str::to_owned).into(),
            is_cut: false,
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
    fn what_is_beside_the_root_is_told_of_and_directories_that_come_are_watched_then() {
        let mut place = Place::new(|place| {
            with_project(place);
            fs::create_dir_all(place.join("above/project/packages/one")).unwrap();
        });
        let project = place.path("above/project");
        let told = |place: &mut Place| {
            let noticed = place.notices.read();
            assert!(!noticed.everything);
            for project in &noticed.wider {
                place.notices.widen(project, &beside()).unwrap();
            }
            (noticed.projects.len(), noticed.wider.len())
        };
        let write = |path: &str| fs::write(project.join(path), "").unwrap();
        let nothing = (0, 0);
        write("other.txt");
        assert_eq!(told(&mut place), nothing);
        write("base.txt");
        assert_eq!(told(&mut place), (1, 0));
        write("packages/one/package.json");
        assert_eq!(told(&mut place), (1, 0));
        write("packages/one/index.js");
        fs::create_dir(project.join("packages/node_modules")).unwrap();
        assert_eq!(told(&mut place), nothing);
        fs::create_dir(project.join("packages/two")).unwrap();
        assert_eq!(told(&mut place), (1, 1));
        write("packages/two/Cargo.toml");
        assert_eq!(told(&mut place), (1, 0));
        fs::create_dir(project.join("reqs")).unwrap();
        assert_eq!(told(&mut place), (1, 1));
        fs::create_dir(project.join("reqs/deep")).unwrap();
        assert_eq!(told(&mut place), (1, 1));
        write("reqs/deep/more.txt");
        assert_eq!(told(&mut place), (1, 0));
        fs::remove_dir_all(project.join("reqs")).unwrap();
        assert_eq!(told(&mut place), (1, 1));
        fs::remove_dir_all(project.join("packages")).unwrap();
        assert_eq!(told(&mut place), (1, 1));
        fs::create_dir_all(project.join("packages/three")).unwrap();
        assert_eq!(told(&mut place), (1, 1));
        write("packages/three/package.json");
        assert_eq!(told(&mut place), (1, 0));
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
