//! How a call fails: a code and a text, kept by the handle; and where panics stop.
//!
//! Not here: what the codes mean (`codes`).

use std::any::Any;
use std::error::Error;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use ipc::client::ClientError;
use ipc::lane::{Ended, ReceiveError, SendError};
use ipc::link::CallError;
use ipc::ring::Violation;

use crate::border::text_for_c;
use crate::codes::{
    BOLIDE_ARGUMENT, BOLIDE_BUSY, BOLIDE_CLOSED, BOLIDE_FULL, BOLIDE_LIMIT, BOLIDE_LOST,
    BOLIDE_NO_ANSWER, BOLIDE_NO_GRANT, BOLIDE_NO_ROUTER, BOLIDE_OK, BOLIDE_PANICKED,
    BOLIDE_PEER_GONE, BOLIDE_PROTOCOL, BOLIDE_QUARANTINED, BOLIDE_REFUSED, BOLIDE_REVOKED,
    BOLIDE_ROUTER_GONE, BOLIDE_SYSTEM, BOLIDE_TIMEOUT, meaning,
};

/// Why a call failed. Codes of the hot path have no text of their own, so nothing is allocated for them.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: i32,
    text: Option<String>,
    /// How the other side broke the protocol, where this side saw it.
    pub(crate) violation: Option<Violation>,
}

/// The last failure of a handle.
#[derive(Debug, Default)]
pub(crate) struct LastFault {
    code: AtomicI32,
    told: Mutex<(i32, CString)>,
}

impl Fault {
    pub(crate) const TIMEOUT: Self = Self::plain(BOLIDE_TIMEOUT);
    pub(crate) const CLOSED: Self = Self::plain(BOLIDE_CLOSED);

    pub(crate) const fn plain(code: i32) -> Self {
        Self { code, text: None, violation: None }
    }

    pub(crate) fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: Some(text.into()), violation: None }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(BOLIDE_ARGUMENT, text)
    }

    pub(crate) fn limit(text: impl Into<String>) -> Self {
        Self::new(BOLIDE_LIMIT, text)
    }

    fn of_error(code: i32, error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let source_text = source.to_string();
            // A transparent error repeats its source.
            if !text.ends_with(&source_text) {
                text.push_str(": ");
                text.push_str(&source_text);
            }
            cause = source.source();
        }
        Self::new(code, text)
    }

    fn of_violation(violation: Violation, error: &dyn Error) -> Self {
        let violation = Some(violation);
        Self { violation, ..Self::of_error(BOLIDE_QUARANTINED, error) }
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::new(BOLIDE_PANICKED, format!("panicked: {}", said.unwrap_or("without a text")))
    }
}

impl LastFault {
    /// What was said of the last failure; valid until the next one.
    pub(crate) fn text(&self) -> *const c_char {
        let code = self.code.load(Ordering::Relaxed);
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if code == BOLIDE_OK {
            return c"".as_ptr();
        }
        // A failure without a text of its own came after the one that is kept here.
        if told.0 == code { told.1.as_ptr() } else { meaning(code).as_ptr() }
    }

    fn keep(&self, fault: Fault) -> i32 {
        self.code.store(fault.code, Ordering::Relaxed);
        // Whoever polls comes here each time; a deadline never has a text of its own.
        if fault.code == BOLIDE_TIMEOUT {
            return fault.code;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match fault.text {
            Some(text) => *told = (fault.code, text_for_c(&text)),
            None => told.0 = BOLIDE_OK,
        }
        fault.code
    }
}

/// Runs what C called. Failures and panics become codes; their text stays with the handle, where there is one.
#[inline]
pub(crate) fn enter(last: Option<&LastFault>, work: impl FnOnce() -> Result<(), Fault>) -> i32 {
    // What a panic left behind is guarded by locks, which are poisoned then and never entered again.
    let fault = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return BOLIDE_OK,
        Ok(Err(fault)) => fault,
        Err(panic) => Fault::of_panic(&*panic),
    };
    match last {
        Some(last) => last.keep(fault),
        None => fault.code,
    }
}

/// Enters the state of a handle; never waits for another thread.
#[inline]
pub(crate) fn lock<T>(state: &Mutex<T>) -> Result<MutexGuard<'_, T>, Fault> {
    match state.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::WouldBlock) => Err(Fault::plain(BOLIDE_BUSY)),
        Err(TryLockError::Poisoned(_)) => {
            Err(Fault::new(BOLIDE_PANICKED, "an earlier call panicked; close the handle"))
        }
    }
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Self {
        Self::plain(match ended {
            Ended::PeerGone => BOLIDE_PEER_GONE,
            Ended::Revoked => BOLIDE_REVOKED,
            Ended::Closed => BOLIDE_CLOSED,
            Ended::Quarantined => BOLIDE_QUARANTINED,
            Ended::RouterGone => BOLIDE_ROUTER_GONE,
        })
    }
}

