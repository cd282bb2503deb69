"""What processes leave of their private directories, with processes that crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tercel.worker.directories import Directories

CRASH = """
import os, sys
from pathlib import Path
from tercel.worker.directories import Directories
d = Directories(Path(sys.argv[1]))
made = d.make()
(made / "sub").mkdir()
(made / "sub" / "x").write_text("1")
d.make_engine_area(made)
print(made.name, flush=True)
os._exit(9)
"""


REMOVE = """
import os, sys
from pathlib import Path
from tercel.worker.directories import remove_tree
os.setuid(12345)
remove_tree(Path(sys.argv[1]))
"""


def test_given_a_dead_process_then_what_it_left_is_removed_and_the_living_stay(tmp_path: Path) -> None:
    living, janitor = Directories(tmp_path), Directories(tmp_path)
    alive = living.make()
    mine = janitor.make()
    other = tmp_path / "not-ours"
    other.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path)], capture_output=True, text=True, check=False, timeout=30
    )
    left = done.stdout.strip()
    assert (tmp_path / left / "sub" / "x").exists()

    removed = janitor.sweep()

    assert removed == [left, f"{left}.engine"]
    assert not (tmp_path / left).exists()
    assert alive.exists()
    assert mine.exists()
    assert other.exists()
    assert len(list(tmp_path.glob("*.owner"))) == 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_given_folders_without_permissions_then_their_owner_removes_them(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "c").write_text("1")
    for path in (tree / "a" / "b", tree / "a", tree):
        path.chmod(0o100)
    for path in (tmp_path, tree, tree / "a", tree / "a" / "b"):
        os.chown(path, 12345, 12345)
    # pytest keeps the folders above to their owner.
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)

    done = subprocess.run(
        [sys.executable, "-c", REMOVE, str(tree)], capture_output=True, text=True, check=False, timeout=30
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert not tree.exists()
