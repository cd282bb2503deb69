"""Scripts in containers of a real engine, through whole flows: files, ends, logs, images, limits, what is left."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from tercel.model import LogLevel
from tercel.plugin_api import Command
from tercel.plugins.scripts.docker.engines import find_host
from tercel.plugins.scripts.docker.runner import DOCKER, Docker
from tercel.settings import Settings
from tests.command_line import ROOT, command, environment
from tests.contract.test_task_runner import Printed
from tests.docker_engine import ensure_image
from tests.flows import CORE, SCRIPTS, Node, as_yaml, echo, flow, sh, wd
from tests.homes import Home, Ran, until
from tests.run_contexts import DirectoryContext
from tests.tools import need, unavailable
from tests.trees import an_odd_tree, everything_in
from tests.unprivileged import NOBODY

if TYPE_CHECKING:
    from docker import DockerClient

COPIES = {"fileHandlingStrategy": "VOLUME"}
MOUNTS = {"fileHandlingStrategy": "MOUNT"}


@pytest.fixture(autouse=True)
def client(docker_engine: DockerClient) -> DockerClient:
    """A client of the engine, which has the image that most tests use."""
    ensure_image("busybox")
    return docker_engine


@pytest.fixture(params=[MOUNTS, COPIES], ids=["mounted", "copied"])
def files(request: pytest.FixtureRequest) -> Node:
    """How the container gets to see the working directory."""
    return request.param


def docker(
    id: str, *commands: str, image: str = "busybox", runner: Mapping[str, Any] | None = None, **more: Any
) -> Node:
    """A shell task in a container."""
    return {
        "id": id,
        "type": f"{SCRIPTS}.shell.Commands",
        "containerImage": image,
        "taskRunner": {"type": DOCKER, **(runner or {})},
        "commands": list(commands),
        **more,
    }


def states(ran: Ran) -> dict[str, str]:
    return {run.task_id: run.state.value for run in ran.runs}


def outputs(ran: Ran, task_id: str) -> dict[str, Any]:
    return dict(ran.run_of(task_id).outputs)


def error_of(ran: Ran, task_id: str) -> str:
    """The errors in a task's log."""
    return "\n".join(entry.message for entry in ran.logs if entry.task_id == task_id and entry.level == "ERROR")


def containers(client: DockerClient, **labels: str) -> list[dict[str, Any]]:
    """The containers of an execution, or a flow, whatever their state."""
    filters = [f"kestra.io/{name.replace('_', '-')}={value}" for name, value in labels.items()]
    return client.api.containers(all=True, filters={"label": filters})


def none_is_left(client: DockerClient, ran: Ran) -> bool:
    until(lambda: containers(client, execution_id=ran.execution.id) == [])
    return True


def running(client: DockerClient, flow_id: str) -> list[str]:
    """Ids of a flow's containers that run."""
    return [one["Id"] for one in containers(client, flow_id=flow_id) if one["State"] == "running"]


