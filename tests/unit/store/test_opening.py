import sys
from pathlib import Path

import pytest

from tercel.errors import MissingToolError
from tercel.store.embedded import SqliteStore
from tercel.store.opening import open_store
from tests.postgres import postgres_database


def test_given_no_address_then_the_file_of_the_home_is_opened(tmp_path: Path) -> None:
    store = open_store("", tmp_path, owner="me")

    assert isinstance(store, SqliteStore)
    assert (tmp_path / "tercel.db").exists()
    store.close()


def test_given_the_address_of_a_database_then_the_home_stays_empty(tmp_path: Path) -> None:
    with postgres_database() as dsn:
        store = open_store(dsn, tmp_path, owner="me")
        store.close()

        reader = open_store(dsn, tmp_path, owner="", read_only=True)
        reader.close()

    assert list(tmp_path.iterdir()) == []


def test_given_the_library_is_missing_then_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tercel.store.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(MissingToolError) as caught:
        open_store("postgresql://db/flows", tmp_path, owner="me")

    assert str(caught.value) == (
        "The library psycopg, which a PostgreSQL database needs, is not installed. "
        "Install it: pip install 'tercel[postgres]'."
    )
