//! Work that nobody waits for, but whose locks others wait for: a collection of the store, writing down a plan. The host says when
//! there is time for it, as for everything that is done later. It is not done by the host's own worker then, whose class of
//! scheduling is idle: while all cores are busy it would stand still for minutes with the lock in its hands. One thread of the
//! ordinary class does it, one piece after the other.
//!
//! What needs no lock that others need belongs to [`Host::later`] itself.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use agents_contract::{Cancellation, Host};

use crate::limits::ASIDE_JOBS_MAX;

/// One piece of work; it ends early where the cancellation says so.
pub(crate) type Piece = Box<dyn FnOnce(&Cancellation) + Send>;

/// The thread, once there was something to do. Dropping this ends it after the piece that it is at, which is asked to hurry.
pub(crate) struct Aside {
    stop: Cancellation,
    thread: Mutex<Option<Thread>>,
    /// What is not even begun before an answer was sent.
    held: Mutex<Vec<Piece>>,
}

struct Thread {
    /// Nothing is the end.
    pieces: SyncSender<Option<Piece>>,
    handle: JoinHandle<()>,
}

impl Default for Aside {
    fn default() -> Self {
        Self { stop: Cancellation::until(None), thread: Mutex::default(), held: Mutex::default() }
    }
}

impl Aside {
    /// Does it when the host has time. At once and here where the host has no later: this thread is not idle. May be left
    /// undone where the process ends, or too much waits.
    pub(crate) fn later(&self, host: &dyn Host, piece: Piece) {
        let (here, stop, pieces) = (std::thread::current().id(), self.stop.clone(), self.pieces());
        host.later(Box::new(move || match pieces {
            Some(pieces) if std::thread::current().id() != here => {
                // What finds no room is done by the next one of its kind.
                let _ = pieces.try_send(Some(piece));
            }
            // On an idle thread it is done slowly where there is no other one to be had.
            _ => piece(&stop),
        }));
    }

    /// Holds it until somebody's answer was sent ([`Self::begin`]): to hand it on, too, takes time that a caller would wait. May be left
    /// undone like the rest.
    pub(crate) fn hold(&self, piece: Piece) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
    }

    /// An answer was sent: what was held is done like the rest.
    pub(crate) fn begin(&self, host: &dyn Host) {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        for piece in held {
            self.later(host, piece);
        }
    }

    /// Where pieces go. The thread is started by whoever asks, since a thread has the class of the one that starts it.
    fn pieces(&self) -> Option<SyncSender<Option<Piece>>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (pieces, work) = sync_channel(ASIDE_JOBS_MAX);
            let stop = self.stop.clone();
            let named = std::thread::Builder::new().name("aside".to_owned());
            let handle = named.spawn(move || serve(&work, &stop)).ok()?;
            *thread = Some(Thread { pieces, handle });
        }
        thread.as_ref().map(|thread| thread.pieces.clone())
    }
}

fn serve(work: &Receiver<Option<Piece>>, stop: &Cancellation) {
    while let Ok(Some(piece)) = work.recv() {
        let run = std::panic::AssertUnwindSafe(|| piece(stop));
        if std::panic::catch_unwind(run).is_err() {
            tracing::warn!("work aside ended in a panic");
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.stop.cancel();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { pieces, handle }) = thread {
            // Jobs that the host still has may hold the other end, so it is told.
            let _ = pieces.send(None);
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread::{ThreadId, current};

    use super::*;
    use crate::io::testing::{LaterHost, PlainHost};

    fn told(sender: &std::sync::mpsc::Sender<(ThreadId, bool)>) -> Piece {
        let sender = sender.clone();
        Box::new(move |stop| {
            let _ = sender.send((current().id(), stop.is_cancelled()));
        })
    }

    #[test]
    fn what_the_host_does_later_is_done_by_neither_its_thread_nor_the_callers() {
        let (aside, host) = (Aside::default(), Arc::new(LaterHost::default()));
        let (sender, receiver) = channel();
        aside.later(&*host, told(&sender));
        aside.later(&*host, Box::new(|_| panic!("a piece's own")));
        aside.later(&*host, told(&sender));
        assert!(receiver.try_recv().is_err(), "there is no time yet");
        let worker = std::thread::spawn(move || {
            host.do_what_waits();
            current().id()
        });
        let (first, second) = (receiver.recv().expect("done"), receiver.recv().expect("done"));
        let worker = worker.join().expect("an end");
        assert_eq!(first, second, "one thread, after a panic too");
        assert!(first.0 != worker && first.0 != current().id() && !first.1);
    }

    #[test]
    fn what_is_held_is_not_even_handed_on_before_an_answer_was_sent() {
        let (aside, host) = (Aside::default(), Arc::new(LaterHost::default()));
        let (sender, receiver) = channel();
        aside.hold(told(&sender));
        aside.hold(told(&sender));
        assert!(aside.thread.lock().expect("no panic").is_none());
        aside.begin(&*host);
        aside.begin(&*host);
        std::thread::spawn(move || host.do_what_waits()).join().expect("an end");
        let (first, second) = (receiver.recv().expect("done"), receiver.recv().expect("done"));
        assert_eq!(first, second);
        drop((aside, sender));
        assert!(receiver.recv().is_err(), "each is done once");
    }

    #[test]
    fn where_there_is_no_later_it_is_done_when_the_call_returns() {
        let aside = Aside::default();
        let (sender, receiver) = channel();
        aside.later(&PlainHost, told(&sender));
        assert_eq!(receiver.try_recv(), Ok((current().id(), false)));
    }

    #[test]
    fn it_ends_although_the_host_still_has_work_for_it() {
        let (aside, host) = (Aside::default(), LaterHost::default());
        let (sender, receiver) = channel();
        aside.later(&host, told(&sender));
        drop(aside);
        std::thread::scope(|scope| {
            scope.spawn(|| host.do_what_waits());
        });
        drop(sender);
        assert!(receiver.try_recv().is_err(), "nobody is there any more to do it");
    }
}
