"""What the sections on writing flows promise, one class for each: parsing, properties, inputs, defaults, labels."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import pytest

from tercel import expression
from tercel.errors import InvalidFlowError, InvalidInputError
from tercel.model.checks import exists_issue, update_issues
from tercel.model.flow import Flow, PluginDefault
from tercel.model.inputs import examine_inputs, input_problems, parse_output, resolve_inputs, with_defaults
from tercel.model.labels import execution_labels
from tercel.model.source import Checked, check_flow, check_flows, check_stored, read_flow, read_flows
from tercel.model.task import LogLevel
from tercel.plugins import catalog

CORE = "io.kestra.plugin.core"
LOG = f"{{id: a, type: {CORE}.log.Log, message: hi}}"


def flow(more: str = "", tasks: str = f"[{LOG}]") -> str:
    return f"id: f\nnamespace: dev\ntasks: {tasks}\n{more}\n"


def read(more: str = "", tasks: str = f"[{LOG}]", *global_defaults: PluginDefault) -> Flow:
    return read_flow(flow(more, tasks), catalog(), global_defaults)


def check(more: str = "", tasks: str = f"[{LOG}]") -> Checked:
    return check_flow(flow(more, tasks), catalog())


def codes(more: str = "", tasks: str = f"[{LOG}]") -> list[tuple[str, str]]:
    return [(issue.code, issue.path) for issue in check(more, tasks).issues]


def warnings(more: str = "", tasks: str = f"[{LOG}]") -> list[tuple[str, str]]:
    checked = check(more, tasks)
    assert checked.issues == ()
    return [(warning.code, warning.path) for warning in checked.warnings]


def render(template: str, variables: Mapping[str, object]) -> object:
    return expression.render(template, {**variables, "labels": {"team": "a"}}, mode="typed")


def start(inputs: str, **given: object) -> dict[str, object]:
    """The inputs of an execution of a flow that declares *inputs*."""
    return resolve_inputs(read(f"inputs: {inputs}").inputs, given, render)


def refused(inputs: str, **given: object) -> str:
    with pytest.raises(InvalidInputError) as caught:
        start(inputs, **given)
    return caught.value.message


class TestSection1Parsing:
    def test_several_documents_are_several_flows(self) -> None:
        one, two = flow(), flow().replace("id: f", "id: g")

        flows = read_flows(f"{one}---\n{two}", catalog())

        assert [(read.id, read.source) for read in flows] == [("f", one), ("g", two)]

    def test_one_faulty_document_is_told_by_its_own_lines(self) -> None:
        every = check_flows(f"{flow()}---\n{flow('nothing: 1')}", catalog())

        assert [[(issue.code, issue.line) for issue in one.issues] for one in every] == [[], [("property.unknown", 9)]]

    def test_a_key_given_twice_is_refused_with_key_and_line(self) -> None:
        (issue,) = check("description: a\ndescription: b").issues

        assert (issue.code, issue.path, issue.line) == ("key.duplicate", "description", 5)
        assert issue.message == "The key 'description' is given twice, on lines 4 and 5."

    @pytest.mark.parametrize(
        ("more", "task", "path"),
        [
            ("nothing: 1", "", "nothing"),
            ("", ", nothing: 1", "tasks[0].nothing"),
            ("", ", retry: {type: constant, interval: PT1S, nothing: 1}", "tasks[0].retry.nothing"),
            ("", ", workerGroup: {key: a, nothing: 1}", "tasks[0].workerGroup.nothing"),
            ("inputs: [{id: a, type: INT, nothing: 1}]", "", "inputs[0].nothing"),
            ("inputs: [{id: a, type: INT, dependsOn: {nothing: 1}}]", "", "inputs[0].dependsOn.nothing"),
            ("outputs: [{id: a, type: INT, value: 1, nothing: 1}]", "", "outputs[0].nothing"),
            ("concurrency: {limit: 1, nothing: 1}", "", "concurrency.nothing"),
            (f"triggers: [{{id: t, type: {CORE}.trigger.Schedule, cron: '@daily', nothing: 1}}]", "",
             "triggers[0].nothing"),
            ("sla: [{id: a, type: MAX_DURATION, behavior: FAIL, duration: PT1S, nothing: 1}]", "", "sla[0].nothing"),
        ],
    )  # fmt: skip
    def test_an_unknown_property_is_refused_at_any_level_with_what_is_accepted(
        self, more: str, task: str, path: str
    ) -> None:
        (issue,) = check(more, f"[{LOG[:-1]}{task}}}]").issues

        assert (issue.code, issue.path) == ("property.unknown", path)
        assert issue.accepted

    @pytest.mark.parametrize(
        ("more", "tasks", "path"),
        [
            ("", "[{id: a, type: io.nothing.Task}]", "tasks[0].type"),
            ("triggers: [{id: a, type: io.nothing.Trigger}]", f"[{LOG}]", "triggers[0].type"),
            (f"listeners: [{{conditions: [{{type: io.nothing.Condition}}], tasks: [{LOG.replace('a', 'b', 1)}]}}]",
             f"[{LOG}]", "listeners[0].conditions[0].type"),
        ],
    )  # fmt: skip
    def test_an_unknown_type_is_refused_with_its_path(self, more: str, tasks: str, path: str) -> None:
        assert codes(more, tasks) == [("type.unknown", path)]

    def test_what_defaults_bring_is_read_leniently(self) -> None:
        read(f"pluginDefaults: [{{type: {CORE}, values: {{nothing: 1}}}}]")

    def test_a_stored_flow_that_no_longer_parses_is_its_issues(self) -> None:
        checked = check_stored(flow(tasks="[{id: a, type: io.gone.Task}]"), catalog())

        assert checked.flow is None
        assert [issue.code for issue in checked.issues] == ["type.unknown"]

    def test_the_source_is_kept_as_it_is_but_for_the_line_of_the_revision(self) -> None:
        text = "# comment\n\n" + flow("variables: {revision: 3}")

        assert read_flow(text, catalog()).source == text
        assert read_flow(text.replace("id: f\n", "id: f\nrevision: 12\n"), catalog()).source == text

    def test_scalars_are_coerced_and_enums_are_not(self) -> None:
        tasks = f"[{{id: 1, type: {CORE}.log.Log, message: 5, disabled: 'true', timeout: 90, logLevel: DEBUG}}]"

        (task,) = read(tasks=tasks).tasks

        assert (task.id, task.disabled, task.timeout, task.log_level) == ("1", True, "90", LogLevel.DEBUG)
        assert codes(tasks=tasks.replace("DEBUG", "debug")) == [("property.type", "tasks[0].logLevel")]
        assert codes(tasks=f"[{LOG[:-1]}, retry: {{type: CONSTANT, interval: PT1S}}}}]") == [
            ("property.type", "tasks[0].retry.type")
        ]

    @pytest.mark.parametrize("labels", ["{a: 1, b: true, c: 1.5}", "[{key: a, value: 1}, {key: b, value: true}]"])
    def test_labels_are_a_map_or_a_list(self, labels: str) -> None:
        found = read(f"labels: {labels}").labels

        assert (found["a"], found["b"]) == ("1", "true")

    @pytest.mark.parametrize("value", ["[1]", "{b: c}"])
    def test_a_label_is_no_list_and_no_map(self, value: str) -> None:
        assert codes(f"labels: {{a: {value}}}") == [("property.type", "labels.a")]


class TestSection2FlowProperties:
    def test_all_of_them_are_read(self) -> None:
        found = read(
            "revision: 3\ndescription: text\nlabels: {team: a}\nvariables: {a: {b: '{{ c }}'}}\ndisabled: true\n"
            "deleted: true\ntenantId: main\nconcurrency: {limit: 2, behavior: CANCEL}\n"
            "retry: {type: constant, interval: PT1S, behavior: CREATE_NEW_EXECUTION}\n"
            "inputs: [{id: i, type: INT}]\noutputs: [{id: o.p, type: JSON, value: {a: '{{ 1 }}'}, displayName: O}]\n"
            f"errors: [{LOG.replace('a', 'e', 1)}]\nfinally: [{LOG.replace('a', 'g', 1)}]\n"
            f"afterExecution: [{LOG.replace('a', 'h', 1)}]\n"
            f"listeners: [{{description: text, conditions: [{{type: {CORE}.condition.ExecutionStatus, in: [FAILED]}}], "
            f"tasks: [{LOG.replace('a', 'k', 1)}]}}]\n"
            f"triggers: [{{id: t, type: {CORE}.trigger.Schedule, cron: '@daily'}}]\n"
            "sla: [{id: s, type: MAX_DURATION, behavior: FAIL, duration: PT1H, labels: {late: yes}}, "
            "{id: t, type: EXECUTION_ASSERTION, behavior: NONE, assert: '{{ true }}'}]\n"
        )

        assert (found.revision, found.description, found.disabled, found.deleted) == (3, "text", True, True)
        assert (found.tenant_id, found.variables) == ("main", {"a": {"b": "{{ c }}"}})
        assert found.concurrency is not None
        assert (found.concurrency.limit, found.concurrency.behavior) == (2, "CANCEL")
        assert found.retry is not None
        assert found.retry.behavior == "CREATE_NEW_EXECUTION"
        assert [task.id for task in found.walk()] == ["a", "e", "g", "h", "k"]
        assert [condition.type for condition in found.listeners[0].conditions] == [f"{CORE}.condition.ExecutionStatus"]
        assert [trigger.id for trigger in found.triggers] == ["t"]
        assert [(one.id, one.type, one.behavior, one.duration, one.assertion, one.labels) for one in found.sla] == [
            ("s", "MAX_DURATION", "FAIL", timedelta(hours=1), None, {"late": "yes"}),
            ("t", "EXECUTION_ASSERTION", "NONE", None, "{{ true }}", {}),
        ]
        assert [(one.id, one.type, one.value) for one in found.outputs] == [("o.p", "JSON", {"a": "{{ 1 }}"})]

    @pytest.mark.parametrize("id_", ["a", "A.b_c-1", "x" * 100])
    def test_an_id_may_hold_dots_and_a_hundred_characters(self, id_: str) -> None:
        assert read_flow(flow().replace("id: f", f"id: {id_}", 1), catalog()).id == id_

    def test_without_any_they_are_what_the_table_says(self) -> None:
        found = read()

        assert (found.revision, found.disabled, found.deleted, found.tenant_id) == (1, False, False, None)
        assert (found.labels, found.inputs, found.variables, found.sla, found.listeners) == ({}, [], {}, [], [])

    def test_the_former_name_of_plugin_defaults_is_as_good(self) -> None:
        found = read(f"taskDefaults: [{{type: {CORE}.log.Log, values: {{level: DEBUG}}}}]")

        assert [default.type for default in found.plugin_defaults] == [f"{CORE}.log.Log"]
        assert getattr(found.tasks[0], "level") == LogLevel.DEBUG  # noqa: B009  # of whatever class Log is

    @pytest.mark.parametrize(
        ("more", "code", "path"),
        [
            ("revision: 0", "property.bound", "revision"),
            ("tenantId: A", "flow.tenantId.pattern", "tenantId"),
            ("listeners: [{tasks: []}]", "listener.tasks.empty", "listeners[0].tasks"),
            ("listeners: [{}]", "listener.tasks.empty", "listeners[0].tasks"),
            ("outputs: [{id: -, type: INT, value: 1}]", "output.id.pattern", "outputs[0].id"),
            ("outputs: [{id: a, value: 1}]", "property.missing", "outputs[0].type"),
            ("sla: [{id: a, type: MAX_DURATION, behavior: FAIL}]", "property.missing", "sla[0].duration"),
            ("sla: [{id: a, type: EXECUTION_ASSERTION, behavior: FAIL}]", "property.missing", "sla[0].assert"),
            ("sla: [{id: a, type: MAX_DURATION, duration: PT1S}]", "property.missing", "sla[0].behavior"),
        ],
    )
    def test_what_breaks_them_is_refused(self, more: str, code: str, path: str) -> None:
        assert codes(more) == [(code, path)]


class TestSection3Validation:
    """The codes have a table of their own, in `test_flow_validation.py`."""

    def test_every_violation_is_told_at_once(self) -> None:
        text = "id: a b\nnamespace: Dev\nlabels: {system.x: 1}\ninputs: [{id: i, type: INT, defaults: x}]\ntasks: []\n"

        found = [issue.code for issue in check_flow(text, catalog()).issues]

        assert found == [
            "flow.id.pattern",
            "flow.namespace.pattern",
            "label.system",
            "input.defaults",
            "flow.tasks.empty",
        ]

    def test_an_update_changes_neither_id_nor_namespace(self) -> None:
        assert [issue.code for issue in update_issues(read(), "prod", "g")] == [
            "flow.update.id",
            "flow.update.namespace",
        ]
        assert update_issues(read(), "dev", "f") == ()

    def test_a_flow_that_is_there_is_not_created_again(self) -> None:
        assert exists_issue(read()).code == "flow.exists"

    @pytest.mark.parametrize("names", ["namespace: prod, flowId: f", "namespace: dev, flowId: '{{ flow.id }}'"])
    def test_a_subflow_of_another_name_or_of_one_that_is_rendered_is_taken(self, names: str) -> None:
        assert codes(tasks=f"[{{id: t, type: {CORE}.flow.Subflow, {names}}}]") == []

    @pytest.mark.parametrize(
        ("more", "tasks", "expected"),
        [
            (f"listeners: [{{tasks: [{LOG.replace('a', 'b', 1)}]}}]", f"[{LOG}]", ("property.deprecated", "listeners")),
            ("taskDefaults: []", f"[{LOG}]", ("property.alias", "taskDefaults")),
            ("inputs: [{name: a, type: INT}]", f"[{LOG}]", ("property.alias", "inputs[0].name")),
            ("inputs: [{id: a, type: ENUM, values: [a]}]", f"[{LOG}]", ("property.deprecated", "inputs[0].type")),
            ("", "[{id: a, type: io.kestra.core.tasks.log.Log, message: x}]", ("type.alias", "tasks[0].type")),
            (f"triggers: [{{id: t, type: {CORE}.trigger.Flow}}]", f"[{LOG}]",
             ("trigger.flow.everything", "triggers[0]")),
            (f"triggers: [{{id: t, type: {CORE}.trigger.Schedule, cron: '@daily', scheduleConditions: []}}]",
             f"[{LOG}]", ("property.deprecated", "triggers[0].scheduleConditions")),
        ],
    )  # fmt: skip
    def test_what_is_old_or_unlikely_is_warned_of_and_never_refused(
        self, more: str, tasks: str, expected: tuple[str, str]
    ) -> None:
        assert warnings(more, tasks) == [expected]

    def test_a_flow_trigger_with_conditions_or_preconditions_needs_no_warning(self) -> None:
        trigger = f"triggers: [{{id: t, type: {CORE}.trigger.Flow, "

        assert warnings(trigger + f"conditions: [{{type: {CORE}.condition.ExecutionStatus, in: [FAILED]}}]}}]") == []
        assert warnings(trigger + "preconditions: {id: p, flows: [{namespace: dev}]}}]") == []

    def test_an_alias_is_told_with_its_new_name(self) -> None:
        (warning,) = check(tasks="[{id: a, type: io.kestra.core.tasks.log.Log, message: x}]").warnings

        assert warning.message == f"io.kestra.core.tasks.log.Log is now called {CORE}.log.Log."


TASKS = """
    debugs.Echo debug.Echo, debugs.Return debug.Return, executions.Counts execution.Count,
    executions.Fail execution.Fail, executions.Labels execution.Labels, flows.AllowFailure flow.AllowFailure,
    flows.Dag flow.Dag, flows.EachParallel flow.EachParallel, flows.EachSequential flow.EachSequential,
    flows.Flow flow.Subflow, flows.Subflow flow.Subflow, flows.ForEachItem flow.ForEachItem, flows.If flow.If,
    flows.Parallel flow.Parallel, flows.Pause flow.Pause, flows.Sequential flow.Sequential, flows.Switch flow.Switch,
    flows.Worker flow.WorkingDirectory, flows.WorkingDirectory flow.WorkingDirectory, log.Fetch log.Fetch,
    log.Log log.Log, states.Get state.Get, states.Set state.Set, states.Delete state.Delete,
    storages.Concat storage.Concat, storages.DeduplicateItems storage.DeduplicateItems, storages.Delete storage.Delete,
    storages.FilterItems storage.FilterItems, storages.LocalFiles storage.LocalFiles,
    storages.Purge execution.PurgeExecutions, storages.PurgeExecution storage.PurgeCurrentExecutionFiles,
    storages.Reverse storage.Reverse, storages.Size storage.Size, storages.Split storage.Split,
    templating.TemplatedTask templating.TemplatedTask, trigger.Toggle trigger.Toggle
