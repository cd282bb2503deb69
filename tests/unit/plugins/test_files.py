"""LocalFiles."""

from __future__ import annotations

from pathlib import Path

from tercel.model import State
from tercel.plugins.files import LocalFiles
from tests.job_runners import Bench


def test_given_inputs_and_outputs_then_they_are_written_and_captured(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    result = bench.run(LocalFiles(id="l", type="L", inputs={"d/a.txt": "1", "b": "2"}, outputs=["**/*.txt"]))

    uris: dict[str, str] = result.outputs["uris"]  # type: ignore[assignment]
    assert list(uris) == ["d/a.txt"]
    assert bench.read(uris["d/a.txt"]) == b"1"
    assert bench.left() == []


def test_given_neither_then_it_succeeds_with_empty_maps_and_no_directory(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    result = bench.run(LocalFiles(id="l", type="L"))

    assert (result.state, result.outputs) == (State.SUCCESS, {"uris": {}, "outputFiles": {}})
    assert not bench.base.exists()


def test_given_two_alone_then_the_second_sees_nothing_of_the_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(LocalFiles(id="l", type="L", inputs={"a.txt": "1"}))

    assert bench.run(LocalFiles(id="l", type="L", outputs=["*.txt"])).outputs["uris"] == {}
