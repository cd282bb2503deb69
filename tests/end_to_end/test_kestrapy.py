"""The real SDKs drive a real server: `kestrapy` all that an open-source server offers, `kestra` its class `Flow`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.api_servers import CREDENTIALS, PASSWORD, TOKEN, USER, ApiServer
from tests.flows import CORE, Node, echo, fail, flow, for_each, sh
from tests.homes import until
from tests.tools import venv_with
from tests.triggers import schedule

pytestmark = pytest.mark.filterwarnings("ignore:Field name:UserWarning")  # the SDK's own


class Sdk:
    """The package `kestrapy`, imported once it is used: that takes seconds."""

    def __getattr__(self, name: str) -> Any:
        package = import_module("kestrapy")
        return getattr(package if hasattr(package, name) else import_module("kestrapy.exceptions"), name)


kestrapy = Sdk()

MAIN = "main"
HIDDEN = "nobody-may-read-this"
YEARLY = "0 0 1 1 *"
_numbers = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    secret = {"SECRET_PASSPHRASE": b64encode(HIDDEN.encode()).decode()}
    with ApiServer(tmp_path_factory.mktemp("sdk"), {**CREDENTIALS, **secret}) as running:
        yield running
    assert "Traceback" not in running.said


@pytest.fixture(scope="module")
def client(server: ApiServer) -> Iterator[Any]:
    with kestrapy.KestraClient(host=server.address, username=USER, password=PASSWORD, timeout=60) as opened:
        yield opened


@pytest.fixture
def namespace() -> str:
    """One that no other test uses."""
    return f"company.sdk{next(_numbers)}"


def is_(field: str, value: Any, operation: str = "EQUALS") -> Any:
    """A condition, by the SDK's name of the field."""
    return kestrapy.QueryFilter(field=kestrapy.QueryFilterField[field], operation=operation, value=value)


def in_namespace(namespace: str) -> list[Any]:
    return [is_("NAMESPACE", namespace)]


def save(client: Any, namespace: str, *tasks: Node, id: str = "hello", **properties: Any) -> Any:
    text = flow(*(tasks or (echo("say", "hello"),)), namespace=namespace, id=id, **properties)
    return client.flows.create_flow(MAIN, text)


def run(client: Any, namespace: str, id: str = "hello", **given: Any) -> Any:
    """An execution that has ended."""
    return client.executions.create_execution(MAIN, namespace, id, wait=True, **given)


def current(client: Any, execution: Any) -> str:
    return str(client.executions.execution(execution.id, MAIN).state.current.value)


def until_in(client: Any, execution: Any, *states: str) -> None:
    until(lambda: current(client, execution) in states)


PAUSE = {"id": "wait", "type": f"{CORE}.flow.Pause", "onResume": [{"id": "reason", "type": "STRING"}]}
NAP = {"id": "nap", "type": f"{CORE}.flow.Sleep", "duration": "PT60S"}


class TestSigningIn:
    def test_given_a_user_then_they_are_let_in(self, client: Any) -> None:
        assert client.misc.configuration().edition == "OSS"
        assert client.misc.basic_auth_validation_errors() == []

    def test_given_a_token_then_it_is_let_in_by_both_ways_of_giving_it(self, server: ApiServer) -> None:
        with kestrapy.KestraClient(host=server.address, token=TOKEN) as by_token:
            assert by_token.flows.search_flows(MAIN).total >= 0
        configuration = kestrapy.Configuration(host=server.address)
        configuration.api_key = {"Authorization": f"Bearer {TOKEN}"}
        with kestrapy.KestraClient(configuration) as configured:
            assert configured.flows.search_flows(MAIN).total >= 0
        configuration = kestrapy.Configuration(host=server.address, username=USER, password=PASSWORD)
        with kestrapy.KestraClient(configuration) as configured:
            assert configured.flows.search_flows(MAIN).total >= 0

    @pytest.mark.parametrize(
        "credentials", [{}, {"token": "wrong"}, {"username": USER, "password": "wrong"}], ids=["none", "token", "user"]
    )
    def test_given_none_or_wrong_ones_then_the_sdk_says_so(
        self, server: ApiServer, credentials: dict[str, str]
    ) -> None:
        with (
            kestrapy.KestraClient(host=server.address, **credentials) as stranger,
            pytest.raises(kestrapy.UnauthorizedException),
        ):
            stranger.flows.search_flows(MAIN)


