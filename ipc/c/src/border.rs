//! Where foreign pointers become values: the only place that follows one.
//!
//! C promises what the header says: a pointer that is not NULL is valid for what its type names, during the call; a
//! handle is one that this library gave and that was not closed. Everything that can be checked is checked here.
#![allow(unsafe_code, reason = "follows pointers that C gave")]

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ipc::limits::{GRANTS_PER_REQUEST_MAX, LIST_ENTRIES_MAX, MESSAGE_BYTES_MAX, WORD_BYTES_MAX};

use crate::fault::Fault;
use crate::limits::WAIT_MS_MAX;
use crate::shapes::{Bytes, Descriptors, Text, Words};

/// Where a function puts a result. C may give memory that was never written.
pub(crate) type Place<'a, T> = Option<&'a mut MaybeUninit<T>>;

impl Text {
    /// A word of the bus.
    pub(crate) fn word<'a>(self, name: &str) -> Result<&'a str, Fault> {
        self.text(name, WORD_BYTES_MAX)
    }

    /// A word of the bus, or what it is where none was given.
    pub(crate) fn word_or<'a>(self, name: &str, other: &'a str) -> Result<&'a str, Fault> {
        if self.0.is_null() { Ok(other) } else { self.word(name) }
    }

    /// A text of at most so many bytes. Not one byte beyond them is read.
    pub(crate) fn text<'a>(self, name: &str, bytes_max: usize) -> Result<&'a str, Fault> {
        if self.0.is_null() {
            return Err(Fault::argument(format!("`{name}` is NULL")));
        }
        let start = self.0.cast::<u8>();
        let mut length = 0;
        loop {
            // SAFETY: every byte before this one was not the end, so the caller's text reaches here.
            let byte = unsafe { start.wrapping_add(length).read() };
            if byte == 0 {
                break;
            }
            length += 1;
            if length > bytes_max {
                let text = format!("`{name}` is too long: at most {bytes_max} bytes");
                return Err(Fault::argument(text));
            }
        }
        // SAFETY: these bytes were just read, and the caller leaves them alone during the call.
        let bytes = unsafe { std::slice::from_raw_parts(start, length) };
        std::str::from_utf8(bytes).map_err(|_| Fault::argument(format!("`{name}` is no UTF-8")))
    }
}

impl Bytes {
    /// So many bytes.
    pub(crate) fn bytes<'a>(self, length: usize, name: &str) -> Result<&'a [u8], Fault> {
        if length == 0 {
            return Ok(&[]);
        }
        if self.0.is_null() {
            return Err(Fault::argument(format!("`{name}` is NULL, but not its length")));
        }
        if length > MESSAGE_BYTES_MAX {
            let text = format!("`{name}` is too long: {length} bytes, at most {MESSAGE_BYTES_MAX}");
            return Err(Fault::argument(text));
        }
        // SAFETY: not NULL, and the caller promises this many bytes; the length is far below `isize::MAX`.
        Ok(unsafe { std::slice::from_raw_parts(self.0, length) })
    }
}

impl Words {
    /// Words up to the NULL, of which there must be one.
    pub(crate) fn words(self, name: &str) -> Result<Vec<String>, Fault> {
        let mut words = Vec::new();
        if self.0.is_null() {
            return Ok(words);
        }
        loop {
            // SAFETY: every entry before this one was not the end, so the caller's array reaches here.
            let entry = unsafe { self.0.wrapping_add(words.len()).read() };
            if entry.is_null() {
                return Ok(words);
            }
            if words.len() == LIST_ENTRIES_MAX {
                let text = format!("`{name}` has too many entries: at most {LIST_ENTRIES_MAX}");
                return Err(Fault::argument(text));
            }
            words.push(Text(entry).word(name)?.to_owned());
        }
    }
}

