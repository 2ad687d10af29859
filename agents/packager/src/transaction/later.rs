//! What was answered before it was on the device: confirmed there right afterwards, or taken back.
//!
//! Whoever installs is answered when the new state is visible and in the journal; nobody has waited for the device then. Memory keeps
//! it through the death of any process, so within one start of the machine a journal says what it always says. The session that made
//! it keeps the project's lock until all of it is on the device, so that nothing is built upon it before and no error of the device is
//! told to somebody else. The journal, and with it all that is needed to bring the old state back, goes only then.
//!
//! A journal of another start that is still there tells of a loss of power, or of an end of the machine that came as quickly. Names
//! are then what they were at one moment (`order.rs`), and with each changed one there is the intent's note (`note.rs`). Contents may be
//! there or not: they are read, all of them, and compared with the fingerprints (`torn.rs`). Only where the commit record, every file,
//! the plan and its approval are there does the new state stand; that is written down, and from that record on nobody looks any more.
//! Everything else is brought back to the old state, name by name, and history says so. What a person did meanwhile is kept: as copies,
//! or as a whole where it cannot be looked through. An old file that did not reach the device does not replace a new one that did; an
//! old tree that somebody else had installed, and waited for no disk, comes back as it is.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::database::{Step, fingerprint_name};
use super::directory::{Directory, RelativePath};
use super::durable::tells_of_failures;
use super::fingerprint::{Fingerprint, REBUILT_CACHE};
use super::journal::{Begin, Intent, Item, Journal, Record, Story, Unfinished};
use super::project::{GENERATIONS, STAGING, Workshop};
use super::recovery::Undo;
use super::settle::{Direction, MEANWHILE, Settled, Site};
use super::start::Start;
use super::torn::{first_torn, first_unwritten};
use super::{Inner, Outcome, Recovered, Session, note, order, tree};
use crate::error::{Error, Kind, Result};
use crate::limits::PROJECT_FILE_BYTES_MAX;

/// When whoever installs something is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is visible and survives the death of every process; the disk is waited for right afterwards.
    #[default]
    AfterAnswer,
    /// When it is on the disk.
    BeforeAnswer,
}

impl Durability {
    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterAnswer => "after-answer",
            Self::BeforeAnswer => "before-answer",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::AfterAnswer, Self::BeforeAnswer].into_iter().find(|it| it.name() == name)
    }
}

/// The error of a transaction that the device did not take after people were answered.
pub(super) const NOT_STORED: &str = "not-stored";
/// Why a transaction was taken back where the machine had stopped.
const POWER_LOST: &str = "the power went before it was on the disk";

impl Session {
    /// What is in memory of the project's file system now, by a name that is another one when that is lost.
    fn start_here(&self) -> Option<Start> {
        let start = self.inner.start.as_ref()?;
        Some(format!("{start}/{}", order::mounted(self.project.root())?))
    }

    /// Whether an intent is of this start of the machine, so that all of it is in memory at least.
    pub(super) fn is_of_this_start(&self, intent: &Intent) -> bool {
        let here = self.start_here();
        here.is_some() && here == intent.start
    }

    /// This start of the machine, where an installation may be answered before the device has it: where names and notes keep their
    /// order, in all that belongs to it, and the kernel tells what it could not write.
    pub(super) fn start_to_answer_in(&self, staging: &Directory) -> Result<Option<Start>> {
        let Some(start) = self.start_here() else { return Ok(None) };
        let is_ordered = self.order().keeps_journal && tells_of_failures();
        let is_one = is_ordered && !self.inner.is_apart(staging)?;
        Ok(is_one.then_some(start))
    }

    /// Whether this process alone knows that something of the project is to be taken back: whoever else got the lock would go on with it.
    pub(crate) fn has_to_stay(&self) -> bool {
        let key = self.project.key();
        self.inner.refused().values().any(|it| it.project == key && !it.is_written)
    }

    /// Waits until what was answered is on the device, or takes it back. What became of it; nothing where nothing was left, and
    /// `Pending` where it stands and its end is left to the next one to take the lock.
    ///
    /// # Errors
    /// Where the device refused it and it could not be taken back at once; that is left to the next one, too.
    pub fn confirm(&mut self) -> Result<Vec<Recovered>> {
        match self.recover() {
            Err(error) if !self.inner.refuses_some_of(&self.project.key()) => Ok(vec![Recovered {
                transaction: String::new(),
                project: Some(self.project.path().display().to_string()),
                outcome: Outcome::Pending,
                error: Some(error),
            }]),
            ended => ended,
        }
    }

