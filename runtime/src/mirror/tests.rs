//! The mirror gives what its digest names, and nothing else to anybody.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use agents_packager::metadata::Hashes;

use super::*;

struct World {
    _place: tempfile::TempDir,
    address: SocketAddr,
    digest: String,
}

const CONTENT: &[u8] = b"the bytes of an artefact";

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&place.path().join("store")).unwrap();
        let digest = "ab".repeat(64);
        let from = place.path().join("downloaded");
        std::fs::write(&from, CONTENT).unwrap();
        let hashes = Hashes { sha512: Some(digest.clone()), sha256: None };
        store.keep_archive(&hashes, &from).unwrap();
        std::fs::write(place.path().join("store/secret"), "hush").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with the process of the tests.
        std::thread::spawn(move || run(listener, Arc::new(store)));
        Self { _place: place, address, digest }
    }

    fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // One that is cut off by the other side is an answer, too.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let close = "connection: close";
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{close}\r\n{headers}\r\n");
        let answer = self.send(&request);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), head.to_ascii_lowercase(), body.to_owned())
    }

    fn path(&self) -> String {
        format!("/v1/sha512/{}", self.digest)
    }
}

#[test]
fn what_a_digest_names_is_given_whole_and_in_parts() {
    let world = World::new();
    let whole = String::from_utf8_lossy(CONTENT).into_owned();
    let tag = format!("\"{}\"", world.digest);
    let size = CONTENT.len();
    let range = |range: &str| format!("range: bytes={range}\r\n");
    for (headers, status, body, content_range) in [
        (String::new(), 200, &whole[..], None),
        (range("4-"), 206, &whole[4..], Some(format!("bytes 4-{}/{size}", size - 1))),
        (range("4-8"), 206, &whole[4..9], Some(format!("bytes 4-8/{size}"))),
        (range("0-999"), 206, &whole[..], Some(format!("bytes 0-{}/{size}", size - 1))),
        (range("-8"), 206, "artefact", Some(format!("bytes {}-{}/{size}", size - 8, size - 1))),
        (range("1-2,4-5"), 200, &whole[..], None),
        (range("8-4"), 200, &whole[..], None),
        (range("x-"), 200, &whole[..], None),
        (format!("{}if-range: {tag}\r\n", range("4-")), 206, &whole[4..], None),
        (format!("{}if-range: \"other\"\r\n", range("4-")), 200, &whole[..], None),
    ] {
        let (got, head, text) = world.ask("GET", &world.path(), &headers);
        assert_eq!((got, text.as_str()), (status, body), "{headers}");
        assert!(head.contains(&format!("etag: {tag}")), "{head}");
        if let Some(expected) = content_range {
            assert!(head.contains(&format!("content-range: {expected}")), "{head}");
        }
    }
    let (status, head, body) = world.ask("HEAD", &world.path(), "");
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains(&format!("content-length: {size}")), "{head}");
    let (status, head, _) = world.ask("GET", &world.path(), &range("24-"));
    assert_eq!(status, 416);
    assert!(head.contains(&format!("content-range: bytes */{size}")), "{head}");
}

#[test]
fn what_names_nothing_gives_nothing() {
    let world = World::new();
    let upper = format!("/v1/sha512/{}", world.digest.to_ascii_uppercase());
    let short = format!("/v1/sha512/{}", &world.digest[..126]);
    let other = format!("/v1/sha256/{}", world.digest);
    let behind = format!("{}/../../../secret", world.path());
    for path in [
        "/",
        "/v1/",
        "/v1/sha512/",
        "/v1/sha512",
        "/v2/sha512/x",
        "/v1/sha512/../../secret",
        "/v1/sha512/..%2f..%2fsecret",
        "/v1/sha512//etc/passwd",
        "/../../../../etc/passwd",
        "/v1/md5/x",
        &upper,
        &short,
        &other,
        &behind,
    ] {
        let (status, head, body) = world.ask("GET", path, "");
        assert_eq!(status, 404, "{path}");
        assert!(!body.contains("hush") && !head.contains("hush") && !body.contains("root"));
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(world.ask(method, &world.path(), "content-length: 0\r\n").0, 405);
    }
}

#[test]
fn a_request_has_a_bounded_head() {
    let world = World::new();
    let long = format!("x: {}\r\n", "y".repeat(HTTP_BUFFER_BYTES));
    let request = format!("GET {} HTTP/1.1\r\nhost: x\r\n{long}\r\n", world.path());
    assert!(!world.send(&request).contains("the bytes"));
    let many = "x: y\r\n".repeat(1_000);
    let request = format!("GET {} HTTP/1.1\r\nhost: x\r\n{many}\r\n", world.path());
    assert!(!world.send(&request).contains("the bytes"));
    assert!(!world.send("nonsense\r\n\r\n").contains("the bytes"));
    assert_eq!(world.ask("GET", &world.path(), "").0, 200, "others are served");
}

#[test]
fn one_host_has_a_share_of_the_connections() {
    let guests = Arc::new(Guests::default());
    let from = |text: &str| text.parse::<SocketAddr>().unwrap();
    let mut held: Vec<_> = (0..MIRROR_CONNECTIONS_OF_ONE_MAX)
        .map(|_| guests.admit(from("127.0.0.1:1")).expect("room"))
        .collect();
    assert!(guests.admit(from("127.0.0.1:2")).is_none());
    assert!(guests.admit(from("[::ffff:127.0.0.1]:2")).is_none(), "the same host");
    assert!(guests.admit(from("127.0.0.2:1")).is_some());
    held.pop();
    assert!(guests.admit(from("127.0.0.1:2")).is_some());
    drop(held);
    assert!(guests.0.lock().unwrap().is_empty());
}
