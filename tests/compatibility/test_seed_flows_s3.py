"""The seed flows that use S3, whole and unmodified: what they upload, and what starts them when it appears.

The store is a server of the tests, named by the environment; the login comes from secrets. Images and Git repository
are stood in for as in `test_seed_flows_run_in_containers`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from tercel.model import Execution
from tercel.server import read_home
from tercel.settings import read_settings
from tercel.store import ExecutionQuery
from tests.command_line import command, environment, tercel
from tests.docker_engine import ensure_image
from tests.homes import until
from tests.s3 import REGION, S3Server
from tests.seeds import SEEDS, Seeds, make_seeds, outputs_of

pytestmark = [
    pytest.mark.skipif(not SEEDS.is_dir(), reason="no ../shared/seeds beside the project"),
    pytest.mark.usefixtures("docker_engine"),
]

IMAGE = "ghcr.io/kestra-io/pydata"
INBOX = "declarative-orchestration"
MESSY = "name,amount\n Ann ,1\n Ann ,1\nBob,\n"


@pytest.fixture
def seeds(tmp_path: Path, s3_server: S3Server) -> Seeds:
    made = make_seeds(tmp_path, task_runner="")
    secrets = {
        "AWS_ACCESS_KEY_ID": s3_server.key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret,
        "AWS_DEFAULT_REGION": REGION,
    }
    made.env |= {f"SECRET_{name}": base64.b64encode(value.encode()).decode() for name, value in secrets.items()}
    made.env["AWS_ENDPOINT_URL_S3"] = s3_server.address
    return made


def make_bucket(server: S3Server, name: str) -> None:
    """A bucket of a name that a flow says, without the objects of other tests."""
    if name not in [one.get("Name") for one in server.client.list_buckets()["Buckets"]]:
        server.make(name)
    for key in server.keys(name):
        server.client.delete_object(Bucket=name, Key=key)


def assert_secret_nowhere(seeds: Seeds, server: S3Server) -> None:
    for path in seeds.home.rglob("*"):
        if path.is_file():
            assert server.secret.encode() not in path.read_bytes(), path


def test_given_003_02_then_what_the_scripts_make_is_uploaded(seeds: Seeds, s3_server: S3Server) -> None:
    ensure_image(IMAGE)
    make_bucket(s3_server, "kestraio")

    result = seeds.run(SEEDS / "003_02_pythonCommandsExample.yaml")

    assert outputs_of(result, "loadCsvToS3")["bucket"] == "kestraio"
    content = s3_server.get("kestraio", "stage/orders.csv")
    stored = outputs_of(result, "outputFile")["uris"]["orders.csv"]
    with read_home(read_settings({}, home=seeds.home)) as opened, opened.storage.get(stored) as file:
        assert content == file.read()
    assert content.count(b"\n") > 1
    assert_secret_nowhere(seeds, s3_server)


@pytest.mark.parametrize(
    ("name", "task", "output"),
    [("000_01_s3TriggerCommands", "wdir", "outputFiles"), ("003_16_s3TriggerCommands", "output", "uris")],
)
def test_given_an_object_that_appears_then_the_flow_takes_it_once_and_archives_it(
    seeds: Seeds, s3_server: S3Server, name: str, task: str, output: str
) -> None:
    ensure_image(IMAGE)
    make_bucket(s3_server, INBOX)
    s3_server.put(INBOX, {"raw/": b""})  # the folder's marker, which is no file
    saved = tercel("flow", "save", SEEDS / f"{name}.yaml", home=seeds.home, env=seeds.env)
    assert saved.returncode == 0, saved.stderr

    with a_server(seeds):
        s3_server.put(INBOX, {"raw/messy.csv": MESSY})
        until(lambda: any(not one.is_open for one in executions(seeds)), deadline_s=180)
        until(lambda: s3_server.keys(INBOX) == ["archive/raw/messy.csv", "raw/"])

    [execution] = executions(seeds)
    assert execution.state == "SUCCESS", seeds.logs(execution.id)
    assert s3_server.get(INBOX, "archive/raw/messy.csv").decode() == MESSY
    with read_home(read_settings({}, home=seeds.home)) as opened:
        runs = opened.call(opened.queries.task_runs(execution.id))
        [files] = [run.outputs[output] for run in runs if run.task_id == task]
        assert isinstance(files, dict)
        with opened.storage.get(files["data.csv"]) as file:
            assert file.read().decode() == MESSY
    assert len(files) >= 2
    assert_secret_nowhere(seeds, s3_server)


@contextmanager
def a_server(seeds: Seeds) -> Iterator[None]:
    started = Popen(
        command("server", "--port", "0"), env=environment(seeds.home, seeds.env), stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        yield
    finally:
        started.terminate()
        started.wait(60)


def executions(seeds: Seeds) -> list[Execution]:
    with read_home(read_settings({}, home=seeds.home)) as opened:
        return list(opened.call(opened.queries.search_executions(ExecutionQuery(flow_id="s3TriggerCommands"))))
