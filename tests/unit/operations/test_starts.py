from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import InvalidFlowError, InvalidInputError, NotFoundError, UserError
from tercel.machine import Request
from tercel.model import State
from tercel.operations import new_execution_id
from tercel.store import run
from tests.builders import a_task_run, an_execution
from tests.flows import CORE, echo, flow, local_files
from tests.unit.executor.world import WAIT_S, World, now


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


class TestSaveFlow:
    def test_given_texts_then_each_new_one_is_a_revision(self, world: World) -> None:
        first = world.add_flow(echo("a", "x"))
        same = world.add_flow(echo("a", "x"))
        second = world.add_flow(echo("b", "x"))

        assert [flow.revision for flow in (first, same, second)] == [1, 1, 2]
        assert world.do("get_flow", "tests", "flow").tasks[0].id == "b"
        assert world.do("get_flow", "tests", "flow", 1).tasks[0].id == "a"

    def test_given_a_flow_that_is_wrong_then_nothing_is_saved(self, world: World) -> None:
        with pytest.raises(InvalidFlowError):
            world.add_flow({"id": "a", "type": "unknown"})

        with pytest.raises(NotFoundError, match=r"There is no flow tests\.flow\."):
            world.do("get_flow", "tests", "flow")


class TestCreateFlow:
    def test_given_a_new_flow_then_it_is_saved(self, world: World) -> None:
        assert world.do("create_flow", flow(echo("a", "x"), id="new")).revision == 1

    def test_given_there_is_one_then_it_is_refused(self, world: World) -> None:
        world.do("create_flow", flow(echo("a", "x"), id="new"))

        with pytest.raises(
            InvalidFlowError, match=r"There is a flow tests\.new already\. Update it, or choose another id"
        ):
            world.do("create_flow", flow(echo("b", "x"), id="new"))

        assert world.do("get_flow", "tests", "new").tasks[0].id == "a"

    def test_given_the_one_before_was_deleted_then_its_numbering_goes_on(self, world: World) -> None:
        world.do("create_flow", flow(echo("a", "x"), id="new"))
        world.do("delete_flow", "tests", "new")

        assert world.do("create_flow", flow(echo("a", "x"), id="new")).revision == 3


class TestUpdateFlow:
    def test_given_another_text_then_it_is_the_next_revision(self, world: World) -> None:
        world.add_flow(echo("a", "x"))

        assert world.do("update_flow", "tests", "flow", flow(echo("b", "x"), id="flow")).revision == 2

    def test_given_no_such_flow_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no flow tests\.gone\."):
            world.do("update_flow", "tests", "gone", flow(echo("b", "x"), id="gone"))

    @pytest.mark.parametrize(
        ("written", "sentence"),
        [
            ({"id": "other"}, "The flow tests.flow cannot become one with the id 'other'."),
            ({"id": "flow", "namespace": "other"}, "The flow tests.flow cannot become one with the namespace 'other'."),
        ],
    )
    def test_given_another_name_then_it_is_refused(self, world: World, written: dict[str, str], sentence: str) -> None:
        world.add_flow(echo("a", "x"))

        with pytest.raises(InvalidFlowError) as refused:
            world.do("update_flow", "tests", "flow", flow(echo("a", "x"), **written))

        assert sentence in str(refused.value)
        assert world.do("get_flow", "tests", "flow").revision == 1


