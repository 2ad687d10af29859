//! Who reads archives for everybody: processes that can do nothing else, or this very process. What they say is not believed: names,
//! sizes, totals and order are checked here as the readers themselves check them.
//!
//! Rules:
//! 1. A process has one archive at a time, and comes back only after an answer that was read to its end and was no refusal.
//!    Every other one is ended, and the next archive gets another one.
//! 2. Processes that have nothing to do are kept only as long as a [`Session`] says that more archives may come, so that none
//!    carries anything from one request into a much later one, and an idle machine has none.
//! 3. What a process answers about an archive is believed as content of that archive: only reading it again could tell. So
//!    what one subverted process could spoil is what the same session unpacks after it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};

use super::archive::{self, Contents, Kind, Outcome};
use super::isolation::Isolation;
use super::names::{self, Names};
use super::process::{Answers, Broken, Frame, Process, read_only};
use super::protocol::Request;
use super::{Entry, Refusal, Source, check_output, wheel};
use crate::limits;

pub use super::process::Program;

/// Reads archives. Shared by threads.
pub struct Unpacker {
    /// `None`: in this process.
    program: Option<Program>,
    pool: Mutex<Pool>,
    returned: Condvar,
    measures: Measures,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Process>,
    busy: usize,
    sessions: usize,
}

/// What operators may want to know. Each is read by itself.
#[derive(Debug, Default)]
struct Measures {
    started: AtomicU64,
    failed: AtomicU64,
    /// The version of Landlock's interface of the last one, and 1 more; 0 where none was started.
    landlock: AtomicU64,
}

/// Says that more archives may come. See rule 2.
#[derive(Debug)]
pub struct Session(Arc<Unpacker>);

impl Drop for Session {
    fn drop(&mut self) {
        let mut pool = self.0.pool();
        pool.sessions -= 1;
        if pool.sessions == 0 {
            pool.idle.clear();
        }
    }
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Unpacker").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Unpacker {
    /// One that reads in this process: for callers that are confined themselves, and for tests.
    pub fn here() -> Self {
        Self::new(None)
    }

    /// One that has processes of a program read.
    pub fn with(program: Program) -> Self {
        Self::new(Some(program))
    }

    fn new(program: Option<Program>) -> Self {
        let (pool, returned) = (Mutex::default(), Condvar::new());
        Self { program, pool, returned, measures: Measures::default() }
    }

    /// Keeps processes for the next archive as long as the value lives.
    pub fn session(self: &Arc<Self>) -> Session {
        self.pool().sessions += 1;
        Session(Arc::clone(self))
    }

    /// How many processes were started, and how many failed.
    pub fn counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.measures.started), read(&self.measures.failed))
    }

    /// What holds the process that was started last; `None` where none was.
    pub fn isolation(&self) -> Option<Isolation> {
        let landlock = self.measures.landlock.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Isolation { landlock: landlock as u8 })
    }

    /// Starts a process and ends it again; what holds it.
    ///
    /// # Errors
    /// A [`Refusal::Helper`] that says why there is none, also where this process reads by itself.
    pub fn probe(&self) -> Result<Isolation, Refusal> {
        let none = || Refusal::Helper("is this very process".to_owned());
        let program = self.program.as_ref().ok_or_else(none)?;
        let process = Process::start(program);
        process.map(|it| it.isolation).map_err(|error| Refusal::Helper(error.to_string()))
    }

    /// Reads an archive and hands each file to `take`, in the archive's order. A file that `take` got may still turn out to be
    /// damaged: nothing counts before this returns. Where `contents` leaves a file's content out, it cannot be read.
    ///
    /// # Errors
    /// A [`Refusal`]; [`Refusal::Helper`] where a process failed, after which the same call may well succeed.
    pub fn read<E: From<Refusal>>(
        &self,
        source: Source<'_>,
        kind: Kind<'_>,
        contents: Contents<'_>,
        take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let Some(program) = &self.program else {
            return archive::read(source, kind, contents, take);
        };
        let size = source.size().map_err(Refusal::from_read)?;
        let archive = descriptor(source).map_err(Refusal::from_read)?;
        let request = |number| Request::new(number, size, kind, contents);
        let mut turn = self.ask(program, archive.as_fd(), &request)?;
        let read = Reading { turn: &mut turn, packed_bytes: size, kind, contents }.read(take);
        turn.is_sound = read.is_ok();
        read
    }

    /// A process that has begun to answer. One that died while it had nothing to do is replaced.
    fn ask(
        &self,
        program: &Program,
        archive: BorrowedFd<'_>,
        request: &dyn Fn(u64) -> Request,
    ) -> Result<Turn<'_>, Refusal> {
        let mut turn = self.turn();
        if let Some(process) = &mut turn.process {
            if process.ask(archive, request).is_ok() {
                return Ok(turn);
            }
            self.failed();
        }
        let started = Process::start(program).map_err(|error| {
            self.failed();
            Refusal::Helper(error.to_string())
        })?;
        self.measures.started.fetch_add(1, Ordering::Relaxed);
        let landlock = u64::from(started.isolation.landlock) + 1;
        self.measures.landlock.store(landlock, Ordering::Relaxed);
        let process = turn.process.insert(started);
        match process.ask(archive, request) {
            Ok(()) => Ok(turn),
            Err(broken) => Err(turn.broken(broken)),
        }
    }

    /// Waits until there may be one more.
    fn turn(&self) -> Turn<'_> {
        let mut pool = self.pool();
        while pool.busy >= limits::UNPACK_HELPERS_MAX {
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.busy += 1;
        Turn { unpacker: self, process: pool.idle.pop(), is_sound: false }
    }

    fn failed(&self) {
        self.measures.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One archive's use of a process.
struct Turn<'u> {
    unpacker: &'u Unpacker,
    process: Option<Process>,
    /// Whether it may have another archive.
    is_sound: bool,
}

