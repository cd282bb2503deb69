"""Where objects go: their names in internal storage, and what they are moved to."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Barrier

import pytest

from tercel.plugins.aws.actions import MoveTo, at_once, stored_name, target_of
from tercel.plugins.aws.listing import Object
from tests.run_contexts import DirectoryContext


def an_object(key: str) -> Object:
    return Object(key, "etag", 3, "2030-01-02T10:00:00.000Z", None)


@pytest.mark.parametrize(
    ("folder", "key", "expected"),
    [
        ("archive/raw/", "raw/a.csv", "archive/raw/a.csv"),
        ("archive//", "raw/deep/a b.csv", "archive/a b.csv"),
        ("", "raw/a.csv", "a.csv"),
        ("archive", "raw/", "archive/raw/"),
        ("{{ object.size }}/{{ object.key }}", "a", "3/a/a"),
    ],
)
def test_given_a_folder_then_the_last_part_of_the_key_goes_there(
    tmp_path: Path, folder: str, key: str, expected: str
) -> None:
    target = target_of(MoveTo(key=folder), "bucket", an_object(key), DirectoryContext(tmp_path))

    assert target == ("bucket", expected)


def test_given_another_bucket_then_it_goes_there(tmp_path: Path) -> None:
    target = target_of(MoveTo(key="x", bucket="other"), "bucket", an_object("a"), DirectoryContext(tmp_path))

    assert target == ("other", "x/a")


@pytest.mark.parametrize(
    ("key", "suffix"),
    [
        ("raw/a.csv", ".csv"),
        ("a.tar.gz", ".gz"),
        ("raw/.hidden", ""),
        ("folder.d/name", ""),
        ("a.b c", ""),
        ("a." + "x" * 30, ""),
        ("../../etc/passwd", ""),
        ("\udcff.bin", ".bin"),
    ],
)
def test_given_a_key_then_its_file_has_a_plain_name_with_its_suffix(key: str, suffix: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{24}" + re.escape(suffix), stored_name(key))


def test_given_keys_of_one_name_then_their_files_differ() -> None:
    assert stored_name("a/x.csv") != stored_name("b/x.csv")


def test_given_several_then_they_are_done_side_by_side_and_given_in_order() -> None:
    both = Barrier(2)

    def do(number: int) -> int:
        both.wait(10)
        return number * 2

    assert at_once(do, [1, 2], 2) == [2, 4]


def test_given_an_error_then_it_ends_all() -> None:
    def do(number: int) -> int:
        if number == 0:
            raise ValueError("zero")
        return number

    with pytest.raises(ValueError, match="zero"):
        at_once(do, [0, 1, 2], 2)
