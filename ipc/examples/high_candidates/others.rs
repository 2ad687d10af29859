//! The candidates that lost: sockets through a ring, and futex operations of a ring.
//!
//! Not here: the loop that measures them, and messages between rings (`main`).

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, opcode, squeue};

use super::{Line, PACKET_BYTES, PAGE, Wait, Way, enter_without_waiting};

const BUFFERS: u16 = 8;

pub(super) struct RingSocket {
    ring: IoUring,
    socket: OwnedFd,
    /// Of the buffer ring; lives as long as the process.
    entries: *mut BufRingEntry,
    buffers: *mut u8,
    tail: u16,
    out: Box<[u8; PACKET_BYTES]>,
    wait: Wait,
    defer: bool,
}

const RECEIVED: u64 = 1;

impl RingSocket {
    pub(super) fn new(socket: OwnedFd, wait: Wait, thread: bool, defer: bool) -> Result<Self> {
        let mut builder = IoUring::builder();
        if thread {
            builder.setup_sqpoll(1_000);
        }
        if defer {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        let ring = builder.build(8).context("ring")?;
        use rustix::mm::{MapFlags, ProtFlags};
        // SAFETY: the kernel chooses the address.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                2 * PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let entries: *mut BufRingEntry = start.cast();
        // SAFETY: the second page.
        let buffers = unsafe { start.cast::<u8>().add(PAGE) };
        // SAFETY: page-aligned, mapped for the life of the process.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, 0, 0) }?;
        let mut new = Self {
            ring,
            socket,
            entries,
            buffers,
            tail: 0,
            out: Box::new([0; PACKET_BYTES]),
            wait,
            defer,
        };
        (0..BUFFERS).for_each(|buffer| new.give(buffer));
        new.listen()?;
        Ok(new)
    }

    /// Gives a buffer to the kernel.
    fn give(&mut self, buffer: u16) {
        let at = usize::from(self.tail % BUFFERS);
        // SAFETY: within the ring's page.
        let entry = unsafe { self.entries.add(at) };
        // SAFETY: mapped, aligned, and the kernel reads it only below the tail.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.buffers as u64 + u64::from(buffer) * PACKET_BYTES as u64);
        entry.set_len(PACKET_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the first entry of the ring holds its tail.
        let tail = unsafe { BufRingEntry::tail(self.entries) }.cast_mut();
        // SAFETY: aligned, and only stored to from here.
        unsafe { std::sync::atomic::AtomicU16::from_ptr(tail) }.store(self.tail, Ordering::Release);
    }

    fn listen(&mut self) -> Result<()> {
        let entry =
            opcode::RecvMulti::new(Fd(self.socket.as_raw_fd()), 0).build().user_data(RECEIVED);
        self.push(&entry)
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<()> {
        let mut queue = self.ring.submission();
        // SAFETY: buffers and socket live as long as the ring.
        while unsafe { queue.push(entry) }.is_err() {
            queue.sync();
        }
        drop(queue);
        self.ring.submit()?;
        Ok(())
    }
}

impl Way for RingSocket {
    fn send(&mut self, number: u64) -> Result<()> {
        self.out.fill(number as u8);
        let entry =
            opcode::Send::new(Fd(self.socket.as_raw_fd()), self.out.as_ptr(), PACKET_BYTES as u32);
        let entry = entry.build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(&entry)
    }

    fn receive(&mut self, number: u64) -> Result<()> {
        loop {
            let done = self.ring.completion().next();
            if let Some(done) = done {
                ensure!(
                    done.user_data() == RECEIVED && done.result() == PACKET_BYTES as i32,
                    "{done:?}"
                );
                let buffer = io_uring::cqueue::buffer_select(done.flags()).context("no buffer")?;
                let end = (usize::from(buffer) + 1) * PACKET_BYTES;
                // SAFETY: the kernel chose one of our buffers.
                let last = unsafe { self.buffers.add(end - 1) };
                // SAFETY: mapped, and the kernel is done with it.
                let last = unsafe { *last };
                ensure!(last == number as u8, "another message");
                self.give(buffer);
                if !io_uring::cqueue::more(done.flags()) {
                    self.listen()?;
                }
                return Ok(());
            }
            match self.wait {
                Wait::Blocked => drop(self.ring.submit_and_wait(1)?),
                Wait::Polled if self.defer => drop(enter_without_waiting(&self.ring)?),
                Wait::Polled => std::hint::spin_loop(),
            }
        }
    }
}

pub(super) struct Futex {
    line: Line,
    ring: IoUring,
}

impl Futex {
    pub(super) fn new(line: Line) -> Result<Self> {
        Ok(Self { line, ring: IoUring::new(8)? })
    }

    fn half(word: &AtomicU64) -> *const u32 {
        word.as_ptr().cast::<AtomicU32>().cast()
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the words are mapped for the life of the process.
        while unsafe { self.ring.submission().push(entry) }.is_err() {}
    }
}

const FUTEX2_SIZE_U32: u32 = 2;
const MATCH_ANY: u64 = u32::MAX as u64;

impl Way for Futex {
    fn send(&mut self, number: u64) -> Result<()> {
        self.line.write(number);
        let word = Self::half(&self.line.own[0]);
        let entry = opcode::FutexWake::new(word, 1, MATCH_ANY, FUTEX2_SIZE_U32).build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS));
        self.ring.submit()?;
        Ok(())
    }

    fn receive(&mut self, number: u64) -> Result<()> {
        while !self.line.read(number) {
            let word = Self::half(&self.line.other[0]);
            let entry =
                opcode::FutexWait::new(word, number - 1, MATCH_ANY, FUTEX2_SIZE_U32).build();
            self.push(&entry);
            self.ring.submit_and_wait(1)?;
            for done in self.ring.completion() {
                ensure!(done.result() == 0 || done.result() == -libc::EAGAIN, "{done:?}");
            }
        }
        Ok(())
    }
}
