//! What an agent is to the runtime that hosts it: tools that answer requests, and what it may ask of its host.
//!
//! An agent knows neither processes nor sockets: `runtime` calls [`Agent::call`] on a thread of its own for each
//! request, wherever the agent is hosted (child process, daemon in development mode, or the command line itself).
#![forbid(unsafe_code)]

mod cancellation;
mod crew;
mod station;
mod waiting;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub use self::cancellation::{Cancellation, Listening, Wake};
pub use self::crew::{Crew, Hands, Hired, Obstacle, Order, Threads, Undertaking, Wait, Work, once};
pub use self::station::{Busy, Figure, Station};
pub use self::waiting::{Waiter, waiting, with_waiter};
pub use ipc::manifest::{AgentManifest, OwnLimits};
use serde::{Deserialize, Serialize};

/// A program that answers tools.
pub trait Agent: Send + Sync {
    /// What it says of itself; its `tools` are the names that [`Agent::call`] understands.
    fn manifest(&self) -> AgentManifest;

    /// Called once before [`Agent::recover`] where the first request is known already, as in a command that works alone: begins, on
    /// threads of its own, what the answer will have to wait for (a registry), and returns at once. Nothing that an earlier life left
    /// is made whole yet, so it looks at nothing that may be half done, and changes nothing but what was learnt and cached. The answer tells what is wrong with the request, and a request that it
    /// would refuse by itself begins nothing.
    fn foresee(&self, _request: &Request, _conversation: &dyn Conversation) {}

    /// Called once before the first request: make whole what an earlier life left unfinished.
    fn recover(&self) -> Result<(), ToolError>;

    /// Answers one request. Runs on a thread of its own; may block. The payload is CBOR both ways.
    fn call(&self, request: Request, conversation: &dyn Conversation)
    -> Result<Vec<u8>, ToolError>;

    /// Answers one question at once, from memory, or gives `None`: then [`Agent::call`] is asked, on a thread of its own.
    ///
    /// Runs on the thread that serves everybody, so that no other one has to wake up. It must not block: no file, no network, no
    /// lock that somebody holds while doing such things, microseconds of work. Nobody is told of progress, and an answer for which
    /// there is no room at the moment is asked for again by `call`, so it must change nothing. Requests with a directory, long
    /// ones, and all of them while the agent drains, go to `call` right away.
    fn try_call(&self, _question: &Question<'_>) -> Option<Result<Vec<u8>, ToolError>> {
        None
    }

    /// Called on the thread of a call once its answer was sent and its place is free, where [`Conversation::has_afterwards`] says so: for what
    /// takes time and nobody has to wait for. The thread may answer another call next, so nothing of this one stays on it.
    fn answered(&self) {}

    /// Called once after [`Agent::recover`] where the agent stays (a daemon hosts it): begins, on threads of its own, what it does
    /// without being asked, and returns at once. Never called for a command that works alone.
    fn settle(self: Arc<Self>, _station: Arc<dyn Station>) {}

    /// What it measured since it was made; asked when tasks begin and end and after [`Station::changed`]. A name and label always
    /// mean the same thing; the runtime shows those that it knows.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}

/// One request as it lies on the bus, for [`Agent::try_call`].
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The tool's name, as the caller wrote it.
    pub tool: &'a str,
    /// Its arguments in CBOR.
    pub payload: &'a [u8],
    /// Who asks, as the kernel and the router say.
    pub caller: &'a Caller,
}

/// One request to one tool.
pub struct Request {
    /// The tool's name, one of the manifest's.
    pub tool: String,
    /// Its arguments in CBOR.
    pub payload: Vec<u8>,
    /// The directory that the request is about, opened by the caller, where it names one.
    pub directory: Option<OwnedFd>,
    /// Who asks, as the kernel and the router say.
    pub caller: Caller,
    /// How urgent the caller says that it is, 1 (least) to 10 (most).
    pub priority: u8,
    /// After this moment nobody wants the answer.
    pub deadline: Option<SystemTime>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The agent's name on the bus, or `cli` where there is no bus.
    pub name: String,
    /// Its user.
    pub uid: u32,
    /// Its process.
    pub pid: u32,
}