"""
CONDITIONS = """
    DateTimeBetween DayWeek DayWeekInMonth ExecutionFlow ExecutionLabels ExecutionNamespace ExecutionOutputs
    ExecutionStatus HasRetryAttempt Not Or PublicHoliday TimeBetween Weekend
"""
OTHERS = {
    f"{CORE}.storage.Purge": f"{CORE}.execution.PurgeExecutions",
    f"{CORE}.storage.PurgeExecution": f"{CORE}.storage.PurgeCurrentExecutionFiles",
    "io.kestra.plugin.fs.http.Request": f"{CORE}.http.Request",
    "io.kestra.plugin.fs.http.Download": f"{CORE}.http.Download",
    f"{CORE}.flow.WaitFor": f"{CORE}.flow.LoopUntil",
    f"{CORE}.flows.Switch": f"{CORE}.flow.Switch",
    "io.kestra.core.models.triggers.types.Schedule": f"{CORE}.trigger.Schedule",
    "io.kestra.core.models.triggers.types.Flow": f"{CORE}.trigger.Flow",
    "io.kestra.core.models.triggers.types.Webhook": f"{CORE}.trigger.Webhook",
    "io.kestra.core.models.conditions.types.VariableCondition": f"{CORE}.condition.Expression",
    f"{CORE}.condition.ExpressionCondition": f"{CORE}.condition.Expression",
}
ALIASES = {
    **{f"io.kestra.core.tasks.{old}": f"{CORE}.{new}" for old, new in (pair.split() for pair in TASKS.split(","))},
    **{
        f"{prefix}.{name}Condition": f"{CORE}.condition.{name}"
        for name in CONDITIONS.split()
        for prefix in ("io.kestra.core.models.conditions.types", f"{CORE}.condition")
    },
    **{
        f"io.kestra.core.models.conditions.types.{name}": f"{CORE}.condition.{name}"
        for name in ("FlowCondition", "FlowNamespaceCondition", "MultipleCondition")
    },
    **OTHERS,
}
CANONICAL = """
    flow.ForEach flow.Sleep execution.Resume log.PurgeLogs kv.Set kv.Get kv.GetKeys kv.Delete namespace.UploadFiles
    namespace.DownloadFiles namespace.DeleteFiles output.OutputValues runner.Process trigger.ScheduleOnDates
    execution.Assert execution.Exit execution.SetVariables execution.UnsetVariables execution.Kill metric.Publish
    storage.Write
