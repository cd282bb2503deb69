"""A stop at any moment, and what is kept back of a command's output; no engine."""

import threading
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.plugins.scripts.docker import running
from tests.contract.test_task_runner import eventually

SOON_S = 0.01
NEVER_S = 1000.0


class Ended:
    """What was done to end something, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may_ask = threading.Event()
        self.may_ask.set()

    def ask(self) -> None:
        assert self.may_ask.wait(10)
        self.calls.append("asked")

    def force(self) -> None:
        self.calls.append("forced")


@pytest.fixture
def ended() -> Ended:
    return Ended()


@pytest.fixture
def stop() -> Iterator[running._Stop]:
    made = running._Stop()
    yield made
    made.is_over()


def settle() -> None:
    """Wait for all that asks."""
    for thread in threading.enumerate():
        if thread.name == "tercel-ask":
            thread.join(10)


class TestStop:
    def test_given_a_request_while_it_runs_then_it_is_asked_once_and_then_ended_by_force(
        self, stop: running._Stop, ended: Ended
    ) -> None:
        stop.runs(ended.ask, ended.force, SOON_S)

        stop.request()
        stop.request()

        eventually(lambda: ended.calls == ["asked", "forced"])
        assert stop.is_requested

    def test_given_a_request_before_it_runs_then_it_is_asked_as_soon_as_it_does(
        self, stop: running._Stop, ended: Ended
    ) -> None:
        stop.request()
        assert ended.calls == []

        stop.runs(ended.ask, ended.force, NEVER_S)

        eventually(lambda: ended.calls == ["asked"])

    def test_given_it_is_over_then_it_is_not_asked_any_more(self, stop: running._Stop, ended: Ended) -> None:
        stop.runs(ended.ask, ended.force, SOON_S)

        stop.is_over()
        stop.request()
        settle()

        assert ended.calls == []

    def test_given_an_end_within_the_grace_then_no_force_is_used(self, stop: running._Stop, ended: Ended) -> None:
        stop.runs(ended.ask, ended.force, 0.2)
        stop.request()
        settle()

        stop.is_over()
        assert stop._grace is not None
        stop._grace.join(10)

        assert ended.calls == ["asked"]

    def test_given_an_engine_that_does_not_answer_then_nobody_waits_for_it_and_force_comes_in_time(
        self, stop: running._Stop, ended: Ended
    ) -> None:
        ended.may_ask.clear()
        stop.runs(ended.ask, ended.force, SOON_S)

        stop.request()  # comes back at once

        eventually(lambda: ended.calls == ["forced"])
        ended.may_ask.set()

    def test_given_nothing_that_ran_then_the_end_is_quiet(self, stop: running._Stop) -> None:
        stop.is_over()
        stop.request()

        assert stop.is_requested

    def test_given_requests_from_many_threads_at_the_start_then_it_is_asked_once(self) -> None:
        for _ in range(100):
            ended, stop = Ended(), running._Stop()
            barrier = threading.Barrier(4)

            def request(stop: running._Stop = stop, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(10)
                stop.request()

            threads = [threading.Thread(target=request) for _ in range(3)]
            for thread in threads:
                thread.start()
            barrier.wait(10)
            stop.runs(ended.ask, ended.force, NEVER_S)
            for thread in threads:
                thread.join()
            settle()
            stop.is_over()

            assert ended.calls == ["asked"]


class Kept:
    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""

    def __call__(self, stream: Literal["stdout", "stderr"], block: bytes) -> None:
        if stream == "stdout":
            self.stdout += block
        else:
            self.stderr += block


class TestOutput:
    @given(sizes=st.lists(st.integers(min_value=1, max_value=12)))
    def test_given_the_token_cut_anywhere_then_it_is_understood_and_not_handed_on(self, sizes: list[int]) -> None:
        kept = Kept()
        output = running._Output(kept)
        text = f"{output.token}\n".encode()

        for size in sizes:
            output("stderr", text[:size])
            text = text[size:]
            output("stdout", b".")
        if text:
            output("stderr", text)
        output.end()

        assert output.is_missing
        assert (kept.stdout, kept.stderr) == (b"." * len(sizes), b"")

    @pytest.mark.parametrize(
        "blocks",
        [
            [b"t"],
            [b"tercel-"],
            [b"terc", b"el is a bird\n", b"t"],
            [b"warning\n", b"tercel-"],
            [b""],
        ],
    )
    def test_given_other_output_then_all_of_it_is_handed_on(self, blocks: list[bytes]) -> None:
        kept = Kept()
        output = running._Output(kept)

        for block in blocks:
            output("stderr", block)
        output.end()

        assert not output.is_missing
        assert kept.stderr == b"".join(blocks)

    def test_given_the_token_and_more_then_it_is_output(self) -> None:
        kept = Kept()
        output = running._Output(kept)

        output("stderr", f"{output.token}\n".encode())
        output("stderr", b"more")
        output.end()

        assert not output.is_missing
        assert kept.stderr == f"{output.token}\nmore".encode()
