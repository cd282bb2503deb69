"""A stand-in for mongod at the wire: a server process of its own that speaks MongoDB's protocol on loopback.

MongoDB's server is in none of the registries that the tests may use (PyPI, npm, Debian), so where there is no `mongod`
on the path, tests talk to this. What is real: the process, the socket, OP_MSG and the first OP_QUERY, cursors with
their batches, SCRAM-SHA-256 with salted passwords, server errors with MongoDB's codes, and `bson` as the codec. What
stands in: mongomock is the query engine, so queries can do what it can; there are no indexes but unique ones, no
sessions, transactions, replication or TLS. `configureFailPoint` knows `failCommand`, as a mongod with test commands
does.

    python -m tests.mongodb_server

It reads one line of JSON, `{"username": …, "password": …}` (null for no login), prints the number of its port, and ends
when its standard input does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import os
import re
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
import mongomock
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from mongomock.collection import Collection
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError, WriteError

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
CHECKSUM_PRESENT, MORE_TO_COME = 1, 2
ITERATIONS = 4096
LARGEST_DOCUMENT = 16 << 20
LARGEST_MESSAGE = 48_000_000
FIRST_BATCH = 101
OPEN_COMMANDS = frozenset({"hello", "ismaster", "ping", "buildinfo", "saslstart", "saslcontinue", "endsessions"})

Document = dict[str, Any]


class CommandError(Exception):
    """A command that fails as a whole, with a code and a name of MongoDB's."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(message)
        self.answer = {"ok": 0.0, "errmsg": message, "code": code, "codeName": name}


