//! What somebody would try who has taken the process over that reads archives. Compiled into tests alone.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, Rlimit};

/// Makes one attempt, `what` or `what:where`; says what came of it. Some do not come back.
pub(super) fn make(attempt: &str) -> String {
    let (what, place) = attempt.split_once(':').unwrap_or((attempt, ""));
    let came = match what {
        "read" => std::fs::read(place).map(drop),
        "write" => std::fs::write(place, "written"),
        "append" => append(place),
        "make-directory" => std::fs::create_dir(place),
        "remove" => std::fs::remove_file(place),
        "rename" => std::fs::rename(place, format!("{place}.renamed")),
        "link" => std::fs::hard_link(place, format!("{place}.linked")),
        "symlink" => std::os::unix::fs::symlink("/", place),
        "list" => std::fs::read_dir(place).map(drop),
        "change-mode" => change_mode(place),
        "tcp" => TcpStream::connect("127.0.0.1:9").map(drop),
        "unix" => UnixStream::connect(place).map(drop),
        "start" => Command::new("/bin/true").spawn().map(drop),
        "become" => Err(Command::new("/bin/true").exec()),
        "thread" => std::thread::Builder::new().spawn(|| ()).map(drop),
        "trace" => ipc::confined::try_to_trace(place.parse().expect("a number")),
        "signal" => rustix::process::test_kill_process(process(place)).map_err(Into::into),
        "unlimit" => unlimit(),
        "memory-file" => rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty())
            .map(drop)
            .map_err(Into::into),
        "panic" => panic!("as a broken reader would"),
        "abort" => std::process::abort(),
        "allocate" => allocate(),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "hang" => loop {
            std::thread::park();
        },
        "say" => say(place),
        _ => Err(io::Error::other("no such attempt")),
    };
    match came {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn process(number: &str) -> rustix::process::Pid {
    let number = number.parse().expect("a number");
    rustix::process::Pid::from_raw(number).expect("a process")
}

fn append(place: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND;
    rustix::fs::openat(CWD, place, flags, Mode::empty()).map(drop).map_err(Into::into)
}

fn change_mode(place: &str) -> io::Result<()> {
    rustix::fs::chmodat(CWD, place, Mode::RWXU, rustix::fs::AtFlags::empty()).map_err(Into::into)
}

fn unlimit() -> io::Result<()> {
    let more = Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(Resource::Data, more).map_err(Into::into)
}

/// More than it may have.
fn allocate() -> io::Result<()> {
    let room: Vec<u8> = Vec::with_capacity(3 << 30);
    std::hint::black_box(room);
    Ok(())
}

/// Answers with bytes of its own, in hexadecimal.
fn say(hexadecimal: &str) -> io::Result<()> {
    let digit = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..hexadecimal.len()).step_by(2).map(digit).collect();
    super::send(&bytes.map_err(io::Error::other)?).map_err(|_| io::ErrorKind::BrokenPipe.into())
}
