"""What every store has to do."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tercel.errors import NotFoundError
from tercel.model import Attempt, Metric, State
from tercel.store import Changes, ExecutionQuery, StaleExecutionError, Store, run
from tercel.store.embedded import SqliteStore
from tests.builders import NOON, a_history, a_task_run, an_execution

OpenStore = Callable[[str], Store]


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the one store of the test, once for each process that takes part."""
    opened: list[Store] = []

    def open_as(owner: str) -> Store:
        opened.append(SqliteStore(tmp_path / "test.db", owner=owner, synchronous="NORMAL"))
        return opened[-1]

    yield open_as
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store("me")


def save(store: Store, **changes: object) -> None:
    async def committed() -> None:
        async with store.transaction() as tx:
            store.executions.save(tx, Changes(**changes))  # pyright: ignore[reportArgumentType]

    run(committed())


class TestFlows:
    def test_given_the_same_text_then_the_revision_stays_and_with_another_it_grows(self, store: Store) -> None:
        first = store.flows.save("company.team", "flow", "id: flow\n", NOON).wait(10)
        same = store.flows.save("company.team", "flow", "id: flow\r\n\n", NOON + timedelta(hours=1)).wait(10)
        comment = store.flows.save("company.team", "flow", "id: flow # new\n", NOON).wait(10)
        back = store.flows.save("company.team", "flow", "id: flow\n", NOON).wait(10)

        assert (first.revision, same, comment.revision, back.revision) == (1, first, 2, 3)
        assert run(store.flows.get("company.team", "flow")) == back
        assert run(store.flows.get("company.team", "flow", 2)) == comment
        assert [one.revision for one in run(store.flows.revisions("company.team", "flow"))] == [1, 2, 3]

    def test_given_no_such_flow_then_it_says_so(self, store: Store) -> None:
        assert run(store.flows.find("company.team", "flow")) is None
        with pytest.raises(NotFoundError, match=r"There is no flow company\.team\.flow with revision 7\."):
            run(store.flows.get("company.team", "flow", 7))