@dataclass
class Login:
    """The one user; the password itself is not kept."""

    username: str
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def of(cls, username: str, password: str) -> Login:
        salt = os.urandom(28)
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        return cls(username, salt, hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256"))


@dataclass
class FailPoint:
    """`failCommand`: which commands fail, how often and how."""

    commands: frozenset[str]
    data: Document
    left: float

    def takes(self, command: str) -> bool:
        if command not in self.commands or self.left <= 0:
            return False
        self.left -= 1
        return True


@dataclass
class Database:
    """What all connections share; one command at a time works on it."""

    login: Login | None
    client: Any = field(default_factory=mongomock.MongoClient)
    lock: threading.Lock = field(default_factory=threading.Lock)
    cursors: dict[int, tuple[str, Iterator[Document]]] = field(default_factory=dict)
    cursor_ids: Iterator[int] = field(default_factory=lambda: itertools.count(7_000_000_001))
    fail_point: FailPoint | None = None


class Connection(socketserver.BaseRequestHandler):
    """One client's connection: its messages one after the other."""

    server: Server

    def setup(self) -> None:
        self.database = self.server.database
        self.is_logged_in = self.database.login is None
        self.conversation: tuple[str, str] | None = None
        self.is_cut = False

    def handle(self) -> None:
        while not self.is_cut and (header := self.read(16)):
            length, request_id, _, op_code = struct.unpack("<iiii", header)
            body = self.read(length - 16)
            if op_code == OP_MSG:
                (flags,) = struct.unpack_from("<I", body)
                answer = self.answer(_message(body[4 : -4 if flags & CHECKSUM_PRESENT else None]))
                if answer is not None and not flags & MORE_TO_COME:
                    self.send(request_id, OP_MSG, struct.pack("<IB", 0, 0) + bson.encode(answer))
            elif op_code == OP_QUERY:
                start = body.index(b"\0", 4) + 1 + 8
                answer = self.answer({"$db": "admin", **bson.decode(body[start:])})
                if answer is not None:
                    self.send(request_id, OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(answer))
            else:
                return

    def read(self, count: int) -> bytes:
        """So many bytes; none where the client has gone."""
        data = bytearray()
        while len(data) < count:
            try:
                block = self.request.recv(min(count - len(data), 1 << 20))
            except OSError:
                return b""
            if not block:
                return b""
            data += block
        return bytes(data)

    def send(self, request_id: int, op_code: int, body: bytes) -> None:
        try:
            self.request.sendall(struct.pack("<iiii", 16 + len(body), request_id + 1, request_id, op_code) + body)
        except OSError:
            self.is_cut = True

    def answer(self, command: Document) -> Document | None:
        """The answer to a command; None where a fail point closes the connection."""
        name = next(iter(command))
        try:
            return self.done(name, command)
        except CommandError as error:
            return error.answer
        except OperationFailure as error:
            return {"ok": 0.0, "errmsg": str(error), "code": error.code or 2, "codeName": "BadValue"}
        except (PyMongoError, NotImplementedError, TypeError, ValueError) as error:
            return {"ok": 0.0, "errmsg": f"{error}", "code": 2, "codeName": "BadValue"}

    def done(self, name: str, command: Document) -> Document | None:
        if not self.is_logged_in and name.lower() not in OPEN_COMMANDS:
            raise CommandError(13, "Unauthorized", f"Command {name} requires authentication")
        point = self.database.fail_point
        if point is not None and point.takes(name):
            if point.data.get("blockConnection"):
                time.sleep(point.data["blockTimeMS"] / 1000)
            if point.data.get("closeConnection"):
                self.is_cut = True
                return None
            if "errorCode" in point.data:
                message = "Failing command via 'failCommand' failpoint"
                raise CommandError(point.data["errorCode"], "FailPoint", message)
        if name.lower() in {"saslstart", "saslcontinue"}:
            return {"ok": 1.0, **self.log_in(name, command)}
        run = COMMANDS.get(name.lower())
        if run is None:
            raise CommandError(59, "CommandNotFound", f"no such command: '{name}'")
        with self.database.lock:
            return {"ok": 1.0, **run(self.database, command)}

    def log_in(self, name: str, command: Document) -> Document:
        """SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding."""
        login = self.database.login
        payload = bytes(command["payload"]).decode()
        failed = CommandError(18, "AuthenticationFailed", "Authentication failed.")
        if login is None:
            raise failed
        if name.lower() == "saslstart":
            if command["mechanism"] != "SCRAM-SHA-256":
                raise failed
            first = payload.removeprefix("n,,")
            given = dict(part.split("=", 1) for part in first.split(","))
            if given["n"].replace("=2C", ",").replace("=3D", "=") != login.username:
                raise failed
            nonce = given["r"] + base64.b64encode(os.urandom(24)).decode()
            reply = f"r={nonce},s={base64.b64encode(login.salt).decode()},i={ITERATIONS}"
            self.conversation = (first, reply)
            return {"conversationId": 1, "done": False, "payload": reply.encode()}
        if self.conversation is None:
            raise failed
        without_proof, _, proof = payload.rpartition(",p=")
        message = ",".join([*self.conversation, without_proof]).encode()
        signature = hmac.digest(login.stored_key, message, "sha256")
        client_key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), login.stored_key):
            raise failed
        self.is_logged_in = True
        verifier = base64.b64encode(hmac.digest(login.server_key, message, "sha256"))
        return {"conversationId": 1, "done": True, "payload": b"v=" + verifier}


_OPTIONS: CodecOptions[Any] = CodecOptions(document_class=dict, tz_aware=False)


def _message(body: bytes) -> Document:
    """The command of an OP_MSG, its sequences of documents put in."""
    command: Document = {}
    sequences: Document = {}
    at = 0
    while at < len(body):
        kind = body[at]
        (size,) = struct.unpack_from("<i", body, at + 1)
        end = at + 1 + size
        if kind == 0:
            command = bson.decode(body[at + 1 : end], _OPTIONS)
        else:
            name_end = body.index(b"\0", at + 5)
            sequences[body[at + 5 : name_end].decode()] = bson.decode_all(body[name_end + 1 : end], _OPTIONS)
        at = end
    return {**command, **sequences}


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _hello(database: Database, command: Document) -> Document:
    mechanisms = {"saslSupportedMechs": ["SCRAM-SHA-256"]} if "saslSupportedMechs" in command else {}
    return {
        "helloOk": True,
        "isWritablePrimary": True,
        "ismaster": True,
        "maxBsonObjectSize": LARGEST_DOCUMENT,
        "maxMessageSizeBytes": LARGEST_MESSAGE,
        "maxWriteBatchSize": 100_000,
        "localTime": datetime.now(UTC),
        "minWireVersion": 0,
        "maxWireVersion": 21,
        "readOnly": False,
        **mechanisms,
    }


