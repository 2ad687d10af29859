//! One process that reads archives, seen from outside: how it is started, asked, limited, and ended. What it answers is
//! [`answers`]'s; who gets which process is [`Unpacker`](super::Unpacker)'s.
//!
//! A thread of its own starts it and stays until it has ended: the kernel's word "end with your parent" means the thread. That
//! thread collects it only when its owner has let go, so its number is nobody else's as long as somebody may use it.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags,
    SocketType, sendmsg, shutdown, socketpair,
};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Resource, Rlimit};

use super::helper::COMMAND;
use super::isolation::Isolation;
use super::protocol::Request;
use crate::limits;

mod answers;

pub(super) use answers::{Answers, Broken, Frame};

/// Which program reads archives, and within which bounds.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    bounds: Bounds,
    more: Option<&'static str>,
}

/// How long it may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    silence: Duration,
    processor_seconds: u64,
}

impl Program {
    /// The program that runs now, even if its file was replaced meanwhile.
    pub fn own() -> Self {
        Self::at(Path::new("/proc/self/exe"))
    }

    /// A program whose `main` begins as [`helper`](super::helper) says.
    pub fn at(path: &Path) -> Self {
        let bounds = Bounds {
            silence: limits::UNPACK_SILENCE_MAX,
            processor_seconds: limits::UNPACK_PROCESSOR_SECONDS,
        };
        Self { path: path.to_owned(), bounds, more: None }
    }

    /// The same with other bounds, for tests that do not wait as long.
    #[cfg(feature = "attacks")]
    pub fn bounded(mut self, silence: Duration, processor_seconds: u64) -> Self {
        self.bounds = Bounds { silence, processor_seconds };
        self
    }

    /// The same without the filter of system calls.
    #[cfg(feature = "attacks")]
    pub fn under_landlock_alone(mut self) -> Self {
        self.more = Some("landlock");
        self
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("cannot be started: {0}")]
    System(#[from] rustix::io::Errno),
    #[error("cannot be started: {0}")]
    Spawn(#[from] std::io::Error),
    #[error("{0}")]
    Unable(String),
    #[error("was started and {0}")]
    Broken(#[from] Broken),
}

/// A running process. It ends with this value.
pub(super) struct Process {
    socket: OwnedFd,
    pub(super) answers: Answers,
    pub(super) isolation: Isolation,
    next: u64,
    bounds: Bounds,
    /// Hung up to let the keeper end and collect the process.
    _release: Sender<()>,
}

impl Process {
    pub(super) fn start(program: &Program) -> Result<Self, StartError> {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // It has nothing to say here, and what nobody reads must not pile up.
        shutdown(&socket, Shutdown::Read)?;
        let (pipe, answers) = pipe_with(PipeFlags::CLOEXEC)?;
        // Without it more often somebody waits, and nothing else happens.
        let _ = fcntl_setpipe_size(&pipe, limits::UNPACK_PIPE_BYTES);
        let words = File::from(memfd_create("bolide-unpack", MemfdFlags::CLOEXEC)?);
        let mut command = Command::new(&program.path);
        command
            .arg(COMMAND)
            .arg(std::process::id().to_string())
            .args(program.more)
            .stdin(theirs)
            .stdout(answers)
            .stderr(Stdio::from(words.try_clone()?))
            .current_dir("/")
            // What is in it may be secret, and nothing is needed but the way to the program's libraries.
            .env_clear()
            .envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
        let (pid, release) = keep(command)?;
        let mut answers = Answers::new(pipe, pid, words, program.bounds.silence);
        let landlock = match answers.next()? {
            Frame::Ready { landlock } => landlock,
            Frame::Unable { why } => return Err(StartError::Unable(why)),
            _ => return Err(Broken::Nonsense("does not say that it is ready").into()),
        };
        Ok(Self {
            socket,
            answers,
            isolation: Isolation { landlock },
            next: 1,
            bounds: program.bounds,
            _release: release,
        })
    }

    /// Hands an archive over. Whoever asked must read the answer to its end before asking again.
    pub(super) fn ask(
        &mut self,
        archive: BorrowedFd<'_>,
        request: impl FnOnce(u64) -> Request,
    ) -> Result<(), Broken> {
        let request = request(self.next);
        self.limit_processor_time(request.size)?;
        let bytes = request.encode().ok_or(Broken::Nonsense("is asked about a path too long"))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let archives = [archive];
        // There is room for one.
        beside.push(SendAncillaryMessage::ScmRights(&archives));
        let flags = SendFlags::NOSIGNAL;
        rustix::io::retry_on_intr(|| {
            sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut beside, flags)
        })
        .map_err(|_| Broken::Ended)?;
        self.next += 1;
        match self.answers.next()? {
            Frame::Begin { number } if number == request.number => Ok(()),
            _ => Err(Broken::Nonsense("answers something else than what was asked")),
        }
    }

    /// Lets it use as much more as the archive may take. The kernel ends it beyond that.
    fn limit_processor_time(&mut self, bytes: u64) -> Result<(), Broken> {
        let more = limits::UNPACK_PROCESSOR_SECONDS_PER_MIB * (bytes >> 20);
        let ticks = used_ticks(self.answers.pid()).ok_or(Broken::Ended)?;
        self.answers.used_before(ticks);
        let used = ticks.div_ceil(rustix::param::clock_ticks_per_second().max(1));
        let allowed = used.saturating_add(self.bounds.processor_seconds).saturating_add(more);
        let maximum = rustix::process::getrlimit(Resource::Cpu).maximum;
        let current = Some(maximum.map_or(allowed, |maximum| allowed.min(maximum)));
        let limit = Rlimit { current, maximum };
        rustix::process::prlimit(Some(self.answers.pid()), Resource::Cpu, limit)
            .map(drop)
            .map_err(|_| Broken::Ended)
    }
}

/// Starts a process on a thread that stays with it. The process ends when the sender goes.
fn keep(mut command: Command) -> std::io::Result<(Pid, Sender<()>)> {
    let (started, start) = channel();
    let (release, released) = channel::<()>();
    let keeper = std::thread::Builder::new().name("unpack-keeper".to_owned());
    keeper.spawn(move || {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                // Who waits for it is there until it came.
                let _ = started.send(Err(error));
                return;
            }
        };
        // Its ends of socket and pipe are the process's alone from now on, so that their hanging up means its end.
        drop(command);
        let _ = started.send(Ok(child.id()));
        // Ends by hanging up.
        let _ = released.recv();
        let _ = child.kill();
        let _ = child.wait();
    })?;
    let number = start.recv().map_err(std::io::Error::other)??;
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    pid.map(|pid| (pid, release)).ok_or_else(|| std::io::Error::other("it has no number"))
}

/// What a process has used so far of processors, in the kernel's ticks.
fn used_ticks(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", Pid::as_raw(Some(pid)))).ok()?;
    ticks(&stat)
}

/// The 14th and 15th field; the second may contain anything and ends with the last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// The same file for reading alone: what is handed over must not be a way to write.
pub(super) fn read_only(file: &File) -> std::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, fcntl_getfl, open};
    use std::os::fd::AsRawFd as _;
    if fcntl_getfl(file)? & OFlags::RWMODE == OFlags::RDONLY {
        return file.as_fd().try_clone_to_owned();
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn the_time_used_is_found_behind_any_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 93 0 0 0 12 30 0 0 20 0 1 0 5 1 1";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) R 1"), None);
        assert_eq!(ticks(""), None);
    }
}
