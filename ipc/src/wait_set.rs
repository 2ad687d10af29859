//! Wait sets: one thread that waits for many lanes, for timers, and for the router.
//!
//! [`WaitSet::wait`] tells which lanes have something, all of them each time, so that the caller decides the order and none is
//! starved; which timers are due; and whether the client has events. It spins first, as it was told to, and then
//! sleeps on one descriptor, in which the client's doorbell, its connection, the sockets of lanes that have one, and a timer come together.
//! A program with an event loop of its own puts that descriptor there: [`WaitSet::arm`], wait for it to become readable,
//! [`WaitSet::disarm`]. While nothing happens none of this costs any processor time.
//!
//! With [`Spin::Forever`] the set never sleeps. The lanes then need no wake-ups, if their cursors say so too
//! (`LaneOptions`); router, timers and ends of lanes are looked at once in many turns.
//!
//! ```no_run
//! use std::time::Duration;
//! use ipc::class::ReceivingHalf;
//! # use ipc::{client::Client, link::Link, wait::Spin, wait_set::WaitSet};
//!
//! # fn serve(client: &mut Client, links: &mut [Link]) -> Result<(), Box<dyn std::error::Error>> {
//! let mut set = WaitSet::new(Spin::Adaptive)?;
//! let second = set.every(Duration::from_secs(1))?;
//! loop {
//!     let lanes = links.iter_mut().map(|link| link.receiver().raw() as &mut dyn ReceivingHalf);
//!     let ready = set.wait(client, &mut lanes.collect::<Vec<_>>(), None)?;
//!     if ready.timers.contains(&second) {
//!         println!("a second has passed");
//!     }
//!     for index in ready.lanes.to_vec() {
//!         while let Some(incoming) = links[index].receiver().try_receive()? {
//!             println!("{incoming:?}");
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! Not here: how a lane is armed (`lane`, `class`), and the bell (`doorbell`).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::class::ReceivingHalf;
use crate::client::{Client, ClientError};
use crate::wait::{Next, Spin, Spinner};

mod timers;

use timers::Timers;
pub use timers::{TimerId, TooManyTimers};

/// Descriptors that are heard in one go; what is left over makes the next wait short.
const EVENTS_AT_ONCE: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct WaitSet {
    epoll: OwnedFd,
    alarm: OwnedFd,
    /// When the alarm rings; nothing while it is not set.
    alarm_at: Option<Instant>,
    timers: Timers,
    spin: Spin,
    lanes: Vec<usize>,
    due: Vec<TimerId>,
    router: bool,
}

/// What there is to do.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'set> {
    /// Lanes to look at, by their place in what was waited for: a message is there, or the lane has ended, or seldom nothing
    /// after all. One that has ended is told of until it is left out.
    pub lanes: &'set [usize],
    /// Timers that are due. One that repeats is told of once, however many of its times have passed.
    pub timers: &'set [TimerId],
    /// Whether [`Client::next_event`] has something.
    pub router: bool,
}

impl Ready<'_> {
    /// Nothing at all: the deadline has passed.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.timers.is_empty() && !self.router
    }
}

