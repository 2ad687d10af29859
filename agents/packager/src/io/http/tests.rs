//! Requests against servers that misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};

use std::time::Duration;

use super::*;
use crate::ecosystem::Ecosystem;
use crate::io::Client;
use crate::io::limits::ATTEMPTS_MAX;
use crate::io::secret::{Credential, Scope};
use crate::io::testing::{Reply as Served, Server, World};

fn http() -> (Client, Http) {
    let client = World::new().client();
    let http = client
        .session()
        .http(Ecosystem::Npm, &Default::default(), Default::default())
        .expect("connections");
    (client, http)
}

fn credentials(url: &Url) -> Credentials {
    let mut credentials = Credentials::default();
    credentials.add(Scope::beneath(url).expect("a host"), Credential::bearer("hush"));
    credentials
}

fn get(url: &Url, credentials: Option<&Credentials>, bytes_max: usize) -> Result<Reply> {
    let (client, http) = http();
    let urgency = Urgency::default();
    urgency.demand();
    let request = Request::new(url.clone(), credentials, bytes_max);
    client
        .session()
        .shared
        .threads
        .questions()
        .expect("threads")
        .block_on(http.get(&request, &urgency))
}

fn code(result: Result<Reply>) -> String {
    let error = result.expect_err("a failure");
    assert_eq!(error.kind, crate::error::Kind::Network);
    error.code
}

/// Fails with the given answers first, then succeeds.
fn flaky(failures: Vec<Served>) -> (Server, std::sync::Arc<AtomicUsize>) {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&count);
    let server = Server::start(move |_| {
        let index = counter.fetch_add(1, Ordering::Relaxed);
        failures.get(index).cloned().unwrap_or_else(|| Served::ok("fine"))
    });
    (server, count)
}

#[test]
fn a_passing_failure_is_ridden_out() {
    let failures = [
        vec![Served::status(500), Served::status(503).header("retry-after", "0")],
        vec![Served::status(429), Served::raw("")],
        vec![Served::ok("fine").truncated(2)],
        vec![Served::raw("no http at all\r\n\r\n")],
    ];
    for failures in failures {
        let expected = failures.len() + 1;
        let (server, count) = flaky(failures);
        let reply = get(&server.url(), None, 100).expect("an answer in the end");
        assert_eq!(&reply.body[..], b"fine");
        assert_eq!(count.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn a_lasting_failure_ends() {
    let server = Server::start(|_| Served::status(500));
    assert_eq!(code(get(&server.url(), None, 100)), "registry-error");
    assert_eq!(server.paths().len(), ATTEMPTS_MAX as usize);
}

#[test]
fn a_long_pause_is_not_waited_for() {
    let server = Server::start(|_| Served::status(429).header("retry-after", "3600"));
    assert_eq!(code(get(&server.url(), None, 100)), "registry-error");
    assert_eq!(server.paths().len(), 1);
}

#[test]
fn nobody_there_is_unreachable() {
    let url = Server::start(|_| Served::status(500)).url();
    // The server is gone; its port refuses now.
    let error = get(&url, None, 100).expect_err("nobody there");
    assert_eq!(error.code, "registry-unreachable");
    assert!(error.retry && error.hint.is_some());
    assert!(error.message.contains(url.as_str()), "{error}");
}

#[test]
fn a_silent_server_is_unreachable() {
    let server = Server::start(|_| Served::ok(vec![b'x'; 4096]).slow(Duration::from_secs(60)));
    let (client, http) = http();
    let request = Request::new(server.url(), None, 10_000);
    let result = client
        .session()
        .shared
        .threads
        .questions()
        .expect("threads")
        .block_on(http.attempt(&request));
    assert!(
        matches!(
            result,
            Err(Failure::TooSlow { .. } | Failure::BrokenOff { .. } | Failure::Unreachable { .. })
        ),
        "{result:?}"
    );
}

#[test]
fn a_slow_server_is_waited_for() {
    let server = Server::start(|_| Served::ok(vec![b'x'; 8192]).slow(Duration::from_millis(20)));
    assert_eq!(get(&server.url(), None, 10_000).expect("all of it").body.len(), 8192);
}

#[test]
fn a_huge_answer_is_refused() {
    let huge = Server::start(|_| Served::ok(vec![b'x'; 20_000]));
    assert_eq!(code(get(&huge.url(), None, 10_000)), "registry-nonsense");
    let unannounced = Server::start(|_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        bytes.resize(20_000, b'x');
        Served::raw(bytes)
    });
    assert_eq!(code(get(&unannounced.url(), None, 10_000)), "registry-nonsense");
    assert_eq!(unannounced.paths().len(), 1);
}

#[test]
fn a_small_answer_that_unpacks_to_a_huge_one_is_refused() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 10_000_000]).expect("in memory");
    let bomb = encoder.finish().expect("in memory");
    let server =
        Server::start(move |_| Served::ok(bomb.clone()).header("content-encoding", "gzip"));
    assert_eq!(code(get(&server.url(), None, 100_000)), "registry-nonsense");
}

