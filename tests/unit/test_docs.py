"""The generated pages are up to date: no setting, command, type or scenario is without its line in the docs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def generated_pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "tools" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", ["architecture.md", "cli.md", "compatibility.md", "plugins.md", "settings.md"])
def test_given_the_code_then_its_page_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == generated_pages()[name], "run `make docs`"
