from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from types import ModuleType

import pytest

from tercel.errors import MissingToolError
from tercel.model.catalog import Catalog, Offer
from tercel.model.source import check_flow
from tests.unit.model.samples import CATALOG, Say, texts

_SLOW = """
import gate_of_slow_plugin

from tercel.model.catalog import plugin
from tercel.model.task import Part


@plugin("io.slow.Say")
class Say(Part, frozen=True, kw_only=True):
    '''Says it.'''


gate_of_slow_plugin.has_announced.set()
gate_of_slow_plugin.may_go_on.wait(30)
NEEDED = True
"""


class TestFind:
    def test_given_a_present_or_former_name_then_the_class_is_found(self) -> None:
        assert CATALOG.find("io.test.Say") is Say
        assert CATALOG.find("io.test.old.Say") is Say
        assert (Say.plugin_type, Say.plugin_aliases) == ("io.test.Say", ("io.test.old.Say",))

    def test_given_a_name_that_nothing_provides_then_there_is_none(self) -> None:
        assert CATALOG.find("io.test.Nothing") is None

    def test_given_installed_packages_then_they_are_asked_once_and_late(self) -> None:
        asked: list[int] = []

        def more() -> Mapping[str, Sequence[Offer]]:
            asked.append(1)
            return {name: [Offer("no.such.module", "more")] for name in ("io.more.Say", "io.test.Say")}

        catalog = Catalog({"io.test.Say": "tests.unit.model.samples"}, more)

        assert catalog.find("io.test.Say") is Say
        assert asked == []
        assert catalog.find("io.more.Other") is None
        assert catalog.find("io.more.Another") is None
        assert asked == [1]
        assert catalog.names() == ["io.more.Say", "io.test.Say"]

    def test_given_a_module_that_cannot_be_imported_then_it_is_told(self) -> None:
        catalog = Catalog({"io.broken.Say": "no.such.module"})

        with pytest.raises(MissingToolError) as caught:
            catalog.find("io.broken.Say")

        assert caught.value.message == "The plugin of io.broken.Say cannot be imported: No module named 'no'."
        assert [one.text for one in check_flow(_flow("io.broken.Say"), catalog).issues] == [
            "Line 4, column 19 (tasks[0].type): The plugin of io.broken.Say cannot be imported: No module named 'no'. "
            "Install what it needs, or update it."
        ]

    def test_given_a_module_that_another_thread_imports_then_its_class_is_given_once_the_module_is_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "slow_plugin.py").write_text(_SLOW)
        monkeypatch.syspath_prepend(tmp_path)
        has_announced, may_go_on, gate = Event(), Event(), ModuleType("gate_of_slow_plugin")
        vars(gate).update(has_announced=has_announced, may_go_on=may_go_on)
        monkeypatch.setitem(sys.modules, "gate_of_slow_plugin", gate)
        catalog = Catalog({"io.slow.Say": "slow_plugin"})
        seen: list[bool] = []

        def find() -> None:
            assert catalog.find("io.slow.Say") is not None
            seen.append(hasattr(sys.modules["slow_plugin"], "NEEDED"))

        first, second = Thread(target=find), Thread(target=find)
        first.start()
        assert has_announced.wait(30)
        second.start()
        second.join(0.1)
        may_go_on.set()
        first.join()
        second.join()

        assert seen == [True, True]

    def test_given_a_module_that_announces_nothing_then_it_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "empty_plugin", ModuleType("empty_plugin"))
        catalog = Catalog({"io.empty.Say": "empty_plugin"})

        assert [one.message for one in check_flow(_flow("io.empty.Say"), catalog).issues] == [
            "The module empty_plugin should provide io.empty.Say and does not."
        ]


class TestOutside:
    def test_given_a_package_that_cannot_be_imported_then_it_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('no licence')\n")
        monkeypatch.syspath_prepend(tmp_path)
        catalog = Catalog({}, lambda: {"io.broken.Say": [Offer("broken_plugin", "acme-broken")]})

        with pytest.raises(MissingToolError) as caught:
            catalog.find("io.broken.Say")

        told = (
            "The type io.broken.Say cannot be used: its package acme-broken cannot be imported:"
            " RuntimeError: no licence. Install what the package needs, update it, or uninstall it."
        )
        assert str(caught.value) == told
        assert catalog.faults() == [told]

    def test_given_two_packages_that_announce_one_type_then_both_are_named(self) -> None:
        offers = [Offer("tests.unit.model.samples", "b"), Offer("tests.unit.model.samples", "a")]
        catalog = Catalog({}, lambda: {"io.test.Say": offers})

        assert catalog.faults() == [
            "The type io.test.Say is provided by several packages: a, b. Uninstall all of them but one."
        ]
        assert catalog.package_of("io.test.Say") == "a, b"

    def test_given_a_package_that_announces_a_type_of_tercels_then_tercels_is_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "usurping_plugin.py").write_text(
            "from tercel.model.catalog import plugin\nfrom tercel.model.task import Part\n\n\n"
            '@plugin("io.test.Say")\nclass Say(Part, frozen=True, kw_only=True):\n    """Another one."""\n'
        )
        monkeypatch.syspath_prepend(tmp_path)
        offers = {name: [Offer("usurping_plugin", "acme")] for name in ("io.test.Say", "io.acme.Other")}
        catalog = Catalog({"io.test.Say": "tests.unit.model.samples"}, lambda: offers)

        with pytest.raises(MissingToolError, match=r"of the package acme should provide io\.acme\.Other and does not"):
            catalog.find("io.acme.Other")  # imports the module, which announces the name of Tercel's type, too

        assert catalog.find("io.test.Say") is Say
        assert "The type io.test.Say of the package acme is not used: tercel has its own." in catalog.faults()

    def test_given_a_property_that_no_yaml_can_be_turned_into_then_the_package_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "odd_plugin.py").write_text(
            "from tercel.model.catalog import plugin\nfrom tercel.model.task import Part\n\n\n"
            '@plugin("io.odd.Say")\nclass Say(Part, frozen=True, kw_only=True):\n    words: set[str]\n'
        )
        monkeypatch.syspath_prepend(tmp_path)
        catalog = Catalog({}, lambda: {"io.odd.Say": [Offer("odd_plugin", "acme-odd")]})

        with pytest.raises(MissingToolError) as caught:
            catalog.find("io.odd.Say")

        assert caught.value.message == (
            "The type io.odd.Say of the package acme-odd cannot be used: "
            "Say.words is annotated with set[str], which no YAML can be turned into."
        )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("io.test.say", "io.test.Say"),
        ("io.test.Sai", "io.test.Say"),
        ("Say", "io.test.Say"),
        ("Nothing", None),
        ("io.kestra.plugin.aws.s3.Say", None),
        ("io.test.flow.Group", "io.test.Group"),
    ],
)
def test_given_a_misspelt_name_then_the_nearest_is_found(name: str, near: str | None) -> None:
    assert CATALOG.nearest(name) == near


def test_given_the_samples_then_they_are_read() -> None:
    assert texts(_flow("io.test.Say")) == []


def _flow(type_name: str) -> str:
    return f"id: a\nnamespace: b\ntasks:\n  - {{id: a, type: {type_name}, message: x}}\n"
