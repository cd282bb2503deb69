import os
from pathlib import Path

import pytest

from tercel.layers import LayerError, select


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


class TestSelect:
    def test_given_patterns_when_selected_then_files_once_and_ordered(self, tmp_path: Path) -> None:
        make(tmp_path, "b.csv", "a.csv", "d/b.csv", "d/e/c.csv", "x.txt")

        selection = select(tmp_path, ["**/*.csv", "*.csv", "d/**"], exclude=["d/e/**"])

        assert list(selection.files) == ["a.csv", "b.csv", "d/b.csv"]
        assert selection.files["d/b.csv"] == str(tmp_path / "d/b.csv")

    def test_given_links_when_selected_then_those_to_files_inside_are_read_and_others_told(
        self, tmp_path: Path
    ) -> None:
        root = tmp_path / "w"
        make(root, "a.csv", "d/x.csv")
        make(tmp_path, "secret.csv")
        (root / "l.csv").symlink_to("a.csv")
        (root / "out.csv").symlink_to("/etc/hostname")
        (root / "up.csv").symlink_to("../secret.csv")
        (root / "gone.csv").symlink_to("nothing")
        (root / "folder.csv").symlink_to("d")
        (root / "loop.csv").symlink_to("loop.csv")

        selection = select(root, ["**/*.csv"])

        assert selection.files == {
            "a.csv": str(root / "a.csv"),
            "d/x.csv": str(root / "d/x.csv"),
            "l.csv": str(root / "a.csv"),
        }
        assert selection.outside == ("gone.csv", "loop.csv", "out.csv", "up.csv")

    def test_given_a_name_without_wildcards_when_nothing_is_there_then_it_is_told(self, tmp_path: Path) -> None:
        make(tmp_path, "a.csv")

        selection = select(tmp_path, ["a.csv", "/report.json", "*.txt", "  "])

        assert selection.missing == ("/report.json",)

    def test_given_files_of_the_engine_when_not_named_then_they_are_passed_over(self, tmp_path: Path) -> None:
        make(tmp_path, ".kestra/script.py", "mine.py", "d/.kestra/mine.py")

        assert list(select(tmp_path, ["**"]).files) == ["d/.kestra/mine.py", "mine.py"]
        assert list(select(tmp_path, [".kestra/*"]).files) == [".kestra/script.py"]

    def test_given_a_prefixed_pattern_when_selected_then_the_absolute_path_counts(self, tmp_path: Path) -> None:
        make(tmp_path, "dbt/a.sql", "b.sql")

        assert list(select(tmp_path, ["glob:**/dbt/**"]).files) == ["dbt/a.sql"]
        assert list(select(tmp_path, [f"regex:{tmp_path}/b.*"]).files) == ["b.sql"]

    def test_given_odd_names_when_selected_then_their_keys_are_raw(self, tmp_path: Path) -> None:
        names = ["a b.txt", "x#1.txt", "q?.txt", "p%20.txt", "[z].txt", "é.txt", "a..b.txt"]
        make(tmp_path, *names)

        assert set(select(tmp_path, ["*.txt"]).files) == set(names)

    def test_given_folders_without_end_when_selected_then_it_is_refused_in_words(self, tmp_path: Path) -> None:
        here = os.open(tmp_path, os.O_RDONLY)
        for _ in range(260):
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)

        with pytest.raises(LayerError, match="has more than 250 folders within each other"):
            select(tmp_path, ["**"])
        assert select(tmp_path, ["*"]).files == {}
