//! Downloads from servers that misbehave.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use agents_contract::{Host, Obstacle, Order, Place, Undertaking, Wait, Work};
use ring::digest::{SHA256, SHA512};

use super::*;
use crate::hex::hex;
use crate::io::limits::WRITE_CHUNK_BYTES;
use crate::io::testing::{PlainHost, Reply, Server, World};

mod guesses;
mod memory;
mod mirrors;
mod parts;

struct Case {
    world: World,
    client: Client,
}

impl Case {
    fn new() -> Self {
        let world =
            World::with("pypi", &Url::parse("http://i.example.invalid/").expect("an address"));
        let client = world.client();
        Self { world, client }
    }

    fn request(&self, url: &Url, name: &str, content: &[u8]) -> DownloadRequest {
        let digest = |algorithm| Some(hex(ring::digest::digest(algorithm, content).as_ref()));
        DownloadRequest {
            ecosystem: Ecosystem::Pypi,
            source: None,
            url: url.to_string(),
            hashes: Hashes { sha256: digest(&SHA256), sha512: digest(&SHA512) },
            destination: self.world.directory.path().join(name),
            slot: None,
            bytes_max: None,
            is_guess: false,
        }
    }

    /// The same where the address is a guess.
    fn guess(&self, url: &Url, name: &str, content: &[u8]) -> DownloadRequest {
        DownloadRequest { is_guess: true, ..self.request(url, name, content) }
    }

    fn download(&self, requests: &[DownloadRequest]) -> Result<Vec<Downloaded>> {
        self.client.download(requests, Durability::Buffered, &Order::default(), &mut |_| {})
    }

    /// The files that are there, without those of the world.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.world.directory.path()).expect("a directory");
        let files = entries.flatten().filter(|entry| entry.path().is_file());
        files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn fails(&self, request: &DownloadRequest) -> Error {
        let error = self.download(std::slice::from_ref(request)).expect_err("a failure");
        assert!(self.files().is_empty(), "{:?}", self.files());
        error
    }
}

fn content() -> Vec<u8> {
    (0..700_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn many_files_arrive_verified_and_are_told_of() {
    let server = Server::start(|seen| Reply::ok(seen.path.repeat(1000)));
    let case = Case::new();
    let requests: Vec<DownloadRequest> = (0..50)
        .map(|index| {
            case.request(
                &server.at(&format!("/{index}")),
                &format!("f{index}"),
                format!("/{index}").repeat(1000).as_bytes(),
            )
        })
        .collect();
    let mut done = 0;
    let order = Order::default();
    let results = case.client.download(&requests, Durability::Synced, &order, &mut |told| {
        let Told::File(progress) = told else { panic!("{told:?}") };
        assert_eq!(progress.file_name, format!("f{}", progress.index));
        done += usize::from(progress.done);
    });
    let results = results.expect("all of them");
    assert_eq!((results.len(), done, case.files().len()), (50, 50, 50));
    assert_eq!(results[7].bytes, 2000);
    assert_eq!(results[7].hashes, requests[7].hashes);
    assert_eq!(
        std::fs::read(&requests[7].destination).expect("a file"),
        "/7".repeat(1000).into_bytes()
    );
}

#[test]
fn a_wrong_hash_of_either_kind_leaves_nothing() {
    let server = Server::start(|_| Reply::ok("evil"));
    let case = Case::new();
    let url = Url::parse(&format!("{}?token=hush", server.at("/x"))).expect("an address");
    for strip in [0, 1, 2] {
        let mut request = case.request(&url, "f", b"good");
        match strip {
            0 => request.hashes.sha256 = None,
            1 => request.hashes.sha512 = None,
            // One right, one wrong.
            _ => request.hashes.sha256 = case.request(&url, "f", b"evil").hashes.sha256,
        }
        let error = case.fails(&request);
        assert_eq!((error.kind, error.code.as_str()), (Kind::Verification, "hash-mismatch"));
        assert!(
            error.message.contains("expected sha")
                && error.message.contains("/x")
                && !error.message.contains("hush"),
            "{error}"
        );
    }
    assert_eq!(server.paths().len(), 3);
}

#[test]
fn a_file_without_a_strong_hash_is_not_fetched() {
    let server = Server::start(|_| Reply::ok("x"));
    let case = Case::new();
    let mut request = case.request(&server.url(), "f", b"x");
    request.hashes = Hashes::default();
    assert_eq!(case.fails(&request).code, "hash-missing");
    assert!(server.paths().is_empty());
}

/// Breaks off twice; serves the rest where the range fits.
fn breaking(content: Vec<u8>, ranges: bool, etag: Option<&'static str>) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |seen| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        let from = seen.header("range").and_then(|range| {
            range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        });
        let mut reply = match from.filter(|_| ranges) {
            Some(from) => Reply::ok(&content[from..]).with_status(206).header(
                "content-range",
                &format!("bytes {from}-{}/{}", content.len() - 1, content.len()),
            ),
            None => Reply::ok(content.clone()),
        };
        if let Some(etag) = etag {
            reply = reply.header("etag", etag);
        }
        if count < 2 { reply.truncated(300_000 / (count + 1)) } else { reply }
    })
}

