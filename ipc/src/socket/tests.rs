//! The socket: packets, descriptors, and who may listen where.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::*;

fn event() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
}

fn accept(listener: &Listener) -> Connection {
    // The client's connect has returned, so it is already waiting.
    listener.accept().unwrap().expect("a client is waiting")
}

#[test]
fn packet_arrives_with_its_descriptors_closed_on_exec() {
    let (here, there) = Connection::pair().unwrap();
    let (one, other) = std::io::pipe().unwrap();
    here.send(b"hello", &[one.as_fd(), other.as_fd()]).unwrap();
    let packet = there.receive().unwrap();
    assert_eq!(packet.bytes, b"hello");
    assert_eq!(packet.descriptors.len(), 2);
    assert!(same_file(packet.descriptors[0].as_fd(), one.as_fd()).unwrap());
    let flags = rustix::io::fcntl_getfd(&packet.descriptors[1]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn empty_socket_without_blocking_says_so() {
    let (here, there) = Connection::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    assert!(matches!(here.receive(), Err(ReceiveError::WouldBlock)));
    drop(there);
    assert!(matches!(here.receive(), Err(ReceiveError::Closed)));
}

#[test]
fn full_socket_without_blocking_says_so() {
    let (here, _there) = Connection::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    let packet = vec![7; PACKET_BYTES_MAX];
    let error = (0..1000).find_map(|_| here.send(&packet, &[]).err()).expect("it fills up");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn excess_descriptors_are_an_error_and_closed() {
    let (here, there) = Connection::pair().unwrap();
    let (reading, writing) = std::io::pipe().unwrap();
    let count = DESCRIPTORS_PER_PACKET_MAX + 3;
    let descriptors = vec![writing.as_fd(); count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)));
    net::sendmsg(here.as_fd(), &[IoSlice::new(b"x")], &mut beside, SendFlags::empty()).unwrap();
    assert!(matches!(there.receive(), Err(ReceiveError::TooManyDescriptors)));
    // The pipe reports its end only when every copy of the writing side is closed.
    drop(writing);
    assert_eq!(std::io::read_to_string(reading).unwrap(), "");
}

#[test]
fn oversized_packet_is_an_error() {
    let (here, there) = Connection::pair().unwrap();
    let bytes = vec![1; PACKET_BYTES_MAX + 1];
    net::send(here.as_fd(), &bytes, SendFlags::empty()).unwrap();
    assert!(matches!(there.receive(), Err(ReceiveError::TooLong)));
}

#[test]
fn client_and_listener_meet_and_the_socket_is_private() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("bolide");
    let listener = Listener::bind(&directory, "bus").unwrap();
    let path = directory.join("bus");
    assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert!(listener.accept().unwrap().is_none());
    let client = Connection::connect(&path).unwrap();
    let server = accept(&listener);
    client.send(b"ping", &[event().as_fd()]).unwrap();
    assert_eq!(server.receive().unwrap().descriptors.len(), 1);
    assert_eq!(server.peer_credentials().unwrap().pid, std::process::id());
    assert!(server.peer_process().is_ok());
    drop(listener);
    assert!(!path.exists());
    assert!(matches!(Connection::connect(&path), Err(ConnectError::Nobody { .. })));
}

#[test]
fn long_directory_is_no_obstacle() {
    let place = tempfile::tempdir().unwrap();
    let deep = place.path().join("d".repeat(150));
    let _listener = Listener::bind(&deep, "bus").unwrap();
    assert!(Connection::connect(&deep.join("bus")).is_ok());
}

#[test]
fn second_listener_is_refused_while_the_first_lives() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("bolide");
    let first = Listener::bind(&directory, "bus").unwrap();
    assert!(matches!(Listener::bind(&directory, "bus"), Err(BindError::InUse { .. })));
    drop(first);
    assert!(Listener::bind(&directory, "bus").is_ok());
}

#[test]
fn stale_socket_is_replaced_and_an_answering_one_is_not() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("bolide");
    drop(private_directory(&directory).unwrap());
    // A listener of another make, without our lock.
    let other = std::os::unix::net::UnixListener::bind(directory.join("bus")).unwrap();
    assert!(matches!(Listener::bind(&directory, "bus"), Err(BindError::InUse { .. })));
    drop(other);
    assert!(directory.join("bus").exists(), "left over");
    assert!(Listener::bind(&directory, "bus").is_ok());
}

#[test]
fn open_directory_symlink_and_plain_file_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let open = place.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o750)).unwrap();
    assert!(matches!(Listener::bind(&open, "bus"), Err(BindError::Mode { mode: 0o750, .. })));

    let real = place.path().join("real");
    drop(private_directory(&real).unwrap());
    let link = place.path().join("link");
    symlink(&real, &link).unwrap();
    assert!(matches!(Listener::bind(&link, "bus"), Err(BindError::Directory { .. })));

    std::fs::write(real.join("bus"), "").unwrap();
    assert!(matches!(Listener::bind(&real, "bus"), Err(BindError::NoSocket { .. })));
}

#[test]
fn server_of_another_user_gets_no_token() {
    let place = tempfile::tempdir().unwrap();
    let _listener = Listener::bind(&place.path().join("bolide"), "bus").unwrap();
    let path = place.path().join("bolide/bus");
    let result = Connection::connect_to_user(&path, u32::MAX - 1);
    assert!(matches!(result, Err(ConnectError::OtherUser { .. })));
}

/// Set where the test may take all descriptors of its process away.
const ALONE: &str = "BOLIDE_TEST_ALONE";

/// Whether the test goes on here; otherwise it has done so in a process of its own.
pub(crate) fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn a_receiver_without_descriptors_does_not_blame_the_sender() {
    if !is_alone("socket::tests::a_receiver_without_descriptors_does_not_blame_the_sender") {
        return;
    }
    let (here, there) = Connection::pair().unwrap();
    let (reading, writing) = std::io::pipe().unwrap();
    let full = getrlimit(Resource::Nofile);
    for room in 0..3 {
        here.send(b"three", &[writing.as_fd(), writing.as_fd(), writing.as_fd()]).unwrap();
        here.send(b"none", &[]).unwrap();
        // The next free number is the first that is not to be had, but for so many.
        let next = there.as_fd().try_clone_to_owned().unwrap();
        let current = Some(std::os::fd::AsRawFd::as_raw_fd(&next) as u64 + room);
        drop(next);
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current, ..full }).unwrap();
        let received = there.receive();
        let after = there.receive();
        setrlimit(Resource::Nofile, full).unwrap();
        match received {
            Err(ReceiveError::NoDescriptorsLeft { bytes }) => assert_eq!(bytes, b"three"),
            other => panic!("{room}: {other:?}"),
        }
        assert_eq!(after.unwrap().bytes, b"none", "the connection goes on");
    }
    // Those that found room were closed.
    drop(writing);
    assert_eq!(std::io::read_to_string(reading).unwrap(), "");
}