/// What an agent may do while it answers.
pub trait Conversation: Send + Sync {
    /// Sends an intermediate answer (CBOR). Lost if the caller is gone; never blocks for long.
    fn progress(&self, payload: &[u8]);
    /// Says when the caller is gone, has cancelled, or would hear too late; asked between steps that can still be
    /// abandoned, and while something blocks. Work stops within 100 ms of it unless it is changing what others see.
    fn cancellation(&self) -> &Cancellation;
    /// Publishes an event on the bus, where there is one; it goes out with the next intermediate answer, or the last one, at the latest.
    fn publish(&self, subject: &str, payload: &[u8]);
    /// Says when the host takes nothing new any more. What has begun is finished then; what waits and has begun nothing ends, and its
    /// caller is told so.
    fn stopping(&self) -> &Cancellation {
        Cancellation::NEVER
    }
    /// Whether [`Agent::answered`] follows. Otherwise the thread ends, or the process does, when the call returns.
    fn has_afterwards(&self) -> bool {
        false
    }
    /// An undertaking has to wait before it begins. [`Conversation::goes_on`] follows, or the request ends.
    fn waits(&self, _wait: Wait) {}
    /// It has leave and waits no more. Where others go on in the same moment this takes a while, and what let it begin may not hold
    /// afterwards: then it answers false, and the caller gives its leave back and asks for it again, until it is true. The caller looks each
    /// time whether it is still wanted. It was first asked for at `asked_at`: who asked first, goes first.
    fn goes_on(&self, _asked_at: Instant) -> bool {
        true
    }
}

/// What an agent may ask of its host. The runtime fills it in from the scheduler.
pub trait Host: Send + Sync {
    /// Calls `piece` once for each number below `count` where such work belongs, as many at once as are admitted, and returns when all
    /// have ended. What is not wanted any more is not begun. From within a piece, it runs in place.
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync));
    /// Waits until it may begin; nothing where it is not wanted any more. Dropping the permit gives the place back. Where it has to
    /// wait, `waits` is told so once.
    fn begin(
        &self,
        order: &Order,
        undertaking: Undertaking,
        waits: &dyn Fn(Wait),
    ) -> Option<Permit>;
    /// Holds the calling thread, which belongs to the agent, to the cores of such work, and moves it with the workers of the host, until
    /// the place is dropped. Pieces that this thread asks to be run on those cores may then be run by itself.
    fn settle(&self, work: Work) -> Place;
    /// Does something that nobody waits for, when there is time for it; a process that ends may leave it undone. At once and on this
    /// thread where there is no later: in a process that ends with its work, and where too much waits already.
    fn later(&self, job: Job);
    /// The time of day.
    fn now(&self) -> SystemTime;
}

/// The right to go on with an undertaking.
pub struct Permit {
    _held: Box<dyn Send>,
}

impl Permit {
    /// A permit that drops `held` when it is given back.
    pub fn new(held: impl Send + 'static) -> Self {
        Self { _held: Box::new(held) }
    }
}

/// Something that is done once.
pub type Job = Box<dyn FnOnce() + Send>;

/// That a thread is held to certain cores. What it does when it is dropped is the host's matter.
pub struct Place {
    _held: Box<dyn std::any::Any>,
}

impl Place {
    /// One that drops `held` when it is given up.
    pub fn new(held: impl std::any::Any) -> Self {
        Self { _held: Box::new(held) }
    }
}

/// How a tool refuses or fails, on the wire as CBOR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// The exit code that a command line would end with (CONTRACT.md).
    pub exit_code: u8,
    /// A stable name in kebab-case.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether the same call may succeed later.
    pub retry: bool,
}