class TestFlows:
    def test_given_a_flow_then_it_is_created_changed_found_and_deleted(self, client: Any, namespace: str) -> None:
        source = f"# kept\nid: hello\nnamespace: {namespace}\n\ntasks:\n  - id: say\n    type: {CORE}.debug.Return\n"
        created = client.flows.create_flow(MAIN, source)
        changed = client.flows.update_flow(namespace, "hello", MAIN, f"{source}    format: new\n")
        same = client.flows.update_flow(namespace, "hello", MAIN, f"{source}    format: new\n")

        assert (created.revision, changed.revision, same.revision) == (1, 2, 2)
        assert created.source == source
        assert client.flows.flow(namespace, "hello", MAIN, source=True, revision=1).source == source
        assert client.flows.flow(namespace, "hello", MAIN).source is None
        revisions = client.flows.list_flow_revisions(namespace, "hello", MAIN)
        assert [one.revision for one in revisions] == [1, 2]
        assert client.flows.task_from_flow(namespace, "hello", "say", MAIN).id == "say"
        assert [one.id for one in client.flows.list_flows_by_namespace(namespace, MAIN)] == ["hello"]
        assert namespace in client.flows.list_distinct_namespaces(MAIN)
        client.flows.delete_revisions(namespace, "hello", MAIN, [1])
        assert [one.revision for one in client.flows.list_flow_revisions(namespace, "hello", MAIN)] == [2]
        client.flows.delete_flow(namespace, "hello", MAIN)
        with pytest.raises(kestrapy.NotFoundException):
            client.flows.flow(namespace, "hello", MAIN)
        assert client.flows.flow(namespace, "hello", MAIN, allow_deleted=True).deleted

    def test_given_objects_then_they_are_saved_as_yaml(self, client: Any, namespace: str) -> None:
        given = {"id": "hello", "namespace": namespace, "tasks": [echo("say", "{{ execution.id }}")]}

        created = client.flows.create_flow_from_object(MAIN, given)
        saved = client.flows.flow(namespace, "hello", MAIN)
        saved.description = "From an object."
        changed = client.flows.update_flow_from_object(namespace, "hello", MAIN, saved)

        assert created.revision == 1
        assert (changed.revision, changed.description) == (2, "From an object.")

    def test_given_invalid_ones_then_validation_and_saving_tell_all_that_is_wrong(
        self, client: Any, namespace: str
    ) -> None:
        good = flow(echo("say", "hello"), namespace=namespace, id="good")
        bad = flow({"id": "say", "type": "no.such.Type"}, namespace=namespace, id="bad")

        [first, second] = client.flows.validate_flows(MAIN, f"{good}---\n{bad}")
        with pytest.raises(kestrapy.UnprocessableEntityException) as raised:
            client.flows.create_flow(MAIN, bad)

        assert (first.index, first.constraints) == (0, None)
        assert second.constraints is not None
        assert "Invalid type: no.such.Type" in second.constraints
        assert json.loads(raised.value.body)["_embedded"]["errors"]
        task = f"id: say\ntype: {CORE}.debug.Return\n"
        assert client.flows.validate_task("TASKS", MAIN, task).constraints is None
        assert client.flows.validate_task("TASKS", MAIN, "id: say\ntype: no.such.Type\n").constraints
        assert client.flows.validate_trigger(MAIN, schedule(cron=YEARLY)).constraints is None
        assert client.flows.validate_trigger(MAIN, schedule(cron="no")).constraints

    def test_given_filters_then_the_flows_that_fit_are_found(self, client: Any, namespace: str) -> None:
        for id in ("one", "two", "three"):
            save(client, namespace, echo("say", f"word-{id}"), id=id, labels={"team": id[0]})

        def found(*filters: Any) -> list[str]:
            page = client.flows.search_flows(
                MAIN, filters=[*in_namespace(namespace), *filters], sort=["id:asc"], size=2
            )
            assert page.total >= len(page.results)
            return [one.id for one in page.results]

        one, two = is_("FLOW_ID", "one"), is_("FLOW_ID", "two")
        either = kestrapy.QueryFilter(logical="or", children=[one, two])

        assert found() == ["one", "three"]
        assert found(either) == ["one", "two"]
        assert found(is_("FLOW_ID", ["two", "four"], "IN")) == ["two"]
        assert found(is_("LABELS", {"team": "o"})) == ["one"]
        assert found(is_("QUERY", "thr")) == ["three"]
        [hit] = client.flows.search_flows_by_source_code(MAIN, q="word-two", namespace=namespace).results
        assert (hit.namespace, hit.id) == (namespace, "two")
        assert hit.matches
        rows = list(csv.DictReader(io.StringIO(client.flows.export_flows_by_query_csv(MAIN, in_namespace(namespace)))))
        assert len(rows) == 3

    def test_given_many_then_they_are_written_disabled_exported_imported_and_deleted_at_once(
        self, client: Any, namespace: str
    ) -> None:
        texts = [flow(echo("say", "hello"), namespace=namespace, id=id) for id in ("one", "two")]
        written = client.flows.update_flows_in_namespace(namespace, MAIN, "---\n".join(texts), delete=False)
        more = flow(echo("say", "hello"), namespace=f"{namespace}.below", id="three")
        client.flows.bulk_update_flows(MAIN, delete=False, body=more)
        names = [kestrapy.IdWithNamespace(namespace=namespace, id=id) for id in ("one", "two")]

        assert {one.id for one in written} == {"one", "two"}
        assert client.flows.disable_flows_by_ids(MAIN, names).count == 2
        assert client.flows.flow(namespace, "one", MAIN).disabled
        assert client.flows.enable_flows_by_query(MAIN, in_namespace(namespace)).count == 2
        packed = client.flows.export_flows_by_ids(MAIN, names)
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            assert sorted(archive.namelist()) == [f"{namespace}.one.yml", f"{namespace}.two.yml"]
        with zipfile.ZipFile(io.BytesIO(client.flows.export_flows_by_query(MAIN, in_namespace(namespace)))) as archive:
            assert len(archive.namelist()) == 2
        assert client.flows.delete_flows_by_ids(MAIN, names).count == 2
        assert client.flows.import_flows(MAIN, file_content=packed) == []
        assert client.flows.import_flows(MAIN, file_content=texts[0].encode()) == []
        assert client.flows.delete_flows_by_query(MAIN, in_namespace(namespace)).count == 2
        assert client.flows.list_flows_by_namespace(namespace, MAIN) == []
        assert [one.id for one in client.flows.list_flows_by_namespace(f"{namespace}.below", MAIN)] == ["three"]

    def test_given_a_flow_then_its_graphs_are_drawn(self, client: Any, namespace: str) -> None:
        created = save(client, namespace, echo("say", "hello"), for_each("loop", ["a"], echo("inner", "x")))
        caller = {"id": "call", "type": f"{CORE}.flow.Subflow", "namespace": namespace, "flowId": "hello"}
        save(client, namespace, caller, id="caller")

        graph = client.flows.generate_flow_graph(namespace, "hello", MAIN)
        drawn = client.flows.generate_flow_graph_from_source(MAIN, created.source)
        linked = client.flows.flow_dependencies(namespace, "hello", MAIN)

        assert {node.uid for node in graph.nodes} == {node.uid for node in drawn.nodes}
        assert any("inner" in str(node.uid) for node in graph.nodes)
        assert {node.id for node in linked.nodes} == {"hello", "caller"}
        assert client.flows.flow_dependencies_from_namespace(namespace, MAIN).edges


