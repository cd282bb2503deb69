import time

import pytest
from msgspec.structs import replace

from tercel.errors import InvariantError
from tercel.machine import LiveExecution, compile_flow
from tercel.machine.messages import ExecutionCreated, TaskRunFinished
from tercel.model.task import Retry
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.sequence import Parallel, Sequential
from tests.unit.machine.driver import NOON, Drive, Job, a_flow, a_result, jobs


class TestFromRows:
    def test_given_rows_at_any_moment_then_it_goes_on_as_if_nothing_had_happened(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y", "z"], concurrency_limit=2, tasks=jobs("a", "b"))
        flow = a_flow(each, *jobs("c"), finally_=jobs("f"))
        expected = Drive(flow).to_end()
        drive = Drive(flow).start()

        while not drive.state.is_terminal:
            drive.live = LiveExecution.from_rows(drive.index, drive.live.execution, drive.live.runs.values())
            drive.step()

        assert drive.dispatched == expected.dispatched
        assert drive.live.outputs == expected.live.outputs

    def test_given_rows_of_another_flow_then_it_is_our_mistake(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        with pytest.raises(InvariantError, match="The flow has no task 'a'"):
            LiveExecution.from_rows(compile_flow(a_flow(*jobs("b"))), drive.live.execution, drive.live.runs.values())

    def test_given_an_execution_that_has_not_begun_then_it_can_begin(self) -> None:
        drive = Drive(a_flow(*jobs("a")))

        drive.live = LiveExecution.from_rows(drive.index, drive.live.execution, [])

        assert not drive.apply(ExecutionCreated(now=NOON)).is_empty


class TestPath:
    def test_given_nested_loops_then_values_are_outermost_first(self) -> None:
        inner = ForEach(id="i", type="e", values=["1"], tasks=[Sequential(id="s", type="s", tasks=jobs("a"))])
        drive = Drive(a_flow(ForEach(id="o", type="e", values=["x"], tasks=[inner]))).to_end()

        assert drive.live.path_of(drive.run("a[x][1]")) == ("x", "1")
        assert drive.live.path_of(drive.run("i[x]")) == ("x",)


class TestLinear:
    """No step may cost more because there are many task runs; measured against itself, so that no clock matters."""

    @pytest.mark.parametrize("shape", ["each", "each one by one", "chain", "parallel"])
    def test_given_eight_times_as_many_tasks_then_a_step_costs_much_the_same(self, shape: str) -> None:
        small, large = (min(self._step_ns(shape, count) for _ in range(3)) for count in (250, 2000))

        assert large < 3 * small

    def _step_ns(self, shape: str, count: int) -> float:
        from tercel.machine import advance

        values = [str(number) for number in range(count)]
        match shape:
            case "each":
                flow = a_flow(ForEach(id="e", type="e", values=values, concurrency_limit=0, tasks=jobs("a")))
            case "each one by one":
                flow = a_flow(ForEach(id="e", type="e", values=values, tasks=jobs("a")))
            case "chain":
                flow = a_flow(*jobs(*values))
            case _:
                flow = a_flow(Parallel(id="p", type="p", tasks=jobs(*values)))
        drive = Drive(flow)
        live = LiveExecution(replace(drive.live.execution, id="other"))
        result = a_result(outputs={"value": 1})
        begun = time.process_time_ns()
        orders = list(advance(drive.index, live, ExecutionCreated(now=NOON)).commands)
        while orders:
            order = orders.pop()
            if hasattr(order, "run_id"):
                event = TaskRunFinished(now=NOON, run_id=order.run_id, fence=1, result=result)
                orders.extend(advance(drive.index, live, event).commands)
        assert live.execution.state.value == "SUCCESS"
        return (time.process_time_ns() - begun) / count


class TestIndex:
    def test_given_nested_branches_then_each_task_knows_its_place(self) -> None:
        retry = Retry(max_attempts=2)
        inner = Sequential(
            id="s", type="s", tasks=[Job(id="off", disabled=True), Job(id="a")], errors=jobs("e"), retry=retry
        )
        index = compile_flow(a_flow(inner, finally_=jobs("f")))

        place = index.places["a"]
        assert (place.branch, place.position, place.retry, place.is_leaf) == ("tasks", 0, retry, True)
        assert place.parent is index.places["s"]
        assert index.places["e"].branch == "errors"
        assert index.places["f"].parent is None
        assert "off" not in index.places
        assert index.branch(None, "finally") == (index.places["f"],)
        assert index.branch(place, "tasks") == ()
        assert index.branch(None, None) == ()


class TestStates:
    def test_given_rounds_side_by_side_then_a_valueless_task_shows_the_run_made_last(self) -> None:
        inside = Sequential(id="s", type="s", tasks=jobs("a"))
        each = ForEach(id="e", type="e", values=["x", "y"], concurrency_limit=0, tasks=[inside])
        drive = Drive(a_flow(each)).start()
        shown = max(drive.run("a[x]"), drive.run("a[y]"), key=lambda run: run.id)
        labels = sorted(("a[x]", "a[y]"), key=lambda label: drive.run(label) is shown)

        drive.finish(drive.begin(labels[0]), "FAILED")
        assert drive.live.states["a"] == {"state": "CREATED"}
        drive.finish(drive.begin(labels[1]))

        assert drive.live.states["a"] == {"state": "SUCCESS"}
