from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tercel.cli.plugin import plugin


def call(*arguments: str) -> Result:
    return CliRunner().invoke(plugin, list(arguments))


class TestList:
    def test_given_the_types_then_each_is_listed_once_by_its_present_name(self) -> None:
        lines = call("list").output.splitlines()

        assert "io.kestra.plugin.core.log.Log" in lines
        assert len(lines) == len(set(lines)) == len([line for line in lines if " → " not in line])

    def test_given_former_names_are_wanted_then_they_lead_to_the_present_one(self) -> None:
        assert "io.kestra.core.tasks.log.Log → io.kestra.plugin.core.log.Log\n" in call("list", "--all").output


class TestDoc:
    def test_given_a_type_then_all_is_told(self) -> None:
        told = call("doc", "OutputValues").output
        assert told.startswith("io.kestra.plugin.core.output.OutputValues\n\nGive a map of values back")
        assert "\n  values (map of any values; rendered)\n" in told
        assert "\nOutputs:\n  values: the rendered map.\n" in told
        assert "\nExample:\n  id: example\n  namespace: company.team\n\n  tasks:\n    - id: paths\n" in told

    def test_given_a_property_then_what_it_takes_and_what_it_is_by_itself_are_told(self) -> None:
        told = call("doc", "LoopUntil").output

        assert "  failOnMaxReached (true or false; false by default): fail where a limit ends the loop.\n" in told
        assert "\nCheckFrequency:\n  interval (duration; rendered): wait between two rounds; PT1M without it.\n" in told
        assert "\nFormer names: io.kestra.plugin.core.flow.WaitFor\n" in told

    def test_given_a_former_name_then_the_present_one_is_told(self) -> None:
        told = call("doc", "io.kestra.core.tasks.log.Log").output

        assert told.startswith("io.kestra.core.tasks.log.Log\nThe former name of io.kestra.plugin.core.log.Log.\n")

    def test_given_a_deprecated_type_then_what_to_use_instead_is_told(self) -> None:
        assert "\nDeprecated. Use io.kestra.plugin.core.log.Log.\n" in call("doc", "Echo").output

    @pytest.mark.parametrize(
        ("name", "told"),
        [("Nothing", "No single type is meant by 'Nothing'. `tercel plugin list` shows every type."),
         ("kv.Get", ""),
         ("GetKeys", "")],
    )  # fmt: skip
    def test_given_the_end_of_a_name_then_it_is_enough_where_one_type_is_meant(self, name: str, told: str) -> None:
        done = call("doc", name)

        assert done.exit_code == (2 if told else 0)
        assert told in done.output

    def test_given_a_name_of_several_types_then_they_are_named(self) -> None:
        done = call("doc", "Set")

        assert done.exit_code == 2
        assert "It could be io.kestra.plugin.core.kv.Set or io.kestra.plugin.core.state.Set." in done.output


class TestNew:
    def test_given_a_name_then_the_package_is_there(self, tmp_path: Path) -> None:
        done = call("new", "acme-text", "--into", str(tmp_path))

        assert done.exit_code == 0, done.output
        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
        assert found == [
            "acme-text/acme_text.py",
            "acme-text/flow.yaml",
            "acme-text/pyproject.toml",
            "acme-text/tests/test_acme_text.py",
        ]

    def test_given_a_folder_that_is_there_then_nothing_is_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "acme-text").mkdir()

        done = call("new", "acme-text", "--into", str(tmp_path))

        assert done.exit_code == 2
        assert "is there already. Choose another name, or remove it." in done.output
        assert list((tmp_path / "acme-text").iterdir()) == []

    @pytest.mark.parametrize("arguments", [("Acme",), ("acme", "--type", "keep")])
    def test_given_a_name_that_is_none_then_it_is_refused(self, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        done = call("new", *arguments, "--into", str(tmp_path))

        assert done.exit_code == 2
        assert "is no name for a" in done.output
        assert list(tmp_path.iterdir()) == []
