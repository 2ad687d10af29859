//! Registries for tests: a small server on the loopback that can also misbehave on the wire, and a client whose
//! whole world is a temporary directory.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use agents_contract::{Host, Job, Order, Permit, Place, Undertaking, Wait, Work};
use url::Url;

use super::http::{RealTime, Time};
use super::{Client, Environment, Overrides, RequestSettings, Settings};

/// A request that the server has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer, well-formed unless a test wants otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    sent_bytes: Option<usize>,
    pause_per_kib: Option<Duration>,
    raw: bool,
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn redirect(target: &str) -> Self {
        Self::status(302).header("location", target)
    }

    /// Exactly these bytes, which need not be HTTP.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: true, body: bytes.into(), ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn json(self) -> Self {
        self.header("content-type", "application/json")
    }

    pub(crate) fn html(self) -> Self {
        self.header("content-type", "text/html; charset=utf-8")
    }

    /// Announces everything, sends only the beginning, and hangs up.
    pub(crate) fn truncated(mut self, sent_bytes: usize) -> Self {
        self.sent_bytes = Some(sent_bytes);
        self
    }

    /// Waits before each KiB of the body.
    pub(crate) fn slow(mut self, pause: Duration) -> Self {
        self.pause_per_kib = Some(pause);
        self
    }

    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.raw {
            return stream.write_all(&self.body);
        }
        let mut head = format!("HTTP/1.1 {} Test\r\nconnection: close\r\n", self.status);
        if self.status != 304 {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        let sent = &self.body[..self.sent_bytes.unwrap_or(self.body.len())];
        match self.pause_per_kib {
            None => stream.write_all(sent)?,
            Some(pause) => {
                for chunk in sent.chunks(1024) {
                    std::thread::sleep(pause);
                    stream.write_all(chunk)?;
                }
            }
        }
        stream.flush()
    }
}

/// A server that ends with its owner.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Answers every request by `handler`.
    pub(crate) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let (seen, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let handler = Arc::new(handler);
        let (log, end) = (Arc::clone(&seen), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Acquire) {
                    return;
                }
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                std::thread::spawn(move || {
                    let mut stream = stream.ok()?;
                    let request = read_request(&stream)?;
                    log.lock().expect("no panic").push(request.clone());
                    handler(&request).write(&mut stream).ok()
                });
            }
        });
        Self { address, seen, ended }
    }

    pub(crate) fn url(&self) -> Url {
        self.at("/")
    }

    /// An address on this server.
    pub(crate) fn at(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).expect("an address")
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Release pairs with the acquire of the accepting thread, which the connection wakes.
        self.ended.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        match line.split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned())
            }
            None => break,
        };
    }
    Some(Seen { path, headers })
}

/// A host without cores of its own: everything is done at once, in place.
#[derive(Debug)]
pub(crate) struct PlainHost;

impl Host for PlainHost {
    fn run(&self, order: &Order, _: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        (0..count).take_while(|_| !order.cancellation.is_cancelled()).for_each(piece);
    }

    fn begin(&self, order: &Order, _: Undertaking, _: &dyn Fn(Wait)) -> Option<Permit> {
        (!order.cancellation.is_cancelled()).then(|| Permit::new(()))
    }

    fn settle(&self, _: Work) -> Place {
        Place::new(())
    }

    fn later(&self, job: Job) {
        job();
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The same, but what it is to do later waits until it is told.
#[derive(Default)]
pub(crate) struct LaterHost(Mutex<Vec<Job>>);

impl LaterHost {
    pub(crate) fn do_what_waits(&self) {
        let jobs = std::mem::take(&mut *self.0.lock().expect("a list"));
        jobs.into_iter().for_each(|job| job());
    }
}

impl std::fmt::Debug for LaterHost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LaterHost")
    }
}

impl Host for LaterHost {
    fn run(&self, order: &Order, work: Work, count: usize, piece: &(dyn Fn(usize) + Sync)) {
        PlainHost.run(order, work, count, piece);
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

    fn later(&self, job: Job) {
        self.0.lock().expect("a list").push(job);
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A time in which pauses are noted and take none. The calendar stands still.
#[derive(Debug)]
pub(crate) struct NoTime {
    pauses: Mutex<Vec<Duration>>,
    now: SystemTime,
}

impl NoTime {
    /// At this moment.
    pub(crate) fn at(now: SystemTime) -> Arc<Self> {
        Arc::new(Self { pauses: Mutex::default(), now })
    }

    /// How long the pauses since the last question would have been.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        std::mem::take(&mut self.pauses.lock().expect("no panic"))
    }
}

impl Time for NoTime {
    fn pause(&self, length: Duration) -> futures::future::BoxFuture<'static, ()> {
        self.pauses.lock().expect("no panic").push(length);
        Box::pin(std::future::ready(()))
    }

    fn now(&self) -> SystemTime {
        self.now
    }
}

/// A temporary world with a home, a project, a cache and a state directory.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) request: RequestSettings,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let environment = Environment {
            variables: BTreeMap::new(),
            references: BTreeMap::new(),
            home: directory.path().join("home"),
            project: directory.path().join("project"),
        };
        std::fs::create_dir(&environment.home).expect("a home");
        std::fs::create_dir(&environment.project).expect("a project");
        Self { directory, request: RequestSettings::new(environment) }
    }

    /// One where `ecosystem`'s registry is `url`.
    pub(crate) fn with(ecosystem: &str, url: &Url) -> Self {
        let mut world = Self::new();
        let mut overrides = Overrides::default();
        overrides.add(&format!("{ecosystem}={url}")).expect("a registry");
        world.request.overrides = overrides;
        world
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.request.environment.variables.insert(name.to_owned(), value.to_owned());
    }

    /// The packs of the cache on disk, without their indices.
    pub(crate) fn packs(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.directory.path().join("cache/metadata"));
        let paths = entries.expect("a cache").map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|it| it == "pack")).collect()
    }

    /// Changes a byte wherever the packs have `bytes`: the one that many behind their beginning.
    pub(crate) fn damage(&self, bytes: &[u8], at: usize) {
        for path in self.packs() {
            let mut whole = std::fs::read(&path).expect("a pack");
            let found = whole.windows(bytes.len()).enumerate().filter(|(_, part)| *part == bytes);
            let places: Vec<usize> = found.map(|(start, _)| start + at).collect();
            places.into_iter().for_each(|place| whole[place] ^= 1);
            std::fs::write(&path, whole).expect("damage");
        }
    }

    /// Writes a file beneath the world's directory.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }

    /// A fresh process in this world: disk shared, memory empty.
    pub(crate) fn client(&self) -> Client {
        self.client_of(Arc::new(PlainHost))
    }

    /// The same with this host.
    pub(crate) fn client_of(&self, host: Arc<dyn Host>) -> Client {
        self.client_with(host, Arc::new(RealTime))
    }

    /// One for which pauses take no time.
    pub(crate) fn client_in(&self, time: Arc<NoTime>) -> Client {
        self.client_with(Arc::new(PlainHost), time)
    }

    fn client_with(&self, host: Arc<dyn Host>, time: Arc<dyn Time>) -> Client {
        let settings = Settings {
            cache_dir: self.directory.path().join("cache"),
            state_dir: self.directory.path().join("state"),
            request: self.request.clone(),
            host,
            unpacker: Arc::new(crate::unpack::Unpacker::here()),
        };
        Client::in_time(settings, time)
    }

    /// The same, offline.
    pub(crate) fn offline(&self) -> Client {
        let request = RequestSettings { offline: true, ..self.request.clone() };
        self.client().with_request(request)
    }
}
