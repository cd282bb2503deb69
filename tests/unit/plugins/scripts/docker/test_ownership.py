"""The numbers of a container's user, and whose files are whose."""

import os
from pathlib import Path

import pytest

from tercel.plugins.scripts.docker.ownership import find_user, give, has_foreign

PASSWD = "root:x:0:0:root:/root:/bin/sh\n\n# odd\n+::::::\napp:x:7:8::/:/bin/sh\n1234:x:5:6::/:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:app\n+:::\n"


class TestFindUser:
    @pytest.mark.parametrize(
        ("name", "numbers"),
        [
            ("", (0, 0)),
            ("root", (0, 0)),
            ("app", (7, 8)),
            ("7", (7, 8)),
            ("7:9", (7, 9)),
            ("app:staff", (7, 50)),
            ("app:50", (7, 50)),
            (":staff", (0, 50)),
            ("1000", (1000, 0)),
            ("1000:1001", (1000, 1001)),
            ("1000:staff", (1000, 50)),
            ("1234", (5, 6)),
        ],
    )
    def test_given_a_user_then_the_image_says_its_numbers(self, name: str, numbers: tuple[int, int]) -> None:
        assert find_user(name, PASSWD, GROUP) == numbers

    def test_given_an_image_without_such_files_then_numbers_are_still_numbers(self) -> None:
        assert find_user("7:8", "", "") == (7, 8)

    @pytest.mark.parametrize(("name", "unknown"), [("nobody", "nobody"), ("app:none", "none"), ("x:none", "x")])
    def test_given_an_unknown_name_then_the_error_has_it(self, name: str, unknown: str) -> None:
        with pytest.raises(LookupError) as caught:
            find_user(name, PASSWD, GROUP)

        assert caught.value.args == (unknown,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file").write_text("x")
    (tmp_path / "in" / "deep" / "file").chmod(0o6750)
    (tmp_path / "in" / "out").symlink_to("/etc")
    (tmp_path / "in" / "dangling").symlink_to("nowhere")
    return tmp_path / "in"


def owners(folder: Path) -> set[tuple[int, int]]:
    found = [folder, *folder.rglob("*")]
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in found}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
class TestGive:
    def test_given_folders_then_all_in_them_changes_hands_and_nothing_behind_links(self, folder: Path) -> None:
        outside = os.stat("/etc")

        give([folder], (7, 8))

        assert owners(folder) == {(7, 8)}
        assert os.stat("/etc").st_uid == outside.st_uid

    def test_given_bits_that_a_change_of_owner_takes_away_then_they_stay(self, folder: Path) -> None:
        give([folder], (7, 8))

        assert (folder / "deep" / "file").stat().st_mode & 0o7777 == 0o6750

    def test_given_the_owner_already_then_nothing_is_touched(self, folder: Path) -> None:
        before = (folder / "deep" / "file").stat().st_ctime_ns

        give([folder], (os.geteuid(), os.getegid()))

        assert (folder / "deep" / "file").stat().st_ctime_ns == before

    def test_given_a_file_of_another_then_it_is_seen(self, folder: Path) -> None:
        assert not has_foreign([folder], 0)

        os.chown(folder / "dangling", 7, 0, follow_symlinks=False)

        assert has_foreign([folder], 0)


def test_given_only_own_files_then_none_is_foreign(folder: Path) -> None:
    assert not has_foreign([folder], os.geteuid())
    assert has_foreign([folder], os.geteuid() + 1)
