"""What is done to objects that were taken: fetched into internal storage, then moved away or deleted.

Moves and deletions hold for one content of an object, by its ETag: doing one again changes nothing, and what was
written under the key since stays.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from tercel.plugin_api import Dynamic, Part, RunContext, TaskFailedError
from tercel.plugins.aws.connection import Place, asking, code_of
from tercel.plugins.aws.listing import Object
from tercel.plugins.aws.properties import text
from tercel.plugins.aws.streams import PART_BYTES, copy, fetch, plain_etag

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Action = Literal["MOVE", "DELETE", "NONE"]

_AT_ONCE = 4
_LONGEST_SUFFIX = 20
_GONE = frozenset({"NoSuchKey", "NoSuchVersion", "404"})
_CHANGED = frozenset({"PreconditionFailed", "412"})
_UNKNOWN_CONDITION = frozenset({"NotImplemented", "InvalidArgument", "501"})

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


class MoveTo(Part, frozen=True, kw_only=True):
    """Where objects are moved to.

    Attributes:
        key: the folder, to which the last part of the object's key is added; it may use `object`.
        bucket: without it, the one that they come from.
    """

    key: Dynamic
    bucket: Dynamic | None = None


class Taken(msgspec.Struct, frozen=True):
    """An object to be moved away or deleted.

    Attributes:
        target: bucket and key to move it to; None to delete it.
    """

    bucket: str
    key: str
    etag: str
    size: int
    target: tuple[str, str] | None = None


def target_of(move_to: MoveTo, bucket: str, one: Object, context: RunContext) -> Place:
    """Where an object is to be moved."""
    extra = {"object": one.as_output()}
    folder = context.render(move_to.key, extra).rstrip("/")
    other = "" if move_to.bucket is None else context.render(move_to.bucket, extra).strip()
    name = one.key.rstrip("/").rpartition("/")[2] + ("/" if one.key.endswith("/") else "")
    return Place(other or bucket, f"{folder}/{name}" if folder else name)


def stored_name(key: str) -> str:
    """The name of an object's file in internal storage: of the key's own, with its suffix."""
    suffix = _suffix(key)
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest() + suffix


def _suffix(key: str) -> str:
    stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
    fits = dot and stem and suffix.isalnum() and len(suffix.encode()) <= _LONGEST_SUFFIX
    return f".{suffix}" if fits else ""


def fetch_all(
    client: "S3Client", bucket: str, objects: Sequence[Object], common: Mapping[str, Any], context: RunContext
) -> list[str | None]:
    """Store objects, a few at once; gives the URI of each, and None for one that is gone or changed since."""
    from botocore.exceptions import ClientError  # noqa: PLC0415  # heavy, and an extra

    def store(one: Object) -> str | None:
        context.stop_if_killed()
        place = Place(bucket, one.key)
        with asking(place, context):
            try:
                download = fetch(client, place, common, etag=one.etag)
            except ClientError as error:
                if code_of(error) in _GONE | _CHANGED:
                    return None
                raise
            return download.save(context, stored_name(one.key))

    # One that comes in parts keeps several connections busy by itself.
    small = iter(at_once(store, [one for one in objects if one.size <= PART_BYTES]))
    return [next(small) if one.size <= PART_BYTES else store(one) for one in objects]


def act(client: "S3Client", taken: Taken, common: Mapping[str, Any], context: RunContext) -> bool:
    """Move or delete an object, if that was not done before; False where it has another content by now."""
    from botocore.exceptions import ClientError  # noqa: PLC0415  # heavy, and an extra

    context.stop_if_killed()
    place = Place(taken.bucket, taken.key)
    where: dict[str, Any] = {"Bucket": taken.bucket, "Key": taken.key, **common}
    with asking(place, context):
        try:
            # Asked first, as not every store heeds conditions.
            if plain_etag(client.head_object(**where).get("ETag")) != taken.etag:
                return False
            if taken.target is not None:
                copy(
                    client,
                    place,
                    Place(*taken.target),
                    size=taken.size,
                    etag=taken.etag,
                    common=common,
                    check=context.stop_if_killed,
                )
            _delete(client, where, taken.etag)
        except ClientError as error:
            code = code_of(error)
            if code in _CHANGED:
                return False
            if code not in _GONE:
                raise
    return True


def _delete(client: "S3Client", where: Mapping[str, Any], etag: str) -> None:
    from botocore.exceptions import ClientError  # noqa: PLC0415  # heavy, and an extra

    try:
        client.delete_object(**where, IfMatch=f'"{etag}"')
    except ClientError as error:
        if code_of(error) not in _UNKNOWN_CONDITION:
            raise
        client.delete_object(**where)


def at_once(do: Callable[[_Given], _Made], given: Sequence[_Given], most: int = _AT_ONCE) -> list[_Made]:
    """What *do* makes of each of *given*, in order, *most* at a time; the first error ends it."""
    if len(given) < 2:
        return [do(one) for one in given]
    with ThreadPoolExecutor(min(most, len(given)), "tercel-s3") as pool:
        doing = [pool.submit(do, one) for one in given]
        try:
            return [one.result() for one in doing]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def bucket_of(given: str, context: RunContext) -> str:
    """The bucket that a task names."""
    bucket = text(context, given)
    if bucket is None:
        raise TaskFailedError("'bucket' is empty when rendered.", "Name the bucket.")
    return bucket


def key_of(given: str, context: RunContext) -> str:
    """The key that a task names."""
    key = context.render(given)
    if not key:
        raise TaskFailedError("'key' is empty when rendered.", "Name the object.")
    return key