#[test]
fn a_broken_connection_is_resumed() {
    for (ranges, etag) in
        [(true, None), (true, Some("\"x\"")), (true, Some("W/\"x\"")), (false, None)]
    {
        let server = breaking(content(), ranges, etag);
        let case = Case::new();
        let request = case.request(&server.url(), "f", &content());
        let results = case.download(&[request]).expect("in the end");
        assert_eq!(results[0].bytes, 700_000);
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[1].header("range"), Some("bytes=300000-"));
        assert_eq!(seen[1].header("if-range"), etag.filter(|etag| !etag.starts_with('W')));
    }
}

#[test]
fn a_wrong_part_is_refused() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok(content()).truncated(300_000),
        _ => Reply::ok("x").with_status(206).header("content-range", "bytes 5-5/700000"),
    });
    let case = Case::new();
    assert_eq!(case.fails(&case.request(&server.url(), "f", &content())).code, "registry-nonsense");
}

#[test]
fn passing_failures_are_ridden_out_and_lasting_ones_end() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::status(500),
        1 => Reply::raw("garbage"),
        _ => Reply::ok("good"),
    });
    let case = Case::new();
    case.download(&[case.request(&server.url(), "f", b"good")]).expect("in the end");
    let case = Case::new();
    for (status, code) in
        [(404, "registry-error"), (403, "registry-error"), (500, "registry-error")]
    {
        let server = Server::start(move |_| Reply::status(status));
        assert_eq!(case.fails(&case.request(&server.url(), "f", b"good")).code, code);
    }
    let gone = Server::start(|_| Reply::status(404)).url();
    assert_eq!(case.fails(&case.request(&gone, "f", b"good")).code, "registry-unreachable");
}

#[test]
fn a_larger_file_than_allowed_is_refused() {
    let case = Case::new();
    let announced = Server::start(|_| Reply::ok(content()));
    let endless = Server::start(|_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        bytes.extend(content());
        Reply::raw(bytes)
    });
    for server in [announced, endless] {
        let mut request = case.request(&server.url(), "f", &content());
        request.bytes_max = Some(1000);
        assert_eq!(case.fails(&request).code, "registry-nonsense");
        assert_eq!(server.paths().len(), 1);
    }
}

#[test]
fn one_failure_takes_all_of_the_call_along_and_nothing_else() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/bad" => Reply::ok("bad").slow(Duration::from_millis(300)),
        "/slow" => Reply::ok(content()).slow(Duration::from_millis(50)),
        _ => Reply::ok("good"),
    });
    let case = Case::new();
    let before = case.request(&server.at("/other"), "before", b"good");
    case.download(std::slice::from_ref(&before)).expect("an earlier call");
    let requests = [
        case.request(&server.at("/good"), "good", b"good"),
        case.request(&server.at("/bad"), "bad", b"good"),
        case.request(&server.at("/slow"), "slow", &content()),
    ];
    let error = case.download(&requests).expect_err("one is bad");
    assert_eq!(error.code, "hash-mismatch");
    assert_eq!(case.files(), ["before"]);
}

