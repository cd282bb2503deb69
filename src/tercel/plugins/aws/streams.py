"""Objects of any size, a part at a time: read in order while the next parts are on their way, written, copied.

No more than a few parts are in memory. What is cut on the way down is asked for again, part by part; what fails on
the way up leaves no parts behind.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlencode

from tercel.item_files import stream_of
from tercel.plugin_api import RunContext, TaskFailedError
from tercel.plugins.aws.connection import Place

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef

PART_BYTES = 8 << 20
"""Objects of more are sent in parts, and are dealt with one at a time."""

_FETCHED_BYTES = 4 << 20
"""Of a part that is fetched; whoever reads it has it in memory twice."""

_PARTS_AT_ONCE = 2
_MOST_PARTS = 10_000
_TRIES = 5
_PAUSE_S = 0.2
_COPY_BYTES = 5 << 30
_COPY_PART_BYTES = 512 << 20
_COPIES_AT_ONCE = 8


# Down


class Download:
    """An object that is being fetched.

    Attributes:
        answer: what S3 has said of it.
        size: in bytes.
    """

    def __init__(
        self, client: "S3Client", place: Place, answer: "GetObjectOutputTypeDef", common: Mapping[str, Any]
    ) -> None:
        self.answer = answer
        self.size = answer["ContentLength"]
        self._client = client
        self._place = place
        self._common = common

    @property
    def etag(self) -> str:
        """Tells this content from others."""
        return plain_etag(self.answer.get("ETag"))

    def save(self, context: RunContext, name: str) -> str:
        """Store it as *name* in internal storage, as a whole or not at all, and give its URI."""
        blocks = self._blocks(context.stop_if_killed)
        try:
            try:
                return context.save_stream(stream_of(blocks), name)
            except OSError as error:
                raise TaskFailedError(
                    f"{self._place} cannot be stored: {error.strerror or error}.",
                    "Look at the disk of internal storage.",
                ) from error
        finally:
            blocks.close()

    def _blocks(self, check: Callable[[], None]) -> Generator[bytes]:
        first = min(self.size, _FETCHED_BYTES)
        body = self.answer["Body"]
        try:
            content = _whole(lambda: body.read(first), first)
        finally:
            body.close()
        yield self._part(0, first, check) if content is None else content
        if self.size <= first:
            return
        starts = iter(range(first, self.size, _FETCHED_BYTES))
        with ThreadPoolExecutor(_PARTS_AT_ONCE, "tercel-s3") as pool:
            coming: deque[Future[bytes]] = deque()
            try:
                for start in starts:
                    coming.append(pool.submit(self._part, start, min(_FETCHED_BYTES, self.size - start), check))
                    if len(coming) > _PARTS_AT_ONCE:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _part(self, start: int, length: int, check: Callable[[], None]) -> bytes:
        """A part of the same content, asked for again where the connection breaks."""
        if length == 0:
            return b""
        which: dict[str, Any] = {"Bucket": self._place.bucket, "Key": self._place.key, **self._common}
        if self.answer.get("VersionId"):
            which["VersionId"] = self.answer["VersionId"]
        if self.answer.get("ETag"):
            which["IfMatch"] = self.answer["ETag"]
        for attempt in range(_TRIES):
            check()
            answer = self._client.get_object(**which, Range=f"bytes={start}-{start + length - 1}")
            with answer["Body"] as body:
                content = _whole(lambda body=body: body.read(length), length)
            if content is not None:
                return content
            Event().wait(_PAUSE_S * 2**attempt)
        raise TaskFailedError(
            f"The connection broke {_TRIES} times while {self._place} was fetched, at byte {start:,} of {self.size:,}.",
            "Try again.",
        )


def fetch(
    client: "S3Client", place: Place, common: Mapping[str, Any], *, version_id: str | None = None, etag: str = ""
) -> Download:
    """Begin to fetch an object; with *etag* only if it is still the same. Errors are botocore's."""
    which: dict[str, Any] = {"VersionId": version_id} if version_id else {}
    if etag:
        which["IfMatch"] = f'"{etag}"'
    return Download(client, place, client.get_object(Bucket=place.bucket, Key=place.key, **which, **common), common)


def plain_etag(etag: str | None) -> str:
    """An ETag without its quotes."""
    return (etag or "").strip('"')