impl WaitSet {
    /// An empty set that waits in this way.
    pub fn new(spin: Spin) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&epoll, &alarm, data, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            alarm,
            alarm_at: None,
            timers: Timers::default(),
            spin,
            lanes: Vec::new(),
            due: Vec::new(),
            router: false,
        })
    }

    /// A timer that is due once.
    pub fn at(&mut self, when: Instant) -> Result<TimerId, TooManyTimers> {
        self.timers.add(when, None)
    }

    /// A timer that is due again and again, first after one interval. Times that were missed are skipped.
    pub fn every(&mut self, interval: Duration) -> Result<TimerId, TooManyTimers> {
        let now = Instant::now();
        self.timers.add(timers::after(now, interval), Some(interval))
    }

    /// Forgets a timer; one that is gone already is nobody's loss.
    pub fn cancel(&mut self, timer: TimerId) {
        self.timers.cancel(timer);
    }

    /// Waits until there is something to do, or until the deadline.
    pub fn wait(
        &mut self,
        client: &mut Client,
        lanes: &mut [&mut dyn ReceivingHalf],
        deadline: Option<Instant>,
    ) -> Result<Ready<'_>, ClientError> {
        let mut spinner = Spinner::new(self.spin);
        loop {
            self.look_at_lanes(lanes);
            self.router = client.has_events();
            // What is there already must not keep a timer waiting.
            if !self.lanes.is_empty() || self.router {
                self.timers.take_due(Instant::now(), &mut self.due);
                return Ok(self.ready());
            }
            match spinner.next() {
                Next::Poll => {}
                Next::Look => {
                    if self.look_everywhere(client, lanes)? || has_passed(deadline) {
                        return Ok(self.ready());
                    }
                }
                Next::Sleep => return self.sleep(client, lanes, deadline),
            }
        }
    }

    /// Gets everything ready for an event loop. True when there is nothing to do: the loop waits until [`WaitSet::as_fd`] is
    /// readable, then calls [`WaitSet::disarm`]. False when there is, and then everything is awake.
    ///
    /// # Panics
    /// When a lane's reader has promised never to sleep.
    pub fn arm(
        &mut self,
        client: &mut Client,
        lanes: &mut [&mut dyn ReceivingHalf],
    ) -> Result<bool, ClientError> {
        self.lanes.clear();
        self.timers.take_due(Instant::now(), &mut self.due);
        self.router = client.has_events();
        for descriptor in client.descriptors() {
            listen(&self.epoll, descriptor)?;
        }
        for (index, lane) in lanes.iter_mut().enumerate() {
            if let Some(descriptor) = lane.descriptor() {
                listen(&self.epoll, descriptor)?;
            }
            if !lane.arm() {
                self.lanes.push(index);
            }
        }
        self.set_alarm()?;
        let sleeps = self.ready().is_empty();
        if !sleeps {
            awaken(client, lanes);
        }
        Ok(sleeps)
    }

    /// Awake again: what there is to do, perhaps nothing.
    pub fn disarm(
        &mut self,
        client: &mut Client,
        lanes: &mut [&mut dyn ReceivingHalf],
    ) -> Result<Ready<'_>, ClientError> {
        awaken(client, lanes);
        // Whatever was heard is heard no more until it is listened to again.
        sleep_on(&self.epoll, Some(Instant::now()))?;
        self.look_everywhere(client, lanes)?;
        Ok(self.ready())
    }

    /// What the last look found.
    pub fn ready(&self) -> Ready<'_> {
        Ready { lanes: &self.lanes, timers: &self.due, router: self.router }
    }

    fn sleep(
        &mut self,
        client: &mut Client,
        lanes: &mut [&mut dyn ReceivingHalf],
        deadline: Option<Instant>,
    ) -> Result<Ready<'_>, ClientError> {
        loop {
            if !self.arm(client, lanes)? {
                return Ok(self.ready());
            }
            let slept = sleep_on(&self.epoll, deadline);
            // Awake before anything else, so that an error leaves no lane asleep.
            awaken(client, lanes);
            slept?;
            if self.look_everywhere(client, lanes)? || has_passed(deadline) {
                return Ok(self.ready());
            }
        }
    }

    /// The quick look; only a lane on a socket costs a system call. An ended lane is told of by `look_everywhere` and `arm`.
    fn look_at_lanes(&mut self, lanes: &[&mut dyn ReceivingHalf]) {
        self.lanes.clear();
        self.due.clear();
        let ready = lanes.iter().enumerate().filter(|(_, lane)| lane.has_message());
        self.lanes.extend(ready.map(|(index, _)| index));
    }

    /// True when there is something to do.
    fn look_everywhere(
        &mut self,
        client: &mut Client,
        lanes: &[&mut dyn ReceivingHalf],
    ) -> Result<bool, ClientError> {
        self.lanes.clear();
        let ready =
            lanes.iter().enumerate().filter(|(_, lane)| lane.has_message() || lane.is_over());
        self.lanes.extend(ready.map(|(index, _)| index));
        self.timers.take_due(Instant::now(), &mut self.due);
        self.router = client.look_for_events()?;
        Ok(!self.ready().is_empty())
    }

    fn set_alarm(&mut self) -> io::Result<()> {
        let next = self.timers.next();
        if next == self.alarm_at {
            return Ok(());
        }
        let value = match next {
            // Zero would take the alarm away.
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                timespec(left.max(Duration::from_nanos(1)))
            }
            None => Timespec::default(),
        };
        let alarm = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &alarm)?;
        self.alarm_at = next;
        Ok(())
    }
}

impl AsFd for WaitSet {
    /// Readable when there is something to do, between [`WaitSet::arm`] and [`WaitSet::disarm`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl AsRawFd for WaitSet {
    /// For event loops that take it so.
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

fn awaken(client: &Client, lanes: &mut [&mut dyn ReceivingHalf]) {
    for lane in lanes {
        lane.disarm();
    }
    // Afterwards, never before: what was rung since the program last looked must still wake it.
    client.doorbell().clear();
}

/// Listens for one piece of news. A lane that is left out is heard once more at most, even one that has hung up, which would
/// keep the set awake otherwise. A descriptor that was closed has left the set by itself, also when its number is another's
/// now.
fn listen(epoll: &OwnedFd, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let (data, flags) =
        (epoll::EventData::new_u64(0), epoll::EventFlags::IN | epoll::EventFlags::ONESHOT);
    match epoll::modify(epoll, descriptor, data, flags) {
        Err(Errno::NOENT) => Ok(epoll::add(epoll, descriptor, data, flags)?),
        modified => Ok(modified?),
    }
}

fn sleep_on(epoll: &OwnedFd, deadline: Option<Instant>) -> io::Result<()> {
    let left =
        deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_AT_ONCE];
    match epoll::wait(epoll, &mut space, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
