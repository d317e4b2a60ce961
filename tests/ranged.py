"""A server that gives files in byte ranges and writes down what it gave."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fsspec.spec import AbstractFileSystem


class RangedServer:
    """Serves bytes by name; `given` has each (start, end) it gave, `bad` offsets it refuses."""

    def __init__(self, **files):
        self.files, self.given, self.bad, self.tag = files, [], set(), "one"
        self.ranges = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, *, body):
                data = outer.files.get(self.path.strip("/"))
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                if data is None:
                    return self.send_error(404)
                start, end = 0, len(data)
                if asked and outer.ranges:
                    start, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
                    if any(start <= bad < end for bad in outer.bad):
                        return self.send_error(500)
                self.send_response(206 if asked and outer.ranges else 200)
                self.send_header("Content-Length", str(end - start))
                self.send_header("Accept-Ranges", "bytes" if outer.ranges else "none")
                self.send_header("ETag", outer.tag)
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
                self.end_headers()
                if body:
                    outer.given.append((start, end))
                    self.wfile.write(data[start:end])
                return None

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, name, scheme="ranged"):
        return f"{scheme}://127.0.0.1:{self.port}/{name}"

    @property
    def n_bytes(self):
        return sum(end - start for start, end in self.given)

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RangedFileSystem(AbstractFileSystem):
    """HTTP byte ranges for fsspec with the standard library alone: "ranged" instead of "http"."""

    protocol = "ranged"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return path

    def _ask(self, path, method="GET", **headers):
        url = path.replace("ranged:", "http:")
        request = urllib.request.Request(url, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"the server answers {error.code}") from None

    def info(self, path, **_):
        headers, _ = self._ask(path, "HEAD")
        partial = headers["Accept-Ranges"] == "bytes"
        size = int(headers["Content-Length"])
        return {"name": path, "size": size, "ETag": headers["ETag"], "partial": partial}

    def cat_file(self, path, start=None, end=None, **_):
        return self._ask(path, Range=f"bytes={start}-{end - 1}")[1]
