"""State of executions and task runs, its history, and the table of legal changes."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

import msgspec


class State(StrEnum):
    """Where an execution or a task run stands; the words are Kestra's."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    RESTARTED = "RESTARTED"
    RETRYING = "RETRYING"
    RETRIED = "RETRIED"
    KILLING = "KILLING"
    KILLED = "KILLED"
    CANCELLED = "CANCELLED"
    SUCCESS = "SUCCESS"
    WARNING = "WARNING"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"

    @property
    def is_terminal(self) -> bool:
        """True where nothing follows unless a person asks for it."""
        return self in TERMINAL


TERMINAL = frozenset(
    {
        State.RETRIED,
        State.KILLED,
        State.CANCELLED,
        State.SUCCESS,
        State.WARNING,
        State.FAILED,
        State.SKIPPED,
    }
)

_ENDED = TERMINAL
LEGAL: dict[State, frozenset[State]] = {
    State.CREATED: _ENDED | {State.RUNNING, State.QUEUED, State.KILLING, State.PAUSED, State.RETRYING},
    State.QUEUED: frozenset({State.RUNNING, State.KILLING, State.KILLED, State.CANCELLED}),
    State.RUNNING: _ENDED | {State.PAUSED, State.RETRYING, State.KILLING, State.CREATED},
    State.PAUSED: frozenset(
        {
            State.RUNNING,
            State.RESTARTED,
            State.KILLING,
            State.KILLED,
            State.CANCELLED,
            State.FAILED,
            State.SUCCESS,
            State.WARNING,
        }
    ),
    State.RESTARTED: _ENDED | {State.RUNNING, State.KILLING, State.PAUSED, State.RETRYING},
    State.RETRYING: frozenset(
        {State.CREATED, State.RUNNING, State.PAUSED, State.KILLING, State.KILLED, State.FAILED, State.RETRIED}
    ),
    State.KILLING: _ENDED,
    **dict.fromkeys(TERMINAL, TERMINAL | {State.RESTARTED}),
}
"""What may follow what. RUNNING goes back to CREATED when its worker was lost and the task is dispatched again."""


class StateChange(msgspec.Struct, frozen=True):
    """One entry of a history: the state taken, and when (aware UTC)."""

    state: State
    date: datetime


def begun_again_at(history: Sequence[StateChange]) -> datetime | None:
    """When what has this history went on last after it had ended; None where it never did.

    A RESTARTED after a pause is no new beginning.
    """
    for later, earlier in pairwise(reversed(history)):
        if later.state is State.RESTARTED and earlier.state in TERMINAL:
            return later.date
    return None
