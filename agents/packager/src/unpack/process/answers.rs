//! What a process that reads archives says, taken frame by frame. It may say anything: every length is bounded before it is
//! used, and what the frames mean together is checked by [`Unpacker`](crate::unpack::Unpacker).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::used_ticks;
use crate::limits;
use crate::unpack::protocol::{self, BEGIN, DONE, FILE, FLAG_EXECUTABLE, READY, REFUSED, UNABLE};
use crate::unpack::{Refusal, printable};

/// Why nothing more is taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("ended")]
    Ended,
    #[error("neither said nor computed anything for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Nonsense(&'static str),
}

/// One thing that it says.
#[derive(Debug)]
pub(crate) enum Frame {
    Ready { landlock: u8 },
    Unable { why: String },
    Begin { number: u64 },
    File { executable: bool, size: u64, path: String },
    Refused(Refusal),
    Done { warnings: Vec<String> },
}

/// The stream of answers of one process.
pub(crate) struct Answers {
    pipe: OwnedFd,
    pid: Pid,
    /// What it wrote to its standard error.
    words: File,
    idleness: Idleness,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Answers {
    pub(super) fn new(pipe: OwnedFd, pid: Pid, words: File, silence: Duration) -> Self {
        let buffer = vec![0; limits::UNPACK_BUFFER_BYTES].into_boxed_slice();
        let idleness = Idleness { pid, silence, used_ticks: 0 };
        Self { pipe, pid, words, idleness, buffer, start: 0, end: 0 }
    }

    /// What the process has used before it is asked.
    pub(super) fn used_before(&mut self, ticks: u64) {
        self.idleness.used_ticks = ticks;
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The next frame. After that of a file its content is due, where it was asked for.
    pub(crate) fn next(&mut self) -> Result<Frame, Broken> {
        let [tag] = self.array()?;
        Ok(match tag {
            READY => {
                let [landlock] = self.array()?;
                Frame::Ready { landlock }
            }
            UNABLE => Frame::Unable { why: self.shown_text()? },
            BEGIN => Frame::Begin { number: u64::from_le_bytes(self.array()?) },
            FILE => {
                let [flags] = self.array()?;
                let size = u64::from_le_bytes(self.array()?);
                let executable = flags & FLAG_EXECUTABLE != 0;
                Frame::File { executable, size, path: self.text()? }
            }
            REFUSED => {
                let [class] = self.array()?;
                let refusal = protocol::refusal(class, self.shown_text()?);
                Frame::Refused(refusal.ok_or(Broken::Nonsense("refuses without a reason"))?)
            }
            DONE => {
                let [count] = self.array()?;
                if usize::from(count) > limits::UNPACK_WARNINGS_MAX {
                    return Err(Broken::Nonsense("warns without end"));
                }
                let warnings: Result<_, _> = (0..count).map(|_| self.shown_text()).collect();
                Frame::Done { warnings: warnings? }
            }
            _ => return Err(Broken::Nonsense("says something that is no answer")),
        })
    }

    /// The length of the next piece of content.
    pub(crate) fn piece(&mut self) -> Result<u64, Broken> {
        Ok(u64::from(u32::from_le_bytes(self.array()?)))
    }

    /// Some bytes of content, at least one.
    pub(crate) fn some(&mut self, room: &mut [u8]) -> Result<usize, Broken> {
        if self.start == self.end && room.len() >= self.buffer.len() {
            return read(&self.pipe, room, &mut self.idleness);
        }
        if self.start == self.end {
            self.fill()?;
        }
        let count = room.len().min(self.end - self.start);
        room[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let mut bytes = [0; N];
        self.exactly(&mut bytes)?;
        Ok(bytes)
    }

    fn exactly(&mut self, mut room: &mut [u8]) -> Result<(), Broken> {
        while !room.is_empty() {
            let count = self.some(room)?;
            room = &mut room[count..];
        }
        Ok(())
    }

    fn text(&mut self) -> Result<String, Broken> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length > limits::UNPACK_TEXT_BYTES_MAX {
            return Err(Broken::Nonsense("says more than anybody reads"));
        }
        let mut bytes = vec![0; length];
        self.exactly(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| Broken::Nonsense("says something that is no text"))
    }

    /// A text for people, without what could steer a terminal.
    fn shown_text(&mut self) -> Result<String, Broken> {
        let text = self.text()?;
        let is_plain = |character: char| !character.is_control();
        Ok(text.chars().map(|it| if is_plain(it) { it } else { '\u{fffd}' }).collect())
    }

    fn fill(&mut self) -> Result<(), Broken> {
        (self.start, self.end) = (0, 0);
        self.end = read(&self.pipe, &mut self.buffer, &mut self.idleness)?;
        Ok(())
    }

    /// The failure in full, with how the process ended and its last words. It is at its end after this.
    pub(crate) fn describe(&self, broken: Broken) -> String {
        // One that has ended already keeps the end that it had.
        let _ = kill_process(self.pid, Signal::KILL);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid), options).ok().flatten();
        let mut text = match (broken, status) {
            (Broken::Ended, Some(status)) => {
                match (status.terminating_signal(), status.exit_status()) {
                    (Some(signal), _) => format!("ended by {}", meaning(signal)),
                    (None, Some(code)) => format!("ended with the code {code}"),
                    (None, None) => broken.to_string(),
                }
            }
            _ => broken.to_string(),
        };
        let mut words = [0; 400];
        match self.words.read_at(&mut words, 0) {
            Ok(count) if count > 0 => {
                text += &format!(": {}", printable(words[..count].trim_ascii()));
            }
            _ => {}
        }
        text
    }
}

/// What a signal means that ends such a process.
fn meaning(signal: i32) -> String {
    let why = match signal {
        libc::SIGSYS => "a system call that no reader makes",
        libc::SIGXCPU => "the limit on its processor time",
        libc::SIGXFSZ => "the limit on what it may write",
        libc::SIGABRT => "itself, for want of memory or of sense",
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL => "an invalid instruction or address",
        libc::SIGKILL => "somebody else",
        _ => return format!("signal {signal}"),
    };
    format!("{why} (signal {signal})")
}

/// When a process counts as hung: it may be silent for long over one large file, but then it computes.
struct Idleness {
    pid: Pid,
    silence: Duration,
    used_ticks: u64,
}

/// Waits for bytes as long as there is a reason to.
fn read(pipe: &OwnedFd, room: &mut [u8], idleness: &mut Idleness) -> Result<usize, Broken> {
    let silence = idleness.silence;
    let limit = Timespec {
        tv_sec: i64::try_from(silence.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(silence.subsec_nanos()),
    };
    loop {
        // An interrupted wait begins anew; signals are no reason to give an archive up.
        let ready = rustix::io::retry_on_intr(|| {
            poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&limit))
        });
        match ready {
            // The kernel ends it when it has computed for too long.
            Ok(0) => match used_ticks(idleness.pid) {
                Some(used) if used > idleness.used_ticks => idleness.used_ticks = used,
                _ => return Err(Broken::Silent(silence)),
            },
            Ok(_) => break,
            Err(_) => return Err(Broken::Ended),
        }
    }
    match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut *room)) {
        Ok(0) | Err(_) => Err(Broken::Ended),
        Ok(count) => Ok(count),
    }
}
