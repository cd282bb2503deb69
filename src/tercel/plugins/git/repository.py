"""One branch of a remote repository: its files read, commits made on it and pushed, with no work tree.

Nothing is checked out, so that neither attributes, filters and links of the repository nor hooks play a part:
what is read and written are the bytes that Git keeps.
"""

import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast
from urllib.parse import urlsplit

from tercel.plugin_api import TaskFailedError
from tercel.plugins.git.program import Git

LINK_MODES = frozenset({"120000", "160000"})
"""Of symbolic links and submodules, which are no files."""

_ABSENT = "0" * 40
_LOST_RACE = re.compile(
    r"^!\t[^\t]*\t\[(?:remote )?rejected\] "
    r"\((?:fetch first|non-fast-forward|already exists|reference already exists|failed to update ref|"
    r"cannot lock ref.*|incorrect old value.*|.*but expected .*)\)",
    re.MULTILINE,
)


Kind = Literal["CREATED", "UPDATED", "DELETED"]
"""What a commit does to a file."""


_REASON = re.compile(r"^!\t[^\t]*\t(.*)$", re.MULTILINE)


class Entry(NamedTuple):
    """A file of a commit: its mode, such as 100644, and the id of its content."""

    mode: str
    oid: str


class Author(NamedTuple):
    """Who is named as author and committer."""

    name: str
    email: str


class Changed(NamedTuple):
    """What a commit does to a file; *added* and *removed* lines are None where it is no text."""

    path: str
    kind: Kind
    added: int | None
    removed: int | None


class Blob:
    """The content of a file, in a part of another file; good until the repository is closed."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self.size = size

    def open(self) -> BinaryIO:
        """Read it from its beginning, once at a time."""
        self._file.seek(self._offset)
        return cast("BinaryIO", io.BufferedReader(_Part(self._file, self.size)))

    def read(self) -> bytes:
        """All of it."""
        self._file.seek(self._offset)
        return self._file.read(self.size)


class _Part(io.RawIOBase):
    """So many bytes of *file* from where it is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._file.read(min(len(buffer), self._left))
        buffer[: len(content)] = content
        self._left -= len(content)
        return len(content)


