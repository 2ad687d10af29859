//! Large payloads to the peer of a link by reference: frozen, or lent from a pool. Whatever the link's class, the payload does
//! not travel over it.
//!
//! Not here: the payloads and their rules (`batch`).

use std::os::fd::AsFd;
use std::time::Instant;

use super::{Client, ClientError};
use crate::batch::{Borrower, Frozen, Loan, Pool, Sealed};
use crate::class::SendingHalf;
use crate::header::LaneId;
use crate::lane::WhenFull;
use crate::link::{Link, Reference};
use crate::ring::Meta;

impl Client {
    /// Hands a frozen payload to the peer of a link, which gets [`Reference::Frozen`].
    pub fn send_frozen(
        &mut self,
        link: &mut Link,
        payload: &Sealed,
        when: WhenFull,
    ) -> Result<(), ClientError> {
        let grant = self.grant(link.lane(), payload.as_fd())?;
        refer(link, Reference::Frozen { grant, bytes: payload.length() as u64 }, when)
    }

    /// The frozen payload of a reference, checked and mapped, of so many bytes at most. Waits for it until the deadline.
    pub fn take_frozen(
        &mut self,
        lane: LaneId,
        reference: Reference,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Frozen, ClientError> {
        let file = self.take_grant(lane, reference.grant(), deadline)?;
        Ok(Frozen::open(file, bytes_max)?)
    }

    /// Offers a pool to the peer of a link, which gets [`Reference::Pool`]. Its [`Reference::Returns`] comes back, and goes to
    /// [`Client::attach_borrower`]; then [`Link::lend`].
    pub fn offer_pool(
        &mut self,
        link: &mut Link,
        pool: &Pool,
        when: WhenFull,
    ) -> Result<(), ClientError> {
        let grant = self.grant(link.lane(), pool.as_fd())?;
        refer(link, Reference::Pool { grant, bytes: pool.bytes() as u64 }, when)
    }

    /// Takes up a pool that was offered, of so many bytes at most, and hands the returns back.
    pub fn borrow(
        &mut self,
        link: &mut Link,
        reference: Reference,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Borrower, ClientError> {
        let file = self.take_grant(link.lane(), reference.grant(), deadline)?;
        let borrower = Borrower::open(file, bytes_max)?;
        let grant = self.grant(link.lane(), borrower.returns_fd())?;
        let pool = u64::from(borrower.number());
        refer(link, Reference::Returns { grant, pool }, WhenFull::WaitUntil(deadline))?;
        Ok(borrower)
    }

    /// Attaches the peer of a link to an own pool. When the link ends, by the router's page, the peer has returned everything.
    pub fn attach_borrower(
        &mut self,
        link: &mut Link,
        pool: &mut Pool,
        reference: Reference,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let returns = self.take_grant(link.lane(), reference.grant(), deadline)?;
        let control = link.receiver().control();
        let control = control.map(|page| page.try_clone_to_owned()).transpose()?;
        Ok(pool.attach(link.peer().id, returns, control)?)
    }
}

impl Link {
    /// Lends a loan of an own pool to the peer, which gets a line for [`Borrower::take`]. A loan that was not sent is free again.
    pub fn lend(
        &mut self,
        pool: &mut Pool,
        loan: Loan,
        when: WhenFull,
    ) -> Result<(), crate::batch::LendError> {
        let peer = self.peer().id;
        let carry = |line: &[u8]| self.sender().raw().send(Meta::default(), line, when);
        pool.lend(loan, &[peer], carry).map_err(|unsent| unsent.error)
    }
}

fn refer(link: &mut Link, reference: Reference, when: WhenFull) -> Result<(), ClientError> {
    Ok(link.sender().raw().send(Meta::default(), &reference.encode(), when)?)
}