#[test]
fn two_downloads_to_one_place_are_refused() {
    let case = Case::new();
    let request =
        case.request(&Url::parse("http://x.example.invalid/").expect("an address"), "f", b"x");
    assert!(case.download(&[request.clone(), request]).is_err());
}

#[test]
fn a_directory_that_is_not_there_is_told() {
    let server = Server::start(|_| Reply::ok("good"));
    let case = Case::new();
    let request = case.request(&server.url(), "missing/f", b"good");
    let error = case.fails(&request);
    assert_eq!((error.kind, error.code.as_str()), (Kind::Failed, "io"));
}

#[test]
fn a_planted_link_is_not_followed() {
    let server = Server::start(|_| Reply::ok("good"));
    let case = Case::new();
    let victim = case.world.request.environment.home.join("victim");
    std::fs::write(&victim, "precious").expect("a file");
    std::os::unix::fs::symlink(&victim, case.world.directory.path().join("f.part"))
        .expect("a link");
    case.download(&[case.request(&server.url(), "f", b"good")]).expect("a file");
    assert_eq!(std::fs::read_to_string(&victim).expect("a file"), "precious");
}

#[test]
fn credentials_go_to_the_files_of_their_host_only() {
    let other = Server::start(|_| Reply::ok("good"));
    let target = other.url().to_string();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/moved" => Reply::redirect(&target),
        _ => Reply::ok("good"),
    });
    let mut world = World::new();
    let index = format!("http://me:hush@{}/simple", server.url().authority());
    world.set("PIP_INDEX_URL", &index);
    let client = world.client();
    let case = Case { world, client };
    let requests = [
        case.request(&server.at("/here"), "a", b"good"),
        case.request(&server.at("/moved"), "b", b"good"),
        case.request(&other.at("/other"), "c", b"good"),
    ];
    case.download(&requests).expect("all of them");
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_some()));
    assert!(other.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(other.seen().len(), 2);
}

/// Lets so many files be under way, and counts what it is asked for.
struct Counting {
    free: Mutex<usize>,
    under_way: Arc<AtomicUsize>,
    most: AtomicUsize,
    pieces: AtomicUsize,
    settled: Mutex<Vec<(Work, String)>>,
}

impl Counting {
    fn new(free: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(free),
            under_way: Arc::default(),
            most: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
            settled: Mutex::default(),
        })
    }
}

/// One file less is under way.
struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Host for Counting {
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        assert_eq!((work, count), (Work::Unpack, 1));
        self.pieces.fetch_add(1, Ordering::SeqCst);
        PlainHost.run(order, work, count, piece);
    }

    fn begin(
        &self,
        order: &Order,
        undertaking: Undertaking,
        waits: &dyn Fn(Wait),
    ) -> Option<Permit> {
        assert_eq!(undertaking, Undertaking::Download);
        if self.under_way.load(Ordering::SeqCst) >= *self.free.lock().expect("a number") {
            waits(Wait { obstacle: Obstacle::Heat, at_most: None });
        }
        while self.under_way.load(Ordering::SeqCst) >= *self.free.lock().expect("a number") {
            if order.cancellation.is_cancelled() {
                return None;
            }
            std::thread::yield_now();
        }
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Some(Permit::new(Ended(Arc::clone(&self.under_way))))
    }

    fn settle(&self, work: Work) -> Place {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.settled.lock().expect("a list").push((work, name));
        Place::new(())
    }

    fn later(&self, job: agents_contract::Job) {
        job();
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[test]
fn the_host_says_how_many_files_are_under_way_and_each_chunk_is_a_piece_of_its_work() {
    let server = Server::start(|_| Reply::ok(content()));
    let mut case = Case::new();
    let host = Counting::new(2);
    case.client = case.world.client_of(host.clone());
    assert!(host.settled.lock().expect("a list").is_empty(), "no thread before it is needed");
    let requests: Vec<_> =
        (0..6).map(|index| case.request(&server.url(), &format!("f{index}"), &content())).collect();
    case.download(&requests).expect("all of them");
    assert_eq!(host.most.load(Ordering::SeqCst), 2);
    // How much comes at once, and so how many pieces there are, is the network's; one of a whole file there is not.
    assert!(content().len() > 2 * WRITE_CHUNK_BYTES);
    assert!(host.pieces.load(Ordering::SeqCst) > 6);
    assert_eq!(host.under_way.load(Ordering::SeqCst), 0, "each permit came back");
    let settled = host.settled.lock().expect("a list");
    let as_files = |(work, name): &(Work, String)| *work == Work::Unpack && name == "download";
    assert!(!settled.is_empty() && settled.iter().all(as_files), "{settled:?}");
}

#[test]
fn a_call_of_which_no_file_may_begin_is_told_why_and_goes_on_when_one_may() {
    let server = Server::start(|_| Reply::ok(content()));
    let mut case = Case::new();
    let host = Counting::new(0);
    case.client = case.world.client_of(host.clone());
    let requests: Vec<_> =
        (0..3).map(|index| case.request(&server.url(), &format!("f{index}"), &content())).collect();
    let mut told = Vec::new();
    let mut tell = |news: Told<'_>| {
        if let Told::Waits(wait) = news {
            told.push(wait);
            // Ends only because the caller hears of it.
            *host.free.lock().expect("a number") = requests.len();
        }
    };
    let order = Order::default();
    let downloaded = case.client.download(&requests, Durability::Buffered, &order, &mut tell);
    assert_eq!(downloaded.expect("all of them").len(), 3);
    assert_eq!(told, [Wait { obstacle: Obstacle::Heat, at_most: None }]);
}

