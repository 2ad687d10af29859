//! `serve --mirror`: another host gets what a digest names, from a process of its own that listens where it was said and nowhere
//! else.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use super::world::{Daemon, Options, eventually, signal};

const NONE: Options = Options { hosted: "", dev: false, drain_seconds: 10, routed: "" };

/// An address that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The ports at which a process listens.
fn listens(pid: u32) -> BTreeSet<u16> {
    let sockets = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let sockets = sockets.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets: BTreeSet<String> = sockets
        .filter_map(|link| {
            Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').into())
        })
        .collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[3] == "0A" && sockets.contains(words[9]) {
                let port = words[1].rsplit(':').next().unwrap();
                ports.insert(u16::from_str_radix(port, 16).unwrap());
            }
        }
    }
    ports
}

#[test]
fn a_mirror_serves_from_a_process_of_its_own_and_comes_back() {
    let address = free();
    let mut daemon = Daemon::start_with(&NONE, &[("BOLIDE_MIRROR_ADDR", &address.to_string())]);
    let digest = "ab".repeat(64);
    let state = daemon.state_dir();
    let archives = state.parent().unwrap().join(".cache/bolide/store/archives/ab");
    let pid = daemon.agent_pid("mirror");
    std::fs::create_dir_all(&archives).unwrap();
    std::fs::write(archives.join(format!("sha512-{}", &digest[2..])), "an artefact").unwrap();
    let path = format!("/v1/sha512/{digest}");
    let is_served = || get(address, &path).is_some_and(|answer| answer.ends_with("an artefact"));
    eventually("it is served", is_served);
    assert_eq!(listens(pid), BTreeSet::from([address.port()]));
    assert!(!listens(daemon.pid()).contains(&address.port()));
    assert!(get(address, "/v1/").unwrap().starts_with("HTTP/1.1 404"));
    signal(pid, Signal::KILL);
    eventually("another one is there", || {
        daemon.agent("mirror").is_some_and(|agent| agent["pid"].as_u64() != Some(pid.into()))
    });
    eventually("it serves", is_served);
    signal(daemon.pid(), Signal::TERM);
    assert_eq!(daemon.wait(), Some(0));
    assert!(get(address, &path).is_none(), "nobody listens any more");
}

#[test]
fn without_a_word_nothing_is_mirrored_and_no_other_address_is_taken() {
    let daemon = Daemon::start(&NONE);
    assert!(daemon.agent("mirror").is_none());
    for wrong in ["127.0.0.1:0", "localhost:8002", "8002", ""] {
        let (code, _, error) = daemon.run(&["serve", "--mirror", wrong]);
        assert_eq!(code, Some(2), "{wrong}: {error}");
    }
}