class TestExecutions:
    def test_given_inputs_of_all_kinds_then_the_flow_gets_them(self, client: Any, namespace: str) -> None:
        inputs = [
            {"id": "name", "type": "STRING"},
            {"id": "number", "type": "INT"},
            {"id": "is_set", "type": "BOOL"},
            {"id": "more", "type": "JSON"},
            {"id": "data", "type": "FILE"},
            {"id": "named", "type": "FILE"},
        ]
        read = echo("read", "{{ read(inputs.data) }} {{ read(inputs.named) }} {{ inputs.name }} {{ inputs.more.a }}")
        save(
            client,
            namespace,
            read,
            inputs=inputs,
            outputs=[{"id": "file", "type": "FILE", "value": "{{ inputs.data }}"}],
        )
        given = {
            "name": "ä",
            "number": 3,
            "is_set": True,
            "more": {"a": [1, 2]},
            "data": b"one,two\n",
            "named": ("table.csv", b"x;y", "text/csv"),
        }

        checked = client.executions.validate_new_execution_inputs(namespace, "hello", MAIN, inputs=given)
        refused = client.executions.validate_new_execution_inputs(
            namespace, "hello", MAIN, inputs={**given, "number": "x"}
        )
        execution = run(client, namespace, inputs=given, labels=["team:a", "url:http://x"])

        assert not any(one["errors"] for one in checked["inputs"])
        assert [one["input"]["id"] for one in refused["inputs"] if one["errors"]] == ["number"]
        assert execution.state.current == kestrapy.StateType.SUCCESS
        assert execution.url.endswith(f"/executions/{namespace}/hello/{execution.id}")
        assert (execution.inputs["number"], execution.inputs["is_set"]) == (3, True)
        assert {one.key: one.value for one in execution.labels}["url"] == "http://x"
        [task_run] = execution.task_run_list
        [told] = client.outputs.task_outputs_information(execution.id, MAIN)
        assert (told.task_id, told.task_run_id) == ("read", task_run.id)
        outputs = client.outputs.task_run_outputs(execution.id, task_run.id, MAIN)
        assert outputs == {"value": "one,two\n x;y ä [1,2]"}
        uri = client.outputs.execution_outputs(execution.id, MAIN)["file"]
        assert client.executions.download_file_from_execution(execution.id, uri, MAIN) == b"one,two\n"
        assert client.executions.file_metadatas_from_execution(execution.id, uri, MAIN).size == 8
        assert client.executions.preview_file_from_execution(execution.id, execution.inputs["named"], MAIN)["content"]
        with pytest.raises(kestrapy.UnprocessableEntityException):
            run(client, namespace, inputs={"name": "x"})
        with pytest.raises(kestrapy.NotFoundException):
            run(client, namespace, "nothing")

    def test_given_an_execution_that_runs_then_following_it_shows_its_end(self, client: Any, namespace: str) -> None:
        save(client, namespace, sh("script", "echo from-the-script", "sleep 0.3"), echo("last", "x"))
        execution = client.executions.create_execution(MAIN, namespace, "hello")

        seen = list(client.executions.follow_execution(execution.id, MAIN))
        lines = [one.message for one in client.logs.follow_logs_from_execution(execution.id, MAIN)]
        states = list(client.executions.follow_dependencies_execution(execution.id, MAIN))

        assert seen[0].id == seen[-1].id == execution.id
        assert seen[-1].state.current == kestrapy.StateType.SUCCESS
        assert [run.task_id for run in seen[-1].task_run_list] == ["script", "last"]
        assert "from-the-script" in lines
        assert states[-1].execution_id == execution.id
        assert "progress" in client.executions.follow_execution_raw(execution.id, MAIN).text or len(seen) > 1

    def test_given_logs_then_they_are_listed_searched_downloaded_and_deleted(self, client: Any, namespace: str) -> None:
        loud = {"id": "loud", "type": f"{CORE}.log.Log", "message": "be careful", "level": "WARN"}
        quiet = {"id": "quiet", "type": f"{CORE}.log.Log", "message": "all is well"}
        save(client, namespace, loud, quiet)
        execution = run(client, namespace)

        listed = client.logs.list_logs_from_execution(execution.id, MAIN)
        warned = client.logs.list_logs_from_execution(execution.id, MAIN, min_level="WARN")
        found = client.logs.search_logs(MAIN, filters=[*in_namespace(namespace), is_("QUERY", "well")])

        assert {one.task_id for one in listed} >= {"loud", "quiet"}
        assert [one.message for one in warned] == ["be careful"]
        assert [one.message for one in found.results] == ["all is well"]
        assert "WARN be careful" in client.logs.download_logs_from_execution(execution.id, MAIN)
        client.logs.delete_logs_from_execution(execution.id, MAIN, min_level="WARN")
        assert client.logs.list_logs_from_execution(execution.id, MAIN, min_level="WARN") == []
        client.logs.delete_logs_from_execution(execution.id, MAIN)
        assert client.logs.list_logs_from_execution(execution.id, MAIN) == []

    def test_given_a_failed_one_then_it_is_restarted_replayed_and_changed(self, client: Any, namespace: str) -> None:
        save(
            client,
            namespace,
            echo("say", "{{ inputs.word }}"),
            fail("break"),
            inputs=[{"id": "word", "type": "STRING"}],
        )
        failed = run(client, namespace, inputs={"word": "first"})
        assert failed.state.current == kestrapy.StateType.FAILED

        restarted = client.executions.restart_execution(failed.id, MAIN)
        until_in(client, restarted, "FAILED")
        again = client.executions.execution(failed.id, MAIN)
        broken = next(one for one in again.task_run_list if one.task_id == "break")
        replayed = client.executions.replay_execution(failed.id, MAIN, task_run_id=broken.id)
        until_in(client, replayed, "FAILED")
        anew = client.executions.replay_execution_with_inputs(failed.id, MAIN, inputs={"word": "second"})
        unchanged = client.executions.replay_execution_with_inputs(failed.id, MAIN)
        until_in(client, anew, "FAILED")
        until_in(client, unchanged, "FAILED")

        assert restarted.id == failed.id
        assert again.metadata.attempt_number == 2
        assert len(broken.attempts) >= 1
        assert replayed.id != failed.id
        assert replayed.original_id == failed.id
        assert (anew.inputs["word"], unchanged.inputs["word"]) == ("second", "first")
        changed = client.executions.update_execution_status(replayed.id, kestrapy.StateType.WARNING, MAIN)
        assert changed.state.current == kestrapy.StateType.WARNING
        request = kestrapy.ExecutionControllerStateRequest(taskRunId=broken.id, state=kestrapy.StateType.SUCCESS)
        client.executions.update_task_run_state(failed.id, MAIN, request)
        until_in(client, failed, "SUCCESS")

    def test_given_one_that_runs_then_it_is_killed(self, client: Any, namespace: str) -> None:
        save(client, namespace, NAP)
        executions = [client.executions.create_execution(MAIN, namespace, "hello") for _ in range(3)]
        for one in executions:
            until_in(client, one, "RUNNING")

        killed = client.executions.kill_execution(executions[0].id, MAIN)
        many = client.executions.kill_executions_by_ids(MAIN, [executions[1].id])
        rest = client.executions.kill_executions_by_query(
            MAIN, [*in_namespace(namespace), is_("STATE", ["RUNNING"], "IN")]
        )

        assert killed.state.current in (kestrapy.StateType.KILLING, kestrapy.StateType.KILLED)
        assert many["count"] == 1
        assert rest["count"] >= 1
        for one in executions:
            until_in(client, one, "KILLED")
        with pytest.raises(kestrapy.ApiException) as raised:
            client.executions.kill_executions_by_ids(MAIN, ["no-such-execution"])
        assert raised.value.status == 400

    def test_given_pauses_then_they_are_resumed_with_inputs(self, client: Any, namespace: str) -> None:
        save(client, namespace, PAUSE, echo("say", "{{ outputs.wait.onResume.reason }}"))
        execution = client.executions.create_execution(MAIN, namespace, "hello")
        until_in(client, execution, "PAUSED")

        told = client.executions.validate_resume_execution_inputs(execution.id, MAIN, inputs={})
        client.executions.resume_execution(execution.id, MAIN, inputs={"reason": "because"})
        until_in(client, execution, "SUCCESS")

        assert [one["input"]["id"] for one in told["inputs"]] == ["reason"]
        ended = client.executions.execution(execution.id, MAIN)
        say = next(one for one in ended.task_run_list if one.task_id == "say")
        assert client.outputs.task_run_outputs(execution.id, say.id, MAIN) == {"value": "because"}
        with pytest.raises(kestrapy.ConflictException):
            client.executions.resume_execution(execution.id, MAIN)

    def test_given_one_that_runs_then_it_is_paused_and_resumed(self, client: Any, namespace: str) -> None:
        save(client, namespace, {**NAP, "duration": "PT0.5S"}, echo("say", "x"))
        execution = client.executions.create_execution(MAIN, namespace, "hello")
        until_in(client, execution, "RUNNING")

        client.executions.pause_execution(execution.id, MAIN)
        until_in(client, execution, "PAUSED")
        resumed = client.executions.resume_executions_by_ids(MAIN, [execution.id])
        until_in(client, execution, "SUCCESS")

        assert resumed["count"] == 1

    def test_given_one_that_has_ended_then_its_labels_are_set(self, client: Any, namespace: str) -> None:
        save(client, namespace)
        first, second = run(client, namespace, labels=["a:1"]), run(client, namespace)

        labelled = client.executions.set_labels_on_terminated_execution(
            first.id, MAIN, [kestrapy.Label(key="b", value="2")]
        )
        request = kestrapy.ExecutionControllerSetLabelsByIdsRequest(
            executionsId=[first.id, second.id], executionLabels=[kestrapy.Label(key="c", value="3")]
        )
        by_ids = client.executions.set_labels_on_terminated_executions_by_ids(MAIN, request)
        by_query = client.executions.set_labels_on_terminated_executions_by_query(
            MAIN, [kestrapy.Label(key="d", value="4")], in_namespace(namespace)
        )

        assert {one.key: one.value for one in labelled.labels}.items() >= {"a": "1", "b": "2"}.items()
        assert (by_ids["count"], by_query["count"]) == (2, 2)
        page = client.executions.search_executions(MAIN, filters=[is_("LABELS", {"c": "3", "d": "4"})])
        assert {one["id"] for one in page["results"]} == {first.id, second.id}
        with pytest.raises(kestrapy.UnprocessableEntityException):
            client.executions.set_labels_on_terminated_execution(
                first.id, MAIN, [kestrapy.Label(key="system.x", value="1")]
            )

    def test_given_several_then_they_are_searched_and_deleted(self, client: Any, namespace: str) -> None:
        save(client, namespace)
        save(client, namespace, fail("break"), id="bad")
        good, bad = run(client, namespace), run(client, namespace, "bad")
        failed = is_("STATE", ["FAILED", "KILLED"], "IN")

        page = client.executions.search_executions(
            MAIN, filters=in_namespace(namespace), sort=["state.startDate:desc"], size=1
        )
        assert (page["total"], [one["id"] for one in page["results"]]) == (2, [bad.id])
        page = client.executions.search_executions(MAIN, filters=[*in_namespace(namespace), failed])
        assert [one["id"] for one in page["results"]] == [bad.id]
        assert client.executions.search_executions_by_flow_id(MAIN, namespace, "hello")["total"] == 1
        named = kestrapy.ExecutionRepositoryInterfaceFlowFilter(namespace=namespace, id="bad")
        assert [one.id for one in client.executions.latest_executions(MAIN, [named])] == [bad.id]
        values = client.executions.find_distinct_execution_field_values(MAIN, "FLOW_ID", in_namespace(namespace))
        assert sorted(values) == ["bad", "hello"]
        text = client.executions.export_executions_by_query_to_csv(MAIN, in_namespace(namespace))
        assert {row["id"] for row in csv.DictReader(io.StringIO(text))} == {good.id, bad.id}
        assert client.executions.execution_flow_graph(good.id, MAIN).nodes
        assert client.executions.flow_from_execution(MAIN, namespace, "hello").id == "hello"
        assert client.executions.flow_from_execution_by_id(bad.id, MAIN).id == "bad"
        assert namespace in client.executions.list_executable_namespaces(MAIN)
        assert len(client.executions.list_executable_flows_by_namespace(namespace, MAIN)) == 2
        assert client.executions.execution_average_duration(namespace, "hello", MAIN)["count"] == 1
        assert client.executions.delete_executions_by_ids(MAIN, [bad.id]).count == 1
        client.executions.delete_execution(good.id, MAIN, delete_logs=False)
        with pytest.raises(kestrapy.NotFoundException):
            client.executions.execution(good.id, MAIN)

    def test_given_expressions_then_they_are_rendered(self, client: Any, namespace: str) -> None:
        save(client, namespace, echo("say", "hello"))
        execution = run(client, namespace)
        [task_run] = execution.task_run_list

        evaluated = client.executions.eval_expression(execution.id, MAIN, "{{ outputs.say.value }}")
        by_run = client.executions.eval_task_run_expression(execution.id, task_run.id, MAIN, "{{ taskrun.id }}")
        wrong = client.executions.eval_task_run_expression(execution.id, task_run.id, MAIN, "{{ nothing.there }}")

        assert evaluated["result"] == "hello"
        assert by_run.result == task_run.id
        assert wrong.error

    def test_given_metrics_then_they_are_listed_and_summed_up(self, client: Any, namespace: str) -> None:
        counted = sh("count", """echo '::{"metrics":[{"name":"rows","type":"counter","value":3}]}::'""")
        save(client, namespace, counted)
        execution = run(client, namespace)

        assert "rows" in [one["name"] for one in client.metrics.execution_metrics(execution.id, MAIN)["results"]]
        assert "rows" in client.metrics.flow_metric_names(namespace, "hello", MAIN)
        assert client.metrics.task_metric_names(namespace, "hello", "count", MAIN)
        assert client.metrics.tasks_with_metrics(namespace, "hello", MAIN) == ["count"]
        summed = client.metrics.aggregate_flow_metric(namespace, "hello", "rows", MAIN)
        assert sum(one.get("value") or 0 for one in summed["aggregations"]) == 3

    def test_given_a_webhook_then_the_sdk_calls_it(self, client: Any, namespace: str) -> None:
        hook = {"id": "hook", "type": f"{CORE}.trigger.Webhook", "key": "a-long-key"}
        save(client, namespace, echo("say", "{{ trigger.parameters }}"), triggers=[hook])

        started = client.executions.trigger_execution_by_get_webhook(MAIN, namespace, "hello", "a-long-key")
        more = client.executions.trigger_execution_by_post_webhook_with_path(
            MAIN, namespace, "hello", "a-long-key", "below"
        )

        assert started.flow_id == more.flow_id == "hello"
        until_in(client, started, "SUCCESS")
        with pytest.raises(kestrapy.NotFoundException):
            client.executions.trigger_execution_by_get_webhook(MAIN, namespace, "hello", "wrong")