class TestFiles:
    def test_given_files_of_every_kind_then_the_script_has_them_and_what_it_makes_is_kept(
        self, home: Home, files: Node, client: DockerClient
    ) -> None:
        home.put_namespace_file("tests", "lib/tool.txt", "from the namespace")
        stored = home.put("/stored/data.csv", b"1,2\n")
        task = docker(
            "a",
            "cat in.txt lib/tool.txt {{ inputs.uri }}; echo; pwd; stat -c %a .",
            "test $PWD = {{ workingDir }} && test $PWD = $WORKING_DIR && test {{ outputDir }} = $OUTPUT_DIR",
            "echo kept > {{ outputDir }}/kept.txt; mkdir -p out/deep; echo deep > out/deep/x.txt",
            "echo named > {{ outputFiles['named.txt'] }}; echo unnamed > unnamed.txt",
            """echo '::{"outputs":{"a":1},"metrics":[{"name":"n","type":"counter","value":2}]}::'""",
            runner=files,
            inputFiles={"in.txt": "from the flow {{ flow.id }}\n"},
            namespaceFiles={"enabled": True},
            outputFiles=["out/**", "named.txt"],
        )
        text = flow(
            task, echo("b", "{{ read(outputs.a.outputFiles['named.txt']) }}"), inputs=[{"id": "uri", "type": "STRING"}]
        )

        ran = home.run(text, inputs={"uri": stored})

        assert states(ran) == {"a": "SUCCESS", "b": "SUCCESS"}, ran.log_of("a")
        lines = ran.output_lines("a")
        assert lines[:2] == ["from the flow scenario", "from the namespace1,2"]
        assert lines[4:] == ["700"]
        found = outputs(ran, "a")
        assert (found["exitCode"], found["vars"]) == (0, {"a": 1})
        assert {name: home.read(uri) for name, uri in found["outputFiles"].items()} == {
            "kept.txt": b"kept\n",
            "out/deep/x.txt": b"deep\n",
            "named.txt": b"named\n",
        }
        assert outputs(ran, "b") == {"value": "named\n"}
        assert {(metric.name, metric.value) for metric in ran.metrics if metric.name == "n"} == {("n", 2.0)}
        assert home.leftovers() == []
        assert none_is_left(client, ran)

    def test_given_a_failure_then_its_code_and_what_it_made_are_kept(self, home: Home, files: Node) -> None:
        task = docker(
            "a",
            "echo half > half.txt; echo o > {{ outputDir }}/o",
            """echo '::{"outputs":{"a":1}}::'""",
            "(exit 3)",
            "echo never > never.txt",
            runner=files,
            outputFiles=["*.txt"],
        )

        ran = home.run(flow(task))

        assert ran.state == "FAILED"
        found = outputs(ran, "a")
        assert (found["exitCode"], found["vars"]) == (3, {"a": 1})
        assert {name: home.read(uri) for name, uri in found["outputFiles"].items()} == {
            "half.txt": b"half\n",
            "o": b"o\n",
        }
        assert error_of(ran, "a") == "Command failed with exit code 3"

    def test_given_an_odd_tree_when_a_container_only_looks_then_nothing_in_it_has_changed(self, tmp_path: Path) -> None:
        context = DirectoryContext(tmp_path)
        an_odd_tree(context.working_directory)
        before = everything_in(context.working_directory)
        printed = Printed()
        command = Command(
            argv=[
                "sh",
                "-c",
                "find . | grep -c ^./; cat $(readlink to-folder)/secret-too | wc -c; stat -c %a bin/setuid locked",
            ],
            env={},
            directory=context.working_directory,
            image="busybox",
        )

        code = Docker(file_handling_strategy="VOLUME").run(command, context, printed)

        assert code == 0
        assert printed.stdout.decode().split() == [str(len(before)), "200", "4755", "555"]
        assert everything_in(context.working_directory) == before

    def test_given_an_output_directory_that_the_script_removes_then_that_is_no_failure(self, home: Home) -> None:
        ran = home.run(flow(docker("a", "rm -r {{ outputDir }}; echo x > x", runner=COPIES, outputFiles=["x"])))

        assert states(ran) == {"a": "SUCCESS"}, ran.log_of("a")
        assert list(outputs(ran, "a")["outputFiles"]) == ["x"]

    def test_given_a_worker_whose_files_the_engine_does_not_see_then_they_are_copied_and_that_is_said_once(
        self, tmp_path: Path
    ) -> None:
        class Elsewhere(DirectoryContext):
            """Of a worker in a container: its paths are not the engine's."""

            def outside_path(self, path: Path) -> Path | None:
                return Path("/elsewhere", path.relative_to("/"))

        context = Elsewhere(tmp_path)
        command = Command(
            argv=["sh", "-c", "echo $((1 + $(cat n || echo 0))) > n"],
            env={},
            directory=context.working_directory,
            image="busybox",
        )

        codes = [Docker(file_handling_strategy="MOUNT").run(command, context, Printed()) for _ in range(2)]

        assert codes == [0, 0]
        assert (context.working_directory / "n").read_text() == "2\n"
        [said] = context.logger.at(LogLevel.WARN)
        assert re.fullmatch(r"The engine at \S+ does not see the worker's files: they are copied\.", said)


class TestEnds:
    def test_given_a_timeout_then_a_container_that_ignores_the_request_is_ended_by_force(
        self, home: Home, files: Node, client: DockerClient
    ) -> None:
        task = docker(
            "a",
            "echo begun > begun.txt; trap '' TERM; while :; do sleep 1; done",
            runner={**files, "killGracePeriod": "PT0.2S"},
            timeout="PT3S",
            outputFiles=["*.txt"],
        )

        started = time.monotonic()
        ran = home.run(flow(task))

        assert time.monotonic() - started < 20
        assert ran.state == "FAILED"
        assert "Timeout after 00:00:03.000" in error_of(ran, "a")
        found = outputs(ran, "a")
        assert (found["exitCode"], list(found["outputFiles"])) == (137, ["begun.txt"])
        assert none_is_left(client, ran)

    def test_given_a_kill_then_the_script_may_tidy_up_and_the_container_goes(
        self, home: Home, client: DockerClient
    ) -> None:
        text = flow(docker("a", "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.1; done"), id="kill-me")

        ran = home.run_and_kill(text, when=lambda: running(client, "kill-me") != [] and is_ready(client, "kill-me"))

        assert ran.state == "KILLED"
        assert states(ran) == {"a": "KILLED"}
        assert ran.output_lines("a") == ["ready", "tidy"]
        assert none_is_left(client, ran)
        assert home.leftovers() == []

    def test_given_a_kill_while_the_image_is_pulled_then_the_task_ends_at_once(
        self, home: Home, client: DockerClient, silent_registry: str
    ) -> None:
        text = flow(docker("a", "true", image=f"{silent_registry}/app"))
        execution_id = home.start(text)
        until(lambda: "Pulling the image" in home.ran(execution_id).log_of("a"))

        started = time.monotonic()
        home.engine.call(home.engine.operations.kill(execution_id))
        ran = home.wait(execution_id)

        assert time.monotonic() - started < 5
        assert states(ran) == {"a": "KILLED"}
        assert containers(client, execution_id=execution_id) == []

    def test_given_nobody_who_waits_then_the_container_goes_on_by_itself(
        self, home: Home, client: DockerClient
    ) -> None:
        ran = home.run(flow(docker("a", "echo on its own; sleep 60", runner={"wait": False})))

        [left] = containers(client, execution_id=ran.execution.id)
        try:
            assert states(ran) == {"a": "SUCCESS"}
            assert left["State"] == "running"
            assert outputs(ran, "a")["taskRunner"] == {"containerId": left["Id"]}
            until(lambda: client.api.logs(left["Id"]) == b"on its own\n")
        finally:
            client.api.remove_container(left["Id"], force=True)

    def test_given_a_container_to_be_kept_then_it_is_there_afterwards(self, home: Home, client: DockerClient) -> None:
        ran = home.run(flow(docker("a", "exit 3", runner={"delete": False})))

        [left] = containers(client, execution_id=ran.execution.id)
        client.api.remove_container(left["Id"], force=True)
        assert outputs(ran, "a") == {
            "exitCode": 3,
            "vars": {},
            "outputFiles": {},
            "taskRunner": {"containerId": left["Id"]},
        }
        assert left["State"] == "exited"
        assert left["Status"].startswith("Exited (3)")