impl Turn<'_> {
    fn answers(&mut self) -> Result<&mut Answers, Refusal> {
        let gone = || Refusal::Helper(Broken::Ended.to_string());
        self.process.as_mut().map(|process| &mut process.answers).ok_or_else(gone)
    }

    /// What a failure of the process means for the archive.
    fn broken(&mut self, broken: Broken) -> Refusal {
        self.unpacker.failed();
        let process = self.process.take();
        let described = process.map(|process| process.answers.describe(broken));
        Refusal::Helper(described.unwrap_or_else(|| broken.to_string()))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut pool = self.unpacker.pool();
        pool.busy -= 1;
        if self.is_sound && pool.sessions > 0 {
            pool.idle.extend(self.process.take());
        }
        drop(pool);
        self.unpacker.returned.notify_one();
    }
}

/// One answer, checked as it comes.
struct Reading<'t, 'u, 'a> {
    turn: &'t mut Turn<'u>,
    packed_bytes: u64,
    kind: Kind<'a>,
    contents: Contents<'a>,
}

impl Reading<'_, '_, '_> {
    fn read<E: From<Refusal>>(
        mut self,
        mut take: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let mut seen = Seen::default();
        loop {
            match self.frame()? {
                Frame::File { executable, size, path } => {
                    let entry = self.check(&mut seen, executable, size, path)?;
                    let mut content = Content {
                        turn: &mut *self.turn,
                        remaining: if self.contents == Contents::Names { 0 } else { size },
                        piece: 0,
                        is_there: self.contents != Contents::Names,
                    };
                    take(entry, &mut content)?;
                    content.skip()?;
                }
                Frame::Refused(refusal) => return Err(refusal.into()),
                Frame::Done { warnings } => {
                    let identity = match self.kind {
                        Kind::Wheel => {
                            Some(wheel::identify(seen.marks.iter().map(String::as_str))?)
                        }
                        _ => None,
                    };
                    return Ok(Outcome { warnings, identity });
                }
                _ => return Err(self.turn.broken(Broken::Nonsense("answers out of order")).into()),
            }
        }
    }

    fn frame(&mut self) -> Result<Frame, Refusal> {
        match self.turn.answers()?.next() {
            Ok(frame) => Ok(frame),
            Err(broken) => Err(self.turn.broken(broken)),
        }
    }

    /// A file that an honest process may name here.
    fn check(
        &mut self,
        seen: &mut Seen,
        executable: bool,
        size: u64,
        path: String,
    ) -> Result<Entry, Refusal> {
        if let Contents::Only(wanted) = self.contents
            && (path != wanted || seen.unpacked_bytes.is_some())
        {
            return Err(self.turn.broken(Broken::Nonsense("names a file that nobody asked for")));
        }
        names::check(&path)?;
        seen.names.count()?;
        let repeated = seen.names.add_file(&path)?;
        if repeated && matches!(self.kind, Kind::Crate { .. } | Kind::Wheel | Kind::Zip) {
            return Err(Refusal::Repeated(path));
        }
        if size > limits::ARCHIVE_FILE_BYTES_MAX {
            return Err(Refusal::TooMuch {
                what: "bytes in one file",
                max: limits::ARCHIVE_FILE_BYTES_MAX,
            });
        }
        let total = seen.unpacked_bytes.unwrap_or_default().saturating_add(size);
        seen.unpacked_bytes = Some(total);
        check_output(self.packed_bytes, total)?;
        if self.kind == Kind::Wheel
            && let Some((top, _)) = path.split_once('/')
            && (top.ends_with(".dist-info") || top.ends_with(".data"))
            && !seen.marks.contains(&format!("{top}/"))
        {
            seen.marks.insert(format!("{top}/"));
        }
        Ok(Entry { path, size, executable, repeated })
    }
}

