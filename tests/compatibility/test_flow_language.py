"""The flow language, sections 9 to 17 of its specification: how executions run, and what people do to them.

The flows are written as users write them, and run by the whole engine; the classes carry the numbers of the sections.
What validation alone decides is in `test_flow_validation.py`, expressions have their own conformance suite, and
WorkingDirectory its own scenarios.
"""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from textwrap import dedent, indent

import pytest

from tercel.errors import NotFoundError, UserError
from tercel.model import State
from tests.desks import (
    ENDLESS,
    HOUR,
    PAUSED_FLOW,
    RETURN,
    Desk,
    a_flow,
    at_once,
    history,
    messages,
    order,
    runs_of,
    states,
    value,
)
from tests.homes import Home, Ran, until

ID = re.compile(r"[0-9A-Za-z]{22}")


class TestSection09DataModel:
    def test_ids_are_22_characters_of_base_62(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]"))

        assert ID.fullmatch(ran.execution.id)
        assert ID.fullmatch(ran.run_of("a").id)

    def test_an_execution_that_nothing_led_to_is_its_own_original(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]"))

        execution = ran.execution
        assert (execution.original_id, execution.parent_id, execution.attempt_number) == (execution.id, None, 1)
        assert (execution.namespace, execution.flow_id, execution.revision) == ("company.team", "main", 1)

    def test_attempts_are_recorded_for_runnable_tasks_only(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: both
                type: io.kestra.plugin.core.flow.Sequential
                tasks:
                  - {id: a, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert [attempt.state for attempt in ran.run_of("a").attempts] == ["SUCCESS"]
        assert list(ran.run_of("both").attempts) == []
        assert ran.run_of("a").parent_id == ran.run_of("both").id
        assert ran.run_of("both").outputs == {}

    def test_loop_values_that_are_no_text_are_json(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: [1, {"a": 2}, x]
                tasks:
                  - {id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ taskrun.value }}"}
            """)
        )

        runs = runs_of(ran, "a")
        assert [run.value for run in runs] == ["1", '{"a":2}', "x"]
        assert [run.iteration for run in runs] == [0, 1, 2]
        assert len({run.id for run in runs}) == 3


class TestSection10States:
    def test_a_plain_run_goes_from_created_to_success(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]"))

        assert history(ran) == ["CREATED", "RUNNING", "SUCCESS"]
        assert history(ran.run_of("a")) == ["CREATED", "RUNNING", "SUCCESS"]

    def test_a_retry_is_seen_in_both_histories(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                condition: "{{ taskrun.attemptsCount == 0 }}"
                retry: {type: constant, interval: PT0.02S, maxAttempts: 2}
            """)
        )

        assert history(ran) == ["CREATED", "RUNNING", "RETRYING", "RUNNING", "SUCCESS"]
        run = history(ran.run_of("flaky"))
        assert run[-3:] == ["CREATED", "RUNNING", "SUCCESS"]
        assert run.count("RETRYING") == 1

    def test_a_kill_goes_through_killing(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(f"tasks: [{ENDLESS}]"))
        desk.until_task_state(execution_id, "endless", "RUNNING")

        desk.kill(execution_id)

        ran = desk.wait(execution_id)
        assert history(ran) == ["CREATED", "RUNNING", "KILLING", "KILLED"]
        assert history(ran.run_of("endless"))[-1] == "KILLED"

    def test_a_false_run_if_skips(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: x, runIf: "{{ 1 == 2 }}"}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: "{{ tasks.a.state }}"}
            """)
        )

        assert ran.state == "SUCCESS"
        assert history(ran.run_of("a"))[-1] == "SKIPPED"
        assert value(ran, "b") == "SKIPPED"

    @pytest.mark.parametrize("verb", ["pause", "resume", "force_run"])
    def test_what_an_execution_that_ended_cannot_become_is_refused(self, desk: Desk, verb: str) -> None:
        ran = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]"))

        with pytest.raises(UserError):
            getattr(desk, verb)(ran.execution.id)

        assert desk.state(ran.execution.id) == "SUCCESS"


class TestSection11Executor:
    def test_tasks_run_one_after_the_other(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.02S}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
              - {id: c, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.02S}
            """)
        )

        runs = [ran.run_of(name) for name in "abc"]
        assert all(before.history[-1].date <= after.history[0].date for before, after in itertools.pairwise(runs))

    def test_nothing_follows_a_failure(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.execution.Fail}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"a": "FAILED"})

    @pytest.mark.parametrize(
        ("properties", "state", "run"),
        [
            ("", "FAILED", "FAILED"),
            ("allowFailure: true", "WARNING", "WARNING"),
            ("allowFailure: true, allowWarning: true", "SUCCESS", "SUCCESS"),
        ],
    )
    def test_the_execution_ends_as_the_worst_of_its_tasks(
        self, desk: Desk, properties: str, state: str, run: str
    ) -> None:
        fail = f"{{id: a, type: io.kestra.plugin.core.execution.Fail, {properties}}}"
        ran = desk.run(
            a_flow(f"""
            tasks:
              - {{id: before, type: {RETURN}, format: x}}
              - {fail}
            """)
        )

        assert (ran.state, states(ran)["a"]) == (state, run)

    def test_flowables_allow_failures_as_well(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: both
                type: io.kestra.plugin.core.flow.Sequential
                allowFailure: true
                tasks:
                  - {id: a, type: io.kestra.plugin.core.execution.Fail}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, states(ran)) == ("WARNING", {"both": "WARNING", "a": "FAILED", "b": "SUCCESS"})

    def test_disabled_tasks_are_not_there(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.execution.Fail, disabled: true}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, states(ran)) == ("SUCCESS", {"b": "SUCCESS"})

    def test_local_errors_do_not_mend_the_failure(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: both
                type: io.kestra.plugin.core.flow.Sequential
                tasks:
                  - {id: a, type: io.kestra.plugin.core.execution.Fail}
                errors:
                  - {id: mend, type: io.kestra.plugin.core.debug.Return, format: x}
              - {id: next, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"both": "FAILED", "a": "FAILED", "mend": "SUCCESS"})

    def test_a_failure_of_finally_is_one_of_the_execution(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: x}
            finally:
              - {id: clean, type: io.kestra.plugin.core.execution.Fail}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"a": "SUCCESS", "clean": "FAILED"})

    def test_a_run_if_that_cannot_be_rendered_fails(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: x, runIf: "{{ nope }}"}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"a": "FAILED"})


