//! CRITICAL: stamped slots in shared memory. The lane is the class; every call here is one of the lane's.
//!
//! Not here: the lane (`lane`), and its waiting (`wait`).

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::{Class, Counters, ReceivingHalf, SendingHalf};
use crate::header::AgentId;
use crate::lane::{Large, Message, ReceiveError, Receiver, SendError, Sender, WhenFull};
use crate::ring::{Meta, Timing};
use crate::segment::LaneCounters;
use crate::wait::Spin;

impl From<LaneCounters> for Counters {
    fn from(lane: LaneCounters) -> Self {
        let LaneCounters { messages, bytes_lent, waits, rejected, .. } = lane;
        Self { messages, bytes_large: bytes_lent, waits, rejected }
    }
}

impl SendingHalf for Sender {
    fn class(&self) -> Class {
        Class::Critical
    }

    #[inline]
    fn push(&mut self, meta: Meta, payload: &[u8], when: WhenFull) -> Result<(), SendError> {
        Sender::push(self, meta, payload, when)
    }

    #[inline]
    fn flush(&mut self) {
        Sender::flush(self);
    }

    #[inline]
    fn send_timed(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        Sender::send_timed(self, meta, payload, timing, when)
    }

    #[inline]
    fn send_timed_now(
        &mut self,
        meta: Meta,
        payload: &[u8],
        timing: Timing,
        when: WhenFull,
    ) -> Result<(), SendError> {
        Sender::send_timed_now(self, meta, payload, timing, when)
    }

    fn take_back(&mut self, meta: Meta) {
        Sender::take_back(self, meta);
    }

    fn resume_large(
        &mut self,
        message: &Large<'_>,
        sent: &mut usize,
        when: WhenFull,
    ) -> Result<(), SendError> {
        Sender::resume_large(self, message, sent, when)
    }

    fn set_spin(&mut self, spin: Spin) {
        Sender::set_spin(self, spin);
    }

    fn counters(&self) -> Counters {
        Sender::counters(self).into()
    }
}

impl ReceivingHalf for Receiver {
    fn class(&self) -> Class {
        Class::Critical
    }

    fn source(&self) -> AgentId {
        Receiver::source(self)
    }

    #[inline]
    fn try_receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        Receiver::try_receive(self)
    }

    #[inline]
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Message<'_>, ReceiveError> {
        Receiver::receive(self, deadline)
    }

    fn has_message(&self) -> bool {
        Receiver::has_message(self)
    }

    fn is_over(&self) -> bool {
        Receiver::is_over(self)
    }

    fn is_under_way(&self) -> bool {
        Receiver::is_under_way(self)
    }

    fn held_bytes(&self) -> usize {
        Receiver::held_bytes(self)
    }

    fn release(&mut self) {
        Receiver::release(self);
    }

    /// None: the writer rings the doorbell that it was given when it attached this reader.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn arm(&mut self) -> bool {
        Receiver::arm(self)
    }

    fn disarm(&mut self) {
        Receiver::disarm(self);
    }

    fn set_spin(&mut self, spin: Spin) {
        Receiver::set_spin(self, spin);
    }

    fn counters(&self) -> Counters {
        Receiver::counters(self).into()
    }
}
