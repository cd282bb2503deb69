"""`tercel cache`, as a process of its own: what there is, and how it is removed here and in internal storage."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import command, environment, tercel
from tests.flows import Node, flow, for_each, sh, wd
from tests.homes import until


def a_cached(size: int, id: str = "wd", **cache: Any) -> Node:
    return wd(
        sh(f"{id}_child", f"test -f c.bin || head -c {size} /dev/zero > c.bin"),
        id=id,
        cache={"patterns": ["*.bin"], **cache},
    )


def run(home: Path, *tasks: Node, id: str = "cached", env: dict[str, str] | None = None) -> None:
    path = home.with_suffix(".yaml")
    path.write_text(flow(*tasks, id=id))
    done = tercel("run", path, home=home, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def stored_files(home: Path) -> list[Path]:
    return [path for path in (home / "storage").rglob("cache/**/*") if path.is_file()]


def layers(home: Path) -> list[Path]:
    return list((home / "layers").glob("*/layers/*"))


def age(home: Path, days: int) -> None:
    """Let all entries that there are have been saved so many days earlier."""

    def older(entry: dict[str, Any]) -> None:
        saved_at = datetime.fromisoformat(entry["savedAt"].replace("Z", "+00:00"))
        entry["savedAt"] = (saved_at - timedelta(days=days)).isoformat()

    for path in (home / "storage").rglob("current.json"):
        entry = json.loads(path.read_text())
        older(entry)
        path.write_text(json.dumps(entry))
    for path in (home / "layers").glob("*/entries/[!.]*"):
        note = json.loads(path.read_text())
        older(note["body"]["entry"])
        path.write_text(json.dumps(note))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class TestList:
    def test_given_nothing_then_it_is_said(self, home: Path) -> None:
        run(home, sh("a", ":"))

        assert tercel("cache", "list", home=home).stdout == "Nothing is cached.\n"

    def test_given_entries_then_each_is_told_and_a_sum(self, home: Path) -> None:
        run(home, for_each("loop", ["x"], a_cached(2000, "inner", key="k1")), a_cached(3000))
        run(home, a_cached(3000))

        lines = tercel("cache", "list", home=home).stdout.splitlines()

        assert re.fullmatch(
            r"tests\.cached\.inner \[x\] key k1  1 file, 2\.0 kB in 1 layer, \d\S* s old, 0 hits, "
            r"stored and on this machine",
            lines[0],
        )
        assert re.fullmatch(
            r"tests\.cached\.wd  1 file, 3\.0 kB in 1 layer, \d\S* s old, 1 hit, last used \d\S* s ago, "
            r"stored and on this machine",
            lines[1],
        )
        assert re.fullmatch(r"In all: 2 entries, 5\.0 kB, \d+ B stored", lines[2])

    def test_given_a_namespace_then_only_those_in_it(self, home: Path) -> None:
        run(home, a_cached(10))

        assert "tests.cached.wd" in tercel("cache", "list", "--namespace", "tests", home=home).stdout
        assert tercel("cache", "list", "--namespace", "test", home=home).stdout == "Nothing is cached.\n"

    def test_given_another_machine_then_what_is_stored_is_listed(self, home: Path) -> None:
        run(home, a_cached(10))
        (home / "layers").rename(home / "elsewhere")

        done = tercel("cache", "list", home=home)

        assert re.match(r"tests\.cached\.wd  1 file, 10 B in 1 layer, .* old, 0 hits, stored\n", done.stdout)
        assert not (home / "layers").exists()

    def test_given_storage_lost_it_then_it_is_on_this_machine_only(self, home: Path) -> None:
        run(home, a_cached(10))
        not_stored(home)

        done = tercel("cache", "list", home=home)

        assert re.match(r"tests\.cached\.wd  1 file, 10 B in 1 layer, .*, on this machine only\n", done.stdout)
        assert done.stdout.endswith("In all: 1 entry, 10 B, 0 B stored\n")

    def test_given_a_damaged_one_then_it_is_told(self, home: Path) -> None:
        run(home, a_cached(10))
        [pointer] = (home / "storage").rglob("current.json")
        pointer.chmod(0o644)
        pointer.write_text("{")

        listed = tercel("cache", "list", home=home)
        cleared = tercel("cache", "clear", "--all", home=home)

        assert listed.stdout == "/tests/cached/wd/cache  damaged\nIn all: 1 entry, 0 B, 0 B stored\n"
        assert cleared.stdout == "1 entry removed.\n"
        assert stored_files(home) == []


def not_stored(home: Path) -> None:
    """Let the entries of a home be as they are before they are stored."""
    for path in stored_files(home):
        path.unlink()
    for path in (home / "layers").glob("*/entries/[!.]*"):
        note = json.loads(path.read_text())
        note["body"]["isStored"] = False
        note["body"]["entry"] |= {"layers": [], "files": 0, "bytes": 0}
        note["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        path.write_text(json.dumps(note))


class TestShow:
    def test_given_a_task_then_all_of_its_entries(self, home: Path) -> None:
        run(home, a_cached(2000, exclude=["x.bin"]))

        [shown] = json.loads(tercel("cache", "show", "tests.cached.wd", home=home).stdout)

        assert shown["patterns"] == ["*.bin"]
        assert shown["exclude"] == ["x.bin"]
        assert shown["root"].startswith(f"{home}/tmp/at/cached-wd-")
        assert (shown["files"], shown["size"], shown["hits"], shown["lastUsedAt"]) == (1, 2000, 0, None)
        assert (shown["isStored"], shown["isHere"]) == (True, True)
        [layer] = shown["layers"]
        assert (layer["files"], layer["size"], layer["packedSize"]) == (1, 2000, shown["packedSize"])
        listed = json.loads(tercel("execution", "list", "--json", home=home).stdout)
        assert shown["executionId"] == listed[0]["id"]

    def test_given_one_that_is_not_stored_then_its_layers_are_measured(self, home: Path) -> None:
        run(home, a_cached(2000))
        not_stored(home)

        [shown] = json.loads(tercel("cache", "show", "tests.cached.wd", home=home).stdout)

        assert (shown["isStored"], shown["isHere"], shown["files"], shown["packedSize"]) == (False, True, 1, 0)
        assert [(one["size"], one["packedSize"]) for one in shown["layers"]] == [(2000, None)]

    def test_given_an_unknown_task_then_it_is_said(self, home: Path) -> None:
        run(home, sh("a", ":"))

        done = tercel("cache", "show", "tests.cached.wd", home=home)

        assert done.returncode == 1
        assert done.stderr == "Error: Nothing is cached for 'tests.cached.wd'; `tercel cache list` shows what is.\n"


class TestClear:
    def test_given_a_task_then_its_entries_go_here_and_in_storage(self, home: Path) -> None:
        run(home, a_cached(10), env={"TERCEL_SNAPSHOT_SIZE": "0"})
        run(home, a_cached(20), id="other", env={"TERCEL_SNAPSHOT_SIZE": "0"})
        before = len(layers(home))

        done = tercel("cache", "clear", "tests.cached.wd", home=home)

        assert done.stdout == "1 entry removed.\n"
        assert all("/other/" in str(path) for path in stored_files(home))
        assert len(layers(home)) < before
        assert "Nothing is cached" in tercel("cache", "show", "tests.cached.wd", home=home).stderr
        assert "tests.other.wd" in tercel("cache", "list", home=home).stdout

    def test_given_neither_a_task_nor_all_then_it_is_wrong_usage(self, home: Path) -> None:
        run(home, a_cached(10))

        assert tercel("cache", "clear", home=home).returncode == 2
        assert tercel("cache", "clear", "a.b.c", "--all", home=home).returncode == 2

    def test_given_a_run_that_uses_it_then_it_runs_on(self, home: Path) -> None:
        run(home, a_cached(10))
        path = home.with_suffix(".yaml")
        child = sh("c", "echo on; until test -f {{ vars.flag }}; do sleep 0.05; done; wc -c c.bin")
        cached = wd(child, id="wd", cache={"patterns": ["*.bin"]})
        path.write_text(flow(cached, id="cached", variables={"flag": str(home.with_suffix(".flag"))}))
        with subprocess.Popen(
            command("run", path), env=environment(home, {"TERCEL_CONTAIN": "false"}), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            until(lambda: "c: on" in process.stdout.readline())  # pyright: ignore[reportOptionalMemberAccess]

            cleared = tercel("cache", "clear", "--all", home=home)
            home.with_suffix(".flag").touch()
            out = process.stdout.read()

        assert cleared.stdout == "1 entry removed.\n"
        assert process.returncode == 0
        assert "10 c.bin" in out


class TestPrune:
    def test_given_no_option_then_only_what_crashes_left_goes(self, home: Path) -> None:
        run(home, a_cached(10))
        with subprocess.Popen(
            command(
                "workdir", "shell", "last", "--", "sh", "-c", "head -c 3000 /dev/zero > big; echo on; exec sleep 60"
            ),
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            os.killpg(process.pid, signal.SIGKILL)

        done = tercel("cache", "prune", home=home)
        again = tercel("cache", "prune", home=home)

        assert re.fullmatch(
            r"0 entries, [23] layers and leftovers removed; "
            r"freed 3\.0 kB on this machine and 0 B in internal storage\.\n",
            done.stdout,
        )
        assert again.stdout.startswith("0 entries, 0 layers and leftovers removed; freed 0 B on this machine")
        assert "1 entry" in tercel("cache", "list", home=home).stdout

    def test_given_an_age_then_those_not_used_for_so_long_go(self, home: Path) -> None:
        run(home, a_cached(10), id="old", env={"TERCEL_SNAPSHOT_SIZE": "0"})
        run(home, a_cached(5000), id="used")
        age(home, 365)
        run(home, a_cached(5000), id="used")

        spared = tercel("cache", "prune", "--older-than", "P400D", home=home)
        pruned = tercel("cache", "prune", "--older-than", "30d", home=home)

        assert spared.stdout.startswith("0 entries, ")
        assert re.fullmatch(
            r"tests\.old\.wd: 10 B, not used for 365 d 0 h\n"
            r"1 entry, .* removed; freed 10 B on this machine and \d+ B in internal storage\.\n",
            pruned.stdout,
        )
        assert "tests.used.wd" in tercel("cache", "list", home=home).stdout

    def test_given_a_size_then_the_least_recently_used_go_until_the_rest_fits(self, home: Path) -> None:
        for name in ("first", "second", "third"):
            run(home, a_cached(1000), id=name)
        run(home, a_cached(1000), id="first")

        done = tercel("cache", "prune", "--to", "2k", home=home)

        assert done.stdout.startswith("tests.second.wd: 1.0 kB, not used for ")
        assert "\n1 entry, " in done.stdout
        assert re.findall(r"tests\.(\w+)\.wd", tercel("cache", "list", home=home).stdout) == ["first", "third"]

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("--older-than", "1x", "'1x' is not a time span such as 30d, 12h or P30D."),
            ("--older-than", "-P1D", "'-P1D' is not a time span such as 30d, 12h or P30D."),
            ("--to", "much", "'much' is not a size such as 500M or 10G."),
        ],
    )
    def test_given_no_span_or_size_then_it_is_wrong_usage(
        self, home: Path, option: str, value: str, message: str
    ) -> None:
        done = tercel("cache", "prune", f"{option}={value}", home=home)

        assert done.returncode == 2
        assert f"Error: Invalid value for '{option}': {message}\n" in done.stderr
