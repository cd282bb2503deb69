"""Calls at set times."""

from __future__ import annotations

from queue import SimpleQueue

from tercel.worker.timers import Timers


def test_given_several_timers_then_they_fire_in_order_of_time() -> None:
    timers, fired = Timers("test"), SimpleQueue[str]()

    timers.after(0.06, lambda: fired.put("late"))
    timers.after(0.02, lambda: fired.put("early"))

    assert [fired.get(timeout=5), fired.get(timeout=5)] == ["early", "late"]


def test_given_a_cancelled_timer_then_it_never_fires() -> None:
    timers, fired = Timers("test"), SimpleQueue[str]()

    timers.after(0.01, lambda: fired.put("cancelled")).cancel()
    timers.after(0.03, lambda: fired.put("kept"))

    assert fired.get(timeout=5) == "kept"
    assert fired.empty()


def test_given_no_timer_then_there_is_no_thread() -> None:
    timers = Timers("test-idle")

    assert timers._thread is None  # pyright: ignore[reportPrivateUsage]
