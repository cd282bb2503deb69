"""The flow language, section 19 of its specification: runnable tasks, as `test_flow_language.py` tells."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tercel.errors import NotFoundError
from tercel.expression.ion import parse_ion
from tests.desks import ASKING_FLOW, ENDLESS, RETURN, Desk, a_flow, began, ended, messages, states, value


class TestSection19ExecutionTasks:
    @pytest.mark.parametrize(
        ("given", "state"),
        [
            ("", "SUCCESS"),
            ("state: WARNING", "WARNING"),
            ("state: FAILED", "FAILED"),
            ("state: KILLED", "KILLED"),
            ("state: CANCELED", "CANCELLED"),
        ],
    )
    def test_exit_ends_the_execution_and_all_that_runs(self, desk: Desk, given: str, state: str) -> None:
        leave = f"{{id: leave, type: io.kestra.plugin.core.execution.Exit, {given}}}"
        ran = desk.run(
            a_flow(f"""
            tasks:
              - id: wide
                type: io.kestra.plugin.core.flow.Parallel
                tasks:
                  - {ENDLESS}
                  - id: line
                    type: io.kestra.plugin.core.flow.Sequential
                    tasks:
                      - {{id: soon, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.1S}}
                      - {leave}
                      - {{id: never, type: {RETURN}, format: x}}
              - {{id: next, type: {RETURN}, format: x}}
            errors: [{{id: mend, type: {RETURN}, format: x}}]
            afterExecution: [{{id: after, type: {RETURN}, format: "{{{{ execution.state }}}}"}}]
            """)
        )

        assert ran.state == state
        assert (states(ran)["endless"], states(ran)["leave"]) == ("KILLED", "SUCCESS")
        assert not {"never", "next", "mend"} & states(ran).keys()
        assert value(ran, "after") == state

    def test_labels_are_replaced_and_seen_by_later_tasks(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            labels: {team: data, kept: x}
            tasks:
              - id: label
                type: io.kestra.core.tasks.executions.Labels
                labels: {team: "{{ flow.id }}", n: 5}
              - {id: show, type: io.kestra.plugin.core.debug.Return, format: "{{ labels.team }} {{ labels.n }}"}
            """)
        )

        assert value(ran, "show") == "main 5"
        labels = {key: text for key, text in ran.execution.labels.items() if not key.startswith("system.")}
        assert labels == {"team": "main", "kept": "x", "n": "5"}

    def test_labels_of_the_system_cannot_be_set(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks: [{id: label, type: io.kestra.plugin.core.execution.Labels, labels: {system.app: x}}]
            """)
        )

        assert ran.state == "FAILED"
        assert "system.app" not in ran.execution.labels

    def test_variables_are_set_merged_and_unset(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: set
                type: io.kestra.plugin.core.execution.SetVariables
                variables: {a: {x: 1}, gone: 2}
              - id: merge
                type: io.kestra.plugin.core.execution.SetVariables
                variables: {a: {y: "{{ vars.a.x + 1 }}"}}
              - {id: unset, type: io.kestra.plugin.core.execution.UnsetVariables, variables: [gone]}
              - id: show
                type: io.kestra.plugin.core.debug.Return
                format: "{{ vars.a.x }} {{ vars.a.y }} {{ vars.gone ?? 'no' }}"
            """)
        )

        assert value(ran, "show") == "1 2 no"

    @pytest.mark.parametrize(
        "task",
        [
            "{id: t, type: io.kestra.plugin.core.execution.SetVariables, variables: {a: 2}, overwrite: false}",
            "{id: t, type: io.kestra.plugin.core.execution.UnsetVariables, variables: [nope]}",
        ],
    )
    def test_variables_that_are_there_or_not_may_be_a_failure(self, desk: Desk, task: str) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks:
              - {{id: set, type: io.kestra.plugin.core.execution.SetVariables, variables: {{a: 1}}}}
              - {task}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"set": "SUCCESS", "t": "FAILED"})

    def test_a_variable_of_the_flow_can_be_unset(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            variables: {a: 1, b: 2}
            tasks:
              - {id: unset, type: io.kestra.plugin.core.execution.UnsetVariables, variables: [a]}
              - {id: show, type: io.kestra.plugin.core.debug.Return, format: "{{ vars.a ?? 'no' }} {{ vars.b }}"}
            """)
        )

        assert value(ran, "show") == "no 2"

    def test_assert_counts_what_holds(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: check
                type: io.kestra.plugin.core.execution.Assert
                conditions: ["{{ 1 == 1 }}", "{{ 1 == 2 }}"]
                errorMessage: wrong in {{ flow.id }}
            """)
        )

        assert (ran.state, ran.run_of("check").message) == ("FAILED", "wrong in main")
        assert {metric.name: metric.value for metric in ran.metrics} == {"success": 1.0, "failed": 1.0}

    def test_count_keeps_the_flows_that_the_expression_wants(self, desk: Desk) -> None:
        for _ in range(2):
            desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]", id="good"))
        desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.execution.Fail}]", id="bad"))

        ran = desk.run(
            a_flow("""
            tasks:
              - id: count
                type: io.kestra.core.tasks.executions.Counts
                flows:
                  - {namespace: company.team, flowId: good}
                  - {namespace: company.team, flowId: bad}
                  - {namespace: company.team, flowId: none}
                states: [SUCCESS]
                startDate: "{{ now() | dateAdd(-1, 'HOURS') }}"
                expression: "{{ count != 1 }}"
            """)
        )

        outputs = ran.run_of("count").outputs
        results = sorted(outputs["results"], key=lambda one: one["flowId"])  # type: ignore[call-overload,index]
        assert results == [
            {"namespace": "company.team", "flowId": "bad", "count": 0},
            {"namespace": "company.team", "flowId": "good", "count": 2},
            {"namespace": "company.team", "flowId": "none", "count": 0},
        ]
        assert outputs["total"] == 2

    def test_resume_answers_a_pause_of_another_execution(self, desk: Desk) -> None:
        waiting = desk.start(a_flow(ASKING_FLOW, id="waiting"))
        desk.until_state(waiting, "PAUSED")

        ran = desk.run(
            a_flow("""
            inputs: [{id: which, type: STRING}]
            tasks:
              - id: resume
                type: io.kestra.plugin.core.execution.Resume
                executionId: "{{ inputs.which }}"
                namespace: company.team
                flowId: waiting
                inputs: {reason: "by {{ flow.id }}"}
            """),
            {"which": waiting},
        )

        assert ran.state == "SUCCESS"
        assert value(desk.wait(waiting), "show") == "by main 4"

    def test_resume_fails_where_nothing_is_paused(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: resume, type: io.kestra.plugin.core.execution.Resume, executionId: nope}]"))

        assert (ran.state, states(ran)) == ("FAILED", {"resume": "FAILED"})

    def test_kill_ends_another_execution(self, desk: Desk) -> None:
        other = desk.start(a_flow(f"tasks: [{ENDLESS}]", id="other"))
        desk.until_task_state(other, "endless", "RUNNING")

        ran = desk.run(
            a_flow(f"tasks: [{{id: kill, type: io.kestra.plugin.core.execution.Kill, executionId: {other}}}]")
        )

        assert ran.state == "SUCCESS"
        assert desk.wait(other).state == "KILLED"

    def test_purge_removes_executions_that_ended(self, desk: Desk) -> None:
        old = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.log.Log, message: hi}]", id="old"))
        kept = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.execution.Fail}]", id="old"))

        ran = desk.run(
            a_flow("""
            tasks:
              - id: purge
                type: io.kestra.plugin.core.storage.Purge
                namespace: company.team
                flowId: old
                endDate: "{{ now() }}"
                states: [SUCCESS]
            """)
        )

        outputs = ran.run_of("purge").outputs
        assert outputs["executionsCount"] == 1
        assert outputs["logsCount"] >= 1  # type: ignore[operator]
        assert [execution.id for execution in desk.executions("old")] == [kept.execution.id]
        with pytest.raises(NotFoundError):
            desk.ran(old.execution.id)


