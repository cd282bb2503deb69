from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from tercel.engine_calls import NamespaceKeys, TaskCalls
from tercel.errors import InvalidFlowError, NotFoundError, UserError
from tercel.executor import parent_of, retry_id
from tercel.model import LogEntry, Metric, State, StateChange
from tercel.model.task import LogLevel
from tercel.plugin_api import FlowChange, FlowSource, PurgeResult
from tercel.storage import execution_path
from tercel.store import Changes, run
from tests.builders import NOON, an_execution
from tests.flows import CORE, as_yaml, echo, fail, local_files
from tests.unit.executor.world import WAIT_S, World, now, until

HOUR = timedelta(hours=1)


class Clock:
    """Noon, until a test says otherwise."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.consume()
    yield world
    world.close()


@pytest.fixture
def switched() -> list[tuple[str, str, str, bool]]:
    return []


@pytest.fixture
def calls(world: World, switched: list[tuple[str, str, str, bool]]) -> TaskCalls:
    return TaskCalls(world.operations, world.store, lambda *given: switched.append(given))


class TestNamespaceKeys:
    def test_given_a_value_then_it_is_found_listed_and_deleted(self, world: World) -> None:
        keys = NamespaceKeys(world.store, Clock())

        assert keys.set("a.b", "k", {"n": 1})
        assert keys.find("a.b", "k") == {"n": 1}
        assert keys.find("a", "k") is None
        assert keys.keys("a.b") == ["k"]
        assert keys.keys("a.b", "x") == []
        assert keys.delete("a.b", "k")
        assert not keys.delete("a.b", "k")
        assert keys.find("a.b", "k") is None

    def test_given_a_time_to_live_then_it_expires(self, world: World) -> None:
        clock = Clock()
        keys = NamespaceKeys(world.store, clock)
        keys.set("n", "k", 1, ttl=HOUR)

        assert keys.find("n", "k") == 1
        clock.now += HOUR

        assert keys.find("n", "k") is None
        assert keys.keys("n") == []
        assert keys.set("n", "k", 2, overwrite=False)

    def test_given_a_value_that_is_not_to_be_replaced_then_it_stays(self, world: World) -> None:
        keys = NamespaceKeys(world.store, Clock())
        keys.set("n", "k", 1)

        assert not keys.set("n", "k", 2, overwrite=False)
        assert keys.find("n", "k") == 1

    def test_given_a_change_then_it_is_made_of_what_is_there(self, world: World) -> None:
        keys = NamespaceKeys(world.store, Clock())

        assert keys.change("n", "k", lambda value: [value]) == [None]
        assert keys.change("n", "k", lambda value: [value, 1]) == [[None], 1]
        assert keys.change("n", "k", lambda _: None) is None
        assert keys.find("n", "k") is None


class TestKillAndResume:
    def test_given_an_execution_then_it_is_killed(self, world: World, calls: TaskCalls) -> None:
        world.add_flow(local_files("a"))
        ended = world.start()
        job = world.job(0)

        calls.kill("execution")
        world.finish(job, "KILLED")

        assert ended.wait(WAIT_S).state is State.KILLED

    def test_given_no_cascade_then_what_it_started_goes_on(self, world: World, calls: TaskCalls) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow({"id": "sub", "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": "child"})
        ended = world.start()

        calls.kill("execution", cascade=False)

        assert ended.wait(WAIT_S).state is State.KILLED
        assert world.only("child").state is State.RUNNING

    def test_given_a_paused_execution_then_it_is_resumed_with_its_inputs(self, world: World, calls: TaskCalls) -> None:
        asks = [{"id": "reason", "type": "STRING"}]
        world.add_flow({"id": "wait", "type": f"{CORE}.flow.Pause", "onResume": asks})
        ended = world.start()

        calls.resume("execution", {"reason": "ok"})

        assert ended.wait(WAIT_S).state is State.SUCCESS
        with pytest.raises(UserError, match=r"The execution execution cannot be resumed: it is SUCCESS\."):
            calls.resume("execution", {})

    def test_given_no_such_execution_then_it_is_told(self, calls: TaskCalls) -> None:
        for call in (calls.kill, calls.execution_flow, lambda id_: calls.resume(id_, {})):
            with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
                call("gone")


class TestCount:
    def test_given_executions_then_they_are_counted_flow_by_flow(self, world: World, calls: TaskCalls) -> None:
        world.add_flow(echo("a", "x"), id="good")
        world.add_flow(fail("a"), id="bad")
        for number, flow_id in enumerate(("good", "bad", "bad")):
            world.start(f"e{number}", flow_id).wait(WAIT_S)

        assert calls.count(namespaces=["tests"]) == [("tests", "bad", 2), ("tests", "good", 1)]
        assert calls.count(flows=[("tests", "good"), ("tests", "none")], states=[State.FAILED]) == [
            ("tests", "good", 0),
            ("tests", "none", 0),
        ]
        assert calls.count(flows=[("tests", "bad")], end=now() - HOUR) == [("tests", "bad", 0)]
        assert calls.count(flows=[("tests", "bad")], start=now() - HOUR) == [("tests", "bad", 2)]

    def test_given_an_execution_then_its_flow_is_told(self, world: World, calls: TaskCalls) -> None:
        world.add_flow(echo("a", "x"))
        world.start().wait(WAIT_S)

        assert calls.execution_flow("execution") == ("tests", "flow")


class TestPurgeExecutions:
    def fill(self, world: World, count: int = 3) -> None:
        """Executions that ended, an hour apart, with a line, a metric and a file each; and one that runs."""
        changes = Changes()
        for number in range(count + 1):
            at = NOON + number * HOUR
            states = ("CREATED", "RUNNING") if number == count else ("CREATED", "SUCCESS")
            execution = an_execution(
                id=f"e{number:04}", history=tuple(StateChange(State(state), at) for state in states)
            )
            changes.created.append(execution)
            world.store.logs.write_logs(
                [LogEntry(execution_id=execution.id, date=at, level=LogLevel.INFO, message="line")]
            )
            metric = Metric(
                execution_id=execution.id, task_id="t", task_run_id="r", type="counter", name="m", value=1, date=at
            )
            world.store.logs.write_metrics([metric])
            world.storage.put(f"{execution_path('tests', 'flow', execution.id)}/file", BytesIO(b"x"))

        async def save() -> None:
            async with world.store.transaction() as tx:
                world.store.executions.save(tx, changes)

        run(save())
        world.store.logs.flush().wait(WAIT_S)

    def ids(self, world: World) -> list[str]:
        return [one.id for one in world.of_flow("flow")]

    def test_given_those_that_ended_then_they_go_with_all_they_left(self, world: World, calls: TaskCalls) -> None:
        self.fill(world)

        result = calls.purge_executions(namespace="tests", flow_id="flow", states=(), start=None, end=NOON + 2 * HOUR)

        assert result == PurgeResult(executions=2, logs=2, metrics=2, files=2)
        assert self.ids(world) == ["e0002", "e0003"]
        assert list(world.storage.list(execution_path("tests", "flow", "e0000"))) == []
        assert len(list(world.storage.list(execution_path("tests", "flow", "e0002")))) == 1

    def test_given_one_that_runs_then_it_stays(self, world: World, calls: TaskCalls) -> None:
        self.fill(world)

        calls.purge_executions(namespace=None, flow_id=None, states=(), start=None, end=NOON + 99 * HOUR)

        assert self.ids(world) == ["e0003"]

    def test_given_states_and_a_beginning_then_only_those_go(self, world: World, calls: TaskCalls) -> None:
        self.fill(world)

        def purge(**how: object) -> int:
            query = {"namespace": "tests", "flow_id": None, "states": (), "start": None, "end": NOON + 99 * HOUR}
            return calls.purge_executions(**{**query, **how}).executions  # type: ignore[arg-type]

        assert purge(states=[State.FAILED]) == 0
        assert purge(namespace="other") == 0
        assert purge(start=NOON + HOUR) == 2
        assert self.ids(world) == ["e0000", "e0003"]

    @pytest.mark.parametrize(
        ("how", "result"),
        [
            ({"executions": False}, PurgeResult(0, 3, 3, 3)),
            ({"executions": False, "logs": False}, PurgeResult(0, 0, 3, 3)),
            ({"executions": False, "metrics": False, "files": False}, PurgeResult(0, 3, 0, 0)),
            ({"logs": False, "metrics": False, "files": False}, PurgeResult(3, 0, 0, 0)),
        ],
    )
    def test_given_parts_then_only_those_go(
        self, world: World, calls: TaskCalls, how: dict[str, bool], result: PurgeResult
    ) -> None:
        self.fill(world)

        found = calls.purge_executions(
            namespace="tests", flow_id=None, states=(), start=None, end=NOON + 99 * HOUR, **how
        )

        assert found == result

    @pytest.mark.parametrize("removes", [True, False])
    def test_given_more_than_a_batch_then_all_go(
        self, world: World, calls: TaskCalls, removes: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.engine_calls._BATCH", 2)
        self.fill(world, 5)

        found = calls.purge_executions(
            namespace="tests", flow_id=None, states=(), start=None, end=NOON + 99 * HOUR, executions=removes
        )

        assert found == PurgeResult(executions=5 if removes else 0, logs=5, metrics=5, files=5)

    def test_given_many_of_one_instant_then_none_is_left_out(
        self, world: World, calls: TaskCalls, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.engine_calls._BATCH", 2)
        self.fill(world, 0)
        same = [an_execution("CREATED", "SUCCESS", id=f"same{number}") for number in range(5)]

        async def save() -> None:
            async with world.store.transaction() as tx:
                world.store.executions.save(tx, Changes(created=same))

        run(save())
        for execution in same:
            world.storage.put(f"{execution_path('tests', 'flow', execution.id)}/file", BytesIO(b"x"))

        found = calls.purge_executions(
            namespace="tests", flow_id=None, states=(), start=None, end=NOON + HOUR, executions=False
        )

        assert found.files == 5


class TestLogs:
    def test_given_lines_then_those_that_are_wanted_come_in_order(self, world: World, calls: TaskCalls) -> None:
        levels = [LogLevel.DEBUG, LogLevel.INFO, LogLevel.ERROR]
        world.add_flow(echo("a", "x"))
        world.start().wait(WAIT_S)
        world.store.logs.write_logs(
            LogEntry(execution_id="execution", date=NOON, level=level, message=f"{task} {level}", task_id=task)
            for task in ("a", "b")
            for level in levels
        )

        assert [one.message for one in calls.logs("execution", task_ids=["b"])] == ["b DEBUG", "b INFO", "b ERROR"]
        assert [one.message for one in calls.logs("execution", min_level=LogLevel.ERROR)] == ["a ERROR", "b ERROR"]

    def test_given_lines_then_those_that_are_not_wanted_are_removed(self, world: World, calls: TaskCalls) -> None:
        world.add_flow(echo("a", "x"))
        world.start().wait(WAIT_S)
        world.store.logs.write_logs(
            LogEntry(execution_id="execution", date=NOON + hour * HOUR, level=level, message=f"{hour} {level}")
            for hour in range(2)
            for level in (LogLevel.INFO, LogLevel.ERROR)
        )

        removed = calls.purge_logs(
            namespace="tests", flow_id="flow", levels=[LogLevel.INFO], start=None, end=NOON + HOUR
        )

        assert removed == 1
        assert [one.message for one in calls.logs("execution")] == ["0 ERROR", "1 INFO", "1 ERROR"]


class TestSubflowOutputs:
    RETRY = {"type": "constant", "interval": "PT1H", "maxAttempts": 2, "behavior": "CREATE_NEW_EXECUTION"}

    def start(self, world: World, **properties: object) -> None:
        outputs = [{"id": "n", "type": "STRING", "value": "{{ outputs.work.n }}"}]
        world.add_flow(local_files("work", **properties), id="child", outputs=outputs)
        each = {"id": "each", "type": f"{CORE}.flow.ForEachItem", "items": "kestra:///x"}
        world.add_flow({**each, "namespace": "tests", "flowId": "child"})
        world.start()
        world.finish(world.job_of("each_split"), outputs=world.split_into("a\n", "b\n"))
        until(lambda: len(world.jobs) == 3)

    def test_given_executions_then_their_outputs_come_in_the_order_of_the_batches(
        self, world: World, calls: TaskCalls
    ) -> None:
        self.start(world)
        run_id = world.runs()["each_items"].id
        for job, _ in reversed(world.jobs[1:]):
            parent = parent_of(world.get(job.execution_id))
            assert parent is not None
            world.finish(job, outputs={"n": parent.number})

        assert list(calls.subflow_outputs("execution", run_id)) == [{"n": "0"}, {"n": "1"}]

    def test_given_one_that_was_tried_again_then_the_outputs_are_of_the_last_one(
        self, world: World, calls: TaskCalls
    ) -> None:
        self.start(world, retry=self.RETRY)
        run_id = world.runs()["each_items"].id
        first = world.job(1)
        world.finish(world.job(2), outputs={"n": "b"})
        world.finish(first, "FAILED")
        again = retry_id(world.get(first.execution_id))
        world.pass_time(hours=1)
        job = next(job for job, _ in world.jobs if job.execution_id == again)
        world.finish(job, outputs={"n": "again"})

        assert {str(one["n"]) for one in calls.subflow_outputs("execution", run_id)} == {"b", "again"}

    def test_given_no_such_task_run_then_it_is_told(self, world: World, calls: TaskCalls) -> None:
        world.add_flow(echo("a", "x"))
        world.start().wait(WAIT_S)

        with pytest.raises(NotFoundError, match=r"The execution execution has no task run unknown\."):
            list(calls.subflow_outputs("execution", "unknown"))

    def test_given_a_task_run_that_started_none_then_there_are_no_outputs(self, world: World, calls: TaskCalls) -> None:
        world.add_flow(echo("a", "x"))
        world.start().wait(WAIT_S)

        assert list(calls.subflow_outputs("execution", world.runs()["a"].id)) == []


class TestTriggers:
    def test_given_a_trigger_then_it_is_switched(
        self, calls: TaskCalls, switched: list[tuple[str, str, str, bool]]
    ) -> None:
        calls.set_trigger_disabled("tests", "flow", "daily", disabled=True)

        assert switched == [("tests", "flow", "daily", True)]


class TestFlows:
    def text(self, flow_id: str, namespace: str = "tests", format: str = "x") -> str:
        return as_yaml({"id": flow_id, "namespace": namespace, "tasks": [echo("a", format)]})

    def save(self, world: World, *texts: str) -> None:
        for text in texts:
            world.do("save_flow", text)

    def names(self, calls: TaskCalls) -> dict[str, int | None]:
        return {one.id: one.revision for one in calls.saved_flows("tests", with_children=True)}

    def test_given_flows_then_those_of_a_namespace_are_told(self, world: World, calls: TaskCalls) -> None:
        texts = [self.text("b"), self.text("a"), self.text("c", "tests.sub"), self.text("d", "tests2")]
        self.save(world, *texts)

        assert calls.saved_flows("tests") == [
            FlowSource("tests", "a", 1, texts[1]),
            FlowSource("tests", "b", 1, texts[0]),
        ]
        assert [one.id for one in calls.saved_flows("tests", with_children=True)] == ["a", "b", "c"]

    def test_given_a_text_then_it_is_read_and_not_saved(self, calls: TaskCalls) -> None:
        text = self.text("a")

        assert calls.read_flow(text) == FlowSource("tests", "a", None, text)
        with pytest.raises(InvalidFlowError, match="The flow is not valid"):
            calls.read_flow("id: a\n")
        assert self.names(calls) == {}

    @pytest.mark.parametrize("dry", [False, True])
    def test_given_changes_then_each_is_told_and_made_unless_it_is_dry(
        self, world: World, calls: TaskCalls, dry: bool
    ) -> None:
        self.save(world, self.text("same"), self.text("old"), self.text("gone"))
        sources = [self.text("new"), self.text("same") + "\n", self.text("old", format="y")]

        changes = calls.change_flows(sources, delete=[("tests", "gone"), ("tests", "never")], dry_run=dry)

        assert changes == [
            FlowChange("tests", "new", "CREATED", None if dry else 1),
            FlowChange("tests", "same", "UNCHANGED", 1),
            FlowChange("tests", "old", "UPDATED", 1 if dry else 2),
            FlowChange("tests", "gone", "DELETED", 1 if dry else 2),
        ]
        assert self.names(calls) == ({"gone": 1, "old": 1, "same": 1} if dry else {"new": 1, "old": 2, "same": 1})

    @pytest.mark.parametrize("bad", ["id: b\nnamespace: tests\n", "again"])
    def test_given_one_that_is_not_valid_then_nothing_is_changed(
        self, world: World, calls: TaskCalls, bad: str
    ) -> None:
        self.save(world, self.text("gone"))
        sources = [self.text("a"), self.text("a") if bad == "again" else bad]

        with pytest.raises(InvalidFlowError, match="given more than once" if bad == "again" else "not valid"):
            calls.change_flows(sources, delete=[("tests", "gone")])

        assert self.names(calls) == {"gone": 1}
