"""The generated pages are up to date: no setting, command, type or scenario is without its line in the docs."""

from __future__ import annotations

import pytest

from tools import compatibility
from tools.generate_docs import PAGES, ROOT, plugin_files


@pytest.mark.parametrize("name", PAGES)
def test_given_the_code_then_its_page_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make docs`"


def test_given_the_types_then_each_has_its_page_and_there_is_no_other() -> None:
    wanted = plugin_files()
    there = {path: path.read_text() for path in (ROOT / "docs" / "plugins").glob("*.md")}

    assert sorted(path.name for path in wanted.keys() ^ there.keys()) == [], "run `make docs`"
    assert [path.name for path, text in wanted.items() if there[path] != text] == [], "run `make docs`"


class TestCompatibility:
    def test_given_kestras_language_then_all_of_it_works_or_has_its_reason(self) -> None:
        assert compatibility.faults() == []

    def test_given_the_sections_of_the_language_then_each_has_its_tests(self) -> None:
        assert [one.title for one in compatibility.sections() if not one.count] == []

    @pytest.mark.parametrize("table", ["DIFFERS", "NOT_YET"])
    def test_given_a_reason_for_nothing_then_it_is_a_fault(self, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
        reasons = {**getattr(compatibility, table), "core.flow.Pause.dealy": "so it is"}
        monkeypatch.setattr(compatibility, table, reasons)

        assert compatibility.faults() == [f"{table} says something of core.flow.Pause.dealy, which nobody knows."]

    def test_given_a_reason_why_what_is_there_is_not_then_it_is_a_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compatibility, "NOT_YET", {**compatibility.NOT_YET, "core.flow.Pause": "so it is"})

        assert compatibility.faults() == ["NOT_YET says why the task core.flow.Pause is not there, but it is."]

    def test_given_no_reason_why_a_type_is_not_there_then_it_is_a_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reasons = {name: why for name, why in compatibility.NOT_YET.items() if name != "core.kv.PurgeKV"}
        monkeypatch.setattr(compatibility, "NOT_YET", reasons)

        assert compatibility.faults() == ["The task core.kv.PurgeKV is not there, and NOT_YET does not say why."]
