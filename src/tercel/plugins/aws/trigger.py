"""aws.s3.Trigger: waits for objects.

Evaluating it looks and fetches, and notes in the trigger's memory what it has taken; only once that is written,
together with the execution, settling it moves or deletes them.
"""

from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, cast

import msgspec

from tercel.plugin_api import (
    Dynamic,
    PollContext,
    PollingTrigger,
    Problem,
    TaskFailedError,
    is_on,
    parse_duration,
    plugin,
    whole_number,
)
from tercel.plugins.aws.actions import Action, MoveTo, Taken, act, at_once, bucket_of, fetch_all, target_of
from tercel.plugins.aws.connection import Place, common, opened
from tercel.plugins.aws.listing import NO_ENCODING, Kind, Object, matching
from tercel.plugins.aws.memory import Change, KnownObjects
from tercel.plugins.aws.properties import seconds, text

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_KNOWN = "known"
_STATE_KEY = "stateKey"
_TO_SETTLE = "toSettle"
_TOO_LARGE = "tooLarge"


class _Found(NamedTuple):
    object: Object
    change: Change
    target: Place | None


@plugin("io.kestra.plugin.aws.s3.Trigger")
class Trigger(PollingTrigger, frozen=True, kw_only=True):
    """Start an execution when there are new objects: one for all that are found at once.

    Each object starts an execution once, whatever crashes; with action NONE it does so again only when it is written
    anew. Executions see as `trigger.objects` what List gives, each object with the `uri` of its file in internal
    storage and `changeType`, CREATE or UPDATE. What matches but was there before does not count for *maxKeys*.

    Attributes:
        access_key_id: with *secretKeyId*, who asks; without both, what the worker's environment, profile or machine
            says.
        secret_key_id: the secret that belongs to *accessKeyId*.
        session_token: of temporary credentials.
        profile: the profile of the worker's AWS files to take credentials and region from.
        region: where the bucket is; otherwise as the worker's environment says.
        endpoint_override: address of a store that speaks the protocol of S3.
        force_path_style: have the bucket in the path of addresses, not in the host name; always so with
            *endpointOverride*.
        compatibility_mode: accepted for old flows; every store is spoken to in the same way.
        sts_role_arn: the role to assume.
        sts_role_external_id: what the role wants to be told.
        sts_role_session_name: name of the role's session.
        sts_role_session_duration: how long the role's credentials are good for; they are renewed.
        sts_endpoint_override: address of the service that gives roles.
        request_payer: `requester` where the bucket wants the one who asks to pay.
        expected_bucket_owner: the account that the bucket has to belong to.
        bucket: its name.
        prefix: how the keys begin.
        delimiter: keys that go on after it, behind the prefix, are left out.
        marker: only keys after this one, in the order of their bytes.
        encoding_type: has no effect; keys are always given as they are.
        max_keys: so many new objects that match, at most, for one execution; the others start the next ones.
        max_files: as *maxKeys*; the lower one counts.
        regexp: has to match the whole key.
        filter: DIRECTORY for keys that end in `/`, FILES for those that do not.
        action: MOVE, DELETE or NONE, once the execution is there.
        move_to: where to, with MOVE; `moveTo.key` may use `object`, one of `trigger.objects`.
        download: without it objects are not fetched, and their `uri` is null.
        max_size: bytes; larger objects are passed over, and it is warned of them.
        on: which objects count: new ones, those written anew, or both.
        state_key: name of what the trigger remembers; with another one it begins anew.
        state_ttl: after so long an object counts as new again.

    Example:
        tasks:
          - id: show
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.objects | jq('.[].key') }}"
        triggers:
          - id: orders
            type: io.kestra.plugin.aws.s3.Trigger
            interval: PT30S
            accessKeyId: "{{ secret('AWS_ACCESS_KEY_ID') }}"
            secretKeyId: "{{ secret('AWS_SECRET_ACCESS_KEY') }}"
            region: eu-central-1
            bucket: orders
            prefix: incoming/
            filter: FILES
            action: MOVE
            moveTo:
              key: archive
    """

    settles: ClassVar[bool] = True
    without_effect: ClassVar[Mapping[str, str]] = {**PollingTrigger.without_effect, **NO_ENCODING}

    # Once more, as in S3Task and ListingTask: a struct cannot have two bases with fields.
    access_key_id: Dynamic | None = None
    secret_key_id: Dynamic | None = None
    session_token: Dynamic | None = None
    profile: Dynamic | None = None
    region: Dynamic | None = None
    endpoint_override: Dynamic | None = None
    force_path_style: bool | Dynamic = False
    compatibility_mode: bool | Dynamic = False
    sts_role_arn: Dynamic | None = None
    sts_role_external_id: Dynamic | None = None
    sts_role_session_name: Dynamic | None = None
    sts_role_session_duration: Dynamic = "PT15M"
    sts_endpoint_override: Dynamic | None = None
    request_payer: Dynamic | None = None
    expected_bucket_owner: Dynamic | None = None
    bucket: Dynamic
    prefix: Dynamic | None = None
    delimiter: Dynamic | None = None
    marker: Dynamic | None = None
    encoding_type: Dynamic | None = None
    max_keys: int | Dynamic = 1000
    max_files: int | Dynamic | None = None
    regexp: Dynamic | None = None
    filter: Kind = "BOTH"
    action: Action
    move_to: MoveTo | None = None
    download: bool | Dynamic = True
    max_size: int | Dynamic | None = None
    on: Literal["CREATE", "UPDATE", "CREATE_OR_UPDATE"] = "CREATE_OR_UPDATE"
    state_key: Dynamic | None = None
    state_ttl: Dynamic | None = None

    def problems(self) -> Iterator[Problem]:
        """A move to nowhere, and a span of time that is none."""
        yield from super().problems()
        if self.action == "MOVE" and self.move_to is None:
            yield Problem("MOVE needs 'moveTo'.", "Say where to: moveTo: {key: archive/}.", "", ("action",))
        if self.state_ttl is not None and "{" not in self.state_ttl:
            try:
                parse_duration(self.state_ttl)
            except ValueError as error:
                yield Problem(f"stateTtl: {error}.", "Write a duration such as P7D.", "", ("stateTtl",))

    def evaluate(self, context: PollContext) -> Mapping[str, object] | None:
        """Look for objects, fetch them, and note what is to be done to them."""
        bucket, asked = bucket_of(self.bucket, context), common(self, context)
        known = self._known(context)
        with opened(self, context) as client:
            found = self._look(client, bucket, known, context)
            uris: Sequence[str | None] = [None] * len(found)
            if is_on(context, self.download):
                objects = [one.object for one in found]
                uris = fetch_all(client, bucket, objects, asked, context)
                # What is gone or changed since it was listed is for the next evaluation.
                found = [one for one, uri in zip(found, uris, strict=True) if uri is not None]
                uris = [uri for uri in uris if uri is not None]
        for one in found:
            known.know(one.object.key, one.object.etag)
        context.memory[_KNOWN] = known.write()
        if self.action != "NONE":
            context.memory[_TO_SETTLE] = [msgspec.to_builtins(_taken(bucket, one)) for one in found]
        if not found:
            return None
        told = [
            {**one.object.as_output(), "uri": uri, "changeType": one.change}
            for one, uri in zip(found, uris, strict=True)
        ]
        return {"objects": told}

    def settle(self, context: PollContext) -> None:
        """Move or delete what was taken."""
        rows = context.memory.pop(_TO_SETTLE, None)
        if not rows:
            return
        taken = msgspec.convert(rows, list[Taken])
        known, asked = self._known(context), common(self, context)
        with opened(self, context) as client:
            are_done = at_once(lambda one: act(client, one, asked, context), taken)
        for one, is_done in zip(taken, are_done, strict=True):
            if is_done:
                known.forget(one.key)
            else:
                context.logger.warn(f"{Place(one.bucket, one.key)} was written again since it was taken: it stays.")
        context.memory[_KNOWN] = known.write()

    def _known(self, context: PollContext) -> KnownObjects:
        ttl_s = None if self.state_ttl is None else seconds(context, self.state_ttl, "stateTtl")
        memory = context.memory
        state_key = text(context, self.state_key) or ""
        if memory.get(_STATE_KEY, "") != state_key:
            memory[_KNOWN] = ""
            memory[_STATE_KEY] = state_key
        return KnownObjects(cast("str", memory.get(_KNOWN, "")), ttl_s=ttl_s, now_s=int(time()))

    def _look(self, client: "S3Client", bucket: str, known: KnownObjects, context: PollContext) -> list[_Found]:
        """What is new, as much as one execution may get; what is not there any more is forgotten."""
        most = whole_number(context, self.max_keys, "maxKeys", least=1)
        if self.max_files is not None:
            most = min(most, whole_number(context, self.max_files, "maxFiles", least=1))
        most_bytes = None if self.max_size is None else whole_number(context, self.max_size, "maxSize")
        found: list[_Found] = []
        too_large = 0
        for one in matching(client, bucket, self, context, wanted=max(most, len(known))):
            change = known.meet(one.key, one.etag)
            if change is None:
                continue
            if self.on not in ("CREATE_OR_UPDATE", change):
                known.know(one.key, one.etag)
            elif most_bytes is not None and one.size > most_bytes:
                too_large += 1
            elif len(found) < most:
                target = self._target(bucket, one, context)
                if target != (bucket, one.key):  # moved there before
                    found.append(_Found(one, change, target))
            # To the end only where that may let something be forgotten.
            if len(found) == most and known.are_met:
                break
        else:
            known.forget_unmet()
        self._warn_of(too_large, context)
        return found

    def _target(self, bucket: str, one: Object, context: PollContext) -> Place | None:
        if self.action != "MOVE":
            return None
        if self.move_to is None:
            raise TaskFailedError("MOVE needs 'moveTo'.", "Say where to: moveTo: {key: archive/}.")
        return target_of(self.move_to, bucket, one, context)

    def _warn_of(self, too_large: int, context: PollContext) -> None:
        """Once for each number of them, not with every evaluation."""
        if too_large and context.memory.get(_TOO_LARGE) != too_large:
            context.logger.warn(f"{too_large:,} objects have more bytes than maxSize allows: they are passed over.")
        context.memory[_TOO_LARGE] = too_large


def _taken(bucket: str, found: _Found) -> Taken:
    one, target = found.object, found.target
    return Taken(bucket, one.key, one.etag, one.size, target and (target.bucket, target.key))