def _collection(database: Database, command: Document) -> Collection:
    return database.client[command["$db"]][next(iter(command.values()))]


def _write(command: Document, entries: list[Document], write: Callable[[Document, int], None]) -> Document:
    """Do each write, up to the first failure unless the command is unordered; gives the write errors."""
    errors: list[Document] = []
    for index, entry in enumerate(entries):
        try:
            write(entry, index)
        except DuplicateKeyError as error:
            errors.append({"index": index, "code": 11000, "errmsg": _duplicate(command, error, entry)})
        except (WriteError, OperationFailure, ValueError, TypeError, NotImplementedError) as error:
            errors.append({"index": index, "code": getattr(error, "code", None) or 9, "errmsg": str(error)})
        if errors and command.get("ordered", True):
            break
    return {"writeErrors": errors} if errors else {}


def _duplicate(command: Document, error: DuplicateKeyError, entry: Document) -> str:
    place = f"{command['$db']}.{next(iter(command.values()))}"
    key = entry.get("_id")
    index = "_id_" if "_id" in str(error) else re.sub(r"\W+", "_", str(error))
    return f"E11000 duplicate key error collection: {place} index: {index} dup key: {{ _id: {json.dumps(str(key))} }}"


def _insert(database: Database, command: Document) -> Document:
    collection, count = _collection(database, command), 0

    def write(document: Document, index: int) -> None:
        nonlocal count
        if len(bson.encode(document)) > LARGEST_DOCUMENT:
            raise WriteError("object to insert too large", 10334)
        collection.insert_one(document if "_id" in document else {"_id": bson.ObjectId(), **document})
        count += 1

    return {**_write(command, command["documents"], write), "n": count}


def _update(database: Database, command: Document) -> Document:
    collection, matched, modified = _collection(database, command), 0, 0
    upserted: list[Document] = []

    def write(entry: Document, index: int) -> None:
        nonlocal matched, modified
        change, is_upsert = entry["u"], entry.get("upsert", False)
        if isinstance(change, Mapping) and not any(name.startswith("$") for name in change):
            result = collection.replace_one(entry["q"], change, upsert=is_upsert)
        else:
            update = collection.update_many if entry.get("multi") else collection.update_one
            result = update(entry["q"], change, upsert=is_upsert, array_filters=entry.get("arrayFilters"))
        matched += result.matched_count
        modified += result.modified_count
        if result.upserted_id is not None:
            upserted.append({"index": index, "_id": result.upserted_id})

    failed = _write(command, command["updates"], write)
    created = {"upserted": upserted} if upserted else {}
    return {**failed, "n": matched + len(upserted), "nModified": modified, **created}


def _delete(database: Database, command: Document) -> Document:
    collection, count = _collection(database, command), 0

    def write(entry: Document, index: int) -> None:
        nonlocal count
        remove = collection.delete_one if entry.get("limit") == 1 else collection.delete_many
        count += remove(entry["q"]).deleted_count

    return {**_write(command, command["deletes"], write), "n": count}


def _find(database: Database, command: Document) -> Document:
    found = _collection(database, command).find(command.get("filter") or {}, command.get("projection") or None)
    if command.get("sort"):
        found = found.sort(list(command["sort"].items()))
    found = found.skip(command.get("skip", 0)).limit(abs(command.get("limit", 0)))
    return _first_batch(database, command, iter(list(found)), command.get("batchSize", FIRST_BATCH))


def _aggregate(database: Database, command: Document) -> Document:
    rows = _collection(database, command).aggregate(command["pipeline"])
    return _first_batch(database, command, iter(list(rows)), command["cursor"].get("batchSize", FIRST_BATCH))


