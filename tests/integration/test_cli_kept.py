"""`tercel flow save` and its like, `tercel kv` and `tercel trigger`: what a home keeps beside executions."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import tercel
from tests.flows import CORE, Node, as_yaml, echo, flow


@pytest.fixture
def home_dir(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "flows"
    path.mkdir()
    return path


def schedule(id: str, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.trigger.Schedule", "cron": "0 9 * * *", **properties}


class TestSave:
    def test_given_a_folder_then_each_flow_gets_a_revision_where_its_text_is_other(
        self, folder: Path, home_dir: Path
    ) -> None:
        (folder / "a.yaml").write_text(flow(echo("t", "1"), id="a"))
        (folder / "b.yml").write_text(flow(echo("t", "1"), id="b"))

        first = tercel("flow", "save", folder, home=home_dir)
        (folder / "b.yml").write_text(flow(echo("t", "2"), id="b"))
        second = tercel("flow", "save", folder, home=home_dir)

        assert (first.returncode, second.returncode) == (0, 0), second.stderr
        assert first.stdout == "tests.a  revision 1\ntests.b  revision 1\n"
        assert second.stdout == "tests.a  unchanged, revision 1\ntests.b  revision 2\n"
        assert tercel("execution", "list", home=home_dir).stdout == ""

    def test_given_one_that_is_refused_then_none_is_saved(self, folder: Path, home_dir: Path) -> None:
        (folder / "a.yaml").write_text(flow(echo("t", "1"), id="a"))
        (folder / "b.yaml").write_text(flow({"id": "t", "type": "nope"}, id="b"))

        done = tercel("flow", "save", folder, home=home_dir)

        assert done.returncode == 1
        assert str(folder / "b.yaml") in done.stderr
        assert done.stderr.endswith("Nothing was saved.\n")
        assert not home_dir.exists()


class TestSavedFlows:
    def test_list_show_revisions_and_delete(self, folder: Path, home_dir: Path) -> None:
        path = folder / "a.yaml"
        old, new = flow(echo("t", "1"), id="a"), flow(echo("t", "2"), id="a")
        for text in (old, new):
            path.write_text(text)
            tercel("flow", "save", path, home=home_dir)

        listed = tercel("flow", "list", home=home_dir)
        as_json = json.loads(tercel("flow", "list", "--json", home=home_dir).stdout)
        shown = tercel("flow", "show", "a", home=home_dir)
        older = tercel("flow", "show", "tests.a", "--revision", 1, home=home_dir)
        none = tercel("flow", "show", "a", "--revision", 7, home=home_dir)
        deleted = tercel("flow", "delete", "a", home=home_dir)
        revisions = tercel("flow", "revisions", "tests.a", home=home_dir)
        gone = tercel("flow", "show", "tests.a", home=home_dir)
        again = tercel("flow", "delete", "a", home=home_dir)

        assert listed.stdout.startswith("tests.a  revision 2  20")
        assert [(one["namespace"], one["id"], one["revision"]) for one in as_json] == [("tests", "a", 2)]
        assert (shown.stdout, older.stdout) == (new, old)
        assert none.stderr == "Error: The flow tests.a has no revision 7.\nIts revisions are: 1, 2.\n"
        assert deleted.stdout == "tests.a deleted.\n"
        assert [line.split("  ")[0] for line in revisions.stdout.splitlines()] == ["1", "2", "3"]
        assert revisions.stdout.endswith("  deleted\n")
        assert gone.stderr == "Error: The flow tests.a was deleted.\n--revision 3 shows its last text.\n"
        assert again.stderr == "Error: There is no flow a.\n`tercel flow list` shows what is saved.\n"

    def test_given_revisions_then_diff_shows_what_has_changed_between_them(self, folder: Path, home_dir: Path) -> None:
        path = folder / "a.yaml"
        for number in (1, 2, 3):
            path.write_text(flow(echo("t", f"{number}"), id="a"))
            tercel("flow", "save", path, home=home_dir)

        last = tercel("flow", "diff", "a", home=home_dir)
        whole = tercel("flow", "diff", "tests.a", 1, 3, home=home_dir)
        same = tercel("flow", "diff", "a", 2, 2, home=home_dir)
        none = tercel("flow", "diff", "a", 7, home=home_dir)

        assert last.returncode == whole.returncode == 1
        assert last.stdout.startswith("--- tests.a, revision 2\n+++ tests.a, revision 3\n@@")
        changed = [line for line in whole.stdout.splitlines() if line[:1] in "+-"][2:]
        assert [(line[0], line[-2]) for line in changed] == [("-", "1"), ("+", "3")]
        assert (same.returncode, same.stdout) == (0, "")
        assert none.stderr == "Error: The flow tests.a has no revision 7.\nIts revisions are: 1, 2, 3.\n"

    def test_given_the_same_id_in_two_namespaces_then_the_namespace_is_asked_for(
        self, folder: Path, home_dir: Path
    ) -> None:
        (folder / "1.yaml").write_text(flow(echo("t", "1"), id="a", namespace="one"))
        (folder / "2.yaml").write_text(flow(echo("t", "2"), id="a", namespace="one.two"))
        tercel("flow", "save", folder, home=home_dir)

        unclear = tercel("flow", "show", "a", home=home_dir)
        clear = tercel("flow", "show", "one.two.a", home=home_dir)

        assert unclear.returncode == 1
        assert unclear.stderr == (
            "Error: Several flows are called a.\nGive one with its namespace: one.a, one.two.a.\n"
        )
        assert "namespace: one.two\n" in clear.stdout


class TestKeyValues:
    def kv(self, home_dir: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        return tercel("kv", *arguments, home=home_dir)

    def test_given_values_then_they_keep_their_types_and_flows_see_them(self, folder: Path, home_dir: Path) -> None:
        values = [
            ("text", "some words"),
            ("number", "3"),
            ("list", "[1, true]"),
            ("span", "PT1H30M"),
            ("digits", "3", "--type", "STRING"),
            ("day", "2030-01-02", "--type", "date"),
            ("short", "x", "--ttl", "PT1H"),
        ]
        for value in values:
            done = self.kv(home_dir, "set", "tests", *value)
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
        path = folder / "a.yaml"
        path.write_text(flow(echo("t", "{{ kv('number') + 1 }} {{ kv('text') }} {{ kv('list')[0] }}")))

        shown = self.kv(home_dir, "list", "tests")
        ran = tercel("run", path, home=home_dir)
        listed = json.loads(self.kv(home_dir, "list", "tests", "--json").stdout)
        found = [self.kv(home_dir, "get", "tests", key).stdout for key in ("text", "list", "span", "day")]

        lines = [line.split("  until ")[0].rstrip() for line in shown.stdout.splitlines()]
        assert lines == [
            "day     2030-01-02",
            "digits  3",
            "list    [1, true]",
            "number  3",
            "short   x",
            "span    PT1H30M",
            "text    some words",
        ]
        assert "  until 20" in shown.stdout
        assert "4 some words 1" in ran.stdout
        types = {one["key"]: one["value"] for one in listed}
        assert (types["number"], types["digits"], types["list"]) == (3, "3", [1, True])
        assert found == ["some words\n", "[1, true]\n", "PT1H30M\n", "2030-01-02\n"]

    def test_given_what_cannot_be_then_it_is_said(self, home_dir: Path) -> None:
        self.kv(home_dir, "set", "tests", "k", "1")

        wrong = self.kv(home_dir, "set", "tests", "k", "x", "--type", "NUMBER")
        key = self.kv(home_dir, "set", "tests", "a b", "x")
        there = self.kv(home_dir, "set", "tests", "k", "2", "--no-overwrite")
        ttl = self.kv(home_dir, "set", "tests", "k", "2", "--ttl", "soon")
        null = self.kv(home_dir, "set", "tests", "k", "null")
        missing = self.kv(home_dir, "get", "tests", "other")

        assert wrong.returncode == 2
        assert wrong.stderr == "Error: 'x' cannot be read as NUMBER.\nChange it, or --type.\n"
        assert key.stderr == (
            "Error: 'a b' cannot be a key.\nUse letters, digits, '.', '-' and '_', with a letter or digit first.\n"
        )
        assert there.stderr == "Error: The namespace tests has the key 'k' already.\nOverwrite it.\n"
        assert (ttl.returncode, null.returncode) == (2, 2)
        assert null.stderr == "Error: The value null is none.\n`tercel kv delete` removes a key.\n"
        assert missing.returncode == 1
        assert missing.stderr == (
            "Error: The namespace tests has no key 'other', or it has expired.\n`tercel kv list tests` shows them.\n"
        )
        assert self.kv(home_dir, "get", "tests", "k").stdout == "1\n"

    def test_given_delete_then_it_is_gone(self, home_dir: Path) -> None:
        self.kv(home_dir, "set", "tests", "k", "1")

        done = self.kv(home_dir, "delete", "tests", "k")
        again = self.kv(home_dir, "delete", "tests", "k")

        assert done.stdout == "k deleted.\n"
        assert self.kv(home_dir, "list", "tests").stdout == ""
        assert again.returncode == 1
        assert again.stderr == "Error: The namespace tests has no key 'k'.\n"


class TestTriggers:
    def trigger(self, home_dir: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        return tercel("trigger", *arguments, home=home_dir)

    def test_list_disable_and_enable(self, folder: Path, home_dir: Path) -> None:
        path = folder / "a.yaml"
        path.write_text(flow(echo("t", "x"), id="a", triggers=[schedule("daily"), schedule("never", disabled=True)]))
        tercel("flow", "save", path, home=home_dir)
        type_name = f"{CORE}.trigger.Schedule"

        before = self.trigger(home_dir, "list")
        off = self.trigger(home_dir, "disable", "a", "daily")
        between = self.trigger(home_dir, "list", "--json")
        on = self.trigger(home_dir, "enable", "tests.a", "daily")
        still_off = self.trigger(home_dir, "enable", "a", "never")
        nothing = self.trigger(home_dir, "disable", "a", "other")

        assert before.stdout == (
            f"tests.a  daily  {type_name}  enabled\ntests.a  never  {type_name}  disabled in its flow\n"
        )
        assert off.stdout == "tests.a  daily  disabled\n"
        assert [(one["triggerId"], one["disabled"]) for one in json.loads(between.stdout)] == [
            ("daily", True),
            ("never", True),
        ]
        assert (on.stdout, on.stderr) == ("tests.a  daily  enabled\n", "")
        assert still_off.stderr == "It still starts nothing: disabled in its flow.\n"
        after = self.trigger(home_dir, "list").stdout
        assert re.match(rf"tests\.a  daily  {re.escape(type_name)}  enabled  next 20\S+Z\n", after)
        assert nothing.returncode == 1
        assert nothing.stderr == ("Error: The flow tests.a has no trigger 'other'.\nIts triggers are: daily, never.\n")

    def test_given_a_flow_without_triggers_then_nothing_is_listed(self, folder: Path, home_dir: Path) -> None:
        path = folder / "a.yaml"
        path.write_text(as_yaml({"id": "a", "namespace": "tests", "tasks": [echo("t", "x")]}))
        tercel("flow", "save", path, home=home_dir)

        assert self.trigger(home_dir, "list").stdout == ""
