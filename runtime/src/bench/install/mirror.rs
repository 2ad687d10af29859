//! A registry on the loopback that serves what `make installed` recorded, as fast as this machine does: archives from their files
//! without a copy here, documents from memory. One file of the recording is one answer (`tests/installed/registry.py` has the format).

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use agents_packager::ecosystem::Ecosystem;
use anyhow::ensure;

/// What stands for the mirror in recorded documents.
pub(super) const PLACEHOLDER: &str = "http://recording.invalid/";
/// Connections served at once: more than any client opens.
const CONNECTIONS_MAX: usize = 512;
/// Connections that the machine's own limit is measured with: as many as Bolide opens to one host.
const LIMIT_CONNECTIONS: usize = 8;

/// The mirror; ends with its owner.
pub(super) struct Mirror {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    ecosystem: Ecosystem,
    place: PathBuf,
    url: String,
    ended: AtomicBool,
    documents: Mutex<HashMap<String, Arc<Vec<u8>>>>,
    seen: Mutex<Seen>,
}

/// What was asked for.
#[derive(Default)]
struct Seen {
    /// Archives since the last [`Mirror::forget`], and their bytes.
    archives: u64,
    bytes: u64,
    began: Option<Instant>,
    ended: Option<Instant>,
    /// Every archive that was ever asked for, to measure the limit with.
    paths: BTreeSet<String>,
    unrecorded: BTreeSet<String>,
}

impl Mirror {
    pub(super) fn start(ecosystem: Ecosystem, place: PathBuf) -> anyhow::Result<Self> {
        ensure!(place.is_dir(), "nothing is recorded in `{}`: `make installed`", place.display());
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            ecosystem,
            place,
            url: format!("http://{address}/"),
            ended: AtomicBool::new(false),
            documents: Mutex::default(),
            seen: Mutex::default(),
        });
        let mine = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &mine));
        Ok(Self { address, shared })
    }

    pub(super) fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// Starts to count anew.
    pub(super) fn forget(&self) {
        let mut seen = lock(&self.shared.seen);
        (seen.archives, seen.bytes, seen.began, seen.ended) = (0, 0, None, None);
    }

    /// Archives that were asked for since.
    pub(super) fn archives(&self) -> u64 {
        lock(&self.shared.seen).archives
    }

    /// Bytes of archives a second, from the first request to the last byte; nothing where none was asked for.
    pub(super) fn archive_rate(&self) -> Option<f64> {
        let seen = lock(&self.shared.seen);
        let took = seen.ended?.duration_since(seen.began?).as_secs_f64();
        (took > 0.0).then(|| seen.bytes as f64 / took)
    }

    /// Paths that were asked for and were never recorded.
    pub(super) fn unrecorded(&self) -> Vec<String> {
        lock(&self.shared.seen).unrecorded.iter().cloned().collect()
    }

    /// Bytes a second that clients who do nothing with them get from here, over the archives that were asked for until now.
    pub(super) fn rate_limit(&self) -> anyhow::Result<f64> {
        let paths: Vec<String> = lock(&self.shared.seen).paths.iter().cloned().collect();
        ensure!(!paths.is_empty(), "no archive was asked for");
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        let bytes: io::Result<u64> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..LIMIT_CONNECTIONS)
                .map(|_| scope.spawn(|| take_all(self.address, &paths, &next)))
                .collect();
            let taken = clients.into_iter().map(|client| {
                client.join().unwrap_or_else(|_| Err(io::Error::other("a client panicked")))
            });
            taken.sum()
        });
        Ok(bytes? as f64 / began.elapsed().as_secs_f64())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // Release pairs with the acquire in `accept`, which the connection wakes.
        self.shared.ended.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

