//! The first trigger: a watched project whose manifests change is resolved, and by its policy the plan is only made, put up for
//! approval, or applied.
//!
//! [`notice`] says where something may have happened, [`settle`] when it is over, [`answer`] does what the policy says, [`under_way`] and
//! [`turns`] how many answers there may be. Here are the list of projects, which is in the database, and the thread that joins them; it sleeps until the kernel
//! or an answer tells it something.
//!
//! A change is what is different from the manifests that were answered last; so events may be lost, doubled or imagined, and what
//! changed while nobody watched is found at the next start. What an answer itself writes into a manifest is one more change, which then
//! finds nothing to do.

mod answer;
mod notice;
mod seen;
mod settle;
mod shown;
mod standing;
#[cfg(test)]
mod tests;
mod turns;
mod under_way;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use agents_contract::{Cancellation, Station};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use self::answer::{Commission, Done, Step};
use self::notice::Projects;
use self::settle::Settling;
pub(crate) use self::shown::Shown;
use self::shown::Standing as Stands;
use self::standing::Standing;
use self::turns::Turns;
use self::under_way::UnderWay;
use crate::api::{Setting, WatchPolicy, Watched, WatchesAnswer};
use crate::error::{Error, Kind, Result};
use crate::limits::{WATCH_DEFERRED_MAX, WATCH_RETRY_MAX, WATCH_RETRY_MIN, WATCHES_MAX};
use crate::operations::Shop;
use crate::transaction::{Beside, Project, WatchOutcome, WatchRow};

/// The files that say what a project wants. One that is not there is as good a state as any.
pub(crate) const MANIFESTS: [&str; 5] =
    ["Cargo.toml", "bolide.lock", "package.json", "pyproject.toml", "requirements.txt"];

/// Where a process that changes the list tells the one that watches, below the state directory.
const LIST_PLACE: &str = "watch";

/// Watches a project, or watches it otherwise than before.
pub(crate) fn add(
    shop: &Shop,
    state: &Path,
    project: &Project,
    terms: (WatchPolicy, Setting),
) -> Result<()> {
    let (policy, setting) = terms;
    let setting = serde_json::to_string(&setting).map_err(|error| damaged(&error))?;
    let watch = WatchRow {
        path: project.path().to_string_lossy().into_owned(),
        policy: policy.name().to_owned(),
        setting,
        added_at_ms: shop.transactions.now_ms(),
        ..WatchRow::default()
    };
    if !shop.transactions.watch(&watch, WATCHES_MAX)? {
        let message = format!("{WATCHES_MAX} projects are watched already");
        return Err(Error::new(Kind::Refused, "too-many-watches", message)
            .hint("`bolide watch list` names them, `bolide watch remove DIR` makes room"));
    }
    tell(state)
}

/// Watches a project no more.
pub(crate) fn remove(shop: &Shop, state: &Path, path: &str) -> Result<()> {
    if !shop.transactions.unwatch(path)? {
        let message = format!("`{}` is not watched", path.escape_debug());
        return Err(Error::new(Kind::Usage, "not-watched", message)
            .hint("`bolide watch list` names the projects that are"));
    }
    tell(state)
}

/// What is watched, and what came of the last change of each.
pub(crate) fn list(shop: &Shop) -> Result<WatchesAnswer> {
    let mut watched = Vec::new();
    for row in shop.transactions.watches()? {
        let policy = WatchPolicy::from_name(&row.policy).ok_or_else(|| damaged(&row.policy))?;
        let mut last = row.last.unwrap_or_default();
        if let Some(Stands { outcome, message, at_ms }) = shop.shown.of(Path::new(&row.path)) {
            last = WatchOutcome { outcome: outcome.to_owned(), digest: None, message, at_ms };
        }
        watched.push(Watched {
            exists: Path::new(&row.path).is_dir(),
            path: row.path,
            policy,
            since: row.added_at_ms / 1000,
            outcome: (!last.outcome.is_empty()).then_some(last.outcome),
            digest: last.digest,
            message: last.message,
            at: (last.at_ms > 0).then_some(last.at_ms / 1000),
            unwatched: row.unwatched,
        });
    }
    Ok(WatchesAnswer { schema: "bolide.watches/1".to_owned(), watched })
}

/// Tells whichever process watches that the list has changed.
fn tell(state: &Path) -> Result<()> {
    let place = list_place(state)?;
    let path = place.join("changed");
    std::fs::write(&path, b"").map_err(|error| Error::io("write", &path, &error))
}

fn list_place(state: &Path) -> Result<PathBuf> {
    let place = state.join(LIST_PLACE);
    std::fs::create_dir_all(&place).map_err(|error| Error::io("create", &place, &error))?;
    Ok(place)
}

fn damaged(what: &dyn std::fmt::Display) -> Error {
    let message = format!("the list of watched projects cannot be used: {what}");
    Error::new(Kind::Failed, "state-damaged", message)
        .hint("watch the project again with `bolide watch add`")
}

