import pytest

from tercel.errors import UserError
from tercel.plugins.flow.branch import If
from tercel.plugins.flow.each import EachParallel, EachSequential, ForEach, loop_values
from tercel.plugins.flow.sequence import Sequential
from tests.unit.machine.driver import Drive, Job, State, a_flow, a_result, jobs


def as_is(text: str) -> str:
    return text


class TestLoopValues:
    @pytest.mark.parametrize(
        ("written", "values"),
        [
            (["a", "b", "a"], ["a", "b"]),
            ([1, 2.5, True, {"k": [1]}], ["1", "2.5", "true", '{"k":[1]}']),
            ('["a", 1, {"k": "v"}]', ["a", "1", '{"k":"v"}']),
            ("[]", []),
            ([""], [""]),
            (["é"], ["é"]),
            ([["a", "b"]], ['["a","b"]']),
        ],
    )
    def test_given_a_list_then_its_values_are_texts_each_once(self, written: object, values: list[str]) -> None:
        assert list(loop_values(written, as_is)) == values

    def test_given_texts_inside_maps_then_they_are_rendered(self) -> None:
        assert list(loop_values([{"{k}": ["{v}", 1]}, "{x}"], str.upper)) == ['{"{K}":["{V}",1]}', "{X}"]

    @pytest.mark.parametrize("written", ["", "a", '{"k": 1}', "12"])
    def test_given_no_list_then_it_is_refused(self, written: str) -> None:
        with pytest.raises(UserError, match="The values of a loop have to be a list, not"):
            loop_values(written, as_is)

    def test_given_a_null_then_its_place_is_named(self) -> None:
        with pytest.raises(UserError, match=r"Value number 2 of a loop is null\."):
            loop_values('["a", null]', as_is)


class TestForEach:
    def test_given_values_then_one_runs_after_the_other(self) -> None:
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["x", "y"], tasks=jobs("a", "b")))).to_end()

        assert drive.dispatched == ["a[x]", "b[x]", "a[y]", "b[y]"]
        assert drive.run("a[y]").iteration == 1
        assert drive.run("e").plan == ["x", "y"]
        assert drive.run("e").outputs == {}

    def test_given_no_limit_then_all_values_run_at_once_each_in_order(self) -> None:
        each = ForEach(id="e", type="e", values="[1, 2, 3]", concurrency_limit=0, tasks=jobs("a", "b"))
        drive = Drive(a_flow(each)).start()
        assert drive.dispatched == ["a[1]", "a[2]", "a[3]"]

        drive.finish(drive.begin("a[2]"))

        assert drive.dispatched[3:] == ["b[2]"]

    def test_given_a_limit_then_a_value_starts_when_another_is_through(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y", "z"], concurrency_limit=2, tasks=jobs("a", "b"))
        drive = Drive(a_flow(each)).start()

        drive.finish(drive.begin("a[y]"))
        assert drive.dispatched == ["a[x]", "a[y]", "b[y]"]
        drive.finish(drive.begin("b[y]"))

        assert drive.dispatched == ["a[x]", "a[y]", "b[y]", "a[z]"]

    def test_given_a_failure_then_no_further_value_and_no_further_step_starts(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y", "z"], concurrency_limit=2, tasks=jobs("a", "b"))
        drive = Drive(a_flow(each)).start()
        x, y = drive.begin("a[x]"), drive.begin("a[y]")

        drive.finish(x, State.FAILED)
        drive.finish(y)

        assert drive.states() == {"e": "FAILED", "a[x]": "FAILED", "a[y]": "SUCCESS"}

    def test_given_no_values_then_it_succeeds(self) -> None:
        assert Drive(a_flow(ForEach(id="e", type="e", values=[], tasks=jobs("a")))).to_end().states() == {
            "e": "SUCCESS"
        }

    def test_given_values_that_are_none_then_it_fails_and_says_so(self) -> None:
        drive = Drive(a_flow(ForEach(id="e", type="e", values="{{ inputs.v }}", tasks=jobs("a"))), inputs={"v": "x"})

        drive.to_end()

        assert drive.states() == {"e": "FAILED"}
        assert drive.run("e").message == (
            'The values of a loop have to be a list, not \'x\'. Write ["a", "b"] or an expression that gives a list.'
        )

    def test_given_outputs_inside_then_they_are_found_by_value(self) -> None:
        inner = ForEach(id="inner", type="e", values=["1", "2"], tasks=[Job(id="a")])
        drive = Drive(a_flow(ForEach(id="outer", type="e", values=["x"], tasks=[inner])), {
            "a[x][1]": a_result(outputs={"v": 1}), "a[x][2]": a_result(outputs={"v": 2}),
        }).to_end()  # fmt: skip

        assert drive.live.outputs["a"] == {"x": {"1": {"v": 1}, "2": {"v": 2}}}
        assert drive.live.states["a"] == {"1": {"state": "SUCCESS"}, "2": {"state": "SUCCESS"}}

    def test_given_a_valueless_task_inside_then_its_outputs_stand_under_the_values_around(self) -> None:
        inside = Sequential(id="s", type="s", tasks=jobs("a"))
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["x"], tasks=[inside])), {
            "a[x]": a_result(outputs={"v": 1}),
        }).to_end()  # fmt: skip

        assert drive.live.outputs["a"] == {"x": {"v": 1}}

    def test_given_a_condition_inside_then_it_sees_the_value(self) -> None:
        inside = If(id="if", type="i", condition="{{ taskrun.value == 'y' }}", then=jobs("a"))
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["x", "y"], tasks=[inside]))).to_end()

        assert drive.dispatched == ["a[y]"]

    def test_given_three_loops_that_fail_and_go_on_then_each_value_has_its_own_state(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y"], tasks=[Job(id="a", allow_failure=True)])

        drive = Drive(a_flow(each), {"a[x]": State.FAILED}).to_end()

        assert drive.states() == {"e": "WARNING", "a[x]": "WARNING", "a[y]": "SUCCESS"}


class TestOlderForms:
    def test_given_each_sequential_then_values_run_one_by_one(self) -> None:
        drive = Drive(a_flow(EachSequential(id="e", type="e", value='["x","y"]', tasks=jobs("a", "b")))).to_end()

        assert drive.dispatched == ["a[x]", "b[x]", "a[y]", "b[y]"]

    def test_given_each_parallel_then_every_pair_starts_at_once(self) -> None:
        drive = Drive(a_flow(EachParallel(id="e", type="e", value=["x", "y"], tasks=jobs("a", "b")))).start()

        assert drive.dispatched == ["a[x]", "b[x]", "a[y]", "b[y]"]

    def test_given_each_parallel_with_a_limit_then_no_more_pairs_are_open(self) -> None:
        each = EachParallel(id="e", type="e", value=["x", "y"], concurrent=3, tasks=jobs("a", "b"))
        drive = Drive(a_flow(each)).start()
        assert drive.dispatched == ["a[x]", "b[x]", "a[y]"]

        drive.finish(drive.begin("a[x]"))

        assert drive.dispatched[3:] == ["b[y]"]
