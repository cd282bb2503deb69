"""What Kestra refuses when a flow is saved, tercel refuses too, under these codes."""

from __future__ import annotations

import pytest
import yaml

from tercel.model.source import check_flow
from tercel.plugins import catalog

CORE = "io.kestra.plugin.core"
LOG = f"{{id: a, type: {CORE}.log.Log, message: hi}}"
OTHER = f"{{id: b, type: {CORE}.log.Log, message: hi}}"
SCHEDULE = f"{{id: t, type: {CORE}.trigger.Schedule, "
LONG = "x" * 200


def flow(tasks: str = f"[{LOG}]", id: str = "f", namespace: str = "dev", more: str = "") -> str:
    return f"id: {id}\nnamespace: {namespace}\ntasks: {tasks}\n{more}\n"


def task(properties: str, type: str = f"{CORE}.log.Log, message: hi") -> str:
    return flow(f"[{{id: t, type: {type}{', ' if properties else ''}{properties}}}]")


def directory(properties: str) -> str:
    return task(properties, f"{CORE}.flow.WorkingDirectory")


CODES = [
    ("flow.tasks.empty", "tasks", flow("[]")),
    ("flow.id.pattern", "id", flow(id="a b")),
    ("flow.id.length", "id", flow(id=LONG)),
    ("flow.namespace.pattern", "namespace", flow(namespace="Dev")),
    ("flow.namespace.length", "namespace", flow(namespace=LONG)),
    ("task.id.duplicate", "tasks[1].id", flow(f"[{LOG}, {LOG}]")),
    (
        "task.id.duplicate",
        "errors[0].id",
        flow(f"[{{id: s, type: {CORE}.flow.Sequential, tasks: [{LOG}]}}]", more=f"errors: [{LOG}]"),
    ),
    (
        "task.id.duplicate",
        "tasks[0].else[0].id",
        flow(f"[{{id: s, type: {CORE}.flow.If, condition: x, then: [{LOG}], else: [{LOG}]}}]"),
    ),
    (
        "task.id.duplicate",
        "tasks[0].defaults[0].id",
        flow(f"[{{id: s, type: {CORE}.flow.Switch, value: x, cases: {{b: [{LOG}]}}, defaults: [{LOG}]}}]"),
    ),
    (
        "task.id.duplicate",
        "listeners[0].tasks[0].id",
        flow(more=f"listeners: [{{tasks: [{LOG}]}}]"),
    ),
    ("task.id.duplicate", "afterExecution[0].id", flow(more=f"afterExecution: [{LOG}]")),
    ("task.id.duplicate", "finally[0].id", flow(more=f"finally: [{LOG}]")),
    (
        "task.id.duplicate",
        "tasks[1].id",
        flow(f"[{{id: s, type: {CORE}.flow.Dag, tasks: [{{task: {LOG}}}]}}, {LOG}]"),
    ),
    (
        "task.id.duplicate",
        "tasks[0].tasks[1].task.id",
        flow(f"[{{id: s, type: {CORE}.flow.Dag, tasks: [{{task: {OTHER}}}, {{task: {OTHER}}}]}}]"),
    ),
    (
        "task.id.duplicate",
        "tasks[0].errors[0].id",
        flow(f"[{{id: s, type: {CORE}.flow.ForEach, values: [1], tasks: [{LOG}], errors: [{LOG}]}}]"),
    ),
    ("task.id.duplicate", "tasks[0].tasks[0].id", directory(f"tasks: [{LOG.replace('id: a', 'id: t')}]")),
    (
        "task.id.duplicate",
        "tasks[0].id",
        flow(
            f"[{{id: s_split, type: {CORE}.log.Log, message: x}}, "
            f"{{id: s, type: {CORE}.flow.ForEachItem, namespace: dev, flowId: g, items: x}}]"
        ),
    ),
    (
        "trigger.id.duplicate",
        "triggers[1].id",
        flow(more=f"triggers: [{SCHEDULE}cron: '@daily'}}, {SCHEDULE}cron: '@daily'}}]"),
    ),
    (
        "trigger.id.pattern",
        "triggers[0].id",
        flow(more=f"triggers: [{SCHEDULE.replace('t', 'a.b', 1)}cron: '@daily'}}]"),
    ),
    ("task.id.pattern", "tasks[0].id", flow(f"[{{id: a.b, type: {CORE}.log.Log, message: hi}}]")),
    ("task.type.pattern", "tasks[0].type", flow("[{id: a, type: 'not a type'}]")),
    ("input.id.duplicate", "inputs[1].id", flow(more="inputs: [{id: a, type: INT}, {id: a, type: INT}]")),
    (
        "output.id.duplicate",
        "outputs[1].id",
        flow(more="outputs: [{id: a, type: INT, value: 1}, {id: a, type: INT, value: 1}]"),
    ),
    (
        "input.dependsOn.unknown",
        "inputs[0].dependsOn.inputs[0]",
        flow(more="inputs: [{id: a, type: INT, dependsOn: {inputs: [b]}}]"),
    ),
    (
        "input.dependsOn.cycle",
        "inputs[0].dependsOn",
        flow(more="inputs: [{id: a, type: INT, dependsOn: {inputs: [a]}}]"),
    ),
    ("flow.recursive", "tasks[0].flowId", task("namespace: dev, flowId: f", f"{CORE}.flow.Subflow")),
    ("flow.recursive", "tasks[0].flowId", task("namespace: dev, flowId: f", "io.kestra.core.tasks.flows.Flow")),
    ("flow.recursive", "tasks[0].flowId", task("namespace: dev, flowId: f, items: x", f"{CORE}.flow.ForEachItem")),
    (
        "flow.recursive",
        "errors[0].tasks[0].flowId",
        flow(
            more=f"errors: [{{id: s, type: {CORE}.flow.Parallel, tasks: "
            f"[{{id: t, type: {CORE}.flow.Subflow, namespace: dev, flowId: f}}]}}]"
        ),
    ),
    (
        "flow.recursive",
        "tasks[0].flowId",
        flow(
            f"[{{id: t, type: {CORE}.flow.Subflow, flowId: f}}]",
            more=f"pluginDefaults: [{{type: {CORE}.flow.Subflow, values: {{namespace: dev}}}}]",
        ),
    ),
    ("label.system", "labels.system.x", flow(more="labels: {system.x: a}")),
    ("label.system", "labels.system.x", flow(more="labels: [{key: system.x, value: a}]")),
    (
        "label.system",
        "triggers[0].labels.system.readOnly",
        flow(more=f"triggers: [{SCHEDULE}cron: '@daily', labels: {{system.readOnly: true}}}}]"),
    ),
    (
        "label.system",
        "tasks[0].labels.system.readOnly",
        task("namespace: dev, flowId: g, labels: {system.readOnly: true}", f"{CORE}.flow.Subflow"),
    ),
    (
        "label.system",
        "tasks[0].labels.system.x",
        task("namespace: dev, flowId: g, items: x, labels: [{key: system.x, value: a}]", f"{CORE}.flow.ForEachItem"),
    ),
    (
        "label.system",
        "sla[0].labels.system.readOnly",
        flow(more="sla: [{id: a, type: MAX_DURATION, duration: PT1S, behavior: NONE, labels: {system.readOnly: a}}]"),
    ),
    ("dag.empty", "tasks[0].tasks", task("tasks: []", f"{CORE}.flow.Dag")),
    ("dag.empty", "tasks[0].tasks", task("", f"{CORE}.flow.Dag")),
    (
        "dag.unknown",
        "tasks[0].tasks[0].dependsOn[0]",
        task(f"tasks: [{{task: {LOG}, dependsOn: [t]}}]", f"{CORE}.flow.Dag"),
    ),
    (
        "dag.cycle",
        "tasks[0].tasks",
        task(f"tasks: [{{task: {LOG}, dependsOn: [b]}}, {{task: {OTHER}, dependsOn: [a]}}]", f"{CORE}.flow.Dag"),
    ),
    ("schedule.cron", "triggers[0].cron", flow(more=f"triggers: [{SCHEDULE}cron: '61 * * * *'}}]")),
    ("timezone", "triggers[0].timezone", flow(more=f"triggers: [{SCHEDULE}cron: '@daily', timezone: Mars}}]")),
    ("webhook.key", "triggers[0].key", flow(more=f"triggers: [{{id: t, type: {CORE}.trigger.Webhook}}]")),
    (
        "webhook.key",
        "triggers[0].key",
        flow(more=f"triggers: [{{id: t, type: {CORE}.trigger.Webhook, key: {'x' * 257}}}]"),
    ),
    (
        "webhook.multipleCondition",
        "triggers[0].conditions[0]",
        flow(
            more=f"triggers: [{{id: t, type: {CORE}.trigger.Webhook, key: x, conditions: [{{type: "
            f"{CORE}.condition.MultipleCondition, id: m, conditions: "
            f"{{a: {{type: {CORE}.condition.ExecutionStatus, in: [SUCCESS]}}}}}}]}}]"
        ),
    ),
    ("workerGroup.key.pattern", "tasks[0].workerGroup.key", task("workerGroup: {key: a.b}")),
    ("input.array.itemType", "inputs[0].itemType", flow(more="inputs: [{id: a, type: ARRAY, itemType: ARRAY}]")),
    ("input.file.defaults", "inputs[0].defaults", flow(more="inputs: [{id: a, type: FILE, defaults: /a}]")),
    ("input.regex", "inputs[0].values[1]", flow(more="inputs: [{id: a, type: SELECT, values: [a, '[']}]")),
    ("input.regex", "inputs[0].options[0]", flow(more="inputs: [{id: a, type: MULTISELECT, options: ['(']}]")),
    ("input.regex", "inputs[0].values[0]", flow(more="inputs: [{id: a, type: ENUM, values: ['*']}]")),
    ("input.regex", "inputs[0].validator", flow(more="inputs: [{id: a, type: STRING, validator: '['}]")),
    (
        "input.displayName.length",
        "inputs[0].displayName",
        flow(more=f"inputs: [{{id: a, type: INT, displayName: {LONG}}}]"),
    ),
    (
        "retry.constant",
        "tasks[0].retry.maxDuration",
        task("retry: {type: constant, interval: PT1M, maxDuration: PT1M}"),
    ),
    (
        "retry.constant",
        "retry.maxDuration",
        flow(more="retry: {type: constant, interval: PT1M, maxDuration: PT30S}"),
    ),
    (
        "retry.exponential",
        "tasks[0].retry.maxDuration",
        task("retry: {type: exponential, interval: PT1M, maxInterval: PT2M, maxDuration: PT1M}"),
    ),
    (
        "retry.random",
        "tasks[0].retry.maxDuration",
        task("retry: {type: random, minInterval: PT1M, maxInterval: PT2M, maxDuration: PT2M}"),
    ),
    (
        "retry.exponential",
        "tasks[0].retry.maxInterval",
        task("retry: {type: exponential, interval: PT1M, maxInterval: PT1M}"),
    ),
    (
        "retry.random",
        "tasks[0].retry.maxInterval",
        task("retry: {type: random, minInterval: PT1M, maxInterval: PT1M}"),
    ),
    ("retry.maxAttempt", "tasks[0].retry.maxAttempt", task("retry: {type: constant, interval: PT1M, maxAttempt: 0}")),
    ("concurrency.limit", "concurrency.limit", flow(more="concurrency: {limit: 0}")),
    ("concurrency.limit", "concurrency.limit", flow(more="concurrency: {limit: -1, behavior: FAIL}")),
    ("concurrency.limit", "concurrency.limit", flow(more="concurrency: {}")),
    ("switch.empty", "tasks[0].cases", task("value: x", f"{CORE}.flow.Switch")),
    ("if.then.empty", "tasks[0].then", task("condition: x", f"{CORE}.flow.If")),
    ("if.then.empty", "tasks[0].then", task("condition: x, then: []", f"{CORE}.flow.If")),
    ("workingDirectory.tasks.empty", "tasks[0].tasks", directory("")),
    ("workingDirectory.tasks.empty", "tasks[0].tasks", directory("tasks: []")),
    (
        "workingDirectory.child.notRunnable",
        "tasks[0].tasks[0].type",
        directory(f"tasks: [{{id: s, type: {CORE}.flow.Sequential, tasks: [{LOG}]}}]"),
    ),
    (
        "workingDirectory.child.workerGroup",
        "tasks[0].tasks[0].workerGroup",
        directory(f"tasks: [{{id: s, type: {CORE}.log.Log, message: x, workerGroup: {{key: gpu}}}}]"),
    ),
    ("workingDirectory.cache.patterns", "tasks[0].cache.patterns", directory(f"tasks: [{LOG}], cache: {{}}")),
    (
        "workingDirectory.cache.patterns",
        "tasks[0].cache.patterns",
        directory(f"tasks: [{LOG}], cache: {{patterns: []}}"),
    ),
    (
        "workingDirectory.cache.ttl",
        "tasks[0].cache.ttl",
        directory(f"tasks: [{LOG}], cache: {{patterns: [a], ttl: -PT1H}}"),
    ),
    ("pluginDefault.values", "pluginDefaults[0].values", flow(more=f"pluginDefaults: [{{type: {CORE}.log.Log}}]")),
    (
        "pluginDefault.values",
        "pluginDefaults[0].values.level",
        flow(more=f"pluginDefaults: [{{type: {CORE}.log.Log, values: {{level: }}}}]"),
    ),
    (
        "pluginDefault.values",
        "pluginDefaults[0].values.lvl",
        flow(more=f"pluginDefaults: [{{type: {CORE}.log.Log, values: {{lvl: INFO}}}}]"),
    ),
]


