"""The embedded engine as a whole: executor, worker, store and plugins in one process."""

import gc
import sqlite3
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pytest

from tercel.errors import InvalidInputError, NotFoundError, UserError
from tercel.model import Execution, LogEntry, LogLevel, State, TaskRun
from tercel.operations import new_execution_id
from tercel.server import Engine, Home, open_home, read_home
from tercel.settings import Settings, read_settings
from tercel.store import ExecutionQuery
from tests.flows import echo, fail, flow, for_each, sh, wd


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings({"TERCEL_SYNCHRONOUS": "NORMAL", "TERCEL_SLOTS": "4"}, home=tmp_path / "home")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with open_home(settings) as opened:
        yield opened


def start(engine: Engine, text: str, **given: object) -> Execution:
    saved = engine.call(engine.operations.save_flow(text))
    return engine.call(engine.operations.start(saved, **given))  # pyright: ignore[reportArgumentType]


def finish(engine: Engine, text: str, **given: object) -> tuple[Execution, dict[str, TaskRun]]:
    execution = engine.call(engine.operations.wait(start(engine, text, **given).id))
    return execution, {each.task_id: each for each in engine.call(engine.queries.task_runs(execution.id))}


def messages(home: Home, execution_id: str, level: LogLevel = LogLevel.INFO) -> list[str]:
    return [entry.message for entry in home.call(home.queries.logs(execution_id, min_level=level)).entries]


class TestRunning:
    def test_given_scripts_and_inline_tasks_then_outputs_flow_between_them(self, engine: Engine) -> None:
        text = flow(
            echo("first", "from {{ flow.id }}"),
            sh("second", "echo 'got {{ outputs.first.value }}'", """echo '::{"outputs": {"n": 7}}::'"""),
            echo("third", "{{ outputs.second.vars.n }}"),
            outputs=[{"id": "n", "type": "STRING", "value": "{{ outputs.third.value }}"}],
        )

        execution, runs = finish(engine, text)

        assert execution.state is State.SUCCESS
        assert execution.outputs == {"n": "7"}
        assert runs["third"].outputs == {"value": "7"}
        assert "got from scenario" in messages(engine, execution.id)
        assert execution.labels == {"system.correlationId": execution.id}

    def test_given_a_wide_loop_of_scripts_then_all_slots_are_used_and_all_end(self, engine: Engine) -> None:
        text = flow(
            for_each("loop", "{{ range(1, 12) | toJson }}", sh("task", "echo {{ taskrun.value }}"), concurrencyLimit=0)
        )

        execution, _ = finish(engine, text)

        assert execution.state is State.SUCCESS
        assert sorted(map(int, messages(engine, execution.id))) == list(range(1, 13))

    def test_given_a_failure_then_the_message_is_on_the_task_run_and_in_the_log(self, engine: Engine) -> None:
        execution, runs = finish(engine, flow(fail("no", errorMessage="as {{ flow.id }} asked"), echo("never", "x")))

        assert execution.state is State.FAILED
        assert runs["no"].message == "as scenario asked"
        assert "as scenario asked" in messages(engine, execution.id, LogLevel.ERROR)

    def test_given_a_watcher_then_changes_and_lines_come_as_they_happen(self, engine: Engine) -> None:
        states: list[tuple[str, str]] = []
        lines: list[str] = []

        def changed(execution: Execution, runs: Sequence[TaskRun]) -> None:
            states.extend((each.task_id, each.state.value) for each in runs)

        def logged(entries: Sequence[LogEntry]) -> None:
            lines.extend(entry.message for entry in entries)

        stop = engine.watch(changed, logged)
        text = flow(wd(sh("one", "echo hello; sleep 0.15"), sh("two", "echo bye"), id="box"))
        execution, _ = finish(engine, text)
        messages(engine, execution.id)
        stop()

        assert states.index(("one", "RUNNING")) < states.index(("one", "SUCCESS")) < states.index(("box", "SUCCESS"))
        assert lines.index("hello") < lines.index("bye")


