"""Every case of the conformance file for the script protocol, one test each; the counts by profile at the end."""

import base64
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tercel.script_protocol import LineSplitter, ScriptOutput
from tests.script_sinks import KeepingSink

FILE = Path(__file__).parents[1] / "conformance" / "script-protocol.json"
SUITE: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
LINE_CASES: list[dict[str, Any]] = SUITE["cases"]
BYTE_CASES: list[dict[str, Any]] = SUITE["byteCases"]


def same(actual: object, expected: object) -> bool:
    """Deep equality, numbers by value, booleans never equal to numbers."""
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    if isinstance(actual, dict) and isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(same(actual[key], expected[key]) for key in expected)
    if isinstance(actual, list) and isinstance(expected, list):
        return len(actual) == len(expected) and all(map(same, actual, expected))
    return actual == expected


def fits(entry: tuple[str, str], expected: dict[str, Any]) -> bool:
    levels = expected["level"] if isinstance(expected["level"], list) else [expected["level"]]
    if "match" in expected:
        return entry[0] in levels and re.search(expected["match"], entry[1]) is not None
    return entry[0] in levels and entry[1] == expected["message"]


@pytest.mark.parametrize("case", LINE_CASES, ids=[case["name"] for case in LINE_CASES])
@pytest.mark.parametrize("feeding", ["one by one", "all at once"])
def test_given_printed_lines_then_they_mean_what_the_case_says(case: dict[str, Any], feeding: str) -> None:
    sink = KeepingSink()
    output = ScriptOutput(case.get("stream", "stdout"), sink)
    expect = case["expect"]

    for lines in [[line] for line in case["lines"]] if feeding == "one by one" else [list(case["lines"])]:
        output.take(lines)
    output.close()

    assert same(sink.vars, expect["outputs"])
    expected_metrics = {
        (one["type"], one["name"], tuple(sorted(one.get("tags", {}).items()))): one["value"]
        for one in expect["metrics"]
    }
    assert sink.metrics == pytest.approx(expected_metrics, abs=1e-9)
    assert len(sink.logs) == len(expect["logs"]), sink.logs
    assert all(map(fits, sink.logs, expect["logs"])), sink.logs
    assert output.line_count == expect.get("countedLines", output.line_count)


@pytest.mark.parametrize("case", BYTE_CASES, ids=[case["name"] for case in BYTE_CASES])
def test_given_chunks_of_bytes_then_the_lines_and_outputs_are_those_of_the_case(case: dict[str, Any]) -> None:
    chunks = [base64.b64decode(chunk) for chunk in case["chunks"]]
    splitter = LineSplitter()
    sink = KeepingSink()
    output = ScriptOutput("stdout", sink)

    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.close()
    for chunk in chunks:
        output.feed(chunk)
    output.close()

    assert lines == case["expect"]["lines"]
    assert same(sink.vars, case["expect"]["outputs"])


def test_given_the_whole_file_then_its_counts_are_known(
    record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = Counter(case["profile"] for case in LINE_CASES + BYTE_CASES)

    assert (len(LINE_CASES), len(BYTE_CASES)) == (110, 10)
    assert set(profiles) == set(SUITE["profiles"])
    counts = ", ".join(f"{name} {count}" for name, count in sorted(profiles.items()))
    record_property("script protocol cases", counts)
    with capsys.disabled():
        print(f"\nscript protocol: {len(LINE_CASES)} line cases and {len(BYTE_CASES)} byte cases ({counts})")