/// Begins to watch, on a thread that lives as long as the process.
pub(crate) fn start(shop: Arc<Shop>, state: &Path, station: Arc<dyn Station>) {
    let started = Watcher::new(shop, state, station).and_then(|watcher| {
        let builder = std::thread::Builder::new().name("watch".to_owned());
        let spawned = builder.spawn(move || watcher.run());
        spawned.map(drop).map_err(|error| Error::io("start a thread for", state, &error))
    });
    if let Err(error) = started {
        tracing::error!(%error, "no project is watched");
    }
}

/// The thread that watches.
struct Watcher {
    shop: Arc<Shop>,
    station: Arc<dyn Station>,
    list: PathBuf,
    /// Rung by answers that have told something.
    bell: Arc<rustix::fd::OwnedFd>,
    tell: Sender<Told>,
    told: Receiver<Told>,
    projects: Projects,
    standing: Standing,
    settling: Settling<PathBuf>,
    under_way: UnderWay,
    turns: Arc<Turns>,
    /// The pause before the next try, of projects whose answer failed for a while.
    pauses: BTreeMap<PathBuf, Duration>,
}

/// What an answer tells: of which project, and what.
struct Told(PathBuf, News);

enum News {
    /// It goes another step.
    Step(Step),
    /// This is the digest of its manifests, where they could be read.
    Looked(Option<String>),
    /// It is over, and perhaps to be tried again.
    Ended(Done),
}

/// An answer's way to tell.
struct Teller {
    project: PathBuf,
    tell: Sender<Told>,
    bell: Arc<rustix::fd::OwnedFd>,
}

impl Teller {
    fn tell(&self, news: News) {
        // Both last as long as the process.
        let _ = self.tell.send(Told(self.project.clone(), news));
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }
}

impl Watcher {
    fn new(shop: Arc<Shop>, state: &Path, station: Arc<dyn Station>) -> Result<Self> {
        let (tell, told) = channel();
        let list = list_place(state)?;
        let failed = |errno: rustix::io::Errno| Error::io("watch", &list, &errno.into());
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?;
        Ok(Self {
            shop,
            station,
            bell: Arc::new(bell),
            list,
            tell,
            told,
            projects: Projects::new(),
            standing: Standing::default(),
            settling: Settling::default(),
            under_way: UnderWay::default(),
            turns: Arc::default(),
            pauses: BTreeMap::new(),
        })
    }

    fn run(mut self) {
        self.watch_anew();
        while !self.station.cancellation().is_cancelled() {
            self.sleep();
            let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
            while let Ok(Told(project, news)) = self.told.try_recv() {
                match news {
                    News::Step(Step::Waits(with)) => self.under_way.defer(&project, with),
                    News::Step(Step::GoesOn) => self.under_way.go_on(&project),
                    News::Looked(digest) => {
                        if self.under_way.looked(&project, digest.as_deref()) {
                            self.settling.touch(&project, Instant::now());
                        }
                    }
                    News::Ended(done) => self.ended(project, done),
                }
            }
            let noticed = self.standing.read();
            let now = Instant::now();
            for project in &noticed.projects {
                self.settling.touch(project, now);
            }
            for project in &noticed.wider {
                self.widen(project);
            }
            if noticed.everything || self.standing.is_due(now) {
                self.watch_anew();
            }
            self.answer_due();
            self.show_put_off();
            if self.shop.measures.watch_deferred(self.under_way.waiting()) {
                self.station.changed();
            }
        }
    }

    fn sleep(&self) {
        let mut polled = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        polled.extend(self.standing.notices().map(|notices| PollFd::new(notices, PollFlags::IN)));
        let next = match self.under_way.has_place() {
            true => self.settling.next(|project| self.under_way.may_take(project)),
            false => None,
        };
        let next = next.into_iter().chain(self.standing.again_at()).min();
        let now = Instant::now();
        let pause =
            next.and_then(|next| Timespec::try_from(next.saturating_duration_since(now)).ok());
        // A signal is as good a reason to look as any.
        let _ = poll(&mut polled, pause.as_ref());
    }

    /// Reads the list and watches all of it from now on. All of it is looked at once, because what happened in between was told to nobody.
    fn watch_anew(&mut self) {
        let now = Instant::now();
        let is_retry = self.standing.is_due(now);
        let mut noted = BTreeMap::new();
        let rows = self.shop.transactions.watches();
        let is_read = rows.is_ok();
        match rows {
            Ok(rows) => {
                let watched = rows.iter().map(|row| (row.path.clone().into(), answer::beside(row)));
                self.projects = watched.collect();
                let terms = rows.iter().map(|row| (row.path.clone().into(), answer::terms(row)));
                self.under_way.follow_terms(terms.collect());
                let reasons = rows.into_iter().map(|row| (row.path.into(), row.unwatched));
                noted = reasons.filter_map(|(path, reason)| Some((path, reason?))).collect();
            }
            Err(error) => tracing::warn!(%error, "the list of watched projects was not read"),
        }
        self.settling.retain(|project| self.projects.contains_key(project));
        self.pauses.retain(|project, _| self.projects.contains_key(project));
        let is_renewed = self.standing.renew(&self.list, &self.projects, now);
        if !is_read {
            self.standing.again_soon(now);
        }
        self.note(&noted);
        // A try that changed nothing is no reason to look at all of them.
        if is_renewed || !is_retry {
            for project in self.projects.keys() {
                self.settling.touch(project, now);
            }
        }
        self.shop.measures.watches(self.projects.len());
        self.station.changed();
    }

