from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from tercel.expression import render
from tercel.machine import child_variables, task_run_variables, variables
from tercel.model.execution import TaskRun, task_run_id
from tercel.model.input_types import Input
from tercel.model.jobs import WorkerJob
from tercel.model.state import State, StateChange
from tercel.plugins.flow.branch import If
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.sequence import Sequential
from tercel.plugins.flow.working_directory import WorkingDirectory
from tests.unit.machine.driver import NOON, Drive, Job, a_flow, a_result, jobs


def seen(drive: Drive, label: str, **surroundings: object) -> dict[str, Any]:
    return variables(drive.index, drive.live, drive.run(label), surroundings)


class TestVariables:
    def test_given_a_task_then_it_sees_flow_execution_task_and_task_run(self) -> None:
        drive = Drive(a_flow(*jobs("a"), variables={"v": 1}), inputs={"name": "x", "db.host": "h"}).start()

        found = seen(drive, "a", envs={"home": "/"})

        assert found["flow"] == {"id": "flow", "namespace": "test", "revision": 1}
        assert found["execution"] == {
            "id": "execution",
            "startDate": NOON,
            "originalId": "execution",
            "state": "RUNNING",
        }
        assert found["task"] == {"id": "a", "type": "job"}
        assert found["taskrun"] == {"id": drive.run("a").id, "startDate": NOON, "attemptsCount": 0}
        assert found["inputs"] == {"name": "x", "db": {"host": "h"}}
        assert found["vars"] == {"v": 1}
        assert found["envs"] == {"home": "/"}
        assert found["labels"] == {}
        assert found["tasks"] == {"a": {"state": "CREATED"}}

    def test_given_nothing_to_show_then_the_names_are_missing(self) -> None:
        found = seen(Drive(a_flow(*jobs("a"))).start(), "a")

        assert not {"inputs", "vars", "trigger", "parent", "parents"} & set(found)

    def test_given_labels_trigger_and_variables_of_the_execution_then_they_are_seen(self) -> None:
        drive = Drive(a_flow(*jobs("a")))
        drive.live.execution = replace(
            drive.live.execution,
            labels={"team": "x", "system.correlationId": "c", "a.b": "c"},
            trigger={"id": "t", "type": "tt", "variables": {"date": "d"}},
            variables={"extra": 1},
        )
        drive.start()

        found = seen(drive, "a")

        assert found["labels"] == {"team": "x", "system": {"correlationId": "c"}, "a.b": "c"}
        assert found["trigger"] == {"date": "d"}
        assert found["extra"] == 1
        assert found["vars"] == {"extra": 1}

    def test_given_outputs_then_the_live_ones_are_handed_on(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b")), {"a": a_result(outputs={"n": 1})}).start()
        drive.step()

        found = seen(drive, "b")

        assert found["outputs"] is drive.live.outputs
        assert found["outputs"] == {"a": {"n": 1}}

    def test_given_ancestors_then_only_those_with_a_value_or_outputs_are_parents(self) -> None:
        inside = If(id="if", type="i", condition="true", then=[Sequential(id="s", type="s", tasks=jobs("a"))])
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["x"], tasks=[inside]))).start()

        found = seen(drive, "a[x]")

        assert found["parents"] == [
            {"taskrun": {"value": "x"}, "outputs": {"evaluationResult": True}, "task": {"id": "if"}}
        ]
        assert found["parent"] is found["parents"][0]
        assert found["taskrun"]["parentId"] == drive.run("s[x]").id

    def test_given_nested_loops_then_the_nearest_parent_comes_first(self) -> None:
        inner = ForEach(id="i", type="e", values=["1"], tasks=[Sequential(id="s", type="s", tasks=jobs("a"))])
        drive = Drive(a_flow(ForEach(id="o", type="e", values=["x"], tasks=[inner]))).start()

        found = seen(drive, "a[x][1]")

        assert [parent["taskrun"] for parent in found["parents"]] == [{"value": "1"}, {"value": "x"}]

    def test_given_a_loop_then_its_task_runs_know_value_and_iteration(self) -> None:
        drive = Drive(
            a_flow(ForEach(id="e", type="e", values=["x", "y"], concurrency_limit=0, tasks=jobs("a")))
        ).start()

        taskrun = task_run_variables(drive.run("a[y]"))

        assert (taskrun["value"], taskrun["iteration"]) == ("y", 1)

    def test_given_no_task_run_then_only_the_execution_is_seen(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).to_end()

        found: Any = variables(drive.index, drive.live, None)

        assert found["execution"]["state"] == "SUCCESS"
        assert "taskrun" not in found


