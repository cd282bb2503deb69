"""The flows that the project was created for, as written: which are valid, and what the others are told.

They are read from `shared/seeds` beside the project.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tercel.model.issue import Issue
from tercel.model.source import check_flow
from tercel.plugins import catalog

ROOT = Path(__file__).parents[2]
SEEDS = ROOT.parent / "shared" / "seeds" / "flows"
FLOWS = sorted(path.relative_to(SEEDS).as_posix() for path in SEEDS.glob("**/*.yaml"))

TABS = {
    "003_05_localPythonScript.yaml": 11,
    "003_06_gpuTask.yaml": 9,
    "003_12_rCars.yaml": 14,
}
FRAGMENT = "004_00_caching_files.yaml"

pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason="no ../shared/seeds beside the project")


def issues(name: str) -> tuple[Issue, ...]:
    checked = check_flow((SEEDS / name).read_text(), catalog())
    assert (checked.flow is None) == bool(checked.issues)
    return checked.issues


@pytest.mark.parametrize("name", [name for name in FLOWS if name not in {*TABS, FRAGMENT}])
def test_given_a_sound_flow_then_it_is_valid(name: str) -> None:
    assert [issue.text for issue in issues(name)] == []


@pytest.mark.parametrize("name", TABS)
def test_given_a_flow_indented_with_tabs_then_line_and_remedy_are_told(name: str) -> None:
    (told,) = issues(name)

    assert told.text == (
        f"Line {TABS[name]}, column 1: This line is indented with a tab. "
        "YAML allows only spaces there: replace the tab with spaces."
    )


def test_given_a_fragment_then_the_missing_tasks_are_told() -> None:
    (told,) = issues(FRAGMENT)

    assert (told.line, told.column, told.path, told.code) == (
        5,
        5,
        "tasks[0].tasks",
        "workingDirectory.tasks.empty",
    )
