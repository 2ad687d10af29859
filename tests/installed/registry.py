"""A recording registry on the loopback for npm, PyPI and crates.io: documents and archives as the real one gives them.

The first question about a path goes to the registry that the installed client is configured for; every later one is answered
from `.recordings/installed/ECOSYSTEM`, which git ignores, so that every tool reads the same bytes and a run repeats. A recorded
path is one file: its name is the path with every odd character quoted. Documents name this registry by `HERE`, which is
replaced when they are served; so whoever else serves the folder (`bolide bench install` does) needs to know no format.
"""

import html.parser
import http.client
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse

HERE = "http://recording.invalid/"
UPSTREAM_SECONDS = 120
ATTEMPTS = 4
SIMPLE = "application/vnd.pypi.simple.v1+json"
# What a client reads of a version to resolve and to install it, and of its archive.
NPM_FIELDS = (
    "name version dependencies optionalDependencies peerDependencies peerDependenciesMeta bundleDependencies "
    "bundledDependencies bin engines os cpu libc deprecated hasInstallScript _hasShrinkwrap license"
).split()
NPM_DIST_FIELDS = ("integrity", "shasum", "unpackedSize", "fileCount")


def output(*command, **how):
    return subprocess.run(command, check=True, capture_output=True, text=True, **how).stdout.strip()


def npm_registry():
    return output("npm", "config", "get", "registry").splitlines()[-1].rstrip("/") + "/"


def pypi_index():
    """The index of pip's configuration, else the default that pip's help tells."""
    pip = [sys.executable, "-I", "-m", "pip"]
    for key in ("install.index-url", "global.index-url"):
        found = subprocess.run([*pip, "config", "get", key], capture_output=True, text=True)
        if found.returncode == 0:
            return found.stdout.strip().rstrip("/") + "/"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PIP_")}
    found = re.search(r"defaulthttps?://[^)\s]*", re.sub(r"[\s(]", "", output(*pip, "install", "--help", env=environment)))
    if not found:
        sys.exit("pip does not tell its index")
    return found.group(0).removeprefix("default").rstrip("/") + "/"


def cargo_index():
    """The sparse index that cargo uses here, by the name of cargo's own cache of it."""
    with tempfile.TemporaryDirectory() as home:
        project = pathlib.Path(home, "probe")
        (project / "src").mkdir(parents=True)
        (project / "src" / "lib.rs").touch()
        manifest = '[package]\nname = "probe"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\ncfg-if = "1"\n'
        (project / "Cargo.toml").write_text(manifest)
        output("cargo", "generate-lockfile", cwd=project, env={**os.environ, "CARGO_HOME": home})
        for found in pathlib.Path(home, "registry", "index").glob("*-????????????????"):
            return f"https://{found.name[:-17]}/"
    sys.exit("cargo here uses no sparse index")


class Upstream(threading.local):
    """One connection for each thread and host."""

    def __init__(self):
        self.connections = {}

    def get(self, url, headers=None, redirects=5):
        """Status, headers and body; follows redirects."""
        parts = urllib.parse.urlsplit(url)
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        for attempt in range(ATTEMPTS):
            connection = self.connections.get(parts.netloc) or make(parts.netloc, timeout=UPSTREAM_SECONDS)
            self.connections[parts.netloc] = connection
            try:
                connection.request("GET", path, headers={"Accept-Encoding": "identity", **(headers or {})})
                reply = connection.getresponse()
                body = reply.read()
            except (OSError, http.client.HTTPException):
                self.connections.pop(parts.netloc).close()
                if attempt + 1 == ATTEMPTS:
                    raise
                continue
            if reply.status < 500 and reply.status != 429:
                break
        if reply.status in (301, 302, 303, 307, 308) and redirects:
            return self.get(urllib.parse.urljoin(url, reply.headers["Location"]), headers, redirects - 1)
        return reply.status, reply.headers, body, url


class Npm:
    """`NAME` and `NAME/-/FILE`."""

    def __init__(self, upstream):
        self.upstream, self.url = upstream, npm_registry()

    def fetch(self, path):
        name, _, file = path.partition("/-/")
        address = self.url + urllib.parse.quote(name, safe="@") + (f"/-/{file}" if file else "")
        status, _, body, _ = self.upstream.get(address)
        if status != 200:
            return status, b""
        return status, body if file else self.document(name, json.loads(body))

    def document(self, name, whole):
        versions = {}
        for text, version in whole.get("versions", {}).items():
            file = version.get("dist", {}).get("tarball", "").rsplit("/", 1)[-1]
            kept = {field: version[field] for field in NPM_FIELDS if field in version}
            dist = {field: version["dist"][field] for field in NPM_DIST_FIELDS if field in version.get("dist", {})}
            kept["dist"] = {**dist, "tarball": f"{HERE}{name}/-/{file}"}
            if any(script in version.get("scripts", {}) for script in ("preinstall", "install", "postinstall")):
                kept["hasInstallScript"] = True
            versions[text] = kept
        rest = {field: whole[field] for field in ("name", "dist-tags", "time", "modified") if field in whole}
        return json.dumps({**rest, "versions": versions}).encode()


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found.append(dict(attributes))


