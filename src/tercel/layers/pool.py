"""The local tier: layers in a folder of their own, who uses them, and notes that say what they are kept for.

A layer stays for as long as a note names it or work under way uses it; the janitor removes all others. Notes appear and
change by one rename each. What is to be removed is renamed first, so that nothing is ever half there.
"""

import fcntl
import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress

import msgspec

from tercel.removal import Trash

_LAYERS, _WORK, _TREE, _FACTS, _USES = "layers", "work", "t", "facts", "uses"
_STAGED, _USES_SUFFIX = ".staged-", ".uses"
_LOCK, _EMPTY = "lock", "empty"
_TOKEN_LENGTH, _ID_LENGTH = 16, 32
_GET_FLAGS, _SET_FLAGS, _TOP_OF_HIERARCHIES = 0x80086601, 0x40086602, 0x20000
"""FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and FS_TOPDIR_FL of linux/fs.h."""


class Facts(msgspec.Struct, frozen=True):
    """What is known of a layer beyond its files.

    Attributes:
        files: all but folders.
        bytes: their content.
        versions: of the stored object that it was packed into or fetched from, by the object's address, when that
            was last checked.
    """

    files: int
    bytes: int
    versions: dict[str, str] = {}


class Note(msgspec.Struct, frozen=True):
    """What layers are kept for.

    Attributes:
        layers: ids of the layers it needs, the lowest first; further ones may be among them.
        body: what its writer knows.
        boot: boot of the system it was written in; "" where its layers are known to have reached the disk.
    """

    layers: tuple[str, ...]
    body: msgspec.Raw
    boot: str = ""


