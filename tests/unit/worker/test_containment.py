"""What scripts see of the machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tercel.mounts import why_no_mounts
from tercel.worker.containment import Containment
from tercel.worker.directories import Directories
from tercel.worker.workplace import Workplace

needs_mounts = pytest.mark.skipif(bool(why_no_mounts()), reason="only where threads can have mounts of their own")


class Fixture:
    """A home with a secret, the directory of another task run, and a workplace."""

    def __init__(self, folder: Path, base: Path | None = None) -> None:
        self.home = folder / "home"
        self.base = base or self.home / "tmp"
        for path in (self.home / "storage", self.home / "dependencies" / "venv", self.home / "layers"):
            path.mkdir(parents=True)
        (self.home / "secret.key").write_text("secret")
        (self.home / "tercel.db").write_text("records")
        (self.home / "dependencies/venv/python").write_text("python")
        self.directories = Directories(self.base)
        other = self.directories.make()
        (other / "private").write_text("private")
        self.workplace = Workplace(self.directories)
        (self.workplace.directory / "mine").write_text("mine")
        self.containment = Containment(self.home, self.base, [self.home / "dependencies"])

    def sees(self, line: str) -> str:
        """What a shell line prints in a process of the workplace."""
        with self.containment.around(self.workplace):
            done = subprocess.run(
                ["sh", "-c", line], cwd=self.workplace.directory, capture_output=True, text=True, check=False
            )
        return done.stdout


@pytest.fixture
def contained(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


@needs_mounts
class TestAround:
    def test_given_a_home_then_a_process_finds_its_own_directory_and_what_is_shown_and_nothing_else(
        self, contained: Fixture
    ) -> None:
        found = contained.sees(f"cd {contained.home}; find . -type f; cat {contained.workplace.directory}/mine")

        mine = contained.workplace.directory.relative_to(contained.home)
        assert sorted(found.splitlines()) == sorted([f"./{mine}/mine", "./dependencies/venv/python", "mine"])

    def test_given_areas_beside_the_directory_then_they_are_seen_too(self, contained: Fixture) -> None:
        engine, output = contained.workplace.make_engine_area(), contained.workplace.make_output_area()
        (engine / "script.sh").write_text("script")

        assert contained.sees(f"cat {engine}/script.sh; echo out > {output}/x") == "script"
        assert (output / "x").read_text() == "out\n"

    def test_given_a_base_elsewhere_then_both_are_hidden(self, tmp_path: Path) -> None:
        contained = Fixture(tmp_path, tmp_path / "elsewhere")

        found = contained.sees(f"find {contained.home} {contained.base} -type f; cat mine")

        assert "secret" not in found
        assert "private" not in found
        assert found.endswith("mine")

    def test_given_a_process_that_writes_into_what_is_hidden_then_it_is_refused(self, contained: Fixture) -> None:
        home, base = contained.home, contained.base

        contained.sees(f"echo evil > {home}/secret.key; echo evil > {home}/new; mkdir {base}/x")

        assert (contained.home / "secret.key").read_text() == "secret"
        assert not (contained.home / "new").exists()
        assert not (contained.base / "x").exists()

    def test_given_what_it_writes_into_its_own_then_that_stays(self, contained: Fixture) -> None:
        contained.sees("echo 2 > mine; mkdir d; echo 3 > d/new")

        assert (contained.workplace.directory / "mine").read_text() == "2\n"
        assert (contained.workplace.directory / "d/new").read_text() == "3\n"

    def test_given_the_end_of_the_block_then_this_process_sees_all_again(self, contained: Fixture) -> None:
        contained.sees(":")

        assert (contained.home / "secret.key").read_text() == "secret"

    def test_given_links_on_the_way_then_what_they_lead_to_is_hidden(self, tmp_path: Path) -> None:
        contained = Fixture(tmp_path)
        (tmp_path / "link").symlink_to(contained.home)
        contained.containment = Containment(tmp_path / "link", tmp_path / "link" / "tmp", [])

        assert contained.sees(f"cat {contained.home}/secret.key {tmp_path}/link/secret.key; cat mine") == "mine"

    def test_given_nothing_there_yet_then_nothing_is_hidden(self, tmp_path: Path) -> None:
        contained = Fixture(tmp_path)
        contained.containment = Containment(tmp_path / "none", tmp_path / "none/tmp", [tmp_path / "nothing"])

        assert contained.sees("cat mine") == "mine"


class TestWhyNot:
    def test_given_only_what_is_ours_then_it_is_hidden_where_mounts_can_be_had(self, contained: Fixture) -> None:
        for name in ("tercel.db-wal", "lock", "processes", "storage"):
            (contained.home / name).mkdir(exist_ok=True)
        for name in ("at", "Ab3Df6Hi.owner", ".x.lock"):
            (contained.base / name).mkdir()

        assert bool(contained.containment.why_not) is bool(why_no_mounts())

    @pytest.mark.parametrize("where", ["home", "base"])
    def test_given_something_else_in_it_then_nothing_is_hidden_and_it_is_named(
        self, contained: Fixture, where: str
    ) -> None:
        folder: Path = getattr(contained, where)
        (folder / "my-project").mkdir()

        assert contained.containment.why_not == f"{folder} is not tercel's alone: 'my-project' is in it"

    def test_given_it_is_not_wanted_then_that_is_said(self, contained: Fixture) -> None:
        assert Containment(contained.home, contained.base, [], is_wanted=False).why_not == "TERCEL_CONTAIN is false"

    def test_given_something_that_comes_later_then_the_answer_stays(self, contained: Fixture) -> None:
        before = contained.containment.why_not
        (contained.home / "my-project").mkdir()

        assert contained.containment.why_not == before


def test_given_a_directory_of_layers_then_it_is_seen_at_its_path(tmp_path: Path) -> None:
    if why_no_mounts():
        pytest.skip("only where threads can have mounts of their own")
    from tercel.layers import LayerStore
    from tests.job_runners import backend

    contained = Fixture(tmp_path)
    with LayerStore(contained.home / "layers", contained.base / "at", backend()).directory("wd") as layered:
        layered.fill([])
        Path(layered.path, "layered").write_text("layered")
        contained.workplace = Workplace(contained.directories, layered=layered)

        found = contained.sees(f"cat layered; echo 2 > new; find {contained.home} -type f")

        assert found.splitlines()[0].startswith("layered")
        assert "secret" not in found
        assert sorted(os.listdir(layered.path)) == ["layered", "new"]


@needs_mounts
def test_given_a_storage_around_the_home_then_scripts_see_nothing_of_it(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    (storage / "company" / "flow").mkdir(parents=True)
    fixture = Fixture(storage, tmp_path / "base")
    fixture.containment = Containment(fixture.home, fixture.base, [fixture.home / "dependencies"], storage=storage)

    seen = fixture.sees(f"ls {storage} {storage}/home; cat mine {fixture.home}/dependencies/venv/python")

    assert seen == f"{storage}:\nhome\n\n{storage}/home:\ndependencies\nminepython"
    assert fixture.containment.why_not == ""
