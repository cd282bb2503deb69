"""How often, how long, how many: retries, timeouts, lost workers.

Pure. Time comes in as *now*; nothing is read, written or drawn at random.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

from tercel.model.execution import Attempt, TaskRun
from tercel.model.state import TERMINAL, State
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
    since = run.restarted_at
    if since is None:
        return run.attempts
    # What had ended when it was restarted; dates of beginnings could be the same.
    return [one for one in run.attempts if one.state not in TERMINAL or one.history[-1].date > since]


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
    done = failed_attempts(attempts)
    if retry.attempts is not None and done >= retry.attempts:
        return None
    at = max(now, attempts[-1].history[-1].date + delay(retry, done, seed))
    if retry.max_duration is not None and at > attempts[0].history[0].date + retry.max_duration:
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
