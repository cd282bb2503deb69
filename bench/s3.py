"""A 2 GB object up and down: how fast, and how much memory the process that does it takes.

The store is a stand-in of the protocol, in a process of its own, that throws away what it gets and makes up what it
gives, so that it is neither the disk nor the store's own memory that is measured.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench.report import report

SIZE = 2 << 30
MOST_MB = 100
_BLOCK = bytes(1 << 20)
_ETAG = '"0123456789abcdef0123456789abcdef"'


def main() -> None:
    """Upload and download by `tercel run`."""
    with tempfile.TemporaryDirectory(prefix="tercel-bench-") as folder, stand_in() as address:
        root = Path(folder)
        environment = {**os.environ, "TERCEL_HOME": str(root / "home"), "AWS_ENDPOINT_URL_S3": address}
        environment |= {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench-secret",
            "AWS_REGION": "eu-central-1",
        }
        stored = root / "home" / "storage" / "bench"
        stored.mkdir(parents=True)
        with (stored / "large").open("wb") as file:
            file.truncate(SIZE)
        s3 = "type: io.kestra.plugin.aws.s3"
        tasks = {
            "idle": "type: io.kestra.plugin.aws.s3.Delete, bucket: bench, key: none",
            "upload": f"{s3}.Upload, bucket: bench, key: large, from: 'kestra:///bench/large'",
            "download": f"{s3}.Download, bucket: bench, key: large",
        }
        for name, task in tasks.items():
            flow = root / f"{name}.yaml"
            flow.write_text(f"id: {name}\nnamespace: bench\ntasks:\n  - {{id: it, {task}}}\n")
            seconds, memory_mb = _measured(flow, environment)
            report(f"s3.{name}.memory", memory_mb, "MB", target=MOST_MB)
            if name != "idle":
                report(f"s3.{name}.rate", SIZE / (1 << 20) / seconds, "MB/s")


def _measured(flow: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds that a run took, and the most memory in MB that its process had at once."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tercel", "run", str(flow), "--json"], env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(output.decode())
    assert json.loads(output)["state"]["current"] == "SUCCESS"
    return time.perf_counter() - began, usage.ru_maxrss / 1024


class _Store(BaseHTTPRequestHandler):
    """As much of S3 as an upload in parts and a download need."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """An object of zeros, or a part of it."""
        span = self.headers.get("Range")
        first, last = map(int, span.removeprefix("bytes=").split("-")) if span else (0, SIZE - 1)
        left = last - first + 1
        about = {"ETag": _ETAG, "Content-Length": str(left), "Last-Modified": "Wed, 02 Jan 2030 10:00:00 GMT"}
        if span:
            about["Content-Range"] = f"bytes {first}-{last}/{SIZE}"
        self._head(206 if span else 200, about)
        with contextlib.suppress(ConnectionError):  # of the whole only the first part is read
            while left:
                left -= self.wfile.write(_BLOCK[: min(left, len(_BLOCK))])

    def do_POST(self) -> None:
        """The beginning or the end of an upload."""
        self._read()
        if "uploads" in parse_qs(urlsplit(self.path).query, keep_blank_values=True):
            self._say("<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>")
        else:
            self._say(f"<CompleteMultipartUploadResult><ETag>{_ETAG}</ETag></CompleteMultipartUploadResult>")

    def do_PUT(self) -> None:
        """A part."""
        self._read()
        self._head(200, {"ETag": _ETAG, "Content-Length": "0"})

    def do_DELETE(self) -> None:
        """Nothing to delete."""
        self._head(204, {"Content-Length": "0"})

    def _read(self) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            left -= len(self.rfile.read(min(left, len(_BLOCK))))

    def _say(self, text: str) -> None:
        self._head(200, {"Content-Type": "application/xml", "Content-Length": str(len(text))})
        self.wfile.write(text.encode())

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def stand_in() -> Generator[str]:
    """The store in a process of its own; gives its address."""
    process = subprocess.Popen([sys.executable, "-m", "bench.s3", "serve"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def serve() -> None:
    """Be the store."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Store)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
