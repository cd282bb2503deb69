"""The flow language, section 18 of its specification: flowables, as `test_flow_language.py` tells."""

# ruff: noqa: N801  # the classes carry the numbers of the sections

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from textwrap import dedent, indent

import pytest

from tercel.errors import UserError
from tercel.expression.ion import parse_ion
from tests.desks import (
    ASKING_FLOW,
    ENDLESS,
    HOUR,
    PAUSED_FLOW,
    RETURN,
    Desk,
    a_flow,
    at_once,
    began,
    ended,
    history,
    order,
    runs_of,
    states,
    value,
)
from tests.homes import until


class TestSection18_1Sequential:
    def test_children_run_one_after_the_other_up_to_a_failure(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: line
                type: io.kestra.plugin.core.flow.Sequential
                tasks:
                  - {id: a, type: io.kestra.plugin.core.debug.Return, format: x}
                  - {id: b, type: io.kestra.plugin.core.execution.Fail}
                  - {id: c, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"line": "FAILED", "a": "SUCCESS", "b": "FAILED"})


class TestSection18_2Parallel:
    def side_by_side(self, concurrent: str) -> str:
        sleeps = "\n".join(
            f"      - {{id: t{n}, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.15S}}" for n in range(4)
        )
        head = f"tasks:\n  - id: wide\n    type: io.kestra.plugin.core.flow.Parallel\n{concurrent}    tasks:\n"
        return f"id: main\nnamespace: company.team\n{head}{sleeps}\n"

    def test_all_children_run_at_once(self, desk: Desk) -> None:
        ran = desk.run(self.side_by_side(""))

        assert at_once([run for run in ran.runs if run.task_id != "wide"]) > 2

    def test_no_more_than_allowed_run_at_once(self, desk: Desk) -> None:
        ran = desk.run(self.side_by_side("    concurrent: 2\n"))

        assert at_once([run for run in ran.runs if run.task_id != "wide"]) == 2

    def test_a_failure_stops_nobody_and_is_told_once_all_have_ended(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: wide
                type: io.kestra.plugin.core.flow.Parallel
                tasks:
                  - {id: slow, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.2S}
                  - {id: bad, type: io.kestra.plugin.core.execution.Fail}
                errors:
                  - {id: mend, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        expected = {"wide": "FAILED", "slow": "SUCCESS", "bad": "FAILED", "mend": "SUCCESS"}
        assert (ran.state, states(ran)) == ("FAILED", expected)
        assert ended(ran.run_of("wide")) >= ended(ran.run_of("slow"))
        assert ran.run_of("mend").history[0].date < ended(ran.run_of("slow"))


class TestSection18_3Dag:
    def test_a_task_starts_when_all_it_depends_on_have_ended(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: dag
                type: io.kestra.plugin.core.flow.Dag
                tasks:
                  - task: {id: last, type: io.kestra.plugin.core.debug.Return, format: x}
                    dependsOn: [left, right]
                  - task: {id: left, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.1S}
                    dependsOn: [first]
                  - task: {id: right, type: io.kestra.plugin.core.debug.Return, format: "{{ outputs.first.value }}"}
                    dependsOn: [first]
                  - task: {id: first, type: io.kestra.plugin.core.debug.Return, format: one}
            """)
        )

        assert ran.state == "SUCCESS"
        assert order(ran)[:2] == ["dag", "first"]
        assert order(ran)[-1] == "last"
        assert ran.run_of("last").history[0].date >= ended(ran.run_of("left"))
        assert value(ran, "right") == "one"
        assert {run.parent_id for run in ran.runs if run.task_id != "dag"} == {ran.run_of("dag").id}

    def test_nothing_new_starts_after_a_failure(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: dag
                type: io.kestra.plugin.core.flow.Dag
                tasks:
                  - task: {id: bad, type: io.kestra.plugin.core.execution.Fail}
                  - task: {id: slow, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.1S}
                  - task: {id: after_slow, type: io.kestra.plugin.core.debug.Return, format: x}
                    dependsOn: [slow]
                  - task: {id: after_bad, type: io.kestra.plugin.core.debug.Return, format: x}
                    dependsOn: [bad]
                errors:
                  - {id: mend, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, states(ran)) == (
            "FAILED",
            {"dag": "FAILED", "bad": "FAILED", "slow": "SUCCESS", "mend": "SUCCESS"},
        )

    def test_what_depends_on_a_skipped_or_warned_task_runs(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: dag
                type: io.kestra.plugin.core.flow.Dag
                tasks:
                  - task: {id: skipped, type: io.kestra.plugin.core.debug.Return, format: x, runIf: "false"}
                  - task: {id: warned, type: io.kestra.plugin.core.execution.Fail, allowFailure: true}
                  - task: {id: after, type: io.kestra.plugin.core.debug.Return, format: x}
                    dependsOn: [skipped, warned]
            """)
        )

        assert (ran.state, states(ran)["after"]) == ("WARNING", "SUCCESS")

    def test_no_more_than_allowed_run_at_once(self, desk: Desk) -> None:
        tasks = "\n".join(
            f"      - task: {{id: t{n}, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.1S}}" for n in range(4)
        )
        head = "tasks:\n  - id: dag\n    type: io.kestra.plugin.core.flow.Dag\n    concurrent: 2\n    tasks:\n"

        ran = desk.run(f"id: main\nnamespace: company.team\n{head}{tasks}\n")

        assert at_once([run for run in ran.runs if run.task_id != "dag"]) == 2


class TestSection18_4ForEach:
    def looped(self, values: str, limit: str = "", namespace_id: str = "main") -> str:
        return a_flow(
            f"""
            tasks:
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: {values}
                {limit}
                tasks:
                  - {{id: slow, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.05S}}
                  - {{id: leaf, type: {RETURN}, format: "{{{{ taskrun.value }}}}"}}
              - {{id: all, type: {RETURN}, format: "{{{{ outputs.leaf | keys }}}}"}}
            """,
            id=namespace_id,
        )

    def test_one_value_comes_after_the_other(self, desk: Desk) -> None:
        ran = desk.run(self.looped("[a, b, c]"))

        assert at_once(runs_of(ran, "slow")) == 1
        assert [run.value for run in runs_of(ran, "leaf")] == ["a", "b", "c"]
        assert json.loads(str(value(ran, "all"))) == ["a", "b", "c"]

    def test_zero_is_no_limit(self, desk: Desk) -> None:
        ran = desk.run(self.looped("[a, b, c, d]", "concurrencyLimit: 0"))

        assert at_once(runs_of(ran, "slow")) > 2

    def test_a_limit_holds_and_tasks_of_a_value_keep_their_order(self, desk: Desk) -> None:
        ran = desk.run(self.looped("[a, b, c, d]", "concurrencyLimit: 2"))

        assert at_once(runs_of(ran, "slow")) <= 2
        for name in "abcd":
            [slow] = [run for run in runs_of(ran, "slow") if run.value == name]
            [leaf] = [run for run in runs_of(ran, "leaf") if run.value == name]
            assert leaf.history[0].date >= ended(slow)

    @pytest.mark.parametrize(
        ("values", "found"),
        [
            ('"{{ [1, 2] }}"', ["1", "2"]),
            ('\'["x", "y"]\'', ["x", "y"]),
            ("[a, b, a]", ["a", "b"]),
            ('["{{ flow.id }}", 7]', ["main", "7"]),
        ],
    )
    def test_values_may_be_an_expression_and_each_counts_once(self, desk: Desk, values: str, found: list[str]) -> None:
        ran = desk.run(self.looped(values, "concurrencyLimit: 0"))

        assert [run.value for run in runs_of(ran, "slow")] == found

    def test_no_values_are_a_success(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: []
                tasks: [{id: a, type: io.kestra.plugin.core.execution.Fail}]
            """)
        )

        assert (ran.state, states(ran)) == ("SUCCESS", {"each": "SUCCESS"})

    def test_a_null_value_is_a_failure(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: '["a", null]'
                tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"each": "FAILED"})


class TestSection18_5EachSequentialAndEachParallel:
    def test_each_sequential_takes_one_value_after_the_other(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.core.tasks.flows.EachSequential
                value: '["a", "b"]'
                tasks:
                  - {id: one, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.02S}
                  - {id: two, type: io.kestra.core.tasks.debugs.Return, format: "{{ taskrun.value }}"}
            """)
        )

        assert [(run.task_id, run.value) for run in ran.runs[1:]] == [
            *(("one", "a"), ("two", "a")),
            *(("one", "b"), ("two", "b")),
        ]

    def test_each_parallel_starts_every_task_of_every_value(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.core.tasks.flows.EachParallel
                value: ["a", "b"]
                tasks:
                  - {id: one, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.2S}
                  - {id: two, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.2S}
            """)
        )

        assert at_once([run for run in ran.runs if run.task_id != "each"]) > 2


class TestSection18_6IfAndSwitch:
    @pytest.mark.parametrize(
        ("condition", "branch"),
        [
            ("{{ true }}", "yes"),
            ("{{ 1 == 2 }}", "no"),
            ("", "no"),
            ("0", "no"),
            ("-0", "no"),
            ("any text", "yes"),
        ],
    )
    def test_if_takes_one_branch_and_says_which(self, desk: Desk, condition: str, branch: str) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks:
              - id: choose
                type: io.kestra.plugin.core.flow.If
                condition: "{condition}"
                then: [{{id: "yes", type: {RETURN}, format: x}}]
                else: [{{id: "no", type: {RETURN}, format: x}}]
            """)
        )

        assert states(ran) == {"choose": "SUCCESS", branch: "SUCCESS"}
        assert ran.run_of("choose").outputs == {"evaluationResult": branch == "yes"}

    def test_if_without_a_branch_to_take_is_a_success(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: choose
                type: io.kestra.plugin.core.flow.If
                condition: "false"
                then: [{id: a, type: io.kestra.plugin.core.execution.Fail}]
            """)
        )

        assert (ran.state, states(ran)) == ("SUCCESS", {"choose": "SUCCESS"})

    def switched(self, given: str, defaults: str) -> str:
        return a_flow(f"""
            tasks:
              - id: choose
                type: io.kestra.plugin.core.flow.Switch
                value: "{given}"
                cases:
                  a: [{{id: case_a, type: {RETURN}, format: x}}]
                  "true": [{{id: case_true, type: {RETURN}, format: x}}]
                {defaults}
        """)

    @pytest.mark.parametrize(
        ("given", "taken", "is_default"),
        [
            ("a", "case_a", False),
            ("{{ 1 == 1 }}", "case_true", False),
            ("A", "default", True),
            ("other", "default", True),
        ],
    )
    def test_switch_takes_the_case_of_the_text(self, desk: Desk, given: str, taken: str, is_default: bool) -> None:
        ran = desk.run(self.switched(given, f"defaults: [{{id: default, type: {RETURN}, format: x}}]"))

        assert states(ran) == {"choose": "SUCCESS", taken: "SUCCESS"}
        assert ran.run_of("choose").outputs["defaults"] is is_default

    def test_switch_without_a_branch_to_take_is_a_success(self, desk: Desk) -> None:
        ran = desk.run(self.switched("other", ""))

        assert (ran.state, states(ran)) == ("SUCCESS", {"choose": "SUCCESS"})
        assert ran.run_of("choose").outputs == {"value": "other", "defaults": True}


class TestSection18_7AllowFailure:
    def test_a_failure_becomes_a_warning_after_its_errors(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: try
                type: io.kestra.plugin.core.flow.AllowFailure
                tasks:
                  - {id: bad, type: io.kestra.plugin.core.execution.Fail}
                  - {id: never, type: io.kestra.plugin.core.debug.Return, format: x}
                errors: [{id: mend, type: io.kestra.plugin.core.debug.Return, format: x}]
              - {id: next, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        expected = {"try": "WARNING", "bad": "FAILED", "mend": "SUCCESS", "next": "SUCCESS"}
        assert (ran.state, states(ran)) == ("WARNING", expected)


class TestSection18_8Pause:
    @pytest.mark.parametrize("name", ["delay", "pauseDuration"])
    def test_a_pause_with_a_delay_goes_on_by_itself(self, desk: Desk, name: str) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks:
              - {{id: wait, type: io.kestra.plugin.core.flow.Pause, {name}: PT0.05S}}
              - {{id: after, type: {RETURN}, format: x}}
            """)
        )

        assert states(ran) == {"wait": "SUCCESS", "after": "SUCCESS"}
        assert history(ran) == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING", "SUCCESS"]
        assert history(ran.run_of("wait")) == ["CREATED", "RUNNING", "PAUSED", "RUNNING", "SUCCESS"]
        assert ran.run_of("after").history[0].date - began(ran.run_of("wait")) >= timedelta(seconds=0.05)

    def test_a_pause_waits_until_somebody_resumes_it(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(PAUSED_FLOW))

        paused = desk.until_state(execution_id, "PAUSED")
        assert states(paused) == {"wait": "PAUSED"}
        desk.resume(execution_id)

        assert states(desk.wait(execution_id)) == {"wait": "SUCCESS", "after": "SUCCESS"}

    def test_what_was_asked_for_is_an_output(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(ASKING_FLOW))
        desk.until_state(execution_id, "PAUSED")

        desk.resume(execution_id, {"reason": "fine", "count": "5"})

        ran = desk.wait(execution_id)
        assert ran.run_of("approval").outputs == {"onResume": {"reason": "fine", "count": 5}}
        assert value(ran, "show") == "fine 6"

    def test_defaults_of_what_was_asked_for_count(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(ASKING_FLOW))
        desk.until_state(execution_id, "PAUSED")

        desk.resume(execution_id, {"reason": "fine"})

        assert value(desk.wait(execution_id), "show") == "fine 4"

    @pytest.mark.parametrize("inputs", [{}, {"reason": "fine", "count": "many"}])
    def test_an_answer_that_does_not_fit_is_refused(self, desk: Desk, inputs: dict[str, object]) -> None:
        execution_id = desk.start(a_flow(ASKING_FLOW))
        desk.until_state(execution_id, "PAUSED")

        with pytest.raises(UserError):
            desk.resume(execution_id, inputs)

        assert desk.state(execution_id) == "PAUSED"

    def test_a_timeout_fails_it(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: wait, type: io.kestra.plugin.core.flow.Pause, timeout: PT0.05S}
              - {id: after, type: io.kestra.plugin.core.debug.Return, format: x}
            errors:
              - {id: mend, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"wait": "FAILED", "mend": "SUCCESS"})

    @pytest.mark.parametrize(
        ("behavior", "state", "runs"),
        [
            ("RESUME", "SUCCESS", {"wait": "SUCCESS", "after": "SUCCESS"}),
            ("WARN", "WARNING", {"wait": "WARNING", "after": "SUCCESS"}),
            ("FAIL", "FAILED", {"wait": "FAILED"}),
            ("CANCEL", "CANCELLED", {"wait": "CANCELLED"}),
        ],
    )
    def test_the_behavior_says_what_happens_when_the_time_is_over(
        self, desk: Desk, behavior: str, state: str, runs: dict[str, str]
    ) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks:
              - id: wait
                type: io.kestra.plugin.core.flow.Pause
                pauseDuration: PT0.05S
                behavior: {behavior}
              - {{id: after, type: {RETURN}, format: x}}
            """)
        )

        assert (ran.state, states(ran)) == (state, runs)

    def test_tasks_inside_run_after_it(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: wait
                type: io.kestra.plugin.core.flow.Pause
                delay: PT0.02S
                tasks:
                  - {id: a, type: io.kestra.plugin.core.debug.Return, format: x}
                  - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert states(ran) == {"wait": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS"}
        assert ran.run_of("a").parent_id == ran.run_of("wait").id

    def test_the_delay_may_be_an_expression(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            variables: {seconds: 0.02}
            tasks: [{id: wait, type: io.kestra.plugin.core.flow.Pause, delay: "PT{{ vars.seconds }}S"}]
            """)
        )

        assert ran.state == "SUCCESS"

    def test_other_branches_end_what_they_run_and_the_execution_waits_for_every_pause(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow("""
            tasks:
              - id: wide
                type: io.kestra.plugin.core.flow.Parallel
                tasks:
                  - {id: one, type: io.kestra.plugin.core.flow.Pause}
                  - {id: two, type: io.kestra.plugin.core.flow.Pause}
                  - {id: work, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.1S}
              - {id: after, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )
        desk.until_task_state(execution_id, "work", "SUCCESS")
        assert desk.state(execution_id) == "PAUSED"

        desk.resume(execution_id)
        half = desk.until_task_state(execution_id, "one", "SUCCESS")
        assert (half.state, states(half)["two"]) == ("PAUSED", "PAUSED")
        desk.resume(execution_id)

        ran = desk.wait(execution_id)
        assert (ran.state, states(ran)["after"]) == ("SUCCESS", "SUCCESS")
        assert history(ran).count("RESTARTED") == 1

    def test_a_paused_execution_can_be_killed(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(PAUSED_FLOW))
        desk.until_state(execution_id, "PAUSED")

        desk.kill(execution_id)

        ran = desk.wait(execution_id)
        assert (ran.state, states(ran)) == ("KILLED", {"wait": "KILLED"})

    def test_a_paused_execution_survives_the_process(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(ASKING_FLOW))
        desk.until_state(execution_id, "PAUSED")

        desk.home.close()
        desk.resume(execution_id, {"reason": "later"})

        assert value(desk.wait(execution_id), "show") == "later 4"

    def test_a_delay_that_passes_while_nobody_is_there_counts(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow(f"""
            tasks:
              - {{id: wait, type: io.kestra.plugin.core.flow.Pause, delay: PT0.2S}}
              - {{id: after, type: {RETURN}, format: x}}
            """)
        )
        desk.until_state(execution_id, "PAUSED")

        desk.home.close()

        assert states(desk.wait(execution_id)) == {"wait": "SUCCESS", "after": "SUCCESS"}

    def test_one_that_ran_into_its_timeout_can_be_restarted_and_waits_again(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks:
              - {{id: wait, type: io.kestra.plugin.core.flow.Pause, timeout: PT0.3S}}
              - {{id: after, type: {RETURN}, format: x}}
            """)
        )

        desk.restart(ran.execution.id)
        desk.until_state(ran.execution.id, "PAUSED")
        desk.resume(ran.execution.id)

        again = desk.wait(ran.execution.id)
        assert (ran.state, again.state) == ("FAILED", "SUCCESS")
        assert states(again) == {"wait": "SUCCESS", "after": "SUCCESS"}

    def test_one_that_was_killed_while_it_waited_can_be_restarted(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(PAUSED_FLOW))
        desk.until_state(execution_id, "PAUSED")
        desk.kill(execution_id)
        desk.wait(execution_id)

        desk.restart(execution_id)
        desk.until_state(execution_id, "PAUSED")
        desk.resume(execution_id)

        assert desk.wait(execution_id).state == "SUCCESS"

    def test_in_a_loop_each_value_waits_for_its_own_resume(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: [a, b]
                tasks:
                  - id: ask
                    type: io.kestra.plugin.core.flow.Pause
                    onResume: [{id: word, type: STRING}]
                  - id: show
                    type: io.kestra.plugin.core.debug.Return
                    format: "{{ taskrun.value }} {{ outputs.ask[taskrun.value].onResume.word }}"
            """)
        )
        for word in ("one", "two"):
            desk.until_state(execution_id, "PAUSED")
            desk.resume(execution_id, {"word": word})
            until(lambda: desk.state(execution_id) != "PAUSED" or len(desk.ran(execution_id).runs) > 3)

        ran = desk.wait(execution_id)
        assert [run.outputs["value"] for run in runs_of(ran, "show")] == ["a one", "b two"]


class TestSection18_9Subflow:
    CHILD = """
        inputs:
          - {id: n, type: INT, defaults: 1}
        labels: {of: child}
        tasks:
          - id: work
            type: io.kestra.plugin.core.debug.Return
            format: "{{ inputs.n + 1 }} {{ trigger.flowId }} {{ trigger.executionId }}"
        outputs:
          - {id: answer, type: INT, value: "{{ inputs.n + 1 }}"}
    """

    def called(self, properties: str = "", task: str = "") -> str:
        return a_flow(f"""
            tasks:
              - id: call
                type: io.kestra.plugin.core.flow.Subflow
                namespace: company.team
                flowId: child
{indent(dedent(properties), " " * 16)}
              {task}
        """)

    def save_child(self, desk: Desk, body: str | None = None) -> None:
        desk.save(a_flow(self.CHILD if body is None else body, id="child"))

    def test_it_waits_and_gives_back_the_flows_outputs(self, desk: Desk) -> None:
        self.save_child(desk)

        ran = desk.run(
            self.called(
                'inputs: {n: "{{ 3 + 4 }}"}',
                f'- {{id: show, type: {RETURN}, format: "{{{{ outputs.call.outputs.answer }}}}"}}',
            )
        )

        child = desk.only("child")
        assert ran.state == "SUCCESS"
        assert ran.run_of("call").outputs == {
            "executionId": child.execution.id,
            "state": "SUCCESS",
            "outputs": {"answer": 8},
        }
        assert value(ran, "show") == "8"
        assert value(child, "work") == f"8 main {ran.execution.id}"
        assert child.execution.inputs == {"n": 7}

    def test_the_execution_knows_who_started_it(self, desk: Desk) -> None:
        self.save_child(desk)

        ran = desk.run(self.called())

        trigger = desk.only("child").execution.trigger
        assert trigger is not None
        assert (trigger["id"], trigger["type"]) == ("call", "io.kestra.plugin.core.flow.Subflow")
        assert {
            "executionId": ran.execution.id,
            "namespace": "company.team",
            "flowId": "main",
            "flowRevision": 1,
        }.items() <= trigger["variables"].items()  # type: ignore[attr-defined]

    def test_the_flow_may_be_an_expression_and_the_revision_an_old_one(self, desk: Desk) -> None:
        self.save_child(desk, "tasks: [{id: old, type: io.kestra.plugin.core.debug.Return, format: x}]")
        self.save_child(desk, "tasks: [{id: new, type: io.kestra.plugin.core.debug.Return, format: x}]")

        desk.run(
            a_flow("""
            tasks:
              - id: call
                type: io.kestra.core.tasks.flows.Flow
                namespace: "{{ flow.namespace }}"
                flowId: "chi{{ 'ld' }}"
                revision: 1
            """)
        )

        assert states(desk.only("child")) == {"old": "SUCCESS"}

    @pytest.mark.parametrize(
        ("properties", "labels"),
        [
            ("", {"of": "child"}),
            ("inheritLabels: true", {"of": "child", "team": "data"}),
            ('labels: {by: "{{ flow.id }}"}', {"of": "child", "by": "main"}),
        ],
    )
    def test_labels_are_inherited_when_asked_for_and_those_of_the_system_always(
        self, desk: Desk, properties: str, labels: dict[str, str]
    ) -> None:
        self.save_child(desk)

        ran = desk.run(self.called(properties) + "labels: {team: data}\n")

        child = desk.only("child").execution
        assert child.labels == {**labels, "system.correlationId": ran.execution.id}

    @pytest.mark.parametrize(
        ("child", "given", "state", "in_all"),
        [
            ("{id: a, type: io.kestra.plugin.core.execution.Fail}", "", "FAILED", "FAILED"),
            ("{id: a, type: io.kestra.plugin.core.execution.Fail}", "transmitFailed: false", "SUCCESS", "SUCCESS"),
            ("{id: a, type: io.kestra.plugin.core.execution.Fail}", "allowFailure: true", "WARNING", "WARNING"),
            ("{id: a, type: io.kestra.plugin.core.execution.Fail, allowFailure: true}", "", "WARNING", "WARNING"),
            (
                "{id: a, type: io.kestra.plugin.core.execution.Fail, allowFailure: true}",
                "allowWarning: true",
                "SUCCESS",
                "SUCCESS",
            ),
        ],
    )
    def test_the_state_is_passed_on(self, desk: Desk, child: str, given: str, state: str, in_all: str) -> None:
        self.save_child(desk, f"tasks: [{child}]")

        ran = desk.run(self.called(given))

        assert (ran.run_of("call").state, ran.state) == (state, in_all)
        assert ran.run_of("call").outputs["state"] == desk.only("child").state

    def test_without_waiting_it_is_a_success_at_once(self, desk: Desk) -> None:
        self.save_child(desk, f"tasks: [{ENDLESS}]")

        ran = desk.run(self.called("wait: false"))

        assert ran.state == "SUCCESS"
        outputs = ran.run_of("call").outputs
        [child] = desk.executions("child")
        assert outputs["executionId"] == child.id
        assert "state" in outputs
        assert not child.state.is_terminal
        desk.kill(child.id)
        desk.wait(child.id)

    @pytest.mark.parametrize(
        "body",
        [
            None,
            "disabled: true\ntasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]",
            "inputs: [{id: must, type: STRING}]\ntasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]",
        ],
        ids=["missing", "disabled", "bad inputs"],
    )
    def test_what_cannot_be_started_fails_the_task(self, desk: Desk, body: str | None) -> None:
        if body is not None:
            self.save_child(desk, body)

        ran = desk.run(self.called())

        assert (ran.state, states(ran)) == ("FAILED", {"call": "FAILED"})
        assert "child" in ran.run_of("call").message or "must" in ran.run_of("call").message
        assert desk.executions("child") == []

    def test_outputs_of_old_are_rendered_in_the_child(self, desk: Desk) -> None:
        self.save_child(desk)

        ran = desk.run(self.called('outputs: {work: "{{ outputs.work.value }}"}'))

        outputs = ran.run_of("call").outputs["outputs"]
        assert isinstance(outputs, dict)
        assert outputs["work"] == value(desk.only("child"), "work")

    def test_a_retry_starts_another_execution(self, desk: Desk) -> None:
        self.save_child(desk, "tasks: [{id: a, type: io.kestra.plugin.core.execution.Fail}]")

        ran = desk.run(self.called("retry: {type: constant, interval: PT0.02S, maxAttempts: 2}"))

        assert (ran.state, len(ran.run_of("call").attempts)) == ("FAILED", 2)
        assert len(desk.executions("child")) == 2

    def test_a_schedule_date_makes_it_wait(self, desk: Desk) -> None:
        self.save_child(desk)
        at = datetime.now(UTC) + HOUR

        ran = desk.run(self.called(f'wait: false\nscheduleDate: "{at.isoformat()}"'))

        [child] = desk.executions("child")
        assert (ran.state, child.state, child.schedule_date) == ("SUCCESS", "CREATED", at)

    def test_a_timeout_ends_the_execution_that_it_waits_for(self, desk: Desk) -> None:
        self.save_child(desk, f"tasks: [{ENDLESS}]")

        ran = desk.run(self.called("timeout: PT0.3S"))

        assert (ran.state, states(ran)) == ("FAILED", {"call": "FAILED"})
        # Nobody else minds the time: the grace that a worker gets would only be lost.
        assert ended(ran.run_of("call")) - began(ran.run_of("call")) < timedelta(seconds=20)
        assert desk.only("child").state == "KILLED"

    def test_a_pause_in_the_child_is_resumed_there(self, desk: Desk) -> None:
        self.save_child(desk, dedent(PAUSED_FLOW))
        execution_id = desk.start(self.called())
        until(lambda: [one.state for one in desk.executions("child")] == ["PAUSED"])
        assert states(desk.ran(execution_id)) == {"call": "RUNNING"}

        desk.resume(desk.executions("child")[0].id)

        assert desk.wait(execution_id).state == "SUCCESS"

    def test_a_restart_starts_another_execution(self, desk: Desk) -> None:
        self.save_child(
            desk,
            """
            tasks:
              - {id: look, type: io.kestra.plugin.core.kv.Get, key: luck, errorOnMissing: true}
            """,
        )
        ran = desk.run(self.called())
        desk.run(a_flow("tasks: [{id: s, type: io.kestra.plugin.core.kv.Set, key: luck, value: x}]", id="luck"))

        desk.restart(ran.execution.id)

        again = desk.wait(ran.execution.id)
        assert (ran.state, again.state) == ("FAILED", "SUCCESS")
        assert [execution.state for execution in desk.executions("child")] == ["FAILED", "SUCCESS"]
        assert again.run_of("call").outputs["executionId"] == desk.executions("child")[1].id

    def test_the_end_of_a_child_reaches_a_parent_that_was_away(self, desk: Desk) -> None:
        self.save_child(desk, dedent(PAUSED_FLOW))
        execution_id = desk.start(self.called())
        until(lambda: [one.state for one in desk.executions("child")] == ["PAUSED"])

        desk.home.close()
        desk.resume(desk.executions("child")[0].id)

        assert desk.wait(execution_id).state == "SUCCESS"
        assert len(desk.executions("child")) == 1

    def test_many_run_side_by_side_in_a_loop(self, desk: Desk) -> None:
        self.save_child(desk)

        ran = desk.run(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: "{{ range(1, 20) }}"
                concurrencyLimit: 0
                tasks:
                  - id: call
                    type: io.kestra.plugin.core.flow.Subflow
                    namespace: company.team
                    flowId: child
                    inputs: {n: "{{ taskrun.value }}"}
              - id: show
                type: io.kestra.plugin.core.debug.Return
                format: "{{ outputs.call['20'].outputs.answer }}"
            """)
        )

        assert (ran.state, value(ran, "show")) == ("SUCCESS", "21")
        assert len(desk.executions("child")) == 20

    def test_a_kill_goes_down_the_whole_chain(self, desk: Desk) -> None:
        call = "{id: call, type: io.kestra.plugin.core.flow.Subflow, namespace: company.team, flowId: %s}"
        self.save_child(desk, f"tasks: [{ENDLESS}]")
        desk.save(a_flow(f"tasks: [{call % 'child'}]", id="middle"))
        execution_id = desk.start(a_flow(f"tasks: [{call % 'middle'}]"))
        until(lambda: [one.state for one in desk.executions("child")] == ["RUNNING"])

        desk.kill(execution_id)

        assert desk.wait(execution_id).state == "KILLED"
        assert desk.only("middle").state == "KILLED"
        assert desk.only("child").state == "KILLED"

    def test_a_limit_of_the_child_is_kept(self, desk: Desk) -> None:
        self.save_child(
            desk,
            """
            concurrency: {limit: 1}
            tasks: [{id: slow, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.05S}]
            """,
        )

        ran = desk.run(
            a_flow("""
            tasks:
              - id: wide
                type: io.kestra.plugin.core.flow.Parallel
                tasks:
                  - {id: a, type: io.kestra.plugin.core.flow.Subflow, namespace: company.team, flowId: child}
                  - {id: b, type: io.kestra.plugin.core.flow.Subflow, namespace: company.team, flowId: child}
                  - {id: c, type: io.kestra.plugin.core.flow.Subflow, namespace: company.team, flowId: child}
            """)
        )

        assert ran.state == "SUCCESS"
        assert at_once([desk.wait(one.id).run_of("slow") for one in desk.executions("child")]) == 1

    def test_one_that_the_child_refuses_by_its_limit_is_a_failure(self, desk: Desk) -> None:
        self.save_child(desk, "concurrency: {limit: 1, behavior: FAIL}\n" + dedent(PAUSED_FLOW))
        first = desk.start(self.called())
        until(lambda: [one.state for one in desk.executions("child")] == ["PAUSED"])

        second = desk.run(self.called())

        assert (second.state, states(second)) == ("FAILED", {"call": "FAILED"})
        desk.kill(first)
        desk.wait(first)