def _first_batch(database: Database, command: Document, rows: Iterator[Document], size: int) -> Document:
    batch = _batch(rows, size)
    following = next(rows, None)
    cursor_id = 0
    place = f"{command['$db']}.{next(iter(command.values()))}"
    if following is not None and not command.get("singleBatch"):
        cursor_id = next(database.cursor_ids)
        database.cursors[cursor_id] = (place, itertools.chain((following,), rows))
    return {"cursor": {"id": bson.Int64(cursor_id), "ns": place, "firstBatch": batch}}


def _batch(rows: Iterator[Document], size: int) -> list[RawBSONDocument]:
    """At most *size* documents, and at most what an answer may hold."""
    batch: list[RawBSONDocument] = []
    length = 0
    while len(batch) < size and length < LARGEST_DOCUMENT - (1 << 20):
        row = next(rows, None)
        if row is None:
            break
        batch.append(RawBSONDocument(bson.encode(row)))
        length += len(batch[-1].raw)
    return batch


def _get_more(database: Database, command: Document) -> Document:
    cursor_id = command["getMore"]
    if cursor_id not in database.cursors:
        raise CommandError(43, "CursorNotFound", f"cursor id {cursor_id} not found")
    place, rows = database.cursors.pop(cursor_id)
    batch = _batch(rows, command.get("batchSize") or sys.maxsize)
    following = next(rows, None)
    if following is not None:
        database.cursors[cursor_id] = (place, itertools.chain((following,), rows))
    following_id = 0 if following is None else cursor_id
    return {"cursor": {"id": bson.Int64(following_id), "ns": place, "nextBatch": batch}}


def _kill_cursors(database: Database, command: Document) -> Document:
    for cursor_id in command["cursors"]:
        database.cursors.pop(cursor_id, None)
    return {"cursorsKilled": command["cursors"], "cursorsNotFound": [], "cursorsAlive": [], "cursorsUnknown": []}


def _drop(database: Database, command: Document) -> Document:
    _collection(database, command).drop()
    return {}


def _drop_database(database: Database, command: Document) -> Document:
    database.client.drop_database(command["$db"])
    return {"dropped": command["$db"]}


def _list_collections(database: Database, command: Document) -> Document:
    names = database.client[command["$db"]].list_collection_names()
    rows = [{"name": name, "type": "collection", "options": {}, "info": {"readOnly": False}} for name in sorted(names)]
    return {"cursor": {"id": bson.Int64(0), "ns": f"{command['$db']}.$cmd.listCollections", "firstBatch": rows}}


def _create_indexes(database: Database, command: Document) -> Document:
    collection = _collection(database, command)
    for index in command["indexes"]:
        keys = list(index["key"].items())
        collection.create_index(keys, unique=index.get("unique", False), name=index["name"])
    return {"numIndexesAfter": len(collection.index_information())}


def _fail_point(database: Database, command: Document) -> Document:
    mode = command["mode"]
    if mode == "off":
        database.fail_point = None
    else:
        left = float("inf") if mode == "alwaysOn" else mode["times"]
        data = command["data"]
        database.fail_point = FailPoint(frozenset(data["failCommands"]), data, left)
    return {}


def _nothing(database: Database, command: Document) -> Document:
    return {}


COMMANDS: Mapping[str, Callable[[Database, Document], Document]] = {
    "hello": _hello,
    "ismaster": _hello,
    "ping": _nothing,
    "endsessions": _nothing,
    "buildinfo": lambda *_: {"version": "7.0.0", "versionArray": [7, 0, 0, 0]},
    "insert": _insert,
    "update": _update,
    "delete": _delete,
    "find": _find,
    "aggregate": _aggregate,
    "getmore": _get_more,
    "killcursors": _kill_cursors,
    "drop": _drop,
    "dropdatabase": _drop_database,
    "listcollections": _list_collections,
    "createindexes": _create_indexes,
    "configurefailpoint": _fail_point,
}


class Server(socketserver.ThreadingTCPServer):
    """Listens on a loopback port of its own choice."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, login: Login | None) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.database = Database(login)


def main() -> None:
    """Serve until standard input ends."""
    given = json.loads(sys.stdin.readline())
    login = Login.of(given["username"], given["password"]) if given.get("username") else None
    with Server(login) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
