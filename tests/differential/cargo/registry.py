"""A loopback sparse registry that records: what it lacks it asks of the registry behind it, once.

Both sides of a comparison read the same bytes, and a run repeats without a network.
"""

import http.client
import http.server
import json
import os
import pathlib
import threading
import urllib.error
import urllib.parse
import urllib.request

# Seconds for one answer of the registry behind; an index file is at most some megabytes.
UPSTREAM_SECONDS = 60
MISSING = (404, 410, 451)


def path_of(name):
    """Where the index keeps a crate."""
    lower = name.lower()
    if len(lower) < 3:
        return f"{len(lower)}/{lower}"
    if len(lower) == 3:
        return f"3/{lower[0]}/{lower}"
    return f"{lower[:2]}/{lower[2:4]}/{lower}"


class Registry:
    """Serves the recordings in `place`; `upstream` is `None` for a run that may not record."""

    def __init__(self, place, upstream):
        self.place = pathlib.Path(place)
        self.upstream = upstream
        self.recorded = 0
        # (name, version) pairs that are served as withdrawn.
        self.yanked = set()
        self.kept = threading.local()
        # Lines by crate in the place of all recordings.
        self.universe = None
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                body, status = registry.answer(self.path.lstrip("/"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            # A client that ends while answers are under way is nothing to report.
            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path):
        if path == "config.json":
            return b'{"dl": "%sdl"}' % self.url.encode(), 200
        if ".." in path.split("/"):
            return b"", 404
        if self.universe is not None:
            lines = self.universe.get(path.rsplit("/", 1)[-1])
            body = b"".join(json.dumps(line).encode() + b"\n" for line in lines or [])
            return body, 200 if lines else 404
        file = self.place / path
        missing = file.with_name(file.name + ".missing")
        if file.is_file():
            return self.served(file), 200
        if missing.exists() or self.upstream is None:
            return b"", 404
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            body, status = self.asked(path)
        except (OSError, http.client.HTTPException):
            return b"", 502
        if status in MISSING:
            missing.touch()
            return b"", 404
        if status != 200:
            return b"", 502
        part = file.with_name(f"{file.name}.{threading.get_ident()}.part")
        part.write_bytes(body)
        os.replace(part, file)
        self.recorded += 1
        return self.served(file), 200

    def asked(self, path):
        """An answer of the registry behind. A connection is kept for each of the client's, because there are thousands."""
        place = urllib.parse.urlsplit(self.upstream + path)
        if urllib.request.getproxies().get(place.scheme):
            try:
                with urllib.request.urlopen(self.upstream + path, timeout=UPSTREAM_SECONDS) as reply:
                    return reply.read(), reply.status
            except urllib.error.HTTPError as error:
                return b"", error.code
        for _ in range(2):
            connection = getattr(self.kept, "connection", None)
            if connection is None:
                kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
                connection = self.kept.connection = kind(place.netloc, timeout=UPSTREAM_SECONDS)
            try:
                connection.request("GET", place.path)
                reply = connection.getresponse()
                return reply.read(), reply.status
            except (OSError, http.client.HTTPException):
                # It was closed while nothing was asked.
                connection.close()
                self.kept.connection = None
        raise OSError("the registry behind does not answer")

    def served(self, file):
        """A recorded file, with what this run withdraws."""
        body = file.read_bytes()
        gone = {version for name, version in self.yanked if path_of(name) == str(file.relative_to(self.place))}
        if not gone:
            return body
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        return b"".join(json.dumps({**line, "yanked": line["yanked"] or line["vers"] in gone}).encode() + b"\n" for line in lines)
