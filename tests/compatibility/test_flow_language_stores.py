"""The flow language, sections 22 to 28 of its specification: what is kept, as `test_flow_language.py` tells."""

from __future__ import annotations

import base64
import itertools
import re

import pytest

from tercel.errors import NotFoundError, UserError
from tests.desks import ENDLESS, PAUSED_FLOW, RETURN, Desk, a_flow, ended, messages, runs_of, states, value
from tests.homes import Home


class TestSection22Labels:
    def test_labels_of_the_flow_are_copied_but_not_those_of_the_system(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            labels: {team: data, system.readOnly: "true"}
            tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]
            """)
        )

        assert ran.execution.labels == {"team": "data", "system.correlationId": ran.execution.id}

    def test_labels_may_be_a_list_and_their_values_numbers(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            labels:
              - {key: team, value: data}
              - {key: n, value: 5}
            tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ labels.team }}{{ labels.n }}"}]
            """)
        )

        assert value(ran, "a") == "data5"

    def test_the_correlation_is_that_of_the_first_in_the_chain(self, desk: Desk) -> None:
        desk.save(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]", id="last"))
        call = "{id: call, type: io.kestra.plugin.core.flow.Subflow, namespace: company.team, flowId: %s}"
        desk.save(a_flow(f"tasks: [{call % 'last'}]", id="middle"))

        ran = desk.run(a_flow(f"tasks: [{call % 'middle'}]"), labels={"system.correlationId": "mine"})

        assert ran.state == "SUCCESS"
        assert desk.only("last").execution.labels["system.correlationId"] == "mine"


class TestSection23Revisions:
    ONE = "tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: one}]\n"

    def test_a_text_that_differs_is_a_new_revision_and_the_same_is_not(self, desk: Desk) -> None:
        found = [desk.save(a_flow(text)).revision for text in (self.ONE, self.ONE, self.ONE + "# more\n", self.ONE)]

        assert found == [1, 1, 2, 3]

    def test_a_revision_that_is_written_does_not_count(self, desk: Desk) -> None:
        assert [desk.save(a_flow(text)).revision for text in (self.ONE, f"revision: 7\n{self.ONE}")] == [1, 1]

    def test_an_execution_goes_on_with_its_revision(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(PAUSED_FLOW))
        desk.until_state(execution_id, "PAUSED")
        desk.save(a_flow(PAUSED_FLOW.replace("done", "changed")))

        desk.resume(execution_id)

        ran = desk.wait(execution_id)
        assert (value(ran, "after"), ran.execution.revision) == ("done", 1)
        assert desk.save(a_flow(PAUSED_FLOW.replace("done", "changed"))).revision == 2

    def test_a_deleted_flow_cannot_be_started_and_numbering_goes_on(self, desk: Desk) -> None:
        desk.save(a_flow(self.ONE))

        desk.delete_flow("main")

        engine = desk.home.engine
        with pytest.raises(NotFoundError):
            engine.call(engine.operations.get_flow("company.team", "main"))
        assert desk.save(a_flow(self.ONE)).revision == 3


