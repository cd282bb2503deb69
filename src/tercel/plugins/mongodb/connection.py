"""The way to a collection: its address, a client for as long as a task needs one, and its errors in words for people.

The login of an address is never in what is said or logged.
"""

import re
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qsl, unquote

from tercel.plugin_api import Dynamic, MissingToolError, Part, RunContext, TaskFailedError

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection as Documents
    from pymongo.errors import PyMongoError

    Document = dict[str, Any]

_PATIENCE_MS = 10_000
_LONGEST_REASON = 300
_AUTHENTICATION_FAILED = 18
_UNAUTHORIZED = 13
_SECRET_OPTIONS = frozenset({"tlscertificatekeyfilepassword", "proxypassword", "authmechanismproperties"})


class MongoDbConnection(Part, frozen=True, kw_only=True):
    """Where the server is.

    Attributes:
        uri: `mongodb://…` or `mongodb+srv://…`, with login and options; 10 s to find the server unless it says
            `serverSelectionTimeoutMS`.
    """

    uri: Dynamic


class InCollection(Protocol):
    """What every task and trigger of the family has."""

    @property
    def connection(self) -> MongoDbConnection:
        """Where the server is."""
        ...

    @property
    def database(self) -> str:
        """Its template."""
        ...

    @property
    def collection(self) -> str:
        """Its template."""
        ...


@contextmanager
def opened(task: InCollection, context: RunContext) -> Generator["Documents[Document]"]:
    """The collection of a task, by a client of its own; a kill or timeout ends what waits for the server.

    What the notes of an error of pymongo say is told, too.

    Raises:
        MissingToolError: there is no pymongo.
        TaskFailedError: the address is none, or the server failed meanwhile.
    """
    try:
        from bson.errors import BSONError  # noqa: PLC0415  # heavy, and an extra
        from pymongo.errors import PyMongoError  # noqa: PLC0415  # same
    except ImportError:
        raise MissingToolError(
            "MongoDB tasks need the library pymongo.", "Install it: pip install 'tercel[mongodb]'."
        ) from None
    uri = context.render(task.connection.uri).strip()
    for secret in _secrets(uri):
        context.add_secret(secret)
    names = (context.render(task.database), context.render(task.collection))
    client = _client(uri, context)
    try:
        with closing(client), context.stopping(lambda: _cut(client)):
            yield client[names[0]][names[1]]
    except PyMongoError as error:
        context.stop_if_killed()
        said = " ".join([_reason(error, uri, context), *getattr(error, "__notes__", ())])
        raise TaskFailedError(said, _hint(error)) from error
    except (BSONError, OverflowError, UnicodeEncodeError) as error:
        raise TaskFailedError(f"A value cannot be sent to MongoDB: {cut(str(error))}.") from error


def tags(task: InCollection, context: RunContext) -> dict[str, str]:
    """The tags of a task's metrics."""
    return {"database": context.render(task.database), "collection": context.render(task.collection)}


def _client(uri: str, context: RunContext) -> "MongoClient[Document]":
    from bson.codec_options import DatetimeConversion  # noqa: PLC0415  # heavy, and an extra
    from pymongo import MongoClient  # noqa: PLC0415  # same
    from pymongo.errors import ConfigurationError, InvalidURI, PyMongoError  # noqa: PLC0415  # same

    known = _with_known_options(uri, context)
    chosen = known.lower()
    options: dict[str, Any] = {}
    for name in ("serverSelectionTimeoutMS", "connectTimeoutMS"):
        if name.lower() not in chosen:
            options[name] = _PATIENCE_MS
    try:
        # Years that Python has no dates for are read, too.
        return MongoClient(
            known, appname="tercel", tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, **options
        )
    except ConfigurationError as error:
        raise (_no_address() if isinstance(error, InvalidURI) else _no_options(error, context)) from None
    except (PyMongoError, ValueError, TypeError):
        raise _no_address() from None


def _with_known_options(uri: str, context: RunContext) -> str:
    """The address without the options that pymongo does not know, as other drivers have others."""
    from pymongo.errors import ConfigurationError, InvalidURI  # noqa: PLC0415  # heavy, and an extra
    from pymongo.uri_parser import split_options  # noqa: PLC0415  # same

    head, _, query = uri.partition("?")
    if not re.match(r"mongodb(\+srv)?://.", head) or "@" in query:
        raise _no_address()
    known: list[str] = []
    for option in filter(None, re.split("[&;]", query)):
        try:
            split_options(option, validate=True, warn=False)
        except InvalidURI:
            raise _no_address() from None
        except (ConfigurationError, ValueError, TypeError) as error:
            if not str(error).startswith("Unknown option"):
                raise _no_options(error, context) from None
            name = option.partition("=")[0]
            context.logger.warn(f"The option {name!r} of the connection's uri is unknown, and left out.")
        else:
            known.append(option)
    return f"{head}?{'&'.join(known)}" if known else head


