"""A MongoDB server for tests: `mongod` where it is on the path, else the stand-in of `tests.mongodb_server`.

Either listens on loopback, wants a login, and ends with the test run. Tests use databases of names of their own.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymongo

USERNAME = "tester"
PASSWORD = "open-sesame/27017"  # has to be percent-encoded in an address
DEADLINE_S = 30.0


class MongoServer:
    """A server that runs, and a client of it.

    Attributes:
        address: host and port.
        uri: with login, as `connection.uri` wants it.
        client: logged in.
    """

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.uri = self.uri_of(USERNAME, PASSWORD)
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.uri, tz_aware=True)

    def uri_of(self, username: str, password: str) -> str:
        """The address with another login."""
        return f"mongodb://{quote(username, safe='')}:{quote(password, safe='')}@{self.address}/?authSource=admin"

    def insert(self, database: str, collection: str, documents: Sequence[Mapping[str, Any]]) -> None:
        self.client[database][collection].insert_many([dict(document) for document in documents])

    def documents(self, database: str, collection: str) -> list[dict[str, Any]]:
        """All documents, in the order of their insertion."""
        return list(self.client[database][collection].find())

    def count(self, database: str, collection: str) -> int:
        return len(self.documents(database, collection))

    @contextmanager
    def failing(self, *commands: str, times: int | None = None, **how: object) -> Iterator[None]:
        """Have commands fail meanwhile, as MongoDB's fail point `failCommand` does by *how*."""
        mode = "alwaysOn" if times is None else {"times": times}
        data = {"failCommands": list(commands), **how}
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        try:
            yield
        finally:
            self.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@contextmanager
def running_server() -> Iterator[MongoServer]:
    """Start a server, and end it afterwards."""
    mongod = shutil.which("mongod")
    with _stand_in() if mongod is None else _mongod(mongod) as port:
        server = MongoServer(port)
        try:
            yield server
        finally:
            server.client.close()


@contextmanager
def _stand_in() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mongodb_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    # Its standard input ends with this process, and so does it, however this process ends.
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"username": USERNAME, "password": PASSWORD}) + "\n")
        process.stdin.flush()
        yield int(process.stdout.readline())
        process.stdin.close()
        process.wait(DEADLINE_S)


@contextmanager
def _mongod(program: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tercel-mongod-") as folder:
        command = [program, "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--auth"]
        command += ["--nounixsocket", "--setParameter", "enableTestCommands=1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _create_user(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


def _create_user(port: int, process: subprocess.Popen[bytes]) -> None:
    """Make the first user, which a mongod allows from its own machine without a login."""
    deadline = time.monotonic() + DEADLINE_S
    with pymongo.MongoClient[Mapping[str, Any]](port=port, serverSelectionTimeoutMS=500) as client:
        while True:
            try:
                client.admin.command("createUser", USERNAME, pwd=PASSWORD, roles=["root"])
            except pymongo.errors.ServerSelectionTimeoutError:
                assert process.poll() is None, "mongod did not start"
                assert time.monotonic() < deadline, "mongod does not answer"
            else:
                return
