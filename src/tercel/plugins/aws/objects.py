"""aws.s3: List, Copy, Delete, DeleteList and CreateBucket. What moves content through the worker is elsewhere."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from tercel.plugin_api import Dynamic, Outputs, Part, Problem, RunContext, TaskFailedError, is_on, plugin, whole_number
from tercel.plugins.aws.actions import at_once, bucket_of, key_of
from tercel.plugins.aws.connection import Place, S3Task, asking, common, opened
from tercel.plugins.aws.listing import NO_ENCODING, Kind, limited
from tercel.plugins.aws.properties import text
from tercel.plugins.aws.streams import copy

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import DeleteObjectsOutputTypeDef

_MOST_DELETED = 1000
_DELETIONS_AT_ONCE = 2
_DEFAULT_REGIONS = frozenset({"", "aws-global", "us-east-1"})


class ListingTask(S3Task, frozen=True, kw_only=True):
    """A task that is about objects which match."""

    without_effect: ClassVar[Mapping[str, str]] = {**S3Task.without_effect, **NO_ENCODING}

    bucket: Dynamic
    prefix: Dynamic | None = None
    delimiter: Dynamic | None = None
    marker: Dynamic | None = None
    encoding_type: Dynamic | None = None
    max_keys: int | Dynamic = 1000
    max_files: int | Dynamic | None = None
    regexp: Dynamic | None = None
    filter: Kind = "BOTH"


@plugin("io.kestra.plugin.aws.s3.List")
class List(ListingTask, frozen=True, kw_only=True):
    """List objects of a bucket.

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

    Outputs:
        objects: a list of `key`, `etag` (without quotes), `size` in bytes, `lastModified` and `owner`, which has `id`
            and `displayName`; `uri` is null.

    Example:
        tasks:
          - id: reports
            type: io.kestra.plugin.aws.s3.List
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: reports
            prefix: daily/
            filter: FILES
    """

    def run(self, context: RunContext) -> Outputs:
        """List, page by page."""
        with opened(self, context) as client:
            found = limited(client, bucket_of(self.bucket, context), self, context)
        context.metric("s3.objects.count", len(found))
        return Outputs(objects=[one.as_output() for one in found])


class CopySource(Part, frozen=True, kw_only=True):
    """The object to copy.

    Attributes:
        version_id: without it, its present version.
    """

    bucket: Dynamic
    key: Dynamic
    version_id: Dynamic | None = None


class CopyTarget(Part, frozen=True, kw_only=True):
    """Where the copy goes; what is not given is as in `from`."""

    bucket: Dynamic | None = None
    key: Dynamic | None = None


@plugin("io.kestra.plugin.aws.s3.Copy")
class Copy(S3Task, frozen=True, kw_only=True):
    """Copy an object within S3, of any size.

    Attributes:
        from_: the object.
        to: where the copy goes.
        delete: remove the object afterwards.

    Outputs:
        bucket: of the copy.
        key: of the copy.
        eTag: of the copy, without quotes.

    Example:
        tasks:
          - id: archive
            type: io.kestra.plugin.aws.s3.Copy
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            from:
              bucket: reports
              key: daily/today.csv
            to:
              key: archive/today.csv
    """

    from_: CopySource = msgspec.field(name="from")
    to: CopyTarget = CopyTarget()
    delete: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Copy, then delete where that is wanted."""
        source = Place(bucket_of(self.from_.bucket, context), key_of(self.from_.key, context))
        target = Place(
            text(context, self.to.bucket) or source.bucket,
            (self.to.key and context.render(self.to.key)) or source.key,
        )
        version_id = text(context, self.from_.version_id)
        which: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        deletes = is_on(context, self.delete)
        if source == target and (deletes or not version_id):
            raise TaskFailedError(f"{source} would be copied onto itself.", "Give 'to' another bucket or key.")
        asked = common(self, context)
        with opened(self, context) as client, asking(source, context):
            where: dict[str, Any] = {"Bucket": source.bucket, "Key": source.key, **which, **asked}
            size = client.head_object(**where)["ContentLength"]
            etag = copy(
                client,
                source,
                target,
                size=size,
                version_id=version_id,
                common=asked,
                check=context.stop_if_killed,
            )
            if deletes:
                client.delete_object(**where)
        return Outputs(bucket=target.bucket, key=target.key, eTag=etag)