class TestSection12Retries:
    def test_a_constant_retry_waits_the_same_each_time(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                retry: {type: constant, interval: PT0.04S, maxAttempt: 3}
            """)
        )

        attempts = ran.run_of("flaky").attempts
        assert (ran.state, [attempt.state for attempt in attempts]) == ("FAILED", ["FAILED"] * 3)
        for before, after in itertools.pairwise(attempts):
            assert after.history[0].date - before.history[-1].date >= timedelta(seconds=0.04)

    def test_an_exponential_retry_doubles_its_wait(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                retry: {type: exponential, interval: PT0.02S, maxInterval: PT0.07S, maxAttempts: 4}
            """)
        )

        attempts = ran.run_of("flaky").attempts
        waits = [after.history[0].date - before.history[-1].date for before, after in itertools.pairwise(attempts)]
        assert [wait >= timedelta(seconds=least) for wait, least in zip(waits, (0.02, 0.04, 0.07), strict=True)] == [
            True
        ] * 3

    def test_a_random_retry_waits_between_its_bounds(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                condition: "{{ taskrun.attemptsCount < 2 }}"
                retry: {type: random, minInterval: PT0.01S, maxInterval: PT0.05S, maxAttempts: 5}
            """)
        )

        attempts = ran.run_of("flaky").attempts
        assert (ran.state, len(attempts)) == ("SUCCESS", 3)
        for before, after in itertools.pairwise(attempts):
            assert after.history[0].date - before.history[-1].date >= timedelta(seconds=0.01)

    def test_no_try_begins_after_the_longest_duration(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                retry: {type: constant, interval: PT0.2S, maxDuration: PT0.3S}
            """)
        )

        assert len(ran.run_of("flaky").attempts) <= 2

    def test_a_success_after_a_retry_may_be_a_warning(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                condition: "{{ taskrun.attemptsCount == 0 }}"
                retry: {type: constant, interval: PT0.01S, maxAttempts: 2, warningOnRetry: true}
            """)
        )

        assert (ran.state, states(ran)) == ("WARNING", {"flaky": "WARNING"})

    @pytest.mark.parametrize("place", ["task", "parent", "grandparent", "flow"])
    def test_the_nearest_policy_counts(self, desk: Desk, place: str) -> None:
        def policy(at: str, attempts: int, spaces: int) -> str:
            given = f"retry: {{type: constant, interval: PT0.01S, maxAttempts: {attempts}}}\n"
            outer = ["task", "parent", "grandparent", "flow"]
            return indent(given, " " * spaces) if outer.index(at) >= outer.index(place) else ""

        text = (
            "id: main\nnamespace: company.team\n"
            + policy("flow", 5, 0)
            + "tasks:\n  - id: outer\n    type: io.kestra.plugin.core.flow.Sequential\n"
            + policy("grandparent", 4, 4)
            + "    tasks:\n      - id: inner\n        type: io.kestra.plugin.core.flow.Sequential\n"
            + policy("parent", 3, 8)
            + "        tasks:\n          - id: flaky\n            type: io.kestra.plugin.core.execution.Fail\n"
            + policy("task", 2, 12)
        )

        ran = desk.run(text)

        assert len(ran.run_of("flaky").attempts) == {"task": 2, "parent": 3, "grandparent": 4, "flow": 5}[place]

    def test_a_failure_is_allowed_once_no_retry_is_left(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                allowFailure: true
                retry: {type: constant, interval: PT0.01S, maxAttempts: 3}
            """)
        )

        assert (ran.state, len(ran.run_of("flaky").attempts)) == ("WARNING", 3)

    def test_a_kill_wins_over_a_retry(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow("""
            tasks:
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                retry: {type: constant, interval: PT1H, maxAttempts: 3}
            """)
        )
        desk.until_state(execution_id, "RETRYING")

        desk.kill(execution_id)

        ran = desk.wait(execution_id)
        assert (ran.state, states(ran)) == ("KILLED", {"flaky": "KILLED"})

    def test_a_timeout_fails_the_attempt_and_may_be_retried(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            inputs: [{id: limit, type: DURATION, defaults: PT0.02S}]
            tasks:
              - id: slow
                type: io.kestra.plugin.core.flow.Sleep
                duration: PT1H
                timeout: "{{ inputs.limit }}"
                retry: {type: constant, interval: PT0.01S, maxAttempts: 2}
            """)
        )

        run = ran.run_of("slow")
        assert (run.state, [attempt.state for attempt in run.attempts]) == ("FAILED", ["FAILED", "FAILED"])
        assert "Timeout after 00:00:00.020" in run.message

    def test_a_flowable_has_a_timeout_too(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks:
              - id: both
                type: io.kestra.plugin.core.flow.Sequential
                timeout: PT0.05S
                tasks:
                  - {ENDLESS}
            errors:
              - {{id: mend, type: {RETURN}, format: x}}
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"both": "FAILED", "endless": "KILLED", "mend": "SUCCESS"})


class TestSection12CreateNewExecution:
    FLOW = """
        inputs: [{id: name, type: STRING, defaults: nobody}]
        labels: {team: data}
        tasks:
          - id: both
            type: io.kestra.plugin.core.flow.Sequential
            tasks:
              - {id: first, type: io.kestra.plugin.core.debug.Return, format: "{{ inputs.name }}"}
              - id: flaky
                type: io.kestra.plugin.core.execution.Fail
                retry:
                  type: constant
                  interval: PT0.05S
                  maxAttempts: 3
                  behavior: CREATE_NEW_EXECUTION
        errors:
          - {id: mend, type: io.kestra.plugin.core.debug.Return, format: x}
    """

    def all_of(self, desk: Desk, count: int) -> list[Ran]:
        until(lambda: len(desk.executions("main")) == count)
        return [desk.wait(execution.id) for execution in desk.executions("main")]

    def test_each_try_is_an_execution_and_the_last_one_fails(self, desk: Desk) -> None:
        desk.run(a_flow(self.FLOW), {"name": "Ann"}, labels={"by": "hand"})

        first, second, third = self.all_of(desk, 3)
        assert [ran.state for ran in (first, second, third)] == ["RETRIED", "RETRIED", "FAILED"]
        assert [ran.execution.attempt_number for ran in (first, second, third)] == [1, 2, 3]
        assert [ran.execution.parent_id for ran in (second, third)] == [first.execution.id, second.execution.id]
        assert {ran.execution.original_id for ran in (first, second, third)} == {first.execution.id}
        assert third.execution.inputs == {"name": "Ann"}
        assert third.execution.labels["by"] == "hand"
        assert third.execution.labels["team"] == "data"

    def test_the_task_run_and_all_its_ancestors_are_retried(self, desk: Desk) -> None:
        desk.run(a_flow(self.FLOW))

        first, _, third = self.all_of(desk, 3)
        assert states(first) == {"both": "RETRIED", "first": "SUCCESS", "flaky": "RETRIED"}
        assert states(third) == {"both": "FAILED", "first": "SUCCESS", "flaky": "FAILED", "mend": "SUCCESS"}

    def test_it_starts_when_its_time_has_come(self, desk: Desk) -> None:
        desk.run(a_flow(self.FLOW))

        first, second, _ = self.all_of(desk, 3)
        failed_at = first.run_of("flaky").attempts[-1].history[-1].date
        began_at = next(change.date for change in second.execution.history if change.state is State.RUNNING)
        assert began_at - failed_at >= timedelta(seconds=0.05)


class TestSection13Branches:
    def test_branches_run_from_the_inside_out(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: outer
                type: io.kestra.plugin.core.flow.Sequential
                tasks:
                  - id: inner
                    type: io.kestra.plugin.core.flow.Sequential
                    tasks:
                      - id: bad
                        type: io.kestra.plugin.core.execution.Fail
                        retry: {type: constant, interval: PT0.01S, maxAttempts: 2}
                    errors:
                      - {id: inner_errors, type: io.kestra.plugin.core.debug.Return, format: x}
                    finally:
                      - {id: inner_finally, type: io.kestra.plugin.core.debug.Return, format: x}
                errors:
                  - {id: outer_errors, type: io.kestra.plugin.core.debug.Return, format: x}
                finally:
                  - {id: outer_finally, type: io.kestra.plugin.core.debug.Return, format: x}
              - {id: never, type: io.kestra.plugin.core.debug.Return, format: x}
            errors:
              - {id: errors, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.state }}"}
            finally:
              - {id: last, type: io.kestra.plugin.core.debug.Return, format: x}
            afterExecution:
              - {id: after, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.state }}"}
            """)
        )

        assert ran.state == "FAILED"
        assert order(ran) == [
            *("outer", "inner", "bad", "inner_errors", "inner_finally"),
            *("outer_errors", "outer_finally", "errors", "last", "after"),
        ]
        assert (value(ran, "errors"), value(ran, "after")) == ("RUNNING", "FAILED")
        assert ran.run_of("inner_errors").parent_id == ran.run_of("inner").id
        assert ran.run_of("errors").parent_id is None

    def test_errors_tasks_may_fail_and_have_no_errors_of_their_own(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks: [{id: bad, type: io.kestra.plugin.core.execution.Fail}]
            errors:
              - {id: worse, type: io.kestra.plugin.core.execution.Fail}
              - {id: never, type: io.kestra.plugin.core.debug.Return, format: x}
            finally: [{id: last, type: io.kestra.plugin.core.debug.Return, format: x}]
            """)
        )

        assert (ran.state, states(ran)) == ("FAILED", {"bad": "FAILED", "worse": "FAILED", "last": "SUCCESS"})

    def test_errors_tasks_see_what_went_wrong(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks: [{id: bad, type: io.kestra.plugin.core.execution.Fail, errorMessage: no luck}]
            errors:
              - id: tell
                type: io.kestra.plugin.core.debug.Return
                format: "{{ errorLogs()[0].message }} in {{ errorLogs()[0].taskId }}"
            """)
        )

        assert value(ran, "tell") == "no luck in bad"

    def test_finally_runs_after_a_success_too_and_is_no_part_of_it(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks: [{id: good, type: io.kestra.plugin.core.debug.Return, format: x}]
            finally:
              - id: last
                type: io.kestra.plugin.core.execution.Fail
                allowFailure: true
            """)
        )

        assert (ran.state, states(ran)) == ("SUCCESS", {"good": "SUCCESS", "last": "WARNING"})

    def test_finally_does_not_run_after_a_kill(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow(f"""
            tasks: [{ENDLESS}]
            errors: [{{id: mend, type: {RETURN}, format: x}}]
            finally: [{{id: last, type: {RETURN}, format: x}}]
            """)
        )
        desk.until_task_state(execution_id, "endless", "RUNNING")

        desk.kill(execution_id)

        ran = desk.wait(execution_id)
        assert (ran.state, states(ran)) == ("KILLED", {"endless": "KILLED"})

    @pytest.mark.parametrize(("condition", "state"), [("false", "SUCCESS"), ("true", "FAILED")])
    def test_after_execution_tasks_see_the_state_and_change_nothing(
        self, desk: Desk, condition: str, state: str
    ) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks: [{{id: a, type: io.kestra.plugin.core.execution.Fail, condition: "{condition}"}}]
            afterExecution:
              - {{id: tell, type: {RETURN}, format: "{{{{ execution.state }}}}"}}
              - {{id: skipped, type: {RETURN}, format: x, runIf: "{{{{ execution.state == 'KILLED' }}}}"}}
              - {{id: bad, type: io.kestra.plugin.core.execution.Fail, runIf: "{{{{ execution.state == '{state}' }}}}"}}
            """)
        )

        assert (ran.state, history(ran)[-1]) == (state, state)
        assert value(ran, "tell") == state
        assert (states(ran)["bad"], states(ran)["skipped"]) == ("FAILED", "SKIPPED")

    def test_listeners_run_when_their_conditions_hold(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks: [{id: bad, type: io.kestra.plugin.core.execution.Fail}]
            listeners:
              - conditions:
                  - type: io.kestra.plugin.core.condition.ExecutionStatus
                    in: [FAILED, WARNING]
                tasks:
                  - {id: alarm, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.state }}"}
              - conditions:
                  - type: io.kestra.core.models.conditions.types.ExecutionStatusCondition
                    in: [SUCCESS]
                tasks:
                  - {id: joy, type: io.kestra.plugin.core.debug.Return, format: x}
              - tasks:
                  - {id: always, type: io.kestra.plugin.core.execution.Fail}
                  - {id: never, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        assert (ran.state, history(ran)[-1]) == ("FAILED", "FAILED")
        assert states(ran) == {"bad": "FAILED", "alarm": "SUCCESS", "always": "FAILED"}
        assert value(ran, "alarm") == "FAILED"

    def test_a_kill_ends_what_follows_and_leaves_the_state(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow(f"""
            tasks: [{{id: a, type: {RETURN}, format: x}}]
            afterExecution: [{ENDLESS}]
            """)
        )
        desk.until_task_state(execution_id, "endless", "RUNNING")

        desk.kill(execution_id)

        ran = desk.wait(execution_id)
        assert (ran.state, states(ran)) == ("SUCCESS", {"a": "SUCCESS", "endless": "KILLED"})

    def test_outputs_of_the_flow_are_given_however_it_ends(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: "7"}
              - {id: bad, type: io.kestra.plugin.core.execution.Fail}
            outputs: [{id: n, type: INT, value: "{{ outputs.a.value }}"}]
            """)
        )

        assert (ran.state, ran.execution.outputs) == ("FAILED", {"n": 7})

    @pytest.mark.parametrize("written", ["{{ nope }}", "many"])
    def test_outputs_of_the_flow_that_cannot_be_given_fail_it(self, desk: Desk, written: str) -> None:
        ran = desk.run(
            a_flow(f"""
            tasks: [{{id: a, type: {RETURN}, format: x}}]
            outputs: [{{id: n, type: INT, value: "{written}"}}]
            """)
        )

        assert ran.state == "FAILED"
        assert states(ran) == {"a": "SUCCESS"}


class TestSection14Actions:
    CHAIN = """
        tasks:
          - {id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ taskrun.startDate }}"}
          - {id: b, type: io.kestra.plugin.core.execution.Fail, condition: "{{ execution.id == execution.originalId }}"}
          - {id: c, type: io.kestra.plugin.core.debug.Return, format: "{{ outputs.a.value }}"}
    """

    def test_labels_may_be_given_at_a_start_but_not_those_of_the_system(self, desk: Desk) -> None:
        text = a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: '{{ labels.who }}'}]")

        ran = desk.run(text, labels={"who": "me", "system.correlationId": "known"})

        assert value(ran, "a") == "me"
        assert ran.execution.labels == {"who": "me", "system.correlationId": "known"}
        with pytest.raises(UserError):
            desk.start(text, labels={"system.app": "x"})

    def test_an_execution_for_later_stays_created_until_then(self, desk: Desk) -> None:
        at = datetime.now(UTC) + timedelta(seconds=0.5)
        text = a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]")

        execution_id = desk.start(text, schedule_date=at)

        assert desk.state(execution_id) == "CREATED"
        ran = desk.wait(execution_id)
        assert ran.state == "SUCCESS"
        assert ran.execution.history[1].date >= at

    def test_an_execution_for_later_can_be_forced_or_killed(self, desk: Desk) -> None:
        text = a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]")
        forced, killed = (desk.start(text, schedule_date=datetime.now(UTC) + HOUR) for _ in range(2))

        desk.force_run(forced)
        desk.kill(killed)

        assert desk.wait(forced).state == "SUCCESS"
        assert (desk.wait(killed).state, desk.ran(killed).runs) == ("KILLED", [])

    def test_a_restart_goes_on_at_what_failed_with_the_same_ids(self, desk: Desk) -> None:
        first = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: x}
              - id: both
                type: io.kestra.plugin.core.flow.Sequential
                tasks:
                  - {id: flaky, type: io.kestra.plugin.core.kv.Get, key: luck, errorOnMissing: true}
                errors:
                  - {id: local, type: io.kestra.plugin.core.kv.Set, key: luck, value: some}
            errors:
              - {id: mend, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        desk.restart(first.execution.id)
        again = desk.wait(first.execution.id)

        assert (first.state, again.state) == ("FAILED", "SUCCESS")
        assert history(again)[:6] == ["CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING", "SUCCESS"]
        assert states(again) == {"a": "SUCCESS", "both": "SUCCESS", "flaky": "SUCCESS"}
        assert again.run_of("flaky").id == first.run_of("flaky").id
        assert again.run_of("a").history == first.run_of("a").history
        assert again.execution.attempt_number == 2

    def test_a_restart_after_a_success_is_refused(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]"))

        with pytest.raises(UserError):
            desk.restart(ran.execution.id)

    def test_a_restart_goes_on_after_a_kill(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: x}
              - {id: slow, type: io.kestra.plugin.core.flow.Sleep, duration: "PT{{ kv('seconds') ?? 3600 }}S"}
            """)
        )
        desk.until_task_state(execution_id, "slow", "RUNNING")
        desk.kill(execution_id)
        first = desk.wait(execution_id)
        desk.run(a_flow("tasks: [{id: s, type: io.kestra.plugin.core.kv.Set, key: seconds, value: '0'}]", id="luck"))

        desk.restart(execution_id)

        again = desk.wait(execution_id)
        assert (first.state, again.state) == ("KILLED", "SUCCESS")
        assert again.run_of("a").history == first.run_of("a").history

    def test_a_restart_with_another_revision_stays_the_same_execution(self, desk: Desk) -> None:
        """Kestra makes another one; ours keeps its id, and with it the directories that its tasks left."""
        first = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ taskrun.id }}"}
              - {id: b, type: io.kestra.plugin.core.execution.Fail}
            """)
        )
        desk.save(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: other}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: "{{ outputs.a.value }}"}
            """)
        )

        new = desk.restart(first.execution.id, revision=2)
        second = desk.wait(new.id)

        assert new.id == first.execution.id
        assert (second.state, second.execution.revision) == ("SUCCESS", 2)
        assert value(second, "b") == value(first, "a")
        assert second.run_of("a").id == first.run_of("a").id

    def test_a_replay_from_scratch_has_the_same_inputs_and_labels(self, desk: Desk) -> None:
        first = desk.run(
            a_flow("""
            inputs: [{id: n, type: INT}]
            tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ inputs.n + 1 }}"}]
            """),
            {"n": 4},
            labels={"who": "me"},
        )

        second = desk.wait(desk.replay(first.execution.id).id)

        assert second.execution.id != first.execution.id
        assert (second.state, value(second, "a")) == ("SUCCESS", "5")
        assert second.execution.labels["who"] == "me"
        assert second.execution.parent_id == first.execution.id
        assert second.execution.original_id == first.execution.id

    def test_a_replay_from_a_task_copies_what_came_before(self, desk: Desk) -> None:
        first = desk.run(a_flow(self.CHAIN))

        second = desk.wait(desk.replay(first.execution.id, task_run_id=first.run_of("b").id).id)

        assert (first.state, second.state) == ("FAILED", "SUCCESS")
        assert value(second, "a") == value(second, "c") == value(first, "a")
        assert second.run_of("a").id != first.run_of("a").id
        assert second.run_of("a").execution_id == second.execution.id
        assert history(second.run_of("b"))[-1] == "SUCCESS"

    def test_a_replay_from_a_task_removes_what_came_after(self, desk: Desk) -> None:
        first = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: x}
              - id: each
                type: io.kestra.plugin.core.flow.ForEach
                values: [u, v]
                tasks:
                  - {id: b, type: io.kestra.plugin.core.debug.Return, format: "{{ taskrun.value }}"}
                  - {id: c, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.id }}"}
              - {id: d, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.id }}"}
            """)
        )
        [_, b_of_v] = runs_of(first, "b")

        second = desk.wait(desk.replay(first.execution.id, task_run_id=b_of_v.id).id)

        assert second.state == "SUCCESS"
        assert [run.outputs["value"] for run in runs_of(second, "c")] == [first.execution.id, second.execution.id]
        assert value(second, "d") == second.execution.id

    def test_a_replay_inside_a_working_directory_does_it_all_again(self, desk: Desk) -> None:
        first = desk.run(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.id }}"}
              - id: wd
                type: io.kestra.plugin.core.flow.WorkingDirectory
                tasks:
                  - {id: b, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.id }}"}
                  - {id: c, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.id }}"}
            """)
        )

        second = desk.wait(desk.replay(first.execution.id, task_run_id=first.run_of("c").id).id)

        new = second.execution.id
        assert [value(second, name) for name in "abc"] == [first.execution.id, new, new]

    def test_a_replay_may_run_another_revision(self, desk: Desk) -> None:
        first = desk.run(a_flow(self.CHAIN))
        desk.save(
            a_flow(
                self.CHAIN.rstrip() + "\n          - {id: d, type: io.kestra.plugin.core.debug.Return, format: new}\n"
            )
        )

        second = desk.wait(desk.replay(first.execution.id, task_run_id=first.run_of("b").id, revision=2).id)

        assert (second.execution.revision, value(second, "d")) == (2, "new")

    def test_a_pause_by_hand_lets_running_tasks_end_and_starts_nothing(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.2S}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )
        desk.until_task_state(execution_id, "a", "RUNNING")

        desk.pause(execution_id)

        assert desk.state(execution_id) == "PAUSED"
        ran = desk.until_task_state(execution_id, "a", "SUCCESS")
        assert (ran.state, states(ran)) == ("PAUSED", {"a": "SUCCESS"})
        desk.resume(execution_id)
        assert states(desk.wait(execution_id)) == {"a": "SUCCESS", "b": "SUCCESS"}

    def test_a_kill_reaches_the_executions_of_subflows_unless_told_otherwise(self, desk: Desk) -> None:
        desk.save(a_flow(f"tasks: [{ENDLESS}]", id="child"))
        parent = a_flow("""
            tasks:
              - {id: call, type: io.kestra.plugin.core.flow.Subflow, namespace: company.team, flowId: child}
        """)
        with_it, without_it = desk.start(parent), desk.start(parent)
        until(lambda: [one.state for one in desk.executions("child")] == ["RUNNING", "RUNNING"])

        desk.kill(with_it)
        desk.kill(without_it, cascade=False)

        assert desk.wait(with_it).state == "KILLED"
        assert desk.wait(without_it).state == "KILLED"
        by_parent = {
            execution.trigger["variables"]["executionId"]: execution  # type: ignore[index,call-overload]
            for execution in desk.executions("child")
        }
        assert desk.wait(by_parent[with_it].id).state == "KILLED"
        assert desk.state(by_parent[without_it].id) == "RUNNING"
        desk.kill(by_parent[without_it].id)
        desk.wait(by_parent[without_it].id)

    def test_an_ended_execution_may_get_another_final_state(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.execution.Fail}]"))

        desk.change_status(ran.execution.id, State.SUCCESS)

        again = desk.ran(ran.execution.id)
        assert (again.state, history(again)) == ("SUCCESS", ["CREATED", "RUNNING", "FAILED", "SUCCESS"])
        with pytest.raises(UserError):
            desk.change_status(ran.execution.id, State.RUNNING)

    def test_a_task_run_may_get_another_state_and_the_execution_goes_on(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: both
                type: io.kestra.plugin.core.flow.Sequential
                tasks:
                  - {id: a, type: io.kestra.plugin.core.execution.Fail}
                  - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
              - {id: c, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )

        desk.change_task_state(ran.execution.id, ran.run_of("a").id, State.SUCCESS)

        again = desk.wait(ran.execution.id)
        assert states(again) == {"both": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}
        assert history(again)[2:5] == ["FAILED", "RESTARTED", "RUNNING"]
        assert again.run_of("a").attempts[-1].state == "SUCCESS"

    def test_labels_may_be_set_at_any_time(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(PAUSED_FLOW), labels={"a": "1"})
        desk.until_state(execution_id, "PAUSED")

        desk.set_labels(execution_id, {"a": "2", "b": "3"})

        labels = desk.ran(execution_id).execution.labels
        assert (labels["a"], labels["b"]) == ("2", "3")
        with pytest.raises(UserError):
            desk.set_labels(execution_id, {"system.app": "x"})
        desk.kill(execution_id)
        desk.wait(execution_id)
        desk.set_labels(execution_id, {"b": "4"})
        assert desk.ran(execution_id).execution.labels["b"] == "4"

    def test_forcing_a_paused_execution_resumes_it(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(PAUSED_FLOW))
        desk.until_state(execution_id, "PAUSED")

        desk.force_run(execution_id)

        assert desk.wait(execution_id).state == "SUCCESS"

    def test_an_ended_execution_can_be_deleted(self, desk: Desk) -> None:
        running = desk.start(a_flow(PAUSED_FLOW))
        desk.until_state(running, "PAUSED")
        with pytest.raises(UserError):
            desk.delete(running)
        desk.kill(running)
        desk.wait(running)

        desk.delete(running)

        with pytest.raises(NotFoundError):
            desk.ran(running)

    def test_a_start_that_passes_while_nobody_is_there_counts(self, desk: Desk) -> None:
        at = datetime.now(UTC) + timedelta(seconds=0.2)
        text = a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]")
        execution_id = desk.start(text, schedule_date=at)

        desk.home.close()

        assert desk.wait(execution_id).state == "SUCCESS"

    def test_a_pause_by_hand_survives_the_process(self, desk: Desk) -> None:
        execution_id = desk.start(
            a_flow("""
            tasks:
              - {id: a, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.1S}
              - {id: b, type: io.kestra.plugin.core.debug.Return, format: x}
            """)
        )
        desk.until_task_state(execution_id, "a", "RUNNING")
        desk.pause(execution_id)
        desk.until_task_state(execution_id, "a", "SUCCESS")

        desk.home.close()

        assert desk.state(execution_id) == "PAUSED"
        desk.resume(execution_id)
        assert states(desk.wait(execution_id)) == {"a": "SUCCESS", "b": "SUCCESS"}

    def test_a_restart_runs_what_follows_the_end_again(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks: [{id: look, type: io.kestra.plugin.core.kv.Get, key: luck, errorOnMissing: true}]
            finally: [{id: last, type: io.kestra.plugin.core.kv.Set, key: luck, value: x}]
            afterExecution: [{id: after, type: io.kestra.plugin.core.debug.Return, format: "{{ execution.state }}"}]
            """)
        )

        desk.restart(ran.execution.id)

        again = desk.wait(ran.execution.id)
        assert (value(ran, "after"), value(again, "after")) == ("FAILED", "SUCCESS")
        assert states(again) == {"look": "SUCCESS", "last": "SUCCESS", "after": "SUCCESS"}

    def test_a_paused_execution_can_be_restarted_and_pauses_again(self, desk: Desk) -> None:
        execution_id = desk.start(a_flow(PAUSED_FLOW))
        desk.until_state(execution_id, "PAUSED")

        desk.restart(execution_id)

        again = desk.until_state(execution_id, "PAUSED")
        waited = [change.state.value for change in again.run_of("wait").history]
        assert waited == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING", "PAUSED"]
        desk.resume(execution_id)
        assert states(desk.wait(execution_id)) == {"wait": "SUCCESS", "after": "SUCCESS"}

    @pytest.mark.parametrize("has_ended", [False, True])
    def test_a_kill_reaches_the_executions_that_nobody_waits_for(self, desk: Desk, has_ended: bool) -> None:
        desk.save(a_flow(f"tasks: [{ENDLESS}]", id="child"))
        last = f"- {{id: a, type: {RETURN}, format: x}}" if has_ended else f"- {ENDLESS}"
        execution_id = desk.start(
            a_flow(f"""
            tasks:
              - id: call
                type: io.kestra.plugin.core.flow.Subflow
                namespace: company.team
                flowId: child
                wait: false
              {last}
            """)
        )
        until(lambda: [one.state for one in desk.executions("child")] == ["RUNNING"])
        desk.until_task_state(execution_id, "a" if has_ended else "endless", "SUCCESS" if has_ended else "RUNNING")
        if has_ended:
            desk.wait(execution_id)

        desk.kill(execution_id)

        assert desk.wait(execution_id).state == ("SUCCESS" if has_ended else "KILLED")
        assert desk.only("child").state == "KILLED"

    def test_an_execution_that_has_not_ended_can_be_replayed(self, desk: Desk) -> None:
        first = desk.start(a_flow(PAUSED_FLOW))
        desk.until_state(first, "PAUSED")

        second = desk.replay(first).id

        desk.until_state(second, "PAUSED")
        assert desk.state(first) == "PAUSED"
        desk.resume(second)
        assert desk.wait(second).state == "SUCCESS"


class TestSection15Concurrency:
    def limited(self, behavior: str | None, limit: int = 1) -> str:
        given = "" if behavior is None else f", behavior: {behavior}"
        return a_flow(f"concurrency: {{limit: {limit}{given}}}\n" + dedent(PAUSED_FLOW))

    @pytest.mark.parametrize("behavior", [None, "QUEUE"])
    def test_those_over_the_limit_wait_for_their_turn(self, desk: Desk, behavior: str | None) -> None:
        text = self.limited(behavior)
        first = desk.start(text)
        desk.until_state(first, "PAUSED")
        second, third = desk.start(text), desk.start(text)
        desk.until_state(second, "QUEUED")
        desk.until_state(third, "QUEUED")

        desk.resume(first)
        desk.until_state(second, "PAUSED")

        assert desk.wait(first).state == "SUCCESS"
        assert desk.state(third) == "QUEUED"
        assert desk.ran(third).runs == []
        desk.resume(second)
        desk.until_state(third, "PAUSED")
        desk.resume(third)
        assert history(desk.wait(third))[:3] == ["CREATED", "QUEUED", "RUNNING"]

    @pytest.mark.parametrize(("behavior", "state"), [("CANCEL", "CANCELLED"), ("FAIL", "FAILED")])
    def test_those_over_the_limit_may_end_instead(self, desk: Desk, behavior: str, state: str) -> None:
        text = self.limited(behavior)
        first = desk.start(text)
        desk.until_state(first, "PAUSED")

        second = desk.run(text)

        assert (second.state, second.runs) == (state, [])
        assert (messages(second, "ERROR") != []) is (behavior == "FAIL")
        desk.resume(first)
        assert desk.wait(first).state == "SUCCESS"
        third = desk.start(text)
        desk.until_state(third, "PAUSED")

    def test_a_kill_frees_the_slot(self, desk: Desk) -> None:
        text = self.limited(None)
        first = desk.start(text)
        desk.until_state(first, "PAUSED")
        second = desk.start(text)
        desk.until_state(second, "QUEUED")

        desk.kill(first)

        assert desk.wait(first).state == "KILLED"
        desk.until_state(second, "PAUSED")

    def test_one_that_waits_can_be_killed_and_takes_no_slot(self, desk: Desk) -> None:
        text = self.limited(None)
        first = desk.start(text)
        desk.until_state(first, "PAUSED")
        second, third = desk.start(text), desk.start(text)
        desk.until_state(third, "QUEUED")

        desk.kill(second)

        ran = desk.wait(second)
        assert (ran.state, ran.runs) == ("KILLED", [])
        assert desk.state(third) == "QUEUED"
        desk.resume(first)
        desk.until_state(third, "PAUSED")

    def test_one_that_waits_may_be_let_in_over_the_limit(self, desk: Desk) -> None:
        text = self.limited(None)
        first = desk.start(text)
        desk.until_state(first, "PAUSED")
        second = desk.start(text)
        desk.until_state(second, "QUEUED")

        desk.force_run(second)

        desk.until_state(second, "PAUSED")
        assert desk.state(first) == "PAUSED"

    def test_a_limit_of_two_lets_two_in(self, desk: Desk) -> None:
        text = self.limited(None, limit=2)
        first, second = desk.start(text), desk.start(text)
        desk.until_state(first, "PAUSED")
        desk.until_state(second, "PAUSED")

        third = desk.start(text)

        desk.until_state(third, "QUEUED")

    def test_other_flows_do_not_count(self, desk: Desk) -> None:
        first = desk.start(self.limited(None))
        desk.until_state(first, "PAUSED")

        other = desk.run(
            a_flow(
                "concurrency: {limit: 1}\ntasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]",
                id="other",
            )
        )

        assert other.state == "SUCCESS"

    def test_turns_are_kept_over_the_end_of_the_process(self, desk: Desk) -> None:
        text = self.limited(None)
        first = desk.start(text)
        desk.until_state(first, "PAUSED")
        second = desk.start(text)
        desk.until_state(second, "QUEUED")

        desk.home.close()

        assert (desk.state(first), desk.state(second)) == ("PAUSED", "QUEUED")
        desk.resume(first)
        desk.until_state(second, "PAUSED")

    def test_a_restarted_execution_counts_too(self, desk: Desk) -> None:
        text = a_flow("""
            concurrency: {limit: 1, behavior: FAIL}
            tasks:
              - {id: look, type: io.kestra.plugin.core.kv.Get, key: luck, errorOnMissing: true}
              - {id: wait, type: io.kestra.plugin.core.flow.Pause}
        """)
        first = desk.run(text)
        desk.run(a_flow("tasks: [{id: s, type: io.kestra.plugin.core.kv.Set, key: luck, value: x}]", id="luck"))

        desk.restart(first.execution.id)
        desk.until_state(first.execution.id, "PAUSED")

        assert desk.run(text).runs == []

    def test_twenty_at_once_take_their_turns(self, desk: Desk) -> None:
        text = a_flow("""
            concurrency: {limit: 3}
            tasks: [{id: a, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.02S}]
        """)

        started = [desk.start(text) for _ in range(20)]

        ended_runs = [desk.wait(execution_id).run_of("a") for execution_id in started]
        assert {run.state for run in ended_runs} == {State.SUCCESS}
        assert at_once(ended_runs) <= 3


class TestSection16Sla:
    @pytest.mark.parametrize(("behavior", "state"), [("FAIL", "FAILED"), ("CANCEL", "CANCELLED")])
    def test_an_execution_that_takes_too_long_ends(self, desk: Desk, behavior: str, state: str) -> None:
        ran = desk.run(
            a_flow(f"""
            sla:
              - {{id: quick, type: MAX_DURATION, duration: PT0.1S, behavior: {behavior}, labels: {{sla: missed}}}}
            tasks:
              - {ENDLESS}
              - {{id: next, type: {RETURN}, format: x}}
            """)
        )

        assert ran.state == state
        assert ran.execution.labels["sla"] == "missed"
        assert ran.run_of("endless").state.is_terminal
        assert "next" not in states(ran)
        assert any("quick" in message for message in messages(ran, "WARN"))

    def test_a_violation_may_only_be_noted(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            sla: [{id: quick, type: MAX_DURATION, duration: PT0.05S, behavior: NONE, labels: {sla: missed}}]
            tasks: [{id: slow, type: io.kestra.plugin.core.flow.Sleep, duration: PT0.3S}]
            """)
        )

        assert (ran.state, ran.execution.labels["sla"]) == ("SUCCESS", "missed")

    def test_one_that_is_quick_enough_is_left_alone(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            sla: [{id: quick, type: MAX_DURATION, duration: PT1H, behavior: FAIL, labels: {sla: missed}}]
            tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]
            """)
        )

        assert (ran.state, "sla" in ran.execution.labels) == ("SUCCESS", False)

    def test_an_assertion_is_looked_at_with_every_change(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow(f"""
            sla:
              - id: right
                type: EXECUTION_ASSERTION
                assert: "{{{{ (outputs.a.value ?? 'good') == 'good' }}}}"
                behavior: FAIL
                labels: {{sla: wrong}}
            tasks:
              - {{id: a, type: {RETURN}, format: bad}}
              - {ENDLESS}
            """)
        )

        assert (ran.state, ran.execution.labels["sla"]) == ("FAILED", "wrong")

    def test_an_assertion_that_cannot_be_rendered_is_passed_over(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            sla: [{id: right, type: EXECUTION_ASSERTION, assert: "{{ nope }}", behavior: FAIL}]
            tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]
            """)
        )

        assert ran.state == "SUCCESS"

    def test_only_the_first_violation_acts(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            sla:
              - {id: soon, type: MAX_DURATION, duration: PT0.05S, behavior: CANCEL, labels: {first: "yes"}}
              - {id: later, type: MAX_DURATION, duration: PT0.06S, behavior: FAIL, labels: {second: "yes"}}
            tasks: [{id: slow, type: io.kestra.plugin.core.flow.Sleep, duration: PT1H}]
            """)
        )

        assert ran.state == "CANCELLED"
        assert "second" not in ran.execution.labels


class TestSection17Context:
    def rendered(self, desk: Desk, template: str, before: str = "") -> object:
        """What a template gives in a task of a flow."""
        task = json.dumps({"id": "show", "type": RETURN, "format": template})
        return value(desk.run(a_flow(dedent(before) + f"tasks:\n  - {task}\n")), "show")

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            ("{{ flow.id }} {{ flow.namespace }} {{ flow.revision }}", "main company.team 1"),
            ("{{ task.id }} {{ task.type }}", f"show {RETURN}"),
            ("{{ taskrun.attemptsCount }}", "0"),
            ("{{ execution.id == execution.originalId }}", "true"),
            ("{{ execution.state }}", "RUNNING"),
            ("{{ execution.startDate | date('yyyy') > '2000' }}", "true"),
        ],
    )
    def test_what_every_task_sees(self, desk: Desk, template: str, text: str) -> None:
        assert self.rendered(desk, template) == text

    def test_vars_are_not_rendered_by_themselves(self, desk: Desk) -> None:
        before = """
            variables: {plain: a, later: "{{ flow.id }}", deep: {er: 1}}
        """

        assert self.rendered(desk, "{{ vars.plain }}{{ vars.deep.er }}{{ render(vars.later) }}", before) == "a1main"

    def test_labels_with_dots_of_the_system_are_nested(self, desk: Desk) -> None:
        before = "labels: {team: data}\n"

        found = self.rendered(desk, "{{ labels.team }} {{ labels.system.correlationId == execution.id }}", before)

        assert found == "data true"

    def test_what_is_not_there_fails_the_task(self, desk: Desk) -> None:
        ran = desk.run(a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: '{{ nope.x }}'}]"))

        assert ran.state == "FAILED"
        assert "nope" in ran.run_of("a").message

    def test_environment_variables_with_the_prefix_are_seen(self, home: Home) -> None:
        text = a_flow("tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: '{{ envs.my_word }}'}]")

        assert value(home.run(text, env={"KESTRA_MY_WORD": "hello"}), "a") == "hello"

    def test_outputs_are_found_under_the_values_of_loops_outermost_first(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: outer
                type: io.kestra.plugin.core.flow.ForEach
                values: [a, b]
                tasks:
                  - id: inner
                    type: io.kestra.plugin.core.flow.ForEach
                    values: [x, y]
                    tasks:
                      - id: leaf
                        type: io.kestra.plugin.core.debug.Return
                        format: "{{ parent.taskrun.value }}{{ taskrun.value }}{{ parents | length }}"
                  - {id: flat, type: io.kestra.plugin.core.debug.Return, format: "{{ taskrun.value }}"}
              - id: show
                type: io.kestra.plugin.core.debug.Return
                format: "{{ outputs.leaf.b.x.value }} {{ outputs.flat['a'].value }} {{ tasks.flat.b.state }}"
            """)
        )

        assert value(ran, "show") == "bx1 a SUCCESS"

    def test_execution_variables_are_seen_under_vars(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            variables: {a: {kept: 1, replaced: 2}}
            tasks:
              - id: set
                type: io.kestra.plugin.core.execution.SetVariables
                variables: {a: {replaced: 3}, b: new}
              - id: show
                type: io.kestra.plugin.core.debug.Return
                format: "{{ vars.a.kept }} {{ vars.a.replaced }} {{ vars.b }} {{ b }}"
            """)
        )

        assert value(ran, "show") == "1 3 new new"

    def test_children_of_a_working_directory_see_its_task_run(self, desk: Desk) -> None:
        ran = desk.run(
            a_flow("""
            tasks:
              - id: wd
                type: io.kestra.plugin.core.flow.WorkingDirectory
                tasks:
                  - {id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ workerTaskrun.id }}"}
            """)
        )

        assert value(ran, "a") == ran.run_of("wd").id
