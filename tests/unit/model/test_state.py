from datetime import UTC, datetime, timedelta

import pytest

from tercel.model.state import LEGAL, TERMINAL, State, StateChange, begun_again_at

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class TestLegal:
    def test_given_every_state_then_the_table_knows_it(self) -> None:
        assert set(LEGAL) == set(State)

    @pytest.mark.parametrize("state", State)
    def test_given_a_state_then_it_does_not_follow_itself_unless_it_is_an_end(self, state: State) -> None:
        assert (state in LEGAL[state]) == state.is_terminal

    def test_given_killing_then_only_an_end_follows(self) -> None:
        assert LEGAL[State.KILLING] == TERMINAL

    def test_given_an_end_then_only_a_restart_or_another_end_follows(self) -> None:
        for state in TERMINAL:
            assert LEGAL[state] - TERMINAL == {State.RESTARTED}

    def test_given_any_open_state_then_it_can_be_killed(self) -> None:
        for state in set(State) - TERMINAL:
            assert State.KILLED in LEGAL[state] or State.KILLING in LEGAL[state]


class TestBegunAgainAt:
    @pytest.mark.parametrize(
        ("states", "minute"),
        [
            ("CREATED RUNNING", None),
            ("CREATED RUNNING PAUSED RESTARTED RUNNING", None),
            ("CREATED RUNNING FAILED RESTARTED RUNNING", 3),
            ("CREATED RUNNING FAILED RESTARTED RUNNING KILLED RESTARTED RUNNING PAUSED RESTARTED", 6),
            ("CREATED RUNNING FAILED SUCCESS", None),
        ],
    )
    def test_given_a_history_then_when_it_went_on_after_its_end(self, states: str, minute: int | None) -> None:
        history = [StateChange(State(one), NOON + timedelta(minutes=at)) for at, one in enumerate(states.split())]

        assert begun_again_at(history) == (None if minute is None else NOON + timedelta(minutes=minute))