    /// Ends what was answered before it was on the device; `None` where it ends like any other, because nothing but a process has died
    /// before its commit record.
    pub(super) fn end_answered(
        &self,
        Story { begin, intent, turned, committed, back }: &mut Story,
    ) -> Result<Option<Outcome>> {
        let Some(intent) = intent else { return Ok(None) };
        let refused = |outcome: Result<()>| outcome.map(|()| Some(Outcome::Undone));
        if let Some(why) = back {
            return refused(self.take_back(begin, intent, turned, why));
        }
        if let Some(why) = self.inner.why_refused(&begin.id) {
            return refused(self.refuse(begin, intent, turned, &why));
        }
        let is_here = self.is_of_this_start(intent);
        if !*committed {
            return match is_here {
                true => Ok(None),
                false => refused(self.take_back(begin, intent, turned, POWER_LOST)),
            };
        }
        let is_known = self.inner.stored().contains(&begin.id);
        if !is_here && !is_known {
            if let Some(missing) = self.find_missing(begin, intent)? {
                let why = format!("{POWER_LOST}: {missing}");
                return refused(self.refuse(begin, intent, turned, &why));
            }
            match self.wait_for_answered(begin, intent) {
                Err(error) if error.code == NOT_STORED => {
                    return refused(self.refuse(begin, intent, turned, &error.message));
                }
                waited => waited?,
            }
        }
        if !is_here {
            // What somebody does to it from now on is no matter for that question. The rest is waited for as ever.
            self.note_stored(begin);
            intent.start = None;
        }
        self.settle_again(begin, intent)?;
        match self.finish(begin, intent) {
            Err(error) if error.code == NOT_STORED => {
                refused(self.refuse(begin, intent, turned, &error.message))
            }
            ended => ended.map(|()| Some(Outcome::Finished)),
        }
    }

    /// Waits for all that a transaction was answered with. From then on it stands, whatever else goes wrong in this process.
    ///
    /// The session that answered asks through the descriptor that is older than all of it: an error that it is told of came since, and
    /// may be of anything of it. Any other descriptor is told of errors that nobody has heard of yet, whenever and of whatever they were:
    /// there each thing is asked by itself.
    pub(super) fn wait_for_answered(&self, begin: &Begin, intent: &Intent) -> Result<()> {
        if self.inner.stored().contains(&begin.id) {
            return Ok(());
        }
        let root = self.project.root();
        if let Err(error) = self.inner.disk.sync_file_system(root) {
            let is_own = self.has_answered(&begin.id);
            let why =
                if is_own { Some(error.to_string()) } else { self.find_unwritten(begin, intent)? };
            if let Some(why) = why {
                let message = format!(
                    "the disk did not take what was installed in `{}`: {why}",
                    self.project.path().display()
                );
                return Err(Error::new(Kind::Failed, NOT_STORED, message)
                    .hint("it is taken back; look at the disk, then install again"));
            }
            tracing::warn!(%error, "the disk did not take something, but all of this transaction");
        }
        self.inner.stored().insert(begin.id.clone());
        Ok(())
    }

