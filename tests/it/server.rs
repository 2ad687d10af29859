//! A server of repositories on loopback that speaks git's smart protocol by HTTP, as git's own program for that does, behind a login;
//! and servers that know nothing of git.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::world::World;

/// Runs `git http-backend` for who has the right login, in its oldest form: without the header that would say another one.
const SERVER: &str = r#"
import base64, http.server, os, subprocess, sys

ROOT, LOGIN = sys.argv[1], "Basic " + base64.b64encode(sys.argv[2].encode()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    def serve(self):
        if self.headers.get("Authorization") != LOGIN:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        told = {
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": ROOT,
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "PATH": os.environ["PATH"],
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=told, stdout=-1, stderr=-3)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = [value for name, value in lines if name == "Status"]
        self.send_response(int(status[0].split()[0]) if status else 200)
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = serve

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Gives the files of a directory as they are, or sends everybody on; what it is asked for is written down, after its port. With a commit it
/// says at first that it speaks git's protocol and knows nothing of what that may offer.
const FILES: &str = r##"
import http.server, sys

ROOT, ASKED, TO, COMMIT = sys.argv[1:5]


def line(text):
    return b"%04x%s" % (len(text) + 4, text)


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *given):
        super().__init__(*given, directory=ROOT)

    def do_GET(self):
        with open(ASKED, "a") as asked:
            print(self.server.server_port, self.path, file=asked)
        global COMMIT
        if COMMIT:
            refs = [COMMIT.encode() + b" HEAD\0 agent=x\n", COMMIT.encode() + b" refs/heads/main\n"]
            body = line(b"# service=git-upload-pack\n") + b"0000" + b"".join(map(line, refs)) + b"0000"
            COMMIT = ""
            self.send_response(200)
            self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        if not TO:
            return super().do_GET()
        self.send_response(301)
        self.send_header("Location", TO + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"##;

/// It ends with this value.
pub(crate) struct GitServer {
    child: Child,
    port: u16,
}

impl GitServer {
    /// Serves what lies in the world's `srv`.
    pub(crate) fn start(world: &World, name: &str, password: &str) -> Self {
        let mut python = world.command("python3");
        python.args(["-c", SERVER]).arg(world.place("srv")).arg(format!("{name}:{password}"));
        Self::of(&mut python)
    }

    /// Serves the files below a place of the world as they are; the world's `asked` has which, each after the server's port.
    pub(crate) fn of_files(world: &World, place: &str) -> Self {
        Self::plain(world, place, ["", ""])
    }

    /// The same, which seems at first to have a commit and to speak git's protocol.
    pub(crate) fn that_pretends(world: &World, place: &str, commit: &str) -> Self {
        Self::plain(world, place, ["", commit])
    }

    /// Sends everybody on to another server.
    pub(crate) fn that_sends_on(world: &World, to: &str) -> Self {
        Self::plain(world, "srv", [to, ""])
    }

    fn plain(world: &World, place: &str, more: [&str; 2]) -> Self {
        let mut python = world.command("python3");
        python.args(["-c", FILES]).arg(world.place(place)).arg(world.place("asked")).args(more);
        Self::of(&mut python)
    }

    fn of(python: &mut Command) -> Self {
        let mut child = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