class TestSection19OtherTasks:
    def test_return_log_and_echo(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: give, type: io.kestra.core.tasks.debugs.Return, format: "{{ flow.id }}"}
              - {id: log, type: io.kestra.core.tasks.log.Log, message: [one, "{{ outputs.give.value }}"], level: WARN}
              - {id: echo, type: io.kestra.core.tasks.debugs.Echo, format: three}
            """)
        )

        assert messages(ran, "WARN") == ["one", "main"]
        assert "three" in messages(ran, "INFO")
        assert {metric.name for metric in ran.metrics} == {"length", "duration"}

    def test_log_fetch_writes_the_lines_of_an_execution(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: say, type: io.kestra.plugin.core.log.Log, message: [quiet, loud], level: WARN}
              - {id: other, type: io.kestra.plugin.core.log.Log, message: not this}
              - {id: fetch, type: io.kestra.plugin.core.log.Fetch, tasksId: [say], level: WARN}
            """)
        )

        outputs = ran.run_of("fetch").outputs
        lines = [parse_ion(line) for line in desk.home.read(str(outputs["uri"])).decode().splitlines()]
        assert [line["message"] for line in lines] == ["quiet", "loud"]  # type: ignore[index]
        assert outputs["size"] == 2

    def test_log_purge_removes_lines(self, desk: Desk) -> None:
        old = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.log.Log, message: hi}]", id="old"))

        ran = desk.run(
            a_flow("""
            tasks:
              - id: purge
                type: io.kestra.plugin.core.log.PurgeLogs
                namespace: company.team
                flowId: old
                logLevels: [INFO]
                endDate: "{{ now() }}"
            """)
        )

        assert ran.run_of("purge").outputs["count"] >= 1  # type: ignore[operator]
        assert "hi" not in messages(desk.ran(old.execution.id), "INFO")

    def test_key_values_keep_their_type(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: set, type: io.kestra.plugin.core.kv.Set, key: my_n, value: "{{ 41 + 1 }}", kvType: NUMBER}
              - {id: get, type: io.kestra.plugin.core.kv.Get, key: my_n}
              - {id: show, type: io.kestra.plugin.core.debug.Return, format: "{{ kv('my_n') + 1 }}"}
              - {id: keys, type: io.kestra.plugin.core.kv.GetKeys, prefix: my_}
              - {id: delete, type: io.kestra.plugin.core.kv.Delete, key: my_n}
              - {id: gone, type: io.kestra.plugin.core.kv.Get, key: my_n}
              - {id: again, type: io.kestra.plugin.core.kv.Delete, key: my_n}
              - {id: must, type: io.kestra.plugin.core.kv.Get, key: my_n, errorOnMissing: true, allowFailure: true}
            """)
        )

        assert ran.run_of("get").outputs["value"] == 42
        assert value(ran, "show") == "43"
        assert ran.run_of("keys").outputs["keys"] == ["my_n"]
        assert (ran.run_of("delete").outputs["deleted"], ran.run_of("again").outputs["deleted"]) == (True, False)
        assert ran.run_of("gone").outputs.get("value") is None
        assert states(ran)["must"] == "WARNING"

    def test_a_key_may_be_kept_from_being_overwritten_and_expire(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: set, type: io.kestra.plugin.core.kv.Set, key: k, value: a}
              - {id: no, type: io.kestra.plugin.core.kv.Set, key: k, value: b, overwrite: false, allowFailure: true}
              - {id: brief, type: io.kestra.plugin.core.kv.Set, key: brief, value: b, ttl: PT0.05S}
              - {id: sleep, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.1S}
              - {id: keys, type: io.kestra.plugin.core.kv.GetKeys}
              - {id: show, type: io.kestra.plugin.core.debug.Return, format: "{{ kv('k') }}"}
            """)
        )

        assert (states(ran)["no"], value(ran, "show")) == ("WARNING", "a")
        assert ran.run_of("keys").outputs["keys"] == ["k"]

    def test_state_is_merged_kept_and_deleted(self, desk: Desk) -> None:
        text = a_flow("""
            tasks:
              - {id: set, type: io.kestra.core.tasks.states.Set, data: {a: {x: 1}}}
              - {id: more, type: io.kestra.plugin.core.state.Set, data: {a: {y: "{{ flow.id }}"}}}
              - {id: get, type: io.kestra.plugin.core.state.Get}
        """)
        desk.run(text)

        ran = desk.run(text)

        assert ran.run_of("get").outputs["data"] == {"a": {"x": 1, "y": "main"}}
        other = desk.run(
            a_flow(
                """
                tasks:
                  - {id: get, type: io.kestra.plugin.core.state.Get}
                  - {id: must, type: io.kestra.plugin.core.state.Get, errorOnMissing: true, allowFailure: true}
                """,
                id="other",
            )
        )
        assert other.run_of("get").outputs["count"] == 0
        assert states(other)["must"] == "WARNING"
        last = desk.run(
            a_flow("""
            tasks:
              - {id: delete, type: io.kestra.plugin.core.state.Delete}
              - {id: get, type: io.kestra.plugin.core.state.Get}
            """)
        )
        assert last.run_of("delete").outputs["deleted"] is True
        assert last.run_of("get").outputs["count"] == 0

    def test_storage_tasks_work_on_files(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow(r"""
            tasks:
              - {id: one, type: io.kestra.plugin.core.storage.Write, content: "a\nb\n", extension: .txt}
              - {id: two, type: io.kestra.plugin.core.storage.Write, content: "c\n"}
              - id: concat
                type: io.kestra.plugin.core.storage.Concat
                files: ["{{ outputs.one.uri }}", "{{ outputs.two.uri }}"]
                extension: .txt
              - {id: size, type: io.kestra.plugin.core.storage.Size, uri: "{{ outputs.concat.uri }}"}
              - {id: reverse, type: io.kestra.plugin.core.storage.Reverse, from: "{{ outputs.concat.uri }}"}
              - {id: split, type: io.kestra.plugin.core.storage.Split, from: "{{ outputs.concat.uri }}", rows: 2}
              - {id: delete, type: io.kestra.plugin.core.storage.Delete, uri: "{{ outputs.concat.uri }}"}
              - id: again
                type: io.kestra.plugin.core.storage.Delete
                uri: "{{ outputs.concat.uri }}"
                errorOnMissing: true
                allowFailure: true
            """)
        )

        def content(task_id: str) -> str:
            return desk.home.read(str(ran.run_of(task_id).outputs["uri"])).decode()

        assert ran.run_of("size").outputs["size"] == 6
        assert content("reverse") == "c\nb\na\n"
        uris = ran.run_of("split").outputs["uris"]
        assert [desk.home.read(uri).decode() for uri in uris] == ["a\nb\n", "c\n"]  # type: ignore[attr-defined]
        assert ran.run_of("delete").outputs["deleted"] is True
        assert states(ran)["again"] == "WARNING"

    def test_items_are_filtered_and_deduplicated(self, desk: Desk) -> None:
        rows = '{\\"id\\": 1, \\"v\\": \\"a\\"}\\n{\\"id\\": 2, \\"v\\": \\"b\\"}\\n{\\"id\\": 1, \\"v\\": \\"c\\"}\\n'
        ran = desk.run(
            a_flow(f"""
            tasks:
              - {{id: rows, type: io.kestra.plugin.core.storage.Write, content: "{rows}", extension: .ion}}
              - id: filter
                type: io.kestra.plugin.core.storage.FilterItems
                from: "{{{{ outputs.rows.uri }}}}"
                filterCondition: "{{{{ id == 1 }}}}"
              - id: unique
                type: io.kestra.plugin.core.storage.DeduplicateItems
                from: "{{{{ outputs.rows.uri }}}}"
                expr: "{{{{ id }}}}"
            """)
        )

        kept, unique = ran.run_of("filter").outputs, ran.run_of("unique").outputs
        assert (kept["processedItemsTotal"], kept["droppedItemsTotal"]) == (3, 1)
        assert (unique["numKeys"], unique["processedItemsTotal"], unique["droppedItemsTotal"]) == (2, 3, 1)
        last = desk.home.read(str(unique["uri"])).decode()
        assert "c" in last
        assert '"a"' not in last

    def test_the_files_of_the_execution_can_be_purged(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: one, type: io.kestra.plugin.core.storage.Write, content: a}
              - {id: purge, type: io.kestra.plugin.core.storage.PurgeCurrentExecutionFiles}
            """)
        )

        uri = str(ran.run_of("one").outputs["uri"])
        assert uri in ran.run_of("purge").outputs["uris"]  # type: ignore[operator]
        with pytest.raises(NotFoundError):
            desk.home.read(uri)

    def test_namespace_files_go_up_and_down(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: one, type: io.kestra.plugin.core.storage.Write, content: hello}
              - id: up
                type: io.kestra.plugin.core.namespace.UploadFiles
                namespace: "{{ flow.namespace }}"
                filesMap: {greeting.txt: "{{ outputs.one.uri }}"}
                destination: texts
              - {id: show, type: io.kestra.plugin.core.debug.Return, format: "{{ read('texts/greeting.txt') }}"}
              - id: down
                type: io.kestra.plugin.core.namespace.DownloadFiles
                namespace: company.team
                files: ["**/*.txt"]
              - id: delete
                type: io.kestra.plugin.core.namespace.DeleteFiles
                namespace: company.team
                files: ["texts/*"]
            """)
        )

        assert value(ran, "show") == "hello"
        files = ran.run_of("down").outputs["files"]
        [uri] = files.values()  # type: ignore[attr-defined]
        assert desk.home.read(uri) == b"hello"
        metrics = {(metric.task_id, metric.name): metric.value for metric in ran.metrics}
        assert metrics["down", "downloaded"] == 1.0
        assert metrics["delete", "deleted"] == 1.0

    def test_output_values_and_metrics_need_no_script(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: give, type: io.kestra.plugin.core.output.OutputValues, values: {a: "{{ 1 + 1 }}", b: [x]}}
              - id: measure
                type: io.kestra.plugin.core.metric.Publish
                metrics:
                  - {type: counter, name: rows, value: "{{ outputs.give.values.a }}", tags: {of: "{{ flow.id }}"}}
                  - {type: timer, name: took, value: PT1.5S}
            """)
        )

        assert ran.run_of("give").outputs == {"values": {"a": "2", "b": ["x"]}}
        found = {metric.name: (metric.type, metric.value, metric.tags) for metric in ran.metrics}
        assert found == {"rows": ("counter", 2.0, {"of": "main"}), "took": ("timer", 1500.0, {})}

    def test_a_templated_task_runs_what_its_spec_renders_to(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            variables: {kind: debug.Return}
            tasks:
              - id: templated
                type: io.kestra.core.tasks.templating.TemplatedTask
                spec: |
                  type: io.kestra.plugin.core.{{ vars.kind }}
                  format: "made by {{ flow.id }}"
            """)
        )

        assert ran.run_of("templated").outputs["value"] == "made by main"

    @pytest.mark.parametrize(
        "kind", ["flow.Sequential\n                  tasks: []", "templating.TemplatedTask\n                  spec: x"]
    )
    def test_a_templated_task_runs_no_flowable_and_none_of_its_kind(self, desk: Desk, kind: str) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks:
              - id: templated
                type: io.kestra.plugin.core.templating.TemplatedTask
                spec: |
                  type: io.kestra.plugin.core.{kind}
            """)
        )

        assert ran.state == "FAILED"

    def test_a_sleep_takes_its_time_and_ends_at_once_when_killed(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: s, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.05S}]"))
        run = ran.run_of("s")
        assert ended(run) - began(run) >= timedelta(seconds=0.05)

        execution_id = desk.start(a_flow(f"tasks: [{ENDLESS}]"))
        desk.until_task_state(execution_id, "endless", "RUNNING")
        desk.kill(execution_id)
        assert desk.wait(execution_id).state == "KILLED"

    def test_a_trigger_is_toggled_and_an_unknown_one_is_a_failure(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            triggers: [{id: daily, type: io.kestra.plugin.core.trigger.Schedule, cron: "0 0 1 1 *"}]
            tasks:
              - {id: off, type: io.kestra.plugin.core.trigger.Toggle, trigger: daily}
              - {id: "on", type: io.kestra.core.tasks.trigger.Toggle, trigger: daily, enabled: true}
              - {id: unknown, type: io.kestra.plugin.core.trigger.Toggle, trigger: nope}
            """)
        )

        assert states(ran) == {"off": "SUCCESS", "on": "SUCCESS", "unknown": "FAILED"}
