from __future__ import annotations

from typing import Any

from tercel.machine.graph import Graph, NodeKind, Relation, flow_graph, started_flow
from tercel.model.flow import Flow, by_id
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tests.builders import a_task_run
from tests.flows import CORE, Node, allow_failure, echo, flow, for_each, sequential, wd

IF = {"id": "if", "type": f"{CORE}.flow.If", "condition": "{{ true }}"}


def a_flow(*tasks: Node, **properties: Any) -> Flow:
    return read_flow(flow(*tasks, **properties), catalog())


def edges(graph: Graph) -> set[tuple[str, str]]:
    """Sources and targets, without what all have in common."""
    return {(edge.source.removeprefix("root."), edge.target.removeprefix("root.")) for edge in graph.edges}


def relation(graph: Graph, target: str) -> set[tuple[Relation | None, str | None]]:
    return {(edge.relation, edge.value) for edge in graph.edges if edge.target == f"root.{target}"}


class TestFlowGraph:
    def test_given_tasks_in_a_row_then_each_follows_the_one_before(self) -> None:
        graph = flow_graph(a_flow(echo("a", "x"), echo("b", "x")))

        assert edges(graph) == {("_start", "a"), ("a", "b"), ("b", "_end")}
        assert (graph.clusters, graph.flowables) == ([], [])

    def test_given_tasks_inside_then_they_are_a_cluster(self) -> None:
        graph = flow_graph(a_flow(sequential("s", sequential("t", echo("a", "x")), echo("b", "x"))))

        assert edges(graph) == {
            ("_start", "s._start"),
            ("s._start", "s"),
            ("s", "s.t._start"),
            ("s.t._start", "s.t"),
            ("s.t", "s.t.a"),
            ("s.t.a", "s.t._end"),
            ("s.t._end", "s.b"),
            ("s.b", "s._end"),
            ("s._end", "_end"),
        }
        inner, outer = graph.clusters
        assert (inner.uid, inner.parents) == ("cluster_root.s.t", ("cluster_root.s",))
        assert outer.nodes == ["root.s._start", "root.s", "root.s.b", "root.s._end"]
        assert graph.flowables == ["s", "t"]

    def test_given_choices_then_each_is_named_and_an_empty_one_is_left_out(self) -> None:
        switch = {
            "id": "switch",
            "type": f"{CORE}.flow.Switch",
            "value": "x",
            "cases": {"one": [echo("a", "x"), echo("b", "x")], "two": [echo("c", "x")]},
        }
        graph = flow_graph(a_flow({**IF, "then": [echo("yes", "x")]}, switch))

        assert relation(graph, "if.yes") == {(Relation.CHOICE, "then")}
        assert relation(graph, "switch.a") == {(Relation.CHOICE, "one")}
        assert relation(graph, "switch.b") == {(Relation.SEQUENTIAL, None)}
        assert relation(graph, "switch.c") == {(Relation.CHOICE, "two")}
        assert {("switch.b", "switch._end"), ("switch.c", "switch._end")} <= edges(graph)

    def test_given_tasks_side_by_side_then_all_begin_at_once_and_are_waited_for(self) -> None:
        parallel = {"id": "p", "type": f"{CORE}.flow.Parallel", "tasks": [echo("a", "x"), echo("b", "x")]}

        graph = flow_graph(a_flow(parallel))

        assert relation(graph, "p.a") == relation(graph, "p.b") == {(Relation.PARALLEL, None)}
        assert {("p", "p.a"), ("p", "p.b"), ("p.a", "p._end"), ("p.b", "p._end")} <= edges(graph)

    def test_given_dependencies_then_a_task_follows_those_that_it_needs(self) -> None:
        needs = {"c": ["a", "b"], "b": ["a"], "a": []}
        tasks = [{"task": echo(id, "x"), "dependsOn": before} for id, before in needs.items()]

        graph = flow_graph(a_flow({"id": "d", "type": f"{CORE}.flow.Dag", "tasks": tasks}))

        inside = {(source, target) for source, target in edges(graph) if target.startswith("d.") or source == "d.c"}
        assert inside == {
            ("_start", "d._start"),
            ("d", "d.a"),
            ("d.a", "d.b"),
            ("d.a", "d.c"),
            ("d.b", "d.c"),
            ("d.c", "d._end"),
        }

    def test_given_failures_and_ends_then_their_branches_are_told(self) -> None:
        graph = flow_graph(
            a_flow(
                allow_failure("s", echo("a", "x"), errors=[echo("e", "x")], **{"finally": [echo("f", "x")]}),
                errors=[echo("oops", "x")],
                afterExecution=[echo("later", "x")],
                **{"finally": [echo("last", "x")]},
            )
        )

        branches = {node.uid: node.branch for node in graph.nodes if node.branch}
        assert branches == {
            "root.s.e": "errors",
            "root.s.f": "finally",
            "root.oops": "errors",
            "root.last": "finally",
            "root.later": "afterExecution",
        }
        assert relation(graph, "s.e") == {(Relation.ERROR, None)}
        assert {("s.a", "s.f"), ("s.e", "s.f"), ("oops", "last"), ("s._end", "last"), ("last", "later")} <= edges(graph)
        assert relation(graph, "later") == {(Relation.AFTER_EXECUTION, None)}

    def test_given_triggers_then_they_lead_to_the_beginning(self) -> None:
        daily = {"id": "daily", "type": f"{CORE}.trigger.Schedule", "cron": "@daily"}

        graph = flow_graph(a_flow(echo("a", "x"), triggers=[daily]))

        assert {("Triggers._start", "Triggers.daily"), ("Triggers._end", "_start")} <= edges(graph)
        assert [node.trigger.id for node in graph.nodes if node.trigger] == ["daily"]

    def test_given_nothing_inside_then_there_is_a_way_through(self) -> None:
        pause = {"id": "pause", "type": f"{CORE}.flow.Pause"}

        assert ("pause", "pause._end") in edges(flow_graph(a_flow(pause)))

    def test_given_every_place_then_it_can_be_reached_and_left(self) -> None:
        graph = flow_graph(
            a_flow(
                wd(echo("a", "x")),
                {**IF, "then": [for_each("each", ["x"], echo("b", "x"))], "else": [echo("c", "x")]},
                errors=[echo("oops", "x")],
            )
        )

        uids = [node.uid for node in graph.nodes]
        assert len(set(uids)) == len(uids)
        assert {edge.target for edge in graph.edges} == set(uids) - {"root._start"}
        assert {edge.source for edge in graph.edges} == set(uids) - {"root._end"}


