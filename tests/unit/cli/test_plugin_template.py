from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tercel.cli.plugin_template import is_package_name, is_taken, is_type_name, package_files
from tercel.model.schema import example_flow
from tercel.model.source import check_flow
from tercel.model.task import Part
from tercel.plugins import catalog


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("acme", True),
        ("acme-text", True),
        ("acme_text2", True),
        ("Acme", False),
        ("acme--text", False),
        ("-acme", False),
        ("acme.text", False),
        ("../acme", False),
        ("2acme", False),
        ("", False),
    ],
)
def test_given_a_text_then_it_is_a_name_for_a_package_or_not(text: str, fits: bool) -> None:
    assert is_package_name(text) is fits


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("io.acme.Keep", True),
        ("io.acme.v2.Keep", True),
        ("acme.Keep", True),
        ("Keep", False),
        ("io.acme.keep", False),
        ("io..Keep", False),
        ("io.acme.Keep\n", False),
        ("io.acme-text.Keep", False),
        ("io.acme.None", False),
        ("io.acme.Outputs", False),
    ],
)
def test_given_a_text_then_it_is_a_name_for_a_type_or_not(text: str, fits: bool) -> None:
    assert is_type_name(text) is fits


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("acme-text", False),
        ("json", True),
        ("tercel", True),
        ("io.acme.Keep", False),
        ("io.kestra.plugin.core.log.Log", True),
        ("io.kestra.core.tasks.log.Log", True),
    ],
)
def test_given_a_name_then_python_and_tercel_have_it_already_or_not(text: str, is_one: bool) -> None:
    assert is_taken(text) is is_one


class TestPackageFiles:
    def test_given_a_name_then_module_type_and_tests_are_called_after_it(self) -> None:
        files = package_files("my-own_tools")

        assert list(files) == ["pyproject.toml", "my_own_tools.py", "flow.yaml", "tests/test_my_own_tools.py"]
        project = tomllib.loads(files["pyproject.toml"])
        assert project["project"]["name"] == "my-own_tools"
        assert project["project"]["entry-points"]["tercel.plugins"] == {"io.my.own.tools.Keep": "my_own_tools"}
        assert "acme" not in "".join(files.values())

    def test_given_a_type_name_then_the_class_is_called_so_and_its_flow_is_valid(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = package_files("acme-text", "io.some.Other")
        (tmp_path / "template_of_package.py").write_text(files["acme_text.py"])
        monkeypatch.syspath_prepend(tmp_path)

        part = import_module("template_of_package").Other

        assert issubclass(part, Part)
        assert part.plugin_type == "io.some.Other"
        for text in (files["flow.yaml"], example_flow(part)):
            assert [issue.text for issue in check_flow(text, catalog()).issues] == []