/// What came so far.
#[derive(Default)]
struct Seen {
    names: Names,
    unpacked_bytes: Option<u64>,
    /// The directories that say what a wheel is.
    marks: BTreeSet<String>,
}

/// The content of one file, as it comes.
struct Content<'t, 'u> {
    turn: &'t mut Turn<'u>,
    remaining: u64,
    piece: u64,
    is_there: bool,
}

impl Content<'_, '_> {
    fn some(&mut self, room: &mut [u8]) -> Result<usize, Refusal> {
        if self.remaining == 0 || room.is_empty() {
            return Ok(0);
        }
        if self.piece == 0 {
            self.next_piece()?;
        }
        let most = usize::try_from(self.piece.min(self.remaining)).unwrap_or(usize::MAX);
        let most = most.min(room.len());
        let count = match self.turn.answers()?.some(&mut room[..most]) {
            Ok(count) => count,
            Err(broken) => return Err(self.turn.broken(broken)),
        };
        self.piece -= count as u64;
        self.remaining -= count as u64;
        Ok(count)
    }

    fn next_piece(&mut self) -> Result<(), Refusal> {
        let broken = match self.turn.answers()?.piece() {
            Ok(0) => match self.turn.answers()?.next() {
                Ok(Frame::Refused(refusal)) => return Err(refusal),
                Ok(_) => Broken::Nonsense("answers out of order"),
                Err(broken) => broken,
            },
            Ok(length) if length > self.remaining => {
                Broken::Nonsense("says more of a file than its size")
            }
            Ok(length) => {
                self.piece = length;
                return Ok(());
            }
            Err(broken) => broken,
        };
        Err(self.turn.broken(broken))
    }

    /// Reads what nobody took.
    fn skip(mut self) -> Result<(), Refusal> {
        let mut room = [0; 16 << 10];
        while self.some(&mut room)? > 0 {}
        Ok(())
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if !self.is_there {
            return Err(io::Error::other("the content was not asked for"));
        }
        self.some(room).map_err(io::Error::other)
    }
}

/// What is handed over: nothing through which an archive could be changed.
fn descriptor(source: Source<'_>) -> io::Result<OwnedFd> {
    match source {
        Source::File(file) | Source::Sized(file, _) => read_only(file),
        Source::Bytes(bytes) => {
            let mut copy = File::from(memfd_create("bolide-archive", MemfdFlags::CLOEXEC)?);
            copy.write_all(bytes)?;
            read_only(&copy)
        }
    }
}

#[cfg(feature = "attacks")]
impl Unpacker {
    /// Has a process try what it must not be able to; what it says came of it. Files that it names in answer come to `take`,
    /// as if it had read a `kind` of an archive of that many bytes.
    pub fn attempt(
        &self,
        what: &str,
        packed_bytes: u64,
        (kind, contents): (Kind<'_>, Contents<'_>),
        take: impl FnMut(Entry, &mut dyn Read) -> Result<(), Refusal>,
    ) -> Result<String, Refusal> {
        let program = self.program.as_ref().expect("a program to attack");
        let nothing = memfd_create("nothing", MemfdFlags::CLOEXEC).expect("memory");
        let request = |number| Request::attempt(number, what);
        let mut turn = self.ask(program, nothing.as_fd(), &request)?;
        let read = Reading { turn: &mut turn, packed_bytes, kind, contents }.read(take);
        turn.is_sound = read.is_ok();
        Ok(read?.warnings.join("\n"))
    }

    /// The processes that have nothing to do.
    pub fn idle(&self) -> Vec<rustix::process::Pid> {
        self.pool().idle.iter().map(|process| process.answers.pid()).collect()
    }
}
