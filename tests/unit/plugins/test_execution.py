"""Fail, Assert, Exit, Labels, SetVariables, UnsetVariables, Count, Resume, Kill, PurgeExecutions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import ExpressionError, NotFoundError
from tercel.model import LogLevel, State
from tercel.model.source import check_flow, read_flow
from tercel.plugin_api import ExecutionUpdate, PurgeResult, RunnableTask, TaskFailedError
from tercel.plugins import catalog
from tercel.plugins.execution import (
    Assert,
    Count,
    CountedFlow,
    Exit,
    Fail,
    Label,
    Labels,
    PurgeExecutions,
    Resume,
    SetVariables,
    UnsetVariables,
)
from tests.engine_calls import EngineContext
from tests.flows import CORE, flow, wd
from tests.job_runners import Bench

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def context(tmp_path: Path) -> EngineContext:
    return EngineContext(tmp_path)


def update_of(task: RunnableTask, context: EngineContext) -> ExecutionUpdate:
    """What a task changes in its execution; it gives nothing back."""
    outputs = task.run(context)
    assert dict(outputs) == {}
    assert outputs.execution_update is not None
    return outputs.execution_update


def a_task(type_name: str, **properties: Any) -> Any:
    """A task as it is read from YAML."""
    return read_flow(flow({"id": "t", "type": type_name, **properties}), catalog()).tasks[0]


def issues(type_name: str, **properties: Any) -> list[tuple[str, str]]:
    """Where validation complains about a task, and how."""
    text = flow({"id": "t", "type": type_name, **properties})
    return [(issue.path.removeprefix("tasks[0]"), issue.message) for issue in check_flow(text, catalog()).issues]


class TestFail:
    @pytest.mark.parametrize(
        ("condition", "state"),
        [
            (None, "FAILED"),
            ("{{ flow.id == 'flow' }}", "FAILED"),
            ("{{ flow.id == 'other' }}", "SUCCESS"),
            ("", "SUCCESS"),
            ("0", "SUCCESS"),
            ("-0", "SUCCESS"),
            ("{{ null }}", "SUCCESS"),
            (" ", "FAILED"),
            ("0.0", "FAILED"),
            ("False", "FAILED"),
            (True, "FAILED"),
            (False, "SUCCESS"),
        ],
    )
    def test_given_a_condition_then_it_decides(self, tmp_path: Path, condition: str | bool | None, state: str) -> None:
        bench = Bench(tmp_path)

        result = bench.run(Fail(id="f", type="F", condition=condition, error_message="no {{ flow.id }}"))

        assert result.state is State(state)
        assert bench.records.messages(LogLevel.ERROR) == ["no flow"] * (state == "FAILED")

    def test_given_no_message_then_it_has_one(self, tmp_path: Path) -> None:
        result = Bench(tmp_path).run(Fail(id="f", type="F"))

        assert result.message == "Task failure"

    def test_given_a_condition_that_cannot_be_rendered_then_it_fails_with_the_reason(self, tmp_path: Path) -> None:
        result = Bench(tmp_path).run(Fail(id="f", type="F", condition="{{ nope }}"))

        assert result.state is State.FAILED
        assert "nope" in result.message


class TestAssert:
    def test_given_conditions_that_hold_then_it_succeeds_and_counts_them(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)

        result = bench.run(Assert(id="a", type="A", conditions=["{{ 1 == 1 }}", "true", "{{ flow.id }}"]))

        assert result.state is State.SUCCESS
        assert bench.records.values() == {"success": 3.0, "failed": 0.0}
        assert bench.records.messages(LogLevel.ERROR) == []

    def test_given_some_that_do_not_then_each_is_named_and_it_fails(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        conditions = ["{{ 1 == 2 }}", "true", "", "{{ nope }}"]

        result = bench.run(Assert(id="a", type="A", conditions=conditions))

        assert (result.state, result.message) == (State.FAILED, "3 of 4 conditions do not hold.")
        assert bench.records.values() == {"success": 1.0, "failed": 3.0}
        first, second, third, last = bench.records.messages(LogLevel.ERROR)
        assert first == "The condition {{ 1 == 2 }} does not hold."
        assert second == "The condition  does not hold."
        assert third.startswith("The condition {{ nope }} cannot be rendered: ")
        assert last == result.message

    def test_given_a_message_then_it_says_that(self, tmp_path: Path) -> None:
        result = Bench(tmp_path).run(Assert(id="a", type="A", conditions=["0"], error_message="bad {{ flow.id }}"))

        assert result.message == "bad flow"

    def test_given_yaml_then_plain_values_are_conditions_too(self, context: EngineContext) -> None:
        task = a_task(f"{CORE}.execution.Assert", conditions=[True, 1, "{{ inputs.yes }}"])

        assert task.run(context) == {}
        assert context.counters() == {"success": 3.0, "failed": 0.0}

    def test_given_no_conditions_in_yaml_then_it_is_refused(self) -> None:
        assert issues(f"{CORE}.execution.Assert") == [(".conditions", "The property 'conditions' is missing.")]


class TestExit:
    @pytest.mark.parametrize(
        ("written", "state"),
        [
            ("SUCCESS", State.SUCCESS),
            ("WARNING", State.WARNING),
            ("KILLED", State.KILLED),
            ("FAILED", State.FAILED),
            ("CANCELED", State.CANCELLED),
            ("{{ inputs.yes ? 'WARNING' : 'FAILED' }}", State.WARNING),
        ],
    )
    def test_given_a_state_then_the_execution_ends_in_it(
        self, context: EngineContext, written: str, state: State
    ) -> None:
        task = a_task(f"{CORE}.execution.Exit", state=written)

        assert update_of(task, context) == ExecutionUpdate(ends_as=state)

    def test_given_none_then_it_ends_well(self, context: EngineContext) -> None:
        assert update_of(a_task(f"{CORE}.execution.Exit"), context).ends_as is State.SUCCESS

    def test_given_an_expression_that_gives_another_text_then_it_fails(self, context: EngineContext) -> None:
        with pytest.raises(TaskFailedError) as failure:
            Exit(id="e", type="E", state="{{ inputs.name }}").run(context)

        assert str(failure.value) == (
            "'Ann' is no state that an execution can be made to end in. "
            "Write one of SUCCESS, WARNING, KILLED, FAILED, CANCELED."
        )

    @pytest.mark.parametrize("written", ["RUNNING", "success", "SUCESS"])
    def test_given_another_text_in_yaml_then_it_is_refused(self, written: str) -> None:
        message = f"{written!r} is no state that an execution can be made to end in."

        assert issues(f"{CORE}.execution.Exit", state=written) == [(".state", message)]


class TestLabels:
    def test_given_a_map_then_keys_and_values_are_rendered(self, context: EngineContext) -> None:
        task = a_task(f"{CORE}.execution.Labels", labels={"{{ flow.id }}": "{{ inputs.name }}", "n": 5, "on": True})

        assert update_of(task, context) == ExecutionUpdate(labels={"flow": "Ann", "n": "5", "on": "true"})

    def test_given_a_list_then_the_later_of_two_wins(self, context: EngineContext) -> None:
        labels = [
            {"key": "a", "value": "{{ inputs.name }}"},
            {"key": "b", "value": 1.50},
            {"key": "a", "value": "last"},
        ]

        assert update_of(a_task(f"{CORE}.execution.Labels", labels=labels), context).labels == {"a": "last", "b": "1.5"}

    @pytest.mark.parametrize(
        "text",
        [
            '{"who": "{{ inputs.name }}", "n": 5, "f": 1.0, "on": true, "off": false}',
            '[{"key": "who", "value": "Ann"}, {"key": "n", "value": 5}, {"key": "f", "value": 1.0},'
            ' {"key": "on", "value": true}, {"key": "off", "value": false}]',
        ],
    )
    def test_given_json_then_it_is_as_good(self, context: EngineContext, text: str) -> None:
        task = a_task(f"{CORE}.execution.Labels", labels=text)

        labels = {"who": "Ann", "n": "5", "f": "1.0", "on": "true", "off": "false"}
        assert update_of(task, context).labels == labels

    def test_given_braces_in_a_rendered_value_then_they_are_not_rendered_again(self, tmp_path: Path) -> None:
        context = EngineContext(tmp_path, {"given": {"a": "{{ 1 + 1 }}"}})
        task = Labels(id="l", type="L", labels="{{ given | toJson }}")

        assert update_of(task, context).labels == {"a": "{{ 1 + 1 }}"}

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (
                {"system.app": "x"},
                "The label system.app is tercel's own. Choose a key that does not begin so.",
            ),
            (
                [Label(key="system.{{ inputs.name }}", value="x")],
                "The label system.Ann is tercel's own. Choose a key that does not begin so.",
            ),
            (
                '{"system.readOnly": true}',
                "The label system.readOnly is tercel's own. Choose a key that does not begin so.",
            ),
            (
                "{{ inputs.name }}",
                "`labels` renders to 'Ann', which is no JSON: Expecting value: line 1 column 1 (char 0).",
            ),
            (
                "5",
                '`labels` renders to neither a map nor a list. Have it give JSON such as {"team": "sales"}.',
            ),
            (
                '[{"key": "a"}]',
                'An item of `labels` is no map of `key` and `value`. Have it give JSON such as {"team": "sales"}.',
            ),
            (
                '["a"]',
                'An item of `labels` is no map of `key` and `value`. Have it give JSON such as {"team": "sales"}.',
            ),
            ('{"a": {"b": 1}}', "The value of the label 'a' is a map. Labels have text values."),
            ('{"a": ["b"]}', "The value of the label 'a' is a list. Labels have text values."),
            ('{"a": null}', "The value of the label 'a' is nothing. Labels have text values."),
        ],
    )
    def test_given_what_is_no_label_then_it_fails(self, context: EngineContext, labels: Any, message: str) -> None:
        with pytest.raises(TaskFailedError) as failure:
            Labels(id="l", type="L", labels=labels).run(context)

        assert str(failure.value) == message

    def test_given_a_map_as_value_in_yaml_then_it_is_refused(self) -> None:
        found = issues(f"{CORE}.execution.Labels", labels={"a": {"b": 1}})

        assert found == [(".labels.a", "A mapping stands where a text is expected.")]


class TestSetVariables:
    def test_given_variables_then_they_are_rendered_inside_maps_and_lists(self, context: EngineContext) -> None:
        task = a_task(
            f"{CORE}.execution.SetVariables", variables={"total": 4, "who": {"name": "{{ inputs.name }}"}, "l": ["a"]}
        )

        update = update_of(task, context)

        assert update == ExecutionUpdate(variables={"total": 4, "who": {"name": "Ann"}, "l": ["a"]})

    def test_given_json_then_it_is_as_good(self, context: EngineContext) -> None:
        task = a_task(f"{CORE}.execution.SetVariables", variables='{"new": {{ vars.total }} }')

        assert update_of(task, context).variables == {"new": 3}

    @pytest.mark.parametrize("overwrite", [False, "{{ inputs.no }}"])
    def test_given_one_that_is_there_when_nothing_may_be_overwritten_then_it_fails(
        self, context: EngineContext, overwrite: bool | str
    ) -> None:
        task = SetVariables(id="s", type="S", variables={"new": 1, "total": 4}, overwrite=overwrite)

        with pytest.raises(TaskFailedError) as failure:
            task.run(context)

        assert str(failure.value) == (
            "There is a variable 'total' already, and `overwrite` is false. Choose other names, or set `overwrite`."
        )

    def test_given_several_that_are_there_then_all_are_named(self, context: EngineContext) -> None:
        task = SetVariables(id="s", type="S", variables={"region": "us", "total": 4}, overwrite=False)

        with pytest.raises(TaskFailedError, match=r"^There are variables 'region', 'total' already"):
            task.run(context)

    def test_given_only_new_ones_when_nothing_may_be_overwritten_then_they_are_set(
        self, context: EngineContext
    ) -> None:
        task = SetVariables(id="s", type="S", variables={"new": 1}, overwrite=False)

        assert update_of(task, context).variables == {"new": 1}

    @pytest.mark.parametrize(("text", "found"), [("[1]", "a list"), ("null", "nothing"), ("5", "'5'")])
    def test_given_json_that_is_no_map_then_it_fails(self, context: EngineContext, text: str, found: str) -> None:
        with pytest.raises(TaskFailedError) as failure:
            SetVariables(id="s", type="S", variables=text).run(context)

        assert str(failure.value) == f"`variables` renders to {found}. Have it give a map as JSON."

    def test_given_what_cannot_be_rendered_then_it_fails(self, context: EngineContext) -> None:
        with pytest.raises(ExpressionError):
            SetVariables(id="s", type="S", variables={"a": "{{ nope }}"}).run(context)


class TestUnsetVariables:
    @pytest.mark.parametrize("variables", [["region", "{{ 'to' ~ 'tal' }}"], '["region", "total"]'])
    def test_given_names_then_they_are_unset(self, context: EngineContext, variables: Any) -> None:
        task = a_task(f"{CORE}.execution.UnsetVariables", variables=variables)

        assert update_of(task, context) == ExecutionUpdate(unset=("region", "total"))

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["nope", "total"], "There is no variable 'nope'."),
            (["nope", "nor"], "There are no variables 'nope', 'nor'."),
        ],
    )
    def test_given_one_that_is_not_there_then_it_fails(
        self, context: EngineContext, names: list[str], message: str
    ) -> None:
        with pytest.raises(TaskFailedError) as failure:
            UnsetVariables(id="u", type="U", variables=names).run(context)

        assert str(failure.value) == f"{message} Set `ignoreMissing` if it does not matter whether it is there."

    @pytest.mark.parametrize("ignore", [True, "{{ inputs.yes }}"])
    def test_given_that_it_does_not_matter_then_it_does_not_fail(
        self, context: EngineContext, ignore: bool | str
    ) -> None:
        task = UnsetVariables(id="u", type="U", variables=["nope", "total"], ignore_missing=ignore)

        assert update_of(task, context).unset == ("nope", "total")

    def test_given_no_variables_at_all_then_none_is_there(self, tmp_path: Path) -> None:
        context = EngineContext(tmp_path)
        context.variables = {name: value for name, value in context.variables.items() if name != "vars"}

        with pytest.raises(TaskFailedError, match="There is no variable 'total'"):
            UnsetVariables(id="u", type="U", variables=["total"]).run(context)

    @pytest.mark.parametrize("text", ['{"a": 1}', "[1]"])
    def test_given_json_that_is_no_list_of_names_then_it_fails(self, context: EngineContext, text: str) -> None:
        with pytest.raises(TaskFailedError) as failure:
            UnsetVariables(id="u", type="U", variables=text).run(context)

        assert str(failure.value) == '`variables` renders to no list of names. Have it give JSON such as ["total"].'


class TestCount:
    def test_given_flows_then_those_that_the_expression_keeps_are_given_back(self, context: EngineContext) -> None:
        context.engine.counts = [("a", "one", 1), ("a", "three", 3), ("b", "five", 5)]
        task = a_task(
            f"{CORE}.execution.Count",
            flows=[{"namespace": "{{ flow.namespace }}", "flowId": "one"}],
            states=["FAILED", "WARNING"],
            startDate="{{ '2030-01-31T13:00:00.123456789+01:00[Europe/Paris]' }}",
            endDate="2030-01-31T12:00:00Z",
            expression="{{ count > 1 }}",
        )

        outputs = task.run(context)

        assert outputs == {
            "results": [
                {"namespace": "a", "flowId": "three", "count": 3},
                {"namespace": "b", "flowId": "five", "count": 5},
            ],
            "total": 8,
        }
        [(name, query)] = context.engine.made
        assert name == "count"
        assert query == {
            "flows": [("company.team", "one")],
            "namespaces": [],
            "states": [State.FAILED, State.WARNING],
            "start": datetime(2030, 1, 31, 13, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1))),
            "end": NOON,
        }

    def test_given_namespaces_then_they_are_asked_about(self, context: EngineContext) -> None:
        task = Count(id="c", type="C", namespaces=["{{ flow.namespace }}"], expression="true")

        assert task.run(context) == {"results": [], "total": 0}
        assert context.engine.made[0][1]["namespaces"] == ["company.team"]
        assert context.engine.made[0][1]["start"] is None

    @pytest.mark.parametrize("expression", ["{{ count }}", "1", ""])
    def test_given_an_expression_that_is_not_just_true_then_nothing_is_kept(
        self, context: EngineContext, expression: str
    ) -> None:
        context.engine.counts = [("a", "one", 1)]
        task = Count(id="c", type="C", flows=[CountedFlow(namespace="a", flow_id="one")], expression=expression)

        assert task.run(context) == {"results": [], "total": 0}

    @pytest.mark.parametrize("date", ["{{ inputs.name }}", "{{ '2030-01-31' }}", "{{ '2030-01-31T12:00:00' }}"])
    def test_given_a_date_that_is_no_instant_then_it_fails(self, context: EngineContext, date: str) -> None:
        task = Count(id="c", type="C", namespaces=["a"], expression="true", start_date=date)

        with pytest.raises(TaskFailedError) as failure:
            task.run(context)

        rendered = context.render(date)
        message = f"`startDate` renders to {rendered!r}, which is no instant. Write it like 2030-01-31T12:00:00Z."
        assert str(failure.value) == message

    def test_given_nothing_to_count_in_yaml_then_it_is_refused(self) -> None:
        assert issues(f"{CORE}.execution.Count", expression="true") == [
            ("", "Nothing says which executions are counted.")
        ]

    def test_given_a_date_without_a_zone_in_yaml_then_it_is_refused(self) -> None:
        found = issues(f"{CORE}.execution.Count", expression="true", namespaces=["a"], endDate="2030-01-31")

        assert found == [(".endDate", "'2030-01-31' is not an instant such as 2030-01-31T12:00:00Z.")]


class TestResume:
    def test_given_an_execution_then_it_is_resumed_with_rendered_inputs(self, context: EngineContext) -> None:
        task = a_task(f"{CORE}.execution.Resume", executionId="{{ 'other' }}", inputs={"by": "{{ inputs.name }}"})

        assert task.run(context) == {}
        assert context.engine.made == [("resume", {"execution_id": "other", "inputs": {"by": "Ann"}})]

    def test_given_none_then_it_is_the_own_one(self, context: EngineContext) -> None:
        Resume(id="r", type="R", inputs='{"n": 1}').run(context)

        assert context.engine.made == [("resume", {"execution_id": "execution", "inputs": {"n": 1}})]

    def test_given_its_flow_then_it_is_resumed(self, context: EngineContext) -> None:
        context.engine.flows["other"] = ("company.team", "flow")

        Resume(
            id="r", type="R", execution_id="other", namespace="{{ flow.namespace }}", flow_id="{{ flow.id }}"
        ).run(context)  # fmt: skip

        assert [name for name, _ in context.engine.made] == ["resume"]

    def test_given_another_flow_then_it_fails(self, context: EngineContext) -> None:
        context.engine.flows["other"] = ("company.team", "flow")

        with pytest.raises(TaskFailedError) as failure:
            Resume(id="r", type="R", execution_id="other", namespace="a", flow_id="b").run(context)

        assert str(failure.value) == "The execution other is one of the flow company.team.flow, not of a.b."
        assert context.engine.made == []

    def test_given_a_flow_and_an_execution_that_is_not_there_then_it_fails(self, context: EngineContext) -> None:
        with pytest.raises(NotFoundError):
            Resume(id="r", type="R", execution_id="nope", namespace="a", flow_id="b").run(context)

    @pytest.mark.parametrize(
        ("properties", "issue"),
        [
            ({"executionId": "x", "namespace": "a"}, (".namespace", "'namespace' is given without 'flowId'.")),
            ({"executionId": "x", "flowId": "b"}, (".flowId", "'flowId' is given without 'namespace'.")),
            ({"namespace": "a", "flowId": "b"}, (".flowId", "A flow is named, but no execution of it.")),
        ],
    )
    def test_given_a_flow_named_by_half_in_yaml_then_it_is_refused(
        self, properties: dict[str, str], issue: tuple[str, str]
    ) -> None:
        assert issues(f"{CORE}.execution.Resume", **properties) == [issue]


class TestKill:
    @pytest.mark.parametrize(("propagate", "cascade"), [(None, True), (False, False), ("{{ inputs.zero }}", False)])
    def test_given_an_execution_then_the_engine_is_asked_to_kill_it(
        self, context: EngineContext, propagate: Any, cascade: bool
    ) -> None:
        given = {} if propagate is None else {"propagateKilling": propagate}
        task = a_task(f"{CORE}.execution.Kill", executionId="{{ inputs.name }}", **given)

        assert task.run(context) == {}
        assert context.engine.made == [("kill", {"execution_id": "Ann", "cascade": cascade})]

    def test_given_no_execution_in_yaml_then_it_is_refused(self) -> None:
        assert issues(f"{CORE}.execution.Kill") == [(".executionId", "The property 'executionId' is missing.")]


class TestPurgeExecutions:
    @pytest.mark.parametrize(
        "type_name",
        [
            f"{CORE}.execution.PurgeExecutions",
            f"{CORE}.storage.Purge",
            "io.kestra.core.tasks.storages.Purge",
        ],
    )
    def test_given_any_of_its_names_then_what_was_removed_is_counted(
        self, context: EngineContext, type_name: str
    ) -> None:
        context.engine.purged = PurgeResult(executions=1, logs=2, metrics=3, files=4)

        outputs = a_task(type_name, endDate="{{ '2030-01-31T12:00:00Z' }}").run(context)

        assert outputs == {"executionsCount": 1, "logsCount": 2, "metricsCount": 3, "storagesCount": 4}
        [(name, query)] = context.engine.made
        ended = {State.SUCCESS, State.WARNING, State.FAILED, State.KILLED, State.CANCELLED, State.RETRIED}
        assert name == "purge_executions"
        assert ended <= set(query.pop("states")) <= ended | {State.SKIPPED}
        assert query == {
            "namespace": None,
            "flow_id": None,
            "start": None,
            "end": NOON,
            "executions": True,
            "logs": True,
            "metrics": True,
            "files": True,
        }

    def test_given_all_properties_then_they_are_handed_on(self, context: EngineContext) -> None:
        a_task(
            f"{CORE}.execution.PurgeExecutions",
            namespace="{{ flow.namespace }}",
            flowId="{{ flow.id }}",
            startDate="2030-01-31T12:00:00Z",
            endDate="2030-01-31T12:00:00Z",
            states=["SUCCESS"],
            purgeExecution=False,
            purgeLog="{{ inputs.no }}",
            purgeMetric="{{ inputs.yes }}",
            purgeStorage=False,
        ).run(context)

        assert context.engine.made[0][1] == {
            "namespace": "company.team",
            "flow_id": "flow",
            "states": [State.SUCCESS],
            "start": NOON,
            "end": NOON,
            "executions": False,
            "logs": False,
            "metrics": True,
            "files": False,
        }

    def test_given_no_end_in_yaml_then_it_is_refused(self) -> None:
        found = issues(f"{CORE}.execution.PurgeExecutions")

        assert found == [(".endDate", "The property 'endDate' is missing.")]

    def test_given_a_flow_without_its_namespace_in_yaml_then_it_is_refused(self) -> None:
        found = issues(f"{CORE}.execution.PurgeExecutions", endDate="2030-01-31T12:00:00Z", flowId="x")

        assert found == [(".flowId", "'flowId' is given without 'namespace'.")]

    def test_given_an_end_that_is_no_instant_then_nothing_is_removed(self, context: EngineContext) -> None:
        with pytest.raises(TaskFailedError, match="`endDate` renders to 'Ann', which is no instant"):
            PurgeExecutions(id="p", type="P", end_date="{{ inputs.name }}").run(context)

        assert context.engine.made == []


@pytest.mark.parametrize(
    ("simple_name", "properties"),
    [
        ("Exit", {}),
        ("Labels", {"labels": {"a": "b"}}),
        ("SetVariables", {"variables": {"a": "b"}}),
        ("UnsetVariables", {"variables": ["a"]}),
    ],
)
def test_given_a_task_that_changes_the_execution_when_in_a_working_directory_then_it_is_refused(
    simple_name: str, properties: dict[str, Any]
) -> None:
    child = {"id": "child", "type": f"{CORE}.execution.{simple_name}", **properties}

    found = check_flow(flow(wd(child)), catalog()).issues

    assert [issue.code for issue in found] == ["workingDirectory.child.notRunnable"]


@pytest.mark.parametrize("simple_name", ["Count", "Resume", "Kill", "PurgeExecutions"])
def test_given_a_task_that_waits_for_the_engine_then_it_is_not_inline(simple_name: str) -> None:
    found = catalog().find(f"{CORE}.execution.{simple_name}")

    assert found is not None
    assert issubclass(found, RunnableTask)
    assert not found.is_inline
