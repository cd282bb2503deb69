"""What every store has to do."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tercel.errors import ConflictError, InvariantError, NotFoundError
from tercel.model import Attempt, Metric, State
from tercel.model.logs import LogEntry
from tercel.model.search import AllOf, AnyOf, Condition, Operation, Where
from tercel.model.task import LogLevel
from tercel.store import (
    Changes,
    CountQuery,
    ExecutionQuery,
    FlowCount,
    LogPurge,
    LogSearch,
    MetricQuery,
    MetricSum,
    MetricSums,
    Promise,
    PurgeQuery,
    StaleExecutionError,
    StaleTriggerError,
    Store,
    Transaction,
    TriggerState,
    TriggerWindow,
    log_search,
    run,
)
from tercel.store.embedded import SqliteStore
from tercel.store.home import HomeLock
from tercel.store.postgres import PostgresStore
from tercel.store.rows import Seals
from tests.builders import NOON, a_history, a_task_run, an_execution
from tests.postgres import postgres_database


class Processes:
    """The processes of a test, each with its own access to the one store of all."""

    def __init__(self, kind: str, folder: Path, dsn: str) -> None:
        self._kind = kind
        self._folder = folder
        self._dsn = dsn
        self._locks: dict[int, HomeLock] = {}
        self._open: list[Store] = []

    def __call__(self, owner: str, *, seals: Seals | None = None) -> Store:
        """A process begins."""
        if self._kind == "sqlite":
            lock = HomeLock(self._folder, owner, "test")
            store: Store = SqliteStore(self._folder / "test.db", owner=owner, synchronous="NORMAL", seals=seals)
            self._locks[id(store)] = lock
        else:
            store = PostgresStore(self._dsn, owner=owner, synchronous="NORMAL", seals=seals, grace_s=0)
        self._open.append(store)
        return store

    def end(self, store: Store) -> None:
        """A process ends."""
        store.close()
        self._open.remove(store)
        if id(store) in self._locks:
            self._locks.pop(id(store)).close()

    def end_all(self) -> None:
        while self._open:
            self.end(self._open[-1])


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    """Opens the one store of the test, once for each process that takes part."""
    with ExitStack() as stack:
        dsn = stack.enter_context(postgres_database()) if request.param == "postgres" else ""
        processes = Processes(request.param, tmp_path, dsn)
        stack.callback(processes.end_all)
        yield processes


@pytest.fixture
def store(open_store: Processes) -> Store:
    return open_store("me")


HOUR = timedelta(hours=1)


def write(store: Store, *writes: Callable[[Transaction], object]) -> None:
    """Commit *writes* together."""

    async def committed() -> None:
        async with store.transaction() as tx:
            for each in writes:
                each(tx)

    run(committed())


def save(store: Store, **changes: Any) -> None:
    write(store, lambda tx: store.executions.save(tx, Changes(**changes)))


def kept(promise: Promise[Any]) -> Any:
    return promise.wait(10)


class StarsInPlaceOfSecrets:
    """Seals every text that holds the word hush."""

    def seal(self, text: str) -> bytes | None:
        return text[::-1].encode() if "hush" in text else None

    def open(self, sealed: bytes, *, reveal: bool) -> str:
        return sealed.decode()[::-1] if reveal else "****"


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
        with pytest.raises(NotFoundError, match=r"There is no flow company\.team\.flow\."):
            kept(store.flows.delete("company.team", "flow", NOON))

    def test_given_a_deleted_flow_then_its_revisions_stay_and_the_next_follows_them(self, store: Store) -> None:
        first = kept(store.flows.save("company.team", "flow", "id: flow\n", NOON))

        noted = kept(store.flows.delete("company.team", "flow", NOON + HOUR))
        assert (noted.revision, noted.deleted, noted.source, noted.created_at) == (2, True, first.source, NOON + HOUR)
        assert run(store.flows.find("company.team", "flow")) is None
        assert run(store.flows.get("company.team", "flow", 1)) == first
        with pytest.raises(NotFoundError):
            kept(store.flows.delete("company.team", "flow", NOON))

        again = kept(store.flows.save("company.team", "flow", "id: flow\n", NOON))
        assert (again.revision, run(store.flows.get("company.team", "flow"))) == (3, again)

    def test_given_a_flow_to_create_then_it_is_saved_only_where_there_is_none(self, store: Store) -> None:
        first = kept(store.flows.create("company.team", "flow", "id: flow\n", NOON))
        again = [kept(store.flows.create("company.team", "flow", text, NOON)) for text in ("id: flow\n", "other")]
        kept(store.flows.delete("company.team", "flow", NOON))
        anew = kept(store.flows.create("company.team", "flow", "other", NOON))

        assert again == [None, None]
        assert first is not None
        assert anew is not None
        assert (first.revision, anew.revision) == (1, 3)
        assert run(store.flows.get("company.team", "flow")) == anew

    def test_given_flows_to_save_and_others_to_delete_then_all_of_it_is_one_step(self, store: Store) -> None:
        for flow_id in ("same", "old", "gone"):
            kept(store.flows.save("a", flow_id, "1", NOON))
        kept(store.flows.delete("a", "gone", NOON))

        saved, deleted = kept(
            store.flows.change(
                [("b", "new", "2"), ("a", "same", "1"), ("a", "gone", "2")],
                [("a", "old"), ("a", "never"), ("a", "old")],
                NOON + HOUR,
            )
        )

        assert [(one.namespace, one.id, one.revision) for one in saved] == [
            ("b", "new", 1),
            ("a", "same", 1),
            ("a", "gone", 3),
        ]
        assert [(one.id, one.revision, one.deleted, one.created_at) for one in deleted] == [
            ("old", 2, True, NOON + HOUR)
        ]
        with pytest.raises(AttributeError):
            kept(store.flows.change([("a", "same", "3"), ("b", "new", None)], [("a", "same")], NOON))  # pyright: ignore[reportArgumentType]
        assert [(one.id, one.source) for one in run(store.flows.latest())] == [
            ("gone", "2"),
            ("same", "1"),
            ("new", "2"),
        ]

    def test_given_old_revisions_then_those_that_nobody_needs_are_removed(self, store: Store) -> None:
        for number in range(1, 5):
            kept(store.flows.save("company.team", "hello", f"{number}", NOON))
        save(store, created=[an_execution(namespace="company.team", flow_id="hello", revision=2)])

        with pytest.raises(ConflictError, match=r"Revision 4 of the flow company\.team\.hello is its latest\."):
            kept(store.flows.remove_revisions("company.team", "hello", [1, 4]))
        with pytest.raises(ConflictError, match=r"Revision 2 of the flow company\.team\.hello is run now\."):
            kept(store.flows.remove_revisions("company.team", "hello", [1, 2]))
        assert kept(store.flows.remove_revisions("company.team", "hello", [1, 3, 7])) == 2

        assert [one.revision for one in run(store.flows.revisions("company.team", "hello"))] == [2, 4]
        assert kept(store.flows.save("company.team", "hello", "5", NOON)).revision == 5

    def test_given_many_flows_then_the_latest_are_those_that_still_are(self, store: Store) -> None:
        for namespace, flow_id, source in (("b", "one", "1"), ("a", "two", "2"), ("a", "two", "3"), ("a", "one", "4")):
            kept(store.flows.save(namespace, flow_id, source, NOON))
        kept(store.flows.save("a", "gone", "5", NOON))
        kept(store.flows.delete("a", "gone", NOON))

        def found(namespace: str | None = None) -> list[tuple[str, str, int]]:
            return [(one.namespace, one.id, one.revision) for one in run(store.flows.latest(namespace))]

        assert found() == [("a", "one", 1), ("a", "two", 2), ("b", "one", 1)]
        assert found("b") == [("b", "one", 1)]

    def test_given_two_processes_that_save_at_once_then_no_revision_is_lost(self, open_store: Processes) -> None:
        stores = [open_store("one"), open_store("two")]

        promises = [each.flows.save("a", "flow", f"{number}", NOON) for number in range(20) for each in stores]
        both = [("a", "one", "x"), ("a", "two", "x")]
        changes = [each.flows.change(both[::step], [], NOON) for step in (1, -1) for each in stores]

        assert {kept(promise).revision for promise in promises} == set(
            range(1, len(run(stores[0].flows.revisions("a", "flow"))) + 1)
        )
        assert [[one.revision for one in kept(change)[0]] for change in changes] == [[1, 1]] * 4


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
            from_scratch=True,
            schedule_date=NOON + HOUR,
            due=NOON + timedelta(microseconds=1),
            ends_as=State.CANCELLED,
            is_closing=True,
            kind="TEST",
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

    def test_given_variables_that_change_then_the_latest_count(self, store: Store) -> None:
        save(store, created=[an_execution(variables={"a": 1})])

        changed = an_execution(variables={"a": 2, "at": NOON}, version=1, due=NOON, is_closing=True)
        save(store, changed=[(changed, 0)])
        assert run(store.executions.get("execution")) == changed

        emptied = an_execution(version=2)
        save(store, changed=[(emptied, 1)])
        assert run(store.executions.get("execution")) == emptied

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

    def test_given_a_loop_value_of_any_characters_then_it_comes_back(self, store: Store) -> None:
        odd = a_task_run("odd", value="\0 and 'more' \U0001f426 %s ?", message="\0")

        save(store, created=[an_execution(labels={"k": "\0"})], runs=[odd])

        assert run(store.executions.task_runs("execution")) == [odd]
        assert run(store.executions.get("execution")).labels == {"k": "\0"}

    def test_given_thousands_of_task_runs_then_all_come_back_in_order(self, store: Store) -> None:
        runs = [a_task_run(f"{number}") for number in range(3000)]

        save(store, created=[an_execution()], runs=runs)
        save(store, runs=runs[1500:])

        assert run(store.executions.task_runs("execution")) == runs

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
                an_execution("CREATED", "RUNNING", "SUCCESS", id="4", namespace="b", is_closing=True),
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
        assert ids(open_only=True) == ["4", "1"]

    def test_given_ids_of_all_letters_then_they_are_in_the_order_of_their_characters(self, store: Store) -> None:
        save(store, created=[an_execution(id=one) for one in ("aB", "b", "B", "_", "9", "a")])

        found = run(store.executions.search(ExecutionQuery()))

        assert [execution.id for execution in found] == ["b", "aB", "a", "_", "B", "9"]

    def test_given_no_such_execution_then_it_says_so(self, store: Store) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            run(store.executions.get("gone"))

    def test_given_a_transaction_of_another_store_then_it_is_refused(self, store: Store) -> None:
        class Other:
            def after_commit(self, action: Callable[[], object]) -> None:
                raise NotImplementedError

        with pytest.raises(InvariantError):
            store.executions.save(Other(), Changes())


Op = Operation


def where(field: str, operation: Operation, value: object = None, key: str = "") -> Condition:
    return Condition(field=field, operation=operation, value=value, key=key)


CONDITIONS: list[tuple[Where, str]] = [
    (where("namespace", Op.EQUALS, "a"), "one"),
    (where("namespace", Op.NOT_EQUALS, "a"), "two three"),
    (where("namespace", Op.PREFIX, "a"), "one two"),
    (where("namespace", Op.STARTS_WITH, "ab"), "three"),
    (where("namespace", Op.ENDS_WITH, "b"), "two three"),
    (where("flow_id", Op.ENDS_WITH, "longer than any of them"), ""),
    (where("flow_id", Op.CONTAINS, "E_f"), "one"),
    (where("flow_id", Op.CONTAINS, "e%f"), ""),
    (where("flow_id", Op.NOT_CONTAINS, "o"), "three"),
    (where("flow_id", Op.IN, ("last", "other")), "two three"),
    (where("flow_id", Op.IN, tuple(f"flow{number}" for number in range(200))), ""),
    (where("flow_id", Op.IN, ("last", *(f"flow{number}" for number in range(200)))), "three"),
    (where("flow_id", Op.NOT_IN, ("last", "other")), "one"),
    (where("flow_id", Op.IN, ()), ""),
    (where("flow_id", Op.NOT_IN, ()), "one two three"),
    (where("revision", Op.GREATER_THAN, 1), "two"),
    (where("revision", Op.IN, (1, 7)), "one three"),
    (where("state", Op.IN, (State.RUNNING, State.FAILED)), "one three"),
    (where("created_at", Op.GREATER_THAN_OR_EQUAL_TO, NOON + HOUR), "two three"),
    (where("created_at", Op.LESS_THAN, NOON + HOUR), "one"),
    (where("ended_at", Op.LESS_THAN_OR_EQUAL_TO, NOON + 2 * HOUR), "two"),
    (where("ended_at", Op.IS_NULL), "one"),
    (where("trigger_id", Op.EQUALS, "then"), "two"),
    (where("trigger_id", Op.NOT_EQUALS, "then"), "one three"),
    (where("caller_id", Op.EQUALS, "one"), "two"),
    (where("caller_id", Op.IS_NULL), "one three"),
    (where("parent_id", Op.IS_NOT_NULL), "two"),
    (where("kind", Op.EQUALS, "TEST"), "three"),
    (where("labels", Op.EQUALS, "x", "team"), "one"),
    (where("labels", Op.NOT_EQUALS, "x", "team"), "two three"),
    (where("labels", Op.IN, ("x", "y"), "team"), "one two"),
    (where("labels", Op.CONTAINS, "0%_", "odd"), "three"),
    (where("labels", Op.EQUALS, "100%_\0", "odd"), "three"),
    (where("labels", Op.IS_NOT_NULL, key="team"), "one two"),
    (where("labels", Op.EQUALS, "one", "system.correlationId"), "one two"),
    (where("labels", Op.EQUALS, "two", "system.correlationId"), ""),
    (AnyOf((where("namespace", Op.EQUALS, "a"), where("flow_id", Op.EQUALS, "last"))), "one three"),
    (AnyOf(()), ""),
]


class TestSearch:
    """Three executions: of different flows, states, dates, labels and ways to start."""

    @pytest.fixture(autouse=True)
    def there(self, store: Store) -> None:
        called = {"id": "then", "type": "Flow", "variables": {"executionId": "one"}}
        save(
            store,
            created=[
                an_execution("CREATED", "RUNNING", id="one", namespace="a", flow_id="Some_Flow", labels={"team": "x"}),
                an_execution(
                    id="two",
                    namespace="a.b",
                    flow_id="other",
                    revision=2,
                    history=a_history("CREATED", "RUNNING", "SUCCESS", start=NOON + HOUR),
                    labels={"team": "y", "system.correlationId": "one"},
                    trigger=called,
                    parent_id="one",
                ),
                an_execution(
                    id="three",
                    namespace="ab",
                    flow_id="last",
                    history=a_history("CREATED", "FAILED", start=NOON + 2 * HOUR, step_s=60),
                    labels={"odd": "100%_\0"},
                    kind="TEST",
                ),
            ],
        )

    def found(self, store: Store, *parts: Where, **query: Any) -> list[str]:
        asked = ExecutionQuery(where=AllOf(parts), order=query.pop("order", (("created_at", False),)), **query)
        ids = run(store.executions.ids(asked))
        assert [one.id for one in run(store.executions.search(asked))] == ids
        assert query or run(store.executions.total(asked)) == len(ids)
        return ids

    def test_given_conditions_then_those_that_meet_them_are_found(self, store: Store) -> None:
        for condition, expected in CONDITIONS:
            assert self.found(store, condition) == expected.split(), condition

    def test_given_an_order_then_pages_follow_each_other_in_it(self, store: Store) -> None:
        assert self.found(store, order=(("namespace", True),)) == ["three", "two", "one"]
        assert self.found(store, order=(("flow_id", False),)) == ["one", "three", "two"]
        assert self.found(store, order=(("ended_at", True),)) == ["three", "two", "one"]
        assert self.found(store, order=(("duration", False),)) == ["two", "three", "one"]
        assert self.found(store, order=(("revision", False), ("namespace", True))) == ["three", "one", "two"]
        assert self.found(store, order=(("revision", False),)) == ["three", "one", "two"]
        assert self.found(store, order=(("id", False),), limit=2) == ["one", "three"]
        assert self.found(store, order=(("id", False),), limit=2, skipped=2) == ["two"]
        assert run(store.executions.total(ExecutionQuery(limit=1))) == 3

    def test_given_a_field_then_its_different_values_are_told(self, store: Store) -> None:
        def values(field: str, *parts: Where, key: str = "", limit: int = 10) -> list[str]:
            return run(store.executions.values(field, ExecutionQuery(where=AllOf(parts), limit=limit), key=key))

        assert values("namespace") == ["a", "a.b", "ab"]
        assert values("namespace", limit=2) == ["a", "a.b"]
        assert values("state", where("namespace", Op.PREFIX, "a")) == ["RUNNING", "SUCCESS"]
        assert values("trigger_id") == ["then"]
        assert values("labels", key="team") == ["x", "y"]
        assert values("labels", where("state", Op.EQUALS, State.RUNNING), key="team") == ["x"]

    def test_given_labels_that_change_then_the_latest_are_found(self, open_store: Processes) -> None:
        store, other = open_store("third"), open_store("other")
        team = where("labels", Op.EQUALS, "z", "team")

        def change(by: Store, version: int, **labels: str) -> None:
            save(
                by, changed=[(an_execution("CREATED", "FAILED", id="new", labels=labels, version=version), version - 1)]
            )

        save(store, created=[an_execution(id="new", labels={"team": "y" * 5000})])
        assert self.found(store, where("labels", Op.EQUALS, "y" * 5000, "team")) == ["new"]
        change(store, 1, team="z")
        assert self.found(store, team) == ["new"]
        change(other, 2, team="w")
        assert self.found(store, team) == []
        change(store, 3, team="z")
        assert self.found(store, team) == ["new"]
        kept(store.executions.delete(["new"]))
        assert run(store.executions.values("labels", ExecutionQuery(), key="team")) == ["x", "y"]


class TestCount:
    def test_given_executions_then_they_are_counted_flow_by_flow(self, store: Store) -> None:
        made = [
            an_execution("CREATED", "RUNNING", "SUCCESS", id="1", namespace="a", flow_id="x"),
            an_execution("CREATED", "RUNNING", "FAILED", id="2", namespace="a", flow_id="x"),
            an_execution("CREATED", id="3", namespace="a", flow_id="y"),
            an_execution(id="4", namespace="b", flow_id="x", history=a_history("CREATED", start=NOON + HOUR)),
            an_execution(id="5", namespace="a.deep", flow_id="x"),
        ]
        save(store, created=made)
        kept(store.flows.save("a", "never", "ran", NOON))
        kept(store.flows.save("a", "gone", "too", NOON))
        kept(store.flows.delete("a", "gone", NOON))

        def count(**query: Any) -> list[FlowCount]:
            return run(store.executions.count(CountQuery(**query)))

        def counts(**query: Any) -> list[tuple[str, str, int]]:
            return [(one.namespace, one.flow_id, one.count) for one in count(**query)]

        assert counts() == [("a", "x", 2), ("a", "y", 1), ("a.deep", "x", 1), ("b", "x", 1)]
        assert counts(flows=[("b", "x"), ("b", "none"), ("a", "y")]) == [("b", "x", 1), ("b", "none", 0), ("a", "y", 1)]
        assert counts(namespaces=["a"]) == [("a", "never", 0), ("a", "x", 2), ("a", "y", 1)]
        assert counts(flows=[("a", "x")], namespaces=["b"], states=[State.FAILED]) == [("a", "x", 1)]
        assert counts(flows=[("a", "x"), ("b", "x")], start=NOON + HOUR) == [("a", "x", 0), ("b", "x", 1)]
        assert counts(flows=[("a", "x"), ("b", "x")], end=NOON + HOUR) == [("a", "x", 2), ("b", "x", 0)]


class TestPurge:
    def test_given_executions_then_those_that_ended_are_found_oldest_first(self, store: Store) -> None:
        late = a_history("CREATED", "FAILED", start=NOON + HOUR)
        save(
            store,
            created=[
                an_execution("CREATED", "SUCCESS", id="1", namespace="a", flow_id="x"),
                an_execution("CREATED", "SUCCESS", id="2", namespace="a.b", flow_id="x"),
                an_execution("CREATED", "SUCCESS", id="3", namespace="ab", flow_id="x"),
                an_execution("CREATED", "SUCCESS", id="4", namespace="a", flow_id="x", is_closing=True),
                an_execution("CREATED", "RUNNING", id="5", namespace="a", flow_id="x"),
                an_execution(id="6", namespace="a", flow_id="y", history=late),
            ],
        )

        def found(limit: int = 10, **query: Any) -> list[str]:
            return [one.id for one in run(store.executions.find_ended(PurgeQuery(**query), limit))]

        assert found() == ["1", "2", "3", "6"]
        assert found(2) == ["1", "2"]
        assert found(2, after="2") == ["3", "6"]
        assert found(namespace="a") == ["1", "2", "6"]
        assert found(namespace="a", flow_id="x") == ["1"]
        assert found(flow_id="x") == ["1", "2", "3"]
        assert found(states=[State.FAILED]) == ["6"]
        assert found(started_before=NOON + HOUR) == ["1", "2", "3"]
        assert found(started_after=NOON + HOUR) == ["6"]

    def test_given_executions_to_delete_then_those_that_are_open_stay(self, store: Store) -> None:
        save(
            store,
            created=[
                an_execution("CREATED", "SUCCESS", id="ended"),
                an_execution("CREATED", "SUCCESS", id="kept"),
                an_execution("CREATED", "RUNNING", id="open"),
            ],
            runs=[a_task_run(execution_id=one) for one in ("ended", "kept", "open")],
        )

        assert kept(store.executions.delete(["ended", "open", "gone"])) == 1
        assert kept(store.executions.delete([])) == 0

        assert run(store.executions.find("ended")) is None
        assert [bool(run(store.executions.task_runs(one))) for one in ("ended", "kept", "open")] == [False, True, True]
        save(store, created=[an_execution(id="ended", inputs={"a": 1})])
        assert run(store.executions.get("ended")).inputs == {"a": 1}


class TestSlots:
    def test_given_a_limit_then_so_many_executions_get_a_slot_and_keep_it(self, store: Store) -> None:
        save(store, created=[an_execution(id=one) for one in "abc"] + [an_execution(id="d", flow_id="other")])

        def claim(execution_id: str, flow_id: str = "flow", limit: int = 2) -> bool:
            return kept(store.executions.claim_slot(execution_id, "tests", flow_id, limit))

        assert [claim("a"), claim("b"), claim("c"), claim("a")] == [True, True, False, True]
        assert claim("d", "other") is True
        assert claim("gone") is False
        assert claim("c", limit=3) is True

    def test_given_an_end_then_its_slot_is_free_once_all_of_it_is_over(self, store: Store) -> None:
        save(store, created=[an_execution(id="a"), an_execution(id="b")])
        assert kept(store.executions.claim_slot("a", "tests", "flow", 1))

        closing = an_execution("CREATED", "SUCCESS", id="a", is_closing=True, version=1)
        save(store, changed=[(closing, 0)])
        assert not kept(store.executions.claim_slot("b", "tests", "flow", 1))
        save(store, changed=[(an_execution("CREATED", "SUCCESS", id="a", version=2), 1)])
        assert kept(store.executions.claim_slot("b", "tests", "flow", 1))

        again = an_execution("CREATED", "SUCCESS", "RESTARTED", id="a", version=3)
        save(store, changed=[(again, 2)])
        assert kept(store.executions.claim_slot("a", "tests", "flow", 1))
        assert not kept(store.executions.claim_slot("c", "tests", "flow", 2))

    def test_given_queued_executions_then_the_oldest_of_this_process_is_next(self, open_store: Processes) -> None:
        mine, other = open_store("mine"), open_store("other")
        save(other, created=[an_execution("CREATED", "QUEUED", id="0")])
        save(mine, created=[an_execution("CREATED", "QUEUED", id=one) for one in "21"] + [an_execution(id="3")])

        def claim(store: Store, limit: int) -> str | None:
            return kept(store.executions.claim_next("tests", "flow", limit))

        assert claim(mine, 0) is None
        assert claim(mine, 1) == "1"
        assert claim(mine, 1) is None
        assert claim(mine, 2) == "2"
        assert claim(mine, 3) is None
        assert claim(other, 3) == "0"

    def test_given_a_forced_slot_then_it_goes_beyond_the_limit_and_counts(self, store: Store) -> None:
        save(store, created=[an_execution(id=one) for one in "abc"])
        assert kept(store.executions.claim_slot("a", "tests", "flow", 1))

        kept(store.executions.force_slot("b"))

        assert not kept(store.executions.claim_slot("c", "tests", "flow", 2))
        assert kept(store.executions.claim_slot("c", "tests", "flow", 3))

    def test_given_two_processes_that_claim_at_once_then_the_limit_holds(self, open_store: Processes) -> None:
        stores = [open_store("one"), open_store("two")]
        save(stores[0], created=[an_execution(id=f"{number}") for number in range(40)])

        claims = [stores[number % 2].executions.claim_slot(f"{number}", "tests", "flow", 7) for number in range(40)]

        assert sum(kept(claim) for claim in claims) == 7


class TestOwners:
    def test_given_what_a_process_left_open_then_another_adopts_it_once(self, open_store: Processes) -> None:
        dead, heir, late = open_store("dead"), open_store("heir"), open_store("late")
        save(
            dead,
            created=[
                an_execution("CREATED", "RUNNING", id="2"),
                an_execution("CREATED", "RUNNING", id="1"),
                an_execution("CREATED", "RUNNING", "SUCCESS", id="3"),
                an_execution("CREATED", "RUNNING", "SUCCESS", id="4", is_closing=True),
            ],
        )
        save(heir, created=[an_execution(id="own")])
        open_store.end(dead)

        left = run(heir.executions.open_elsewhere())
        assert list(left.items()) == [("1", "dead"), ("2", "dead"), ("4", "dead")]
        assert heir.executions.adopt(left).wait(10) == ["1", "2", "4"]
        assert late.executions.adopt(left).wait(10) == []
        assert run(late.executions.open_elsewhere()) == {"1": "heir", "2": "heir", "4": "heir", "own": "heir"}

    def test_given_one_of_several_then_only_that_is_adopted(self, open_store: Processes) -> None:
        dead, heir = open_store("dead"), open_store("heir")
        save(dead, created=[an_execution(id="1"), an_execution(id="2")])
        open_store.end(dead)

        assert heir.executions.adopt({"2": "dead", "gone": "dead"}).wait(10) == ["2"]
        assert run(heir.executions.open_elsewhere()) == {"1": "dead"}

    def test_given_processes_then_those_that_ended_are_dead(self, open_store: Processes) -> None:
        one, two = open_store("one"), open_store("two")

        assert run(one.dead_owners(["one", "two", "never", ""])) == {"never", ""}
        open_store.end(two)
        assert run(one.dead_owners({"one", "two"})) == {"two"}
        open_store("two")
        assert run(one.dead_owners({"one", "two"})) == set()

    def test_given_an_execution_for_nobody_then_the_first_to_adopt_it_has_it(self, open_store: Processes) -> None:
        giver, taker, late = open_store("giver"), open_store("taker"), open_store("late")
        given = [an_execution(id="nobody"), an_execution(id="named"), an_execution(id="own")]
        save(giver, created=given, owners={"nobody": "", "named": "taker"}, runs=[a_task_run(execution_id="nobody")])

        assert run(giver.executions.open_elsewhere()) == {"nobody": "", "named": "taker"}
        with pytest.raises(StaleExecutionError):
            save(giver, changed=[(an_execution(id="nobody", version=1), 0)])
        assert kept(taker.executions.adopt({"nobody": ""})) == ["nobody"]
        assert kept(late.executions.adopt({"nobody": ""})) == []
        save(taker, changed=[(an_execution(id="nobody", version=1), 0)])

    def test_given_an_execution_that_was_adopted_then_its_former_owner_cannot_write(
        self, open_store: Processes
    ) -> None:
        former, heir = open_store("former"), open_store("heir")
        save(former, created=[an_execution("CREATED", "RUNNING")], runs=[a_task_run("one")])
        open_store.end(former)
        assert kept(heir.executions.adopt({"execution": "former"})) == ["execution"]
        former = open_store("former")

        with pytest.raises(StaleExecutionError):
            save(former, changed=[(an_execution("CREATED", "RUNNING", "FAILED", version=1), 0)])
        with pytest.raises(StaleExecutionError):
            save(former, runs=[a_task_run("one", "CREATED", "RUNNING")])
        with pytest.raises(StaleExecutionError):
            save(former, removed=[("execution", "run-one")])
        assert run(heir.executions.task_runs("execution")) == [a_task_run("one")]

    def test_given_an_ended_execution_then_it_belongs_to_whoever_changes_it_first(self, open_store: Processes) -> None:
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

        assert kept(store.logs.delete(["execution"], lines=False)) == (0, 2)
        assert run(store.logs.metrics("execution")) == []

    def test_given_a_name_of_any_characters_then_it_is_stored(self, store: Store) -> None:
        common = {"execution_id": "execution", "task_id": "task", "task_run_id": "run", "date": NOON}
        store.logs.write_metrics([Metric(**common, type="counter", name="a\0b", value=1, tags={"k": "\0"})])
        store.logs.flush().wait(10)

        [metric] = run(store.logs.metrics("execution"))
        assert (metric.name, metric.tags) == ("a\ufffdb", {"k": "\0"})

    def test_given_a_page_then_metrics_come_in_the_order_asked_for(self, store: Store) -> None:
        common: dict[str, Any] = {"execution_id": "execution", "task_run_id": "r", "date": NOON}
        store.logs.write_metrics(
            [
                Metric(**common, task_id="a", type="counter", name="rows", value=2),
                Metric(**common, task_id="b", type="timer", name="took", value=1500),
                Metric(**common, task_id="a", type="counter", name="rows", value=1),
            ]
        )
        kept(store.logs.flush())

        def found(**query: Any) -> tuple[list[float], int]:
            page = run(store.logs.find_metrics(MetricQuery(execution_id="execution", **query)))
            return [metric.value for metric in page.metrics], page.total

        assert found() == ([2, 1500, 1], 3)
        assert found(order=[("value", True)], limit=2) == ([2, 1500], 3)
        assert found(order=[("taskId", True), ("value", False)], skipped=1) == ([1, 2], 3)
        assert found(task_id="a", limit=1) == ([2], 2)
        assert found(task_run_id="gone") == ([], 0)

    def test_given_metrics_of_a_flow_then_they_are_named_and_added_up_by_span(self, store: Store) -> None:
        executions = [an_execution(id="0"), an_execution(id="1"), an_execution(id="2", flow_id="other")]
        save(store, created=[*executions, an_execution(id="3", kind="TEST")])

        def metric(execution_id: str, value: float, name: str = "rows", task_id: str = "a", later: int = 0) -> Metric:
            return Metric(
                execution_id=execution_id,
                task_id=task_id,
                task_run_id="r",
                type="gauge",
                name=name,
                value=value,
                date=NOON + later * HOUR,
            )

        store.logs.write_metrics(
            [
                metric("0", 2),
                metric("1", 3),
                metric("1", 5, task_id="b", later=1),
                metric("1", 7, later=2),
                metric("2", 9),
                metric("3", 11),
                metric("0", 1, "files"),
                replace(metric("1", 4000, "took"), type="timer"),
            ]
        )
        kept(store.logs.flush())
        namespace = executions[0].namespace

        assert run(store.logs.metric_names(namespace, "flow")) == ["files", "rows", "took"]
        assert run(store.logs.metric_names(namespace, "flow", "b")) == ["rows"]
        assert run(store.logs.metric_tasks(namespace, "flow")) == ["a", "b"]
        assert run(store.logs.metric_tasks(namespace, "none")) == []
        hour = HOUR // timedelta(microseconds=1)
        asked: dict[str, Any] = {"namespace": namespace, "flow_id": "flow", "name": "rows", "span_us": hour}
        sums = MetricSums(start=NOON, end=NOON + HOUR, **asked)
        assert run(store.logs.metric_sums(sums)) == [
            MetricSum(NOON, 2, 5, 2, 3),
            MetricSum(NOON + HOUR, 1, 5, 5, 5),
        ]
        timed = MetricSums(**{**asked, "name": "took"}, start=NOON, end=NOON)
        assert [one.total for one in run(store.logs.metric_sums(timed))] == [4]
        only = MetricSums(start=NOON, end=NOON + HOUR, task_id="b", **asked)
        assert [one.start for one in run(store.logs.metric_sums(only))] == [NOON + HOUR]


def an_entry(message: str, execution_id: str = "execution", **properties: Any) -> LogEntry:
    values: dict[str, Any] = {"date": NOON, "level": LogLevel.INFO} | properties
    return LogEntry(execution_id=execution_id, message=message, **values)


class TestLogs:
    def log(self, store: Store, *batches: list[LogEntry]) -> None:
        for batch in batches:
            store.logs.write_logs(batch)
            store.logs.flush().wait(10)

    def messages(self, store: Store, execution_id: str = "execution", **query: Any) -> list[str]:
        return [entry.message for entry in run(store.logs.read(execution_id, **query)).entries]

    def test_given_lines_then_pages_of_them_come_back_equal_and_in_order(self, store: Store) -> None:
        first = [an_entry("one", task_run_id="a", task_id="t", attempt=1), an_entry("two", level=LogLevel.ERROR)]
        second = [an_entry("\0 three \U0001f426 %", level=LogLevel.WARN, task_run_id="b")]
        self.log(store, first, second)

        page = run(store.logs.read("execution", most_chunks=1))
        assert (page.entries, page.is_last) == (first, False)
        following = run(store.logs.read("execution", after=page.next))
        assert (following.entries, following.is_last) == (second, True)
        assert self.messages(store, min_level=LogLevel.WARN) == ["two", "\0 three \U0001f426 %"]
        assert self.messages(store, task_run_id="a") == ["one"]

    def test_given_executions_to_delete_then_their_lines_go_and_all_else_stays(self, store: Store) -> None:
        self.log(store, [an_entry("one", "a"), an_entry("two", "a"), an_entry("three", "b")], [an_entry("four", "a")])

        assert kept(store.logs.delete(["a", "gone"])) == (3, 0)
        assert kept(store.logs.delete(["b"], lines=False)) == (0, 0)

        assert self.messages(store, "a") == []
        assert self.messages(store, "b") == ["three"]

    def test_given_lines_to_purge_then_only_those_asked_for_go(self, store: Store) -> None:
        save(
            store,
            created=[an_execution(id=f"{at}", namespace=name) for at, name in enumerate(("a", "a.b", "ab"))],
        )

        def lines() -> None:
            kept(store.logs.delete(["0", "1", "2"]))
            for execution_id in ("0", "1", "2"):
                self.log(
                    store,
                    [
                        an_entry("early", execution_id),
                        an_entry("loud", execution_id, level=LogLevel.ERROR),
                        an_entry("late", execution_id, date=NOON + HOUR),
                    ],
                )

        def purged(**purge: Any) -> list[str]:
            lines()
            before = [f"{one} {message}" for one in "012" for message in self.messages(store, one)]
            count = run(store.logs.purge(LogPurge(**purge)))
            after = [f"{one} {message}" for one in "012" for message in self.messages(store, one)]
            assert len(before) - len(after) == count
            return [line for line in before if line not in after]

        assert len(purged()) == 9
        assert purged(namespace="a", levels=[LogLevel.ERROR]) == ["0 loud", "1 loud"]
        assert purged(namespace="a", flow_id="flow", end=NOON + HOUR) == ["0 early", "0 loud"]
        assert purged(execution_ids=["2", "gone"], start=NOON + HOUR) == ["2 late"]
        assert purged(execution_ids=[]) == []
        assert purged(flow_id="none") == []

    def test_given_many_chunks_then_all_are_purged_and_what_stays_keeps_its_order(self, store: Store) -> None:
        levels = [LogLevel.INFO, LogLevel.DEBUG]
        lines = [an_entry(f"{number} {'x' * 2000}", level=levels[number % 2]) for number in range(1500)]
        self.log(store, lines)

        assert run(store.logs.purge(LogPurge(levels=[LogLevel.DEBUG]))) == 750

        assert self.messages(store, most_chunks=1000) == [entry.message for entry in lines[::2]]

    def test_given_a_test_then_only_lines_that_pass_it_are_purged(self, store: Store) -> None:
        self.log(store, [an_entry("one", attempt=1), an_entry("two"), an_entry("three", attempt=1)])

        purge = LogPurge(execution_ids=["execution"], test=lambda entry: entry.attempt == 1)
        assert run(store.logs.purge(purge)) == 2
        assert self.messages(store) == ["two"]

    def test_given_lines_that_can_be_read_then_readers_are_told_of_their_executions(self, store: Store) -> None:
        told: list[tuple[set[str], list[str]]] = []

        def fail(_: object) -> None:
            raise ValueError

        store.logs.on_written(fail)
        stop = store.logs.on_written(lambda ids: told.append((set(ids), self.messages(store, "a"))))
        self.log(store, [an_entry("one", "a"), an_entry("two", "b")])
        stop()
        self.log(store, [an_entry("three", "a")])

        assert told == [({"a", "b"}, ["one"])]

    def test_given_a_search_then_lines_of_all_executions_are_found_page_by_page(self, store: Store) -> None:
        names = [("0", "a"), ("1", "a.b"), ("2", "ab")]
        save(store, created=[an_execution(id=id, namespace=name) for id, name in names])
        self.log(
            store,
            [an_entry("a1", "0"), an_entry("b1", "1", date=NOON + HOUR / 2)],
            [an_entry("c1", "2", date=NOON + HOUR, level=LogLevel.ERROR)],
            [
                an_entry("a2", "0", date=NOON + HOUR, level=LogLevel.DEBUG),
                an_entry("a3", "0", date=NOON + 2 * HOUR, level=LogLevel.ERROR),
            ],
        )

        def found(**search: Any) -> tuple[list[str], int]:
            page = run(store.logs.search(LogSearch(**search)))
            assert all(dict(names)[line.entry.execution_id] == line.namespace for line in page.lines)
            return [line.entry.message for line in page.lines], page.total

        assert found() == (["a3", "a2", "c1", "b1", "a1"], 5)
        assert found(limit=2, skipped=1) == (["a2", "c1"], 5)
        assert found(limit=2, order=[("timestamp", False)]) == (["a1", "b1"], 5)
        assert found(order=[("level", True), ("timestamp", False)]) == (["c1", "a3", "a1", "b1", "a2"], 5)
        assert found(order=[("namespace", True)], limit=1) == (["c1"], 5)
        assert found(namespace="a") == (["a3", "a2", "a1"], 3)
        assert found(namespace="a", with_children=True, limit=1) == (["a3"], 4)
        assert found(min_level=LogLevel.INFO, limit=1) == (["a3"], 4)
        assert found(start=NOON + HOUR / 2, end=NOON + HOUR, limit=1) == (["a2"], 3)
        assert found(execution_ids=["1", "2", "gone"]) == (["c1", "b1"], 2)
        assert found(flow_id="none") == ([], 0)
        assert found(text="A.B") == (["b1"], 1)
        assert found(text="C1", limit=1) == (["c1"], 1)
        assert found(text='"') == ([], 0)
        assert found(test=lambda line: line.entry.message.endswith("1"), limit=1) == (["c1"], 3)

    def test_given_many_chunks_to_search_then_all_are_counted_and_few_are_read(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(store, created=[an_execution(id="0")])
        levels = [LogLevel.INFO, LogLevel.DEBUG]
        minute = timedelta(minutes=1)
        lines = [
            an_entry(f"{at} {'x' * 2000}", "0", date=NOON + at * minute, level=levels[at // 1400]) for at in range(1500)
        ]
        self.log(store, lines)
        read: list[int] = []
        real = log_search.decode_chunk
        monkeypatch.setattr(log_search, "decode_chunk", lambda *chunk: read.append(1) or real(*chunk))

        newest = run(store.logs.search(LogSearch(limit=3)))
        oldest = run(store.logs.search(LogSearch(limit=3, min_level=LogLevel.INFO, order=[("timestamp", False)])))

        assert [line.entry for line in newest.lines] == lines[:-4:-1]
        assert (newest.total, oldest.total) == (1500, 1400)
        assert [line.entry for line in oldest.lines] == lines[:3]
        assert len(read) < 20


def a_trigger(trigger_id: str = "trigger", **properties: Any) -> TriggerState:
    values: dict[str, Any] = {"namespace": "tests", "flow_id": "flow", "trigger_id": trigger_id, "type": "Schedule"}
    return TriggerState(**(values | {"revision": 1, "updated_at": NOON} | properties))


class TestTriggers:
    def save(self, store: Store, *states: TriggerState) -> None:
        write(store, lambda tx: store.triggers.save(tx, states))

    def test_given_states_then_they_come_back_equal_and_in_order(self, store: Store) -> None:
        full = a_trigger(
            "full",
            type="Webhook",
            revision=7,
            next_at=NOON + timedelta(microseconds=1),
            execution_id="execution",
            disabled=True,
            detail={"backfill": {"start": NOON, "inputs": {"n": 2**70}}, "list": [1, None]},
        )
        self.save(store, full, a_trigger("plain"), a_trigger("other", namespace="a"))

        assert [state.trigger_id for state in run(store.triggers.all())] == ["other", "full", "plain"]
        assert run(store.triggers.all("Webhook")) == [full]
        assert run(store.triggers.get("tests", "flow", "full")) == full
        assert run(store.triggers.get("tests", "flow", "none")) is None

    def test_given_their_time_then_those_that_are_enabled_are_due(self, store: Store) -> None:
        self.save(
            store,
            a_trigger("second", next_at=NOON),
            a_trigger("first", next_at=NOON - HOUR),
            a_trigger("later", next_at=NOON + timedelta(microseconds=1)),
            a_trigger("disabled", next_at=NOON, disabled=True),
            a_trigger("timeless"),
        )

        assert [state.trigger_id for state in run(store.triggers.due(NOON))] == ["first", "second"]

    def test_given_a_change_then_only_the_next_version_is_taken(self, open_store: Processes) -> None:
        one, two = open_store("one"), open_store("two")
        self.save(one, a_trigger())

        self.save(two, a_trigger(version=2, next_at=NOON))
        for version in (1, 2, 4):
            with pytest.raises(StaleTriggerError):
                self.save(one, a_trigger(version=version, detail={"late": True}))
        with pytest.raises(StaleTriggerError):
            self.save(one, a_trigger("none", version=2))

        assert run(one.triggers.all()) == [a_trigger(version=2, next_at=NOON)]

    def test_given_one_of_several_is_stale_then_nothing_of_the_transaction_is_written(self, store: Store) -> None:
        self.save(store, a_trigger("there"))

        with pytest.raises(StaleTriggerError):
            write(
                store,
                lambda tx: store.executions.save(tx, Changes(created=[an_execution()])),
                lambda tx: store.triggers.save(tx, [a_trigger("new"), a_trigger("there", version=3)]),
            )

        assert run(store.triggers.all()) == [a_trigger("there")]
        assert run(store.executions.find("execution")) is None

    def test_given_two_processes_that_fire_it_then_one_does(self, open_store: Processes) -> None:
        stores = [open_store("one"), open_store("two")]
        self.save(stores[0], a_trigger())

        async def fire(store: Store, execution_id: str) -> None:
            async with store.transaction() as tx:
                store.triggers.save(tx, [a_trigger(version=2, execution_id=execution_id)])
                store.executions.save(tx, Changes(created=[an_execution(id=execution_id)]))

        refused = 0
        for store, execution_id in zip(stores, "ab", strict=True):
            try:
                run(fire(store, execution_id))
            except StaleTriggerError:
                refused += 1

        assert refused == 1
        assert len(run(stores[0].executions.search(ExecutionQuery()))) == 1

    def test_given_windows_then_they_come_back_equal_until_they_are_removed(self, store: Store) -> None:
        def a_window(window_id: str, start: datetime, **results: bool) -> TriggerWindow:
            return TriggerWindow(
                namespace="tests",
                flow_id="flow",
                trigger_id="trigger",
                window_id=window_id,
                start=start,
                end=start + HOUR,
                results=results,
            )

        late, early = a_window("a", NOON + HOUR, one=True, two=False), a_window("b", NOON)
        write(store, lambda tx: store.triggers.save_windows(tx, [late, early]))
        assert run(store.triggers.windows("tests", "flow", "trigger")) == [early, late]

        changed = a_window("b", NOON, one=True)
        write(store, lambda tx: store.triggers.save_windows(tx, [changed]))
        write(store, lambda tx: store.triggers.remove_windows(tx, [late.key, (*late.key[:3], "none")]))
        assert run(store.triggers.windows("tests", "flow", "trigger")) == [changed]
        assert run(store.triggers.windows("tests", "flow", "other")) == []

    def test_given_a_trigger_is_removed_then_its_windows_are_too(self, store: Store) -> None:
        state = a_trigger()
        window = TriggerWindow(
            namespace="tests", flow_id="flow", trigger_id="trigger", window_id="w", start=NOON, end=NOON + HOUR
        )
        write(
            store,
            lambda tx: store.triggers.save(tx, [state, a_trigger("stays")]),
            lambda tx: store.triggers.save_windows(tx, [window]),
        )

        write(store, lambda tx: store.triggers.remove(tx, [state.key, ("no", "such", "one")]))

        assert run(store.triggers.all()) == [a_trigger("stays")]
        assert run(store.triggers.windows("tests", "flow", "trigger")) == []
        self.save(store, state)


class TestKeyValues:
    @pytest.mark.parametrize(
        "value",
        ["text", 7, 2**80, 1.5, True, NOON, date(2030, 1, 31), timedelta(hours=36), [1, None], {"deep": {"at": NOON}}],
    )
    def test_given_a_value_then_it_comes_back_with_its_type(self, store: Store, value: object) -> None:
        assert kept(store.key_values.set("a", "key", value, now=NOON, description="what\0for")) is True

        found = run(store.key_values.find("a", "key", NOON))

        assert found is not None
        assert (found.value, type(found.value)) == (value, type(value))
        assert (found.description, found.created_at, found.updated_at, found.version) == (
            "what\ufffdfor",
            NOON,
            NOON,
            1,
        )

    def test_given_a_second_value_then_it_replaces_the_first_unless_that_is_not_wanted(self, store: Store) -> None:
        kept(store.key_values.set("a", "key", 1, now=NOON))

        assert kept(store.key_values.set("a", "key", 2, now=NOON, overwrite=False)) is False
        assert kept(store.key_values.set("a", "key", 3, now=NOON + HOUR)) is True
        assert kept(store.key_values.set("b", "key", 4, now=NOON, overwrite=False)) is True

        found = run(store.key_values.find("a", "key", NOON))
        assert found is not None
        assert (found.value, found.version, found.created_at, found.updated_at) == (3, 2, NOON, NOON + HOUR)

    def test_given_it_has_expired_then_it_is_as_if_it_were_not_there(self, store: Store) -> None:
        kv, end = store.key_values, NOON + HOUR
        seen: list[object] = []

        def change(value: object) -> object:
            seen.append(value)
            return "new"

        for _ in range(2):
            kept(kv.set("a", "key", "old", now=NOON, expires_at=end))
        before = run(kv.find("a", "key", end - timedelta(microseconds=1)))
        assert before is not None
        assert before.expires_at == end
        assert run(kv.find("a", "key", end)) is None
        assert run(kv.keys("a", end)) == []
        assert kept(kv.delete("a", "key", end)) is False

        kept(kv.set("a", "key", "old", now=NOON, expires_at=end))
        assert kept(kv.set("a", "key", "other", now=end, overwrite=False)) is True
        again = run(kv.find("a", "key", end))
        assert again is not None
        assert (again.version, again.created_at, again.expires_at) == (1, end, None)

        kept(kv.set("a", "key", "old", now=NOON, expires_at=end))
        assert kept(kv.change("a", "key", end, change)) == "new"
        assert seen == [None]

    def test_given_a_prefix_then_only_its_keys_come_in_order(self, store: Store) -> None:
        for key in ("b_1", "a%1", "a.2", "A1", "a.1", "a"):
            kept(store.key_values.set("a", key, key, now=NOON))
        kept(store.key_values.set("other", "a.3", 1, now=NOON))
        pairs = run(store.key_values.keys(None, NOON, "a."))
        assert [(pair.namespace, pair.key) for pair in pairs][-1] == ("other", "a.3")
        assert len(pairs) == 1 + len(run(store.key_values.keys("a", NOON, "a.")))

        def keys(prefix: str = "") -> list[str]:
            return [pair.key for pair in run(store.key_values.keys("a", NOON, prefix))]

        assert keys() == ["A1", "a", "a%1", "a.1", "a.2", "b_1"]
        assert keys("a.") == ["a.1", "a.2"]
        assert keys("a%") == ["a%1"]
        assert keys("c") == []

    def test_given_a_pair_is_deleted_then_it_is_gone(self, store: Store) -> None:
        kept(store.key_values.set("a", "key", 1, now=NOON))

        assert kept(store.key_values.delete("a", "key")) is True
        assert kept(store.key_values.delete("a", "key")) is False
        assert run(store.key_values.find("a", "key", NOON)) is None

    def test_given_a_change_then_it_sees_the_value_and_keeps_the_rest(self, store: Store) -> None:
        kept(store.key_values.set("a", "key", 1, now=NOON, expires_at=NOON + 2 * HOUR, description="d"))

        def add(value: object) -> object:
            assert isinstance(value, int)
            return value + 1

        assert kept(store.key_values.change("a", "key", NOON + HOUR, add)) == 2
        found = run(store.key_values.find("a", "key", NOON))
        assert found is not None
        assert (found.value, found.version, found.description) == (2, 2, "d")
        assert (found.updated_at, found.expires_at) == (NOON + HOUR, NOON + 2 * HOUR)

        assert kept(store.key_values.change("a", "key", NOON, lambda _: None)) is None
        assert run(store.key_values.find("a", "key", NOON)) is None
        assert kept(store.key_values.change("a", "key", NOON, lambda _: None)) is None

    def test_given_a_change_that_fails_then_nothing_is_written(self, store: Store) -> None:
        kept(store.key_values.set("a", "key", 1, now=NOON))

        def fail(value: object) -> object:
            raise KeyError(value)

        with pytest.raises(KeyError):
            kept(store.key_values.change("a", "key", NOON, fail))
        found = run(store.key_values.find("a", "key", NOON))
        assert found is not None
        assert (found.value, found.version) == (1, 1)

    def test_given_two_processes_that_change_it_at_once_then_no_change_is_lost(self, open_store: Processes) -> None:
        stores = [open_store("one"), open_store("two")]

        def add(value: object) -> object:
            return (value if isinstance(value, int) else 0) + 1

        promises = [each.key_values.change("a", "key", NOON, add) for _ in range(50) for each in stores]

        assert sorted(kept(promise) for promise in promises) == list(range(1, 101))


class TestSeals:
    def test_given_loop_values_with_a_secret_then_they_and_the_plan_are_masked_unless_they_are_to_be_revealed(
        self, open_store: Processes
    ) -> None:
        store = open_store("me", seals=StarsInPlaceOfSecrets())
        values = ["hush", "a\0b", "plain", "hush\0"]
        runs = [a_task_run(f"run{at}", value=value, iteration=at) for at, value in enumerate(values)]
        save(store, created=[an_execution()], runs=[a_task_run("loop", plan={"values": values}), *runs])

        def found(*, reveal: bool) -> tuple[object, list[str | None]]:
            loop, *children = run(store.executions.task_runs("execution", reveal=reveal))
            return loop.plan, [child.value for child in children]

        masked = ["****", "a\0b", "plain", "****"]
        assert found(reveal=False) == ({"values": masked}, masked)
        assert found(reveal=True) == ({"values": values}, values)

    def test_given_a_text_with_a_secret_then_it_is_masked_unless_it_is_to_be_revealed(
        self, open_store: Processes
    ) -> None:
        store, without = open_store("me", seals=StarsInPlaceOfSecrets()), open_store("other")
        secret, stars = {"a": ["hush hush", "plain"]}, {"a": ["****", "plain"]}
        save(store, created=[an_execution(variables=secret, outputs=secret)], runs=[a_task_run(outputs=secret)])
        save(store, changed=[(an_execution(variables=secret, inputs={}, version=1), 0)])
        key = ("tests", "flow", "trigger")
        write(store, lambda tx: store.triggers.save(tx, [a_trigger(detail=secret)]))
        kept(store.key_values.set("a", "key", "hush", now=NOON))

        assert run(store.executions.get("execution")).variables == stars
        assert run(store.executions.get("execution", reveal=True)).variables == secret
        assert [one.outputs for one in run(store.executions.task_runs("execution"))] == [stars]
        assert [one.outputs for one in run(store.executions.task_runs("execution", reveal=True))] == [secret]
        state, found = run(store.triggers.get(*key)), run(store.key_values.find("a", "key", NOON))
        assert state is not None
        assert found is not None
        assert (state.detail, found.value) == (secret, "hush")
        assert [pair.value for pair in run(store.key_values.keys("a", NOON))] == ["****"]
        assert kept(store.key_values.change("a", "key", NOON, lambda value: f"{value}!")) == "hush!"

        unopened = run(without.key_values.find("a", "key", NOON))
        assert unopened is not None
        assert unopened.value == "******"