impl From<ReceiveError> for Fault {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Lost(_) => Self::plain(BOLIDE_LOST),
            ReceiveError::Deadline => Self::TIMEOUT,
            ReceiveError::Ended(ended) => ended.into(),
            ReceiveError::Quarantined(violation) => Self::of_violation(violation, &error),
        }
    }
}

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::plain(BOLIDE_FULL),
            SendError::TooLong { .. } => Self::of_error(BOLIDE_ARGUMENT, &error),
            SendError::Ended(ended) => ended.into(),
            SendError::Quarantined(violation) => Self::of_violation(violation, &error),
        }
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Deadline { .. } => return Self::TIMEOUT,
            CallError::Ended { ended, .. } => Self::from(*ended).code,
            CallError::Full { .. } => BOLIDE_FULL,
            CallError::Quarantined { violation, .. } => {
                return Self::of_violation(*violation, &error);
            }
            CallError::TooLong { .. } | CallError::TooManyGrants { .. } => BOLIDE_ARGUMENT,
            CallError::Flooded { .. } => BOLIDE_LIMIT,
            CallError::Ungranted { .. } => BOLIDE_SYSTEM,
        };
        Self::of_error(code, &error)
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Refused { code, message } => {
                return Self::new(BOLIDE_REFUSED, format!("{code}: {message}"));
            }
            ClientError::NoClass { .. } => BOLIDE_REFUSED,
            ClientError::Send(error) => return (*error).into(),
            ClientError::Deadline => return Self::TIMEOUT,
            ClientError::Connect(_) => BOLIDE_NO_ROUTER,
            ClientError::RouterGone => BOLIDE_ROUTER_GONE,
            ClientError::NoAnswer => BOLIDE_NO_ANSWER,
            ClientError::NoGrant { .. } => BOLIDE_NO_GRANT,
            ClientError::Protocol(_) | ClientError::Decode(_) => BOLIDE_PROTOCOL,
            ClientError::Encode(_) => BOLIDE_ARGUMENT,
            ClientError::Segment(_)
            | ClientError::Attach(_)
            | ClientError::Directory(_)
            | ClientError::Receive(_)
            | ClientError::Returns(_)
            | ClientError::Unavailable(_)
            | ClientError::NoDescriptorsLeft
            | ClientError::Io(_) => BOLIDE_SYSTEM,
        };
        Self::of_error(code, &error)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[allow(unsafe_code, reason = "reads a text as C does")]
    fn text(last: &LastFault) -> String {
        // SAFETY: never NULL, and NUL-terminated.
        unsafe { CStr::from_ptr(last.text()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn panic_becomes_a_code_and_a_text_and_the_handle_is_not_entered_again() {
        let last = LastFault::default();
        let state = Mutex::new(1);
        let code = enter(Some(&last), || {
            let _held = lock(&state)?;
            panic!("number {}", 7);
        });
        assert_eq!((code, text(&last).as_str()), (BOLIDE_PANICKED, "panicked: number 7"));
        let again = enter(Some(&last), || lock(&state).map(drop));
        assert_eq!(again, BOLIDE_PANICKED);
        assert_eq!(enter(None, || panic!("nobody keeps the text")), BOLIDE_PANICKED);
    }

    #[test]
    fn handle_in_use_is_busy_and_says_so() {
        let last = LastFault::default();
        let state = Mutex::new(());
        let held = lock(&state).unwrap();
        assert_eq!(enter(Some(&last), || lock(&state).map(drop)), BOLIDE_BUSY);
        assert_eq!(text(&last), "the handle is in use by another call");
        drop(held);
        assert_eq!(enter(Some(&last), || lock(&state).map(drop)), BOLIDE_OK);
    }

    #[test]
    fn text_is_that_of_the_last_failure() {
        let last = LastFault::default();
        assert_eq!(text(&last), "");
        enter(Some(&last), || Err(Fault::argument("`name` is NULL")));
        assert_eq!(text(&last), "`name` is NULL");
        enter(Some(&last), || Err(Fault::TIMEOUT));
        assert_eq!(text(&last), "nothing came until the deadline");
        let refused =
            ClientError::Refused { code: "limit".to_owned(), message: "too many".to_owned() };
        enter(Some(&last), || Err(refused.into()));
        assert_eq!(text(&last), "limit: too many");
    }
}
