from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.machine.limits import LONGEST, counted_attempts, delay, failed_attempts, next_attempt_at
from tercel.model.execution import Attempt
from tercel.model.state import State, StateChange
from tercel.model.task import Retry
from tests.builders import a_task_run
from tests.unit.machine.driver import NOON

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def attempts(count: int, ended_at: datetime = NOON, state: State = State.FAILED) -> list[Attempt]:
    begun = StateChange(State.RUNNING, NOON)
    return [Attempt((begun, StateChange(state, ended_at))) for _ in range(count)]


class TestNextAttemptAt:
    def test_given_attempts_left_when_one_fails_then_it_waits_one_interval_from_its_end(self) -> None:
        retry = Retry(interval=5 * MINUTE, max_attempts=3)

        at = next_attempt_at(retry, attempts(1, NOON + SECOND), now=NOON + 2 * SECOND)

        assert at == NOON + SECOND + 5 * MINUTE

    def test_given_the_last_attempt_then_there_is_no_other(self) -> None:
        assert next_attempt_at(Retry(interval=MINUTE, max_attempts=3), attempts(3), NOON) is None
        assert next_attempt_at(Retry(interval=MINUTE, max_attempt=1), attempts(1), NOON) is None

    def test_given_no_limit_then_there_is_always_another(self) -> None:
        assert next_attempt_at(Retry(interval=MINUTE), attempts(1000), NOON) == NOON + MINUTE

    def test_given_a_maximal_duration_then_no_attempt_starts_after_it(self) -> None:
        retry = Retry(interval=MINUTE, max_duration=3 * MINUTE)

        assert next_attempt_at(retry, attempts(1, NOON + 2 * MINUTE), NOON + 2 * MINUTE) == NOON + 3 * MINUTE
        assert next_attempt_at(retry, attempts(1, NOON + 2 * MINUTE + SECOND), NOON + 3 * MINUTE) is None

    def test_given_killed_attempts_then_they_do_not_count(self) -> None:
        assert failed_attempts([*attempts(2), *attempts(3, state=State.KILLED)]) == 2

    @given(late=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)))
    def test_given_any_delay_then_it_is_never_in_the_past(self, late: timedelta) -> None:
        at = next_attempt_at(Retry(interval=5 * MINUTE, max_attempts=3), attempts(1), now=NOON + late)

        assert at is not None
        assert at >= NOON + late


class TestCountedAttempts:
    def test_given_no_restart_then_all_count(self) -> None:
        assert len(counted_attempts(a_task_run("a", "CREATED", "RUNNING", attempts=tuple(attempts(2))))) == 2

    def test_given_a_restart_then_those_count_that_were_made_after_it(self) -> None:
        run = a_task_run("a", "CREATED", "RUNNING", attempts=tuple(attempts(3)), past_attempts=2)

        assert counted_attempts(run) == run.attempts[2:]


class TestDelay:
    @pytest.mark.parametrize(("done", "minutes"), [(1, 1), (2, 3), (3, 9), (4, 27), (5, 30), (5000, 30)])
    def test_given_exponential_then_it_grows_by_the_factor_up_to_the_cap(self, done: int, minutes: int) -> None:
        retry = Retry(type="exponential", interval=MINUTE, max_interval=30 * MINUTE, delay_factor=3.0)

        assert delay(retry, done, "") == minutes * MINUTE

    def test_given_no_cap_and_many_attempts_then_an_instant_still_exists_at_its_end(self) -> None:
        retry = Retry(type="exponential", interval=MINUTE)

        assert delay(retry, 100_000, "") == LONGEST
        assert delay(Retry(interval=timedelta.max), 1, "") == LONGEST

    def test_given_random_then_it_is_within_its_bounds_and_the_same_each_time(self) -> None:
        retry = Retry(type="random", min_interval=MINUTE, max_interval=2 * MINUTE)

        drawn = [delay(retry, 1, str(n)) for n in range(200)]

        assert drawn == [delay(retry, 1, str(n)) for n in range(200)]
        assert len(set(drawn)) == 200
        assert MINUTE <= min(drawn) < 1.1 * MINUTE
        assert 1.9 * MINUTE < max(drawn) < 2 * MINUTE
        assert delay(retry, 1, "x") != delay(retry, 2, "x")