@pytest.mark.parametrize(("code", "path", "text"), CODES)
def test_given_a_flow_that_breaks_a_rule_then_it_is_refused_under_its_code(code: str, path: str, text: str) -> None:
    yaml.safe_load(text)

    found = check_flow(text, catalog()).issues

    assert [(issue.code, issue.path) for issue in found] == [(code, path)], [issue.text for issue in found]


@pytest.mark.parametrize(
    "text",
    [
        flow(more="labels: {system.readOnly: true}"),
        flow(more="labels: [{key: a, value: 1}]"),
        flow(more="taskDefaults: [{type: io.kestra.core.tasks.log.Log, values: {level: DEBUG}}]"),
        flow(more="inputs: [{name: a, type: ENUM, values: [x]}, {id: b, type: FILE, defaults: 'nsfile:///a'}]"),
        task("workerGroup: {key: gpu}"),
        task("retry: {type: constant, interval: pt1m, maxAttempts: 3, behavior: RETRY_FAILED_TASK}"),
        task("retry: {type: constant, interval: PT1M, maxAttempts: 3, behavior: CREATE_NEW_EXECUTION}"),
        directory(f"tasks: [{LOG}], cache: {{patterns: [a], ttl: PT0S}}"),
        directory(f"tasks: [{LOG}], errors: [{{id: s, type: {CORE}.flow.Sequential, tasks: [{OTHER}]}}]"),
    ],
)
def test_given_what_kestra_takes_then_it_is_valid(text: str) -> None:
    assert [issue.text for issue in check_flow(text, catalog()).issues] == []