impl Descriptors {
    /// So many open descriptors. A number that is none is refused by the kernel when it is handed on.
    pub(crate) fn descriptors<'a>(self, count: usize) -> Result<Vec<BorrowedFd<'a>>, Fault> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.0.is_null() {
            return Err(Fault::argument("`descriptors` is NULL, but not its count"));
        }
        if count > GRANTS_PER_REQUEST_MAX {
            let text = format!("{count} descriptors: at most {GRANTS_PER_REQUEST_MAX}");
            return Err(Fault::argument(text));
        }
        // SAFETY: not NULL, and the caller promises this many.
        let numbers = unsafe { std::slice::from_raw_parts(self.0, count) };
        let mut borrowed = Vec::with_capacity(count);
        for number in numbers {
            if *number < 0 {
                return Err(Fault::argument(format!("descriptor {number} is negative")));
            }
            // SAFETY: the number is not -1, and the caller keeps it open during the call.
            borrowed.push(unsafe { BorrowedFd::borrow_raw(*number) });
        }
        Ok(borrowed)
    }
}

/// A handle, which must not be NULL.
pub(crate) fn given<'a, T>(handle: Option<&'a T>, name: &str) -> Result<&'a T, Fault> {
    handle.ok_or_else(|| Fault::argument(format!("`{name}` is NULL")))
}

/// Where a result goes, which must not be NULL.
pub(crate) fn place<'a, T>(
    place: Place<'a, T>,
    name: &str,
) -> Result<&'a mut MaybeUninit<T>, Fault> {
    place.ok_or_else(|| Fault::argument(format!("`{name}` is NULL")))
}

/// An array of handles, none of which may be NULL.
pub(crate) fn handles<'a, T>(
    array: *const *const T,
    count: usize,
    count_max: usize,
    name: &str,
) -> Result<Vec<&'a T>, Fault> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if array.is_null() || count > count_max {
        let text = format!("`{name}` is NULL or has more than {count_max} entries: {count}");
        return Err(Fault::argument(text));
    }
    // SAFETY: not NULL, and the caller promises this many; the count is bounded.
    let entries = unsafe { std::slice::from_raw_parts(array, count) };
    let mut found = Vec::with_capacity(count);
    for entry in entries {
        // SAFETY: an entry is NULL or a handle that was not closed.
        let handle = unsafe { entry.as_ref() };
        found.push(given(handle, name)?);
    }
    Ok(found)
}

/// Gives a handle away.
pub(crate) fn give<T>(handle: T) -> *mut T {
    Box::into_raw(Box::new(handle))
}

/// Takes a handle back and frees it.
pub(crate) fn free<T>(handle: *mut T) {
    // SAFETY: the caller checked that it is not NULL; it was made by `give`, and C closes a handle once.
    drop(unsafe { Box::from_raw(handle) });
}

/// A handle that is about to be closed.
pub(crate) fn closing<'a, T>(handle: *mut T) -> Option<&'a T> {
    // SAFETY: NULL, or a handle that was not closed.
    unsafe { handle.as_ref() }
}

/// The moment after so many milliseconds; a negative number: none.
pub(crate) fn deadline(timeout_ms: i64) -> Option<Instant> {
    (timeout_ms >= 0).then(|| after(timeout_ms))
}

/// The moment after so many milliseconds; a negative number: so late that nobody lives to see it.
pub(crate) fn moment(timeout_ms: i64) -> Instant {
    after(if timeout_ms < 0 { WAIT_MS_MAX } else { timeout_ms })
}

fn after(timeout_ms: i64) -> Instant {
    Instant::now() + Duration::from_millis(timeout_ms.clamp(0, WAIT_MS_MAX).unsigned_abs())
}

/// A text for C. What the bus carries has no NUL; should one come, the text ends there.
pub(crate) fn text_for_c(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Where a text lies; NULL where there is none.
pub(crate) fn pointer(text: Option<&CStr>) -> *const c_char {
    text.map_or(std::ptr::null(), CStr::as_ptr)
}
