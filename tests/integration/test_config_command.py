"""Configurations as the command line takes them, and `tercel config`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import environment, tercel
from tests.flows import CORE, flow


def shown(*arguments: object, **variables: str) -> dict[str, dict[str, str]]:
    """What `tercel config show` says of each setting."""
    done = tercel("config", "show", "--json", *arguments, env=variables)
    assert done.returncode == 0, done.stderr
    return {row["key"]: row for row in json.loads(done.stdout)["settings"]}


def of(row: dict[str, str]) -> tuple[str, str, str]:
    return row["value"], row["from"], row["place"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tercel.yaml"
    path.write_text(
        "kestra:\n  url: https://flows.example\n  storage.local.base-path: /data\n"
        "tercel:\n  port: 1\n  slots: 2\n  username: me@example.org\n"
    )
    return path


class TestShow:
    def test_given_every_source_then_each_value_is_that_of_the_most_important(self, file: Path) -> None:
        found = shown(
            "--config",
            file,
            "--home",
            "/of-the-option",
            TERCEL_PORT="3",
            KESTRA_URL="https://other.example",
            KESTRA_ENVIRONMENT_NAME="production",
            TERCEL_CONFIGURATION="tercel:\n  slots: 7\n  kill-grace: 7",
            KESTRA_CONFIGURATION="tercel: {kill-grace: 8, snapshot-days: 8}\nkestra.environment.name: test",
        )

        assert of(found["tercel.home"]) == ("/of-the-option", "--home", "")
        assert of(found["tercel.port"]) == ("3", "TERCEL_PORT", "")
        assert of(found["tercel.slots"]) == ("2", "tercel.slots", f"{file}:6")
        assert of(found["tercel.url"]) == ("https://flows.example", "kestra.url", f"{file}:2")
        assert of(found["tercel.environment-name"]) == ("production", "KESTRA_ENVIRONMENT_NAME", "")
        assert of(found["tercel.kill-grace"]) == ("7.0", "tercel.kill-grace", "TERCEL_CONFIGURATION:3")
        assert of(found["tercel.snapshot-days"]) == ("8", "tercel.snapshot-days", "KESTRA_CONFIGURATION:1")
        assert of(found["tercel.synchronous"]) == ("FULL", "default", "")
        assert of(found["tercel.dependency-dir"]) == ("/of-the-option/dependencies", "default", "")

    def test_given_several_files_then_the_last_one_wins(self, file: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.yaml"
        other.write_text("tercel.slots: 9\n")

        found = shown("-c", file, "-c", other)

        assert of(found["tercel.slots"]) == ("9", "tercel.slots", f"{other}:1")
        assert of(found["tercel.port"]) == ("1", "tercel.port", f"{file}:5")

    def test_given_secrets_then_none_of_them_is_shown(self) -> None:
        text = (
            "datasources.postgres: {url: 'jdbc:postgresql://db/f?password=open-sesame', username: me}\n"
            "kestra: {server.basic-auth: {username: me@example.org, password: open-sesame},\n"
            "  encryption.secret-key: b3Blbi1zZXNhbWUtb3Blbi1zZXNhbWUtb3Blbi1zZXM=,\n"
            "  url: 'https://me:open-sesame@flows.example',\n"
            "  variables.globals: {token: open-sesame, deep: [open-sesame]},\n"
            "  plugins.defaults: [{type: io.kestra, values: {token: open-sesame}}]}\n"
            "tercel.api-tokens: [open-sesame]\n"
        )

        for arguments in (("--json",), ()):
            done = tercel("config", "show", *arguments, env={"KESTRA_CONFIGURATION": text})

            assert done.returncode == 0, done.stderr
            assert "sesame" not in done.stdout + done.stderr
            assert "b3Blbi" not in done.stdout
            assert "postgresql://me:******@db/f" in done.stdout

    def test_given_no_json_then_a_line_for_each_setting_and_what_has_no_effect(self, file: Path) -> None:
        file.write_text("kestra:\n  tutorial-flows: {enabled: false}\ntercel:\n  slots: 2\n")

        lines = tercel("config", "show", "-c", file).stdout.splitlines()

        assert " ".join(next(line for line in lines if line.startswith("tercel.slots ")).split()) == (
            f"tercel.slots 2 tercel.slots ({file}:4)"
        )
        assert lines[-2:] == [
            "Without effect here:",
            f"  kestra.tutorial-flows.enabled ({file}:2): there are none",
        ]

    def test_given_an_unknown_key_then_it_is_a_warning_and_a_wrong_value_an_error(self, file: Path) -> None:
        file.write_text("kestra.storage.typ: local\n")
        warned = tercel("config", "show", "-c", file)
        file.write_text("tercel.slots: many\n")
        refused = tercel("config", "show", "-c", file)

        assert warned.returncode == 0
        assert warned.stderr == (
            f"Warning: {file}:1: kestra.storage.typ is no key that is known. Did you mean kestra.storage.type?\n"
        )
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[0] == (
            f"Error: {file}:1: tercel.slots is 'many', which is not a whole number of at least 1."
        )

    def test_given_no_such_file_then_it_is_told(self, tmp_path: Path) -> None:
        done = tercel("config", "show", "-c", tmp_path / "nowhere.yaml")

        assert done.returncode == 2
        assert done.stderr == (
            f"Error: The configuration {tmp_path}/nowhere.yaml cannot be read: No such file or directory.\n"
        )

    def test_given_the_name_kestra_then_its_usual_file_is_read_where_it_is(self, tmp_path: Path) -> None:
        (tmp_path / ".kestra").mkdir()
        (tmp_path / "kestra").symlink_to(Path(sys.executable).with_name("tercel"))
        command = [str(tmp_path / "kestra"), "config", "show", "--json"]
        env = environment(None, {"HOME": str(tmp_path)})

        for text, url in ((None, ""), ("kestra.url: x", "x")):
            if text is not None:
                (tmp_path / ".kestra" / "config.yml").write_text(text)
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            rows: list[dict[str, Any]] = json.loads(done.stdout)["settings"]
            assert {row["key"]: row["value"] for row in rows}["tercel.url"] == url


class TestValidate:
    def test_given_files_then_they_are_checked_without_the_environment(self, file: Path) -> None:
        done = tercel("config", "validate", file, env={"TERCEL_PORT": "x", "KESTRA_CONFIGURATION": "- no"})

        assert (done.returncode, done.stdout) == (0, f"✓ {file}\n")

    def test_given_faults_then_all_of_a_kind_are_told(self, file: Path) -> None:
        file.write_text("tercel:\n  slots: 0\n  port: x\n")

        done = tercel("config", "validate", file)

        assert done.returncode == 2
        assert done.stdout == ""
        assert [line.partition(" is ")[0] for line in done.stderr.splitlines()] == [
            f"Error: {file}:2: tercel.slots",
            f"{file}:3: tercel.port",
        ]


class TestRunning:
    def test_given_a_configuration_then_flows_run_with_its_defaults_and_values(
        self, file: Path, tmp_path: Path
    ) -> None:
        file.write_text(
            f"kestra:\n  storage.local.base-path: {tmp_path}/data\n  url: https://flows.example\n"
            "  environment.name: production\n"
            "  variables.globals: {myVar: of all}\n"
            f'  plugins.defaults: [{{type: {CORE}.debug.Return, values: {{format: "{{{{ vars.text }}}}"}}}}]\n'
        )
        text = (
            "{{ globals.myVar }}|{{ globals['my-var'] }}|{{ kestra.url }}|{{ kestra.environment.name }}|"
            "{{ envs.colour }}|{{ envs.url ?? 'hidden' }}|{{ envs.configuration ?? 'hidden' }}"
        )
        outputs = [
            {"id": "said", "type": "STRING", "value": text},
            {"id": "default", "type": "STRING", "value": "{{ outputs.say.value }}"},
        ]
        say = {"id": "say", "type": f"{CORE}.debug.Return"}
        (tmp_path / "flow.yaml").write_text(flow(say, variables={"text": "by default"}, outputs=outputs))
        variables = {"KESTRA_COLOUR": "blue", "KESTRA_URL": "", "TERCEL_CONFIGURATION": "#"}

        done = tercel("run", tmp_path / "flow.yaml", "-c", file, "--json", env=variables)

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outputs"] == {
            "said": "of all|of all|https://flows.example|production|blue|hidden|hidden",
            "default": "by default",
        }
        assert (tmp_path / "data" / ".tercel" / "tercel.db").exists()

    def test_given_no_configuration_then_no_module_of_it_is_loaded(self, tmp_path: Path) -> None:
        env = {name: value for name, value in environment(tmp_path).items() if not name.startswith(("KESTRA_", "ENV_"))}
        command = [sys.executable, "-X", "importtime", "-m", "tercel", "flow", "list"]

        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "tercel.settings" in loaded
        assert not {"tercel.configuration", "tercel.kestra_keys"} & loaded
