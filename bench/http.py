"""What HTTP tasks cost with a gigabyte, over curl doing the same in the same run, and the memory that they take.

Needs `curl`. Prints one JSON line a figure. Each figure is of a whole `tercel run`, its start included.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.report import report

BYTES = int(os.environ.get("TERCEL_BENCH_HTTP_BYTES", str(1 << 30)))
ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "3"))
BLOCK = 1 << 20
HTTP = "io.kestra.plugin.core.http"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tercel-bench-", dir=os.environ.get("TERCEL_BENCH_DIR")) as name:
        folder = Path(name)
        # A process of its own, so that neither side waits for its interpreter.
        command = [sys.executable, "-m", "bench.http", "serve"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{int(server.stdout.readline())}"
            try:
                measure(folder, address)
            finally:
                server.terminate()


def measure(folder: Path, address: str) -> None:
    target = folder / "target"
    warm = flow(folder, "Download", f"{address}/small")
    tercel(folder, warm)
    ours, theirs = in_turns(
        lambda: tercel(folder, flow(folder, "Download", f"{address}/plain")),
        lambda: run(["curl", "-sS", "--fail", "-o", str(target), f"{address}/plain"]),
    )
    report("http.download", ours[0], floor=theirs[0], target_ratio=2.5)
    report("http.download_memory", ours[1], "MB", floor=theirs[1], target=100)
    report("http.request_memory", tercel(folder, flow(folder, "Request", f"{address}/plain"))[1], "MB", target=150)
    report("http.gzip_memory", tercel(folder, flow(folder, "Download", f"{address}/gzip"))[1], "MB", target=100)
    upload(folder, address, target)


def upload(folder: Path, address: str, source: Path) -> None:
    """A namespace file sent as the body of a request."""
    home = folder / "home"
    saved = ["namespace", "files", "put", "bench", str(source), "big.bin", "--home", str(home)]
    subprocess.run([sys.executable, "-m", "tercel", *saved], check=True, capture_output=True)
    sending = flow(folder, "Request", f"{address}/taken", "method: POST, body: 'nsfile:///big.bin'")
    ours, theirs = in_turns(
        lambda: tercel(folder, sending),
        lambda: run(["curl", "-sS", "--fail", "-H", "Expect:", "-X", "POST", "-T", str(source), f"{address}/taken"]),
    )
    report("http.upload", ours[0], floor=theirs[0], target_ratio=2.5)
    report("http.upload_memory", ours[1], "MB", target=100)


def flow(folder: Path, kind: str, uri: str, more: str = "") -> Path:
    path = folder / "flow.yaml"
    task = f"{{id: http, type: {HTTP}.{kind}, uri: '{uri}'{', ' if more else ''}{more}}}"
    path.write_text(f"id: http\nnamespace: bench\ntasks: [{task}]\n")
    return path


def tercel(folder: Path, path: Path) -> tuple[float, float]:
    """Run a flow, and remove what it stored; gives seconds and megabytes."""
    home = folder / "home"
    taken = run([sys.executable, "-m", "tercel", "run", str(path), "--home", str(home)])
    for file in (home / "storage").rglob("executions/**/*"):
        if file.is_file():
            file.unlink()
    return taken


def run(command: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and the megabytes of memory that it had at most."""
    began = time.perf_counter()
    env = {name: value for name, value in os.environ.items() if not name.startswith("TERCEL_BENCH_")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}.")
    return time.perf_counter() - began, usage.ru_maxrss * 1024 / 1e6


def in_turns(*actions: Callable[[], tuple[float, float]]) -> list[tuple[float, float]]:
    """The least seconds and the most megabytes of each action, one after the other in every round."""
    taken = [[action() for action in actions] for _ in range(ROUNDS)]
    return [(min(one[0] for one in column), max(one[1] for one in column)) for column in zip(*taken, strict=True)]


def serve() -> None:
    """Answer with many bytes, as they are or as gzip, or take them; prints the port."""
    packer = zlib.compressobj(1, wbits=31)
    packed = b"".join(packer.compress(bytes(BLOCK)) for _ in range(BYTES // BLOCK)) + packer.flush()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=answer, args=(listening.accept()[0], packed), daemon=True).start()


def answer(connection: socket.socket, packed: bytes) -> None:
    with connection, suppress(OSError):
        head, _, start = until_head(connection).partition(b"\r\n\r\n")
        path = head.split(b" ")[1]
        if path == b"/taken":
            left = BYTES - len(start)
            buffer = bytearray(BLOCK)
            while left > 0 and (count := connection.recv_into(buffer)):
                left -= count
        sizes = {b"/plain": BYTES, b"/gzip": len(packed)}
        encoding = "Content-Encoding: gzip\r\n" if path == b"/gzip" else ""
        size = sizes.get(path, 5)
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{encoding}Connection: close\r\n\r\n".encode())
        if path == b"/gzip":
            connection.sendall(packed)
            return
        block = b"\n" * BLOCK
        while size > 0:
            connection.sendall(block[:size])
            size -= BLOCK


def until_head(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(BLOCK)
    return received


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
