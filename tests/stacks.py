"""Layers for tests: made by hand or by the kernel, and what a stack of them shows, to us and to the kernel."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tercel.layers.stacks import marks
from tercel.model.globs import Globs
from tests.mounts import Shown, shown, walked

__all__ = [
    "GLOBS",
    "PATHS",
    "KernelLayers",
    "Recipe",
    "Shown",
    "files_in",
    "make_by_hand",
    "needs_kernel",
    "recipes",
    "shown",
    "walked",
]


def files_in(seen: Shown) -> Shown:
    """Without folders."""
    return {path: thing for path, thing in seen.items() if thing[0] != "d"}


# --- Made by the kernel


class KernelLayers:
    """Layers that the kernel makes, by commands run in a real mount, and reads.

    Mounts are in a process and a mount namespace of their own.

    Attributes:
        trees: the layers, the lowest first.
    """

    def __init__(self, folder: Path, *, in_user_namespace: bool = False) -> None:
        self.folder = folder
        self.trees: list[str] = []
        self._unshare = "-Urm" if in_user_namespace else "-m"

    def change(self, *commands: str) -> None:
        """Run commands of a shell in what the layers show, with one more layer for what each changes."""
        runs: list[tuple[list[str], str, str]] = []
        for command in commands:
            number = len(self.trees)
            for name in (f"{number}/tree", f"{number}/work"):
                (self.folder / name).mkdir(parents=True)
            runs.append((list(self.trees), str(self.folder / f"{number}/tree"), command))
            self.trees.append(runs[-1][1])
        self._in_mounts(runs)

    def view(self, *stacks: Sequence[str]) -> list[Shown]:
        """What the kernel shows of layers, of several stacks in turn."""
        return [kernel for kernel, _ in self.views(*stacks)]

    def views(self, *stacks: Sequence[str]) -> list[tuple[Shown, Shown]]:
        """What the kernel shows of layers, and what we do, in the same namespace."""
        read = json.loads(self._in_mounts([(list(trees), "", "") for trees in stacks]))
        return [tuple({path: tuple(thing) for path, thing in seen.items()} for seen in pair) for pair in read]

    def _in_mounts(self, runs: list[tuple[list[str], str, str]]) -> str:
        for name in ("empty", "also-empty", "m"):
            (self.folder / name).mkdir(exist_ok=True)
        run = subprocess.run(
            ["unshare", self._unshare, sys.executable, "-m", "tests.mounts", json.dumps([str(self.folder), runs])],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout


def _can_mount() -> bool:
    if os.geteuid() != 0 or sys.platform != "linux":
        return False
    run = subprocess.run(
        ["unshare", "-m", "mount", "-t", "overlay", "none", "-o", "lowerdir=/usr:/etc", "/mnt"],
        capture_output=True,
        check=False,
    )
    return run.returncode == 0


needs_kernel = pytest.mark.skipif(not _can_mount(), reason="only root on Linux can mount layers with renamed folders")


# --- Made by hand

Recipe = tuple[tuple[str, str, str], ...]
"""What is in a layer: paths, each with what is there and an argument; what cannot be is passed over."""

PATHS = [f"{a}{b}{c}" for a in "abc" for b in ("", "/a", "/b", "/x.txt") for c in ("", "/a", "/x.txt") if b or not c]


GLOBS = [
    Globs(*patterns)
    for patterns in [
        (["a/**"],),
        (["**/x.txt"],),
        (["a/**", "b/a/*"], ["a/b/**"]),
        (["**"], ["**/x.txt"]),
        (["a/*", "b"],),
        (["**/a"],),
        (["a/a/**", "c/**"], ["**/x.txt"]),
        (["**"],),
        (["a/b/x.txt", "{b,c}/a/**"], ["c/a/a"]),
    ]
]


def recipes(kinds: str = "ffldwo") -> st.SearchStrategy[Recipe]:
    """Layers of files `f`, links `l`, folders `d`, whiteouts `w`, opaque folders `o` and renamed ones `r`."""
    thing = st.tuples(st.sampled_from(PATHS), st.sampled_from(kinds), st.sampled_from(["a", "b", "/a", "/b", "/b/a"]))
    return st.lists(thing, max_size=9).map(tuple)


def make_by_hand(folder: Path, recipe: Recipe, seed: int = 0) -> str:
    """Make a layer; times are all different, contents and modes are few."""
    tree = f"{folder}/tree"
    os.makedirs(tree)
    kinds: dict[str, str] = {"": "d"}
    for path, kind, argument in recipe:
        parents = [path[:at] for at, char in enumerate(path) if char == "/"]
        if path in kinds or any(kinds.get(parent, "d") not in "dor" for parent in parents):
            continue
        for parent in parents:
            if parent not in kinds:
                os.mkdir(f"{tree}/{parent}")
                kinds[parent] = "d"
        kinds[path] = kind
        place = f"{tree}/{path}"
        if kind == "f":
            with open(place, "w", encoding="utf-8") as file:
                file.write(argument)
                os.fchmod(file.fileno(), 0o755 if argument == "a" else 0o644)
        elif kind == "l":
            os.symlink(argument, place)
        elif kind == "w":
            os.mknod(place, stat.S_IFCHR, 0)
        else:
            os.mkdir(place, 0o700 if argument == "b" else 0o755)
            if kind == "o":
                os.setxattr(place, marks() + "opaque", b"y")
            if kind == "r":
                os.setxattr(place, marks() + "redirect", argument.encode())
    for number, path in enumerate(sorted(kinds, reverse=True)):
        os.utime(f"{tree}/{path}", ns=(0, (seed * 1000 + number) * 1_000_000_001), follow_symlinks=False)
    return tree