class TestInputs:
    DECLARED = [{"id": "name", "type": "STRING"}, {"id": "data", "type": "FILE", "required": False}]

    def test_given_a_local_file_then_tasks_read_it_from_internal_storage(self, engine: Engine, tmp_path: Path) -> None:
        path = tmp_path / "some data.csv"
        path.write_text("a,b")
        text = flow(echo("t", "{{ inputs.name }}: {{ read(inputs.data) }}"), inputs=self.DECLARED)

        execution, runs = finish(engine, text, inputs={"name": "Ann"}, files={"data": path})

        assert runs["t"].outputs == {"value": "Ann: a,b"}
        prefix = f"kestra:///tests/scenario/executions/{execution.id}/inputs/data/"
        assert execution.inputs["data"] == f"{prefix}some%20data.csv"

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "Input 'name': a value is missing. Start the flow again with values that fit."),
            ({"inputs": {"nam": "x"}}, "The flow has no input 'nam'. Its inputs are: name, data."),
            (
                {"inputs": {"name": "x"}, "files": {"name": Path("/etc/hosts")}},
                "The flow has no input 'name' of type FILE. Its file inputs are: data.",
            ),
            (
                {"inputs": {"name": "x"}, "labels": {"system.app": "x"}},
                "The label system.app is tercel's own. Only system.correlationId may be given at a start.",
            ),
        ],
    )
    def test_given_inputs_that_do_not_fit_then_nothing_starts(
        self, engine: Engine, given: dict[str, object], message: str
    ) -> None:
        with pytest.raises(InvalidInputError) as caught:
            start(engine, flow(echo("t", "x"), inputs=self.DECLARED), **given)

        assert str(caught.value) == message
        assert engine.call(engine.queries.search_executions(ExecutionQuery())) == []

    def test_given_a_disabled_flow_then_it_does_not_start(self, engine: Engine) -> None:
        with pytest.raises(UserError, match=r"The flow tests\.scenario is disabled\."):
            start(engine, flow(echo("t", "x"), disabled=True))


def test_given_another_home_later_then_what_lives_by_then_is_not_frozen_for_ever(
    settings: Settings, tmp_path: Path
) -> None:
    with open_home(settings):
        frozen = gc.get_freeze_count()
        alive = [[] for _ in range(100_000)]
        with open_home(read_settings({}, home=tmp_path / "other")):
            assert gc.get_freeze_count() < frozen + len(alive)


class TestRevisions:
    def test_given_a_changed_flow_then_a_running_execution_keeps_its_revision(self, engine: Engine) -> None:
        old = start(engine, flow(sh("wait", "sleep 0.2"), echo("after", "old")))
        new, runs = finish(engine, flow(echo("after", "new")))

        ended = engine.call(engine.operations.wait(old.id))

        assert (ended.revision, new.revision) == (1, 2)
        assert runs["after"].outputs == {"value": "new"}
        [after] = [each for each in engine.call(engine.queries.task_runs(old.id)) if each.task_id == "after"]
        assert after.outputs == {"value": "old"}
        assert engine.call(engine.operations.get_flow("tests", "scenario")).revision == 2


class TestKill:
    def test_given_a_kill_then_the_script_ends_and_what_waits_never_starts(self, engine: Engine) -> None:
        execution = start(engine, flow(sh("long", "sleep 60"), echo("after", "x")))
        _until_running(engine, execution.id, "long")
        began = monotonic()

        engine.call(engine.operations.kill(execution.id))
        ended = engine.call(engine.operations.wait(execution.id))

        assert ended.state is State.KILLED
        assert monotonic() - began < 5
        assert [(each.task_id, each.state) for each in engine.call(engine.queries.task_runs(execution.id))] == [
            ("long", State.KILLED)
        ]

    def test_given_more_jobs_than_slots_then_a_kill_reaches_those_that_wait(self, engine: Engine) -> None:
        text = flow(for_each("loop", "{{ range(1, 20) | toJson }}", sh("task", "sleep 60"), concurrencyLimit=0))
        execution = start(engine, text)
        _until_running(engine, execution.id, "task")

        engine.call(engine.operations.kill(execution.id))

        assert engine.call(engine.operations.wait(execution.id)).state is State.KILLED
        runs = engine.call(engine.queries.task_runs(execution.id))
        assert {each.state for each in runs} == {State.KILLED}

    def test_given_no_such_execution_then_a_kill_says_so(self, engine: Engine) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            engine.call(engine.operations.kill("gone"))


