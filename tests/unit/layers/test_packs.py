from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings

from tercel.layers.copies import make_whiteout, set_mark
from tercel.layers.packs import pack_layer, unpack_layer
from tercel.layers.relocations import TEXT_BYTES
from tercel.layers.stacks import OPAQUE, REDIRECT, TRUSTED, marks, read_layer
from tercel.layers.trees import DamagedEntryError, LayerError
from tercel.model.packs import PackedTree
from tests.layers import STEPS, Step, as_nobody, take_steps
from tests.trees import an_odd_tree, everything_in

ID = "0123456789abcdef" * 2
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def pack(tree: Path, root: str = "/r") -> tuple[PackedTree, bytes]:
    target = io.BytesIO()
    facts, unreadable = pack_layer(str(tree), target, layer_id=ID, root=root)
    assert unreadable == []
    assert facts.packed_bytes == len(target.getvalue())
    return facts, target.getvalue()


def unpack(facts: PackedTree, content: bytes, tree: Path) -> None:
    unpack_layer(io.BytesIO(content), str(tree), facts)


def a_layer(tree: Path) -> None:
    """An odd tree with a whiteout and an opaque folder."""
    an_odd_tree(tree)
    for path, act in (("lib", "whiteout"), ("empty", "opaque")):
        fd = os.open(tree / path, os.O_RDONLY)
        make_whiteout("gone", fd) if act == "whiteout" else set_mark(fd, OPAQUE, b"y")
        os.close(fd)


