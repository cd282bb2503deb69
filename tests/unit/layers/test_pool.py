import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tercel.layers.pool import Pool
from tercel.layers.trees import Node


def add(pool: Pool, name: str, size: int = 100) -> None:
    def fill(folder: str) -> list[Node]:
        Path(folder, "x").write_bytes(b"x" * size)
        return [Node("x", "f", 0o644, size, 1)]

    pool.add(name, "v1", fill)


class TestPool:
    def test_given_a_tree_when_held_then_its_nodes_and_content_are_there(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool")
        add(pool, "one", 7)

        with pool.hold("one") as tree, pool.hold("none") as none:
            assert tree is not None
            assert (tree.nodes[0].path, tree.version) == ("x", "v1")
            assert Path(tree.content, "x").read_bytes() == b"x" * 7
            assert none is None
        assert (tmp_path / "pool").stat().st_mode & 0o777 == 0o700

    def test_given_a_new_version_when_set_then_it_is_kept(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool")
        add(pool, "one")

        pool.set_version("one", "v2")

        with pool.hold("one") as tree:
            assert tree is not None
            assert tree.version == "v2"

    def test_given_the_limit_is_passed_then_the_least_recently_used_goes(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool", limit_bytes=250)
        for number, name in enumerate(("one", "two")):
            add(pool, name)
            os.utime(tmp_path / "pool" / name / "index", ns=(number, number))
        with pool.hold("one"):
            pass

        add(pool, "three")

        assert pool.names() == ["one", "three"]

    def test_given_a_tree_in_use_when_there_is_no_room_then_it_stays(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool", limit_bytes=100)
        add(pool, "one")

        with pool.hold("one") as held:
            add(pool, "two")
            assert held is not None
            assert Path(held.content, "x").exists()
            assert not pool.remove("one")
        pool.clean()

        assert pool.names() == ["two"]

    def test_given_a_tree_larger_than_the_limit_then_it_stays_for_this_run_only(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool", limit_bytes=10)
        add(pool, "one")
        assert pool.names() == ["one"]

        pool.clean()

        assert pool.names() == []

    def test_given_filling_fails_then_nothing_stays(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool")

        def fill(folder: str) -> list[Node]:
            Path(folder, "half").write_text("1")
            raise OSError("no space")

        with pytest.raises(OSError, match="no space"):
            pool.add("one", "v", fill)

        assert os.listdir(tmp_path / "pool") == []

    def test_given_it_was_added_meanwhile_then_the_first_one_stays(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool")
        add(pool, "one", 5)

        add(pool, "one", 6)

        with pool.hold("one") as tree:
            assert tree is not None
            assert tree.nodes[0].size == 5
        assert os.listdir(tmp_path / "pool") == ["one"]

    @pytest.mark.parametrize("file", ["index", "facts.json"])
    def test_given_a_broken_index_when_held_then_there_is_none_and_it_is_removed(
        self, tmp_path: Path, file: str
    ) -> None:
        pool = Pool(tmp_path / "pool")
        add(pool, "one")
        (tmp_path / "pool/one" / file).write_bytes(b"\xff")

        with pool.hold("one") as tree:
            assert tree is None

        assert os.listdir(tmp_path / "pool") == []

    def test_given_a_name_that_is_not_utf8_then_the_index_keeps_it(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path / "pool")
        odd = os.fsdecode(b"\xff/a")
        pool.add("one", "v", lambda folder: [Node(odd, "l", 0o777, 0, 1, target=odd), Node("é", "d", 0o755, 0, 1)])

        with pool.hold("one") as tree:
            assert tree is not None
            assert [(node.path, node.target) for node in tree.nodes] == [(odd, odd), ("é", "")]


class TestClean:
    def test_given_leftovers_of_dead_processes_when_cleaned_then_only_they_go(self, tmp_path: Path) -> None:
        folder = tmp_path / "pool"
        script = (
            "import os, sys\n"
            "from tercel.layers.pool import Pool\n"
            "pool = Pool(sys.argv[1])\n"
            "def fill(folder):\n"
            "    open(folder + '/half', 'w').write('1')\n"
            "    with pool.staged_file() as (path, file):\n"
            "        os._exit(9)\n"
            "pool.add('one', 'v', fill)\n"
        )
        subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
        (folder / ".removed-1").mkdir()
        (folder / ".staging-new").mkdir()
        (folder / ".staging-old").mkdir()
        os.utime(folder / ".staging-old", (time.time() - 300, time.time() - 300))
        pool = Pool(folder)

        with pool.staged_file() as (path, _):
            assert pool.clean() == 4
            assert os.path.exists(path)

        assert os.listdir(folder) == [".staging-new"]
