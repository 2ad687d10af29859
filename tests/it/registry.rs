//! A registry on loopback that speaks enough of npm, PyPI and cargo's sparse index over HTTP/1.1 for the tests, and can be
//! told to misbehave.

use std::collections::BTreeMap;
use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use serde_json::json;
use sha2::{Digest, Sha256, Sha512};

use super::packages::{self, Npm, Python, RustCrate};

/// The server; it ends with the process of the test.
pub(crate) struct Registry {
    pub(crate) address: String,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    silence: Arc<Silence>,
    guard: Arc<Guard>,
}

/// Who is let in, and who came.
#[derive(Default)]
struct Guard {
    token: Mutex<Option<String>>,
    /// What questions had as `authorization`.
    seen: Mutex<Vec<Option<String>>>,
    /// The paths of all questions.
    asked: Mutex<Vec<String>>,
}

impl Guard {
    fn admits(&self, authorization: Option<String>) -> bool {
        let token = self.token.lock().unwrap();
        let admits = token.is_none() || *token == authorization;
        self.seen.lock().unwrap().push(authorization);
        admits
    }
}

/// Paths that are asked for and not answered for now.
#[derive(Default)]
struct Silence {
    prefix: Mutex<Option<String>>,
    asked: AtomicUsize,
}

impl Silence {
    fn covers(&self, path: &str) -> bool {
        self.prefix.lock().unwrap().as_ref().is_some_and(|prefix| path.starts_with(prefix))
    }

    /// Waits until it ends; false where the other side hangs up before.
    fn ends(&self, path: &str, stream: &TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        while self.covers(path) {
            match stream.peek(&mut [0]) {
                Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {}
                _ => return false,
            }
        }
        stream.set_read_timeout(None).is_ok()
    }
}