class Pypi:
    """`simple/NAME/`, `files/NAME/FILE` and `files/NAME/FILE.metadata`."""

    def __init__(self, upstream):
        self.upstream, self.url, self.pages = upstream, pypi_index(), {}

    def fetch(self, path):
        parts = path.strip("/").split("/")
        if parts[0] == "simple" and len(parts) == 2:
            page = self.page(parts[1])
            return (200, self.document(parts[1], page)) if page is not None else (404, b"")
        if parts[0] == "files" and len(parts) == 3:
            name = parts[2].removesuffix(".metadata")
            file = next((one for one in self.page(parts[1]) or [] if one["filename"] == name), None)
            if file:
                status, _, body, _ = self.upstream.get(file["url"] + parts[2][len(name) :])
                return status, body
        return 404, b""

    def page(self, name):
        """The files of a project, with addresses as the index has them."""
        if name not in self.pages:
            accept = {"Accept": f"{SIMPLE}, text/html;q=0.5"}
            status, headers, body, address = self.upstream.get(f"{self.url}{name}/", accept)
            if status not in (200, 404):
                raise OSError(f"{status} for the page of {name}")
            if status == 404:
                self.pages[name] = None
            elif "json" in headers.get("Content-Type", ""):
                files = json.loads(body)["files"]
                self.pages[name] = [{**file, "url": urllib.parse.urljoin(address, file["url"])} for file in files]
            else:
                links = Links()
                links.feed(body.decode())
                self.pages[name] = [listed(link, address) for link in links.found if link.get("href")]
        return self.pages[name]

    def document(self, name, page):
        files = []
        fields = ("filename", "hashes", "requires-python", "yanked", "upload-time", "size", "core-metadata")
        for file in page:
            kept = {field: file[field] for field in fields if file.get(field)}
            files.append({**kept, "url": f"{HERE}files/{name}/{urllib.parse.quote(file['filename'])}"})
        return json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode()


def listed(link, address):
    url, _, fragment = urllib.parse.urljoin(address, link["href"]).partition("#")
    algorithm, _, digest = fragment.partition("=")
    file = {"filename": urllib.parse.unquote(url.rsplit("/", 1)[1]), "url": url}
    file["hashes"] = {algorithm: digest} if digest else {}
    if link.get("data-requires-python"):
        file["requires-python"] = link["data-requires-python"]
    if "data-yanked" in link:
        file["yanked"] = link["data-yanked"] or True
    if link.get("data-core-metadata", link.get("data-dist-info-metadata")):
        file["core-metadata"] = True
    return file


class Cargo:
    """`config.json`, the index's files, and `crates/NAME/VERSION`."""

    def __init__(self, upstream):
        self.upstream, self.url, self.downloads = upstream, cargo_index(), None

    def fetch(self, path):
        if path == "config.json":
            return 200, json.dumps({"dl": f"{HERE}crates/{{crate}}/{{version}}"}).encode()
        if not path.startswith("crates/"):
            return self.upstream.get(self.url + path)[::2]
        if self.downloads is None:
            self.downloads = json.loads(self.upstream.get(f"{self.url}config.json")[2])["dl"]
        _, name, version = path.split("/")
        address = self.downloads if "{" in self.downloads else f"{self.downloads}/{{crate}}/{{version}}/download"
        return self.upstream.get(address.replace("{crate}", name).replace("{version}", version))[::2]


KINDS = {"npm": Npm, "pypi": Pypi, "cargo": Cargo}


def is_archive(path):
    return not path.endswith(".metadata") and ("/-/" in path or path.startswith(("files/", "crates/")))


class Registry:
    """Serves and records one ecosystem; with `offline` what is not recorded is not there."""

    def __init__(self, ecosystem, recordings, offline):
        self.place = pathlib.Path(recordings, ecosystem)
        self.place.mkdir(parents=True, exist_ok=True)
        self.ecosystem, self.offline = ecosystem, offline
        self.kind = None
        self.guard, self.locks = threading.Lock(), {}
        self.server = Server(("127.0.0.1", 0), handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path):
        """Status and body."""
        name = urllib.parse.quote(path, safe="@")
        kept, absent = self.place / name, self.place / f"{name}.absent"
        with self.guard:
            lock = self.locks.setdefault(name, threading.Lock())
        with lock:
            if not kept.exists():
                if absent.exists() or self.offline:
                    return 404, b""
                with self.guard:
                    self.kind = self.kind or KINDS[self.ecosystem](Upstream())
                status, body = self.kind.fetch(path)
                if status in (404, 410, 451):
                    absent.touch()
                    return 404, b""
                if status != 200:
                    return 502, b""
                beside = self.place / f".{threading.get_ident()}.part"
                beside.write_bytes(body)
                beside.rename(kept)
        body = kept.read_bytes()
        return 200, body if is_archive(path) else body.replace(HERE.encode(), self.url.encode())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        """A client that ends while answers are under way is nothing to report."""


def handler(registry):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            path = urllib.parse.unquote(self.path.split("?")[0]).lstrip("/")
            try:
                status, body = registry.answer(path)
            except Exception as problem:  # The client sees it, and so does the person who waits.
                print(f"recording: {path}: {problem}", file=sys.stderr)
                status, body = 502, b""
            part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            whole = len(body)
            if status == 200 and part and is_archive(path):
                first = int(part[1]) if part[1] else max(0, whole - int(part[2] or 0))
                last = min(whole - 1, int(part[2])) if part[1] and part[2] else whole - 1
                status, body = 206, body[first : last + 1]
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", content_type(registry.ecosystem, path))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    return Handler


def content_type(ecosystem, path):
    if is_archive(path):
        return "application/octet-stream"
    return {"npm": "application/json", "pypi": SIMPLE, "cargo": "text/plain"}[ecosystem]
