//! The socket of the control plane: one SEQPACKET Unix socket in a private directory; packets with descriptors.
//!
//! Not here: what the packets mean (`control`). Everything works without blocking when asked to, and gives its
//! descriptor, so that an event loop can drive it.
//!
//! Safety of the place: the directory belongs to this user and nobody else may enter it; a lock file beside the socket
//! is held for as long as the listener lives, so two starters never replace each other's socket; a client checks the
//! server's user before it says anything.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use thiserror::Error;

use crate::limits::{
    DESCRIPTORS_PER_PACKET_MAX, DESCRIPTORS_RECEIVED_MAX, PACKET_BYTES_MAX, SOCKET_BACKLOG,
};
use crate::peer::{self, Credentials};

#[cfg(test)]
pub(crate) mod tests;

/// Accepts clients. Removes its socket when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    directory: OwnedFd,
    name: String,
    /// Device and inode of the socket in the directory.
    identity: (u64, u64),
    /// Held, not used: says that somebody listens here.
    _lock: OwnedFd,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    connected_ticks: u64,
}

/// One packet and the descriptors beside it.
#[derive(Debug)]
pub struct Packet {
    /// At most `PACKET_BYTES_MAX`.
    pub bytes: Vec<u8>,
    /// At most `DESCRIPTORS_PER_PACKET_MAX`, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Why nobody can listen at a place.
#[derive(Debug, Error)]
pub enum BindError {
    /// The directory cannot be made or opened.
    #[error("cannot use the runtime directory `{}`", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory belongs to another user.
    #[error("the runtime directory `{}` belongs to user {owner}, expected {expected}", path.display())]
    Owner {
        /// Which directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's user.
        expected: u32,
    },
    /// Others may enter the directory.
    #[error("the runtime directory `{}` is open to others: mode is {mode:03o}, expected 700", path.display())]
    Mode {
        /// Which directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process listens there.
    #[error("another process already listens at `{}`", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has its name.
    #[error("`{}` exists and is no socket", path.display())]
    NoSocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen at `{}`", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a server cannot be reached.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("nobody listens at `{}`", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
    },
    /// The server runs as another user, so it must not see a token.
    #[error("the server at `{}` runs as user {uid}, expected {expected}", path.display())]
    OtherUser {
        /// The socket.
        path: PathBuf,
        /// The server's user.
        uid: u32,
        /// Whom the caller trusts.
        expected: u32,
    },
    /// Another failure.
    #[error("cannot connect to `{}`", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why no packet was received.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// Nothing is there at the moment (only without blocking).
    #[error("no packet is waiting")]
    WouldBlock,
    /// The other side closed the connection or died.
    #[error("the connection is closed")]
    Closed,
    /// The packet is longer than the protocol allows.
    #[error("packet is too long: more than {PACKET_BYTES_MAX} bytes")]
    TooLong,
    /// More descriptors than the protocol allows; all were closed.
    #[error("too many descriptors beside a packet: more than {DESCRIPTORS_PER_PACKET_MAX}")]
    TooManyDescriptors,
    /// This process had no room for the descriptors beside a packet. The sender did nothing wrong; those that found room were
    /// closed.
    #[error("this process has no descriptors left for those beside a packet")]
    NoDescriptorsLeft {
        /// What the packet said.
        bytes: Vec<u8>,
    },
    /// Another failure.
    #[error("cannot receive")]
    Io(#[from] io::Error),
}

/// Makes the directory if it is missing (mode 700, its parent must exist) and checks that it is private to this user.
pub fn private_directory(path: &Path) -> Result<OwnedFd, BindError> {
    let failed =
        |errno: Errno| BindError::Directory { path: path.to_owned(), source: errno.into() };
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let status = rustix::fs::fstat(&directory).map_err(failed)?;
    let expected = rustix::process::geteuid().as_raw();
    if status.st_uid != expected {
        return Err(BindError::Owner { path: path.to_owned(), owner: status.st_uid, expected });
    }
    let mode = status.st_mode & 0o777;
    if mode & 0o077 != 0 {
        return Err(BindError::Mode { path: path.to_owned(), mode });
    }
    Ok(directory)
}

impl Listener {
    /// Listens at `name` in the private directory `directory`, which is made if it is missing. A socket that is left
    /// from an earlier life is replaced only when nobody answers there.
    pub fn bind(directory: &Path, name: &str) -> Result<Self, BindError> {
        let path = directory.join(name);
        let held = private_directory(directory)?;
        let failed = |source: io::Error| BindError::Socket { path: path.clone(), source };
        let lock = lock_beside(&held, name, &path)?;
        remove_stale(&held, name, &path)?;
        let socket = new_socket(SocketFlags::NONBLOCK).map_err(failed)?;
        // The mode of the new directory entry is that of the socket's own inode, without a moment of openness.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed(errno.into()))?;
        let address = address_beneath(&held, name).map_err(failed)?;
        net::bind(&socket, &address).map_err(|errno| failed(errno.into()))?;
        net::listen(&socket, SOCKET_BACKLOG).map_err(|errno| failed(errno.into()))?;
        let entry = rustix::fs::statat(&held, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(errno.into()))?;
        let identity = (entry.st_dev, entry.st_ino);
        Ok(Self { socket, directory: held, name: name.to_owned(), identity, _lock: lock })
    }