class TestDeleteFlow:
    def test_given_a_flow_then_it_is_found_no_more_and_what_runs_of_it_goes_on(self, world: World) -> None:
        saved = world.add_flow(local_files("a"), echo("b", "x"))
        world.consume()
        ended = world.start()

        world.do("delete_flow", "tests", "flow")
        with pytest.raises(NotFoundError, match=r"There is no flow tests\.flow\."):
            world.do("get_flow", "tests", "flow")
        assert world.do("saved_flows") == []
        world.finish(world.job(0))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.do("get_flow", "tests", "flow", 1).revision == saved.revision
        assert [one.revision for one in world.do("flow_revisions", "tests", "flow")] == [1, 2]

    def test_given_no_such_flow_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no flow tests\.gone\."):
            world.do("delete_flow", "tests", "gone")

    def test_given_it_was_deleted_then_a_subflow_of_it_fails_and_says_so(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child")
        world.do("delete_flow", "tests", "child")
        world.add_flow({"id": "sub", "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": "child"})

        assert world.start().wait(WAIT_S).state is State.FAILED
        assert world.runs()["sub"].message.startswith("There is no flow tests.child.")


class TestStart:
    def test_given_a_flow_then_its_execution_is_saved_and_runs(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"), labels={"team": "x"}, inputs=[{"id": "n", "type": "INT"}])

        execution = world.do("start", flow, {"n": "7"}, labels={"k": "v"})

        assert (execution.namespace, execution.flow_id, execution.revision) == ("tests", "flow", 1)
        assert execution.inputs == {"n": 7}
        assert execution.labels == {"team": "x", "k": "v", "system.correlationId": execution.id}
        assert execution.original_id == execution.id
        assert execution.state is State.CREATED
        assert world.do("wait", execution.id).state is State.SUCCESS

    def test_given_an_id_then_it_has_it(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"))
        execution_id = new_execution_id()

        assert world.do("start", flow, execution_id=execution_id).id == execution_id

    def test_given_a_date_then_it_waits_for_it(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"))
        at = now() + timedelta(hours=1)

        execution = world.do("start", flow, schedule_date=at)

        assert world.get(execution.id).schedule_date == at
        assert world.state(execution.id) == "CREATED"

    def test_given_an_older_revision_then_that_runs(self, world: World) -> None:
        old = world.add_flow(echo("a", "x"))
        world.add_flow(echo("b", "x"))

        execution = world.do("start", old)

        assert world.do("wait", execution.id).revision == 1
        assert set(world.runs(execution.id)) == {"a"}

    def test_given_inputs_that_the_flow_lacks_then_they_are_named(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"), inputs=[{"id": "n", "type": "INT", "defaults": 1}])

        with pytest.raises(InvalidInputError) as refused:
            world.do("start", flow, {"x": 1, "b": 1})

        assert refused.value.message == "The flow has no input 'b', 'x'."
        assert refused.value.hint == "Its inputs are: n."
        assert world.of_flow("flow") == []

    def test_given_a_flow_without_inputs_then_it_takes_none(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"))

        with pytest.raises(InvalidInputError, match=r"The flow has no input 'x'\. It takes none\."):
            world.do("start", flow, {"x": 1})

    def test_given_inputs_that_do_not_fit_then_every_one_is_named(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"), inputs=[{"id": "n", "type": "INT"}, {"id": "m", "type": "STRING"}])

        with pytest.raises(InvalidInputError) as refused:
            world.do("start", flow, {"n": "many"})

        assert "'n'" in str(refused.value)
        assert "'m'" in str(refused.value)

    def test_given_a_flow_that_is_disabled_then_it_is_refused(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"), disabled=True)

        with pytest.raises(InvalidFlowError, match=r"The flow tests\.flow is disabled\. Remove `disabled: true`"):
            world.do("start", flow)

    def test_given_labels_of_our_own_then_only_the_correlation_may_be_set(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"))

        assert world.do("start", flow, labels={"system.correlationId": "c"}).labels == {"system.correlationId": "c"}
        with pytest.raises(InvalidInputError, match=r"The label system\.x is tercel's own\."):
            world.do("start", flow, labels={"system.x": "1"})

    def test_given_a_file_then_it_is_copied_into_storage(self, world: World, tmp_path: Path) -> None:
        flow = world.add_flow(echo("a", "x"), inputs=[{"id": "f", "type": "FILE"}])
        (tmp_path / "data.csv").write_text("1,2\n")

        execution = world.do("start", flow, files={"f": tmp_path / "data.csv"})

        with world.storage.get(str(execution.inputs["f"])) as stored:
            assert stored.read() == b"1,2\n"

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("other", b"x", r"The flow has no input 'other' of type FILE\. Its file inputs are: f\."),
            ("f", None, r"Input 'f': .*data is no file\. Give the path of a regular file\."),
            ("f", b"", r"Input 'f': .*data is empty\. Give a file with content\."),
        ],
    )
    def test_given_a_file_that_cannot_be_had_then_it_is_refused(
        self, world: World, tmp_path: Path, name: str, content: bytes | None, sentence: str
    ) -> None:
        flow = world.add_flow(echo("a", "x"), inputs=[{"id": "f", "type": "FILE"}])
        if content is not None:
            (tmp_path / "data").write_bytes(content)

        with pytest.raises(InvalidInputError, match=sentence):
            world.do("start", flow, files={name: tmp_path / "data"})

    def test_given_a_secret_input_then_it_is_kept_from_the_log(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"), inputs=[{"id": "token", "type": "SECRET"}])

        world.do("start", flow, {"token": "s3cret"})

        assert world.secrets == ["s3cret"]


class TestStartChild:
    def child(self, world: World, parent_labels: dict[str, str] | None = None, **properties: Any) -> Any:
        """What a Subflow's task run starts by a request."""
        sub = {"id": "sub", "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": "child"}
        world.add_flow(sub, id="parent")
        parent = an_execution(flow_id="parent", labels=parent_labels or {})
        request = Request(namespace="tests", flow_id="child", **properties)
        return run(world.operations.start_child(request, parent, a_task_run("sub", fence=2), 5))

    def test_given_a_request_then_it_runs_the_latest_revision_with_its_inputs(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child")
        world.add_flow(local_files("b"), id="child", inputs=[{"id": "n", "type": "INT"}])

        child = self.child(world, inputs={"n": "3", "ignored": 1})

        assert (child.flow_id, child.revision, child.inputs) == ("child", 2, {"n": 3})
        assert child.trigger["number"] == 5
        assert child.trigger["fence"] == 2

    def test_given_a_revision_then_that_one_runs(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child")
        world.add_flow(echo("b", "x"), id="child")

        assert self.child(world, revision=1).revision == 1

    @pytest.mark.parametrize(
        ("inherits", "labels"),
        [(False, {"own": "c", "flow": "f"}), (True, {"own": "c", "flow": "f", "team": "p"})],
    )
    def test_given_labels_then_the_parents_come_only_where_they_are_wanted(
        self, world: World, inherits: bool, labels: dict[str, str]
    ) -> None:
        world.add_flow(echo("a", "x"), id="child", labels={"flow": "f"})
        theirs = {"team": "p", "system.correlationId": "first"}

        child = self.child(world, theirs, labels={"own": "c"}, inherit_labels=inherits)

        assert child.labels == {**labels, "system.correlationId": "first"}

    def test_given_the_same_label_twice_then_the_requests_own_wins_over_the_parents(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child")

        child = self.child(world, {"k": "parent"}, labels={"k": "request"}, inherit_labels=True)

        assert child.labels["k"] == "request"

    def test_given_the_labels_of_a_replay_then_they_are_handed_down(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child")

        assert self.child(world, {"system.replay": "true"}).labels["system.replay"] == "true"

    def test_given_a_date_then_it_starts_then(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child")
        at = now() + timedelta(hours=1)

        assert self.child(world, schedule_date=at).schedule_date == at

    def test_given_no_such_flow_then_the_task_can_say_so(self, world: World) -> None:
        with pytest.raises(UserError, match=r"There is no flow tests\.child\."):
            self.child(world)

    def test_given_a_flow_that_is_disabled_then_the_task_can_say_so(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child", disabled=True)

        with pytest.raises(UserError, match=r"The flow tests\.child is disabled\."):
            self.child(world)

    def test_given_labels_of_our_own_then_they_are_refused(self, world: World) -> None:
        world.add_flow(echo("a", "x"), id="child")

        with pytest.raises(UserError, match=r"The label system\.x is tercel's own\."):
            self.child(world, labels={"system.x": "1"})


class TestNewExecutionId:
    def test_given_many_then_none_is_like_another_and_later_ones_are_greater(self) -> None:
        ids = [new_execution_id() for _ in range(1000)]

        assert len(set(ids)) == 1000
        assert all(len(one) == 22 and one.isalnum() for one in ids)
        assert ids[0] < ids[-1]