    /// Remembers that this session answers with a transaction before the device has it.
    pub(super) fn note_answered(&self, transaction: &str) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered = Some(transaction.to_owned());
    }

    /// Whether this session has answered with a transaction.
    fn has_answered(&self, transaction: &str) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.as_deref() == Some(transaction)
    }

    /// What of a committed transaction did not get to the device; each new file and directory is asked, and read.
    fn find_unwritten(&self, begin: &Begin, intent: &Intent) -> Result<Option<String>> {
        let workshop = Workshop::existing(&self.project)?;
        let site = self.site(workshop.as_ref());
        let Inner { disk, fingerprints, database, .. } = &*self.inner;
        for (position, item) in intent.items.iter().enumerate() {
            if site.is_blocked(&item.live) {
                continue;
            }
            let Some((directory, name)) = site.find_new(item)? else { continue };
            let name_of_print = fingerprint_name(&begin.id, position);
            let synced =
                fingerprints.open_file(OsStr::new(&name_of_print)).map(|print| disk.sync(&print));
            if let Ok(Err(error)) = synced {
                return Ok(Some(format!("the record of `{}`: {error}", item.live)));
            }
            let print = self.inner.load_whole_fingerprint(&name_of_print)?.unwrap_or_default();
            if let Some(path) = first_unwritten(disk, &print, (&directory, &name))? {
                return Ok(Some(format!("`{}`", shown(item, &path))));
            }
        }
        database.sync(&begin.id, true)?;
        self.find_missing(begin, intent)
    }

    /// Writes down that the device has all of a transaction: whatever the power does later, it stands, and what is not as it was
    /// installed is a person's. False where that cannot be written; then its journal has to go for good instead.
    pub(super) fn note_stored(&self, begin: &Begin) -> bool {
        let Inner { disk, journals, .. } = &*self.inner;
        let noted = Journal::resume(disk, journals, &Unfinished::of(begin)).and_then(|journal| {
            let Some(mut journal) = journal else { return Ok(()) };
            journal.append(disk, &Record::Stored)?;
            journal.sync(disk)
        });
        noted
            .inspect_err(|error| tracing::warn!(%error, "cannot write down that it is stored"))
            .is_ok()
    }

    /// Why a committed transaction of another start cannot stand; `None` where all of it is there.
    pub(super) fn find_missing(&self, begin: &Begin, intent: &Intent) -> Result<Option<String>> {
        if let Some(digest) = &begin.digest
            && !self.inner.database.was_agreed_to(digest)?
        {
            return Ok(Some("its plan and who agreed to it are not there".to_owned()));
        }
        let workshop = Workshop::existing(&self.project)?;
        let site = self.site(workshop.as_ref());
        for (position, item) in intent.items.iter().enumerate() {
            if site.is_blocked(&item.live) {
                continue;
            }
            // What somebody has replaced since is theirs, and what was only taken away has nothing to read.
            let Some((directory, name)) = site.find_new(item)? else { continue };
            let name_of_print = fingerprint_name(&begin.id, position);
            let Some(print) = self.inner.load_whole_fingerprint(&name_of_print)? else {
                return Ok(Some(format!("the record of `{}` is not there", item.live)));
            };
            if let Some(path) = first_torn(&print, (&directory, &name), item.live.name())? {
                let path = shown(item, &path);
                return Ok(Some(format!("`{path}` is not what was installed")));
            }
            self.remove_torn_cache(&directory, &name);
        }
        Ok(None)
    }

    /// Removes npm's own record of a tree, of which there is no fingerprint, where it is not known to be whole: npm reads the tree then.
    fn remove_torn_cache(&self, directory: &Directory, name: &OsStr) {
        let cache = OsStr::new(REBUILT_CACHE);
        let Ok(tree) = directory.child(name) else { return };
        let is_whole = match tree.read_file(cache, PROJECT_FILE_BYTES_MAX) {
            Ok(None) => true,
            Ok(Some(bytes)) => serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok(),
            Err(_) => false,
        };
        if !is_whole && let Err(error) = self.inner.disk.unlink(&tree, cache) {
            tracing::warn!(%error, "npm's record of a tree may not be whole, and stays");
        }
    }

    /// Takes back a transaction after people were answered. What a person did to it since is kept aside.
    pub(super) fn take_back(
        &self,
        begin: &Begin,
        intent: &Intent,
        turned: &mut BTreeSet<usize>,
        why: &str,
    ) -> Result<()> {
        self.note_turns(begin, intent, turned)?;
        if let Some(workshop) = Workshop::existing(&self.project)? {
            self.move_between(&workshop, GENERATIONS, STAGING, &begin.id)?;
        }
        let undo = Undo { turned, may_be_torn: true, ..Undo::of(intent, None) };
        self.give_up(begin, Some(undo), why)?;
        self.inner.refused().remove(&begin.id);
        self.inner.taken_back.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Decides for good that a committed transaction is taken back, and does it.
    pub(super) fn refuse(
        &self,
        begin: &Begin,
        intent: &Intent,
        turned: &mut BTreeSet<usize>,
        why: &str,
    ) -> Result<()> {
        let Inner { disk, journals, .. } = &*self.inner;
        tracing::warn!(transaction = %begin.id, why, "a transaction is taken back");
        let refused = Refused { project: begin.key(), why: why.to_owned(), is_written: true };
        self.inner.refused().insert(begin.id.clone(), refused);
        let marked = Journal::resume(disk, journals, &Unfinished::of(begin)).and_then(|journal| {
            let Some(mut journal) = journal else { return Ok(()) };
            journal.append(disk, &Record::Back { why: why.to_owned() })?;
            journal.sync(disk)
        });
        if let Err(error) = marked {
            tracing::warn!(%error, "cannot write down in the journal that it is taken back");
            // That mostly needs no more room. A disk like this one may refuse everything; then this process alone knows it, and keeps
            // the lock for that ([`Session::has_to_stay`]).
            if let Err(error) = note::refuse(disk, journals, &Unfinished::of(begin), why) {
                tracing::warn!(%error, "nor in its note");
                if let Some(refused) = self.inner.refused().get_mut(&begin.id) {
                    refused.is_written = false;
                }
            }
        }
        self.take_back(begin, intent, turned, why)
    }

    /// Brings an item of a transaction that people were answered with back to its old object. They may have gone on from there, and
    /// the old one may be gone with `.bolide`: what is in the way of it, or all that there is, stays. `remains` is set where something
    /// has to be left in its slot.
    pub(super) fn settle_torn_back(
        &self,
        site: &Site<'_>,
        begin: &Begin,
        (position, item): (usize, &Item),
        remains: &Cell<bool>,
    ) -> Result<Settled> {
        if site.is_blocked(&item.live) || self.is_old_torn(site, begin, (position, item))? {
            self.keep_old(site, begin, item, remains)?;
            return Ok(Settled::Foreign);
        }
        match site.settle(item, Direction::Back) {
            Err(error) if error.code == MEANWHILE => {
                if site.has_old(item)? {
                    self.keep_old(site, begin, item, remains)?;
                } else if site.is_live(item)? {
                    self.end_without_old(site, begin, (position, item))?;
                }
                Ok(Settled::Foreign)
            }
            settled => settled,
        }
    }

    /// Keeps what a person did in something that is about to be deleted: copies of it, or all of it as it is, where `print` does not tell
    /// what it was, where it cannot be looked through, or where there is no room. False where it has to be left where it is.
    pub(super) fn keep_of_torn(
        &self,
        begin: &Begin,
        live: &RelativePath,
        place: (&Directory, &OsStr),
        print: Option<&Fingerprint>,
    ) -> bool {
        let live = live.as_str();
        let copied = match print {
            Some(print) => self.inner.keep_edits_of_torn(&begin.id, live, place, print),
            None => Ok(false),
        };
        if let Err(error) = &copied {
            tracing::warn!(live, %error, "kept as a whole: edits cannot be copied");
        }
        if copied.is_ok_and(|is_copied| is_copied) {
            return true;
        }
        let Err(error) = self.inner.keep_whole(&begin.id, live, place) else { return true };
        let (own, path) = (self.project.path().join(live), place.0.path().join(place.1));
        let what = format!(
            "what was `{}` is left as `{}`: it cannot be kept elsewhere: {error}",
            own.display(),
            path.display()
        );
        self.inner.tell(&self.project.key(), &what);
        false
    }

    /// Keeps what lies in the slot of a name that cannot be brought back.
    fn keep_old(
        &self,
        site: &Site<'_>,
        begin: &Begin,
        item: &Item,
        remains: &Cell<bool>,
    ) -> Result<()> {
        let Some(slot) = site.slot(item)? else { return Ok(()) };
        if !site.has_old(item)? {
            return Ok(());
        }
        let print = self.print_of_old(begin, item)?;
        let place = (&slot, OsStr::new(&item.slot));
        if !self.keep_of_torn(begin, &item.live, place, print.as_ref()) {
            remains.set(true);
        }
        Ok(())
    }

    /// What was installed as the old environment of an item; `None` where it is not known to be ours. Of a file nothing can be installed
    /// again.
    fn print_of_old(&self, begin: &Begin, item: &Item) -> Result<Option<Fingerprint>> {
        if item.environment.is_none() {
            return Ok(Some(Fingerprint::NOTHING));
        }
        let steps = self.inner.database.steps_at(&self.project.key(), &item.live)?;
        let before = steps.iter().find(|step| step.transaction != begin.id);
        let is_old = |step: &&Step| {
            let (Some(new), Some(old)) = (&step.item.new, &item.old) else { return false };
            new.same_object(old)
        };
        let Some(step) = before.filter(is_old) else { return Ok(None) };
        self.inner.load_whole_fingerprint(&step.fingerprint_name())
    }

    /// Whether nothing of the old content of a file is left but its name, and the new one is whole. Somebody may have written the
    /// old one right before, and waited for no disk.
    fn is_old_torn(
        &self,
        site: &Site<'_>,
        begin: &Begin,
        (position, item): (usize, &Item),
    ) -> Result<bool> {
        let Some(old) = &item.old_sha256 else { return Ok(false) };
        if !site.has_old(item)? || !site.is_live(item)? {
            return Ok(false);
        }
        let now = site.old_digest(item)?.map(|digest| crate::hex::hex(&digest));
        let Some((directory, name)) = site.find_new(item)? else { return Ok(false) };
        if now.as_ref() == Some(old) {
            return Ok(false);
        }
        let print = self.inner.load_whole_fingerprint(&fingerprint_name(&begin.id, position))?;
        let Some(print) = print else { return Ok(false) };
        let is_torn = first_torn(&print, (&directory, &name), item.live.name())?.is_none();
        if is_torn {
            let path = self.project.path().join(item.live.as_str());
            let message = "stays as it was installed: what was there before did not reach the disk";
            self.inner.tell(&self.project.key(), &format!("`{}` {message}", path.display()));
        }
        Ok(is_torn)
    }

    /// Somebody has removed `.bolide`, and the old object with it: what had none goes, and all else is better than nothing.
    fn end_without_old(
        &self,
        site: &Site<'_>,
        begin: &Begin,
        (position, item): (usize, &Item),
    ) -> Result<()> {
        if item.old.is_some() {
            let path = self.project.path().join(item.live.as_str());
            let message = "may not be whole, and what was there before is gone; remove it, then install again";
            self.inner.tell(&self.project.key(), &format!("`{}` {message}", path.display()));
            return Ok(());
        }
        let Some((directory, name)) = site.find_new(item)? else { return Ok(()) };
        let print = self.inner.load_whole_fingerprint(&fingerprint_name(&begin.id, position))?;
        let place = (&directory, name.as_os_str());
        if !self.keep_of_torn(begin, &item.live, place, print.as_ref()) {
            return Ok(());
        }
        self.wait_for_kept(&begin.id)?;
        tree::remove_tree(&self.inner.disk, &directory, &name)
    }
}

