from typing import Any

import pytest

from tercel.model.catalog import Catalog
from tercel.model.task import Task
from tercel.plugins.flow.branch import If, Switch
from tests.unit.machine.driver import Drive, a_flow, a_result, jobs


def an_if(condition: str, **branches: list[Task]) -> If:
    return If(id="if", type="i", condition=condition, **branches)  # type: ignore[arg-type]


class TestIf:
    @pytest.mark.parametrize("condition", ["", "false", "0", "-0", "{{ false }}", "{{ inputs.no }}"])
    def test_given_a_false_condition_then_else_runs(self, condition: str) -> None:
        drive = Drive(a_flow(an_if(condition, then=jobs("a"), else_=jobs("b"))), inputs={"no": ""}).to_end()

        assert drive.dispatched == ["b"]
        assert drive.run("if").outputs == {"evaluationResult": False}

    @pytest.mark.parametrize("condition", ["true", " ", "1", "no", "{{ 1 == 1 }}"])
    def test_given_any_other_condition_then_then_runs(self, condition: str) -> None:
        drive = Drive(a_flow(an_if(condition, then=jobs("a", "c"), else_=jobs("b")))).to_end()

        assert drive.dispatched == ["a", "c"]
        assert drive.run("if").outputs == {"evaluationResult": True}

    def test_given_no_else_then_it_succeeds(self) -> None:
        assert Drive(a_flow(an_if("false", then=jobs("a")))).to_end().states() == {"if": "SUCCESS"}

    def test_given_a_condition_that_cannot_be_rendered_then_it_fails_and_says_so(self) -> None:
        drive = Drive(a_flow(an_if("{{ nope }}", then=jobs("a")))).to_end()

        assert drive.states() == {"if": "FAILED"}
        assert "nope" in drive.run("if").message

    def test_given_a_condition_then_it_is_rendered_once(self) -> None:
        asked: list[object] = []

        def kv(*args: Any, **named: Any) -> str:
            asked.append(args)
            return "yes" if len(asked) == 1 else ""

        flow = a_flow(an_if("{{ kv('k') }}", then=jobs("a", "b"), else_=jobs("c")))
        drive = Drive(flow, functions={"kv": kv}).to_end()

        assert drive.dispatched == ["a", "b"]
        assert len(asked) == 1

    def test_given_its_branches_then_children_are_all_of_them(self) -> None:
        task = an_if("1", then=jobs("a"), else_=jobs("b"), errors=jobs("c"))

        assert [child.id for child in task.children()] == ["a", "b", "c"]


class TestSwitch:
    def a_switch(self, value: str) -> Switch:
        return Switch(id="s", type="s", value=value, cases={"x": jobs("a"), "y": jobs("b")}, defaults=jobs("d"))

    def test_given_a_case_that_equals_then_only_it_runs(self) -> None:
        drive = Drive(a_flow(self.a_switch("{{ inputs.v }}")), inputs={"v": "y"}).to_end()

        assert drive.dispatched == ["b"]
        assert drive.run("s").outputs == {"value": "y", "defaults": False}

    def test_given_no_case_then_defaults_run(self) -> None:
        drive = Drive(a_flow(self.a_switch("Y"))).to_end()

        assert drive.dispatched == ["d"]
        assert drive.run("s").outputs == {"value": "Y", "defaults": True}

    def test_given_neither_case_nor_defaults_then_it_succeeds(self) -> None:
        drive = Drive(a_flow(Switch(id="s", type="s", value="z", cases={"x": jobs("a")}))).to_end()

        assert drive.states() == {"s": "SUCCESS"}

    def test_given_a_case_named_defaults_then_it_is_a_case_like_any_other(self) -> None:
        flow = a_flow(Switch(id="s", type="s", value="defaults", cases={"defaults": jobs("a")}, defaults=jobs("d")))

        assert Drive(flow).to_end().dispatched == ["a"]

    def test_given_outputs_then_the_value_sees_them(self) -> None:
        flow = a_flow(*jobs("first"), self.a_switch("{{ outputs.first.v }}"))

        assert Drive(flow, {"first": a_result(outputs={"v": "x"})}).to_end().dispatched == ["first", "a"]

    def test_given_its_former_names_then_they_are_the_same_class(self) -> None:
        for name in ("io.kestra.core.tasks.flows.Switch", "io.kestra.plugin.core.flows.Switch"):
            assert Catalog({}).find(name) is Switch