class TestSection24Namespaces:
    def test_key_values_are_of_a_namespace(self, desk: Desk) -> None:
        desk.run(a_flow("tasks: [{id: s, type: io.kestra.plugin.core.kv.Set, key: k, value: v}]"))

        ran = desk.run(
            a_flow(
                """
                tasks:
                  - id: show
                    type: io.kestra.plugin.core.debug.Return
                    format: "{{ kv('k') ?? 'none' }} {{ kv('k', 'company.team') }}"
                  - {id: must, type: io.kestra.plugin.core.debug.Return, format: "{{ kv('k', errorOnMissing=true) }}"}
                """,
                namespace="company.other",
            )
        )

        assert (value(ran, "show"), states(ran)["must"]) == ("none v", "FAILED")

    def test_a_text_like_a_duration_is_read_back_as_one(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: set, type: io.kestra.plugin.core.kv.Set, key: wait, value: PT0.01S}
              - {id: wait, type: io.kestra.plugin.core.flow.Sleep, duration: "{{ kv('wait') }}"}
            """)
        )

        assert ran.state == "SUCCESS"

    @pytest.mark.parametrize("key", ["-no", "a b", "a/b"])
    def test_a_key_has_its_pattern(self, desk: Desk, key: str) -> None:
        ran = desk.run(a_flow(f"tasks: [{{id: s, type: io.kestra.plugin.core.kv.Set, key: '{key}', value: v}}]"))

        assert ran.state == "FAILED"

    def test_secrets_come_from_the_environment_and_are_masked(self, home: Home) -> None:
        env = {"SECRET_MY_WORD": base64.b64encode(b"hush-hush").decode()}

        ran = home.run(
            a_flow("""
            tasks:
              - {id: say, type: io.kestra.plugin.core.log.Log, message: "it is {{ secret('my_word') }}"}
              - id: use
                type: io.kestra.plugin.core.execution.Fail
                condition: "{{ secret('my_word') != 'hush-hush' }}"
              - {id: none, type: io.kestra.plugin.core.debug.Return, format: "{{ secret('nope') }}"}
            """),
            env=env,
        )

        assert states(ran) == {"say": "SUCCESS", "use": "SUCCESS", "none": "FAILED"}
        assert not any("hush-hush" in entry.message for entry in ran.logs)
        assert any(re.fullmatch(r"it is \**masked\**", entry.message) for entry in ran.logs)

    def test_state_is_apart_for_each_value_and_may_be_shared_by_flows(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: [a, b]
                tasks:
                  - {id: set, type: io.kestra.plugin.core.state.Set, data: {"{{ taskrun.value }}": 1}}
                  - {id: get, type: io.kestra.plugin.core.state.Get}
              - {id: share, type: io.kestra.plugin.core.state.Set, namespace: true, name: shared, data: {c: 1}}
            """)
        )
        other = desk.run(
            a_flow(
                "tasks: [{id: get, type: io.kestra.plugin.core.state.Get, namespace: true, name: shared}]", id="other"
            )
        )

        assert [run.outputs["data"] for run in runs_of(ran, "get")] == [{"a": 1}, {"b": 1}]
        assert other.run_of("get").outputs["data"] == {"c": 1}

    @pytest.mark.parametrize(("first", "second"), [("my_flow", "my-flow"), ("My_Flow", "my_flow")])
    def test_flows_whose_ids_are_almost_alike_do_not_share_state(self, desk: Desk, first: str, second: str) -> None:
        desk.run(a_flow("tasks: [{id: s, type: io.kestra.plugin.core.state.Set, data: {a: 1}}]", id=first))

        ran = desk.run(a_flow("tasks: [{id: g, type: io.kestra.plugin.core.state.Get}]", id=second))

        assert ran.run_of("g").outputs["count"] == 0