/// What a path answers; what a redirect has as its body is where it leads.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Registry {
    /// Starts an empty one.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let pages = Arc::new(Mutex::new(BTreeMap::new()));
        let (silence, guard) = (Arc::new(Silence::default()), Arc::new(Guard::default()));
        let (served, silent, guarded) =
            (Arc::clone(&pages), Arc::clone(&silence), Arc::clone(&guard));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (pages, silence) = (Arc::clone(&served), Arc::clone(&silent));
                let guard = Arc::clone(&guarded);
                std::thread::spawn(move || serve(&stream, &pages, &silence, &guard));
            }
        });
        let registry = Self { address, pages, silence, guard };
        registry.page(
            "/index/config.json",
            "application/json",
            json!({"dl": format!("{}/crates", registry.base()), "api": registry.base()})
                .to_string()
                .into_bytes(),
        );
        registry
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts a page, replacing what was there.
    pub(crate) fn page(&self, path: &str, kind: &'static str, body: Vec<u8>) {
        let page = Page { status: 200, kind, body };
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// Answers nobody any more who has not this token.
    pub(crate) fn demand(&self, token: &str) {
        *self.guard.token.lock().unwrap() = Some(token.to_owned());
    }

    /// What all questions so far had as `authorization`.
    pub(crate) fn authorizations(&self) -> Vec<Option<String>> {
        self.guard.seen.lock().unwrap().clone()
    }

    /// How often this very path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.guard.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }

    /// Lets every question for a path that begins with `prefix` wait until it speaks again.
    pub(crate) fn fall_silent(&self, prefix: &str) {
        *self.silence.prefix.lock().unwrap() = Some(prefix.to_owned());
    }

    /// Answers everything from now on, also what was asked before.
    pub(crate) fn speak(&self) {
        *self.silence.prefix.lock().unwrap() = None;
    }

    /// How many questions were not answered at once.
    pub(crate) fn unanswered(&self) -> usize {
        self.silence.asked.load(Ordering::Relaxed)
    }

    /// Changes a page that exists.
    pub(crate) fn spoil(&self, path: &str, change: impl FnOnce(&mut Page)) {
        change(self.pages.lock().unwrap().get_mut(path).expect("the page exists"));
    }

    /// The paths that begin with `prefix`.
    pub(crate) fn paths(&self, prefix: &str) -> Vec<String> {
        let pages = self.pages.lock().unwrap();
        pages.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    /// The bodies of the pages that begin with `prefix`, in the order of their paths.
    pub(crate) fn pages_under(&self, prefix: &str) -> Vec<Vec<u8>> {
        let pages = self.pages.lock().unwrap();
        let found = pages.iter().filter(|(path, _)| path.starts_with(prefix));
        found.map(|(_, page)| page.body.clone()).collect()
    }

    /// Publishes all versions of one npm package.
    pub(crate) fn npm(&self, versions: &[Npm]) {
        let name = versions[0].name;
        let mut entries = serde_json::Map::new();
        for package in versions {
            let tarball = packages::npm_tarball(package);
            let file = format!("/npm/{name}/-/{}-{}.tgz", name.replace('/', "-"), package.version);
            let digest = base64::engine::general_purpose::STANDARD.encode(Sha512::digest(&tarball));
            let mut entry = packages::package_json(package);
            entry["dist"] = json!({
                "tarball": format!("{}{file}", self.base()),
                "integrity": format!("sha512-{digest}"),
            });
            entries.insert(package.version.to_owned(), entry);
            self.page(&file, "application/octet-stream", tarball);
        }
        let latest = versions.last().unwrap().version;
        let packument = json!({"name": name, "dist-tags": {"latest": latest}, "versions": entries});
        let path = format!("/npm/{}", name.replace('/', "%2f"));
        self.page(&path, "application/json", packument.to_string().into_bytes());
    }

    /// Publishes all versions of one Python project, as an HTML index with metadata files beside the wheels.
    pub(crate) fn pypi(&self, versions: &[Python]) {
        let name = versions[0].name;
        let mut html = String::from("<!DOCTYPE html><html><body>\n");
        for package in versions {
            let wheel = packages::wheel(package);
            let file = packages::wheel_name(package);
            let digest = hex(&Sha256::digest(&wheel));
            html += &format!("<a href=\"/files/{file}#sha256={digest}\">{file}</a><br/>\n");
            self.page(&format!("/files/{file}"), "application/octet-stream", wheel);
            let metadata = packages::metadata(package).into_bytes();
            self.page(&format!("/files/{file}.metadata"), "application/octet-stream", metadata);
        }
        html += "</body></html>\n";
        self.page(&format!("/simple/{name}/"), "text/html", html.into_bytes());
    }

    /// Publishes these files as those of one Python project; nothing stands beside them.
    pub(crate) fn pypi_files(&self, name: &str, files: &[(&str, Vec<u8>)]) {
        let mut html = String::from("<!DOCTYPE html><html><body>\n");
        for (file, bytes) in files {
            let digest = hex(&Sha256::digest(bytes));
            html += &format!("<a href=\"/files/{file}#sha256={digest}\">{file}</a><br/>\n");
            self.page(&format!("/files/{file}"), "application/octet-stream", bytes.clone());
        }
        html += "</body></html>\n";
        self.page(&format!("/simple/{name}/"), "text/html", html.into_bytes());
    }

    /// Publishes all versions of one crate.
    pub(crate) fn cargo(&self, versions: &[RustCrate]) {
        let name = versions[0].name;
        let mut lines = String::new();
        for package in versions {
            let archive = packages::crate_archive(package);
            let mut entry = packages::index_entry(package);
            entry["cksum"] = json!(hex(&Sha256::digest(&archive)));
            lines += &format!("{entry}\n");
            let path = format!("/crates/{name}/{}/download", package.version);
            self.page(&path, "application/octet-stream", archive);
        }
        let place = match name.len() {
            1 | 2 => format!("{}/{name}", name.len()),
            3 => format!("3/{}/{name}", &name[..1]),
            _ => format!("{}/{}/{name}", &name[..2], &name[2..4]),
        };
        self.page(&format!("/index/{place}"), "text/plain", lines.into_bytes());
    }
}

fn serve(
    stream: &TcpStream,
    pages: &Mutex<BTreeMap<String, Page>>,
    silence: &Silence,
    guard: &Guard,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut authorization = None;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            if header == "\r\n" {
                break;
            }
            let (name, value) = header.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("authorization") {
                authorization = Some(value.trim().to_owned());
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default().replace("%2F", "%2f");
        guard.asked.lock().unwrap().push(path.clone());
        if silence.covers(&path) {
            silence.asked.fetch_add(1, Ordering::Relaxed);
            if !silence.ends(&path, stream) {
                return;
            }
        }
        let page = match guard.admits(authorization) {
            true => pages.lock().unwrap().get(&path).cloned(),
            false => Some(Page { status: 401, kind: "text/plain", body: b"who?".to_vec() }),
        };
        let page = page.unwrap_or(Page { status: 404, kind: "text/plain", body: b"no".to_vec() });
        let location = match page.status {
            301..=308 => format!("location: {}\r\n", String::from_utf8_lossy(&page.body)),
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {} Status\r\ncontent-type: {}\r\n{location}content-length: {}\r\n\r\n",
            page.status,
            page.kind,
            page.body.len()
        );
        let mut writer = stream;
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&page.body)).is_err() {
            return;
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