#[test]
fn a_failure_ends_what_waits_for_its_turn() {
    let server = Server::start(|_| Reply::ok("evil"));
    let mut case = Case::new();
    let host = Counting::new(1);
    case.client = case.world.client_of(host.clone());
    let requests: Vec<_> =
        (0..50).map(|index| case.request(&server.url(), &format!("f{index}"), b"good")).collect();
    assert_eq!(case.download(&requests).expect_err("a failure").code, "hash-mismatch");
    assert!(case.files().is_empty());
    assert_eq!(host.under_way.load(Ordering::SeqCst), 0);
    // And what nobody lets begin ends with its caller.
    *host.free.lock().expect("a number") = 0;
    let cancellation = agents_contract::Cancellation::until(None);
    let mut request = case.world.request.clone();
    request.cancellation = cancellation.clone();
    case.client = case.client.with_request(request);
    let error = std::thread::scope(|scope| {
        let waits = scope.spawn(|| case.download(&requests[..1]).expect_err("nobody wants it"));
        cancellation.cancel();
        waits.join().expect("an end")
    });
    assert_eq!(error.code, "cancelled");
}

/// Does every piece late, and knows how much later.
#[derive(Debug, Default)]
struct Late {
    own_ns: AtomicU64,
}

impl Host for Late {
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        PlainHost.run(order, work, count, piece);
        self.own_ns.fetch_add(began.elapsed().as_nanos() as u64, Ordering::SeqCst);
    }

    fn begin(
        &self,
        order: &Order,
        undertaking: Undertaking,
        waits: &dyn Fn(Wait),
    ) -> Option<Permit> {
        PlainHost.begin(order, undertaking, waits)
    }

    fn settle(&self, work: Work) -> Place {
        PlainHost.settle(work)
    }

    fn later(&self, job: agents_contract::Job) {
        job();
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[test]
fn what_is_computed_is_no_time_of_the_servers() {
    let bytes = content();
    let served = bytes.clone();
    let server = Server::start(move |_| Reply::ok(served.clone()));
    let mut case = Case::new();
    let host = Arc::new(Late::default());
    case.client = case.world.client_of(host.clone());
    let began = Instant::now();
    case.download(&[case.request(&server.url(), "file", &bytes)]).expect("a file");
    let all_ns = began.elapsed().as_nanos() as u64;
    let sums = case.client.outside().sums();
    let (_, calls, took_ns) = sums.into_iter().find(|it| it.0 == "pypi-files").expect("it");
    let own_ns = host.own_ns.load(Ordering::SeqCst);
    assert!(calls == 1 && took_ns > 0 && own_ns >= 300_000_000, "{calls} {took_ns} {own_ns}");
    // One after the other: nothing is counted twice.
    assert!(took_ns + own_ns <= all_ns, "{took_ns} + {own_ns} > {all_ns}");
}
