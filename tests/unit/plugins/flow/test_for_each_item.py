from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import UserError
from tercel.model.execution import task_run_id
from tercel.model.state import State
from tercel.model.task import Retry
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.for_each_item import Batch, ForEachItem, ItemFlows, MergeOutputs, SplitItems
from tests.engine_calls import EngineContext, KeptCalls
from tests.unit.machine.driver import Drive, a_flow, a_result, jobs

ITEMS = "kestra:///items.txt"
FAILED, SUCCESS = State.FAILED, State.SUCCESS


def for_each_item(**properties: Any) -> ForEachItem:
    return ForEachItem(
        **{"id": "each", "type": "each", "items": ITEMS, "namespace": "other", "flow_id": "child", **properties}
    )


def part(each: ForEachItem, number: int) -> Any:
    return each.branches()["tasks"][number]


@pytest.fixture
def context(tmp_path: Path) -> EngineContext:
    context = EngineContext(tmp_path, {"inputs": {"n": 2, "uri": ITEMS, "word": "many"}})
    context.stored[ITEMS] = b"1\n2\n3\n4\n5\n"
    return context


class TestParts:
    def test_given_it_waits_then_it_splits_starts_and_merges(self) -> None:
        split, items, merge = for_each_item().branches()["tasks"]

        assert [task.id for task in (split, items, merge)] == ["each_split", "each_items", "each_merge"]
        assert [type(task) for task in (split, items, merge)] == [SplitItems, ItemFlows, MergeOutputs]

    def test_given_it_does_not_wait_then_there_is_nothing_to_merge(self) -> None:
        assert [task.id for task in for_each_item(wait=False).branches()["tasks"]] == ["each_split", "each_items"]

    def test_given_its_properties_then_its_parts_have_them(self) -> None:
        properties = {"revision": 3, "labels": {"k": "v"}, "inherit_labels": True, "transmit_failed": False}

        items = part(for_each_item(**properties, inputs={"x": 1}, schedule_date="2030-01-01"), 1)

        assert {name: getattr(items, name) for name in properties} == properties
        assert (items.inputs, items.schedule_date, items.wait) == ({"x": 1}, "2030-01-01", True)


class TestSplit:
    def split(self, context: EngineContext, **batch: Any) -> list[bytes]:
        """The batches of the file."""
        outputs = part(for_each_item(batch=Batch(**batch)), 0).run(context)
        listed = context.stored[outputs["splits"]].decode().split("\n")
        assert listed.pop() == ""
        return [context.stored[uri] for uri in listed]

    @pytest.mark.parametrize(
        ("batch", "batches"),
        [
            ({}, [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]),
            ({"rows": 2}, [b"1\n2\n", b"3\n4\n", b"5\n"]),
            ({"rows": "{{ inputs.n }}"}, [b"1\n2\n", b"3\n4\n", b"5\n"]),
            ({"partitions": 2, "rows": 1}, [b"1\n3\n5\n", b"2\n4\n"]),
            ({"bytes": "4B", "partitions": 1, "rows": 1}, [b"1\n2\n", b"3\n4\n", b"5\n"]),
        ],
    )
    def test_given_a_measure_then_items_are_put_together(
        self, context: EngineContext, batch: Mapping[str, Any], batches: list[bytes]
    ) -> None:
        assert self.split(context, **batch) == batches

    def test_given_a_separator_then_items_end_there(self, context: EngineContext) -> None:
        context.stored[ITEMS] = b"a;b;c;"

        assert self.split(context, separator=";") == [b"a;", b"b;", b"c;"]

    def test_given_an_empty_file_then_there_are_no_batches(self, context: EngineContext) -> None:
        context.stored[ITEMS] = b""

        assert self.split(context) == []

    def test_given_an_expression_then_it_is_the_file(self, context: EngineContext) -> None:
        outputs = part(for_each_item(items="  {{ inputs.uri }}\n"), 0).run(context)

        assert len(context.stored[outputs["splits"]].splitlines()) == 5

    def test_given_no_address_then_it_is_refused(self, context: EngineContext) -> None:
        with pytest.raises(UserError) as refused:
            part(for_each_item(items="{{ inputs.word }}"), 0).run(context)

        assert refused.value.message == "The `items` of a ForEachItem have to be the address of a file, not 'many'."
        assert refused.value.hint == "Give the output of a task that stores a file, such as `{{ outputs.query.uri }}`."

    @pytest.mark.parametrize("name", ["rows", "partitions"])
    @pytest.mark.parametrize("written", ["{{ inputs.word }}", "0", "-1"])
    def test_given_a_number_that_is_none_then_it_is_refused(
        self, context: EngineContext, name: str, written: str
    ) -> None:
        with pytest.raises(UserError, match=rf"`batch\.{name}` is '.*', not a whole number above zero\."):
            self.split(context, **{name: written})