/// What a panic left behind is whole between any two statements.
fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        // Acquire pairs with the release in `drop`.
        if shared.ended.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (open, shared) = (Arc::clone(&open), Arc::clone(shared));
        std::thread::spawn(move || {
            // A client that hangs up is nothing to report.
            let _ = shared.serve(&stream);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// The head of a request.
struct Asked {
    is_head: bool,
    path: String,
    range: Option<String>,
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut range = None;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("range") {
            range = value.trim().strip_prefix("bytes=").map(str::to_owned);
        }
        line.clear();
    }
    let mut words = first.split(' ');
    let is_head = words.next() == Some("HEAD");
    let path = words.next().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    Ok(Some(Asked { is_head, path: unquoted(path), range }))
}

impl Shared {
    /// Answers requests of one connection until it ends.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read_request(&mut reader)? {
            match is_archive(&asked.path) {
                true => self.send_archive(stream, &asked)?,
                false => self.send_document(stream, &asked)?,
            }
        }
        Ok(())
    }

    fn send_document(&self, mut stream: &TcpStream, asked: &Asked) -> io::Result<()> {
        let Some(body) = self.document(&asked.path) else { return self.refuse(stream, asked) };
        let kind = match self.ecosystem {
            Ecosystem::Npm => "application/json",
            Ecosystem::Pypi if asked.path.ends_with(".metadata") => "text/plain",
            Ecosystem::Pypi => "application/vnd.pypi.simple.v1+json",
            _ => "text/plain",
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        match asked.is_head {
            true => stream.write_all(head.as_bytes()),
            false => stream.write_all(&[head.as_bytes(), &body].concat()),
        }
    }

    fn document(&self, path: &str) -> Option<Arc<Vec<u8>>> {
        if let Some(known) = lock(&self.documents).get(path) {
            return Some(Arc::clone(known));
        }
        let text = std::fs::read(self.place.join(quoted(path))).ok()?;
        let text = String::from_utf8_lossy(&text).replace(PLACEHOLDER, &self.url);
        let body = Arc::new(text.into_bytes());
        lock(&self.documents).insert(path.to_owned(), Arc::clone(&body));
        Some(body)
    }

    fn send_archive(&self, mut stream: &TcpStream, asked: &Asked) -> io::Result<()> {
        let began = Instant::now();
        let Ok(mut file) = File::open(self.place.join(quoted(&asked.path))) else {
            return self.refuse(stream, asked);
        };
        let size = file.metadata()?.len();
        let (first, end) =
            asked.range.as_deref().and_then(|range| part(range, size)).unwrap_or((0, size));
        let status = match asked.range.is_some() && end - first < size {
            true => {
                format!("206 Partial Content\r\ncontent-range: bytes {first}-{}/{size}", end - 1)
            }
            false => "200 OK".to_owned(),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/octet-stream\r\naccept-ranges: bytes\r\ncontent-length: {}\r\n\r\n",
            end - first
        );
        stream.write_all(head.as_bytes())?;
        if asked.is_head {
            return Ok(());
        }
        file.seek(SeekFrom::Start(first))?;
        // The kernel sends it from its cache: the standard library uses `sendfile` here.
        io::copy(&mut file.take(end - first), &mut stream)?;
        let mut seen = lock(&self.seen);
        seen.archives += u64::from(first == 0);
        seen.bytes += end - first;
        seen.began = Some(seen.began.map_or(began, |earlier| earlier.min(began)));
        seen.ended = Some(Instant::now());
        seen.paths.insert(asked.path.clone());
        Ok(())
    }

    fn refuse(&self, mut stream: &TcpStream, asked: &Asked) -> io::Result<()> {
        let absent = self.place.join(format!("{}.absent", quoted(&asked.path)));
        // What the registry itself does not have is recorded too.
        if !absent.exists() {
            lock(&self.seen).unrecorded.insert(asked.path.clone());
        }
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    }
}

/// Archives and nothing else have such names.
fn is_archive(path: &str) -> bool {
    !path.ends_with(".metadata")
        && (path.contains("/-/") || path.starts_with("files/") || path.starts_with("crates/"))
}

/// The bytes of `FIRST-LAST`, `FIRST-` or `-COUNT`, as a half-open range.
fn part(range: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = range.split_once('-')?;
    let (first, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.saturating_add(1).min(size)),
        (Ok(first), Err(_)) => (first, size),
        (Err(_), Ok(count)) => (size.saturating_sub(count), size),
        (Err(_), Err(_)) => return None,
    };
    (first < end).then_some((first, end))
}

/// A path as one name: everything but letters, digits and `_.-~@` as `%XX`.
fn quoted(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'@' => {
                name.push(char::from(byte));
            }
            other => name += &format!("%{other:02X}"),
        }
    }
    name
}

fn unquoted(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let code = path.get(index + 1..index + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[index], code) {
            (b'%', Some(code)) => {
                text.push(code);
                index += 3;
            }
            (byte, _) => {
                text.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Takes archives until there is none left, and throws them away; how many bytes they had.
fn take_all(address: SocketAddr, paths: &[String], next: &AtomicUsize) -> io::Result<u64> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 << 10, &stream);
    let mut taken = 0;
    while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
        let path: Vec<String> = path.split('/').map(quoted).collect();
        (&stream).write_all(format!("GET /{} HTTP/1.1\r\n\r\n", path.join("/")).as_bytes())?;
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line)? > 2 {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            line.clear();
        }
        taken += io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_serves_what_was_recorded_and_tells_what_was_not() {
        let place = tempfile::tempdir().expect("a directory");
        let document = format!("{{\"tarball\": \"{PLACEHOLDER}@a/b/-/b-1.tgz\"}}");
        std::fs::write(place.path().join("@a%2Fb"), document).expect("space");
        std::fs::write(place.path().join("@a%2Fb%2F-%2Fb-1.tgz"), b"0123456789").expect("space");
        let mirror = Mirror::start(Ecosystem::Npm, place.path().to_owned()).expect("a mirror");
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(mirror.address).expect("a connection");
            stream.write_all(request.as_bytes()).expect("a request");
            stream.shutdown(std::net::Shutdown::Write).expect("an end");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        };
        let document = ask("GET /@a%2fb HTTP/1.1\r\n\r\n");
        assert!(document.contains(&format!("{}@a/b/-/b-1.tgz", mirror.url())), "{document}");
        assert!(ask("GET /@a/b/-/b-1.tgz HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n0123456789"));
        let part = ask("GET /@a/b/-/b-1.tgz HTTP/1.1\r\nRange: bytes=7-\r\n\r\n");
        assert!(part.starts_with("HTTP/1.1 206") && part.ends_with("\r\n\r\n789"), "{part}");
        assert!(ask("GET /c HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert_eq!((mirror.archives(), mirror.unrecorded()), (1, vec!["c".to_owned()]));
        assert!(mirror.rate_limit().expect("archives") > 0.0);
        mirror.forget();
        assert_eq!((mirror.archives(), mirror.archive_rate()), (0, None));
    }

    #[test]
    fn parts_lie_within_the_file() {
        for (range, expected) in [
            ("0-3", Some((0, 4))),
            ("2-", Some((2, 10))),
            ("-4", Some((6, 10))),
            ("-40", Some((0, 10))),
            ("3-99", Some((3, 10))),
            ("10-", None),
            ("x", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
    }
}