class TestSection18_10ForEachItem:
    CHILD = """
        inputs:
          - {id: items, type: STRING}
          - {id: number, type: INT}
        tasks:
          - {id: content, type: io.kestra.plugin.core.debug.Return, format: "{{ read(inputs.items) | trim }}"}
          - id: check
            type: io.kestra.plugin.core.execution.Fail
            condition: "{{ read(inputs.items) contains 'bad' }}"
        outputs:
          - {id: content, type: STRING, value: "{{ outputs.content.value }}"}
    """

    def each(self, rows: Sequence[str], properties: str = "") -> str:
        content = json.dumps("".join(f"{row}\n" for row in rows))
        return a_flow(f"""
            tasks:
              - id: make
                type: io.kestra.plugin.core.storage.Write
                content: {content}
                extension: .txt
              - id: each
                type: io.kestra.plugin.core.flow.ForEachItem
                items: "{{{{ outputs.make.uri }}}}"
                namespace: company.team
                flowId: child
                inputs:
                  items: "{{{{ taskrun.items }}}}"
                  number: "{{{{ taskrun.iteration }}}}"
{indent(dedent(properties), " " * 16)}
        """)

    @pytest.fixture(autouse=True)
    def child(self, desk: Desk) -> None:
        desk.save(a_flow(self.CHILD, id="child"))

    def test_each_row_is_an_execution(self, desk: Desk) -> None:
        ran = desk.run(self.each(["one", "two", "three"]))

        assert ran.state == "SUCCESS"
        children = [desk.wait(execution.id) for execution in desk.executions("child")]
        found = {child.execution.inputs["number"]: value(child, "content") for child in children}
        assert found == {1: "one", 2: "two", 3: "three"}
        assert {"each_split", "each_items", "each_merge"} <= states(ran).keys()
        items = ran.run_of("each_items").outputs
        assert (items["numberOfBatches"], items["iterations"]) == (3, {"SUCCESS": 3})
        splits = desk.home.read(str(ran.run_of("each_split").outputs["splits"])).decode()
        assert [desk.home.read(uri).decode().strip() for uri in splits.split()] == ["one", "two", "three"]

    def test_outputs_of_the_executions_are_merged_into_a_file(self, desk: Desk) -> None:
        ran = desk.run(self.each(["one", "two"]))

        merged = desk.home.read(str(ran.run_of("each_merge").outputs["subflowOutputs"])).decode()
        rows = [parse_ion(line) for line in merged.splitlines()]
        assert sorted(row["content"] for row in rows) == ["one", "two"]  # type: ignore[index]

    @pytest.mark.parametrize(("batch", "count"), [("rows: 2", 3), ("partitions: 2", 2), ("bytes: 8", 3)])
    def test_batches_hold_several_rows(self, desk: Desk, batch: str, count: int) -> None:
        ran = desk.run(self.each(["aaa", "bbb", "ccc", "ddd", "eee"], f"batch: {{{batch}}}"))

        assert ran.state == "SUCCESS"
        assert len(desk.executions("child")) == count

    def test_a_failure_is_passed_on_once_all_have_ended(self, desk: Desk) -> None:
        ran = desk.run(self.each(["one", "bad", "three"]))

        assert ran.state == "FAILED"
        assert ran.run_of("each_items").outputs["iterations"] == {"SUCCESS": 2, "FAILED": 1}
        assert len(desk.executions("child")) == 3

    def test_a_failure_need_not_be_passed_on(self, desk: Desk) -> None:
        ran = desk.run(self.each(["one", "bad"], "transmitFailed: false"))

        assert ran.state == "SUCCESS"

    def test_no_rows_are_a_success(self, desk: Desk) -> None:
        ran = desk.run(self.each([]))

        assert ran.state == "SUCCESS"
        assert desk.executions("child") == []

    def test_items_that_are_no_file_are_a_failure(self, desk: Desk) -> None:
        ran = desk.run(self.each(["one"]).replace("{{ outputs.make.uri }}", "one, two"))

        assert ran.state == "FAILED"
        assert desk.executions("child") == []

    def test_without_waiting_it_is_a_success_at_once(self, desk: Desk) -> None:
        ran = desk.run(self.each(["bad", "bad"], "wait: false"))

        assert ran.state == "SUCCESS"
        assert len(desk.executions("child")) == 2

    def test_a_kill_ends_the_executions(self, desk: Desk) -> None:
        desk.save(
            a_flow(
                f"""
                inputs:
                  - {{id: items, type: STRING}}
                  - {{id: number, type: INT}}
                tasks: [{ENDLESS}]
                """,
                id="child",
            )
        )
        execution_id = desk.start(self.each(["one", "two"]))
        until(lambda: [one.state for one in desk.executions("child")] == ["RUNNING", "RUNNING"])

        desk.kill(execution_id)

        assert desk.wait(execution_id).state == "KILLED"
        assert [desk.wait(one.id).state for one in desk.executions("child")] == ["KILLED", "KILLED"]

    def test_a_restart_takes_the_batches_again(self, desk: Desk) -> None:
        ran = desk.run(self.each(["one", "bad"]))
        desk.save(a_flow(self.CHILD.replace("contains 'bad'", "contains 'worse'"), id="child"))

        desk.restart(ran.execution.id)

        again = desk.wait(ran.execution.id)
        assert again.state == "SUCCESS"
        assert again.run_of("each_items").outputs["iterations"] == {"SUCCESS": 2}