def _until_running(engine: Engine, execution_id: str, task_id: str) -> None:
    deadline = monotonic() + 20
    while not any(
        each.task_id == task_id and each.state is State.RUNNING
        for each in engine.call(engine.queries.task_runs(execution_id))
    ):
        assert monotonic() < deadline
        sleep(0.005)


class TestSharing:
    def test_given_two_engines_in_one_home_then_each_runs_its_own_and_both_see_all(self, settings: Settings) -> None:
        with open_home(settings) as one, open_home(settings) as two:
            ended: list[Execution] = []
            threads = [
                Thread(
                    target=lambda engine=engine, id=id: ended.append(finish(engine, flow(sh("t", "echo x"), id=id))[0])
                )
                for engine, id in ((one, "a"), (two, "b"))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)

            assert [execution.state for execution in ended] == [State.SUCCESS] * 2
            assert len(one.call(one.queries.search_executions(ExecutionQuery()))) == 2
            assert one.recovered == two.recovered == []

    def test_given_a_running_engine_then_a_reader_looks_on(self, settings: Settings) -> None:
        with open_home(settings) as engine:
            execution = start(engine, flow(sh("t", "echo hello; sleep 0.3")))
            _until_running(engine, execution.id, "t")
            with read_home(settings) as home:
                assert home.call(home.queries.get_execution(execution.id)).state is State.RUNNING
            engine.call(engine.operations.wait(execution.id))

        with read_home(settings) as home:
            [found] = home.call(home.queries.search_executions(ExecutionQuery(states=[State.SUCCESS])))
            assert found.id == execution.id
            assert messages(home, found.id) == ["hello"]

    def test_given_nothing_was_run_then_a_reader_is_told(self, settings: Settings) -> None:
        with pytest.raises(NotFoundError, match="Nothing was run in this home yet"):
            read_home(settings)


class TestClosing:
    def test_given_a_running_script_when_closing_then_it_ends_and_goes_on_in_the_next(self, settings: Settings) -> None:
        marker = settings.home.parent / "seen"
        text = flow(sh("t", f"test -e {marker} || {{ touch {marker}; sleep 60; }}"))
        with open_home(settings) as first:
            execution = start(first, text)
            deadline = monotonic() + 20
            while not marker.exists():
                assert monotonic() < deadline
                sleep(0.005)
        assert monotonic() < deadline

        with open_home(settings) as second:
            assert second.recovered == [execution.id]
            ended = second.call(second.operations.wait(execution.id))

        assert ended.state is State.SUCCESS

    def test_given_it_was_closed_twice_then_nothing_breaks(self, settings: Settings) -> None:
        engine = open_home(settings)

        engine.close()
        engine.close()

    def test_given_a_closed_engine_then_the_database_is_sound_and_alone(self, settings: Settings) -> None:
        with open_home(settings) as engine:
            finish(engine, flow(echo("t", "x")))

        assert not list(settings.home.glob("*-wal"))
        connection = sqlite3.connect(settings.home / "tercel.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_ids_are_22_letters_and_digits_that_grow() -> None:
    ids = [new_execution_id() for _ in range(2000)]

    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {22}
    assert all(each.isalnum() for each in ids)
    assert [each[:10] for each in ids] == sorted(each[:10] for each in ids)


def test_given_an_expression_that_fails_on_a_secret_then_no_record_quotes_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_WORD", b64encode(b"open-sesame").decode())
    outputs = [{"id": "o", "type": "STRING", "value": "{{ secret('WORD') | number }}"}]
    with open_home(settings) as engine:
        text = flow(echo("a", "x", runIf="{{ secret('WORD') | number > 3 }}"), outputs=outputs)
        execution, runs = finish(engine, text)
        logs = engine.call(engine.queries.logs(execution.id)).entries

    assert execution.state is State.FAILED
    assert "is no number" in runs["a"].message
    assert "open-sesame" not in f"{execution}{runs}{logs}"