class TestSecrets:
    def test_given_a_secret_then_no_answer_shows_it(self, client: Any, namespace: str) -> None:
        secret = "{{ secret('PASSPHRASE') }}"
        tasks = [echo("said", secret), sh("printed", f"echo {secret}"), sh("broken", f"echo {secret} >&2; exit 1")]
        save(client, namespace, *tasks, outputs=[{"id": "out", "type": "STRING", "value": "{{ outputs.said.value }}"}])

        execution = run(client, namespace)

        assert execution.state.current == kestrapy.StateType.FAILED
        shown = [
            json.dumps(execution.to_dict(), default=str),
            json.dumps(client.outputs.execution_outputs(execution.id, MAIN)),
            client.logs.download_logs_from_execution(execution.id, MAIN),
            str(client.logs.search_logs(MAIN, filters=in_namespace(namespace)).to_dict()),
            str(list(client.executions.follow_execution(execution.id, MAIN))),
            str(list(client.logs.follow_logs_from_execution(execution.id, MAIN))),
            str(client.executions.eval_expression(execution.id, MAIN, secret)),
            str(client.executions.eval_expression(execution.id, MAIN, "{{ outputs.said.value }}")),
            str(client.executions.execution_flow_graph(execution.id, MAIN).to_dict()),
            *(
                json.dumps(client.outputs.task_run_outputs(execution.id, one.id, MAIN))
                for one in execution.task_run_list
            ),
        ]
        assert not [text for text in shown if HIDDEN in text]
        assert any("*" in text for text in shown)


