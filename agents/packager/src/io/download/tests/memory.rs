//! Small files that go into memory: in the same tries, with the same digests, within what the process has for them.

use std::time::SystemTime;

use agents_contract::{Host, Job as Later, Order, Permit, Place, Undertaking, Wait, Work};

use super::*;
use crate::io::limits::{DOWNLOAD_IN_MEMORY_BYTES_MAX, DOWNLOADS_IN_MEMORY_BYTES_MAX};
use crate::io::testing::PlainHost;

impl Case {
    /// A request whose file may go into memory.
    fn held(&self, url: &Url, name: &str, content: &[u8]) -> DownloadRequest {
        DownloadRequest { slot: Some(Slot::default()), ..self.request(url, name, content) }
    }

    fn left(&self) -> u64 {
        self.client.session().shared.budget.left()
    }
}

fn taken(request: &DownloadRequest) -> Option<Vec<u8>> {
    request.slot.as_ref()?.take().map(|held| held.bytes().to_vec())
}

#[test]
fn a_small_file_is_laid_down_in_memory_and_gives_its_room_back() {
    let server = Server::start(|_| Reply::ok("good"));
    let case = Case::new();
    let request = case.held(&server.url(), "f", b"good");
    let results = case.download(std::slice::from_ref(&request)).expect("a file");
    assert_eq!((results[0].bytes, &results[0].hashes), (4, &request.hashes));
    assert!(case.files().is_empty(), "{:?}", case.files());
    assert_eq!(case.left(), DOWNLOADS_IN_MEMORY_BYTES_MAX - 4);
    assert_eq!(taken(&request).as_deref(), Some(&b"good"[..]));
    assert_eq!(case.left(), DOWNLOADS_IN_MEMORY_BYTES_MAX);
}

#[test]
fn what_is_large_or_does_not_say_its_size_goes_to_its_destination() {
    let large = vec![7; DOWNLOAD_IN_MEMORY_BYTES_MAX as usize + 1];
    let body = large.clone();
    let announced = Server::start(move |_| Reply::ok(body.clone()));
    let endless = Server::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ngood"));
    for (server, content) in [(&announced, &large[..]), (&endless, b"good")] {
        let case = Case::new();
        let request = case.held(&server.url(), "f", content);
        case.download(std::slice::from_ref(&request)).expect("a file");
        assert!(taken(&request).is_none());
        assert_eq!(std::fs::read(&request.destination).expect("a file"), content);
        assert_eq!(case.left(), DOWNLOADS_IN_MEMORY_BYTES_MAX);
    }
}

#[test]
fn where_no_room_is_left_for_the_process_it_goes_to_the_disk() {
    let server = Server::start(|_| Reply::ok("good"));
    let case = Case::new();
    // Another request's, of the same process.
    let other = case.client.with_request(case.world.request.clone());
    let budget = Arc::clone(&other.session().shared.budget);
    let room = budget.take(DOWNLOADS_IN_MEMORY_BYTES_MAX - 3).expect("all but three");
    let request = case.held(&server.url(), "f", b"good");
    case.download(std::slice::from_ref(&request)).expect("a file");
    assert!(taken(&request).is_none() && request.destination.exists());
    drop(room);
    let request = case.held(&server.url(), "g", b"good");
    case.download(std::slice::from_ref(&request)).expect("a file");
    assert!(taken(&request).is_some() && !request.destination.exists());
}

#[test]
fn passing_failures_and_broken_connections_are_ridden_out_in_memory_as_on_the_disk() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |seen| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::status(500),
        1 => Reply::raw("garbage"),
        2 => Reply::ok("good and more").truncated(4),
        _ => {
            assert_eq!(seen.header("range"), Some("bytes=4-"));
            Reply::ok(" and more").with_status(206).header("content-range", "bytes 4-12/13")
        }
    });
    let case = Case::new();
    let request = case.held(&server.url(), "f", b"good and more");
    case.download(std::slice::from_ref(&request)).expect("in the end");
    assert_eq!(taken(&request).as_deref(), Some(&b"good and more"[..]));
    assert_eq!(server.paths().len(), 4);
    for (status, tries) in [(404, 1), (500, 4)] {
        let server = Server::start(move |_| Reply::status(status));
        assert_eq!(case.fails(&case.held(&server.url(), "f", b"good")).code, "registry-error");
        assert_eq!(server.paths().len(), tries, "{status}");
    }
}

#[test]
fn a_second_answer_that_is_large_goes_on_on_the_disk() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok("beginning").truncated(4),
        _ => Reply::ok(content()),
    });
    let case = Case::new();
    let request = case.held(&server.url(), "f", &content());
    case.download(std::slice::from_ref(&request)).expect("in the end");
    assert!(taken(&request).is_none());
    assert_eq!(std::fs::read(&request.destination).expect("a file"), content());
}