    /// The next client, or nothing when none is waiting. The connection is without blocking.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        match net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Ok(Some(Connection::new(socket))),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let name = self.name.as_str();
        let entry = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
        if entry.is_ok_and(|entry| (entry.st_dev, entry.st_ino) == self.identity) {
            // Nothing to tell anybody when it fails: the next listener replaces it.
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}

impl Connection {
    /// Connects to the socket at `path` and makes sure that the server runs as this process's own user. Blocking.
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        Self::connect_to_user(path, rustix::process::geteuid().as_raw())
    }

    /// Like [`Connection::connect`], for a server that runs as `expected`.
    pub fn connect_to_user(path: &Path, expected: u32) -> Result<Self, ConnectError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ConnectError::Nobody { path: path.to_owned() }
            }
            _ => ConnectError::Io { path: path.to_owned(), source },
        };
        let socket = new_socket(SocketFlags::empty()).map_err(failed)?;
        connect_path(&socket, path).map_err(failed)?;
        let connection = Self::new(socket);
        let uid = connection.peer_credentials().map_err(failed)?.uid;
        if uid != expected {
            return Err(ConnectError::OtherUser { path: path.to_owned(), uid, expected });
        }
        Ok(connection)
    }

    /// Two connected ends, both blocking: for tests, and for a child that inherits one.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(one), Self::new(other)))
    }

    fn new(socket: OwnedFd) -> Self {
        Self { socket, connected_ticks: peer::ticks_now() }
    }

    /// Sends one packet with descriptors. Without blocking, a full socket gives `WouldBlock` and nothing is sent.
    ///
    /// # Panics
    /// When `packet` is empty or too long, or there are too many descriptors: the codec never makes such.
    pub fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        assert!(!packet.is_empty() && packet.len() <= PACKET_BYTES_MAX, "packet out of bounds");
        assert!(descriptors.len() <= DESCRIPTORS_PER_PACKET_MAX, "too many descriptors");
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PACKET_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let pushed = beside.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(pushed, "the space is that of the largest number of descriptors");
        }
        let sent = rustix::io::retry_on_intr(|| {
            net::sendmsg(&self.socket, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL)
        })?;
        debug_assert_eq!(sent, packet.len(), "a SEQPACKET socket sends a packet whole");
        Ok(())
    }

    /// Receives one packet with its descriptors.
    pub fn receive(&self) -> Result<Packet, ReceiveError> {
        self.receive_or_discard(drop)
    }

    /// The same; descriptors beside a packet that is refused are given to `discard`, because closing one may wait for as long
    /// as its maker likes.
    pub fn receive_or_discard(
        &self,
        discard: impl FnOnce(Vec<OwnedFd>),
    ) -> Result<Packet, ReceiveError> {
        let mut buffer = [0u8; PACKET_BYTES_MAX];
        // Place for all that the kernel passes on at once: what has none it would close here, and it would say so in the same
        // way as that there is no room in this process.
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_RECEIVED_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            net::recvmsg(&self.socket, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Err(ReceiveError::WouldBlock),
            Err(Errno::CONNRESET | Errno::PIPE) => return Err(ReceiveError::Closed),
            Err(errno) => return Err(ReceiveError::Io(errno.into())),
        };
        let mut descriptors = Vec::with_capacity(DESCRIPTORS_PER_PACKET_MAX);
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let refused = if descriptors.len() > DESCRIPTORS_PER_PACKET_MAX {
            Some(ReceiveError::TooManyDescriptors)
        } else if received.flags.contains(ReturnFlags::TRUNC) {
            Some(ReceiveError::TooLong)
        } else if received.flags.contains(ReturnFlags::CTRUNC) {
            let bytes = buffer.get(..received.bytes).unwrap_or_default().to_vec();
            Some(ReceiveError::NoDescriptorsLeft { bytes })
        } else {
            None
        };
        if let Some(refused) = refused {
            discard(descriptors);
            return Err(refused);
        }
        match buffer.get(..received.bytes) {
            Some(bytes) if !bytes.is_empty() => Ok(Packet { bytes: bytes.to_vec(), descriptors }),
            _ => Err(ReceiveError::Closed),
        }
    }

    /// Chooses whether `send` and `receive` wait.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, nonblocking)?)
    }

    /// Who is at the other end, as the kernel says.
    pub fn peer_credentials(&self) -> io::Result<Credentials> {
        peer::credentials(self.as_fd())
    }

    /// A descriptor of the process at the other end: readable when it has ended.
    pub fn peer_process(&self) -> io::Result<OwnedFd> {
        peer::process(self.as_fd(), self.connected_ticks)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        connection.socket
    }
}