def is_ready(client: DockerClient, flow_id: str, command: str = "sleep 0.1") -> bool:
    """Whether a command of the script runs by now."""
    [container] = running(client, flow_id)
    return any(command in row[-1] for row in client.api.top(container, ps_args="-o pid,args")["Processes"])


class TestWorkingDirectory:
    def test_given_a_clone_then_its_scripts_can_be_run_by_children_of_both_kinds(
        self, home: Home, repository: Path, files: Node
    ) -> None:
        clone = {"id": "clone", "type": "io.kestra.plugin.git.Clone", "url": str(repository), "branch": "main"}

        ran = home.run(
            flow(wd(clone, sh("a", "./hello.sh"), docker("b", "./hello.sh", runner=files), sh("c", "./hello.sh")))
        )

        assert ran.state == "SUCCESS", ran.log_of("b")
        assert [ran.output_lines(child) for child in "abc"] == [["hello from the repository"]] * 3

    def test_given_what_a_container_changes_then_the_next_child_sees_the_same(
        self, home: Home, files: Node, client: DockerClient
    ) -> None:
        look = "find . -mindepth 1 -exec stat -c '%n %F %a' {} + | sort; readlink link || true; cat f"
        ran = home.run(
            flow(
                wd(
                    sh("a", "echo old > f; echo gone > gone; mkdir -m 755 d closed; touch d/in; chmod 600 f"),
                    docker(
                        "b",
                        look,
                        "rm gone; rm -r d; ln -s f link; ln -s none dangling",
                        "echo new > f",
                        "printf '#!/bin/sh\n' > run; chmod 755 run; chmod 500 closed",
                        runner=files,
                    ),
                    sh("c", look),
                    docker("d", look, "chmod 4711 run; rm link; mkdir link", runner=files),
                    sh("e", "stat -c '%n %F %a' run link"),
                )
            )
        )

        assert ran.state == "SUCCESS", ran.log_of("b") + ran.log_of("d")
        assert ran.output_lines("b") == [
            "./closed directory 755",
            "./d directory 755",
            "./d/in regular empty file 644",
            "./f regular file 600",
            "./gone regular file 644",
            "old",
        ]
        assert ran.output_lines("c") == [
            "./closed directory 500",
            "./dangling symbolic link 777",
            "./f regular file 600",
            "./link symbolic link 777",
            "./run regular file 755",
            "f",
            "new",
        ]
        assert ran.output_lines("d") == ran.output_lines("c")
        assert ran.output_lines("e") == ["run regular file 4711", "link directory 755"]
        assert home.leftovers() == []
        assert none_is_left(client, ran)

    @pytest.mark.parametrize("image", ["busybox", "tercel-test/user"])
    def test_given_a_cache_then_a_container_finds_what_one_of_the_run_before_made(
        self, home: Home, files: Node, image: str
    ) -> None:
        make = (
            "mkdir -p c/bin; printf '#!/bin/sh\\necho tool\\n' > c/bin/tool; chmod 755 c/bin/tool; "
            "ln -s bin/tool c/link; ln -s bin c/folder; ln c/bin/tool c/hard"
        )
        use = "c/link; c/folder/tool; stat -c '%a %h' c/hard"
        text = flow(
            wd(
                docker("a", f"test -e c && echo found || {{ {make}; }}", use, image=ensure_image(image), runner=files),
                sh("b", use),
                cache={"patterns": ["c/**"], "ttl": "PT1H"},
            )
        )

        first, second, third = home.run(text), home.run(text), home.run(text)

        used = ["tool", "tool", "755 2"]
        assert [ran.output_lines("a") for ran in (first, second, third)] == [used, ["found", *used], ["found", *used]]
        assert second.output_lines("b") == used
        assert [home.cache_lines(ran) for ran in (first, second, third)] == [
            ["miss", "saved"],
            ["restored", "unchanged"],
            ["restored", "unchanged"],
        ]

    def test_given_children_with_the_same_image_and_settings_then_they_share_one_container(
        self, home: Home, client: DockerClient
    ) -> None:
        ensure_image("debian")
        name = "cat /etc/hostname"
        ran = home.run(
            flow(
                wd(
                    docker("a", name, "echo mine > /tmp/kept; echo $X; sleep 100 &", env={"X": "1"}),
                    docker("b", name, "cat /tmp/kept; echo $X-; ps | grep -c 'sleep 1[0]0' || true"),
                    docker("other_settings", name, runner={"user": "7"}),
                    docker("other_image", name, image="debian"),
                    docker("alone", name, runner={"reuseContainer": False}),
                    docker("alone_again", name, runner={"reuseContainer": False}),
                    docker("copied", name, runner=COPIES),
                    docker("c", name, env={"X": "2"}),
                )
            )
        )

        assert ran.state == "SUCCESS", "\n".join(entry.message for entry in ran.logs)
        names = {run.task_id: ran.output_lines(run.task_id)[0] for run in ran.runs if run.task_id != "wd"}
        assert names["a"] == names["b"] == names["c"]
        ids = {run.task_id: dict(run.outputs)["taskRunner"]["containerId"] for run in ran.runs if run.task_id != "wd"}
        assert all(ids[task_id].startswith(name) for task_id, name in names.items())
        assert len(set(names.values())) == len(names) - 2
        assert ran.output_lines("a")[1:] == ["1"]
        assert ran.output_lines("b")[1:] == ["mine", "-", "0"]
        assert none_is_left(client, ran)

    @pytest.mark.parametrize("end", ["one.kill()", "one.remove(force=True)"])
    def test_given_a_container_that_somebody_ends_meanwhile_then_the_next_child_has_another_one(
        self, home: Home, client: DockerClient, end: str
    ) -> None:
        script = (
            "import docker\nclient = docker.from_env()\n"
            "for one in client.containers.list(filters={'label': 'kestra.io/execution-id={{ execution.id }}'}):\n"
            f"    {end}\nclient.close()"
        )
        ends = sh("ends", f'{sys.executable} -c "$CODE"', env={"CODE": script})

        ran = home.run(flow(wd(docker("a", "cat /etc/hostname"), ends, docker("b", "cat /etc/hostname"))))

        assert ran.state == "SUCCESS", error_of(ran, "b")
        assert ran.output_lines("a") != ran.output_lines("b")
        assert none_is_left(client, ran)

    def test_given_children_that_open_the_same_port_then_each_has_it(self, home: Home, client: DockerClient) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        opens = {"portBindings": [f"127.0.0.1:{port}:80"]}

        ran = home.run(flow(wd(docker("a", "true", runner=opens), docker("b", "true", runner={**opens, "user": "7"}))))

        assert ran.state == "SUCCESS", error_of(ran, "b")
        assert none_is_left(client, ran)

    def test_given_a_child_that_fails_when_tried_again_then_it_finds_the_files_put_back_and_the_same_container(
        self, home: Home, client: DockerClient
    ) -> None:
        retry = {"type": "constant", "interval": "PT0.01S", "maxAttempts": 3}
        tries = "echo x >> /tmp/tries; touch spoiled; test $(wc -l < /tmp/tries) = 3"
        children = [sh("first", "touch made"), docker("a", f"cat /etc/hostname; ls; {tries}", retry=retry)]

        ran = home.run(flow(wd(*children, docker("b", "cat /etc/hostname; ls"))))

        assert ran.state == "SUCCESS", ran.log_of("a")
        [*tried, name, _] = ran.output_lines("a")
        assert tried == [name, "made"] * 2
        assert ran.output_lines("b") == [name, "made", "spoiled"]
        assert none_is_left(client, ran)

    def test_given_a_child_that_runs_out_of_time_then_the_next_one_has_another_container(
        self, home: Home, client: DockerClient
    ) -> None:
        name, runner = "cat /etc/hostname", {"killGracePeriod": "PT0.1S"}
        endless = f"{name}; trap '' TERM; while :; do sleep 0.1; done"

        ran = home.run(
            flow(
                wd(
                    docker("a", name, runner=runner),
                    docker("b", endless, runner=runner, timeout="PT2S", allowFailure=True),
                    docker("c", name, runner=runner),
                )
            )
        )

        assert states(ran) == {"wd": "WARNING", "a": "SUCCESS", "b": "WARNING", "c": "SUCCESS"}
        assert outputs(ran, "b")["exitCode"] == 137
        assert ran.output_lines("a") == ran.output_lines("b") != ran.output_lines("c")
        assert none_is_left(client, ran)

    def test_given_a_kill_then_the_container_that_is_kept_goes(self, home: Home, client: DockerClient) -> None:
        text = flow(wd(docker("a", "true"), docker("b", "sleep 100")), id="kill-kept")

        ran = home.run_and_kill(
            text, when=lambda: running(client, "kill-kept") != [] and is_ready(client, "kill-kept", "sleep 100")
        )

        assert states(ran) == {"wd": "KILLED", "a": "SUCCESS", "b": "KILLED"}
        assert none_is_left(client, ran)
        assert home.leftovers() == []


