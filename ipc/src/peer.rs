//! Who is at the other end of a Unix socket, as the kernel says: user, process, and a descriptor of that process. And whether that
//! end may hand over descriptors.
//!
//! Not here: what the peer says of itself (`manifest`), and what it may do (`runtime`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The identity of a peer at the moment when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its process id.
    pub pid: u32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// Reads the credentials of the peer of a connected Unix socket (`SO_PEERCRED`).
pub fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).map_err(|_| {
        io::Error::other("the peer lives in a process namespace that we cannot see")
    })?;
    Ok(Credentials { pid, uid: peer.uid.as_raw(), gid: peer.gid.as_raw() })
}

/// A descriptor of the peer's process: readable when it has ended, and never another process.
///
/// Linux 6.5 and later give it from the socket (`SO_PEERPIDFD`). Before that it is opened by process id, which may have
/// passed to another process; so the start time of what was opened must lie before `connected_ticks`, taken with
/// [`ticks_now`] when the connection was accepted, and the socket must not have hung up meanwhile.
pub fn process(socket: BorrowedFd<'_>, connected_ticks: u64) -> io::Result<OwnedFd> {
    match system_call::peer_pidfd(socket) {
        Ok(pidfd) => Ok(pidfd),
        Err(error) if not_offered(&error) => by_process_id(socket, connected_ticks),
        Err(error) => Err(error),
    }
}

/// Time since the machine started, in the unit of `/proc/PID/stat`.
pub fn ticks_now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let whole = now.tv_sec.unsigned_abs() * ticks_per_second;
    whole + now.tv_nsec.unsigned_abs() * ticks_per_second / 1_000_000_000
}

/// From now on nobody can send descriptors to this socket: a packet with any is refused to its sender.
///
/// Where they are not asked for the kernel closes them on the thread that receives, and that lasts for as long as their maker
/// likes. Kernels before 6.16 cannot; there this does nothing.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) {
    let _ = system_call::set_pass_rights(socket, false);
}

fn not_offered(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    errno == Some(rustix::io::Errno::NOPROTOOPT) || errno == Some(rustix::io::Errno::INVAL)
}

fn by_process_id(socket: BorrowedFd<'_>, connected_ticks: u64) -> io::Result<OwnedFd> {
    let pid = credentials(socket)?.pid;
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let raw = raw.ok_or_else(|| io::Error::other("the peer's process id is out of range"))?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
    // The descriptor is held from here on, so the id cannot pass on while its start time is read.
    let started = started_ticks(pid)?;
    if started > connected_ticks || hung_up(socket)? {
        return Err(io::Error::new(
            io::ErrorKind::NotConnected,
            format!("process {pid} is no longer the one that connected"),
        ));
    }
    Ok(pidfd)
}

/// Field 22 of `/proc/PID/stat`; the second field may hold spaces and brackets, so counting starts after the last one.
fn started_ticks(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    after_name
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other(format!("`/proc/{pid}/stat` has no start time")))
}

fn hung_up(socket: BorrowedFd<'_>) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
    poll(&mut polled, Some(&Timespec::default()))?;
    Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::RDHUP))
}

/// The calls that rustix does not offer.
#[allow(unsafe_code, reason = "options of sockets that rustix does not know")]
mod system_call {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    /// `SO_PASSRIGHTS` of `asm-generic/socket.h`, which the processors have that the bus runs on.
    const SO_PASSRIGHTS: libc::c_int = 83;

    pub(super) fn set_pass_rights(socket: BorrowedFd<'_>, passes: bool) -> io::Result<()> {
        let value = libc::c_int::from(passes);
        // SAFETY: the pointer is to a live local, whose size is what is said.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSRIGHTS,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    pub(super) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let mut pidfd: libc::c_int = -1;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the pointers are to live locals, and `length` is the size of what the first points to.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERPIDFD,
                (&raw mut pidfd).cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        if pidfd < 0 {
            return Err(io::Error::other("the kernel returned no process descriptor"));
        }
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;

    use rustix::io::Errno;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;
    use crate::class::normal;
    use crate::doorbell::Doorbell;
    use crate::socket::Connection;

    fn send_a_file(to: BorrowedFd<'_>) -> Result<usize, Errno> {
        let file = std::fs::File::open("/dev/null").unwrap();
        let files = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(beside.push(SendAncillaryMessage::ScmRights(&files)));
        sendmsg(to, &[IoSlice::new(&[1])], &mut beside, SendFlags::DONTWAIT)
    }

    #[test]
    fn neither_a_bell_nor_a_links_socket_carries_files() {
        let (here, there) = Connection::pair().unwrap();
        if let Err(error) = system_call::set_pass_rights(here.as_fd(), false) {
            assert!(not_offered(&error), "{error}");
            return eprintln!("not shown here: the kernel cannot refuse descriptors");
        }
        assert_eq!(send_a_file(there.as_fd()), Err(Errno::PERM));
        assert_eq!(send_a_file(here.as_fd()), Ok(1), "the other direction is as it was");
        let doorbell = Doorbell::new().unwrap();
        let (ring, _ear) = doorbell.ringer_for_peer().unwrap();
        assert_eq!(send_a_file(ring.as_fd()), Err(Errno::PERM));
        assert_eq!(send_a_file(doorbell.ringer()), Err(Errno::PERM));
        let (one, other) = normal::pair().unwrap();
        for end in [&one, &other] {
            assert_eq!(send_a_file(end.as_fd()), Err(Errno::PERM));
        }
        // An end that somebody else made, as the opener of a link gets it.
        let (theirs, ours) = Connection::pair().unwrap();
        let receiver = normal::Receiver::new(crate::header::AgentId(1), ours.into()).unwrap();
        assert_eq!(send_a_file(theirs.as_fd()), Err(Errno::PERM));
        drop(receiver);
    }

    #[test]
    fn peer_of_a_pair_is_this_process() {
        let (here, _there) = Connection::pair().unwrap();
        let peer = credentials(here.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn process_descriptor_by_id_is_checked_against_the_connection() {
        let (here, there) = Connection::pair().unwrap();
        assert!(process(here.as_fd(), ticks_now()).is_ok());
        assert!(by_process_id(here.as_fd(), ticks_now()).is_ok());
        assert!(by_process_id(here.as_fd(), 0).is_err(), "started after the connection");
        drop(there);
        assert!(by_process_id(here.as_fd(), ticks_now()).is_err(), "hung up");
    }
}