impl From<OwnedFd> for Connection {
    /// Takes over an inherited, connected socket.
    fn from(socket: OwnedFd) -> Self {
        Self::new(socket)
    }
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// An address through `/proc/self/fd`: however long the directory's path is, it fits into the 108 bytes.
fn address_beneath(directory: &OwnedFd, name: &str) -> io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    Ok(SocketAddrUnix::new(path)?)
}

fn connect_path(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok(net::connect(socket, &address)?);
    }
    let (Some(parent), Some(name)) =
        (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())?;
    Ok(net::connect(socket, &address_beneath(&directory, name)?)?)
}

fn lock_beside(directory: &OwnedFd, name: &str, path: &Path) -> Result<OwnedFd, BindError> {
    let failed = |errno: Errno| BindError::Socket { path: path.to_owned(), source: errno.into() };
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock_name = format!("{name}.lock");
    let lock = rustix::fs::openat(directory, &lock_name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(failed)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(BindError::InUse { path: path.to_owned() }),
        Err(errno) => Err(failed(errno)),
    }
}

fn remove_stale(directory: &OwnedFd, name: &str, path: &Path) -> Result<(), BindError> {
    let failed = |source: io::Error| BindError::Socket { path: path.to_owned(), source };
    let entry = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(entry) => entry,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    if FileType::from_raw_mode(entry.st_mode) != FileType::Socket {
        return Err(BindError::NoSocket { path: path.to_owned() });
    }
    let probe = new_socket(SocketFlags::NONBLOCK).map_err(failed)?;
    let address = address_beneath(directory, name).map_err(failed)?;
    match net::connect(&probe, &address) {
        Err(Errno::CONNREFUSED) => {}
        // Somebody answers, or has so many waiting that it cannot at once; of whatever type its socket is.
        Ok(()) | Err(_) => return Err(BindError::InUse { path: path.to_owned() }),
    }
    rustix::fs::unlinkat(directory, name, AtFlags::empty()).map_err(|errno| failed(errno.into()))
}

/// Whether two descriptors are the same file; for tests and for callers that compare what they were handed.
pub fn same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let file = |descriptor: BorrowedFd<'_>| -> io::Result<(u64, u64)> {
        let file = std::fs::File::from(descriptor.try_clone_to_owned()?);
        let metadata = file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    };
    Ok(file(one)? == file(other)?)
}
