"""Mounts of single threads, on the real kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

import pytest

from tercel.mounts import bind, contained, covered, own_mounts, unmount, why_no_mounts

T = TypeVar("T")

pytestmark = pytest.mark.skipif(bool(why_no_mounts()), reason="mounts are not possible here")


def in_thread(act: Callable[[], T]) -> T:
    """What *act* gives in a thread of its own."""
    found: list[T] = []
    thread = Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"in-{name}").write_text(name)
    return tmp_path


class TestOwnMounts:
    def test_given_a_mount_then_only_the_thread_and_its_processes_see_it(self, folders: Path) -> None:
        def look() -> tuple[list[str], str, list[str]]:
            with own_mounts():
                bind(f"{folders}/a", f"{folders}/b")
                process = subprocess.run(["ls", f"{folders}/b"], capture_output=True, text=True, check=True)
                return os.listdir(folders / "b"), process.stdout, in_other()

        def in_other() -> list[str]:
            asked.set()
            answered.wait(10)
            return other

        asked, answered, other = Event(), Event(), list[str]()
        thread = Thread(target=lambda: (asked.wait(10), other.extend(os.listdir(folders / "b")), answered.set()))
        thread.start()
        seen = in_thread(look)
        thread.join()

        assert seen == (["in-a"], "in-a\n", ["in-b"])
        assert os.listdir(folders / "b") == ["in-b"]

    def test_given_a_thread_started_meanwhile_then_the_block_is_left_all_the_same(self, folders: Path) -> None:
        ends = Event()

        def look() -> tuple[list[str], str]:
            with own_mounts():
                bind(f"{folders}/a", f"{folders}/b")
                Thread(target=lambda: ends.wait(10)).start()
            return os.listdir(folders / "b"), os.getcwd()

        before = os.getcwd()
        seen = in_thread(look)
        ends.set()

        assert seen == (["in-b"], before)

    def test_given_an_error_in_the_block_then_the_thread_is_back_too(self, folders: Path) -> None:
        def look() -> list[str]:
            with suppress(ZeroDivisionError), own_mounts():
                bind(f"{folders}/a", f"{folders}/b")
                raise ZeroDivisionError
            return os.listdir(folders / "b")

        assert in_thread(look) == ["in-b"]

    def test_given_an_unmount_then_what_is_below_is_seen(self, folders: Path) -> None:
        def look() -> list[str]:
            with own_mounts():
                bind(f"{folders}/a", f"{folders}/b")
                unmount(f"{folders}/b")
                return os.listdir(folders / "b")

        assert in_thread(look) == ["in-b"]


class TestCovered:
    def test_given_a_folder_then_it_is_empty_and_takes_folders_that_nobody_sees_later(self, folders: Path) -> None:
        def look() -> list[str]:
            with covered(f"{folders}/a"):
                (folders / "a/new").mkdir()
                return os.listdir(folders / "a")

        assert in_thread(look) == ["new"]
        assert os.listdir(folders / "a") == ["in-a"]


class TestContained:
    def test_given_a_hidden_folder_then_only_what_is_shown_of_it_is_there_and_can_be_written(
        self, folders: Path
    ) -> None:
        line = f"ls {folders}; touch {folders}/x 2>/dev/null || echo refused; echo new > {folders}/b/new"

        def look() -> str:
            with contained([os.fspath(folders)], [f"{folders}/b", f"{folders}/not-there"]):
                return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout

        assert in_thread(look) == "b\nrefused\n"
        assert sorted(os.listdir(folders / "b")) == ["in-b", "new"]
        assert sorted(os.listdir(folders)) == ["a", "b"]

    def test_given_a_hidden_folder_that_is_not_there_then_it_is_passed_over(self, folders: Path) -> None:
        def look() -> list[str]:
            with contained([f"{folders}/none"], []):
                return sorted(os.listdir(folders))

        assert in_thread(look) == ["a", "b"]
