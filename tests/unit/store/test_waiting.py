import asyncio
from threading import Thread, Timer
from time import monotonic

import pytest

from tercel.errors import InvariantError
from tercel.store.waiting import Bell, Promise, run


class TestPromise:
    def test_given_a_value_when_it_is_brought_twice_then_the_first_counts(self) -> None:
        promise: Promise[int] = Promise()

        promise.resolve(1)
        promise.resolve(2)
        promise.fail(ValueError())

        assert promise.is_done
        assert promise.result() == 1

    def test_given_no_value_yet_when_it_is_read_then_that_is_our_mistake(self) -> None:
        with pytest.raises(InvariantError, match="read before it was kept"):
            Promise[int]().result()

    def test_given_another_thread_brings_it_when_waiting_then_this_one_blocks_until_then(self) -> None:
        promise: Promise[str] = Promise()
        Timer(0.01, promise.resolve, ["late"]).start()

        assert promise.wait(5) == "late"

    def test_given_nobody_brings_it_when_time_is_up_then_waiting_says_so(self) -> None:
        with pytest.raises(TimeoutError):
            Promise[int]().wait(0.001)

    def test_given_an_error_when_waiting_then_it_is_raised(self) -> None:
        promise: Promise[int] = Promise()
        promise.fail(KeyError("gone"))

        with pytest.raises(KeyError, match="gone"):
            promise.wait()

    def test_given_callbacks_when_done_then_each_is_called_once_before_or_after(self) -> None:
        promise: Promise[int] = Promise()
        calls: list[str] = []

        promise.when_done(lambda: calls.append("before"))
        promise.resolve(1)
        promise.when_done(lambda: calls.append("after"))

        assert calls == ["before", "after"]


async def _doubled(promise: Promise[int]) -> int:
    return 2 * await promise


class TestDrivers:
    def test_given_no_loop_when_a_coroutine_awaits_then_the_thread_blocks(self) -> None:
        promise: Promise[int] = Promise()
        Timer(0.01, promise.resolve, [21]).start()

        assert run(_doubled(promise)) == 42

    def test_given_an_asyncio_loop_when_a_coroutine_awaits_then_the_loop_goes_on(self) -> None:
        async def both() -> tuple[int, bool]:
            promise: Promise[int] = Promise()
            waiting = asyncio.create_task(_doubled(promise))
            await asyncio.sleep(0)
            went_on = not waiting.done()
            Thread(target=promise.resolve, args=[4]).start()
            return await waiting, went_on

        assert asyncio.run(both()) == (8, True)

    def test_given_a_cancelled_task_when_the_promise_is_kept_then_nothing_breaks(self) -> None:
        async def cancelled() -> bool:
            promise: Promise[int] = Promise()
            waiting = asyncio.create_task(_doubled(promise))
            await asyncio.sleep(0)
            waiting.cancel()
            promise.resolve(1)
            await asyncio.gather(waiting, return_exceptions=True)
            return waiting.cancelled()

        assert asyncio.run(cancelled())

    def test_given_a_loop_that_is_closed_when_the_promise_is_kept_then_nothing_breaks(self) -> None:
        promise: Promise[int] = Promise()

        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_doubled(promise), 0.001)

        asyncio.run(give_up())
        promise.resolve(1)

        assert promise.result() == 1

    def test_given_an_error_when_a_coroutine_awaits_then_it_can_be_caught(self) -> None:
        promise: Promise[int] = Promise()
        promise.fail(ValueError("no"))

        with pytest.raises(ValueError, match="no"):
            run(_doubled(promise))

    def test_given_something_else_is_awaited_outside_a_loop_then_that_is_our_mistake(self) -> None:
        with pytest.raises(InvariantError, match="other than a promise"):
            run(asyncio.sleep(0))


class TestBell:
    def test_given_rings_before_the_wait_then_they_count_as_one(self) -> None:
        bell = Bell()

        bell.ring()
        bell.ring()

        assert bell.wait(0) is True
        assert bell.wait(0) is False

    def test_given_a_ring_while_waiting_then_the_wait_ends(self) -> None:
        bell = Bell()
        Timer(0.01, bell.ring).start()
        began = monotonic()

        assert bell.wait(10) is True
        assert monotonic() - began < 5
