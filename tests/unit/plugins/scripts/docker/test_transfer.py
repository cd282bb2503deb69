"""Folders into a container and back: nothing is lost, nothing the same is touched, nothing outside is reached."""

import io
import os
import shutil
import socket
import stat
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from math import floor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
import requests
from docker.errors import APIError, NotFound
from hypothesis import given, settings
from hypothesis import strategies as st

from tercel.plugin_api import TaskFailedError, TaskKilledError
from tercel.plugins.scripts.docker.engines import EngineClient
from tercel.plugins.scripts.docker.transfer import copy_in, copy_out
from tercel.removal import remove_tree
from tests.trees import Seen, an_odd_tree, everything_in

OWNER = (os.geteuid(), os.getegid())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files without rights can be read by root only")


def an_api_error(text: str, status: int) -> APIError:
    response = requests.Response()
    response.status_code = status
    return (NotFound if status == 404 else APIError)("it failed", response, text)


class Engine:
    """The edge of an engine with one container, whose files are below *root*; it writes archives as Docker does.

    Attributes:
        archive: sent in the place of what the container has.
        error: raised by whatever is asked.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.archive: bytes | None = None
        self.error: Exception | None = None
        self.members: list[tarfile.TarInfo] = []

    def put_archive(self, container: str, path: str, data: Iterator[bytes]) -> bool:
        if self.error is not None:
            next(data)
            raise self.error
        assert path == "/"
        packed = io.BytesIO(b"".join(data))
        with tarfile.open(fileobj=packed) as archive:
            self.members = archive.getmembers()
            archive.extractall(self.root, filter="fully_trusted")
        return True

    def get_archive(self, container: str, path: str, chunk_size: int) -> tuple[Iterator[bytes], object]:
        if self.error is not None:
            raise self.error
        content = self.archive
        if content is None:
            found = self.inside(Path(path))
            if not os.path.lexists(found):
                raise an_api_error(f"Could not find the file {path} in container {container}", 404)
            content = self.packed(found)
        return iter([content[place : place + 777] for place in range(0, len(content), 777)]), {}

    def inside(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def packed(self, folder: Path) -> bytes:
        packed = io.BytesIO()

        def whole_seconds(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime = max(0, floor(member.mtime))
            return member

        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(folder, folder.name, filter=whole_seconds)
        return packed.getvalue()

    @property
    def client(self) -> EngineClient:
        return cast("EngineClient", self)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "container").mkdir()
    return Engine(tmp_path / "container")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "work"
    made.mkdir(mode=0o700)
    yield made
    remove_tree(tmp_path)


def taken_in(engine: Engine, folder: Path) -> Path:
    """Where the container has *folder*, after it was copied in."""
    copy_in(engine.client, "c", [folder], OWNER)
    return engine.inside(folder)


def by_seconds(seen: Seen) -> Mapping[str, tuple[object, ...]]:
    """Without what does not go into a container: fractions of seconds, and attributes."""
    found: dict[str, tuple[object, ...]] = {}
    for name, (kind, *rest) in seen.items():
        match kind:
            case "link":
                found[name] = (kind, rest[0])
            case "folder":
                found[name] = (kind, rest[0])
            case _:
                found[name] = (kind, rest[0], max(0, floor(cast("int", rest[1]) / 1e9)), rest[2], rest[4])
    return found


def identities(root: Path) -> Mapping[str, tuple[int, int]]:
    """The inode of each path, and when it was last changed in any way."""
    return {
        str(path.relative_to(root)): ((status := path.lstat()).st_ino, status.st_ctime_ns) for path in root.rglob("*")
    }


class TestUnchanged:
    def test_given_an_odd_tree_then_nothing_in_it_is_touched(self, engine: Engine, folder: Path) -> None:
        an_odd_tree(folder)
        before, identities_before = everything_in(folder), identities(folder)

        inside = taken_in(engine, folder)
        copy_out(engine.client, "c", folder)

        assert by_seconds(everything_in(inside)) == by_seconds(before)
        assert everything_in(folder) == before
        assert {name: one[0] for name, one in identities(folder).items()} == {
            name: one[0] for name, one in identities_before.items()
        }

    def test_given_an_odd_tree_that_is_not_there_yet_then_it_is_made(self, engine: Engine, folder: Path) -> None:
        inside = engine.inside(folder)
        inside.mkdir(parents=True)
        an_odd_tree(inside)

        copy_out(engine.client, "c", folder)

        assert by_seconds(everything_in(folder)) == by_seconds(everything_in(inside))
        assert folder.stat().st_mode == inside.stat().st_mode

    @needs_root
    def test_given_files_and_folders_without_any_rights_then_they_come_and_go(
        self, engine: Engine, folder: Path
    ) -> None:
        (folder / "closed").mkdir()
        (folder / "closed" / "file").write_text("x")
        (folder / "closed" / "file").chmod(0)
        (folder / "closed").chmod(0)
        before = everything_in(folder)

        inside = taken_in(engine, folder)
        (inside / "closed" / "new").write_text("y")
        (inside / "closed" / "new").chmod(0)
        copy_out(engine.client, "c", folder)

        after = everything_in(folder, with_folder_times=False)
        assert after["closed/file"] == before["closed/file"]
        assert after["closed/new"][:2] == ("file", 0)
        assert after["closed"][:2] == ("folder", 0)

    def test_given_many_same_files_then_not_even_their_state_changes(self, engine: Engine, folder: Path) -> None:
        for number in range(20):
            (folder / f"f{number}").write_text(str(number))
            os.utime(folder / f"f{number}", ns=(1, 1_700_000_000_987_654_321 + number))
        before = identities(folder)

        taken_in(engine, folder)
        copy_out(engine.client, "c", folder)

        assert identities(folder) == before


class TestChanges:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("same size", "SAME SIZE"),
            ("ends otherwise", "ends otherwis2"),
            ("short", "longer by far"),
            ("longer by far", "short"),
            ("", "x"),
            ("x", ""),
            ("a" * 3_000_000 + "b" + "a" * 10, "a" * 3_000_000 + "c" + "a" * 10),
        ],
        ids=["beginning", "end", "longer", "shorter", "from empty", "to empty", "far behind"],
    )
    def test_given_other_content_then_it_is_taken(self, engine: Engine, folder: Path, old: str, new: str) -> None:
        (folder / "file").write_text(old)
        inside = taken_in(engine, folder)
        (inside / "file").write_text(new)
        os.utime(inside / "file", (1, 1_500_000_000))

        copy_out(engine.client, "c", folder)

        assert (folder / "file").read_text() == new
        assert (folder / "file").stat().st_mtime == 1_500_000_000

    def test_given_another_mode_or_time_alone_then_it_is_taken(self, engine: Engine, folder: Path) -> None:
        for name in ("mode", "time"):
            (folder / name).write_text("x")
        inside = taken_in(engine, folder)
        (inside / "mode").chmod(0o4711)
        os.utime(inside / "time", (1, 1_500_000_000))

        copy_out(engine.client, "c", folder)

        assert stat.S_IMODE((folder / "mode").stat().st_mode) == 0o4711
        assert (folder / "time").stat().st_mtime == 1_500_000_000

    def test_given_what_is_gone_then_it_goes_whatever_its_mode(self, engine: Engine, folder: Path) -> None:
        an_odd_tree(folder)
        inside = taken_in(engine, folder)
        for entry in inside.iterdir():
            remove_tree(entry)
        (inside / "only").write_text("this")

        copy_out(engine.client, "c", folder)

        assert sorted(os.listdir(folder)) == ["only"]

    def test_given_a_read_only_file_then_its_new_content_is_taken_and_it_stays_so(
        self, engine: Engine, folder: Path
    ) -> None:
        (folder / "file").write_text("old")
        (folder / "file").chmod(0o444)
        inside = taken_in(engine, folder)
        (inside / "file").chmod(0o644)
        (inside / "file").write_text("new")
        (inside / "file").chmod(0o444)

        copy_out(engine.client, "c", folder)

        assert (folder / "file").read_text() == "new"
        assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o444


class TestHardLinks:
    @pytest.fixture
    def inside(self, engine: Engine, folder: Path) -> Path:
        """A container's copy of a folder in which one file has two names."""
        (folder / "a").write_text("old")
        os.link(folder / "a", folder / "b")
        return taken_in(engine, folder)

    def test_given_two_names_of_one_file_then_the_container_has_that_too(self, inside: Path) -> None:
        assert (inside / "a").samefile(inside / "b")

    def test_given_other_content_then_both_names_have_it(self, engine: Engine, folder: Path, inside: Path) -> None:
        (inside / "b").write_text("new")

        copy_out(engine.client, "c", folder)

        assert (folder / "a").samefile(folder / "b")
        assert (folder / "a").read_text() == "new"

    @pytest.mark.parametrize("text", ["new", "old"])
    def test_given_a_name_that_is_a_file_of_its_own_now_then_the_other_keeps_what_it_has(
        self, engine: Engine, folder: Path, inside: Path, text: str
    ) -> None:
        (inside / "b").unlink()
        (inside / "b").write_text(text)

        copy_out(engine.client, "c", folder)

        assert not (folder / "a").samefile(folder / "b")
        assert [(folder / name).read_text() for name in "ab"] == ["old", text]

    def test_given_a_new_name_then_it_is_one(self, engine: Engine, folder: Path, inside: Path) -> None:
        (inside / "deep").mkdir()
        os.link(inside / "a", inside / "deep" / "c")

        copy_out(engine.client, "c", folder)

        assert (folder / "deep" / "c").samefile(folder / "b")

    def test_given_a_name_outside_then_that_file_keeps_what_is_in_it(
        self, engine: Engine, folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "outside").write_text("old")
        os.link(tmp_path / "outside", folder / "file")
        inside = taken_in(engine, folder)
        (inside / "file").write_text("new")

        copy_out(engine.client, "c", folder)

        assert (folder / "file").read_text() == "new"
        assert (tmp_path / "outside").read_text() == "old"


