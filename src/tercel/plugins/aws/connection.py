"""The way to S3: a client for as long as a task needs one, and its errors in words for people.

Credentials, the session token among them, are told to the context before anything can log them.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from tercel.plugin_api import Dynamic, MissingToolError, RunContext, RunnableTask, TaskFailedError, is_on
from tercel.plugins.aws.properties import seconds, text

if TYPE_CHECKING:
    from botocore.config import Config
    from botocore.credentials import Credentials
    from botocore.loaders import Loader
    from botocore.session import Session
    from types_boto3_s3 import S3Client
    from types_boto3_sts import STSClient

_CONNECT_S = 10
_READ_S = 30
_TRIES = 3
_CONNECTIONS = 20
_LONGEST_REASON = 400
_ROLE_DURATION = "PT15M"
_CLEANING_UP = ".AbortMultipartUpload"
"""What is asked for even where the task has to end."""


class S3Task(RunnableTask, frozen=True, kw_only=True):
    """What all tasks of the family have.

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
    """

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
    sts_role_session_duration: Dynamic = _ROLE_DURATION
    sts_endpoint_override: Dynamic | None = None
    request_payer: Dynamic | None = None
    expected_bucket_owner: Dynamic | None = None


class Asking(Protocol):
    """Who pays for what is asked, and who owns what is asked for; templates, as all of the following."""

    @property
    def request_payer(self) -> str | None:
        """Who pays."""
        ...

    @property
    def expected_bucket_owner(self) -> str | None:
        """Whose the bucket has to be."""
        ...


class Connected(Asking, Protocol):
    """What `S3Task` and the family's trigger have in common."""

    @property
    def access_key_id(self) -> str | None:
        """Who asks."""
        ...

    @property
    def secret_key_id(self) -> str | None:
        """The secret that goes with it."""
        ...

    @property
    def session_token(self) -> str | None:
        """Of temporary credentials."""
        ...

    @property
    def profile(self) -> str | None:
        """Of the AWS files."""
        ...

    @property
    def region(self) -> str | None:
        """Where the bucket is."""
        ...

    @property
    def endpoint_override(self) -> str | None:
        """Address of the store."""
        ...

    @property
    def force_path_style(self) -> bool | str:
        """Whether the bucket is in the path."""
        ...

    @property
    def sts_role_arn(self) -> str | None:
        """The role to assume."""
        ...

    @property
    def sts_role_external_id(self) -> str | None:
        """What the role wants to be told."""
        ...

    @property
    def sts_role_session_name(self) -> str | None:
        """Of the role's session."""
        ...

    @property
    def sts_role_session_duration(self) -> str:
        """Of the role's credentials."""
        ...

    @property
    def sts_endpoint_override(self) -> str | None:
        """Address of what gives roles."""
        ...


class Place(NamedTuple):
    """A bucket, or an object in it."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"


@contextmanager
def opened(task: Connected, context: RunContext) -> Generator["S3Client"]:
    """A client of a task's own.

    Raises:
        MissingToolError: there is no botocore.
        TaskFailedError: there are no credentials, or S3 failed meanwhile where no `asking` told more.
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # heavy, and an extra
    except ImportError:
        raise MissingToolError("S3 tasks need the library boto3.", "Install it: pip install 'tercel[aws]'.") from None
    with ExitStack() as clients:
        try:
            yield _client(task, context, clients)
        except (BotoCoreError, ClientError, ValueError) as error:
            context.stop_if_killed()
            if not isinstance(error, BotoCoreError | ClientError) and not str(error).startswith("Invalid endpoint"):
                raise
            raise failure(error, None, context) from error