@plugin("io.kestra.plugin.aws.s3.Delete")
class Delete(S3Task, frozen=True, kw_only=True):
    """Delete an object; one that is not there counts as deleted, as S3 has it.

    Attributes:
        bucket: its bucket.
        key: its key.
        version_id: the version to remove for good.
        bypass_governance_retention: delete although a retention in the mode GOVERNANCE holds it.
        mfa: serial number and code of the device that the bucket wants for deletions, with a blank in between.

    Outputs:
        versionId: of the version removed, or of the delete marker.
        deleteMarker: whether a marker hides the object now, which is still there.
        requestCharged: `requester` where the one who asks pays.

    Example:
        tasks:
          - id: tidy
            type: io.kestra.plugin.aws.s3.Delete
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: reports
            key: daily/today.csv
    """

    bucket: Dynamic
    key: Dynamic
    version_id: Dynamic | None = None
    bypass_governance_retention: bool | Dynamic | None = None
    mfa: Dynamic | None = None

    def run(self, context: RunContext) -> Outputs:
        """Delete it."""
        place = Place(bucket_of(self.bucket, context), key_of(self.key, context))
        options: dict[str, Any] = {"Bucket": place.bucket, "Key": place.key, **common(self, context)}
        if version_id := text(context, self.version_id):
            options["VersionId"] = version_id
        if self.bypass_governance_retention is not None:
            options["BypassGovernanceRetention"] = is_on(context, self.bypass_governance_retention)
        if mfa := text(context, self.mfa):
            context.add_secret(mfa)
            options["MFA"] = mfa
        with opened(self, context) as client, asking(place, context):
            answer = client.delete_object(**options)
        return Outputs(
            versionId=answer.get("VersionId"),
            deleteMarker=answer.get("DeleteMarker", False),
            requestCharged=answer.get("RequestCharged"),
        )


@plugin("io.kestra.plugin.aws.s3.DeleteList")
class DeleteList(ListingTask, frozen=True, kw_only=True):
    """Delete objects that match.

    Attributes:
        bucket: its name.
        prefix: how the keys begin.
        delimiter: keys that go on after it, behind the prefix, are left out.
        marker: only keys after this one, in the order of their bytes.
        encoding_type: has no effect; keys are always taken as they are.
        max_keys: so many objects that match, at most.
        max_files: as *maxKeys*, but it is warned of those left out.
        regexp: has to match the whole key.
        filter: DIRECTORY for keys that end in `/`, FILES for those that do not.
        concurrent: how many requests, each of up to 1000 objects, are under way at once; at least 2.
        error_on_empty: fail where nothing matches.

    Outputs:
        count: objects deleted.
        size: their bytes.

    Example:
        tasks:
          - id: tidy
            type: io.kestra.plugin.aws.s3.DeleteList
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: reports
            prefix: daily/
            regexp: ".*[.]tmp"
    """

    concurrent: int | Dynamic | None = None
    error_on_empty: bool | Dynamic = False

    def problems(self) -> Iterator[Problem]:
        """Fewer than two at once."""
        yield from super().problems()
        if isinstance(self.concurrent, int) and self.concurrent < 2:
            yield Problem(f"'concurrent' is {self.concurrent}, and at least 2 is wanted.", "", "", ("concurrent",))

    def run(self, context: RunContext) -> Outputs:
        """List, then delete a thousand at a time."""
        workers = _DELETIONS_AT_ONCE
        if self.concurrent is not None:
            workers = whole_number(context, self.concurrent, "concurrent", least=2)
        place = Place(bucket_of(self.bucket, context))
        asked = common(self, context)
        with opened(self, context) as client:
            found = limited(client, place.bucket, self, context)
            if not found and is_on(context, self.error_on_empty):
                raise TaskFailedError(f"No object of {place} matches.", "errorOnEmpty: false accepts that.")

            def delete(start: int) -> None:
                context.stop_if_killed()
                keys = [one.key for one in found[start : start + _MOST_DELETED]]
                with asking(place, context):
                    answer = client.delete_objects(
                        Bucket=place.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}, **asked
                    )
                _check(answer, place, len(keys))

            at_once(delete, range(0, len(found), _MOST_DELETED), workers)
        size = sum(one.size for one in found)
        context.metric("count", len(found))
        context.metric("size", size)
        return Outputs(count=len(found), size=size)


def _check(answer: "DeleteObjectsOutputTypeDef", place: Place, asked: int) -> None:
    errors = answer.get("Errors") or []
    if errors:
        first = errors[0]
        which = Place(place.bucket, first.get("Key", ""))
        raise TaskFailedError(
            f"{len(errors)} of {asked} objects could not be deleted. {which}: {first.get('Code')}: "
            f"{first.get('Message')}"
        )


@plugin("io.kestra.plugin.aws.s3.CreateBucket")
class CreateBucket(S3Task, frozen=True, kw_only=True):
    """Make a bucket.

    Attributes:
        bucket: its name.

    Outputs:
        bucket: its name.
        region: where it is.

    Example:
        tasks:
          - id: make
            type: io.kestra.plugin.aws.s3.CreateBucket
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: "reports-{{ execution.id | lower }}"
    """

    bucket: Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Make it."""
        place = Place(bucket_of(self.bucket, context))
        with opened(self, context) as client, asking(place, context):
            region = client.meta.region_name or ""
            elsewhere: dict[str, Any] = {}
            if region not in _DEFAULT_REGIONS:
                elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            client.create_bucket(Bucket=place.bucket, **elsewhere)
        return Outputs(bucket=place.bucket, region="us-east-1" if region in _DEFAULT_REGIONS else region)
