"""What plugins share: what their properties render to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercel.plugin_api import TaskFailedError, is_on, whole_number
from tests.run_contexts import DirectoryContext


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    return DirectoryContext(tmp_path, variables={"n": 7, "no": "false", "blank": " "})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((True, True), (False, False), (None, False)),
        *((text, True) for text in ("true", "True", "yes", "1", "{{ n }}", " true\n")),
        *((text, False) for text in ("", "false", "False", "FALSE", "0", "-0", "null", "{{ no }}", "{{ blank }}")),
        ("false\n", False),
    ],
)
def test_given_a_flag_then_it_is_on_or_off(context: DirectoryContext, value: bool | str | None, expected: bool) -> None:
    assert is_on(context, value) is expected


@pytest.mark.parametrize(("value", "number"), [(3, 3), ("{{ n }}", 7), (" 4 ", 4), ("0012", 12), (0, 0)])
def test_given_a_number_then_it_is_read(context: DirectoryContext, value: int | str, number: int) -> None:
    assert whole_number(context, value, "maxKeys") == number


@pytest.mark.parametrize("value", ["x", "-1", -1, "+1", "1.5", "1_0", "", "\u0663", "9" * 5000, 1 << 70])
def test_given_no_number_then_it_says_so(context: DirectoryContext, value: int | str) -> None:
    with pytest.raises(TaskFailedError) as error:
        whole_number(context, value, "maxKeys")

    assert str(error.value) == f"maxKeys is {str(value)[:80]!r}, which is not a whole number of 0 or more."


def test_given_a_number_below_the_least_one_then_it_says_so(context: DirectoryContext) -> None:
    with pytest.raises(TaskFailedError, match="maxKeys is '7', which is not a whole number of 8 or more"):
        whole_number(context, "{{ n }}", "maxKeys", least=8)