class Repository:
    """A branch of `origin`, in a bare repository made for one task run.

    Args:
        git: runs in *folder*, which is the bare repository.
        folder: holds files of the task as well; removed by whoever made it.
        branch: short name.
        url: without a login.
    """

    def __init__(self, git: Git, folder: Path, branch: str, url: str) -> None:
        self.git = git
        self.folder = folder
        self.branch = branch
        self.url = url
        self._opened: list[BinaryIO] = []

    def create(self) -> None:
        """Make the bare repository, with *url* as its `origin`."""
        self.git.run("init", "--quiet", "--bare", "--template=")
        self.git.run("remote", "add", "--", "origin", self.url)

    def close(self) -> None:
        """Close what blobs are read from."""
        for file in self._opened:
            file.close()

    # Reading

    def fetch(self, branch: str | None = None) -> str | None:
        """The newest commit of the branch, or of another one, fetched; None where the remote has no such branch."""
        return self._fetch(f"refs/heads/{branch or self.branch}")

    def fetch_existing(self) -> str:
        """As `fetch`, of a branch that has to be there. Raises TaskFailedError."""
        found = self.fetch()
        if found is None:
            raise TaskFailedError(f"The remote has no branch {self.branch!r}.", "Check `branch` and `url`.")
        return found

    def fetch_default(self) -> str | None:
        """The newest commit of the remote's own branch, from which a new branch starts; None where it has none."""
        return self._fetch("HEAD")

    def _fetch(self, reference: str) -> str | None:
        command = ("fetch", "--quiet", "--no-tags", "--depth", "1", "origin", f"+{reference}:refs/fetched")
        done = self.git.call(*command)
        if done.code != 0:
            if f"couldn't find remote ref {reference}" in done.said:
                return None
            raise self.git.failure("fetch", done)
        return self.git.ask("rev-parse", "refs/fetched").strip()

    def files(self, commit: str | None, folder: str = "") -> dict[str, Entry]:
        """The files of a commit below *folder*, by their path in it; none of no commit."""
        if commit is None:
            return {}
        below = ("--", f"{folder}/") if folder else ()
        found: dict[str, Entry] = {}
        for line in self.git.ask("ls-tree", "-r", "-z", commit, *below).split("\0")[:-1]:
            about, _, path = line.partition("\t")
            mode, _, oid = about.split(" ")
            found[path[len(folder) + 1 if folder else 0 :]] = Entry(mode, oid)
        return found

    def read(self, oids: Sequence[str]) -> list[Blob]:
        """The contents with these ids, in their order; on disk, not in memory."""
        if not oids:
            return []
        file = cast("BinaryIO", tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115  # closed by `close`
        self._opened.append(file)
        self.git.ask("cat-file", "--batch", given="".join(f"{oid}\n" for oid in oids), into=file)
        file.seek(0)
        blobs: list[Blob] = []
        for oid in oids:
            header = file.readline().split()
            if len(header) != 3:
                raise TaskFailedError(f"The repository lacks the content {oid}.", "Check it by `git fsck`.")
            blobs.append(Blob(file, file.tell(), int(header[2])))
            file.seek(blobs[-1].size + 1, io.SEEK_CUR)
        return blobs

    def ignored(self, paths: Sequence[str], rules: bytes) -> frozenset[str]:
        """Those of *paths* that *rules*, the text of a `.gitignore` in their common folder, leave out."""
        if not rules.strip() or not paths:
            return frozenset()
        folder = self.folder / "ignore"
        self.git.run("init", "--quiet", "--template=", str(folder))
        (folder / "rules").write_bytes(rules)
        given = "".join(f"{path}\0" for path in paths)
        command = ("-C", str(folder), "-c", f"core.excludesFile={folder / 'rules'}", "check-ignore", "--no-index")
        done = self.git.call(*command, "--stdin", "-z", given=given)
        if done.code not in {0, 1}:  # 1: none of them
            raise self.git.failure("check-ignore", done)
        return frozenset(done.out.split("\0")[:-1])

    # Writing

    def add(self, files: Sequence[Path]) -> list[str]:
        """Take the contents of files into the repository; their ids."""
        if not files:
            return []
        given = "".join(f"{file}\n" for file in files)
        return self.git.ask("hash-object", "-w", "--no-filters", "--stdin-paths", given=given).split()

    def tree(self, commit: str | None, changes: Mapping[str, Entry | None]) -> str:
        """The tree of *commit*, or an empty one, with some paths replaced, or removed by None."""
        self.git.run("read-tree", *([commit] if commit else ["--empty"]))
        lines = [
            f"0 {_ABSENT}\t{path}\0" if entry is None else f"{entry.mode} {entry.oid}\t{path}\0"
            for path, entry in sorted(changes.items(), key=lambda change: change[1] is not None)
        ]
        if lines:
            self.git.ask("update-index", "-z", "--add", "--replace", "--index-info", given="".join(lines))
        return self.git.ask("write-tree").strip()

    def tree_of(self, commit: str | None) -> str:
        """The tree of a commit; the empty one of none."""
        if commit is None:
            self.git.run("read-tree", "--empty")
            return self.git.ask("write-tree").strip()
        return self.git.ask("rev-parse", f"{commit}^{{tree}}").strip()

    def changes(self, old: str, new: str) -> list[Changed]:
        """What makes one tree of another, by path."""
        compare = ("diff-tree", "-r", "-z", "--no-renames")
        states = self.git.ask(*compare, "--name-status", old, new).split("\0")[:-1]
        kinds = dict(zip(states[1::2], states[::2], strict=True))
        found: list[Changed] = []
        for line in self.git.ask(*compare, "--numstat", old, new).split("\0")[:-1]:
            added, removed, path = line.split("\t", 2)
            kind: Kind = _KINDS.get(kinds[path], "UPDATED")
            is_text = added != "-"
            found.append(Changed(path, kind, int(added) if is_text else None, int(removed) if is_text else None))
        return found

    def commit(self, tree: str, parent: str | None, message: str, author: Author) -> str:
        """Make a commit; its id."""
        env = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", author.name), ("EMAIL", author.email))
        }
        parents = ("-p", parent) if parent else ()
        return self.git.ask("commit-tree", tree, *parents, given=message, env=env).strip()

    def push(self, commit: str) -> str | None:
        """Make *commit* the newest one of the branch, which is created where missing.

        Returns:
            None; or what git says, where somebody else has pushed since the branch was fetched.

        Raises:
            TaskFailedError: the remote refuses it for another reason, or cannot be reached.
        """
        command = ("-c", "core.hooksPath=/dev/null", "push", "--porcelain", "--no-verify", "origin")
        done = self.git.call(*command, f"{commit}:refs/heads/{self.branch}")
        if done.code == 0:
            return None
        reasons = "\n".join(_REASON.findall(done.out))
        done = done._replace(said=f"{done.said}\n{reasons}".strip())
        if _LOST_RACE.search(done.out):
            return done.said
        raise self.git.failure("push", done)


_KINDS: Mapping[str, Kind] = {"A": "CREATED", "D": "DELETED"}

_SCP = re.compile(r"(?:[^@/]+@)?(?P<host>[^:/]+):(?P<path>[^/].*)")
_HOSTS = (("github", "commit"), ("gitlab", "-/commit"), ("bitbucket", "commits"), ("codeberg", "commit"))


def commit_url(url: str, commit: str) -> str | None:
    """The page of a commit on a well-known host, from the address of its repository; None on others.

    Example:
        >>> commit_url("git@github.com:team/flows.git", "abc")
        'https://github.com/team/flows/commit/abc'
    """
    parts = urlsplit(url)
    host, path = parts.hostname or "", parts.path
    if parts.scheme not in {"http", "https", "ssh"}:
        found = _SCP.fullmatch(url)
        host, path = (found["host"], found["path"]) if found else ("", "")
    for name, folder in _HOSTS:
        if name in host.split("."):
            return f"https://{host}/{path.strip('/').removesuffix('.git')}/{folder}/{commit}"
    return None
