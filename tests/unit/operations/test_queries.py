from collections.abc import Iterator
from pathlib import Path

import pytest

from tercel.errors import InvalidFlowError, NotFoundError
from tercel.model import LogEntry, Metric, State
from tercel.model.task import LogLevel
from tercel.operations import RunningFlows
from tercel.store import ExecutionQuery, run
from tests.builders import NOON
from tests.flows import echo, fail
from tests.unit.executor.world import WAIT_S, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


class TestRunningFlows:
    def test_given_a_revision_then_it_is_read_once(self, world: World) -> None:
        world.add_flow(echo("a", "x"))
        reads: list[str] = []

        def read(text: str) -> object:
            reads.append(text)
            return world._read(text)

        flows = RunningFlows(world.store, read)  # type: ignore[arg-type]
        first = run(flows.find("tests", "flow", 1))

        assert run(flows.find("tests", "flow", 1)) is first
        assert first.flow.revision == 1
        assert len(reads) == 1

    def test_given_more_than_are_kept_then_the_oldest_are_read_again(self, world: World) -> None:
        for name in ("a", "b", "c"):
            world.add_flow(echo(name, "x"))
        flows = RunningFlows(world.store, world._read, most=2)
        first = run(flows.find("tests", "flow", 1))
        for revision in (2, 3):
            run(flows.find("tests", "flow", revision))

        assert run(flows.find("tests", "flow", 1)) is not first

    def test_given_no_such_revision_then_it_is_told(self, world: World) -> None:
        world.add_flow(echo("a", "x"))

        with pytest.raises(NotFoundError, match=r"There is no flow tests\.flow with revision 2\."):
            run(world.flows.find("tests", "flow", 2))

    def test_given_a_text_that_cannot_be_read_any_more_then_it_is_told(self, world: World) -> None:
        world.store.flows.save("tests", "flow", "id: flow\nnamespace: tests\ntasks: []\n", NOON).wait(WAIT_S)

        with pytest.raises(InvalidFlowError):
            run(world.flows.find("tests", "flow", 1))


class TestQueries:
    def test_given_executions_then_they_are_found_and_shown(self, world: World) -> None:
        world.add_flow(echo("a", "x"), fail("b"))
        world.start().wait(WAIT_S)

        assert world.do("get_execution", "execution").state is State.FAILED
        assert [one.task_id for one in world.do("task_runs", "execution")] == ["a", "b"]
        found = world.do("search_executions", ExecutionQuery(namespace="tests", states=[State.FAILED]))
        assert [one.id for one in found] == ["execution"]

    def test_given_flows_then_their_latest_revisions_are_listed(self, world: World) -> None:
        for name in ("a", "b"):
            world.add_flow(echo(name, "x"))
        world.add_flow(echo("a", "x"), id="another")

        assert [(one.id, one.revision) for one in world.do("saved_flows", "tests")] == [("another", 1), ("flow", 2)]
        assert world.do("saved_flows", "other") == []
        assert [one.revision for one in world.do("flow_revisions", "tests", "flow")] == [1, 2]

    def test_given_lines_and_metrics_then_all_written_so_far_are_seen(self, world: World) -> None:
        world.add_flow(echo("a", "x"))
        world.start().wait(WAIT_S)
        lines = [
            LogEntry(execution_id="execution", date=NOON, level=level, message=level.value, task_run_id=run_id)
            for level, run_id in ((LogLevel.DEBUG, "r"), (LogLevel.ERROR, "r"), (LogLevel.ERROR, None))
        ]
        world.store.logs.write_logs(lines)
        metric = Metric(
            execution_id="execution", task_id="a", task_run_id="r", type="gauge", name="m", value=2, date=NOON
        )
        world.store.logs.write_metrics([metric])

        assert world.do("logs", "execution").entries == lines
        assert world.do("logs", "execution", task_run_id="r", min_level=LogLevel.ERROR).entries == lines[1:2]
        assert world.do("metrics", "execution") == [metric]
        assert world.do("metrics", "execution", "other") == []

    @pytest.mark.parametrize("verb", ["get_execution", "task_runs", "logs", "metrics"])
    def test_given_no_such_execution_then_it_is_told(self, world: World, verb: str) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do(verb, "gone")
