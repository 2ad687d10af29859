//! Who answers a command about packages: the Packager behind the bus where a daemon runs, the same Packager in this process
//! where none does.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agents_contract::{Agent, Caller, Cancellation, Conversation, Request, ToolError};
use ipc::client::{Client, ClientError, Kept};
use ipc::lane::LaneOptions;
use ipc::link::{CallError, Link, Outcome};
use ipc::manifest::AgentManifest;
use ipc::socket::ConnectError;
use rustix::fs::{Mode, OFlags};

use super::progress::Line;
use crate::config::Settings;
use crate::host;
use crate::paths::SOCKET_NAME;

/// Longest time that one command waits for its answer; the largest installations take minutes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3600);
/// Longest time to wait for a hosted Packager that is just being started.
const START_TIME_MAX: Duration = Duration::from_secs(10);
/// First pause between two tries in that time; each is twice as long as the one before.
const START_PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two tries.
const START_PAUSE_MAX: Duration = Duration::from_millis(500);

/// What a host says whose request names a directory that it has not; nothing was begun.
const NO_GRANT: &str = "no-grant";

/// Slots of the lane that takes requests: there is one at a time, of a few pieces.
const SLOTS: usize = 64;
/// Bytes of its region: a request is some kilobytes, most of it the caller's variables.
const REGION_BYTES: usize = 32 * 1024;

/// A way to the Packager, for one directory.
pub(crate) struct Backend {
    way: Way,
    /// The daemon keeps it for as long as this is connected.
    directory: Kept<OwnedFd>,
}

enum Way {
    Daemon(Box<Bus>),
    Here(Arc<dyn Agent>),
}

/// A connection to the daemon and a link to its Packager.
struct Bus {
    client: Client,
    link: Link,
}

impl Backend {
    /// Opens a way: over the bus if a daemon runs and `standalone` does not forbid it. Where it is this process that works, and a tool
    /// with its payload is `next`, that is begun as far as it can be before what an earlier life left is made whole.
    pub(crate) fn open(
        settings: &Settings,
        directory: &Path,
        standalone: bool,
        next: Option<(&str, &[u8])>,
    ) -> Result<Self, ToolError> {
        let opened = open_directory(directory)?;
        if !standalone && let Some(way) = connect(&settings.runtime_dir)? {
            return Ok(Self { way, directory: Kept::new(opened) });
        }
        let agent = host::standalone("packager", settings).map_err(|error| {
            match error.downcast::<agents_packager::error::Error>() {
                Ok(known) => known.into(),
                Err(error) => plain(&format!("the packager cannot start: {error:#}")),
            }
        })?;
        if let Some(next) = next {
            agent.foresee(&request(next, &opened)?, &Alone::new());
        }
        agent.recover()?;
        Ok(Self { way: Way::Here(agent), directory: Kept::new(opened) })
    }

    /// Opens a way to a running daemon, or says that there is none.
    pub(crate) fn connect(runtime_dir: &Path, directory: &Path) -> Result<Option<Self>, ToolError> {
        let directory = open_directory(directory)?;
        Ok(connect(runtime_dir)?.map(|way| Self { way, directory: Kept::new(directory) }))
    }

    /// The process of the Packager behind the bus.
    pub(crate) fn peer_pid(&self) -> Option<u32> {
        match &self.way {
            Way::Daemon(bus) => Some(bus.link.peer().pid),
            Way::Here(_) => None,
        }
    }

    /// For who has nothing left to do but to end: what connects this process to the daemon goes with it as a whole, sooner than part by
    /// part. What works in this process comes to its own end.
    pub(crate) fn leave(self) {
        if let Way::Daemon(bus) = self.way {
            std::mem::forget(bus);
        }
    }

    /// Asks one tool and waits for its answer.
    pub(crate) fn call(&mut self, tool: &str, payload: &[u8]) -> Result<Vec<u8>, ToolError> {
        match &mut self.way {
            Way::Daemon(bus) => {
                let line = Line::new();
                bus.call((tool, payload), &mut self.directory, |progress| line.show(progress))
            }
            Way::Here(agent) => {
                agent.call(request((tool, payload), self.directory.file())?, &Alone::new())
            }
        }
    }
}

/// What a command asks of the Packager in its own process.
fn request((tool, payload): (&str, &[u8]), directory: &OwnedFd) -> Result<Request, ToolError> {
    let directory = directory
        .try_clone()
        .map_err(|error| plain(&format!("cannot duplicate a descriptor: {error}")))?;
    let caller = Caller {
        name: "cli".to_owned(),
        uid: rustix::process::getuid().as_raw(),
        pid: std::process::id(),
    };
    Ok(Request {
        tool: tool.to_owned(),
        payload: payload.to_vec(),
        directory: Some(directory),
        caller,
        deadline: None,
        priority: 5,
    })
}

