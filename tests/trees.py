"""Trees of files for tests: made from plain values, and compared byte for byte and stat for stat."""

from __future__ import annotations

import os
import stat
from pathlib import Path

Seen = dict[str, tuple[object, ...]]


def everything_in(root: Path, *, with_folder_times: bool = True) -> Seen:
    """Path to kind, mode, size, time, content or target, attributes and first name, for all in *root*."""
    seen: Seen = {}
    first_names: dict[int, str] = {}
    for path in sorted(root.rglob("*"), key=lambda found: found.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        attributes = {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in sorted(os.listxattr(path, follow_symlinks=False))
            if key.startswith("user.")
        }
        if path.is_symlink():
            seen[name] = ("link", os.readlink(path), status.st_mtime_ns)
        elif path.is_dir():
            seen[name] = ("folder", mode, status.st_mtime_ns if with_folder_times else 0, str(attributes))
        else:
            first = first_names.setdefault(status.st_ino, name)
            seen[name] = ("file", mode, status.st_mtime_ns, path.read_bytes(), str(attributes), first)
    return seen


def an_odd_tree(root: Path) -> None:
    """Everything a cache has to bring back: modes, times, links of both kinds, an empty folder, odd names."""
    for folder in ("bin", "empty", "lib/deep", "locked"):
        (root / folder).mkdir(parents=True)
    (root / "bin/run").write_text("#!/bin/sh\necho hi\n")
    (root / "bin/run").chmod(0o755)
    (root / "secret").write_bytes(b"\0\xff" * 100)
    (root / "secret").chmod(0o600)
    (root / "bin/setuid").write_text("x")
    (root / "bin/setuid").chmod(0o4755)
    (root / "empty.txt").touch()
    (root / "lib/large.bin").write_bytes(os.urandom(3_000_001))
    (root / "lib/é #%20\n.txt").write_text("odd")
    (root / ("lib/" + "n" * 200)).write_text("long")
    (root / os.fsdecode(b"lib/\xff")).write_text("not UTF-8")
    (root / "bin/link").symlink_to("run")
    (root / "to-folder").symlink_to("lib")
    (root / "dangling").symlink_to("nowhere/" + "x" * 120)
    (root / "outside").symlink_to("/usr/bin/env")
    os.link(root / "secret", root / "lib/secret-too")
    os.setxattr(root / "secret", "user.note", b"\0kept\n")
    os.setxattr(root / "empty", "user.folder", b"1")
    with (root / "lib/sparse").open("wb") as sparse:
        sparse.seek(5_000_000)
        sparse.write(b"end")
        sparse.truncate(9_000_000)
    (root / "locked/in").write_text("in")
    (root / "locked").chmod(0o555)
    os.utime(root / "empty.txt", ns=(1, 499_162_500_123_456_789))
    os.utime(root / "bin/run", ns=(1, -1_500_000_001))
    os.utime(root / "bin/link", ns=(1, 123_456_789), follow_symlinks=False)
    os.utime(root / "lib", ns=(1, 987_654_321_000_000_001))
