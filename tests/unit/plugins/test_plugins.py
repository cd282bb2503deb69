from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from tercel.model.flow import Flow
from tercel.model.shapes import shape_of
from tercel.model.task import Task
from tercel.plugins import MODULES, catalog, installed_types


@pytest.mark.parametrize("type_name", MODULES)
def test_given_a_name_of_the_table_then_its_module_announces_it(type_name: str) -> None:
    part = catalog().find(type_name)

    assert part is not None
    assert part.__module__ == MODULES[type_name] or part.__module__.startswith(f"{MODULES[type_name]}.")
    assert type_name in {part.plugin_type, *part.plugin_aliases}
    assert shape_of(part).fields["type"]


@pytest.mark.parametrize("type_name", MODULES)
def test_given_a_class_then_all_names_that_it_announces_are_in_the_table(type_name: str) -> None:
    part = catalog().find(type_name)

    assert part is not None
    assert {part.plugin_type, *part.plugin_aliases} <= MODULES.keys()
    assert part.plugin_type.startswith("io.kestra.plugin.")


def test_given_a_catalog_then_nothing_is_imported_before_it_is_asked_for() -> None:
    script = (
        "import sys\n"
        "from tercel.plugins import catalog\n"
        "found = catalog().find('io.kestra.plugin.core.log.Log')\n"
        "print(sorted(name for name in sys.modules if name.startswith('tercel.plugins.')))\n"
        "print('importlib.metadata' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "['tercel.plugins.debug']\nFalse\n"


def test_given_an_installed_package_then_its_types_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        [EntryPoint("io.test.Say", "tests.unit.model.samples", "tercel.plugins"), EntryPoint("x", "y", "console")]
    )
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: points.select(group=group)  # type: ignore[misc]
    )  # fmt: skip

    installed_types.cache_clear()

    try:
        part = catalog().find("io.test.Say")
        names = catalog().names()
    finally:
        installed_types.cache_clear()

    assert part is not None
    assert issubclass(part, Task)
    assert "x" not in names


def test_given_a_flow_then_it_is_no_plugin() -> None:
    assert Flow.plugin_type == ""
