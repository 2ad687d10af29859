//! The process that reads archives, from inside: locked in first, then one request after the other until nobody asks any more.
//! Not how it is started and watched: that is [`Unpacker`](super::Unpacker).
//!
//! It is the same program with a word of its own as first argument. Its standard input is the socket of the requests, its standard
//! output the pipe of the answers; whoever started it is named by number, so that it ends with that process and never
//! outlives it.

use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::archive::{self, Contents};
use super::isolation::{Layers, lock_in};
use super::protocol::{Gone, Request, Unsent, Writer};
use super::{Refusal, Source};
use crate::limits;

#[cfg(feature = "attacks")]
mod attempts;

/// The first argument of such a process.
pub const COMMAND: &str = "unpack-helper";

/// Whether this process was started to read archives.
pub fn is_asked_for() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == COMMAND)
}

/// Serves until nobody asks any more. For the first line of `main`: this process must own no descriptor and have one thread.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) | Err(Ended::Gone(Gone)) => ExitCode::SUCCESS,
        Err(Ended::Unable(why)) => {
            // Where nobody reads it the process just ends.
            let _ = Writer::new(send).unable(&why);
            ExitCode::FAILURE
        }
    }
}

/// Why it ends early.
enum Ended {
    Gone(Gone),
    Unable(String),
}

impl From<Gone> for Ended {
    fn from(gone: Gone) -> Self {
        Ended::Gone(gone)
    }
}

fn serve() -> Result<(), Ended> {
    let unable =
        |what: &str, error: &dyn std::fmt::Display| Ended::Unable(format!("{what}: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| unable("cannot be ended with its parent", &error))?;
    // It may have died before the line above.
    let parent = std::env::args().nth(2).and_then(|number| number.parse().ok());
    if parent != Some(rustix::process::Pid::as_raw(getppid())) {
        return Ok(());
    }
    ipc::confined::close_inherited()
        .map_err(|error| unable("cannot close what it inherited", &error))?;
    let isolation = lock_in(layers()).map_err(|error| Ended::Unable(error.to_string()))?;
    let mut answers = Writer::new(send);
    answers.ready(isolation.landlock)?;
    while let Some((request, archive)) = receive() {
        answers.begin(request.number)?;
        #[cfg(feature = "attacks")]
        if let Some(attempt) = request.as_attempt() {
            answers.flush()?;
            let came = attempts::make(attempt);
            answers.done(&[came])?;
            continue;
        }
        let outcome = read(&request, &archive, &mut answers);
        // Before who asked can see the end: an idle process has nothing open.
        drop(archive);
        match outcome {
            Ok(warnings) => answers.done(&warnings)?,
            Err(Unsent::Refused(refusal)) => answers.refused(&refusal)?,
            Err(Unsent::Gone) => return Err(Gone.into()),
        }
    }
    Ok(())
}

fn read(
    request: &Request,
    archive: &File,
    answers: &mut Writer<impl FnMut(&[u8]) -> Result<(), Gone>>,
) -> Result<Vec<String>, Unsent> {
    let unknown = || Refusal::Helper("does not know the request".to_owned());
    let kind = request.kind().ok_or_else(unknown)?;
    let contents = request.contents().ok_or_else(unknown)?;
    let source = Source::Sized(archive, request.size);
    let outcome = archive::read(source, kind, contents, |entry, content| {
        let content = (contents != Contents::Names).then_some(content);
        answers.file(&entry, content)
    })?;
    Ok(outcome.warnings)
}

/// The next request, or `None` at the end.
fn receive() -> Option<(Request, File)> {
    let mut bytes = [0; limits::UNPACK_REQUEST_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let socket = std::io::stdin();
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)
    });
    let received = received.ok()?;
    let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
    if received.bytes == 0 || received.flags.intersects(cut) {
        return None;
    }
    let archive: OwnedFd = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })?;
    Some((Request::decode(&bytes[..received.bytes])?, archive.into()))
}

/// Sends all of it.
fn send(mut bytes: &[u8]) -> Result<(), Gone> {
    while !bytes.is_empty() {
        let pipe = std::io::stdout();
        let count = rustix::io::retry_on_intr(|| rustix::io::write(&pipe, bytes));
        bytes = &bytes[count.map_err(|_| Gone)?..];
    }
    Ok(())
}

#[cfg(not(feature = "attacks"))]
fn layers() -> Layers {
    Layers::All
}

/// A test may leave the filter out.
#[cfg(feature = "attacks")]
fn layers() -> Layers {
    match std::env::args().nth(3).as_deref() {
        Some("landlock") => Layers::Landlock,
        _ => Layers::All,
    }
}