class TestChildVariables:
    def a_job(self, drive: Drive, label: str) -> tuple[WorkerJob, TaskRun]:
        run = drive.run(label)
        job = WorkerJob(
            execution_id="execution",
            namespace="test",
            flow_id="flow",
            revision=1,
            task_run_id=run.id,
            task=drive.index.places["wd"].task,
            fence=1,
            value=run.value,
            values=drive.live.path_of(run),
            variables=variables(drive.index, drive.live, run),
        )
        child = TaskRun(
            id=task_run_id("execution", run.id, "b", None, None),
            execution_id="execution",
            task_id="b",
            parent_id=run.id,
            history=(StateChange(State.CREATED, datetime(2030, 1, 1, 13, tzinfo=UTC)),),
        )
        return job, child

    def test_given_a_child_then_it_sees_itself_the_directory_and_its_siblings(self) -> None:
        directory = WorkingDirectory(id="wd", type="wd", tasks=jobs("a", "b"))
        drive = Drive(a_flow(*jobs("first"), directory), {"first": a_result(outputs={"n": 1})}).start()
        drive.step()
        job, child = self.a_job(drive, "wd")

        found: Any = child_variables(job, Job(id="b"), child, {"a": {"v": 2}}, {"a": State.SUCCESS})

        assert found["task"] == {"id": "b", "type": "job"}
        assert found["taskrun"]["id"] == child.id
        assert found["taskrun"]["parentId"] == found["workerTaskrun"]["id"] == drive.run("wd").id
        assert found["outputs"] == {"first": {"n": 1}, "a": {"v": 2}}
        assert found["tasks"]["a"] == {"state": "SUCCESS"}
        assert drive.live.outputs == {"first": {"n": 1}}
        assert "a" not in drive.live.states

    def test_given_a_loop_then_the_child_has_its_value_and_siblings_stand_under_it(self) -> None:
        directory = WorkingDirectory(id="wd", type="wd", tasks=jobs("a", "b"))
        outer = ForEach(
            id="o", type="e", values=["x"], tasks=[ForEach(id="i", type="e", values=["1"], tasks=[directory])]
        )
        drive = Drive(a_flow(outer)).start()
        job, child = self.a_job(drive, "wd[x][1]")

        found: Any = child_variables(job, Job(id="b"), child, {"a": {"v": 2}}, {})

        assert found["outputs"]["a"] == {"x": {"1": {"v": 2}}}
        assert found["taskrun"]["value"] == "1"
        assert found["parent"]["taskrun"] == {"value": "x"}
        text = "{{ outputs.a[parent.taskrun.value][taskrun.value].v }} {{ workerTaskrun.value }}"
        assert render(text, found) == "2 1"

    def test_given_a_sequence_in_between_then_the_value_is_that_of_the_parent(self) -> None:
        directory = WorkingDirectory(id="wd", type="wd", tasks=jobs("a", "b"))
        inside = Sequential(id="s", type="s", tasks=[directory])
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["1"], tasks=[inside]))).start()
        job, child = self.a_job(drive, "wd[1]")

        found: Any = child_variables(job, Job(id="b"), child, {}, {})

        assert found["parent"]["taskrun"]["value"] == "1"
        assert "value" not in found["taskrun"]
        assert "value" not in found["workerTaskrun"]


class TestExecutionVariables:
    def seen(
        self, flow_variables: dict[str, object], variables: dict[str, object], **properties: Any
    ) -> dict[str, Any]:
        drive = Drive(a_flow(*jobs("a"), variables=flow_variables), variables=variables, **properties).start()
        return seen(drive, "a")

    def test_given_none_then_those_of_the_flow_are_vars(self) -> None:
        found = self.seen({"v": 1}, {})

        assert found["vars"] == {"v": 1}
        assert "v" not in found

    def test_given_some_then_they_are_vars_and_stand_at_the_top(self) -> None:
        found = self.seen({"v": 1}, {"v": 2, "w": {"x": 3}})

        assert found["vars"] == {"v": 2, "w": {"x": 3}}
        assert found["w"] == {"x": 3}

    def test_given_names_of_the_engine_then_they_hide_nothing_at_the_top(self) -> None:
        names = ("flow", "execution", "labels", "task", "taskrun", "outputs", "tasks", "inputs", "vars", "trigger")
        trigger = {"id": "t", "type": "tt", "variables": {"date": "d"}}

        found = self.seen({}, dict.fromkeys(names, "hidden"), inputs={"i": 1}, trigger=trigger)

        assert [name for name in names if found[name] == "hidden"] == []
        assert found["vars"]["outputs"] == "hidden"

    def test_given_names_of_ancestors_then_these_win(self) -> None:
        inside = Sequential(id="s", type="s", tasks=jobs("a"))
        flow = a_flow(ForEach(id="e", type="e", values=["x"], tasks=[inside]))
        drive = Drive(flow, variables={"parent": 1, "parents": 1}).start()

        assert seen(drive, "a[x]")["parent"]["taskrun"] == {"value": "x"}

    def test_given_the_execution_itself_then_it_has_neither_task_nor_task_run(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        found = variables(drive.index, drive.live, None)

        assert not {"task", "taskrun", "parent"} & set(found)
        assert found["execution"]["state"] == "RUNNING"


class TestInputs:
    def test_given_inputs_of_the_flow_that_the_execution_lacks_then_their_defaults_are_seen(self) -> None:
        declared = [Input(id="given", type="STRING", defaults="d"), Input(id="late", type="INT", defaults=3)]
        drive = Drive(a_flow(*jobs("a"), inputs=declared), inputs={"given": "x"}).start()

        assert seen(drive, "a")["inputs"] == {"given": "x", "late": 3}