"""


class TestSection4Aliases:
    @pytest.mark.parametrize(("old", "new"), ALIASES.items())
    def test_an_alias_is_the_same_class(self, old: str, new: str) -> None:
        found = catalog().find(new)

        assert found is not None
        assert found.plugin_type == new
        assert catalog().find(old) is found

    @pytest.mark.parametrize("name", CANONICAL.split())
    def test_what_never_had_another_name_is_there(self, name: str) -> None:
        found = catalog().find(f"{CORE}.{name}")

        assert found is not None
        assert found.plugin_type == f"{CORE}.{name}"

    def test_an_alias_is_kept_in_the_source_and_in_the_model(self) -> None:
        found = read(tasks="[{id: a, type: io.kestra.core.tasks.log.Log, message: x}]")

        assert found.tasks[0].type == "io.kestra.core.tasks.log.Log"
        assert "io.kestra.core.tasks.log.Log" in found.source

    def test_properties_have_aliases_too(self) -> None:
        found = read(
            "inputs: [{name: a, type: BOOL}, {id: b, name: c, type: MULTISELECT, options: [x]}]\n"
            f"triggers: [{{id: t, type: {CORE}.trigger.Schedule, cron: '@daily', minLogLevel: ERROR, backfill: {{}}}}]",
            f"[{LOG[:-1]}, retry: {{type: constant, interval: PT1S, maxAttempt: 3}}}}]",
        )

        assert [(one.id, one.name, one.choices) for one in found.inputs] == [("a", None, None), ("b", "c", ["x"])]
        assert found.triggers[0].log_level == LogLevel.ERROR
        assert found.tasks[0].retry is not None
        assert found.tasks[0].retry.attempts == 3


class TestSection51InputTypes:
    @pytest.mark.parametrize(
        ("declared", "given", "expected"),
        [
            ("type: STRING", "", ""),
            ("type: STRING, validator: '[A-Z]{2}'", "AB", "AB"),
            ("type: EMAIL", "a+b@c-d.example", "a+b@c-d.example"),
            ("type: EMAIL", "", ""),
            ("type: SELECT, values: [a, 2]", "2", "2"),
            ("type: SELECT, values: [a], allowCustomValue: true, isRadio: true", "b", "b"),
            ("type: SELECT, values: [a], required: false", "b", "b"),
            ("type: SELECT, expression: '{{ [1, \"b\", null] }}'", "1", "1"),
            ("type: ENUM, values: [a]", "a", "a"),
            ("type: MULTISELECT, values: [a, b]", '["a", "b"]', ["a", "b"]),
            ("type: MULTISELECT, options: ['1', '2'], itemType: INT", ["2"], [2]),
            ("type: MULTISELECT, values: [a], allowCustomValue: true", ["z"], ["z"]),
            ("type: INT, min: 5, max: 5", "5", 5),
            ("type: INT", "9223372036854775807", 2**63 - 1),
            ("type: FLOAT, max: 1.5", "1.5", 1.5),
            ("type: BOOLEAN", "TRUE", True),
            ("type: BOOL", "anything else", False),
            ("type: DATETIME", "2030-01-31T12:00:00+01:00", "2030-01-31T11:00:00Z"),
            ("type: DATE, after: 2030-01-01, before: 2030-12-31", "2030-06-01", "2030-06-01"),
            ("type: TIME", "12:30:01.5", "12:30:01.500000"),
            ("type: DURATION, min: PT1S, max: P1D", "PT90M", "PT1H30M"),
            ("type: FILE, extension: csv", "kestra:///a/b.csv", "kestra:///a/b.csv"),
            ("type: JSON", '{"a": [1]}', {"a": [1]}),
            ("type: JSON", {"a": [1]}, {"a": [1]}),
            ("type: YAML", "a: [1]", {"a": [1]}),
            ("type: URI", "http://localhost/x", "http://localhost/x"),
            ("type: SECRET, validator: '.{3}'", "abc", "abc"),
            ("type: ARRAY, itemType: INT", "[1, 2]", [1, 2]),
            ("type: ARRAY, itemType: DATE", ["2030-01-31"], ["2030-01-31"]),
        ],
    )  # fmt: skip
    def test_what_a_type_takes(self, declared: str, given: object, expected: object) -> None:
        assert start(f"[{{id: x, {declared}}}]", x=given) == {"x": expected}

    @pytest.mark.parametrize(
        ("declared", "given", "message"),
        [
            ("type: STRING, validator: '[A-Z]{2}'", "ABC", "'ABC' does not match [A-Z]{2}."),
            ("type: EMAIL", "a@", "'a@' is not an e-mail address."),
            ("type: SELECT, values: [a]", "b", "'b' is none of a."),
            ("type: ENUM, values: [a]", "b", "'b' is none of a."),
            ("type: MULTISELECT, values: [a], required: false", ["b"], "'b' is none of a."),
            ("type: MULTISELECT, values: [a], options: [a]", ["a"],
             "the flow gives both 'values' and 'options' to choose from; only 'values' may stay."),
            ("type: INT, min: 5", "4", "4 is less than 5."),
            ("type: INT", "9223372036854775808", "'9223372036854775808' has more than 64 bits."),
            ("type: DATETIME", "2030-01-31T12:00:00",
             "'2030-01-31T12:00:00' is not an instant; write it like 2030-01-31T12:00:00Z."),
            ("type: DATE, after: 2030-01-01", "2030-01-01", "2030-01-01 is not after 2030-01-01."),
            ("type: DURATION, max: PT1H", "PT2H", "PT2H is more than PT1H."),
            ("type: FILE", "", "'' is not a file in internal storage."),
            ("type: FILE", "/etc/passwd", "'/etc/passwd' is not a file in internal storage."),
            ("type: JSON", "{", "'{' is not JSON."),
            ("type: URI", "localhost", "'localhost' is not a URI; write it like https://example.com/a."),
            ("type: SECRET, validator: x", "open-sesame", "it does not match x."),
            ("type: ARRAY, itemType: INT", '["1", "b"]', "item 1 ('b' is not a whole number)."),
        ],
    )  # fmt: skip
    def test_what_a_type_refuses(self, declared: str, given: object, message: str) -> None:
        assert refused(f"[{{id: x, {declared}}}]", x=given) == f"Input 'x': {message}"

    def test_a_secret_needs_a_key(self) -> None:
        declared = read("inputs: [{id: x, type: SECRET}]").inputs

        with pytest.raises(InvalidInputError, match=r"^Input 'x': there is no key to keep a SECRET by\."):
            resolve_inputs(declared, {"x": "y"}, render, can_seal=False)

    @pytest.mark.parametrize(
        ("written", "expected"), [("", ".upl"), (", extension: csv", ".csv"), (", extension: .a", ".a")]
    )
    def test_a_file_has_an_extension(self, written: str, expected: str) -> None:
        assert read(f"inputs: [{{id: x, type: FILE{written}}}]").inputs[0].file_extension == expected

    @pytest.mark.parametrize("default", ["nsfile:///a.csv", "kestra:///a.csv"])
    def test_a_file_may_have_a_stored_default(self, default: str) -> None:
        assert start(f"[{{id: x, type: FILE, defaults: '{default}'}}]") == {"x": default}


class TestSection52Resolution:
    def test_defaults_count_where_nothing_is_given_and_may_be_expressions(self) -> None:
        inputs = "[{id: a, type: INT, defaults: 1}, {id: b, type: STRING, defaults: '{{ labels.team }}'}]"

        assert start(inputs) == {"a": 1, "b": "a"}
        assert start(inputs, a=2, b="x") == {"a": 2, "b": "x"}

    def test_an_input_is_asked_for_where_all_it_depends_on_is_and_its_condition_is_true(self) -> None:
        inputs = (
            "[{id: later, type: INT, defaults: 1, dependsOn: {inputs: [late]}}, "
            "{id: late, type: INT, dependsOn: {inputs: [mode], condition: \"{{ inputs.mode == 'x' }}\"}}, "
            "{id: mode, type: STRING}]"
        )

        assert start(inputs, mode="x", late=1) == {"later": 1, "late": 1, "mode": "x"}
        assert start(inputs, mode="y", late="nonsense") == {"mode": "y"}

    def test_a_condition_sees_only_what_it_depends_on_and_an_error_in_it_is_told(self) -> None:
        inputs = "[{id: a, type: INT}, {id: b, type: INT, dependsOn: {condition: '{{ inputs.a == 1 }}'}}]"

        assert refused(inputs, a=1, b=1).startswith("Input 'b': ")

    def test_the_text_true_is_not_true(self) -> None:
        assert start("[{id: a, type: INT, dependsOn: {condition: 'true'}}]", a=1) == {}
        assert start("[{id: a, type: INT, dependsOn: {condition: '{{ true }}'}}]", a=1) == {"a": 1}

    def test_nothing_for_a_required_input_is_an_error_and_null_elsewhere(self) -> None:
        assert refused("[{id: a, type: INT}, {id: b, type: DATE}]") == (
            "Input 'a': a value is missing.\nInput 'b': a value is missing."
        )
        assert start("[{id: a, type: INT, required: false}]") == {"a": None}

    def test_all_errors_are_told_with_id_reason_and_value(self) -> None:
        assert refused("[{id: a, type: INT}, {id: b, type: DATE}, {id: c, type: INT}]", a="x", b="y") == (
            "Input 'a': 'x' is not a whole number.\n"
            "Input 'b': 'y' is not a date; write it like 2030-01-31.\n"
            "Input 'c': a value is missing."
        )

    def test_unknown_values_are_ignored(self) -> None:
        assert start("[{id: a, type: INT}]", a=1, b=2) == {"a": 1}

    def test_dots_make_maps_and_clashes_are_refused(self) -> None:
        inputs = "[{id: a.b, type: INT}, {id: a.c.d, type: INT}]"

        assert start(inputs, **{"a.b": 1, "a.c.d": 2}) == {"a": {"b": 1, "c": {"d": 2}}}
        assert codes("inputs: [{id: a, type: INT}, {id: a.b, type: INT}]") == [("input.id.duplicate", "inputs[0].id")]

    def test_an_empty_part_of_a_form_is_no_value_but_for_texts_and_files(self) -> None:
        inputs = "[{id: a, type: INT, defaults: 5}, {id: b, type: STRING, defaults: x}]"

        assert start(inputs, a="", b="") == {"a": 5, "b": ""}
        assert refused("[{id: a, type: FILE}]", a="") == "Input 'a': '' is not a file in internal storage."

    def test_a_truth_value_that_is_none_is_warned_of(self) -> None:
        told: list[str] = []

        assert resolve_inputs(read("inputs: [{id: a, type: BOOL}]").inputs, {"a": "yes"}, render, warn=told.append) == {
            "a": False
        }
        assert told == ["Input 'a': 'yes' is neither true nor false; it counts as false."]

    def test_what_a_pause_asks_for_is_resolved_alike(self) -> None:
        pause = f"[{{id: p, type: {CORE}.flow.Pause, onResume: [{{id: a, type: INT}}, {{id: a, type: BOOL}}]}}]"
        declared = read(tasks=pause.replace("id: a, type: BOOL", "id: b, type: BOOL")).tasks[0]
        inputs = getattr(declared, "on_resume")  # noqa: B009  # of whatever class Pause is

        assert resolve_inputs(inputs, {"a": "1", "b": "true"}, render) == {"a": 1, "b": True}
        assert [one.errors for one in examine_inputs(inputs, {"a": "x"}, render)] == [
            ("'x' is not a whole number",),
            ("a value is missing",),
        ]
        assert list(input_problems(inputs, "onResume")) == []

    def test_missing_inputs_with_defaults_are_seen_by_expressions(self) -> None:
        declared = read("inputs: [{id: a, type: INT, defaults: 5}, {id: b, type: INT}]").inputs

        assert with_defaults(declared, {}) == {"a": 5}


class TestSection6FlowOutputs:
    @pytest.mark.parametrize(
        ("type_", "rendered", "expected"),
        [
            ("INT", "5", 5),
            ("STRING", 5, "5"),
            ("ARRAY", "[1, {}]", [1, {}]),
            ("SECRET", "x", "x"),
            ("STRING", None, None),
        ],
    )
    def test_a_rendered_value_is_parsed_as_an_input_is(self, type_: str, rendered: object, expected: object) -> None:
        (output,) = read(f"outputs: [{{id: o, type: {type_}, value: '{{{{ x }}}}'}}]").outputs

        assert parse_output(output.type, rendered) == expected

    @pytest.mark.parametrize(("type_", "rendered"), [("INT", None), ("JSON", None), ("INT", "x"), ("DATE", "x")])
    def test_what_does_not_fit_is_an_error(self, type_: str, rendered: object) -> None:
        (output,) = read(f"outputs: [{{id: o, type: {type_}, value: '{{{{ x }}}}'}}]").outputs

        with pytest.raises(ValueError, match=r"."):
            parse_output(output.type, rendered)


class TestSection7TaskProperties:
    def test_all_tasks_have_them(self) -> None:
        properties = (
            "description: text, disabled: true, runIf: '{{ x }}', timeout: PT5M, allowFailure: true, "
            "allowWarning: true, workerGroup: {key: gpu, fallback: FAIL}, logLevel: WARN, logToFile: true, "
            "retry: {type: random, minInterval: PT1S, maxInterval: PT2S, maxAttempt: 3, maxDuration: PT1M, "
            "warningOnRetry: true}"
        )
        for task_type in (f"{CORE}.log.Log, message: x", f"{CORE}.flow.Parallel, tasks: [{LOG}]"):
            (task,) = read(tasks=f"[{{id: t, type: {task_type}, {properties}}}]").tasks

            assert (task.description, task.disabled, task.run_if, task.timeout) == ("text", True, "{{ x }}", "PT5M")
            assert (task.allow_failure, task.allow_warning, task.log_to_file) == (True, True, True)
            assert task.worker_group is not None
            assert (task.worker_group.key, task.worker_group.fallback) == ("gpu", "FAIL")
            assert task.retry is not None
            assert (task.retry.attempts, task.retry.warning_on_retry) == (3, True)

    def test_without_any_they_are_what_the_table_says(self) -> None:
        (task,) = read(tasks=f"[{LOG[:-1]}, workerGroup: {{key: gpu}}}}]").tasks

        assert (task.disabled, task.run_if, task.timeout, task.retry) == (False, None, None, None)
        assert (task.allow_failure, task.allow_warning, task.log_level, task.log_to_file) == (False, False, None, False)
        assert task.worker_group is not None
        assert task.worker_group.fallback == "WAIT"

    @pytest.mark.parametrize(
        ("properties", "code", "path"),
        [
            ("timeout: soon", "property.type", "tasks[0].timeout"),
            ("workerGroup: {key: a.b}", "workerGroup.key.pattern", "tasks[0].workerGroup.key"),
            ("workerGroup: {key: a, fallback: Wait}", "property.type", "tasks[0].workerGroup.fallback"),
            ("logLevel: LOUD", "property.type", "tasks[0].logLevel"),
        ],
    )
    def test_what_breaks_them_is_refused(self, properties: str, code: str, path: str) -> None:
        assert codes(tasks=f"[{LOG[:-1]}, {properties}}}]") == [(code, path)]


class TestSection8PluginDefaults:
    REQUEST = f"{{id: a, type: {CORE}.http.Request, uri: 'http://x'}}"

    def level(self, found: Flow) -> object:
        return getattr(found.tasks[0], "level")  # noqa: B009  # of whatever class Log is

    def default(self, values: str, type_: str = f"{CORE}.log.Log", more: str = "") -> str:
        return f"{{type: {type_}, values: {{{values}}}{more}}}"

    @pytest.mark.parametrize("type_", [f"{CORE}.log.Log", f"{CORE}.lo", "io.kestra", "io.kestra.core.tasks.log.Log"])
    def test_a_type_its_beginning_or_its_alias_matches(self, type_: str) -> None:
        assert self.level(read(f"pluginDefaults: [{self.default('level: DEBUG', type_)}]")) == LogLevel.DEBUG

    def test_a_task_of_an_alias_has_the_defaults_of_its_class(self) -> None:
        tasks = "[{id: a, type: io.kestra.core.tasks.log.Log, message: x}]"

        assert self.level(read(f"pluginDefaults: [{self.default('level: DEBUG')}]", tasks)) == LogLevel.DEBUG

    def test_what_the_task_says_wins_unless_forced(self) -> None:
        tasks = f"[{LOG[:-1]}, level: ERROR}}]"

        assert self.level(read(f"pluginDefaults: [{self.default('level: DEBUG')}]", tasks)) == LogLevel.ERROR
        forced = self.default("level: DEBUG", more=", forced: true")
        assert self.level(read(f"pluginDefaults: [{forced}]", tasks)) == LogLevel.DEBUG

    def test_the_flow_wins_over_the_settings_and_forced_the_other_way_round(self) -> None:
        near = f"pluginDefaults: [{self.default('level: DEBUG')}]"
        far = PluginDefault(type=f"{CORE}.log.Log", values={"level": "TRACE", "description": "far"})

        found = read(near, f"[{LOG}]", far)

        assert (self.level(found), found.tasks[0].description) == (LogLevel.DEBUG, "far")
        forced = PluginDefault(type=f"{CORE}.log.Log", values={"level": "TRACE"}, forced=True)
        near_forced = near.replace("}}]", "}, forced: true}]")
        assert self.level(read(near_forced, f"[{LOG}]", forced)) == LogLevel.TRACE

    def test_maps_are_merged_deeply_and_an_explicit_list_wins(self) -> None:
        values = "headers: {a: '1', b: '1'}, options: {followRedirects: false}"
        tasks = f"[{self.REQUEST[:-1]}, headers: {{b: '2'}}}}]"

        (task,) = read(f"pluginDefaults: [{self.default(values, f'{CORE}.http.Request')}]", tasks).tasks

        assert getattr(task, "headers") == {"b": "2", "a": "1"}  # noqa: B009
        default = self.default("values: [1, 2]", f"{CORE}.flow.ForEach")
        (task,) = read(
            f"pluginDefaults: [{default}]", f"[{{id: e, type: {CORE}.flow.ForEach, values: [3], tasks: [{LOG}]}}]"
        ).tasks
        assert getattr(task, "values") == [3]  # noqa: B009

    def test_they_reach_triggers_conditions_and_what_is_nested(self) -> None:
        defaults = ", ".join(
            (
                self.default("level: DEBUG"),
                self.default("timezone: UTC", f"{CORE}.trigger.Schedule"),
                self.default("dayOfWeek: MONDAY", f"{CORE}.condition.DayWeek"),
            )
        )
        trigger = (
            f"{{id: t, type: {CORE}.trigger.Schedule, cron: '@daily', conditions: [{{type: {CORE}.condition.Not, "
            f"conditions: [{{type: {CORE}.condition.DayWeek}}]}}]}}"
        )

        found = read(
            f"pluginDefaults: [{defaults}]\ntriggers: [{trigger}]",
            f"[{{id: s, type: {CORE}.flow.Dag, tasks: [{{task: {LOG}}}]}}]",
        )

        assert getattr(found.tasks[0].children()[0], "level") == LogLevel.DEBUG  # noqa: B009
        assert getattr(found.triggers[0], "timezone") == "UTC"  # noqa: B009
        (outer,) = found.triggers[0].conditions
        assert [inner.day_of_week for inner in getattr(outer, "conditions")] == ["MONDAY"]  # noqa: B009

    def test_the_source_stays_as_it_is(self) -> None:
        text = flow(f"pluginDefaults: [{self.default('level: DEBUG')}]")

        assert read_flow(text, catalog()).source == text

    def test_defaults_that_cannot_be_put_in_leave_a_stored_flow_without_any(self) -> None:
        broken = PluginDefault(type=f"{CORE}.log.Log", values={"level": "LOUD"})

        checked = check_stored(flow(), catalog(), [broken])

        assert checked.flow is not None
        assert self.level(checked.flow) == LogLevel.INFO
        assert [issue.path for issue in checked.issues] == ["tasks[0].level"]
        with pytest.raises(InvalidFlowError):
            read_flow(flow(), catalog(), [broken])


class TestSection16Sla:
    def test_labels_of_tercel_are_refused(self) -> None:
        sla = "sla: [{id: a, type: MAX_DURATION, behavior: FAIL, duration: PT1S, labels: {system.readOnly: true}}]"

        assert codes(sla) == [("label.system", "sla[0].labels.system.readOnly")]


class TestSection22Labels:
    def test_an_execution_has_those_of_the_flow_and_of_its_creation_and_trigger(self) -> None:
        found = read("labels: {team: a, system.readOnly: true}")

        labels = execution_labels(found.labels, {"day": "1", "team": "b"}, {"by": "t", "day": "2"}, execution_id="x")

        assert labels == {"team": "a", "day": "1", "by": "t", "system.correlationId": "x"}

    def test_the_correlation_may_be_given_and_is_inherited(self) -> None:
        assert execution_labels({}, {"system.correlationId": "c"}, execution_id="x") == {"system.correlationId": "c"}
        inherited = cast("Mapping[str, str]", {"system.correlationId": "p", "system.from": "api"})
        assert execution_labels({}, execution_id="x", system=inherited) == inherited

    def test_reserved_ones_are_refused_all_at_once(self) -> None:
        with pytest.raises(InvalidInputError, match=r"^The labels system\.app, system\.test are tercel's own\."):
            execution_labels({}, {"system.app": "x", "a": "b", "system.test": "y"}, execution_id="x")


class TestSection23Revisions:
    def test_a_written_revision_is_no_change_and_a_comment_is_one(self) -> None:
        stored = read().source

        assert read("revision: 7").source.strip() == stored.strip()
        assert read("# a comment").source != stored