@contextmanager
def asking(place: Place, context: RunContext) -> Generator[None]:
    """Have an error of S3 meanwhile name *place*."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # heavy, and an extra

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        context.stop_if_killed()
        raise failure(error, place, context) from error


def common(task: Asking, context: RunContext) -> dict[str, Any]:
    """The parameters that nearly every call takes."""
    payer, owner = text(context, task.request_payer), text(context, task.expected_bucket_owner)
    return {
        **({"RequestPayer": payer.lower()} if payer else {}),
        **({"ExpectedBucketOwner": owner} if owner else {}),
    }


def _client(task: Connected, context: RunContext, clients: ExitStack) -> "S3Client":
    endpoint, region = text(context, task.endpoint_override), text(context, task.region)
    session = _session(text(context, task.profile))
    _log_in(session, task, context)
    role = text(context, task.sts_role_arn)
    if role is not None:
        session = _in_role(session, role, task, context, clients)
    config = _config(endpoint, by_path=is_on(context, task.force_path_style))
    client = cast("S3Client", session.create_client("s3", region_name=region, endpoint_url=endpoint, config=config))

    def check(event_name: str, **_: object) -> None:
        if not event_name.endswith(_CLEANING_UP):
            context.stop_if_killed()

    client.meta.events.register("before-send.s3", check)  # also before it is tried again
    return clients.enter_context(closing(client))


def _config(endpoint: str | None, *, by_path: bool) -> "Config":
    from botocore.config import Config  # noqa: PLC0415  # heavy, and an extra

    options: dict[str, Any] = {}
    if endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        by_path = True
        # Not every store knows the checksums that S3 itself is sent.
        options = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        max_pool_connections=_CONNECTIONS,
        user_agent_extra="tercel",
        s3={"addressing_style": "path"} if by_path else None,
        **options,
    )


def _session(profile: str | None) -> "Session":
    from botocore.session import Session  # noqa: PLC0415  # heavy, and an extra

    session = Session(profile=profile)
    session.register_component("data_loader", _descriptions())
    return session


@lru_cache(maxsize=1)
def _descriptions() -> "Loader":
    """The descriptions of services, which take longer to read than all else and never change."""
    from botocore.session import Session  # noqa: PLC0415  # heavy, and an extra

    return cast("Loader", Session().get_component("data_loader"))


def _log_in(session: "Session", task: Connected, context: RunContext) -> None:
    key, secret, token = (text(context, one) for one in (task.access_key_id, task.secret_key_id, task.session_token))
    for one in (key, secret, token):
        context.add_secret(one or "")
    if key and secret:
        session.set_credentials(key, secret, token)  # pyright: ignore[reportArgumentType]  # its stub forgets None
    elif key or secret:
        missing = "secretKeyId" if key else "accessKeyId"
        raise TaskFailedError(f"{missing} is missing: accessKeyId and secretKeyId belong together.", _CREDENTIALS)
    _tell(session.get_credentials(), context)


def _tell(credentials: "Credentials | None", context: RunContext) -> None:
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        context.add_secret(frozen.secret_key or "")
        context.add_secret(frozen.token or "")


class _Role:
    """The credentials of a role, renewed before they end; a `credential_provider` of a session."""

    def __init__(self, sts: "STSClient", request: Mapping[str, Any], context: RunContext) -> None:
        from botocore.credentials import RefreshableCredentials  # noqa: PLC0415  # heavy, and an extra

        self._sts = sts
        self._request = request
        self._context = context
        self._lock = Lock()
        self._credentials = RefreshableCredentials.create_from_metadata(self._renewed(), self._renewed, "assume-role")

    def _renewed(self) -> dict[str, str]:
        with self._lock:
            given = self._sts.assume_role(**self._request)["Credentials"]
        self._context.add_secret(given["SecretAccessKey"])
        self._context.add_secret(given["SessionToken"])
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": given["Expiration"].isoformat(),
        }

    def load_credentials(self) -> object:
        """What the session asks for."""
        return self._credentials


def _in_role(session: "Session", role: str, task: Connected, context: RunContext, clients: ExitStack) -> "Session":
    from botocore.config import Config  # noqa: PLC0415  # heavy, and an extra

    sts = cast(
        "STSClient",
        session.create_client(
            "sts",
            region_name=text(context, task.region),
            endpoint_url=text(context, task.sts_endpoint_override),
            config=Config(connect_timeout=_CONNECT_S, read_timeout=_READ_S, user_agent_extra="tercel"),
        ),
    )
    clients.enter_context(closing(sts))
    external_id = text(context, task.sts_role_external_id)
    context.add_secret(external_id or "")
    request = {
        "RoleArn": role,
        "RoleSessionName": text(context, task.sts_role_session_name) or "tercel",
        "DurationSeconds": seconds(context, task.sts_role_session_duration, "stsRoleSessionDuration"),
        **({"ExternalId": external_id} if external_id else {}),
    }
    assumed = _session(text(context, task.profile))
    assumed.register_component("credential_provider", _Role(sts, request, context))
    return assumed


# Errors

_CREDENTIALS = (
    "Set accessKeyId and secretKeyId, such as \"{{ secret('AWS_ACCESS_KEY_ID') }}\", or a profile, or give the worker "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
)
_WRONG_LOGIN = "Check accessKeyId, secretKeyId and sessionToken, and that they are those of this store."
_REGION = "Set 'region' to the one that the bucket is in."
_HINTS: Mapping[str, str] = {
    "SignatureDoesNotMatch": _WRONG_LOGIN,
    "InvalidAccessKeyId": _WRONG_LOGIN,
    "InvalidClientTokenId": _WRONG_LOGIN,
    "InvalidToken": _WRONG_LOGIN,
    "AuthFailure": _WRONG_LOGIN,
    "ExpiredToken": "The credentials have expired: get new ones.",
    "RequestTimeTooSkewed": "Set the clock of this machine right.",
    "AccessDenied": "These credentials may not do this: look at the policies of the user, role and bucket.",
    "403": "Check the credentials, and what the policies of the user, role and bucket allow.",
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidObjectState": "The object is archived: restore it first.",
    "BucketAlreadyExists": "Names of buckets are shared by all users: choose another one.",
    "BucketAlreadyOwnedByYou": "Leave the task out, or let it fail: allowFailure: true.",
}


def failure(error: Exception, place: Place | None, context: RunContext) -> TaskFailedError:
    """What to tell people of an error of botocore."""
    from botocore import exceptions  # noqa: PLC0415  # heavy, and an extra

    whom = "S3" if place is None else str(place)
    if isinstance(error, exceptions.ClientError):
        return _refusal(error, place, context)
    match error:
        case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
            return TaskFailedError("There are no AWS credentials.", _CREDENTIALS)
        case exceptions.ProfileNotFound():
            return TaskFailedError(f"{_short(error, context)}.", "Check 'profile', and the AWS files of the worker.")
        case exceptions.InvalidRegionError():
            return TaskFailedError(f"{_short(error, context)}.", "Check 'region': it is a name such as eu-central-1.")
        case exceptions.NoRegionError():
            return TaskFailedError("There is no region.", "Set 'region', or give the worker AWS_DEFAULT_REGION.")
        case exceptions.ParamValidationError():
            return TaskFailedError(f"S3 cannot be asked for {whom}: {_short(error, context)}.")
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError() | exceptions.SSLError():
            address = str(getattr(error, "kwargs", {}).get("endpoint_url", "")).partition("?")[0]
            return TaskFailedError(
                f"There is no connection to {context.mask(address) or 'S3'}: {_cause(error, context)}.",
                "Check 'region' and 'endpointOverride', and that the store runs.",
            )
        case exceptions.HTTPClientError():
            return TaskFailedError(
                f"The connection broke while S3 was asked for {whom}: {_cause(error, context)}.", "Try again."
            )
        case _:
            return TaskFailedError(f"Asking for {whom} failed: {_short(error, context)}.")


def code_of(error: Exception) -> str:
    """S3's word for what is wrong, such as NoSuchKey, or the status where it has said none; "" for other errors."""
    answer = cast("Mapping[str, Any]", getattr(error, "response", None) or {})
    return str(answer.get("Error", {}).get("Code", ""))


