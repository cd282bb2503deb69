"""Layers mounted for tests, and what is seen of trees. Run in a mount namespace of its own by `tests/stacks.py`."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable

from tercel.layers.stacks import TRUSTED, Entry, Stack, marks
from tercel.mounts import mount, unmount

Shown = dict[str, tuple[str, int, int, str]]
"""Path to kind, mode, mtime in ns, and content or target."""


def shown(entries: Iterable[Entry]) -> Shown:
    """Of entries of a layer or a stack."""
    return {entry.path: _seen(entry.source, entry.status) for entry in entries}


def walked(root: str) -> Shown:
    """Of a folder on disk."""
    result: Shown = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = f"{folder}/{name}"
            result[os.path.relpath(path, root)] = _seen(path, os.lstat(path))
    return result


def _seen(source: str, status: os.stat_result) -> tuple[str, int, int, str]:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return "l", 0, status.st_mtime_ns, os.readlink(source)
    if stat.S_ISDIR(status.st_mode):
        return "d", mode, status.st_mtime_ns, ""
    if stat.S_ISREG(status.st_mode):
        with open(source, "rb") as file:
            return "f", mode, status.st_mtime_ns, file.read().decode("latin-1")
    return "w", 0, 0, ""


def _main(folder: str, runs: list[tuple[list[str], str, str]]) -> list[tuple[Shown, Shown]]:
    seen: list[tuple[Shown, Shown]] = []
    for trees, upper, commands in runs:
        lower = [*reversed(trees), f"{folder}/empty", f"{folder}/also-empty"]  # two at least, for one only to read
        options = f"lowerdir={':'.join(lower)},index=off,metacopy=off,xino=off"
        options += ",userxattr" if marks() != TRUSTED else ",redirect_dir=on" if upper else ",redirect_dir=follow"
        if upper:
            options += f",upperdir={upper},workdir={os.path.dirname(upper)}/work"
        mount("tercel", f"{folder}/m", "overlay", 0, options)
        if upper:
            subprocess.run(["sh", "-euc", commands], check=True, cwd=f"{folder}/m")
        else:
            seen.append((walked(f"{folder}/m"), shown(Stack(trees).entries())))
        unmount(f"{folder}/m")
    return seen


if __name__ == "__main__":
    print(json.dumps(_main(*json.loads(sys.argv[1]))))