class TestSection18_11LoopUntil:
    def loop(self, condition: str, properties: str = "", kind: str = "LoopUntil", task: str = "") -> str:
        inner = task or f'{{id: count, type: {RETURN}, format: "{{{{ outputs.loop.iterationCount }}}}"}}'
        return a_flow(f"""
            tasks:
              - id: loop
                type: io.kestra.plugin.core.flow.{kind}
                condition: "{condition}"
{indent(dedent(properties), " " * 16)}
                tasks: [{inner}]
              - {{id: after, type: {RETURN}, format: "{{{{ outputs.loop.iterationCount }}}}"}}
        """)

    @pytest.mark.parametrize("kind", ["LoopUntil", "WaitFor"])
    def test_it_goes_round_until_the_condition_holds(self, desk: Desk, kind: str) -> None:
        ran = desk.run(self.loop("{{ outputs.count.value == '3' }}", "checkFrequency: {interval: PT0.02S}", kind))

        assert (ran.state, ran.run_of("loop").outputs["iterationCount"]) == ("SUCCESS", 3)
        assert (value(ran, "count"), value(ran, "after")) == ("3", "3")

    def test_a_condition_that_holds_at_once_means_one_round(self, desk: Desk) -> None:
        ran = desk.run(self.loop("true"))

        assert (ran.state, value(ran, "after")) == ("SUCCESS", "1")

    @pytest.mark.parametrize(("properties", "state"), [("", "SUCCESS"), ("failOnMaxReached: true", "FAILED")])
    def test_it_stops_after_the_most_rounds(self, desk: Desk, properties: str, state: str) -> None:
        ran = desk.run(self.loop("false", f"checkFrequency: {{interval: PT0.01S, maxIterations: 4}}\n{properties}"))

        assert (ran.state, ran.run_of("loop").outputs["iterationCount"]) == (state, 4)

    def test_it_stops_after_the_longest_duration(self, desk: Desk) -> None:
        ran = desk.run(
            self.loop("false", "checkFrequency: {interval: PT0.02S, maxDuration: PT0.1S}\nfailOnMaxReached: true")
        )

        assert ran.state == "FAILED"
        assert ran.run_of("loop").outputs["iterationCount"] > 1  # type: ignore[operator]

    def test_a_failure_inside_ends_it(self, desk: Desk) -> None:
        ran = desk.run(self.loop("false", task="{id: bad, type: io.kestra.plugin.core.execution.Fail}"))

        assert (ran.state, states(ran)) == ("FAILED", {"loop": "FAILED", "bad": "FAILED"})

    def test_it_can_be_killed_while_it_waits(self, desk: Desk) -> None:
        execution_id = desk.start(self.loop("false", "checkFrequency: {interval: PT1H}"))
        desk.until_task_state(execution_id, "count", "SUCCESS")

        desk.kill(execution_id)

        ran = desk.wait(execution_id)
        assert (ran.state, ran.run_of("loop").state) == ("KILLED", "KILLED")

    def test_a_condition_that_cannot_be_rendered_fails(self, desk: Desk) -> None:
        ran = desk.run(self.loop("{{ nope }}"))

        assert ran.state == "FAILED"

    def test_a_wait_that_passes_while_nobody_is_there_counts(self, desk: Desk) -> None:
        execution_id = desk.start(self.loop("{{ outputs.count.value == '2' }}", "checkFrequency: {interval: PT0.3S}"))
        desk.until_task_state(execution_id, "count", "SUCCESS")

        desk.home.close()

        ran = desk.wait(execution_id)
        assert (ran.state, value(ran, "after")) == ("SUCCESS", "2")

    def test_only_the_last_round_is_kept(self, desk: Desk) -> None:
        ran = desk.run(self.loop("{{ outputs.count.value == '3' }}", "checkFrequency: {interval: PT0.01S}"))

        assert len(runs_of(ran, "count")) == 1

    def test_loops_nest(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: outer
                type: io.kestra.plugin.core.flow.LoopUntil
                condition: "{{ outputs.outer.iterationCount == 2 }}"
                checkFrequency: {interval: PT0.01S}
                tasks:
                  - id: inner
                    type: io.kestra.plugin.core.flow.LoopUntil
                    condition: "{{ outputs.inner.iterationCount == 3 }}"
                    checkFrequency: {interval: PT0.01S}
                    tasks:
                      - id: count
                        type: io.kestra.plugin.core.debug.Return
                        format: "{{ outputs.outer.iterationCount }}{{ outputs.inner.iterationCount }}"
              - {id: after, type: io.kestra.plugin.core.debug.Return, format: "{{ outputs.count.value }}"}
            """)
        )

        assert (ran.state, value(ran, "after")) == ("SUCCESS", "23")

    def test_a_retry_inside_is_waited_for(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: loop
                type: io.kestra.plugin.core.flow.LoopUntil
                condition: "{{ outputs.loop.iterationCount == 2 }}"
                checkFrequency: {interval: PT0.01S}
                tasks:
                  - id: flaky
                    type: io.kestra.plugin.core.execution.Fail
                    condition: "{{ taskrun.attemptsCount == 0 }}"
                    retry: {type: constant, interval: PT0.02S, maxAttempts: 2}
            """)
        )

        assert (ran.state, len(ran.run_of("flaky").attempts)) == ("SUCCESS", 2)

    def test_a_restart_goes_round_again(self, desk: Desk) -> None:
        ran = desk.run(
            self.loop(
                "{{ kv('luck') is not null }}",
                "checkFrequency: {interval: PT0.01S, maxIterations: 2}\nfailOnMaxReached: true",
            )
        )
        desk.run(a_flow("tasks: [{id: s, type: io.kestra.plugin.core.kv.Set, key: luck, value: x}]", id="luck"))

        desk.restart(ran.execution.id)

        assert (ran.state, desk.wait(ran.execution.id).state) == ("FAILED", "SUCCESS")