class TestStores:
    def test_given_key_value_pairs_then_types_and_times_are_kept(self, client: Any, namespace: str) -> None:
        given = {
            "text": ('"hello"', "STRING", "hello"),
            "number": ("42", "NUMBER", 42),
            "flag": ("true", "BOOLEAN", True),
            "list": ("[1, 2]", "JSON", [1, 2]),
            "map": ('{"a": 1}', "JSON", {"a": 1}),
            "span": ('"PT5M"', "DURATION", None),
            "day": ("2021-09-01", "DATE", None),
        }
        for key, (body, _, _) in given.items():
            client.kv.set_key_value(namespace, key, MAIN, body)

        for key, (_, kind, value) in given.items():
            found = client.kv.key_value(namespace, key, MAIN)
            assert found.type is not None
            assert found.type.value == kind
            assert value is None or found.value == value
        page = client.kv.list_all_keys(MAIN, filters=in_namespace(namespace), size=100)
        assert {one.key for one in page.results} == given.keys()
        assert "text" in {one.key for one in client.kv.list_keys_with_inheritance(f"{namespace}.below", MAIN)}
        save(client, namespace, echo("say", "{{ kv('text') }}"))
        execution = run(client, namespace)
        assert client.executions.eval_expression(execution.id, MAIN, "{{ outputs.say.value }}")["result"] == "hello"
        assert client.kv.delete_key_value(namespace, "text", MAIN) is True
        assert client.kv.delete_key_value(namespace, "text", MAIN) is False
        request = kestrapy.KVControllerApiDeleteBulkRequest(keys=["number", "flag"])
        assert sorted(client.kv.delete_key_values(namespace, MAIN, request).keys or []) == ["flag", "number"]
        with pytest.raises(kestrapy.NotFoundException):
            client.kv.key_value(namespace, "text", MAIN)
        with pytest.raises(kestrapy.UnprocessableEntityException):
            client.kv.set_key_value(namespace, "text", MAIN, "{")

    def test_given_namespace_files_then_flows_read_them(self, client: Any, namespace: str) -> None:
        files = client.files
        files.create_namespace_file(namespace, "/folder/a.txt", MAIN, b"first")
        files.create_namespace_file(namespace, "/folder/a.txt", MAIN, b"second")
        files.create_namespace_directory(namespace, MAIN, "/empty")
        save(client, namespace, echo("say", "{{ read('folder/a.txt') }}"))

        execution = run(client, namespace)

        assert client.executions.eval_expression(execution.id, MAIN, "{{ outputs.say.value }}")["result"] == "second"
        assert files.file_content(namespace, "/folder/a.txt", MAIN) == b"second"
        revisions = [one.revision for one in files.file_revisions(namespace, MAIN, "/folder/a.txt")]
        assert revisions == [1, 2]
        assert files.file_content(namespace, "/folder/a.txt", MAIN, revision=1) == b"first"
        assert files.file_metadatas(namespace, MAIN, "/folder/a.txt").size == 6
        assert {one.file_name for one in files.list_namespace_directory_files(namespace, MAIN)} == {"folder", "empty"}
        assert files.search_namespace_files(namespace, "a.t", MAIN) == ["/folder/a.txt"]
        files.move_file_directory(namespace, "/folder/a.txt", "/b.txt", MAIN)
        with zipfile.ZipFile(io.BytesIO(files.export_namespace_files(namespace, MAIN))) as archive:
            assert "b.txt" in {name.lstrip("/") for name in archive.namelist()}
        files.delete_file_directory(namespace, "/b.txt", MAIN)
        with pytest.raises(kestrapy.NotFoundException):
            files.file_content(namespace, "/b.txt", MAIN)
        with pytest.raises(kestrapy.ApiException):
            files.file_content(namespace, "/../../../etc/passwd", MAIN)

    def test_given_namespaces_then_they_are_found(self, client: Any, namespace: str) -> None:
        save(client, f"{namespace}.below")

        found = client.namespaces.search_namespaces(MAIN, filters=[is_("QUERY", namespace)])

        assert {one.id for one in found.results} == {namespace, f"{namespace}.below"}
        assert client.namespaces.namespace(namespace, MAIN).id == namespace
        assert f"{namespace}.below" in client.namespaces.autocomplete_namespaces(
            MAIN, kestrapy.ApiAutocomplete(q=namespace)
        )
        names = client.namespaces.inherited_secrets(namespace, MAIN)
        assert "PASSPHRASE" in str(names)
        assert HIDDEN not in str(names)