class TestSection25Storage:
    def test_files_of_a_task_run_lie_in_its_folder(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("tasks: [{id: My_Task, type: io.kestra.plugin.core.storage.Write, content: x}]", id="my_flow")
        )

        run = ran.run_of("My_Task")
        folder = f"kestra:///company/team/my-flow/executions/{ran.execution.id}/tasks/my-task/{run.id}/"
        assert str(run.outputs["uri"]).startswith(folder)

    def test_files_of_other_executions_cannot_be_read(self, desk: Desk) -> None:
        first = desk.run(a_flow("tasks: [{id: w, type: io.kestra.plugin.core.storage.Write, content: x}]"))
        uri = first.run_of("w").outputs["uri"]
        show = f'{{id: show, type: {RETURN}, format: "{{{{ read(inputs.uri) }}}}"}}'

        other = desk.run(a_flow(f"inputs: [{{id: uri, type: STRING}}]\ntasks: [{show}]", id="other"), {"uri": uri})

        assert (other.state, states(other)) == ("FAILED", {"show": "FAILED"})

    def test_files_of_the_parent_execution_can_be_read(self, desk: Desk) -> None:
        show = f'{{id: show, type: {RETURN}, format: "{{{{ read(inputs.uri) }}}}"}}'
        desk.save(a_flow(f"inputs: [{{id: uri, type: STRING}}]\ntasks: [{show}]", id="child"))

        desk.run(
            a_flow("""
            tasks:
              - {id: w, type: io.kestra.plugin.core.storage.Write, content: from the parent}
              - id: call
                type: io.kestra.plugin.core.flow.Subflow
                namespace: company.team
                flowId: child
                inputs: {uri: "{{ outputs.w.uri }}"}
            """)
        )

        assert value(desk.only("child"), "show") == "from the parent"

    @pytest.mark.parametrize("path", ["kestra:///company/team/../other/x", "../x"])
    def test_a_path_may_not_lead_upwards(self, desk: Desk, path: str) -> None:
        ran = desk.run(a_flow(f"tasks: [{{id: a, type: {RETURN}, format: \"{{{{ read('{path}') }}}}\"}}]"))

        assert ran.state == "FAILED"


