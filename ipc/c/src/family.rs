//! What a client and the handles that came from it share: the connection, and the waiting for everything at once.
//!
//! # Who may touch what
//! 1. Each handle has a state behind a lock, the family has one more. Nobody waits for a lock: who finds it taken is
//!    told `BOLIDE_BUSY`.
//! 2. A call takes the lock of its handle first and that of the family, where it speaks with the router or sleeps, second.
//! 3. Sending and polling take the handle's lock only.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc::class::ReceivingHalf;
use ipc::client::{Client, ClientError};
use ipc::wait::{Spin, adaptive_spin};

use crate::agents::AgentTexts;
use crate::codes::BOLIDE_ROUTER_GONE;
use crate::events::Events;
use crate::fault::{Fault, lock};
use crate::limits::{POLLS_PER_LOOK, ROUTER_LOOK_MS};
use crate::shapes::Agent;

/// Shared by a client and its links, publishers and subscribers.
pub(crate) type Family = Arc<Mutex<Core>>;

/// The connection, while the client is open.
#[derive(Debug, Default)]
pub(crate) struct Core {
    client: Option<Client>,
    pub(crate) events: Events,
    pub(crate) agents: AgentList,
}

/// The agents that were listed last, as C sees them.
#[derive(Debug, Default)]
pub(crate) struct AgentList {
    texts: Vec<AgentTexts>,
    agents: Vec<Agent>,
}

#[allow(unsafe_code, reason = "says that what points into itself may move between threads")]
// SAFETY: the structures point into the texts beside them.
unsafe impl Send for AgentList {}

impl AgentList {
    pub(crate) fn show(&mut self, texts: Vec<AgentTexts>) -> &[Agent] {
        self.agents = texts.iter().map(|texts| *texts.agent()).collect();
        self.texts = texts;
        &self.agents
    }
}

impl Core {
    pub(crate) fn connected(&mut self, client: Client) {
        self.client = Some(client);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// The connection, which is closed with the client.
    pub(crate) fn client(&mut self) -> Result<&mut Client, Fault> {
        self.client.as_mut().ok_or(Fault::CLOSED)
    }

    /// Takes leave. A router that is gone needs none.
    pub(crate) fn leave(&mut self) {
        if let Some(client) = self.client.take() {
            let _ = client.bye();
        }
    }

    /// Takes in everything that the router said; never waits.
    pub(crate) fn sweep(&mut self) -> Result<(), Fault> {
        let client = self.client.as_mut().ok_or(Fault::CLOSED)?;
        while let Some(event) = client.next_event(Instant::now())? {
            if let Some(lane) = self.events.keep(event) {
                client
                    .decline(lane, "too many links are offered to a program that does not ask")?;
            }
        }
        Ok(())
    }

    /// Sleeps until one of the lanes or the router has news, or until the deadline; takes in what the router says.
    pub(crate) fn sleep(
        &mut self,
        lanes: &mut [&mut dyn ReceivingHalf],
        deadline: Option<Instant>,
    ) -> Result<(), Fault> {
        self.client()?.wait(lanes, deadline)?;
        self.sweep()
    }
}

/// Something that reads a lane and can sleep on it.
pub(crate) trait Reads {
    /// What it gives.
    type Found;
    /// Looks, and never waits.
    fn look(&mut self) -> Result<Option<Self::Found>, Fault>;
    /// What to sleep on.
    fn receiver(&mut self) -> &mut dyn ReceivingHalf;
    /// How to wait.
    fn spin(&self) -> Spin;
}

/// Looks until there is something, or until the deadline. A router that goes away ends the wait, because nobody could
/// tell any more whether the peer still lives; what is in the lane by then counts more.
pub(crate) fn receive<R: Reads>(
    reader: &mut R,
    family: &Family,
    timeout: Option<Instant>,
    never_waits: bool,
) -> Result<R::Found, Fault> {
    if let Some(found) = reader.look()? {
        return Ok(found);
    }
    if never_waits {
        return Err(Fault::TIMEOUT);
    }
    loop {
        let spin = reader.spin();
        let now = Instant::now();
        let spin_until = match spin {
            Spin::None => now,
            Spin::Adaptive => now + adaptive_spin(),
            Spin::Forever => now + Duration::from_millis(ROUTER_LOOK_MS),
        };
        let until = timeout.map_or(spin_until, |timeout| timeout.min(spin_until));
        if let Some(found) = poll_until(reader, until)? {
            return Ok(found);
        }
        if timeout.is_some_and(|timeout| Instant::now() >= timeout) {
            return Err(Fault::TIMEOUT);
        }
        let mut core = lock(family)?;
        let slept = match spin {
            Spin::Forever => core.sweep(),
            _ => core.sleep(&mut [reader.receiver()], timeout),
        };
        drop(core);
        let found = reader.look()?;
        match (found, slept) {
            (Some(found), _) => return Ok(found),
            (None, Err(fault)) if fault.code == BOLIDE_ROUTER_GONE => {
                // Something that was not asked for may stand before what is.
                if !reader.receiver().has_message() {
                    return Err(fault);
                }
            }
            (None, Err(fault)) => return Err(fault),
            (None, Ok(())) => {}
        }
    }
}

fn poll_until<R: Reads>(reader: &mut R, until: Instant) -> Result<Option<R::Found>, Fault> {
    while Instant::now() < until {
        for _ in 0..POLLS_PER_LOOK {
            if let Some(found) = reader.look()? {
                return Ok(Some(found));
            }
            std::hint::spin_loop();
        }
    }
    Ok(None)
}

/// Asks the router for something, after what it said before was taken in: the client keeps a bounded number of events.
pub(crate) fn ask<T>(
    core: &mut Core,
    ask: impl FnOnce(&mut Client) -> Result<T, ClientError>,
) -> Result<T, Fault> {
    core.sweep()?;
    Ok(ask(core.client()?)?)
}