class TestStart:
    def items(self, context: EngineContext, *batches: str, **properties: Any) -> Any:
        listed = "".join(f"{uri}\n" for uri in batches)
        context.stored["kestra:///splits.txt"] = listed.encode()
        context.variables = {
            **context.variables,
            "outputs": {"each_split": {"splits": "kestra:///splits.txt"}},
            "taskrun": {"id": "run"},
            **properties.pop("variables", {}),
        }
        return part(for_each_item(**properties), 1).requests(context)

    def test_given_batches_then_each_is_a_request_that_sees_its_items_and_its_number(
        self, context: EngineContext
    ) -> None:
        inputs = {"file": "{{ taskrun.items }}", "number": "{{ taskrun.iteration }}", "run": "{{ taskrun.id }}"}

        requests = self.items(
            context, "kestra:///a", "kestra:///b", inputs=inputs, labels={"n": "{{ taskrun.iteration }}"}
        )

        assert requests.total == 2
        assert requests.one(0).inputs == {"file": "kestra:///a", "number": "1", "run": "run"}
        assert requests.one(1).inputs == {"file": "kestra:///b", "number": "2", "run": "run"}
        assert requests.one(1).labels == {"n": "2"}

    def test_given_no_batches_then_there_are_no_requests(self, context: EngineContext) -> None:
        assert self.items(context).total == 0

    def test_given_loops_around_then_the_split_of_the_same_values_is_taken(self, context: EngineContext) -> None:
        variables = {
            "outputs": {"each_split": {"x": {"1": {"splits": "kestra:///splits.txt"}, "2": {}}}},
            "parents": [{"taskrun": {"value": "1"}}, {"taskrun": {}}, {"taskrun": {"value": "x"}}],
        }

        assert self.items(context, "kestra:///a", variables=variables).total == 1

    def test_given_they_start_then_the_number_is_known(self) -> None:
        outputs = part(for_each_item(), 1).started(["a"], 3, "kestra:///base")

        assert outputs == {"numberOfBatches": 3, "iterations": {}, "subflowOutputsBaseUri": "kestra:///base"}

    def test_given_one_ends_then_it_is_counted(self) -> None:
        known = {"numberOfBatches": 3, "iterations": {}, "subflowOutputsBaseUri": "kestra:///base"}

        outputs = part(for_each_item(), 1).counted(known, {"SUCCESS": 1, "FAILED": 1}, FAILED, {"n": 1})

        assert outputs == {**known, "iterations": {"SUCCESS": 1, "FAILED": 1}}


class OutputsOf(KeptCalls):
    """Gives outputs of executions."""

    def __init__(self, run_id: str, outputs: list[dict[str, object]]) -> None:
        super().__init__()
        self._run_id = run_id
        self._outputs = outputs

    def subflow_outputs(self, execution_id: str, task_run_id: str) -> Iterator[Mapping[str, object]]:
        assert (execution_id, task_run_id) == ("execution", self._run_id)
        return iter(self._outputs)


class TestMerge:
    def test_given_outputs_then_each_is_a_line_in_order(self, context: EngineContext) -> None:
        items = task_run_id("execution", "around", "each_items", None, None)
        context.engine = OutputsOf(items, [{"n": 1}, {}, {"text": "x"}])
        context.variables = {**context.variables, "taskrun": {"id": "run", "parentId": "around"}}

        outputs = part(for_each_item(), 2).run(context)

        assert context.stored[outputs["subflowOutputs"]] == b'{n:1}\n{}\n{text:"x"}\n'


class TestInMachine:
    def started(self, each: ForEachItem, *batches: str) -> Drive:
        drive = Drive(a_flow(each, *jobs("after"))).start()
        drive.finish(drive.begin("each_split"), a_result(outputs={"splits": "kestra:///splits.txt"}))
        drive.subflows_started("each_items", total=len(batches), numberOfBatches=len(batches), iterations={})
        return drive

    def test_given_all_end_well_then_their_outputs_are_merged_and_the_flow_goes_on(self) -> None:
        drive = self.started(for_each_item(), "a", "b")
        drive.subflow_ended("each_items", SUCCESS, 1)
        drive.subflow_ended("each_items", SUCCESS, 0)

        assert drive.to_end().dispatched == ["each_split", "each_items", "each_merge", "after"]
        assert drive.run("each_items").outputs["iterations"] == {"SUCCESS": 2}
        assert drive.states()["each"] == "SUCCESS"

    def test_given_one_fails_then_it_fails_once_all_have_ended_and_its_errors_run(self) -> None:
        drive = self.started(for_each_item(errors=jobs("e")), "a", "b")
        drive.subflow_ended("each_items", FAILED, 0)
        assert drive.run("each").state is State.RUNNING

        drive.subflow_ended("each_items", SUCCESS, 1)

        assert drive.to_end().dispatched == ["each_split", "each_items", "e"]
        assert drive.states()["each"] == "FAILED"

    def test_given_one_warns_then_it_ends_in_a_warning(self) -> None:
        drive = self.started(for_each_item(), "a")
        drive.subflow_ended("each_items", State.WARNING)

        assert drive.to_end().states()["each"] == "WARNING"

    def test_given_nothing_to_start_then_it_succeeds(self) -> None:
        assert self.started(for_each_item()).to_end().states()["each"] == "SUCCESS"

    def test_given_it_failed_when_it_is_restarted_then_the_file_is_not_split_again(self) -> None:
        drive = self.started(for_each_item(), "a")
        drive.subflow_ended("each_items", FAILED)

        drive.restart()

        assert drive.dispatched == ["each_items"]

    def test_given_a_retry_of_its_own_then_its_parts_are_tried_again(self) -> None:
        drive = Drive(a_flow(for_each_item(retry=Retry(max_attempts=2))), {"each_split": [FAILED, SUCCESS]}).start()

        drive.step()
        drive.step()

        assert drive.dispatched == ["each_split", "each_split"]

    def test_given_a_loop_around_then_each_value_has_its_parts(self) -> None:
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["x", "y"], tasks=[for_each_item()]))).start()
        drive.finish(drive.begin("each_split[x]"))
        drive.subflows_started("each_items[x]", total=0)
        drive.finish(drive.begin("each_merge[x]"))

        assert drive.dispatched[-1] == "each_split[y]"