class Silent:
    """A registry that takes connections and says nothing, until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def silent_registry() -> Iterator[str]:
    registry = Silent()
    yield registry.name
    registry.close()


class TestLogs:
    def test_given_very_many_lines_of_many_bytes_then_each_is_there_once_and_whole(self, home: Home) -> None:
        script = "seq 100000 | sed 's/$/ ä€😀 ünïcödé/'; seq 100000 | sed 's/$/ é/' >&2"

        ran = home.run(flow(docker("a", script, warningOnStdErr=False)))

        assert ran.state == "SUCCESS"
        said = {
            level: [one.message for one in ran.logs if one.level == level and one.task_id == "a"]
            for level in ("INFO", "WARN")
        }
        assert said["INFO"] == [f"{number} ä€😀 ünïcödé" for number in range(1, 100_001)]
        assert said["WARN"] == [f"{number} é" for number in range(1, 100_001)]

    def test_given_a_line_of_a_megabyte_and_odd_bytes_then_nothing_is_lost(self, home: Home) -> None:
        script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; printf 'a\\377b\\n'; printf 'no end'"

        ran = home.run(flow(docker("a", script)))

        *long, odd, last = ran.output_lines("a")
        assert "".join(long) == "x" * 1_000_000
        assert (odd, last) == ("a\ufffdb", "no end")


class TestUsers:
    def test_given_an_image_with_a_user_of_its_own_then_it_can_write_and_the_files_are_the_workers_afterwards(
        self, home: Home, files: Node, client: DockerClient
    ) -> None:
        image = ensure_image("tercel-test/user")
        write = (
            "id -u; cat closed; echo more >> closed; "
            "mkdir -m 700 {{ task.id }}; echo x > {{ task.id }}/x; echo o > {{ outputDir }}/o"
        )
        ran = home.run(
            flow(
                wd(
                    sh("first", "echo in > closed; chmod 600 closed"),
                    docker("a", write, image=image, runner=files),
                    docker("b", "stat -c '%U %a' a a/x", write, image=image, runner=files),
                    docker("root", "stat -c '%U %a' a a/x", "id -u", image=image, runner={**files, "user": "root"}),
                    sh("last", "stat -c '%u %a' closed a a/x b/x", outputFiles=["closed"]),
                ),
                docker("alone", "id -u; echo x > x", image=image, runner=files, outputFiles=["x"]),
            )
        )

        assert ran.state == "SUCCESS", "\n".join(entry.message for entry in ran.logs)
        worker = os.geteuid()
        assert ran.output_lines("a") == ["1234", "in"]
        assert ran.output_lines("b") == ["worker 700", "worker 644", "1234", "in", "more"]
        assert ran.output_lines("root") == ["root 700", "root 644", "0"]
        assert ran.output_lines("last") == [f"{worker} {mode}" for mode in (600, 700, 644, 644)]
        assert [list(outputs(ran, name)["outputFiles"]) for name in ("a", "b", "alone")] == [["o"], ["o"], ["x"]]
        assert home.read(outputs(ran, "last")["outputFiles"]["closed"]) == b"in\nmore\nmore\n"
        assert home.leftovers() == []
        assert none_is_left(client, ran)

    def test_given_a_user_that_is_not_in_the_image_then_the_message_says_so(self, home: Home, files: Node) -> None:
        ran = home.run(flow(docker("a", "true", runner={**files, "user": "nobody-knows"})))

        assert error_of(ran, "a") == "There is no user or group 'nobody-knows' in the image 'busybox'."


class TestImages:
    def test_given_an_image_without_a_shell_then_another_interpreter_works(
        self, home: Home, client: DockerClient
    ) -> None:
        image = ensure_image("tercel-test/static")
        more: Node = {"image": image, "interpreter": ["echo", "-n"], "failFast": False}
        ran = home.run(
            flow(
                docker("alone", "hello", "you", **more),
                wd(docker("a", "one", **more), docker("b", "two", **more)),
                docker(
                    "sleeps",
                    "100",
                    **(more | {"interpreter": ["sleep"]}),
                    runner={"killGracePeriod": "PT0.1S"},
                    timeout="PT3S",
                    allowFailure=True,
                ),
                docker("none", "x", **(more | {"interpreter": ["no-such-program"]}), allowFailure=True),
                docker("shell", "x", image=image),
            )
        )

        assert ran.output_lines("alone") == ["hello", "you"]
        assert (ran.output_lines("a"), ran.output_lines("b")) == (["one"], ["two"])
        assert outputs(ran, "sleeps")["exitCode"] == 137
        for name, program in (("none", "no-such-program"), ("shell", "/bin/sh")):
            assert error_of(ran, name).startswith(f"There is no program '{program}' in the image '{image}'."), name
        assert none_is_left(client, ran)

    def test_given_the_old_properties_then_the_images_entry_point_is_kept_unless_another_one_is_given(
        self, home: Home
    ) -> None:
        image = ensure_image("tercel-test/entrypoint")
        old: Node = {"type": f"{SCRIPTS}.shell.Commands", "runner": "DOCKER", "commands": ["echo run"]}

        ran = home.run(
            flow(
                {"id": "kept", **old, "docker": {"image": image}},
                {"id": "given", **old, "docker": {"image": image, "entryPoint": ["echo", "mine:"]}},
                {"id": "cleared", **old, "docker": {"image": image, "entryPoint": [""]}},
                docker("new", "echo run", image=image),
            )
        )

        assert ran.state == "SUCCESS", "\n".join(entry.message for entry in ran.logs)
        assert ran.output_lines("kept") == ["entrypoint: /bin/sh -c set -e", "echo run"]
        assert ran.output_lines("given") == ["mine: /bin/sh -c set -e", "echo run"]
        assert ran.output_lines("cleared") == ran.output_lines("new") == ["run"]

    def test_given_old_and_new_properties_then_they_are_merged_and_that_is_said(self, home: Home) -> None:
        task = docker("a", "id -u; ls /sys/class/net", runner={"networkMode": "none", "user": "5"})

        ran = home.run(flow(task | {"docker": {"image": "busybox", "user": "7"}}))

        assert ran.output_lines("a") == ["7", "lo"]
        assert "Both 'taskRunner' and 'docker' are given; where they differ, 'docker' it is." in ran.log_of("a")

    def test_given_an_image_that_is_nowhere_then_the_message_says_so_at_once(
        self, home: Home, empty_registry: str
    ) -> None:
        image = f"{empty_registry}/none:1"

        ran = home.run(flow(docker("a", "true", image=image)))

        assert ran.state == "FAILED"
        assert error_of(ran, "a").startswith(f"The image '{image}' cannot be pulled: ")
        assert "Trying again" not in ran.log_of("a")
        assert "Check its name, and 'credentials' where its registry is private." in error_of(ran, "a")

    def test_given_no_engine_then_the_message_says_both_ways_out(self, home: Home) -> None:
        ran = home.run(flow(docker("a", "true", runner={"host": "unix:///nowhere.sock"})))

        assert error_of(ran, "a") == (
            "This task is to run in a container, and no engine answers at unix:///nowhere.sock: No such file or "
            "directory. Start one (Docker, or Podman with its socket; DOCKER_HOST says where), or run scripts as "
            "processes of this machine: `tercel run --task-runner process`, or `runner: PROCESS` on the task."
        )
        assert outputs(ran, "a") == {"vars": {}, "outputFiles": {}}


class Empty(BaseHTTPRequestHandler):
    """A registry without any image."""

    def do_GET(self) -> None:
        self._answer(200, b"{}") if self.path == "/v2/" else self._answer(
            404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
        )

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def empty_registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


class Allowing(Home):
    """A home whose flows may mount folders of the machine."""

    @property
    def settings(self) -> Settings:
        return replace(super().settings, mounts_volumes=True)


@pytest.fixture
def allowing(tmp_path: Path) -> Iterator[Allowing]:
    with Allowing(tmp_path / "home") as opened:
        yield opened


class TestSettings:
    def test_given_limits_and_more_then_the_container_has_them(
        self, allowing: Allowing, client: DockerClient, tmp_path: Path
    ) -> None:
        (tmp_path / "marks").mkdir(mode=0o777)
        (tmp_path / "marks").chmod(0o777)
        runner = {
            "user": "1000:1001",
            "networkMode": "none",
            "extraHosts": ["there:10.0.0.1"],
            "memory": {"memory": "64MB", "memorySwap": "{{ '128MB' }}"},
            "cpu": {"cpus": 0.5},
            "shmSize": "1MB",
            "volumes": [f"{tmp_path}/marks:/marks"],
        }
        task = docker(
            "a",
            "id; ls /sys/class/net; df /dev/shm | tail -n 1",
            "touch /marks/ready; while [ ! -e /marks/go ]; do sleep 0.05; done",
            runner=runner,
        )

        execution_id = allowing.start(flow(task, id="limits", namespace="company.team"))
        until((tmp_path / "marks" / "ready").exists)
        [found] = containers(client, execution_id=execution_id)
        facts = client.api.inspect_container(found["Id"])
        (tmp_path / "marks" / "go").touch()
        ran = allowing.wait(execution_id)

        assert ran.state == "SUCCESS"
        user, network, shm = ran.output_lines("a")
        assert user.startswith("uid=1000 gid=1001")
        assert network == "lo"
        assert shm.split()[1] == "1024"
        host = facts["HostConfig"]
        assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["ShmSize"]) == (
            64 << 20,
            128 << 20,
            500_000_000,
            1 << 20,
        )
        assert (host["NetworkMode"], host["ExtraHosts"], facts["Config"]["User"]) == (
            "none",
            ["there:10.0.0.1"],
            "1000:1001",
        )
        assert (
            facts["Config"]["Labels"]
            | {
                "kestra.io/namespace": "company.team",
                "kestra.io/flow-id": "limits",
                "kestra.io/execution-id": execution_id,
                "kestra.io/task-id": "a",
                "kestra.io/taskrun-id": ran.run_of("a").id,
            }
            == facts["Config"]["Labels"]
        )

    def test_given_a_worker_that_mounts_no_volumes_then_the_task_fails_and_says_who_can_allow_it(
        self, home: Home
    ) -> None:
        ran = home.run(flow(docker("a", "true", runner={"volumes": ["/etc:/mounted"]})))

        assert error_of(ran, "a") == (
            "The task mounts folders of the machine by 'volumes', and this worker does not allow that. "
            "Whoever runs the worker can: TERCEL_DOCKER_VOLUMES=true."
        )

    @pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "kept"])
    def test_given_secrets_then_no_log_and_no_process_list_shows_them(
        self, home: Home, client: DockerClient, is_shared: bool
    ) -> None:
        secret = "correct-horse-battery"
        flow_id = f"hides-{is_shared}".lower()
        task = docker("a", "echo {{ secret('TOKEN') }} $TOKEN; sleep 123", env={"TOKEN": "{{ secret('TOKEN') }}"})
        seen: list[str] = []

        def is_seen() -> bool:
            if running(client, flow_id) == [] or not is_ready(client, flow_id, "sleep 123"):
                return False
            [container] = running(client, flow_id)
            facts = client.api.inspect_container(container)
            seen.append(str((facts["Path"], facts["Args"], facts["Config"]["Cmd"], facts["Config"]["Entrypoint"])))
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.append(process.read_text("utf-8", "replace"))
            return True

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SECRET_TOKEN", base64.b64encode(secret.encode()).decode())
            ran = home.run_and_kill(flow(wd(task) if is_shared else task, id=flow_id), when=is_seen)

        [line] = ran.output_lines("a")
        assert re.fullmatch(r"\*\*masked\*+ \*\*masked\*+", line)
        assert [line for line in seen if secret in line] == []
        assert [entry.message for entry in ran.logs if secret in entry.message] == []


class Registry:
    """A private registry with one image, of busybox.

    Attributes:
        image: its name.
    """

    PASSWORD = "right-password"
    LOGINS = "user:$2b$04$MMoHQhPjvhmzVNAHA.2c9OUjNS0PaUPF4uZTgnYlm3NVyPgy6fg0C\n"

    def __init__(self, folder: Path, client: DockerClient) -> None:
        program = need("docker-registry", "docker-registry")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (folder / "logins").write_text(self.LOGINS)
        configuration = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
            "http": {"addr": f"127.0.0.1:{port}"},
            "auth": {"htpasswd": {"realm": "test", "path": str(folder / "logins")}},
        }
        (folder / "config.yml").write_text(as_yaml(configuration))
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
        self._client = client
        self.name = f"127.0.0.1:{port}"
        self.image = f"{self.name}/team/app:1"
        until(self._answers)
        client.images.get("busybox").tag(self.image)
        auth = {"username": "user", "password": self.PASSWORD}
        said = client.api.push(self.image, auth_config=auth)
        assert "digest: sha256" in said, said
        self.forget()

    def _answers(self) -> bool:
        assert self._process.poll() is None
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(self.name.rpartition(":")[2]))):
            return True
        return False

    def forget(self) -> None:
        """Have the engine not know the image."""
        from docker.errors import ImageNotFound

        with suppress(ImageNotFound):
            self._client.images.remove(self.image)

    def close(self) -> None:
        self.forget()
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def private_registry(docker_engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    ensure_image("busybox")
    registry = Registry(tmp_path_factory.mktemp("registry"), docker_engine)
    yield registry
    registry.close()


class TestPrivateRegistry:
    def login(self, registry: Registry, how: str, password: str) -> Node:
        auth = base64.b64encode(f"user:{password}".encode()).decode()
        match how:
            case "password":
                return {"credentials": {"username": "user", "password": password}}
            case "auth":
                return {"credentials": {"registry": f"http://{registry.name}/v2/", "auth": auth}}
            case "config":
                return {"config": {"auths": {registry.name: {"auth": auth}}}}
            case _:
                return {"config": json.dumps({"auths": {registry.name: {"username": "user", "password": password}}})}

    @pytest.mark.parametrize("how", ["password", "auth", "config", "config as text"])
    def test_given_the_right_login_then_the_image_is_pulled_and_the_login_is_nowhere(
        self, home: Home, private_registry: Registry, how: str
    ) -> None:
        private_registry.forget()
        runner = self.login(private_registry, how, Registry.PASSWORD)
        look = "env; find . {{ outputDir }}/.. -type f; find / -xdev -name '.dock*'"

        ran = home.run(flow(docker("a", look, image=private_registry.image, runner=runner)))

        assert ran.state == "SUCCESS", ran.log_of("a")
        assert f"Pulling the image {private_registry.image}." in ran.log_of("a")
        assert [line for line in ran.output_lines("a") if line.startswith(("/", "."))] == ["/.dockerenv"]
        for hidden in (Registry.PASSWORD, base64.b64encode(b"user:right").decode()[:12]):
            assert hidden not in ran.log_of("a")

    @pytest.mark.parametrize("how", ["password", "auth", "config"])
    def test_given_a_wrong_password_then_the_task_fails_at_once_without_telling_it(
        self, home: Home, private_registry: Registry, how: str
    ) -> None:
        private_registry.forget()
        runner = self.login(private_registry, how, "wrong-password")

        ran = home.run(flow(docker("a", "true", image=private_registry.image, runner=runner)))

        assert ran.state == "FAILED"
        assert error_of(ran, "a").startswith(f"The image '{private_registry.image}' cannot be pulled: ")
        assert "Trying again" not in ran.log_of("a")
        assert "wrong-password" not in ran.log_of("a")

    def test_given_always_then_it_is_pulled_again(self, home: Home, private_registry: Registry) -> None:
        login = self.login(private_registry, "password", Registry.PASSWORD)
        task = docker("a", "true", image=private_registry.image, runner={**login, "pullPolicy": "ALWAYS"})

        logs = [home.run(flow(task)).log_of("a") for _ in range(2)]

        assert [f"The image {private_registry.image} is there." in log for log in logs] == [True, True]


class Relay:
    """A socket for everybody, behind which is the engine's."""

    def __init__(self, path: Path, engine: str) -> None:
        self._engine = engine
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._socket.listen()
        self._threads = [self._run(self._accept)]

    def _run(self, work: Callable[[], None]) -> Thread:
        thread = Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(self._engine)
                both = [
                    self._run(partial(self._hand_on, client, engine)),
                    self._run(partial(self._hand_on, engine, client)),
                ]
                self._run(partial(self._close, both, client, engine))

    @staticmethod
    def _hand_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 16):
                target.sendall(block)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    @staticmethod
    def _close(threads: Sequence[Thread], *sockets: socket.socket) -> None:
        for thread in threads:
            thread.join()
        for one in sockets:
            one.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class TestUnprivileged:
    def test_given_a_worker_without_rights_then_what_containers_make_as_root_is_its_own_afterwards(
        self,
    ) -> None:
        host = find_host("", os.environ)
        if os.geteuid() != 0 or not host.startswith("unix://"):
            unavailable("root, to become a user without rights, and an engine at a socket")
        image = ensure_image("tercel-test/user")
        make = "mkdir -p {{ task.id }}/d; umask 077; echo x > {{ task.id }}/d/x; chmod 700 {{ task.id }}"
        owners = "stat -c %u . a a/d/x b/d/x copied/d/x | sort -u"
        text = flow(
            wd(
                docker("a", make),
                docker("b", make, image=image),
                docker("copied", make, runner=COPIES),
                docker("other_copied", make, image=image, runner=COPIES),
                sh(
                    "mine",
                    "cat */d/x; for d in *; do echo y > $d/d/y; done",
                    f"""echo '::{{"outputs":{{"owners":"'$({owners})'"}}}}::'""",
                ),
            ),
            docker("alone", "echo o > {{ outputDir }}/o; mkdir -m 700 d; echo x > d/x", outputFiles=["d/**"]),
            docker("alone_copied", "mkdir -m 700 d; echo x > d/x", outputFiles=["d/**"], runner=COPIES),
        )
        with TemporaryDirectory(prefix="tercel-") as folder:  # pytest's own are root's alone
            os.chown(folder, NOBODY, NOBODY)
            path = Path(folder, "flow.yaml")
            path.write_text(text)
            relay = Relay(Path(folder, "engine.sock"), host.removeprefix("unix://"))
            ran = subprocess.run(
                [sys.executable, "-m", "tests.unprivileged", *command("run", path, "--json")],
                env=environment(
                    Path(folder, "home"), {"DOCKER_HOST": f"unix://{folder}/engine.sock", "UNPRIVILEGED_HOME": folder}
                ),
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            relay.close()

            assert ran.returncode == 0, ran.stderr
            left = [found for found in Path(folder, "home", "tmp").rglob("*") if found.is_dir() and found.name != "at"]
            assert left == []
        runs = {run["taskId"]: run for run in json.loads(ran.stdout)["taskRunList"]}
        assert {name for name, run in runs.items() if run["state"]["current"] != "SUCCESS"} == set()
        assert runs["mine"]["outputs"]["vars"] == {"owners": str(NOBODY)}
        assert [list(runs[name]["outputs"]["outputFiles"]) for name in ("alone", "alone_copied")] == [
            ["d/x", "o"],
            ["d/x"],
        ]


class TestLeftovers:
    def test_given_a_worker_killed_with_containers_at_work_when_started_again_then_none_of_them_is_left(
        self, allowing: Allowing, client: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        marks = tmp_path / "marks"
        marks.mkdir()
        mounted = {"volumes": [f"{marks}:/marks"]}
        work = "touch /marks/{{ task.id }}; test -e /marks/go || sleep 100"
        tasks = [
            docker("a", work, runner=mounted),
            docker("b", work, runner={**mounted, **COPIES}),
            wd(docker("made", "true", runner=mounted), docker("c", work, runner=mounted), id="one"),
            wd(docker("d", work, runner=mounted), id="two"),
            *(docker(letter, work, runner=mounted) for letter in "efghij"),
        ]
        text = flow({"id": "all", "type": f"{CORE}.flow.Parallel", "tasks": tasks}, id="crashes")
        monkeypatch.setenv("TERCEL_DOCKER_VOLUMES", "true")
        monkeypatch.setenv("TERCEL_SLOTS", "16")

        allowing.run_and_crash(text, when=lambda: {path.name for path in marks.iterdir()} >= set("abcdefghij"))
        before = {one["Id"] for one in containers(client, flow_id="crashes")}
        (marks / "go").touch()
        ran = allowing.recover()

        assert len(before) == 10
        assert ran.state == "SUCCESS"
        until(lambda: containers(client, flow_id="crashes") == [])
        until(lambda: list(allowing.tmp.glob("*.leftover")) == [])