impl Bus {
    fn call(
        &mut self,
        asked: (&str, &[u8]),
        directory: &mut Kept<OwnedFd>,
        mut show: impl FnMut(&[u8]),
    ) -> Result<Vec<u8>, ToolError> {
        let Self { client, link } = self;
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        loop {
            match client.call_with_kept(link, asked, directory, deadline, &mut show) {
                Ok((Outcome::Done(answer), _)) => return Ok(answer),
                Ok((Outcome::Failed(error), is_sent)) => {
                    let error: ToolError = ciborium::from_reader(error.as_slice())
                        .unwrap_or_else(|_| plain("the packager failed and did not say why"));
                    // What it was to have kept it has not; the next try sends it along.
                    if is_sent || error.code != NO_GRANT {
                        return Err(error);
                    }
                }
                // Nothing of it was begun.
                Err(error @ CallError::Ungranted { .. }) => return Err(lost(&error)),
                Err(error) => return Err(unanswered(&error)),
            }
        }
    }
}

/// A conversation without a bus.
struct Alone {
    line: Mutex<Line>,
}

impl Alone {
    fn new() -> Self {
        Self { line: Mutex::new(Line::new()) }
    }
}

impl Conversation for Alone {
    fn progress(&self, payload: &[u8]) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).show(payload);
    }

    /// Ctrl-C ends the process, and the next start makes whole what it left.
    fn cancellation(&self) -> &Cancellation {
        Cancellation::NEVER
    }

    /// There is nobody who could listen.
    fn publish(&self, _subject: &str, _payload: &[u8]) {}
}

/// Connects to the daemon and to its Packager; `None` where no daemon runs.
fn connect(runtime_dir: &Path) -> Result<Option<Way>, ToolError> {
    let manifest = AgentManifest {
        name: format!("cli.{}", std::process::id()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        category: "cli".to_owned(),
        priority: 5,
        ..AgentManifest::default()
    };
    // Both sides wait until it is made. Requests are short; a longer one goes in pieces.
    let options = LaneOptions { slots: SLOTS, region_bytes: REGION_BYTES };
    let path = runtime_dir.join(SOCKET_NAME);
    let mut client = match Client::connect_for_link(&path, &manifest, &[], options) {
        Ok(client) => client,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(lost(&error)),
    };
    let began = Instant::now();
    let mut pause = START_PAUSE_MIN;
    loop {
        match client.open("packager") {
            Ok(link) => {
                return Ok(Some(Way::Daemon(Box::new(Bus { client, link }))));
            }
            Err(error) if is_starting(&error) && began.elapsed() < START_TIME_MAX => {
                std::thread::sleep(pause);
                pause = (2 * pause).min(START_PAUSE_MAX);
            }
            Err(error) => return Err(lost(&error)),
        }
    }
}

fn open_directory(directory: &Path) -> Result<OwnedFd, ToolError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).map_err(|errno| {
        agents_packager::error::Error::io("open the directory", directory, &errno.into()).into()
    })
}

fn lost(error: &dyn std::error::Error) -> ToolError {
    let mut message = format!("the daemon cannot be asked: {error}");
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    for cause in causes.map(ToString::to_string) {
        // Some say their cause themselves.
        if !message.ends_with(&cause) {
            message += &format!(": {cause}");
        }
    }
    super::packages::tool_error(
        1,
        "daemon-lost",
        &message,
        "run the command again, or with `--standalone` to do without the daemon",
    )
}

fn unanswered(error: &CallError) -> ToolError {
    let message = format!("{error}; the project is either as it was or as it was asked for");
    super::packages::tool_error(
        1,
        "no-answer",
        &message,
        "the next command makes whole what was left unfinished; `bolide history` tells which it is",
    )
}

fn plain(message: &str) -> ToolError {
    super::packages::tool_error(1, "failed", message, "`bolide doctor` tells more")
}

/// Whether nobody listens at the socket, so that there is no daemon.
fn is_nobody(error: &ClientError) -> bool {
    matches!(error, ClientError::Connect(ConnectError::Nobody { .. }))
}

/// Whether the hosted Packager is about to come up: just started, or started again.
fn is_starting(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { code, .. } => code == "starting" || code == "peer-gone",
        _ => false,
    }
}