#[test]
fn a_wrong_digest_is_refused_and_nobody_else_gets_the_bytes() {
    let server = Server::start(|_| Reply::ok("evil"));
    let case = Case::new();
    let request = case.held(&server.url(), "f", b"good");
    assert_eq!(case.fails(&request).code, "hash-mismatch");
    assert!(taken(&request).is_none());
    assert_eq!(case.left(), DOWNLOADS_IN_MEMORY_BYTES_MAX);
}

#[test]
fn one_failure_takes_along_what_is_in_memory() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/bad" => Reply::ok("bad").slow(Duration::from_millis(300)),
        _ => Reply::ok("good"),
    });
    let case = Case::new();
    let requests = [
        case.held(&server.at("/good"), "good", b"good"),
        case.held(&server.at("/bad"), "bad", b"good"),
    ];
    assert_eq!(case.download(&requests).expect_err("one is bad").code, "hash-mismatch");
    assert!(requests.iter().all(|request| taken(request).is_none()));
    assert_eq!(case.left(), DOWNLOADS_IN_MEMORY_BYTES_MAX);
}

#[test]
fn what_broke_off_on_the_disk_is_gone_on_with_there() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |seen| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok(content()).truncated(300_000),
        1 => Reply::status(404),
        _ => {
            assert_eq!(seen.header("range"), Some("bytes=300000-"));
            let range = format!("bytes 300000-{}/{}", content().len() - 1, content().len());
            Reply::ok(&content()[300_000..]).with_status(206).header("content-range", &range)
        }
    });
    let case = Case::new();
    let request = case.held(&server.url(), "f", &content());
    case.download(std::slice::from_ref(&request)).expect_err("gone");
    case.download(std::slice::from_ref(&request)).expect("the rest");
    assert_eq!(std::fs::read(&request.destination).expect("a file"), content());
}

/// Bytes of it that broke off.
const BEGUN: usize = 400_000;

impl Case {
    /// What another process does whose download of the same file breaks off.
    fn breaking_off(&self, request: &DownloadRequest) -> impl Fn() + Send + Sync + 'static {
        let directory = self.world.directory.path().join("cache/partial");
        let digest = request.hashes.sha512.clone().expect("a digest");
        move || {
            std::fs::create_dir_all(&directory).expect("a directory");
            let path = directory.join(format!("sha512-{digest}.part"));
            if !path.exists() {
                std::fs::write(path, &content()[..BEGUN]).expect("space");
            }
        }
    }
}

fn honest(seen: &crate::io::testing::Seen) -> Reply {
    match seen.header("range") {
        Some(range) => {
            assert_eq!(range, format!("bytes={BEGUN}-"));
            let range = format!("bytes {BEGUN}-{}/{}", content().len() - 1, content().len());
            Reply::ok(&content()[BEGUN..]).with_status(206).header("content-range", &range)
        }
        None => Reply::ok(content()),
    }
}

/// A host under which something else happens before a file's turn comes.
struct Meddler<F>(F);

impl<F: Fn() + Send + Sync> Host for Meddler<F> {
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        PlainHost.run(order, work, count, piece);
    }

    fn begin(&self, order: &Order, what: Undertaking, waits: &dyn Fn(Wait)) -> Option<Permit> {
        (self.0)();
        PlainHost.begin(order, what, waits)
    }

    fn settle(&self, work: Work) -> Place {
        PlainHost.settle(work)
    }

    fn later(&self, job: Later) {
        PlainHost.later(job);
    }

    fn now(&self) -> SystemTime {
        PlainHost.now()
    }
}

#[test]
fn what_breaks_off_elsewhere_before_its_turn_comes_is_gone_on_with() {
    let server = Server::start(honest);
    let mut case = Case::new();
    let request = case.held(&server.url(), "f", &content());
    case.client = case.world.client_of(Arc::new(Meddler(case.breaking_off(&request))));
    case.download(std::slice::from_ref(&request)).expect("the rest");
    assert_eq!(std::fs::read(&request.destination).expect("a file"), content());
    let asked: Vec<bool> = server.seen().iter().map(|it| it.header("range").is_some()).collect();
    assert_eq!(asked, [true], "only the rest came");
}

#[test]
fn what_breaks_off_elsewhere_while_it_is_asked_for_is_gone_on_with() {
    let case = Case::new();
    let others = Arc::new(Mutex::new(None::<Box<dyn Fn() + Send + Sync>>));
    let meddling = Arc::clone(&others);
    let server = Server::start(move |seen| {
        if let Some(breaks_off) = &*meddling.lock().expect("no panic") {
            breaks_off();
        }
        honest(seen)
    });
    let request = case.held(&server.url(), "f", &content());
    *others.lock().expect("no panic") = Some(Box::new(case.breaking_off(&request)));
    case.download(std::slice::from_ref(&request)).expect("the rest");
    assert_eq!(std::fs::read(&request.destination).expect("a file"), content());
    let seen = server.seen();
    assert_eq!(seen.len(), 2, "nothing of it was thrown away");
    assert!(seen[0].header("range").is_none() && seen[1].header("range").is_some());
}
