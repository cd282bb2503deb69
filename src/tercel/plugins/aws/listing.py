"""Which objects of a bucket are meant: pages of its listing, filtered, until there are enough."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from tercel.plugin_api import RunContext, TaskFailedError, whole_number
from tercel.plugins.aws.connection import Asking, Place, asking, common
from tercel.plugins.aws.properties import iso
from tercel.plugins.aws.streams import plain_etag

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import ObjectTypeDef

_PAGE = 1000
"""Keys that S3 gives at once, at most."""

Kind = Literal["FILES", "DIRECTORY", "BOTH"]

NO_ENCODING: Mapping[str, str] = {"encodingType": "Leave it out: keys are always given as they are."}
"""Keys travel encoded and are decoded here, so the property has nothing to say."""


class Listed(Asking, Protocol):
    """What tasks and triggers that list a bucket have in common, besides the connection."""

    @property
    def prefix(self) -> str | None:
        """How keys begin."""
        ...

    @property
    def delimiter(self) -> str | None:
        """Where keys may not go on."""
        ...

    @property
    def marker(self) -> str | None:
        """The key to begin behind."""
        ...

    @property
    def regexp(self) -> str | None:
        """What the whole key matches."""
        ...

    @property
    def filter(self) -> Kind:
        """Which kind of keys."""
        ...

    @property
    def max_keys(self) -> int | str:
        """How many, at most."""
        ...

    @property
    def max_files(self) -> int | str | None:
        """How many without a warning."""
        ...


class Object(NamedTuple):
    """An object of a listing; *at* is when it was written, as text."""

    key: str
    etag: str
    size: int
    at: str
    owner: dict[str, str | None] | None

    def as_output(self) -> dict[str, object]:
        """As tasks and triggers give it."""
        return {
            "uri": None,
            "key": self.key,
            "etag": self.etag,
            "size": self.size,
            "lastModified": self.at,
            "owner": self.owner,
        }


def matching(
    client: "S3Client", bucket: str, listed: Listed, context: RunContext, *, wanted: int = _PAGE
) -> Iterator[Object]:
    """All objects that match, in the order of their keys, whatever `maxKeys` says; read a page at a time.

    *wanted* says how many will do if all goes well: the first page is not much longer.

    Raises:
        TaskFailedError: the bucket cannot be listed, or `regexp` is none.
    """
    # As they are: keys may have blanks at either end.
    options = {"Prefix": listed.prefix, "Delimiter": listed.delimiter, "StartAfter": listed.marker}
    given: dict[str, Any] = {name: found for name, value in options.items() if (found := context.render(value or ""))}
    if 2 * wanted + 10 < _PAGE:
        given["MaxKeys"] = 2 * wanted + 10
    holds = _filter(listed, context)
    while True:
        context.stop_if_killed()
        with asking(Place(bucket), context):
            page = client.list_objects_v2(Bucket=bucket, FetchOwner=True, **given, **common(listed, context))
        yield from (_object(one) for one in page.get("Contents", ()) if holds(one.get("Key", "")))
        token = page.get("NextContinuationToken")
        if not page.get("IsTruncated") or not token:
            return
        given["ContinuationToken"] = token
        given.pop("MaxKeys", None)


def limited(client: "S3Client", bucket: str, listed: Listed, context: RunContext) -> list[Object]:
    """The first `maxKeys` objects that match; of those the first `maxFiles`, the rest being warned of."""
    most = whole_number(context, listed.max_keys, "maxKeys", least=1)
    found: list[Object] = []
    for one in matching(client, bucket, listed, context, wanted=most):
        found.append(one)
        if len(found) == most:
            break
    files = len(found) if listed.max_files is None else whole_number(context, listed.max_files, "maxFiles", least=1)
    if len(found) > files:
        context.logger.warn(f"{len(found):,} objects match, and maxFiles allows {files:,}: the others are left out.")
    return found[:files]


def _filter(listed: Listed, context: RunContext) -> Callable[[str], bool]:
    pattern = context.render(listed.regexp or "")
    try:
        fits = re.compile(pattern).fullmatch if pattern.strip() else None
    except re.error as error:
        raise TaskFailedError(
            f"regexp {pattern!r} is no regular expression: {error}.", "It has to match the whole key."
        ) from None
    kind = listed.filter

    def holds(key: str) -> bool:
        return (kind == "BOTH" or (kind == "DIRECTORY") is key.endswith("/")) and (fits is None or bool(fits(key)))

    return holds


def _object(listed: "ObjectTypeDef") -> Object:
    owner = listed.get("Owner")
    at = listed.get("LastModified")
    return Object(
        key=listed.get("Key", ""),
        etag=plain_etag(listed.get("ETag")),
        size=listed.get("Size", 0),
        at="" if at is None else iso(at),
        owner=None if owner is None else {"id": owner.get("ID"), "displayName": owner.get("DisplayName")},
    )