class TestExecutions:
    def test_given_an_execution_with_everything_then_it_comes_back_equal(self, store: Store) -> None:
        execution = an_execution(
            "CREATED",
            "RUNNING",
            "FAILED",
            inputs={"day": "2030-01-01", "deep": {"list": [1, 2.5, None, True]}},
            outputs={"at": NOON, "huge": 2**80},
            labels={"team": "a", "system.correlationId": "execution"},
            variables={"set": "later"},
            trigger={"id": "daily", "variables": {"date": NOON}},
            parent_id="parent",
            original_id="original",
            attempt_number=2,
            message="why",
            version=3,
        )

        save(store, created=[execution])

        assert run(store.executions.get("execution")) == execution

    def test_given_a_change_then_what_it_was_started_with_stays(self, store: Store) -> None:
        save(store, created=[an_execution(inputs={"a": 1})])
        changed = an_execution("CREATED", "RUNNING", inputs={"a": 1}, outputs={"b": 2}, version=1)

        save(store, changed=[(changed, 0)])

        assert run(store.executions.get("execution")) == changed

    def test_given_another_version_than_expected_then_nothing_at_all_is_written(self, store: Store) -> None:
        save(store, created=[an_execution(version=5)])
        new = an_execution(id="new")

        with pytest.raises(StaleExecutionError):
            save(store, created=[new], changed=[(an_execution(version=5), 4)], runs=[a_task_run()])

        assert run(store.executions.find("new")) is None
        assert run(store.executions.task_runs("execution")) == []

    def test_given_task_runs_then_they_come_back_equal_and_in_the_order_of_creation(self, store: Store) -> None:
        full = a_task_run(
            "full",
            "CREATED",
            "RUNNING",
            "RETRYING",
            parent_id="parent",
            value="seven",
            iteration=6,
            attempts=(Attempt(a_history("RUNNING", "FAILED"), "worker"), Attempt(a_history("RUNNING"))),
            outputs={"rows": [{"n": 1}], "at": NOON},
            fence=4,
            lost=1,
            due=NOON + timedelta(microseconds=1),
            worker="worker",
            plan={"values": ["1", "2"]},
            message="why",
        )
        first = a_task_run("zebra")
        save(store, created=[an_execution()], runs=[first, full])

        changed = a_task_run("zebra", "CREATED", "RUNNING", "SUCCESS", outputs={"a": 1}, fence=1)
        save(store, runs=[a_task_run("apple"), changed])

        assert run(store.executions.task_runs("execution")) == [changed, full, a_task_run("apple")]

    def test_given_removed_task_runs_then_they_are_gone_or_new_again(self, store: Store) -> None:
        save(store, created=[an_execution()], runs=[a_task_run("one"), a_task_run("two"), a_task_run("three")])

        save(store, removed=[("execution", "run-one"), ("execution", "run-two")], runs=[a_task_run("one")])

        assert [each.task_id for each in run(store.executions.task_runs("execution"))] == ["three", "one"]

    def test_given_many_executions_then_pages_come_newest_first(self, store: Store) -> None:
        save(
            store,
            created=[
                an_execution("CREATED", id="1", namespace="a"),
                an_execution("CREATED", "RUNNING", "SUCCESS", id="2", namespace="a"),
                an_execution("CREATED", "RUNNING", "FAILED", id="3", namespace="b", flow_id="other"),
                an_execution("CREATED", "RUNNING", "SUCCESS", id="4", namespace="b"),
            ],
        )

        def ids(**query: object) -> list[str]:
            found = run(store.executions.search(ExecutionQuery(**query)))  # pyright: ignore[reportArgumentType]
            return [execution.id for execution in found]

        assert ids() == ["4", "3", "2", "1"]
        assert ids(limit=2) == ["4", "3"]
        assert ids(limit=2, before="3") == ["2", "1"]
        assert ids(namespace="b", flow_id="other") == ["3"]
        assert ids(states=[State.SUCCESS, State.CREATED]) == ["4", "2", "1"]

    def test_given_no_such_execution_then_it_says_so(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            run(store.executions.get("gone"))


class TestOwners:
    def test_given_what_a_process_left_open_then_another_adopts_it_once(self, open_store: OpenStore) -> None:
        dead, heir, late = open_store("dead"), open_store("heir"), open_store("late")
        save(
            dead,
            created=[
                an_execution("CREATED", "RUNNING", id="2"),
                an_execution("CREATED", "RUNNING", id="1"),
                an_execution("CREATED", "RUNNING", "SUCCESS", id="3"),
            ],
        )
        save(heir, created=[an_execution(id="own")])

        left = run(heir.executions.open_elsewhere())
        assert list(left.items()) == [("1", "dead"), ("2", "dead")]
        assert heir.executions.adopt(left).wait(10) == ["1", "2"]
        assert late.executions.adopt(left).wait(10) == []
        assert run(late.executions.open_elsewhere()) == {"1": "heir", "2": "heir", "own": "heir"}

    def test_given_one_of_several_then_only_that_is_adopted(self, open_store: OpenStore) -> None:
        dead, heir = open_store("dead"), open_store("heir")
        save(dead, created=[an_execution(id="1"), an_execution(id="2")])

        assert heir.executions.adopt({"2": "dead", "gone": "dead"}).wait(10) == ["2"]
        assert run(heir.executions.open_elsewhere()) == {"1": "dead"}

    def test_given_an_ended_execution_then_it_belongs_to_whoever_changes_it_first(self, open_store: OpenStore) -> None:
        first, second, late = open_store("first"), open_store("second"), open_store("late")
        ended = an_execution("CREATED", "RUNNING", "FAILED", version=3)
        save(first, created=[ended])
        again = an_execution(
            "CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING",
            revision=2, attempt_number=2, from_scratch=True, version=4,
        )  # fmt: skip

        save(second, changed=[(again, 3)])
        with pytest.raises(StaleExecutionError):
            save(late, changed=[(again, 3)])

        assert run(first.executions.open_elsewhere()) == {"execution": "second"}
        assert run(first.executions.get("execution")) == again


class TestTransaction:
    def test_given_an_error_inside_then_nothing_is_kept(self, store: Store) -> None:
        told: list[str] = []

        async def broken() -> None:
            async with store.transaction() as tx:
                store.executions.save(tx, Changes(created=[an_execution()]))
                tx.after_commit(lambda: told.append("committed"))
                raise KeyError

        with pytest.raises(KeyError):
            run(broken())
        assert run(store.executions.find("execution")) is None
        assert told == []

    def test_given_it_is_committed_then_actions_see_it(self, store: Store) -> None:
        seen: list[object] = []

        async def committed() -> None:
            async with store.transaction() as tx:
                tx.after_commit(lambda: seen.append(run(store.executions.find("execution"))))
                store.executions.save(tx, Changes(created=[an_execution()]))

        run(committed())
        assert seen == [an_execution()]


class TestMetrics:
    def test_given_metrics_then_they_come_back_equal_and_by_task_run(self, store: Store) -> None:
        common = {"execution_id": "execution", "task_id": "task", "date": NOON}
        one = Metric(**common, task_run_id="one", attempt=1, type="timer", name="took", value=1.5, tags={"a": "b"})
        two = Metric(**common, task_run_id="two", type="counter", name="rows", value=3.0)

        store.logs.write_metrics([one, two])
        store.logs.flush().wait(10)

        assert run(store.logs.metrics("execution")) == [one, two]
        assert run(store.logs.metrics("execution", "two")) == [two]