def _refusal(error: Exception, place: Place | None, context: RunContext) -> TaskFailedError:
    code = code_of(error)
    if code == "NoSuchBucket" and place is not None:
        return TaskFailedError(
            f"There is no bucket {place.bucket!r}.",
            "Check 'bucket', 'region' and 'endpointOverride'; io.kestra.plugin.aws.s3.CreateBucket makes one.",
        )
    if code in {"NoSuchKey", "NoSuchVersion", "404"} and place is not None and place.key:
        version = " of this version" if code == "NoSuchVersion" else ""
        return TaskFailedError(f"There is no object {place}{version}.", "Check 'bucket' and 'key'.")
    if code == "PreconditionFailed":
        return TaskFailedError(f"{place or 'The object'} was changed meanwhile.", "Try again.")
    operation = str(getattr(error, "operation_name", "The request"))
    answer = cast("Mapping[str, Any]", getattr(error, "response", {}))
    said = str(answer.get("Error", {}).get("Message") or "no reason was given").rstrip(".")
    of = "" if place is None else f" for {place}"
    message = f"S3 refused {operation}{of}: {code}: {context.mask(said)[:_LONGEST_REASON]}."
    return TaskFailedError(message, _HINTS.get(code, ""))


def _cause(error: Exception, context: RunContext) -> str:
    """What the system said, without the names of what botocore is made of."""
    cause: BaseException | None = getattr(error, "kwargs", {}).get("error") or error.__cause__ or error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return _short(error, context)


def _short(error: Exception, context: RunContext) -> str:
    return context.mask(str(error))[:_LONGEST_REASON].rstrip(". \n")
