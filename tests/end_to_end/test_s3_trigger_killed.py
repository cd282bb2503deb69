"""A server that waits for objects and is killed with -9 again and again: each object starts exactly one execution."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from subprocess import DEVNULL, Popen
from typing import Any, cast

from tercel.model import Execution
from tercel.server import read_home
from tercel.settings import read_settings
from tercel.store import ExecutionQuery
from tests.command_line import command, environment, tercel
from tests.flows import echo, flow
from tests.homes import until
from tests.s3 import S3Server, running_server

OBJECTS = 1000
KILLS = 10
AT_ONCE = 60


def test_given_1000_objects_and_ten_kills_then_each_object_starts_exactly_once(tmp_path: Path) -> None:
    with running_server(is_open=True) as server:
        bucket = server.bucket("inbox")
        names = [f"in/{number:04}.txt" for number in range(OBJECTS)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: server.put(bucket, {name: f"content of {name}"}), names))
        home = tmp_path / "home"
        _save(tmp_path, home, server, bucket)

        kills = 0
        rng = Random(7)
        while True:
            running = _server(home)
            try:
                if kills < KILLS:
                    # By the files it has stored, so that the kills are spread over all of its work.
                    goal = min(_files(home) + rng.randint(1, 2 * (OBJECTS // (KILLS + 3))), OBJECTS)
                    until(lambda goal=goal: _files(home) >= goal)
                    running.send_signal(signal.SIGKILL)
                    assert running.wait() == -signal.SIGKILL
                    kills += 1
                    continue
                until(lambda: _files(home) == OBJECTS)
                until(lambda: _is_done(home) and server.keys(bucket) == [])
                break
            finally:
                running.kill()
                running.wait()

        with read_home(read_settings({}, home=home)) as opened:
            found = opened.call(opened.queries.search_executions(ExecutionQuery(flow_id="owner", limit=1000)))
            files = sum(1 for _ in opened.storage.list("/"))
        taken = Counter(one["key"] for execution in found for one in _objects(execution))
        assert kills == KILLS
        assert taken == Counter(names)
        assert {execution.state for execution in found} == {"SUCCESS"}
        assert files == OBJECTS
        assert server.keys(bucket) == []


def _save(folder: Path, home: Path, server: S3Server, bucket: str) -> None:
    trigger = {
        "id": "inbox",
        "type": "io.kestra.plugin.aws.s3.Trigger",
        "bucket": bucket,
        "interval": "PT0.01S",
        "maxKeys": AT_ONCE,
        "prefix": "in/",
        "action": "DELETE",
        **server.login,
    }
    path = folder / "flow.yaml"
    say = "{{ read(trigger.objects | jq('.[].uri') | first) }}"
    path.write_text(flow(echo("say", say), id="owner", triggers=[trigger]))
    assert tercel("flow", "save", path, home=home).returncode == 0


def _server(home: Path) -> Popen[bytes]:
    return Popen(command("server", "--port", "0"), env=environment(home), stdout=DEVNULL, stderr=DEVNULL)


def _files(home: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(home / "storage" / "tests"))


def _is_done(home: Path) -> bool:
    with read_home(read_settings({}, home=home)) as opened:
        found = opened.call(opened.queries.search_executions(ExecutionQuery(flow_id="owner", limit=1000)))
    return sum(len(_objects(execution)) for execution in found if not execution.is_open) >= OBJECTS


def _objects(execution: Execution) -> list[dict[str, Any]]:
    return cast("dict[str, Any]", execution.trigger)["variables"]["objects"]
