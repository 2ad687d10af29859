//! Files of several callers over real connections, of which some carry a byte and then nothing.

use std::net::SocketAddr;

use agents_packager::error::Error;
use agents_packager::io::{
    Client, DownloadRequest, Durability, Environment, Overrides, RequestSettings, Told,
};
use agents_packager::metadata::Hashes;
use agents_packager::unpack::Unpacker;

use super::*;

const CONTENT: &str = "a file";
const SHA256: &str = "7365d029861e32c521f8089b00a6fb32daf0615025b69b599d1ce53501b845c2";

/// Answers what is asked for under `/quick`. Of anything else it sends a byte, and keeps the connection.
struct Registry {
    address: SocketAddr,
    held: Arc<Mutex<Vec<TcpStream>>>,
    ended: Arc<AtomicBool>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (held, ended) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let registry = Self { address, held: Arc::clone(&held), ended: Arc::clone(&ended) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let _ = Self::answer(stream, &held);
            }
        });
        registry
    }

    fn answer(mut stream: TcpStream, held: &Mutex<Vec<TcpStream>>) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        let length = CONTENT.len();
        let head =
            format!("HTTP/1.1 200 Test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        if first.contains("/quick") {
            return stream.write_all(CONTENT.as_bytes());
        }
        stream.write_all(&CONTENT.as_bytes()[..1])?;
        held.lock().unwrap().push(stream);
        Ok(())
    }

    /// Hangs up wherever something is under way.
    fn hang_up(&self) {
        self.held.lock().unwrap().clear();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// One call of `requester`: so many files from there, until `cancellation`.
fn fetch(
    host: &Arc<ScheduledHost>,
    (requester, cancellation): (&str, &Cancellation),
    (registry, path, count): (&Registry, &str, usize),
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<usize, Error> {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let environment = Environment {
        variables: BTreeMap::new(),
        references: BTreeMap::new(),
        home: at("home"),
        project: at("project"),
    };
    let mut overrides = Overrides::default();
    overrides.add(&format!("pypi=http://{}/", registry.address)).unwrap();
    let cancellation = cancellation.clone();
    let request = RequestSettings {
        overrides,
        cancellation: cancellation.clone(),
        ..RequestSettings::new(environment)
    };
    let host: Arc<dyn Host> = host.clone();
    let (cache_dir, state_dir) = (at("cache"), at("state"));
    let unpacker = Arc::new(Unpacker::here());
    let settings = agents_packager::io::Settings { cache_dir, state_dir, request, host, unpacker };
    let client = Client::new(settings);
    let requests: Vec<DownloadRequest> = (0..count)
        .map(|index| DownloadRequest {
            ecosystem: Ecosystem::Pypi,
            source: None,
            url: format!("http://{}{path}/{index}", registry.address),
            hashes: Hashes { sha256: Some(SHA256.to_owned()), sha512: None },
            destination: at(&index.to_string()),
            slot: None,
            bytes_max: None,
            is_guess: false,
        })
        .collect();
    let order = Order { requester: Arc::from(requester), cancellation, ..Order::default() };
    client.download(&requests, Durability::Buffered, &order, tell).map(|files| files.len())
}

#[test]
fn a_registry_that_trickles_holds_up_only_whom_it_serves_and_who_waits_is_told() {
    let (host, registry) = (&Arc::new(ScheduledHost::new(&settings())), &Registry::start());
    let waiting = || host.transfers().map_or(0, |transfers| transfers.waiting);
    let (ends, ends_too) = (&Cancellation::until(None), &Cancellation::until(None));
    std::thread::scope(|scope| {
        let trickled = scope.spawn(move || {
            let files = (registry, "/slow", 3 * scheduler::limits::DOWNLOADS_MAX);
            fetch(host, ("trickled", ends), files, &mut |_| {}).unwrap_err()
        });
        while waiting() == 0 {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            let other = ("other", Cancellation::NEVER);
            assert_eq!(fetch(host, other, (registry, "/quick", 5), &mut |_| {}).unwrap(), 5);
        }
        assert_eq!(waiting(), 1, "the first one still waits");
        // Another call of the one that has as many as it may is held up, and hears of it.
        let mut told = 0;
        let mut tell = |news: Told<'_>| {
            assert!(matches!(news, Told::Waits(wait) if wait.at_most.is_none()), "{news:?}");
            told += 1;
            ends_too.cancel();
        };
        let second = fetch(host, ("trickled", ends_too), (registry, "/quick", 1), &mut tell);
        assert_eq!((second.unwrap_err().code.as_str(), told), ("cancelled", 1));
        ends.cancel();
        registry.hang_up();
        assert_eq!(trickled.join().unwrap().code, "cancelled");
    });
    // The last permit comes back just after its file has ended.
    while host.transfers() != Some(Transfers::default()) {
        std::thread::yield_now();
    }
}