    fn answer_due(&mut self) {
        while self.under_way.has_place() {
            let under_way = &self.under_way;
            let due = self.settling.take(Instant::now(), |project| under_way.may_take(project));
            let Some(project) = due else { return };
            match self.under_way.begin_look(&project) {
                Some(beside) => self.look(&project, beside),
                None => self.answer(project),
            }
        }
    }

    /// Shows which changes are not even begun, because as many wait as may.
    fn show_put_off(&self) {
        let touched = self.settling.touched();
        let projects = touched.filter(|project| self.under_way.is_put_off(project));
        let message = format!("is looked at when fewer than {WATCH_DEFERRED_MAX} changes wait");
        self.shop.shown.put_off(projects, &message, || self.shop.transactions.now_ms());
    }

    /// Looks, on a thread of its own, whether the manifests are still those to which an answer waits.
    fn look(&mut self, project: &PathBuf, beside: Arc<Beside>) {
        let teller = self.teller(project);
        let builder = std::thread::Builder::new().name("watch-look".to_owned());
        let spawned = builder.spawn(move || {
            let look = || answer::digest_at(&teller.project, &beside);
            let digest = std::panic::catch_unwind(look).unwrap_or_else(|_| {
                tracing::error!(project = %teller.project.display(), "a look at it panicked");
                None
            });
            teller.tell(News::Looked(digest));
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to look at a changed project");
            self.under_way.leave_look(project);
            self.settling.retry(project, Instant::now(), WATCH_RETRY_MIN);
        }
    }

    fn answer(&mut self, project: PathBuf) {
        let (shop, station) = (Arc::clone(&self.shop), Arc::clone(&self.station));
        let wanted = Cancellation::any([station.cancellation().clone()]);
        let (teller, turns) = (self.teller(&project), Arc::clone(&self.turns));
        let own = wanted.clone();
        let builder = std::thread::Builder::new().name("watch-answer".to_owned());
        let spawned = builder.spawn(move || {
            let path = &teller.project;
            let step = |step| teller.tell(News::Step(step));
            let commission = Commission { wanted: &own, tell: &step, turns: &turns };
            let answering = || answer::answer(&shop, &*station, path, commission);
            let answering = std::panic::AssertUnwindSafe(answering);
            let done = std::panic::catch_unwind(answering).unwrap_or_else(|_| {
                // Not while it was carried out, which is caught and told (`answer`).
                tracing::error!(project = %path.display(), "an answer to a change panicked");
                Done::AGAIN
            });
            teller.tell(News::Ended(done));
        });
        match spawned {
            Ok(_) => self.under_way.begin(project, wanted),
            Err(error) => {
                tracing::warn!(%error, "no thread to answer a change");
                self.settling.retry(&project, Instant::now(), WATCH_RETRY_MIN);
            }
        }
    }

    fn teller(&self, project: &Path) -> Teller {
        let (tell, bell) = (self.tell.clone(), Arc::clone(&self.bell));
        Teller { project: project.to_owned(), tell, bell }
    }

    /// Watches anew what matters of a project beside its root.
    fn widen(&mut self, project: &Path) {
        if let Some(beside) = self.projects.get(project) {
            self.standing.widen(project, beside);
        }
    }

    fn ended(&mut self, project: PathBuf, Done { again, beside }: Done) {
        if let (Some(beside), Some(watched)) = (beside, self.projects.get_mut(&project)) {
            *watched = beside;
            self.widen(&project);
            // What changed before it was watched was told to nobody.
            self.settling.touch(&project, Instant::now());
        }
        // Who gave way to what is wanted now has not failed.
        let gave_way = self.under_way.end(&project);
        if !again || gave_way {
            self.pauses.remove(&project);
        }
        if !again {
            return;
        }
        let pause = self.pauses.get(&project).copied().unwrap_or(WATCH_RETRY_MIN);
        self.settling.retry(&project, Instant::now(), pause);
        self.pauses.insert(project, (2 * pause).min(WATCH_RETRY_MAX));
    }

    /// Writes down for people which projects are not watched, where that differs from what is `noted`. It stands beside what
    /// came of the last change, which says nothing of it.
    fn note(&self, noted: &BTreeMap<PathBuf, String>) {
        let unwatched = self.standing.unwatched();
        if unwatched == noted {
            return;
        }
        let named =
            unwatched.iter().map(|(path, reason)| (path.to_string_lossy(), reason.as_str()));
        let named: Vec<_> = named.collect();
        if let Err(error) = self.shop.transactions.note_unwatched(&named) {
            tracing::warn!(%error, "which projects are not watched was not written down");
        }
    }
}
