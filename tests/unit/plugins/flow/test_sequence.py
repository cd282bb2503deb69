from tercel.model.catalog import Catalog
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tests.unit.machine.driver import Drive, State, a_flow, jobs


class TestSequential:
    def test_given_its_former_name_then_it_is_the_same_class(self) -> None:
        catalog = Catalog({})

        assert catalog.find("io.kestra.core.tasks.flows.Sequential") is Sequential
        assert Sequential.plugin_type == "io.kestra.plugin.core.flow.Sequential"
        assert AllowFailure.plugin_type == "io.kestra.plugin.core.flow.AllowFailure"

    def test_given_every_branch_then_children_are_in_reading_order(self) -> None:
        task = Sequential(id="s", type="s", tasks=jobs("a"), errors=jobs("b"), finally_=jobs("c"))

        assert [child.id for child in task.children()] == ["a", "b", "c"]

    def test_given_nested_ones_then_they_run_in_order(self) -> None:
        inner = Sequential(id="inner", type="s", tasks=jobs("b", "c"))
        drive = Drive(a_flow(Sequential(id="outer", type="s", tasks=[*jobs("a"), inner, *jobs("d")]))).to_end()

        assert drive.dispatched == ["a", "b", "c", "d"]


class TestParallel:
    def test_given_no_limit_then_all_start_at_once(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b", "c")))).start()

        assert drive.dispatched == ["a", "b", "c"]

    def test_given_a_limit_then_no_more_than_that_are_open(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", concurrent=2, tasks=jobs("a", "b", "c", "d")))).start()
        assert drive.dispatched == ["a", "b"]

        drive.finish(drive.begin("b"))

        assert drive.dispatched == ["a", "b", "c"]

    def test_given_a_failure_then_open_siblings_go_on_and_no_other_starts(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", concurrent=2, tasks=jobs("a", "b", "c")))).start()
        a, b = drive.begin("a"), drive.begin("b")

        drive.finish(a, State.FAILED)
        assert drive.run("p").state is State.RUNNING
        drive.finish(b)

        assert drive.states() == {"p": "FAILED", "a": "FAILED", "b": "SUCCESS"}

    def test_given_lanes_with_several_steps_then_a_failure_stops_those_too(self) -> None:
        lanes = [Sequential(id=f"s{n}", type="s", tasks=jobs(f"a{n}", f"b{n}")) for n in (1, 2)]
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=lanes))).start()
        a1, a2 = drive.begin("a1"), drive.begin("a2")

        drive.finish(a1, State.FAILED)
        drive.finish(a2)

        # Sequential s2 had started before the failure: it is a sibling, and siblings go on.
        assert drive.dispatched == ["a1", "a2", "b2"]


class TestAllowFailure:
    def test_given_a_kill_then_it_is_killed(self) -> None:
        drive = Drive(a_flow(AllowFailure(id="x", type="x", tasks=jobs("a"))), {"a": State.KILLED}).to_end()

        assert drive.states() == {"x": "KILLED", "a": "KILLED"}