class TestPackLayer:
    def test_given_a_layer_then_it_is_unpacked_stat_for_stat(self, tmp_path: Path) -> None:
        a_layer(tmp_path / "a")
        (tmp_path / "a").chmod(0o751)
        os.utime(tmp_path / "a", ns=(1, 5_000_000_001))

        facts, content = pack(tmp_path / "a")
        unpack(facts, content, tmp_path / "pool/b")

        before = [entry._replace(source="", status=()) for entry in read_layer(str(tmp_path / "a"))]  # type: ignore[arg-type]
        assert [entry._replace(source="", status=()) for entry in read_layer(str(tmp_path / "pool/b"))] == before  # type: ignore[arg-type]
        for tree in ("a", "pool/b"):
            (tmp_path / tree / "lib/gone").unlink()
            os.utime(tmp_path / tree / "lib", ns=(1, 1))
        assert everything_in(tmp_path / "pool/b") == everything_in(tmp_path / "a")
        assert (tmp_path / "pool/b/lib/sparse").stat().st_blocks * 512 < 1_000_000
        root = (tmp_path / "pool/b").stat()
        assert (root.st_mode & 0o7777, root.st_mtime_ns) == (0o751, 5_000_000_001)
        assert (facts.id, facts.files, facts.bytes) == (ID, 15, 12_000_238)

    def test_given_the_same_layer_then_the_bytes_are_the_same(self, tmp_path: Path) -> None:
        a_layer(tmp_path / "a")
        facts, content = pack(tmp_path / "a")
        unpack(facts, content, tmp_path / "b")

        assert pack(tmp_path / "a") == (facts, content)
        assert pack(tmp_path / "b") == (facts, content)
        assert facts.sha256 == hashlib.sha256(content).hexdigest()

    @pytest.mark.skipif(shutil.which("tar") is None or shutil.which("zstd") is None, reason="tar or zstd is missing")
    def test_given_a_pack_when_unpacked_by_tar_then_it_is_the_same_tree(self, tmp_path: Path) -> None:
        an_odd_tree(tmp_path / "a")
        _, content = pack(tmp_path / "a")
        (tmp_path / "b").mkdir()

        command = ["tar", "--zstd", "--xattrs", "-xpf", "-", "-C", str(tmp_path / "b")]
        done = subprocess.run(command, input=content, capture_output=True, check=True)

        assert everything_in(tmp_path / "b") == everything_in(tmp_path / "a"), done.stderr

    def test_given_devices_and_pipes_then_they_are_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        os.mkfifo(tmp_path / "a/pipe")
        if os.geteuid() == 0:
            os.mknod(tmp_path / "a/device", 0o020600, os.makedev(1, 3))
        (tmp_path / "a/x").write_text("1")

        unpack(*pack(tmp_path / "a"), tmp_path / "b")

        assert os.listdir(tmp_path / "b") == ["x"]

    def test_given_marks_that_mean_nothing_to_us_then_they_are_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "a/d").mkdir(parents=True)
        for name in ("origin", "impure"):
            os.setxattr(tmp_path / "a/d", marks() + name, b"y")
        # In layers of others than root it would be a mark of ours.
        os.setxattr(tmp_path / "a/d", f"user.overlay.{'opaque' if marks() == TRUSTED else 'metacopy'}", b"y")
        os.setxattr(tmp_path / "a", marks() + OPAQUE, b"y")

        unpack(*pack(tmp_path / "a"), tmp_path / "b")

        assert os.listxattr(tmp_path / "b") == os.listxattr(tmp_path / "b/d") == []

    def test_given_a_folder_that_goes_on_under_another_name_then_it_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a/b/c").mkdir(parents=True)
        os.setxattr(tmp_path / "a/b/c", marks() + REDIRECT, b"/old")

        with pytest.raises(LayerError, match="The layer is not settled: 'b/c' goes on under another name"):
            pack(tmp_path / "a")

    def test_given_files_and_links_that_mean_the_root_then_they_are_told(self, tmp_path: Path) -> None:
        root = "/work/flow"
        (tmp_path / "a").mkdir()
        for name, content in {
            "text": f"home={root}\n",
            "script": f"#!{root}/bin/python\n",
            "large": f"#!{root}/x\n" + "x" * TEXT_BYTES,
            "large-text": "x" * TEXT_BYTES + root,
            "binary": f"\0{root}",
            "similar": f"{root}-other",
            os.fsdecode(b"\xff"): root,
        }.items():
            (tmp_path / "a" / name).write_text(content)
        os.link(tmp_path / "a/text", tmp_path / "a/text-too")
        (tmp_path / "a/inside").symlink_to(f"{root}/x")
        (tmp_path / "a/other").symlink_to(f"{root}-other")

        facts, _ = pack(tmp_path / "a", root)

        assert facts.root == root
        assert facts.relocatable == ("inside", "large", "script", "text", "text-too", "\ufffd")

    def test_given_a_file_that_changes_then_it_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/x").write_bytes(os.urandom(20_000_000))

        class Meddling(io.BytesIO):
            def write(self, content: object, /) -> int:
                with (tmp_path / "a/x").open("r+b") as file:
                    file.write(b"other")
                return super().write(content)  # type: ignore[arg-type]

        with pytest.raises(LayerError, match="The file 'x' changed while it was saved"):
            pack_layer(str(tmp_path / "a"), Meddling(), layer_id=ID, root="/r")

    def test_given_folders_without_end_then_it_is_refused_in_words(self, tmp_path: Path) -> None:
        here = os.open(tmp_path, os.O_RDONLY)
        for _ in range(260):
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)

        with pytest.raises(LayerError, match="There are more than 250 folders within each other"):
            pack(tmp_path)

    @needs_root
    def test_given_files_of_others_then_owners_are_kept_where_that_is_permitted(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            tree = Path(folder, "a")
            (tree / "d").mkdir(parents=True)
            (tree / "d/x").write_text("1")
            (tree / "d/x").chmod(0o4755)
            (tree / "mine").write_text("1")
            (tree / "l").symlink_to("x")
            for name in ("d", "d/x", "l"):
                os.chown(tree / name, 12, 13, follow_symlinks=False)
            os.chown(tree / "d/x", 12, 13)
            (tree / "d/x").chmod(0o4755)
            facts, content = pack(tree)

            def act() -> object:
                unpack(facts, content, Path(folder, "c"))
                return oct(Path(folder, "c/d/x").stat().st_mode), Path(folder, "c/mine").stat().st_uid

            unpack(facts, content, Path(folder, "b"))

            for name in ("d", "d/x", "l", "mine"):
                old, new = (tree / name).lstat(), Path(folder, "b", name).lstat()
                assert (new.st_uid, new.st_gid, new.st_mode) == (old.st_uid, old.st_gid, old.st_mode)
            assert as_nobody(act) == "('0o100755', 65534)"

    @needs_root
    def test_given_what_cannot_be_read_when_not_root_then_the_rest_is_packed_and_it_is_told(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder, "w")
            (tree / "closed").mkdir(parents=True)
            for name in ("good", "bad", "closed/in"):
                (tree / name).write_text("1")
            for name in ("bad", "closed"):
                (tree / name).chmod(0)
            os.chmod(folder, 0o755)

            def act() -> object:
                facts, unreadable = pack_layer(str(tree), io.BytesIO(), layer_id=ID, root="/r")
                return facts.files, unreadable

            assert as_nobody(act) == "(1, ['bad', 'closed'])"

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(steps=STEPS)
    def test_given_any_tree_then_it_is_unpacked_the_same(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
    ) -> None:
        folder = tmp_path_factory.mktemp("any")
        (folder / "a").mkdir()
        take_steps(folder / "a", steps)

        facts, content = pack(folder / "a")
        unpack(facts, content, folder / "b")

        assert everything_in(folder / "b") == everything_in(folder / "a")
        assert pack(folder / "b") == (facts, content)
        shutil.rmtree(folder)


class TestUnpackLayer:
    @pytest.mark.parametrize("kind", ["garbage", "truncated", "flipped", "empty", "longer"])
    def test_given_a_damaged_pack_then_it_says_so(self, tmp_path: Path, kind: str) -> None:
        an_odd_tree(tmp_path / "a")
        facts, good = pack(tmp_path / "a")
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        bad = {
            "garbage": b"not a pack" * 100,
            "truncated": good[: len(good) // 2],
            "flipped": bytes(flipped),
            "empty": b"",
            "longer": good + b"x",
        }[kind]

        with pytest.raises(DamagedEntryError, match="The stored layer 0123456789ab is damaged"):
            unpack(facts, bad, tmp_path / "b")

    def test_given_a_folder_that_cannot_be_written_then_it_is_no_damage(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/x").write_text("1")
        (tmp_path / "b").mkdir()
        (tmp_path / "b/x").write_text("mine")
        facts, content = pack(tmp_path / "a")

        with pytest.raises(LayerError, match="The layer 0123456789ab cannot be unpacked: File exists") as caught:
            unpack(facts, content, tmp_path / "b")

        assert not isinstance(caught.value, DamagedEntryError)
        assert (tmp_path / "b/x").read_text() == "mine"

    def test_given_more_content_than_it_should_hold_then_it_stops(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        with (tmp_path / "a/bomb").open("wb") as bomb:
            bomb.truncate(200_000_000)
        facts, content = pack(tmp_path / "a")
        claimed = PackedTree(
            id=ID, sha256=facts.sha256, files=1, bytes=1000, packed_bytes=facts.packed_bytes, root="/r"
        )

        with pytest.raises(DamagedEntryError, match="it holds more than it should"):
            unpack(claimed, content, tmp_path / "b")

    @pytest.mark.parametrize("root", [True, False])
    @pytest.mark.parametrize(
        "members",
        [
            [("../x", "file")],
            [("/tmp/tercel-evil", "file")],
            [("a", "link to .."), ("a/x", "file")],
            [("a", "link to /tmp"), ("a/x", "file")],
            [("a", "name of /etc/passwd")],
            [("a", "name of ../../x")],
            [("a", "link to /etc/passwd"), ("b", "name of a")],
            [("a", "device")],
            [("a", "fifo")],
            [("a/../../x", "file")],
            [("a", "file"), ("a", "file")],
            [("b", "file"), ("a", "file")],
            [("b/c", "file")],
            [("a", "whiteout"), ("a/b", "file")],
            [("./", "folder")],
        ],
    )
    def test_given_a_hostile_pack_with_the_right_checksum_then_nothing_is_written_outside(
        self, tmp_path: Path, members: list[tuple[str, str]], root: bool
    ) -> None:
        if not root and members[0][0] == "./":
            members = [("a", "folder")]
        (tmp_path / "x").write_text("mine")

        with pytest.raises(DamagedEntryError):
            unpack(*hostile([("./", "folder"), *members] if root else members), tmp_path / "b/tree")

        assert (tmp_path / "x").read_text() == "mine"
        assert not Path("/tmp/tercel-evil").exists()
        assert sorted(os.listdir(tmp_path)) == ["b", "x"]
        assert not [path for path in (tmp_path / "b/tree").rglob("*") if path.name == "x"]


def hostile(members: list[tuple[str, str]]) -> tuple[PackedTree, bytes]:
    """A pack in our own form, of what we never pack: (name, kind) in order."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.mtime = 1.5
            if kind == "file":
                member.size = 4
            elif kind == "folder":
                member.type = tarfile.DIRTYPE
            elif kind.startswith("link to "):
                member.type, member.linkname = tarfile.SYMTYPE, kind.removeprefix("link to ")
            elif kind.startswith("name of "):
                member.type, member.linkname = tarfile.LNKTYPE, kind.removeprefix("name of ")
            elif kind == "whiteout":
                member.type = tarfile.CHRTYPE
            elif kind == "device":
                member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
            else:
                member.type = tarfile.FIFOTYPE
            tar.addfile(member, io.BytesIO(b"evil"))
    packed = zstandard.ZstdCompressor().compress(raw.getvalue())
    size = 4 * sum(kind == "file" for _, kind in members)
    files = sum(kind not in {"folder", "whiteout"} for _, kind in members)
    sha256 = hashlib.sha256(packed).hexdigest()
    return PackedTree(id=ID, sha256=sha256, files=files, bytes=size, packed_bytes=len(packed), root="/r"), packed
