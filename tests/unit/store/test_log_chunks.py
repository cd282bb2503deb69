from __future__ import annotations

import pytest

from tercel.model.logs import LogEntry
from tercel.model.task import LogLevel
from tercel.store.log_chunks import chunk_has, decode_chunk, encode_chunk
from tests.builders import NOON


def entries(*messages: str) -> list[LogEntry]:
    return [LogEntry(execution_id="e", date=NOON, level=LogLevel.INFO, message=message) for message in messages]


@pytest.mark.parametrize(("many", "encoding"), [(1, "plain"), (1000, "zstd")])
def test_given_lines_then_they_come_back_equal(many: int, encoding: str) -> None:
    lines = entries(*['a "quoted" \\ ä\n\0'] * many)

    chunk = encode_chunk(lines)

    assert chunk[0] == encoding
    assert decode_chunk(*chunk) == lines


@pytest.mark.parametrize("many", [1, 1000])
def test_given_a_text_then_a_chunk_without_it_is_known_and_one_with_it_is_never_missed(many: int) -> None:
    chunk = encode_chunk(entries(*['Disk FULL: "/ä" \\ 90%\n'] * many))

    assert not chunk_has(*chunk, "disk empty")
    for text in ("disk full", "90%", "\n", '"/', "ä", "\\ 9", ""):
        assert chunk_has(*chunk, text)