class TestSubflows:
    CALL = {"id": "call", "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": "inner"}

    def test_given_one_that_is_opened_then_its_tasks_are_shown(self) -> None:
        asked: list[tuple[str, str, int | None]] = []

        def find(namespace: str, flow_id: str, revision: int | None) -> Flow:
            asked.append((namespace, flow_id, revision))
            return a_flow(echo("inside", "x"), id="inner")

        graph = flow_graph(a_flow({**self.CALL, "revision": 3}), opened=["root.call"], find_flow=find)

        assert asked == [("tests", "inner", 3)]
        assert {("call", "call.inside"), ("call.inside", "call._end")} <= edges(graph)
        assert [cluster.uid for cluster in graph.clusters] == ["cluster_root.call"]

    def test_given_one_that_is_closed_or_cannot_be_found_then_it_is_a_task(self) -> None:
        closed = flow_graph(a_flow(self.CALL), find_flow=lambda *_: a_flow(echo("inside", "x")))
        gone = flow_graph(a_flow(self.CALL), opened=["root.call"], find_flow=lambda *_: None)

        for graph in (closed, gone):
            assert [node.uid for node in graph.nodes if node.kind is NodeKind.SUBFLOW] == ["root.call"]
            assert not graph.clusters

    def test_given_a_name_that_is_rendered_then_it_is_not_known(self) -> None:
        named = by_id(a_flow({**self.CALL, "flowId": "{{ inputs.flow }}"}))["call"]
        plain = by_id(a_flow(self.CALL, echo("say", "x")))

        assert started_flow(named) is None
        assert started_flow(plain["call"]) == ("tests", "inner", None)
        assert started_flow(plain["say"]) is None


class TestExecutions:
    def test_given_rounds_of_a_loop_then_each_shows_what_ran_in_it(self) -> None:
        each = a_task_run(id="each", task_id="each")
        rounds = [
            a_task_run(id=f"{task_id}-{value}", task_id=task_id, parent_id="each", value=value)
            for task_id, value in (("a", "x"), ("a", "y"), ("b", "x"))
        ]
        end = a_task_run(id="end", task_id="end", parent_id="each")
        last = {"finally": [echo("end", "x")]}

        graph = flow_graph(
            a_flow(for_each("each", ["x", "y"], echo("a", "x"), echo("b", "x"), **last)), [each, *rounds, end]
        )

        found = {node.uid: (node.run and node.run.id, node.values) for node in graph.nodes if node.task}
        assert found == {
            "root.each": ("each", ()),
            "root.each._0.a": ("a-x", ("x",)),
            "root.each._0.b": ("b-x", ("x",)),
            "root.each._1.a": ("a-y", ("y",)),
            "root.each._1.b": (None, ("y",)),
            "root.each.end": ("end", ()),
        }

    def test_given_nothing_ran_yet_then_the_loop_stands_as_it_is_written(self) -> None:
        graph = flow_graph(
            a_flow(echo("first", "x"), for_each("each", ["x"], echo("a", "x"))), [a_task_run(task_id="first")]
        )

        assert "root.each.a" in {node.uid for node in graph.nodes}
        assert [node.uid for node in graph.nodes if node.run] == ["root.first"]

    def test_given_very_many_rounds_then_the_first_ones_are_shown(self) -> None:
        runs = [a_task_run(id="each", task_id="each")]
        runs += [a_task_run(id=f"a{at}", task_id="a", parent_id="each", value=f"{at}") for at in range(150)]

        graph = flow_graph(a_flow(for_each("each", "{{ many }}", echo("a", "x"))), runs)

        assert len([node for node in graph.nodes if node.values]) == 100
