"""Addresses: which of their parts are secret, and what of them is shown."""

from pathlib import Path

import pytest
from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

from tercel.plugin_api import TaskFailedError
from tercel.plugins.mongodb import connection
from tercel.plugins.mongodb.connection import MongoDbConnection, opened
from tercel.plugins.mongodb.read import Find
from tests.run_contexts import DirectoryContext

URI = "mongodb://me:hidden%2Fword@one:27017,two:27018/?tlsCertificateKeyFilePassword=other-word"


def a_find(uri: str) -> Find:
    return Find(
        id="find",
        type="io.kestra.plugin.mongodb.Find",
        connection=MongoDbConnection(uri=uri),
        database="shop",
        collection="orders",
    )


@pytest.mark.parametrize(
    ("uri", "secrets"),
    [
        (URI, {"hidden%2Fword", "hidden/word", "other-word"}),
        ("mongodb://me:hid@den@host/", {"hid@den"}),
        ("mongodb://me:hid/den@host/", {"hid/den"}),
        ("mongodb://me@host/", set()),
        ("mongodb://host:27017/db?w=1", set()),
        ("mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:abc", {"AWS_SESSION_TOKEN:abc"}),
        ("", set()),
    ],
)
def test_given_an_address_then_its_secrets_are_known(uri: str, secrets: set[str]) -> None:
    assert set(connection._secrets(uri)) == secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (URI, "mongodb://one:27017,two:27018"),
        ("mongodb+srv://me:word@host/db?w=1", "mongodb+srv://host"),
        ("mongodb://host?w=1", "mongodb://host"),
        ("mongodb://me:hid/den@host/", "mongodb://…"),
    ],
)
def test_given_an_address_then_its_hosts_are_shown(uri: str, shown: str) -> None:
    assert connection._shown(uri) == shown


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ServerSelectionTimeoutError("one:27017: refused (configured timeouts: a), Timeout: 1s, Topology: <x>"),
            "The server mongodb://one:27017,two:27018 cannot be reached: one:27017: refused. "
            "Check host and port, and whether the server runs.",
        ),
        (
            OperationFailure("Authentication failed.", 18),
            "The server mongodb://one:27017,two:27018 refuses the login of the connection's uri: "
            "Authentication failed. Check user, password and authSource.",
        ),
        (
            OperationFailure("not authorized", 13),
            "The server mongodb://one:27017,two:27018 does not allow that: not authorized. "
            "Give the connection's uri a login with rights on the database.",
        ),
        (
            OperationFailure(f"bad {'x' * 1000}", 2),
            f"The server mongodb://one:27017,two:27018 refuses that: bad {'x' * 296}….",
        ),
        (
            AutoReconnect("closed with hidden/word"),
            "The server mongodb://one:27017,two:27018 was lost: closed with ***.",
        ),
    ],
)
def test_given_an_error_of_the_library_then_it_is_told_without_the_login(
    tmp_path: Path, error: Exception, said: str
) -> None:
    uri = URI.partition("?")[0]

    with (
        pytest.raises(TaskFailedError) as failure,
        opened(a_find(f"{uri}?serverSelectionTimeoutMS=1"), DirectoryContext(tmp_path)),
    ):
        raise error

    assert str(failure.value) == said


def test_given_notes_then_they_are_told(tmp_path: Path) -> None:
    error = AutoReconnect("closed")
    error.add_note("Of the first 2 rows 1 were inserted.")

    with pytest.raises(TaskFailedError) as failure, opened(a_find("mongodb://one/"), DirectoryContext(tmp_path)):
        raise error

    assert str(failure.value) == "The server mongodb://one was lost: closed. Of the first 2 rows 1 were inserted."