def _no_address() -> TaskFailedError:
    """Without pymongo's words, which may quote a part of the password."""
    return TaskFailedError(
        "The connection's uri is no address of a MongoDB server.",
        "Write mongodb://user:password@host:27017/, special characters in user and password percent-encoded.",
    )


def _no_options(error: Exception, context: RunContext) -> TaskFailedError:
    return TaskFailedError(f"The options of the connection's uri cannot be used: {_short(error, context)}.")


def _secrets(uri: str) -> Iterable[str]:
    """The password of an address, as it is and as it is written, and its options that are secret."""
    rest = uri.partition("://")[2]
    # A slash in a password is a mistake, and no reason to show it.
    for authority in (re.split(r"[/?]", rest, maxsplit=1)[0], rest):
        login, has_login, _ = authority.rpartition("@")
        password = login.partition(":")[2]
        if has_login and password:
            yield password
            yield unquote(password)
    for name, value in parse_qsl(rest.partition("?")[2]):
        if name.lower() in _SECRET_OPTIONS and value:
            yield value


def _cut(client: "MongoClient[Document]") -> None:
    """End what waits for an answer, and all to come.

    There is no public way: `close` itself asks the server, which may be what does not answer. Without these names,
    should a release of pymongo have others, a kill waits for the server.
    """
    topology = cast("Any", getattr(client, "_topology", None))
    if topology is None:
        return
    pools = [server.pool for server in tuple(getattr(topology, "_servers", {}).values())]
    topology.close()
    for pool in pools:
        for waiting in tuple(getattr(pool, "active_contexts", ())):
            waiting.cancel()


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _shown(uri: str) -> str:
    """An address by its hosts alone."""
    scheme, _, rest = uri.partition("://")
    hosts, slash, behind = rest.partition("/")
    if "@" in behind and slash:
        return f"{scheme}://…"
    return f"{scheme}://{hosts.partition('?')[0].rpartition('@')[2]}"


def _reason(error: "PyMongoError", uri: str, context: RunContext) -> str:
    """What went wrong, in a sentence."""
    from pymongo.errors import (  # noqa: PLC0415  # heavy, and an extra
        ConnectionFailure,
        InvalidURI,
        OperationFailure,
        ServerSelectionTimeoutError,
    )

    server = f"The server {_shown(uri)}"
    text = _short(error, context)
    match error:
        case ServerSelectionTimeoutError():
            return f"{server} cannot be reached: {text}."
        case OperationFailure() if error.code == _AUTHENTICATION_FAILED:
            return f"{server} refuses the login of the connection's uri: {text}."
        case OperationFailure() if error.code == _UNAUTHORIZED:
            return f"{server} does not allow that: {text}."
        case OperationFailure():
            return f"{server} refuses that: {text}."
        case InvalidURI():
            return "The connection's uri is no address of a MongoDB server."
        case ConnectionFailure():
            return f"{server} was lost: {text}."
        case _:
            return f"{text}."


def _hint(error: "PyMongoError") -> str:
    from pymongo.errors import OperationFailure, ServerSelectionTimeoutError  # noqa: PLC0415  # heavy, and an extra

    match error:
        case ServerSelectionTimeoutError():
            return "Check host and port, and whether the server runs."
        case OperationFailure() if error.code == _AUTHENTICATION_FAILED:
            return "Check user, password and authSource."
        case OperationFailure() if error.code == _UNAUTHORIZED:
            return "Give the connection's uri a login with rights on the database."
        case _:
            return ""


def _short(error: Exception, context: RunContext) -> str:
    """An error of pymongo's without what it says of its own state."""
    text = str(error)
    for noise in (" (configured timeouts", ", Timeout: ", ", full error: ", " Topology Description"):
        text = text.partition(noise)[0]
    return cut(context.mask(text))


def cut(text: str) -> str:
    """A text that fits into a message, without the full stop at its end."""
    text = text.strip().rstrip(".")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