class TestSection26Logs:
    def test_the_level_of_a_task_filters_its_lines(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: quiet, type: io.kestra.plugin.core.log.Log, message: no, level: DEBUG, logLevel: INFO}
              - {id: loud, type: io.kestra.plugin.core.log.Log, message: "yes", level: WARN, logLevel: INFO}
            """)
        )

        assert (ran.log_of("quiet"), ran.log_of("loud")) == ("", "yes")

    def test_each_line_knows_its_task_run_and_attempt(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                condition: "{{ taskrun.attemptsCount == 0 }}"
                retry: {type: constant, interval: PT0.01S, maxAttempts: 2}
              - {id: say, type: io.kestra.plugin.core.log.Log, message: hi}
            """)
        )

        [said] = [entry for entry in ran.logs if entry.message == "hi"]
        assert (said.task_id, said.task_run_id, said.attempt) == ("say", ran.run_of("say").id, 0)
        [failed] = [entry for entry in ran.logs if entry.level == "ERROR"]
        assert (failed.task_id, failed.attempt) == ("flaky", 0)

    def test_a_long_message_is_split(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks: [{{id: say, type: io.kestra.plugin.core.log.Log, message: "{"x" * 25_000}"}}]
            """)
        )

        lines = [entry for entry in ran.logs if entry.task_id == "say"]
        assert [len(entry.message) for entry in lines] == [10_240, 10_240, 4_520]
        for before, after in itertools.pairwise(lines):
            assert after.date > before.date


class TestSection27Metrics:
    def test_metrics_of_failed_attempts_are_kept_too(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: check
                type: io.kestra.plugin.core.execution.Assert
                conditions: ["{{ taskrun.attemptsCount == 1 }}"]
                retry: {type: constant, interval: PT0.01S, maxAttempts: 2}
            """)
        )

        found = [(metric.attempt, metric.name, metric.value) for metric in ran.metrics]
        assert sorted(found) == [
            *((0, "failed", 1.0), (0, "success", 0.0)),
            *((1, "failed", 0.0), (1, "success", 1.0)),
        ]

    def test_the_same_metric_adds_up_in_an_attempt(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: measure
                type: io.kestra.plugin.core.metric.Publish
                metrics:
                  - {type: counter, name: rows, value: 2}
                  - {type: counter, name: rows, value: 3}
                  - {type: counter, name: rows, value: 4, tags: {of: b}}
                  - {type: timer, name: rows, value: 1}
            """)
        )

        found = {(metric.type, tuple(metric.tags)): metric.value for metric in ran.metrics}
        assert found == {("counter", ()): 5.0, ("counter", ("of",)): 4.0, ("timer", ()): 1000.0}


class TestSection28Defects:
    def test_e02_nothing_is_left_behind_by_a_kill(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow(f"""
            tasks:
              - id: wide
                type: io.kestra.plugin.core.flow.Parallel
                tasks:
                  - {ENDLESS}
                  - {{id: paused, type: io.kestra.plugin.core.flow.Pause}}
                  - id: retrying
                    type: io.kestra.plugin.core.execution.Fail
                    retry: {{type: constant, interval: PT1H, maxAttempts: 2}}
                  - id: line
                    type: io.kestra.plugin.core.flow.Sequential
                    tasks: [{{id: later, type: io.kestra.plugin.core.flow.Pause}}]
            """)
        )
        desk.until_task_state(execution_id, "endless", "RUNNING")
        desk.until_task_state(execution_id, "later", "PAUSED")
        desk.until_task_state(execution_id, "retrying", "RETRYING")

        desk.kill(execution_id)

        ran = desk.wait(execution_id)
        assert ran.state == "KILLED"
        assert set(states(ran).values()) == {"KILLED"}
        assert all(run.history[-1].date <= ran.execution.history[-1].date for run in ran.runs)

    def test_e06_every_input_that_does_not_fit_is_named(self, desk: Desk) -> None:
        text = a_flow("""
            inputs:
              - {id: first, type: INT}
              - {id: second, type: STRING}
              - {id: third, type: DATE}
            tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]
        """)

        with pytest.raises(UserError) as refusal:
            desk.start(text, {"first": "many", "third": "soon"})

        assert all(name in str(refusal.value) for name in ("first", "second", "third"))

    def test_e10_a_list_that_is_written_wins_over_a_default(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            pluginDefaults:
              - type: io.kestra.plugin.core.log.Log
                values: {message: [default], level: WARN}
            tasks:
              - {id: own, type: io.kestra.plugin.core.log.Log, message: [own]}
            """)
        )

        assert messages(ran, "WARN") == ["own"]

    def test_e11_finally_waits_for_the_last_retry(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: try
                type: io.kestra.plugin.core.flow.AllowFailure
                tasks:
                  - id: flaky
                    type: io.kestra.plugin.core.execution.Fail
                    retry: {type: constant, interval: PT0.03S, maxAttempts: 3}
                finally: [{id: last, type: io.kestra.plugin.core.debug.Return, format: x}]
            """)
        )

        assert (ran.state, len(ran.run_of("flaky").attempts)) == ("WARNING", 3)
        assert ran.run_of("last").history[0].date >= ended(ran.run_of("flaky"))

    @pytest.mark.parametrize(
        "flowable",
        [
            "{id: f, type: io.kestra.plugin.core.flow.Sequential, tasks: [%s]}",
            "{id: f, type: io.kestra.plugin.core.flow.Parallel, tasks: [%s]}",
            "{id: f, type: io.kestra.plugin.core.flow.ForEach, values: [a], tasks: [%s]}",
            '{id: f, type: io.kestra.plugin.core.flow.If, condition: "true", then: [%s]}',
            "{id: f, type: io.kestra.plugin.core.flow.Dag, tasks: [{task: %s}]}",
            '{id: f, type: io.kestra.plugin.core.flow.LoopUntil, condition: "true", tasks: [%s]}',
            "{id: f, type: io.kestra.plugin.core.flow.AllowFailure, tasks: [%s]}",
        ],
    )
    def test_e13_a_flowable_without_enabled_tasks_is_a_success(self, desk: Desk, flowable: str) -> None:
        disabled = "{id: x, type: io.kestra.plugin.core.execution.Fail, disabled: true}"

        ran = desk.run(a_flow(f"tasks: [{flowable % disabled}]"))

        assert (ran.state, states(ran)) == ("SUCCESS", {"f": "SUCCESS"})
