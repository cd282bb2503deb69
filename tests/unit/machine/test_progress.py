from datetime import UTC, datetime

from tercel.machine.progress import Progress
from tercel.model.execution import TaskRun
from tercel.model.state import State, StateChange

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def a_run(progress: Progress | None = None) -> TaskRun:
    return TaskRun(
        id="r",
        execution_id="e",
        task_id="t",
        history=(StateChange(State.CREATED, NOON),),
        plan=progress.as_json() if progress else None,
    )


class TestProgress:
    def test_given_no_plan_then_nothing_has_started(self) -> None:
        progress = Progress.of(a_run())

        assert (progress.total, progress.started, dict(progress.states)) == (0, 0, {})
        assert list(progress.open_ones()) == []

    def test_given_ends_then_the_others_are_open(self) -> None:
        progress = Progress.of(a_run()).replaced(total=9, started=5)
        progress = progress.with_ended(3, State.SUCCESS).with_ended(0, State.FAILED).with_ended(4, State.SUCCESS)

        assert list(progress.open_ones()) == [1, 2]
        assert [index for index in range(5) if progress.has(index)] == [0, 3, 4]
        assert progress.states == {"SUCCESS": 2, "FAILED": 1}

    def test_given_it_is_kept_then_it_reads_the_same(self) -> None:
        progress = Progress.of(a_run()).replaced(total=100, started=90).with_ended(77, State.WARNING)

        kept = Progress.of(a_run(progress))

        assert kept.as_json() == progress.as_json()
        assert kept.has(77)
        assert not kept.has(76)
