"""The examples of types that need a service run against a server on this machine, whose address replaces their host."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tercel.model import State
from tercel.model.schema import example_flow
from tercel.model.trigger import Trigger
from tests.homes import Ran, git, until
from tests.mongodb import MongoServer
from tests.plugin_examples import SERVICES, TYPES, ExampleHome
from tests.s3 import S3Server
from tests.servers import Answer, git_server, http_server

PASSWORD = "open sesame"


def of(service: str, *, triggers: bool = False) -> list[str]:
    """The types of a service: its tasks, or its triggers."""
    return [name for name, part in TYPES.items() if name.startswith(service) and issubclass(part, Trigger) is triggers]


def with_secrets(folder: Path, **secrets: str) -> Iterator[ExampleHome]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in secrets.items():
            patch.setenv(f"SECRET_{name}", base64.b64encode(value.encode()).decode())
        with ExampleHome(folder) as home:
            yield home


def started_by(home: ExampleHome, text: str, when: Callable[[], object] = lambda: None) -> Ran:
    """Save a flow with a trigger, do *when*, and wait for the execution that the trigger starts."""
    home.save(text)
    home.engine.schedule()
    when()
    until(lambda: bool(home.executions("example")))
    [started] = home.executions("example")
    return home.wait(started.id)


def test_given_the_services_then_the_types_of_each_are_tried_here() -> None:
    assert [service for service in SERVICES if not of(service)] == []
    assert [name for service in SERVICES for name in of(service, triggers=True)] == [
        "aws.s3.Trigger",
        "core.http.Trigger",
        "mongodb.Trigger",
    ]


# S3


@pytest.fixture
def s3_home(tmp_path: Path, s3_server: S3Server) -> Iterator[ExampleHome]:
    yield from with_secrets(tmp_path / "home", AWS_ACCESS_KEY_ID=s3_server.key, AWS_SECRET_ACCESS_KEY=s3_server.secret)


def s3_text(server: S3Server, name: str, bucket: str) -> str:
    """An example that uses *bucket* of the server."""
    text = example_flow(TYPES[name]).replace("bucket: reports\n", f"bucket: {bucket}\n")
    text = text.replace("bucket: orders\n", f"bucket: {bucket}\n").replace("PT30S", "PT0.1S")
    values = {"endpointOverride": server.address, "forcePathStyle": True}
    return f"{text}pluginDefaults:\n  - {{type: io.kestra.plugin.aws.s3, values: {json.dumps(values)}}}\n"


@pytest.mark.parametrize("name", of("aws."))
def test_given_the_example_of_a_task_of_s3_then_it_runs(s3_home: ExampleHome, s3_server: S3Server, name: str) -> None:
    bucket = s3_server.bucket()
    s3_server.put(bucket, {"daily/today.csv": "1", "daily/half.tmp": "2"})

    ran = s3_home.run_example(name, s3_text(s3_server, name, bucket))

    assert ran.state is State.SUCCESS, [entry.message for entry in ran.logs]
    wanted = {
        "aws.s3.Copy": {"archive/today.csv", "daily/half.tmp", "daily/today.csv"},
        "aws.s3.Delete": {"daily/half.tmp"},
        "aws.s3.DeleteList": {"daily/today.csv"},
        "aws.s3.Downloads": {"archive/today.csv", "archive/half.tmp"},
    }
    assert set(s3_server.keys(bucket)) == wanted.get(name, {"daily/half.tmp", "daily/today.csv"})
    if name == "aws.s3.Upload":
        assert s3_server.get(bucket, "daily/today.csv") == b"day,total\n2030-01-01,12\n"


def test_given_the_example_of_the_trigger_of_s3_then_an_object_starts_an_execution(
    s3_home: ExampleHome, s3_server: S3Server
) -> None:
    bucket = s3_server.bucket()
    s3_server.put(bucket, {"incoming/order.json": "{}"})

    ran = started_by(s3_home, s3_text(s3_server, "aws.s3.Trigger", bucket))

    assert ran.log_of("show") == '["incoming/order.json"]'
    until(lambda: s3_server.keys(bucket) == ["archive/order.json"])


# MongoDB


@pytest.fixture
def mongodb_home(tmp_path: Path, mongodb_server: MongoServer) -> Iterator[ExampleHome]:
    yield from with_secrets(tmp_path / "home", MONGODB_URI=mongodb_server.uri)


@pytest.fixture
def shop(mongodb_server: MongoServer, request: pytest.FixtureRequest) -> str:
    """A database with orders."""
    name = re.sub(r"\W+", "_", request.node.name)[-60:]
    orders = [
        {"order": 1, "customer": "Ada", "total": 120, "paid": True, "status": "paid"},
        {"order": 2, "customer": "Grace", "total": 40, "paid": False, "status": "cancelled"},
    ]
    mongodb_server.insert(name, "orders", orders)
    return name


@pytest.mark.parametrize("name", of("mongodb."))
def test_given_the_example_of_a_task_of_mongodb_then_it_runs(
    mongodb_home: ExampleHome, mongodb_server: MongoServer, shop: str, name: str
) -> None:
    text = example_flow(TYPES[name]).replace("database: shop\n", f"database: {shop}\n")

    ran = mongodb_home.run_example(name, text)

    assert ran.state is State.SUCCESS, [entry.message for entry in ran.logs]
    orders = mongodb_server.documents(shop, "orders")
    wanted = {"InsertOne": 3, "Load": 4, "Bulk": 3, "Delete": 1}
    assert len(orders) == wanted.get(name.removeprefix("mongodb."), 2)
    if name == "mongodb.InsertMany":
        assert [one["name"] for one in mongodb_server.documents(shop, "customers")] == ["Ada", "Grace"]
    if name == "mongodb.Update":
        assert [one.get("checked") for one in orders] == [True, None]
    if name == "mongodb.Find":
        assert "1 orders: " in ran.log_of("show")


def test_given_the_example_of_the_trigger_of_mongodb_then_a_document_starts_an_execution(
    mongodb_home: ExampleHome, mongodb_server: MongoServer, shop: str
) -> None:
    text = example_flow(TYPES["mongodb.Trigger"]).replace("database: shop\n", f"database: {shop}\n")

    ran = started_by(mongodb_home, text)

    assert ran.state is State.SUCCESS, [entry.message for entry in ran.logs]
    assert ran.log_of("ship").startswith("1 orders to ship: ")
    assert [one["status"] for one in mongodb_server.documents(shop, "orders")] == ["shipped", "cancelled"]


# HTTP


def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """What the services answer that examples ask."""
    match method, path:
        case "GET", "/datasets/orders.csv":
            return 200, {"Content-Type": "text/csv"}, b"order,total\n1,12\n"
        case "POST", "/api/orders" if headers.get("authorization") == f"Bearer {PASSWORD}":
            return 201, {"Content-Type": "application/json"}, json.dumps({"id": 7, **json.loads(body)}).encode()
        case "GET", "/api/waiting":
            return 200, {"Content-Type": "application/json"}, b'{"count": 3}'
        case _:
            return 404, {}, b""


@pytest.fixture
def http_home(tmp_path: Path) -> Iterator[ExampleHome]:
    yield from with_secrets(tmp_path / "home", ORDERS_TOKEN=PASSWORD)


def http_text(name: str, address: str) -> str:
    text = example_flow(TYPES[name])
    for host in ("https://files.example", "https://orders.example"):
        text = text.replace(host, address)
    return text


@pytest.mark.parametrize("name", of("core.http."))
def test_given_the_example_of_a_task_of_http_then_it_runs(http_home: ExampleHome, name: str) -> None:
    with http_server(answer) as address:
        ran = http_home.run_example(name, http_text(name, address))

    assert ran.state is State.SUCCESS, [entry.message for entry in ran.logs]
    said = {"core.http.Download": "has 17 bytes.", "core.http.Request": "Order 7 is created."}[name]
    assert said in "\n".join(entry.message for entry in ran.logs)


def test_given_the_example_of_the_trigger_of_http_then_an_answer_starts_an_execution(http_home: ExampleHome) -> None:
    with http_server(answer) as address:
        ran = started_by(http_home, http_text("core.http.Trigger", address))

    assert ran.log_of("show") == "3 orders wait."


# Git


REPOSITORIES: Mapping[str, Mapping[str, str]] = {
    "scripts": {"build.sh": "echo built\n"},
    "reports": {"README.md": "Reports\n"},
    "flows": {
        "scripts/build.sh": "echo built\n",
        "team/query.sql": "select 1\n",
        **{
            f"{folder}/report.yml": "id: report\nnamespace: company.team\ntasks:\n"
            "  - {id: say, type: io.kestra.plugin.core.log.Log, message: Report}\n"
            for folder in ("flows", "_flows", "team/_flows")
        },
    },
}
"""The repositories that examples name, to what is in them."""


@pytest.fixture
def git_home(tmp_path: Path) -> Iterator[tuple[ExampleHome, str]]:
    """A home, and the address of the repositories, which belong to this test."""
    for name, files in REPOSITORIES.items():
        work = tmp_path / "work" / name
        for path, content in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(content)
        git(work, "init", "-q", "-b", "main")
        git(work, "add", ".")
        git(work, "commit", "-qm", "first")
        git(work, "clone", "-q", "--bare", str(work), str(tmp_path / "served" / "team" / f"{name}.git"))
    with git_server(tmp_path / "served", "robot", PASSWORD) as address:
        for home in with_secrets(tmp_path / "home", GIT_TOKEN=PASSWORD):
            home.put_namespace_file("company.team", "scripts/own.sh", "echo own\n")
            yield home, address


@pytest.mark.parametrize("name", of("git."))
def test_given_the_example_of_a_task_of_git_then_it_runs(
    git_home: tuple[ExampleHome, str], tmp_path: Path, name: str
) -> None:
    home, address = git_home
    text = example_flow(TYPES[name]).replace("https://git.example.com", address)

    ran = home.run_example(name, text)

    assert ran.state is State.SUCCESS, [entry.message for entry in ran.logs]
    served = tmp_path / "served" / "team"
    match name.removeprefix("git."):
        case "Clone":
            assert "built" in ran.log_of("build")
        case "Push":
            assert "report.txt" in git(served / "reports.git", "ls-tree", "-r", "--name-only", "main")
        case "PushExecutionFiles":
            pushed = git(served / "reports.git", "ls-tree", "-r", "--name-only", "main")
            assert f"reports/{ran.execution.id}.txt" in pushed
        case "PushFlows":
            assert "load_orders" in git(served / "flows.git", "ls-tree", "-r", "--name-only", "develop")
        case "PushNamespaceFiles":
            assert "develop" not in git(served / "flows.git", "branch")  # a dry run
        case "Sync":
            assert "query.sql" in files_of(home)
            assert "report" in {flow.id for flow in home.engine.call(home.engine.queries.saved_flows("company.team"))}
        case "SyncFlow" | "SyncFlows":
            flows = home.engine.call(home.engine.queries.saved_flows("company.team"))
            assert "report" in {flow.id for flow in flows}
        case "SyncNamespaceFiles":
            assert files_of(home) == {"build.sh"}
        case _:
            raise AssertionError(f"Nothing is said of what the example of {name} does.")


def files_of(home: ExampleHome) -> set[str]:
    from tercel.storage.namespace_files import StoredNamespaceFiles

    return {file.path for file in StoredNamespaceFiles(home.engine.storage, "company.team").list()}