class TestWhatThereIsNotYet:
    def test_given_a_log_to_a_file_then_a_warning_says_that_it_does_nothing(self) -> None:
        checked = check_flow(task("logToFile: true"), catalog())

        assert checked.issues == ()
        assert ["'logToFile' has no effect yet." in warning.text for warning in checked.warnings] == [True]


class TestFormerNames:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("io.kestra.core.tasks.log.Log", f"{CORE}.log.Log"),
            ("io.kestra.core.tasks.debugs.Return", f"{CORE}.debug.Return"),
            ("io.kestra.core.tasks.executions.Fail", f"{CORE}.execution.Fail"),
            ("io.kestra.core.tasks.flows.Worker", f"{CORE}.flow.WorkingDirectory"),
            ("io.kestra.core.tasks.flows.WorkingDirectory", f"{CORE}.flow.WorkingDirectory"),
            ("io.kestra.core.tasks.flows.EachSequential", f"{CORE}.flow.EachSequential"),
            ("io.kestra.core.tasks.storages.LocalFiles", f"{CORE}.storage.LocalFiles"),
            ("io.kestra.plugin.fs.http.Download", f"{CORE}.http.Download"),
            ("io.kestra.plugin.core.flows.Switch", f"{CORE}.flow.Switch"),
        ],
    )
    def test_given_a_former_name_then_it_is_the_same_class_and_there_is_a_warning(self, old: str, new: str) -> None:
        assert catalog().find(old) is catalog().find(new)

        warnings = check_flow(flow(f"[{{id: a, type: {old}}}]"), catalog()).warnings

        assert f"{old} is now called {new}." in [warning.message for warning in warnings]
