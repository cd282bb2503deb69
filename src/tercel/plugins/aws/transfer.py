"""aws.s3: Upload, Download and Downloads, between internal storage and buckets."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import msgspec

from tercel.plugin_api import Dynamic, Outputs, Problem, RunContext, TaskFailedError, is_on, plugin, whole_number
from tercel.plugins.aws.actions import (
    Action,
    MoveTo,
    Taken,
    act,
    at_once,
    bucket_of,
    fetch_all,
    key_of,
    stored_name,
    target_of,
)
from tercel.plugins.aws.connection import Place, S3Task, asking, common, opened
from tercel.plugins.aws.listing import Kind, Object, limited
from tercel.plugins.aws.objects import ListingTask
from tercel.plugins.aws.properties import instant, text, text_map
from tercel.plugins.aws.streams import PART_BYTES, fetch, query, upload
from tercel.plugins.aws.streams import Download as Download_

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_UPLOADS_AT_ONCE = 16
_EMPTY = "No files to upload: the 'from' property contains an empty collection or array"


@plugin("io.kestra.plugin.aws.s3.Upload")
class Upload(S3Task, frozen=True, kw_only=True):
    """Store files of internal storage as objects, streamed, large ones in parts.

    Attributes:
        bucket: the bucket.
        from_: address of a file; a list of them, a map from names to them, or an expression that gives either.
        key: of the object; of several files the prefix, to which `/` and their names are added.
        metadata: kept with the object, by name.
        tagging: tags, by name.
        cache_control: how long the object may be kept by caches.
        content_type: its media type.
        content_encoding: how it is encoded, such as `gzip`.
        content_disposition: how it is to be shown or called when downloaded.
        content_language: its language.
        content_length: the bytes that the file has to have.
        expires: when it is no longer to be kept by caches.
        acl: who may read it, such as `private` and `public-read`.
        storage_class: such as `STANDARD_IA`.
        server_side_encryption: `AES256` or `aws:kms`.
        bucket_key_enabled: use the bucket's key for encryption by KMS.
        checksum_algorithm: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
        checksum: by that algorithm, in Base64; S3 compares.
        object_lock_mode: `GOVERNANCE` or `COMPLIANCE`.
        object_lock_legal_hold_status: `ON` or `OFF`.
        object_lock_retain_until_date: until when it cannot be deleted.
        concurrent_uploads: how many files are sent at once, at most.

    Outputs:
        bucket: the bucket.
        key: as given.
        eTag: of the object, without quotes; of a single file.
        versionId: of the object, where the bucket keeps versions; of a single file.
        files: of several files, by name: `eTag`, `versionId` and `contentLength`.

    Example:
        tasks:
          - id: report
            type: io.kestra.plugin.core.storage.Write
            extension: .csv
            content: |
              day,total
              2030-01-01,12
          - id: upload
            type: io.kestra.plugin.aws.s3.Upload
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: reports
            key: daily/today.csv
            from: "{{ outputs.report.uri }}"
            contentType: text/csv
    """

    bucket: Dynamic
    from_: list[Dynamic] | dict[str, Dynamic] | Dynamic = msgspec.field(name="from")
    key: Dynamic
    metadata: dict[str, Dynamic] | Dynamic | None = None
    tagging: dict[str, Dynamic] | Dynamic | None = None
    cache_control: Dynamic | None = None
    content_type: Dynamic | None = None
    content_encoding: Dynamic | None = None
    content_disposition: Dynamic | None = None
    content_language: Dynamic | None = None
    content_length: int | Dynamic | None = None
    expires: Dynamic | None = None
    acl: Dynamic | None = None
    storage_class: Dynamic | None = None
    server_side_encryption: Dynamic | None = None
    bucket_key_enabled: bool | Dynamic | None = None
    checksum_algorithm: Dynamic | None = None
    checksum: Dynamic | None = None
    object_lock_mode: Dynamic | None = None
    object_lock_legal_hold_status: Dynamic | None = None
    object_lock_retain_until_date: Dynamic | None = None
    concurrent_uploads: int | Dynamic = 50

    def run(self, context: RunContext) -> Outputs:
        """Send the file, or a few at once."""
        bucket, key = bucket_of(self.bucket, context), key_of(self.key, context)
        files = self._files(context)
        most = min(whole_number(context, self.concurrent_uploads, "concurrentUploads", least=1), _UPLOADS_AT_ONCE)
        options, asked = self._options(context), common(self, context)
        sizes = {name: self._size(uri, context) for name, uri in files.items()}
        with opened(self, context) as client:

            def send(name: str) -> dict[str, object]:
                uri, size = files[name], sizes[name]
                place = Place(bucket, f"{key.rstrip('/')}/{name}" if name else key)
                with context.open_file(uri) as source, asking(place, context):
                    etag, version = upload(
                        source, size, client, place, options, common=asked, check=context.stop_if_killed
                    )
                return {"eTag": etag, "versionId": version, "contentLength": size}

            # One that goes in parts keeps several connections busy by itself.
            small = [name for name in files if sizes[name] <= PART_BYTES]
            sent = dict(zip(small, at_once(send, small, most), strict=True))
            sent = {name: sent[name] if name in sent else send(name) for name in files}
        context.metric("file.count", len(sent))
        context.metric("file.size", sum(sizes.values()))
        if "" in sent:
            return Outputs(bucket=bucket, key=key, eTag=sent[""]["eTag"], versionId=sent[""]["versionId"])
        return Outputs(bucket=bucket, key=key, files=sent)

    def _files(self, context: RunContext) -> dict[str, str]:
        """Addresses by name; a single one under an empty name."""
        given: object = self.from_
        if isinstance(given, str):
            given = context.render_typed(given.strip())
            if isinstance(given, str) and given.lstrip().startswith(("[", "{")):
                try:
                    given = json.loads(given)
                except ValueError as error:
                    raise TaskFailedError(f"'from' is neither an address nor JSON: {error}.") from error
        else:
            given = context.render_value(given)
        if isinstance(given, Mapping):
            found = {str(name): str(uri) for name, uri in cast("Mapping[object, object]", given).items()}
        elif isinstance(given, list | tuple):
            uris = [str(uri) for uri in cast("Sequence[object]", given)]
            found = {"": uris[0]} if len(uris) == 1 else {_name(uri): uri for uri in uris}
            if len(found) != len(uris):
                raise TaskFailedError(
                    "'from' lists several files of one name, and one would replace the other.",
                    "Give a map from names to addresses.",
                )
        else:
            uri = "" if given is None else str(given).strip()
            if not uri:
                raise TaskFailedError("'from' is empty when rendered.", "Give the address of a file: kestra:///….")
            found = {"": uri}
        if not found:
            raise TaskFailedError(_EMPTY)
        return found

    def _size(self, uri: str, context: RunContext) -> int:
        size = context.file_size(uri)
        if self.content_length is not None:
            wanted = whole_number(context, self.content_length, "contentLength")
            if wanted != size:
                raise TaskFailedError(f"{uri} has {size:,} bytes, and contentLength is {wanted:,}.")
        return size

    def _options(self, context: RunContext) -> dict[str, Any]:
        """What the object is to have, in the words of botocore."""
        algorithm = (text(context, self.checksum_algorithm) or "").upper().replace("_", "")
        checksum = text(context, self.checksum)
        if checksum and not algorithm:
            raise TaskFailedError("'checksum' needs 'checksumAlgorithm'.", "Say which one it is, such as SHA256.")
        acl, encryption = text(context, self.acl), text(context, self.server_side_encryption)
        options: dict[str, Any] = {
            "Metadata": text_map(context, self.metadata, "metadata"),
            "Tagging": query(text_map(context, self.tagging, "tagging")),
            "CacheControl": text(context, self.cache_control),
            "ContentType": text(context, self.content_type),
            "ContentEncoding": text(context, self.content_encoding),
            "ContentDisposition": text(context, self.content_disposition),
            "ContentLanguage": text(context, self.content_language),
            "Expires": instant(context, self.expires, "expires"),
            "ACL": acl and acl.lower().replace("_", "-"),
            "StorageClass": text(context, self.storage_class),
            "ServerSideEncryption": encryption and encryption.replace("AWS_KMS", "aws:kms"),
            "BucketKeyEnabled": is_on(context, self.bucket_key_enabled),
            "ChecksumAlgorithm": algorithm,
            "ObjectLockMode": text(context, self.object_lock_mode),
            "ObjectLockLegalHoldStatus": text(context, self.object_lock_legal_hold_status),
            "ObjectLockRetainUntilDate": instant(
                context, self.object_lock_retain_until_date, "objectLockRetainUntilDate"
            ),
        }
        if checksum:
            options[f"Checksum{algorithm}"] = checksum
        return {name: value for name, value in options.items() if value}


def _name(uri: str) -> str:
    return unquote(uri.rstrip("/").rpartition("/")[2])


@plugin("io.kestra.plugin.aws.s3.Download")
class Download(S3Task, frozen=True, kw_only=True):
    """Fetch an object, or those that match, into internal storage, streamed, large ones in parts.

    Attributes:
        bucket: the bucket.
        key: of the object.
        version_id: without it, its present version.
        prefix: fetch objects whose keys begin so.
        delimiter: keys that go on after it, behind the prefix, are left out.
        regexp: fetch objects whose whole keys it matches.
        max_keys: so many objects that match, at most.
        max_files: as *maxKeys*, but it is warned of those left out.

    Outputs:
        uri: the file in internal storage.
        contentLength: its bytes.
        contentType: the object's media type.
        metadata: what is kept with the object, by name.
        eTag: of the object, without quotes.
        versionId: of the object, where the bucket keeps versions.
        files: without *key*, all these by the keys of the objects.

    Example:
        tasks:
          - id: fetch
            type: io.kestra.plugin.aws.s3.Download
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: reports
            key: daily/today.csv
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ read(outputs.fetch.uri) }}"
    """

    bucket: Dynamic
    key: Dynamic | None = None
    version_id: Dynamic | None = None
    prefix: Dynamic | None = None
    delimiter: Dynamic | None = None
    regexp: Dynamic | None = None
    max_keys: int | Dynamic = 1000
    max_files: int | Dynamic | None = None

    @property
    def marker(self) -> str | None:
        """Nowhere to begin behind."""
        return None

    @property
    def filter(self) -> Kind:
        """Folders have no content."""
        return "FILES"

    def problems(self) -> Iterator[Problem]:
        """Nothing that says which object."""
        yield from super().problems()
        if self.key is None and self.prefix is None and self.regexp is None and self.delimiter is None:
            yield Problem("Download needs 'key', or 'prefix' or 'regexp'.", "Say which object to fetch.", "", ("key",))

    def run(self, context: RunContext) -> Outputs:
        """Fetch it, or one after the other."""
        bucket, asked = bucket_of(self.bucket, context), common(self, context)
        with opened(self, context) as client:
            if self.key is not None:
                place = Place(bucket, key_of(self.key, context))
                return self._fetched(client, place, asked, context)
            found = limited(client, bucket, self, context)
            files = {one.key: self._fetched(client, Place(bucket, one.key), asked, context) for one in found}
        return Outputs(files=files)

    def _fetched(self, client: "S3Client", place: Place, asked: Mapping[str, Any], context: RunContext) -> Outputs:
        version_id = text(context, self.version_id) if self.key is not None else None
        with asking(place, context):
            download = fetch(client, place, asked, version_id=version_id)
            uri = download.save(context, f"{os.urandom(4).hex()}-{stored_name(place.key)}")
        context.metric("file.size", download.size)
        return _told(download, uri)


def _told(download: Download_, uri: str) -> Outputs:
    answer = download.answer
    return Outputs(
        uri=uri,
        contentLength=download.size,
        contentType=answer.get("ContentType"),
        metadata=dict(answer.get("Metadata", {})),
        eTag=download.etag,
        versionId=answer.get("VersionId"),
    )


@plugin("io.kestra.plugin.aws.s3.Downloads")
class Downloads(ListingTask, frozen=True, kw_only=True):
    """Fetch objects that match into internal storage, then move them away, delete or leave them.

    Attributes:
        bucket: its name.
        prefix: how the keys begin.
        delimiter: keys that go on after it, behind the prefix, are left out.
        marker: only keys after this one, in the order of their bytes.
        encoding_type: has no effect; keys are always given as they are.
        max_keys: so many objects that match, at most.
        max_files: as *maxKeys*, but it is warned of those left out.
        regexp: has to match the whole key.
        filter: DIRECTORY for keys that end in `/`, FILES for those that do not.
        action: MOVE, DELETE or NONE, once all have been fetched.
        move_to: where to, with MOVE.

    Outputs:
        objects: as List gives them, each with the `uri` of its file.
        outputFiles: the files by the keys of the objects.

    Example:
        tasks:
          - id: fetch
            type: io.kestra.plugin.aws.s3.Downloads
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: reports
            prefix: daily/
            filter: FILES
            action: MOVE
            moveTo:
              key: archive
    """

    action: Action = "NONE"
    move_to: MoveTo | None = None

    def problems(self) -> Iterator[Problem]:
        """A move to nowhere."""
        yield from super().problems()
        if self.action == "MOVE" and self.move_to is None:
            yield Problem("MOVE needs 'moveTo'.", "Say where to: moveTo: {key: archive/}.", "", ("action",))

    def run(self, context: RunContext) -> Outputs:
        """Fetch all, then do what is to be done to them."""
        bucket, asked = bucket_of(self.bucket, context), common(self, context)
        with opened(self, context) as client:
            found = limited(client, bucket, self, context)
            uris = fetch_all(client, bucket, found, asked, context)
            fetched = [(one, uri) for one, uri in zip(found, uris, strict=True) if uri is not None]
            taken = [] if self.action == "NONE" else [self._taken(bucket, one, context) for one, _ in fetched]
            at_once(lambda one: _done(client, one, asked, context), taken)
        context.metric("s3.objects.count", len(fetched))
        context.metric("file.size", sum(one.size for one, _ in fetched))
        return Outputs(
            objects=[{**one.as_output(), "uri": uri} for one, uri in fetched],
            outputFiles={one.key: uri for one, uri in fetched},
        )

    def _taken(self, bucket: str, one: Object, context: RunContext) -> Taken:
        target = None
        if self.action == "MOVE" and self.move_to is not None:
            target = target_of(self.move_to, bucket, one, context)
            if target == (bucket, one.key):
                raise TaskFailedError(f"{target} would be moved onto itself.", "Give 'moveTo' another bucket or key.")
        return Taken(bucket, one.key, one.etag, one.size, target and (target.bucket, target.key))


def _done(client: "S3Client", taken: Taken, asked: Mapping[str, Any], context: RunContext) -> None:
    if not act(client, taken, asked, context):
        context.logger.warn(f"{Place(taken.bucket, taken.key)} was written again since it was fetched: it stays.")
