"""Whether an engine answers, as tools and tests ask it; no engine is."""

import gc
from pathlib import Path
from socketserver import BaseRequestHandler, UnixStreamServer
from threading import Thread

import pytest

from tools.docker_engine import answers


def assert_none_answers() -> None:
    assert not answers()
    gc.collect()  # else a socket that nobody closed would fail any later test instead of this one


class TestAnswers:
    def test_given_nobody_at_the_socket_then_it_does_not_and_no_socket_stays_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")

        assert_none_answers()

    def test_given_somebody_who_hangs_up_then_it_does_not_and_no_socket_stays_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        with UnixStreamServer(str(tmp_path / "s"), BaseRequestHandler) as server:
            thread = Thread(target=server.serve_forever, args=(0.01,))
            thread.start()

            assert_none_answers()

            server.shutdown()
            thread.join()

    def test_given_an_address_of_a_port_where_nobody_listens_then_it_does_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2")

        assert_none_answers()