class TestTriggers:
    def saved(self, client: Any, namespace: str, *tasks: Node) -> dict[str, str]:
        save(client, namespace, *tasks, triggers=[schedule(cron=YEARLY)])
        name = {"namespace": namespace, "flowId": "hello", "triggerId": "schedule"}
        until(lambda: "updatedAt" in self.state(client, name))
        return name

    def state(self, client: Any, name: dict[str, str]) -> dict[str, Any]:
        [found] = client.triggers.search_triggers_for_flow(MAIN, name["namespace"], name["flowId"])["results"]
        return found

    def test_given_a_trigger_then_it_is_found_disabled_and_enabled(self, client: Any, namespace: str) -> None:
        name = self.saved(client, namespace)
        filters = [*in_namespace(namespace), is_("TRIGGER_ID", "schedule")]

        [item] = client.triggers.search_triggers(MAIN, filters=filters, sort=["nextExecutionDate:asc"])["results"]
        assert item["trigger"]["cron"] == YEARLY
        assert client.triggers.disable_trigger_by_id(MAIN, {**name, "disabled": True})["disabled"] is True
        assert self.state(client, name)["disabled"] is True
        request = kestrapy.TriggerControllerSetDisabledRequest(
            triggers=[kestrapy.TriggerControllerApiTriggerId(**name)], disabled=False
        )
        assert client.triggers.disabled_triggers_by_ids(MAIN, request)["count"] == 1
        assert self.state(client, name)["disabled"] is False
        assert client.triggers.disabled_triggers_by_query(MAIN, True, filters)["count"] == 1
        assert client.triggers.disabled_triggers_by_query(MAIN, False, filters)["count"] == 1
        assert "schedule" in client.triggers.export_triggers(MAIN, filters)
        assert client.triggers.restart_trigger(MAIN, *name.values())["triggerId"] == "schedule"

    def test_given_a_backfill_then_it_is_paused_goes_on_and_ends(self, client: Any, namespace: str) -> None:
        name = self.saved(client, namespace, {"id": "wait", "type": f"{CORE}.flow.Pause"})
        span = {
            "start": "2000-12-31T00:00:00Z",
            "end": "2003-06-01T00:00:00Z",
            "labels": [{"key": "why", "value": "late"}],
        }

        created = client.triggers.create_backfill(MAIN, {**name, "backfill": span})
        until(lambda: self.state(client, name)["locked"])
        paused = client.triggers.pause_backfill(MAIN, name)
        unpaused = client.triggers.unpause_backfill(MAIN, name)

        assert created["backfill"]["paused"] is False
        assert paused["backfill"]["paused"] is True
        assert unpaused["backfill"]["paused"] is False
        [first] = client.executions.search_executions(MAIN, filters=in_namespace(namespace))["results"]
        assert first["trigger"]["variables"]["date"].startswith("2001-01-01")
        assert {"key": "why", "value": "late"} in first["labels"]
        assert client.triggers.delete_backfill(MAIN, name).get("backfill") is None
        client.triggers.unlock_trigger(MAIN, *name.values())
        assert self.state(client, name)["locked"] is False
        with pytest.raises(kestrapy.ConflictException):
            client.triggers.unlock_trigger(MAIN, *name.values())
        client.executions.kill_executions_by_query(MAIN, in_namespace(namespace))

    def test_given_a_flow_that_is_gone_then_what_is_left_of_its_trigger_is_deleted(
        self, client: Any, namespace: str
    ) -> None:
        self.saved(client, namespace)
        client.flows.delete_flow(namespace, "hello", MAIN)

        client.triggers.delete_triggers_by_query(
            MAIN, kestrapy.DeleteTriggersByQueryRequest(filters=in_namespace(namespace))
        )

        assert client.triggers.search_triggers(MAIN, filters=in_namespace(namespace))["total"] == 0


