//! Asking the processor for a cache line before it is written or read.
//!
//! A hint and nothing else: no value is read or written, no order is promised, and a processor that does not know it does
//! nothing. Not here: which line and how far ahead (`ring`).
#![allow(
    unsafe_code,
    reason = "the standard library's hints do not ask for ownership on every x86-64"
)]

/// Asks for the line in which a value starts, to be written soon: the other cores give up their copies now and not when the
/// store waits for them.
#[inline]
pub(crate) fn for_writing<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint: it cannot fault, changes no register, flag or memory, and processors without it take it for a no-op.
    unsafe {
        std::arch::asm!(
            "prefetchw [{place}]",
            place = in(reg) std::ptr::from_ref(place),
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

/// Asks for the line in which a value starts, to be read soon. Unlike a load it holds nothing up while the line is on its way.
#[inline]
pub(crate) fn for_reading<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint: it cannot fault and changes no register, flag or memory.
    unsafe {
        std::arch::asm!(
            "prefetcht0 [{place}]",
            place = in(reg) std::ptr::from_ref(place),
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}
