"""`tercel server` as a process of its own, on a free port, as clients of all kinds use it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType

from tests.command_line import command, environment

USER, PASSWORD, TOKEN = "me@example.com", "Secret123", "a-token-of-mine"
CREDENTIALS = {"TERCEL_USERNAME": USER, "TERCEL_PASSWORD": PASSWORD, "TERCEL_API_TOKENS": TOKEN}

_READY = re.compile(r"Ready\. Server Running on (http://[^,]+),")


class ApiServer:
    """A server with a home; use it as a context.

    Attributes:
        address: where it answers, without a path.
        process: its own.
    """

    def __init__(self, home: Path, env: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._env = {"TERCEL_MANAGEMENT_PORT": "0", **(env or {})}
        self._said: deque[str] = deque(maxlen=1000)

    def __enter__(self) -> ApiServer:
        self.process = subprocess.Popen(
            command("server", "--host", "127.0.0.1", "--port", "0"),
            env=environment(self._home, self._env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line)
            if ready := _READY.search(line):
                self.address = ready[1]
                break
        else:
            raise AssertionError(f"the server has not started: {self.said}")
        self._reader = Thread(target=self._said.extend, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        return self

    @property
    def said(self) -> str:
        """What it has written to stderr so far."""
        return "".join(self._said)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()