class TestPlugins:
    def test_given_types_then_they_are_described(self, client: Any) -> None:
        assert client.plugins.list_plugins()
        assert client.misc.pebble_filters()
        assert client.misc.pebble_functions()


FLOW = """
import os, sys
from kestra import Flow

flow = Flow(wait_for_completion=True, poll_interval=1, labels_from_inputs=True, **{tenant})
{password}
result = flow.execute("{namespace}", "hello", {{"word": "ä", "data": ("data", open(sys.argv[1], "rb"), "text/plain")}})
print(result.status, result.log)
"""


class TestFlowOfThePackage:
    @pytest.mark.parametrize(
        ("by", "tenant"), [("token", {}), ("password", {"tenant": "main"})], ids=["plain", "tenant"]
    )
    def test_given_the_class_flow_then_it_runs_a_flow_and_reads_its_log(
        self, server: ApiServer, client: Any, tmp_path: Path, by: str, tenant: dict[str, str]
    ) -> None:
        namespace = f"company.package.{by}"
        inputs = [{"id": "word", "type": "STRING"}, {"id": "data", "type": "FILE"}]
        told = {"id": "say", "type": f"{CORE}.log.Log", "message": "{{ inputs.word }} {{ read(inputs.data) }}"}
        save(client, namespace, told, inputs=inputs)
        (tmp_path / "data").write_text("from a file")
        password = f"flow.password = {PASSWORD!r}" if by == "password" else ""
        env = {"KESTRA_USER": USER} if by == "password" else {"KESTRA_API_TOKEN": TOKEN}

        done = subprocess.run(
            [
                venv_with("kestra"),
                "-c",
                FLOW.format(namespace=namespace, password=password, tenant=tenant),
                tmp_path / "data",
            ],
            env={"KESTRA_HOSTNAME": server.address, "PYTHONUTF8": "1", **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("SUCCESS"), done.stdout
        assert "ä from a file" in done.stdout