#[test]
fn a_credential_stays_at_its_host() {
    let other = Server::start(|_| Served::ok("fine"));
    let target = other.at("/elsewhere").to_string();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/away" => Served::redirect(&target),
        "/near" => Served::redirect("/here"),
        _ => Served::ok("fine"),
    });
    let credentials = credentials(&server.url());
    for path in ["/away", "/near"] {
        get(&server.at(path), Some(&credentials), 100).expect("an answer");
    }
    assert_eq!(other.seen()[0].header("authorization"), None);
    let sent: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(sent, [true, true, true]);
}

#[test]
fn a_dropped_credential_does_not_come_back() {
    let home = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let back = std::sync::Arc::clone(&home);
    let other = Server::start(move |_| Served::redirect(&back.lock().expect("no panic")));
    let target = other.url().to_string();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/away" => Served::redirect(&target),
        _ => Served::ok("fine"),
    });
    *home.lock().expect("no panic") = server.at("/back").to_string();
    get(&server.at("/away"), Some(&credentials(&server.url())), 100).expect("an answer");
    assert_eq!(server.paths(), ["/away", "/back"]);
    assert_eq!(server.seen()[1].header("authorization"), None);
}

#[test]
fn a_credential_leaves_its_path_only_without_itself() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/npm/a" => Served::redirect("/other/a"),
        _ => Served::ok("fine"),
    });
    get(&server.at("/npm/a"), Some(&credentials(&server.at("/npm/"))), 100).expect("an answer");
    assert_eq!(server.seen()[1].header("authorization"), None);
}

#[test]
fn bad_redirects_are_refused() {
    for target in ["file:///etc/passwd", "ftp://x/", "http://", "", "/loop"] {
        let server = Server::start(move |_| Served::redirect(target));
        let error = get(&server.url(), None, 100).expect_err("refused");
        assert_eq!(error.code, "registry-nonsense", "{target}");
    }
    let secure = Url::parse("https://r.example.invalid/a").expect("an address");
    let mut headers = HeaderMap::new();
    headers.insert(LOCATION, HeaderValue::from_static("http://r.example.invalid/a"));
    assert!(redirect_target(&secure, &headers).is_err());
    headers.insert(LOCATION, HeaderValue::from_static("https://me:hush@r.example.invalid/b"));
    assert_eq!(
        redirect_target(&secure, &headers).expect("fine").as_str(),
        "https://r.example.invalid/b"
    );
}

#[test]
fn errors_hold_no_secrets() {
    let url = Server::start(|_| Served::status(500)).url();
    let secret = Url::parse(&format!("http://me:hush@{}/a?token=hush#hush", url.authority()))
        .expect("an address");
    let error = get(&secret, None, 100).expect_err("nobody there");
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    let server = Server::start(|_| Served::status(401));
    let secret = Url::parse(&format!("http://me:hush@{}/a?token=hush", server.url().authority()))
        .expect("an address");
    let error = get(&secret, None, 100).expect("an answer").unexpected();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
}