/// A path in an item, as people see it.
fn shown(item: &Item, path: &Path) -> String {
    let path = Path::new(item.live.as_str()).join(path);
    path.to_string_lossy().trim_end_matches('/').to_owned()
}

/// A transaction that is being taken back.
pub(super) struct Refused {
    /// The key of its project.
    project: String,
    why: String,
    /// Whether its journal says it, or the note of that.
    is_written: bool,
}

impl Inner {
    /// Transactions that are being taken back.
    fn refused(&self) -> MutexGuard<'_, BTreeMap<String, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transactions of which the device has all, and whose journals may not say so yet.
    pub(super) fn stored(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a transaction is being taken back.
    pub(super) fn why_refused(&self, transaction: &str) -> Option<String> {
        self.refused().get(transaction).map(|it| it.why.clone())
    }

    /// A reason, and where copies of what a person did lie, if there are any, and what was new where it had to stay.
    pub(super) fn with_kept(&self, transaction: &str, why: &str, slot: Option<&Path>) -> String {
        let mut told = why.to_owned();
        let kept = self.kept(transaction);
        if kept.is_dir() {
            told += &format!("; copies of what was edited lie in `{}`", kept.display());
        }
        if let Some(slot) = slot {
            told +=
                &format!("; what was new and could not be removed lies in `{}`", slot.display());
        }
        told
    }

    fn refuses_some_of(&self, project: &str) -> bool {
        self.refused().values().any(|it| it.project == project)
    }

    /// Remembers something for the next answer in a project, whichever process gives it.
    pub(super) fn tell(&self, project: &str, what: &str) {
        tracing::warn!(what);
        if let Err(error) = self.database.tell(project, what) {
            tracing::warn!(%error, "the next answer does not tell that");
        }
    }

    /// What nobody was told of yet in a project.
    pub(super) fn untold(&self, project: &str) -> Vec<String> {
        self.database.take_untold(project).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read what is to be told");
            Vec::new()
        })
    }
}