def _whole(read: Callable[[], bytes], length: int) -> bytes | None:
    """What *read* gives; None where the connection broke before all was there."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError  # noqa: PLC0415  # heavy, and an extra

    try:
        content = read()
    except (HTTPClientError, IncompleteReadError, OSError):
        return None
    return content if len(content) == length else None


# Up


def upload(
    source: BinaryIO,
    size: int,
    client: "S3Client",
    place: Place,
    options: Mapping[str, Any],
    *,
    common: Mapping[str, Any],
    check: Callable[[], None],
) -> tuple[str, str | None]:
    """Send a file, in parts where it is large; gives ETag and version. Errors are botocore's.

    Args:
        source: is read to its end.
        size: its bytes.
        client: of S3.
        place: where it goes.
        options: what the object is to have, in the words of botocore; with a checksum it is sent in one piece.
        common: parameters of every call.
        check: raises where it has to end.
    """
    where: dict[str, Any] = {"Bucket": place.bucket, "Key": place.key, **common}
    check()
    if size <= PART_BYTES or any(name.startswith("Checksum") and name != "ChecksumAlgorithm" for name in options):
        body = source if source.seekable() else source.read()
        put = client.put_object(**where, **options, Body=body, ContentLength=size)
        return plain_etag(put.get("ETag")), put.get("VersionId")
    part_bytes = max(PART_BYTES, -(-size // _MOST_PARTS))
    algorithm = {name: options[name] for name in ("ChecksumAlgorithm",) if name in options}

    def parts(upload_id: str, pool: ThreadPoolExecutor) -> Iterator["Future[dict[str, Any]]"]:
        def send(number: int, content: bytes) -> dict[str, Any]:
            answer = client.upload_part(**where, **algorithm, UploadId=upload_id, PartNumber=number, Body=content)
            return _part_of(number, answer)

        number = 0
        while content := source.read(part_bytes):
            check()
            number += 1
            yield pool.submit(send, number, content)

    with _multipart(client, where, options) as (upload_id, complete):
        return complete(_all(lambda pool: parts(upload_id, pool), _PARTS_AT_ONCE))


def copy(
    client: "S3Client",
    source: Place,
    target: Place,
    *,
    size: int,
    common: Mapping[str, Any],
    check: Callable[[], None],
    etag: str = "",
    version_id: str | None = None,
) -> str:
    """Copy an object, within S3; with *etag* only if it is still the same. Gives the copy's ETag."""
    check()
    origin: dict[str, Any] = {"CopySource": _address(source, version_id), **_for_source(common)}
    if etag:
        origin["CopySourceIfMatch"] = f'"{etag}"'
    where: dict[str, Any] = {"Bucket": target.bucket, "Key": target.key, **_for_target(common)}
    if size <= _COPY_BYTES:
        return plain_etag(client.copy_object(**where, **origin).get("CopyObjectResult", {}).get("ETag"))
    which: dict[str, Any] = {"VersionId": version_id} if version_id else {}
    head = cast(
        "dict[str, Any]", client.head_object(Bucket=source.bucket, Key=source.key, **which, **_for_target(common))
    )
    options = {name: head[name] for name in _KEPT if head.get(name)}

    def parts(upload_id: str, pool: ThreadPoolExecutor) -> Iterator["Future[dict[str, Any]]"]:
        def take(number: int, start: int) -> dict[str, Any]:
            span = f"bytes={start}-{min(start + _COPY_PART_BYTES, size) - 1}"
            answer = client.upload_part_copy(
                **where, **origin, UploadId=upload_id, PartNumber=number, CopySourceRange=span
            )
            return _part_of(number, answer["CopyPartResult"])

        for number, start in enumerate(range(0, size, _COPY_PART_BYTES), 1):
            check()
            yield pool.submit(take, number, start)

    with _multipart(client, where, options) as (upload_id, complete):
        return complete(_all(lambda pool: parts(upload_id, pool), _COPIES_AT_ONCE))[0]


_KEPT = (
    *("Metadata", "CacheControl", "ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage"),
    *("StorageClass", "ServerSideEncryption"),
)
"""What a copy in parts is told of the original; one in a single piece takes all by itself."""


def _address(place: Place, version_id: str | None) -> dict[str, str]:
    return {"Bucket": place.bucket, "Key": place.key, **({"VersionId": version_id} if version_id else {})}


def _for_source(common: Mapping[str, Any]) -> dict[str, Any]:
    owner = common.get("ExpectedBucketOwner")
    return {"ExpectedSourceBucketOwner": owner} if owner else {}


def _for_target(common: Mapping[str, Any]) -> dict[str, Any]:
    """Without the owner, who is that of the source: the target may be somebody else's."""
    return {name: value for name, value in common.items() if name != "ExpectedBucketOwner"}


Complete = Callable[[Sequence[Mapping[str, Any]]], tuple[str, str | None]]


@contextmanager
def _multipart(
    client: "S3Client", where: Mapping[str, Any], options: Mapping[str, Any]
) -> Generator[tuple[str, Complete]]:
    """The id of an upload in parts, and what makes an object of them; without that nothing of them is left."""
    upload_id = client.create_multipart_upload(**where, **options)["UploadId"]

    def complete(parts: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
        made = client.complete_multipart_upload(
            **where,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},  # pyright: ignore[reportArgumentType]  # made of answers
        )
        return plain_etag(made.get("ETag")), made.get("VersionId")

    try:
        yield upload_id, complete
    except BaseException:
        with suppress(Exception):  # what went wrong first is to be told
            client.abort_multipart_upload(**where, UploadId=upload_id)
        raise


def _all(
    parts: Callable[[ThreadPoolExecutor], Iterator["Future[dict[str, Any]]"]], at_once: int
) -> list[dict[str, Any]]:
    """The results of *parts*, in order; no more than *at_once* and one are under way."""
    done: list[dict[str, Any]] = []
    coming: deque[Future[dict[str, Any]]] = deque()
    with ThreadPoolExecutor(at_once, "tercel-s3") as pool:
        try:
            for part in parts(pool):
                coming.append(part)
                if len(coming) >= at_once:
                    done.append(coming.popleft().result())
            done.extend(part.result() for part in coming)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return done


def _part_of(number: int, answer: Mapping[str, Any]) -> dict[str, Any]:
    sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
    return {"PartNumber": number, "ETag": answer["ETag"], **sums}


def query(values: Mapping[str, str]) -> str:
    """Tags as S3 wants them."""
    return urlencode(values)