NAMES = st.sampled_from(["a", "b", "x y", "né\n", "-", "\udcff", "c" * 110])
ENTRIES = st.one_of(
    st.tuples(st.just("file"), st.sampled_from([0o644, 0o755, 0o600, 0o4750]), st.sampled_from(["", "x", "y", "xyz"])),
    st.tuples(st.just("link"), st.just(0), st.sampled_from(["a", "../a", "/nowhere/" + "x" * 120])),
)
TREES = st.recursive(
    st.dictionaries(NAMES, ENTRIES, max_size=4), lambda trees: st.dictionaries(NAMES, ENTRIES | trees, max_size=4)
)


def plant(root: Path, tree: Mapping[str, object]) -> None:
    for name, entry in tree.items():
        path = root / name
        match entry:
            case ("file", mode, text):
                path.write_text(cast("str", text))
                path.chmod(cast("int", mode))
            case ("link", _, target):
                path.symlink_to(cast("str", target))
            case _:
                path.mkdir()
                plant(path, cast("Mapping[str, object]", entry))


@settings(max_examples=30)
@given(before=TREES, after=TREES)
def test_given_any_tree_and_any_that_becomes_of_it_then_the_folder_is_the_same(
    before: Mapping[str, object], after: Mapping[str, object]
) -> None:
    with TemporaryDirectory() as place:
        folder, engine = Path(place, "work"), Engine(Path(place, "container"))
        folder.mkdir()
        engine.root.mkdir()
        plant(folder, before)
        inside = taken_in(engine, folder)
        assert by_seconds(everything_in(inside)) == by_seconds(everything_in(folder))

        shutil.rmtree(inside)
        inside.mkdir()
        plant(inside, after)
        copy_out(engine.client, "c", folder)

        assert by_seconds(everything_in(folder)) == by_seconds(everything_in(inside))


