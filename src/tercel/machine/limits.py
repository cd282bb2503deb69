"""How often, how long, how many: retries, timeouts, lost workers.

Pure. Time comes in as *now*; nothing is read, written or drawn at random.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

from tercel.model.execution import Attempt, TaskRun
from tercel.model.state import State
from tercel.model.task import Retry

MAX_LOST = 3
"""The loss of a worker that fails the task run; the ones before start it again."""

TIMEOUT_GRACE = timedelta(seconds=30)
"""How long after a task's timeout the machine waits for the worker to say so itself."""

DIRECTORY_GRACE = timedelta(minutes=10)
"""The same for a WorkingDirectory, which after its timeout still captures its output files."""

LONGEST = timedelta(days=36_500)
"""No wait is longer: an instant has to exist at its end."""


def counted_attempts(run: TaskRun) -> Sequence[Attempt]:
    """The attempts of a task run that count for its retries: a restart gives it all of them again."""
    return run.attempts[run.past_attempts :]


def failed_attempts(attempts: Sequence[Attempt]) -> int:
    """How many attempts failed: what retries count, unlike losses and kills."""
    return sum(1 for attempt in attempts if attempt.state is State.FAILED)


def next_attempt_at(retry: Retry, attempts: Sequence[Attempt], now: datetime, seed: str = "") -> datetime | None:
    """Say when a failed task run is tried again.

    Args:
        retry: the policy of the task.
        attempts: those that count so far, oldest first; at least one, the last one failed.
        now: the current instant, in UTC.
        seed: what a random delay is drawn from, together with the number of attempts; a task run's id.

    Returns:
        An instant in UTC, never before *now*; None after the last attempt.

    Example:
        >>> from datetime import UTC
        >>> from tercel.model.state import StateChange
        >>> noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
        >>> attempt = Attempt((StateChange(State.RUNNING, noon), StateChange(State.FAILED, noon)))
        >>> next_attempt_at(Retry(interval=timedelta(minutes=5), max_attempts=3), [attempt], noon).minute
        5
    """
    first, last = attempts[0].history[0].date, attempts[-1].history[-1].date
    return _next_at(retry, failed_attempts(attempts), (first, last), now, seed)


def next_execution_at(
    retry: Retry, done: int, tried: tuple[datetime, datetime], now: datetime, seed: str
) -> datetime | None:
    """Say when a flow is tried again by a new execution.

    Args:
        retry: the policy of the task that failed.
        done: how many executions tried so far.
        tried: when the first of them was created, and when the last attempt ended.
        now: the current instant, in UTC.
        seed: what a random delay is drawn from; the execution's id.

    Returns:
        An instant in UTC, never before *now*; None after the last one.
    """
    return _next_at(retry, done, tried, now, seed)


def _next_at(retry: Retry, done: int, tried: tuple[datetime, datetime], now: datetime, seed: str) -> datetime | None:
    first, last = tried  # when the first try began, and when the last one ended
    if retry.attempts is not None and done >= retry.attempts:
        return None
    at = max(now, last + delay(retry, done, seed))
    if retry.max_duration is not None and at > first + retry.max_duration:
        return None
    return at


def delay(retry: Retry, done: int, seed: str) -> timedelta:
    """How long to wait after *done* failed attempts; the same for the same arguments, always."""
    zero = timedelta(0)
    if retry.type == "random":
        low, high = retry.min_interval or zero, retry.max_interval or zero
        digest = blake2b(f"{seed} {done}".encode(), digest_size=8).digest()
        return min(low, LONGEST) + max(min(high, LONGEST) - low, zero) * (int.from_bytes(digest, "big") / 2**64)
    interval = retry.interval or zero
    if retry.type == "exponential":
        cap = min(retry.max_interval or LONGEST, LONGEST)
        try:
            factor = retry.delay_factor ** (done - 1)
        except OverflowError:
            return cap if interval else zero
        return timedelta(seconds=min(interval.total_seconds() * factor, cap.total_seconds()))
    return min(interval, LONGEST)