class Notes:
    """Notes by name, in a folder.

    Args:
        folder: absolute path, made when first needed.
        lock: file whose lock keeps two writers of a note apart.
    """

    def __init__(self, folder: str, lock: str) -> None:
        self._folder = folder
        self._lock = lock

    def get(self, name: str) -> Note | None:
        """The note of that name; None where there is none, or it cannot be read."""
        text = self._text(name)
        return None if text is None else _decoded(text)

    def put(self, name: str, note: Note, *, instead_of: Note | None = None, is_first: bool = False) -> bool:
        """Write a note over the one there.

        Args:
            name: of plain characters.
            note: what to write.
            instead_of: only while this one is there, as it was read; None for always.
            is_first: only while there is none.

        Returns:
            False when another one is there.
        """
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        # Shared by writers who do not look what is there; the janitor knows by it that nobody is writing.
        with _locked(self._lock, fcntl.LOCK_EX if is_first or instead_of is not None else fcntl.LOCK_SH):
            if instead_of is not None and not self._is(name, instead_of):
                return False
            if is_first and self._text(name) is not None:
                return False
            self._write(f"{self._folder}/{name}", msgspec.json.encode(note))
            return True

    def write_whole(self, path: str, content: bytes) -> None:
        """Write a file, elsewhere on the same file system, that is there whole or not at all.

        Nothing is written where its folder is gone.
        """
        with _locked(self._lock, fcntl.LOCK_SH), suppress(FileNotFoundError):
            self._write(path, content)

    def _write(self, path: str, content: bytes) -> None:
        staged = f"{self._folder}/{_STAGED}{_unique()}"
        try:
            with open(staged, "xb") as file:
                file.write(content)
            os.rename(staged, path)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(staged)
            raise

    def remove(self, name: str, *, only: Note | None = None) -> bool:
        """Remove a note, or only while it is the one that was read; tell whether it was."""
        with _locked(self._lock):
            if only is not None and not self._is(name, only):
                return False
            try:
                os.unlink(f"{self._folder}/{name}")
            except FileNotFoundError:
                return False
            return True

    def note_use(self, name: str) -> None:
        """Note that it was used now."""
        with suppress(FileNotFoundError):
            os.utime(f"{self._folder}/{name}")
            # A byte for each use: two processes need no lock to count.
            with open(self._uses(name), "ab") as file:
                file.write(b".")

    def uses(self, name: str) -> int:
        """How often it was used since it was first written."""
        try:
            return os.stat(self._uses(name)).st_size
        except FileNotFoundError:
            return 0

    def forget_uses(self, name: str) -> None:
        """Count its uses from now on."""
        with suppress(FileNotFoundError):
            os.unlink(self._uses(name))

    def _uses(self, name: str) -> str:
        return f"{self._folder}/.{name}{_USES_SUFFIX}"

    def names(self) -> list[str]:
        """Those there are, the least recently written or used first."""
        found: list[tuple[int, str]] = []
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        found.append((entry.stat().st_mtime_ns, entry.name))
        return [name for _, name in sorted(found)]

    def used_at(self, name: str) -> float:
        """When it was last written or used, in seconds since 1970; 0 where it is not there."""
        try:
            return os.stat(f"{self._folder}/{name}").st_mtime
        except FileNotFoundError:
            return 0.0

    def _text(self, name: str) -> bytes | None:
        try:
            with open(f"{self._folder}/{name}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _is(self, name: str, note: Note) -> bool:
        return self._text(name) == msgspec.json.encode(note)

    def clean(self) -> None:
        """Remove what writers that died left behind, and the counts of notes that are gone."""
        with _locked(self._lock):
            names = set(_listing(self._folder))
            for name in names:
                is_count = name.endswith(_USES_SUFFIX) and name[1 : -len(_USES_SUFFIX)] not in names
                if name.startswith(_STAGED) or is_count:
                    with suppress(FileNotFoundError):
                        os.unlink(f"{self._folder}/{name}")


class Work:
    """One use of the pool, under way: its own folder, the layers that it makes and those that it reads.

    Attributes:
        folder: absolute path, for whatever is needed meanwhile; gone at the end.
    """

    def __init__(self, pool: "Pool", token: str, uses: int) -> None:
        self.folder = f"{pool.folder}/{_WORK}/{token}"
        self._pool = pool
        self._token = token
        self._uses = uses
        self._made: list[str] = []
        self._kept: set[str] = set()

    def new_layer(self) -> str:
        """Make an empty layer and give its id; it goes at the end unless it is kept."""
        layer = self.new_id()
        os.makedirs(self._pool.tree(layer), mode=0o700)
        return layer

    def new_id(self) -> str:
        """The id of a layer that this work makes; nothing is there yet but the folder around its tree."""
        layer = self._token + os.urandom((_ID_LENGTH - _TOKEN_LENGTH) // 2).hex()
        os.mkdir(f"{self._pool.folder}/{_LAYERS}/{layer}", 0o700)
        self._made.append(layer)
        return layer

    def uses(self, layers: Iterable[str]) -> None:
        """Keep layers of others from being removed until the end."""
        os.write(self._uses, "".join(f"{layer}\n" for layer in layers).encode())

    def keep(self, layers: Iterable[str]) -> None:
        """Leave layers that this work made, as a note names them."""
        self._kept.update(layers)

    def close(self) -> None:
        """End it: its folder and the layers that nobody keeps are on their way out."""
        for layer in self._made:
            if layer not in self._kept:
                self._pool.trash.put(f"{self._pool.folder}/{_LAYERS}/{layer}")
        self._pool.trash.put(self.folder)
        os.close(self._uses)


class Pool:
    """The local tier in a folder, private to its owner; several processes may share it.

    Args:
        folder: absolute path; made when it is first used, with mode 0700.

    Attributes:
        entries: what the layers of caches are kept for, by the cache.
        runs: what the layers of task runs are kept for, by the task run.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._lock = f"{folder}/{_LOCK}"
        self.entries = Notes(f"{folder}/entries", f"{folder}/notes.lock")
        self.runs = Notes(f"{folder}/runs", f"{folder}/notes.lock")
        self.trash = Trash(folder)
        self._is_made = False

    def make(self) -> None:
        """Make the pool's folder if it is not there."""
        if not self._is_made or not os.path.isdir(f"{self.folder}/{_WORK}"):  # somebody may have tidied up
            for name in ("", _LAYERS, _WORK, _EMPTY, "entries", "runs"):
                os.makedirs(f"{self.folder}/{name}", mode=0o700, exist_ok=True)
            for name in ("", _LAYERS, _WORK):
                _spread(f"{self.folder}/{name}")
            self._is_made = True

    @property
    def layers_folder(self) -> str:
        """Where `relative_tree` starts."""
        return f"{self.folder}/{_LAYERS}"

    @property
    def empty_tree(self) -> str:
        """A layer in which nothing is, from `layers_folder`."""
        return f"../{_EMPTY}"

    def tree(self, layer: str) -> str:
        """Absolute path of a layer's files."""
        return f"{self.folder}/{_LAYERS}/{layer}/{_TREE}"

    def relative_tree(self, layer: str) -> str:
        """The same from `layers_folder`: short, and without characters that mount options cannot hold."""
        return f"{layer}/{_TREE}"

    def has(self, layer: str) -> bool:
        """Whether a layer is here."""
        return os.path.isdir(self.tree(layer))

    @contextmanager
    def work(self) -> Generator[Work]:
        """Use the pool."""
        self.make()
        token = os.urandom(_TOKEN_LENGTH // 2).hex()
        folder = f"{self.folder}/{_WORK}/{token}"
        with self.held():
            os.mkdir(folder, 0o700)
            uses = os.open(f"{folder}/{_USES}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(uses, fcntl.LOCK_EX)
        work = Work(self, token, uses)
        try:
            yield work
        finally:
            work.close()
            self.trash.empty(most=4)

    @contextmanager
    def held(self) -> Generator[None]:
        """Keep the janitor from removing anything, for the time between seeing that a layer is there and using it."""
        self.make()
        with _locked(self._lock, fcntl.LOCK_SH):
            yield

    def facts(self, layer: str) -> Facts | None:
        """What is known of a layer; None where nobody has looked yet."""
        try:
            with open(f"{self.folder}/{_LAYERS}/{layer}/{_FACTS}", "rb") as file:
                return msgspec.json.decode(file.read(), type=Facts)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def set_facts(self, layer: str, facts: Facts) -> None:
        """Remember what is known of a layer; nothing happens where it is gone."""
        self.entries.write_whole(f"{self.folder}/{_LAYERS}/{layer}/{_FACTS}", msgspec.json.encode(facts))

    def adopt(self, layer: str, staged: str) -> None:
        """Let a folder that is ready, made by somebody else's id, appear as a layer; one there already stays."""
        target = f"{self.folder}/{_LAYERS}/{layer}"
        try:
            os.rename(staged, target)
        except OSError:
            if not os.path.isdir(target):
                raise
            self.trash.put(staged)

    def discard(self, layer: str) -> None:
        """Remove a layer that is no good."""
        self.trash.put(f"{self.folder}/{_LAYERS}/{layer}")

    def layers(self) -> list[str]:
        """The ids of all layers here."""
        return _listing(f"{self.folder}/{_LAYERS}")

    def bytes(self, layer: str) -> int:
        """Content of a layer's files, counted once."""
        from tercel.layers.changes import count_layer  # noqa: PLC0415  # only who looks at sizes needs it

        facts = self.facts(layer)
        if facts is None:
            try:
                facts = Facts(*count_layer(self.tree(layer)))
                self.set_facts(layer, facts)
            except OSError:
                return 0  # gone meanwhile
        return facts.bytes

    def sweep(self) -> int:
        """Remove what dead processes left, and the layers that nobody needs; gives how many things went."""
        if not os.path.isdir(self.folder):
            return 0
        self.make()
        gone = 0
        with _locked(self._lock, fcntl.LOCK_EX):
            needed, live = self._in_use()
            for token in _listing(f"{self.folder}/{_WORK}"):
                if token not in live:
                    self.trash.put(f"{self.folder}/{_WORK}/{token}")
                    gone += 1
            for notes in (self.entries, self.runs):
                notes.clean()
                for name in notes.names():
                    note = notes.get(name)
                    # Of a run whose process died while it moved files between layers, nothing can be used.
                    if note is None or (notes is self.runs and not self._is_whole(note, live)):
                        notes.remove(name)
                    else:
                        needed.update(note.layers)
            for layer in self.layers():
                if layer not in needed and layer[:_TOKEN_LENGTH] not in live:
                    self.discard(layer)
                    gone += 1
        self.trash.sweep()
        return gone

    def _is_whole(self, note: Note, live: set[str]) -> bool:
        """Whether all layers of a note are here, or may still come."""
        return all(layer[:_TOKEN_LENGTH] in live or self.has(layer) for layer in note.layers)

    def _in_use(self) -> tuple[set[str], set[str]]:
        """The layers that work under way reads, and the tokens of that work."""
        needed: set[str] = set()
        live: set[str] = set()
        for token in _listing(f"{self.folder}/{_WORK}"):
            try:
                fd = os.open(f"{self.folder}/{_WORK}/{token}/{_USES}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                live.add(token)
                with open(fd, "rb", closefd=False) as file:
                    needed.update(file.read().decode().split())
            finally:
                os.close(fd)
        return needed, live


def _spread(folder: str) -> None:
    """Let ext4 put the folders in this one all over the disk.

    Otherwise it looks for a place for each new file where very many were removed lately, which took most of the time of
    a small step. Other file systems do not know the flag.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = int.from_bytes(fcntl.ioctl(fd, _GET_FLAGS, bytes(8)), sys.byteorder)
        if not flags & _TOP_OF_HIERARCHIES:
            fcntl.ioctl(fd, _SET_FLAGS, (flags | _TOP_OF_HIERARCHIES).to_bytes(8, sys.byteorder))
    except OSError:
        pass
    finally:
        os.close(fd)


@contextmanager
def _locked(path: str, how: int = fcntl.LOCK_EX) -> Generator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


@contextmanager
def only_one(path: str) -> Generator[bool]:
    """Tell whether this block alone has the lock of a file; it does not wait for it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _decoded(text: bytes) -> Note | None:
    try:
        return msgspec.json.decode(text, type=Note)
    except msgspec.DecodeError:
        return None


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _unique() -> str:
    return f"{os.getpid()}-{os.urandom(6).hex()}"