def an_archive(*members: tuple[str, bytes, str]) -> bytes:
    """An archive by hand: name, kind, and content or target of each."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                archive.addfile(member)
    return packed.getvalue()


DIR, FILE, LINK, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


class TestEscapes:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        """A folder beside, with a file in it, which nothing may reach."""
        made = tmp_path / "outside"
        made.mkdir()
        (made / "file").write_text("untouched")
        return made

    def escape(self, engine: Engine, folder: Path, *members: tuple[str, bytes, str]) -> None:
        engine.archive = an_archive(("work", DIR, ""), *members)
        copy_out(engine.client, "c", folder)

    @pytest.mark.parametrize(
        "name",
        ["work/../outside/file", "work/a/../../outside/file", "work/../../outside/file", "work//outside", "work/./x"],
    )
    def test_given_a_name_that_leads_out_then_it_is_passed_over(
        self, engine: Engine, folder: Path, outside: Path, name: str
    ) -> None:
        self.escape(engine, folder, ("work/a", DIR, ""), (name, FILE, "bad"))

        assert (outside / "file").read_text() == "untouched"
        assert os.listdir(outside) == ["file"]
        assert os.listdir(folder) == ["a"]

    def test_given_members_below_a_link_then_they_are_passed_over(
        self, engine: Engine, folder: Path, outside: Path
    ) -> None:
        self.escape(
            engine,
            folder,
            ("work/link", LINK, str(outside)),
            ("work/link/file", FILE, "bad"),
            ("work/link/new", FILE, "bad"),
            ("work/link/deep", DIR, ""),
            ("work/link/deep/er", FILE, "bad"),
        )

        assert [path.name for path in outside.iterdir()] == ["file"]
        assert (outside / "file").read_text() == "untouched"
        assert (folder / "link").is_symlink()

    def test_given_a_folder_that_becomes_a_link_in_the_same_archive_then_it_stays_a_folder(
        self, engine: Engine, folder: Path, outside: Path
    ) -> None:
        self.escape(
            engine,
            folder,
            ("work/d", DIR, ""),
            ("work/d/deep", DIR, ""),
            ("work/d", LINK, str(outside)),
            ("work/d/new", FILE, "good"),
            ("work/d/deep/new", FILE, "good"),
        )

        assert os.listdir(outside) == ["file"]
        assert not (folder / "d").is_symlink()
        assert (folder / "d" / "deep" / "new").read_text() == "good"

    def test_given_a_link_where_there_was_a_folder_then_what_is_behind_it_stays(
        self, engine: Engine, folder: Path, outside: Path
    ) -> None:
        (folder / "d").mkdir()
        (folder / "d" / "file").write_text("old")

        self.escape(engine, folder, ("work/d", LINK, str(outside)))

        assert (outside / "file").read_text() == "untouched"
        assert os.readlink(folder / "d") == str(outside)

    def test_given_a_link_where_a_file_comes_then_it_is_not_written_through(
        self, engine: Engine, folder: Path, outside: Path
    ) -> None:
        (folder / "x").symlink_to(outside / "file")

        self.escape(engine, folder, ("work/x", FILE, "untouchee"))

        assert (outside / "file").read_text() == "untouched"
        assert (folder / "x").read_text() == "untouchee"

    @pytest.mark.parametrize("target", ["work/../outside/file", "work/link", "/outside/file", "work/none"])
    def test_given_a_hard_link_to_something_else_than_a_file_of_the_folder_then_it_is_passed_over(
        self, engine: Engine, folder: Path, outside: Path, target: str
    ) -> None:
        self.escape(engine, folder, ("work/link", LINK, str(outside / "file")), ("work/x", HARD, target))

        assert not (folder / "x").exists()
        assert (outside / "file").stat().st_nlink == 1

    def test_given_devices_then_they_are_passed_over(self, engine: Engine, folder: Path) -> None:
        self.escape(engine, folder, ("work/null", tarfile.CHRTYPE, ""), ("work/pipe", tarfile.FIFOTYPE, ""))

        assert os.listdir(folder) == []

    @pytest.mark.parametrize("kind", [LINK, FILE, HARD])
    def test_given_something_else_in_the_folders_place_then_the_task_fails_and_nothing_is_touched(
        self, engine: Engine, folder: Path, outside: Path, kind: bytes
    ) -> None:
        (folder / "kept").write_text("kept")
        engine.archive = an_archive(("work", kind, str(outside)))

        with pytest.raises(TaskFailedError) as caught:
            copy_out(engine.client, "c", folder)

        assert caught.value.message == f"In the container, {folder} is no folder any more."
        assert (outside / "file").read_text() == "untouched"
        assert (folder / "kept").read_text() == "kept"


class TestTrouble:
    def test_given_a_folder_that_the_command_removed_then_it_is_empty(self, engine: Engine, folder: Path) -> None:
        an_odd_tree(folder)
        remove_tree(taken_in(engine, folder))

        copy_out(engine.client, "c", folder)

        assert os.listdir(folder) == []

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (an_api_error("No such container: c", 404), "No such container: c"),
            (an_api_error("no space left", 500), "no space left"),
            (ConnectionResetError(104, "Reset"), "the engine does not answer: Reset."),
        ],
    )
    def test_given_an_engine_that_fails_then_the_task_does_and_nothing_is_removed(
        self, engine: Engine, folder: Path, error: Exception, message: str
    ) -> None:
        (folder / "kept").write_text("kept")
        engine.error = error

        with pytest.raises(TaskFailedError) as caught:
            copy_out(engine.client, "c", folder)

        assert caught.value.message == f"The working directory cannot be copied out of the container: {message}"
        assert os.listdir(folder) == ["kept"]

    def test_given_an_archive_that_ends_too_early_anywhere_then_the_task_fails_and_nothing_is_removed(
        self, engine: Engine, folder: Path
    ) -> None:
        names = [f"f{number}" for number in range(5)]
        for name in names:
            (folder / name).write_text(name * 300)
        whole = engine.packed(taken_in(engine, folder))
        end = len(whole.rstrip(b"\0"))

        for length in [*range(0, end, 512), end, end + 511]:
            engine.archive = whole[:length]
            with pytest.raises(TaskFailedError, match="The working directory cannot be copied out of the container"):
                copy_out(engine.client, "c", folder)
            assert sorted(os.listdir(folder)) == names

    def test_given_an_engine_that_takes_only_the_beginning_then_nothing_hangs(
        self, engine: Engine, folder: Path
    ) -> None:
        (folder / "large").write_bytes(bytes(5_000_000))
        engine.error = an_api_error("no space left on device", 500)

        with pytest.raises(TaskFailedError) as caught:
            copy_in(engine.client, "c", [folder], OWNER)

        assert caught.value.message == (
            "The working directory cannot be copied into the container: no space left on device"
        )
        assert [thread for thread in threading.enumerate() if thread.name == "tercel-pack"] == []

    def test_given_a_kill_meanwhile_then_the_rest_is_not_copied(self, engine: Engine, folder: Path) -> None:
        (folder / "large").write_bytes(bytes(5_000_000))
        killed = TaskKilledError("The execution is being killed.")
        looks = iter([None, None, killed])

        def check() -> None:
            if error := next(looks):
                raise error

        with pytest.raises(TaskKilledError) as caught:
            copy_in(engine.client, "c", [folder], OWNER, check=check)

        assert caught.value is killed
        assert [thread for thread in threading.enumerate() if thread.name == "tercel-pack"] == []

    def test_given_a_folder_that_cannot_be_read_then_the_message_names_it(self, engine: Engine, folder: Path) -> None:
        with pytest.raises(TaskFailedError) as caught:
            copy_in(engine.client, "c", [folder, folder / "none"], OWNER)

        assert caught.value.message == (
            f"The working directory cannot be copied into the container: No such file or directory: {folder / 'none'}."
        )


class TestCopyIn:
    def test_given_folders_then_all_is_the_containers_users(self, engine: Engine, folder: Path, tmp_path: Path) -> None:
        (folder / "file").write_text("x")
        other = tmp_path / "other"
        other.mkdir()

        copy_in(engine.client, "c", [folder, other], (4_000_000_000, 7))

        assert {(member.uid, member.gid, member.uname, member.gname) for member in engine.members} == {
            (4_000_000_000, 7, "", "")
        }
        assert [member.name for member in engine.members] == [
            str(path).lstrip("/") for path in (folder, folder / "file", other)
        ]

    def test_given_sockets_then_they_stay_outside(
        self, engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        os.mkfifo("pipe")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")
            inside = taken_in(engine, folder)

        assert os.listdir(inside) == ["pipe"]

    def test_given_a_large_file_then_it_is_never_in_memory_as_a_whole(
        self, engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size = 40 << 20
        with (folder / "large").open("wb") as file:
            file.truncate(size)
        taken: list[int] = []
        monkeypatch.setattr(engine, "put_archive", lambda _container, _path, data: taken.append(sum(map(len, data))))

        peak = peak_of(lambda: copy_in(engine.client, "c", [folder], OWNER))

        assert taken[0] > size
        assert peak < 8 << 20


def peak_of(run: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
