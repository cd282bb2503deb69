"""What the server says of itself: `/configs`, `/ping`, `/health`, `/version`, and who is signed in."""

from asyncio import wait_for
from collections.abc import Mapping
from hashlib import blake2b
from shutil import disk_usage

import msgspec
from starlette.responses import Response

from tercel import __version__
from tercel.api.answers import empty_answer, json_answer, text_answer
from tercel.api.call import Call
from tercel.api.login import credential_problems
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import present
from tercel.api.streams import in_thread
from tercel.errors import TercelError

_HIDDEN_LABELS = ("system.", "internal.")
_PREVIEW_ROWS = {"initial": 100, "max": 5000}
_DATABASE_PATIENCE_S = 2.0


class Credentials(msgspec.Struct):
    """What `POST /basicAuth` takes."""

    username: str
    password: str


def configs(call: Call) -> Response:
    """How the server is set up, as far as a client has to know."""
    is_set = call.options.login.is_required
    return json_answer(
        present(
            uuid=_instance_id(call),
            version=__version__,
            edition="OSS",
            isCustomDashboardsEnabled=False,
            isTaskRunEnabled=False,
            isAnonymousUsageEnabled=False,
            isUiAnonymousUsageEnabled=False,
            isTemplateEnabled=call.engine.settings.template_directory is not None,
            isConcurrencyViewEnabled=False,
            isAiEnabled=False,
            preview=_PREVIEW_ROWS,
            isBasicAuthEnabled=is_set,
            isBasicAuthInitialized=is_set,
            systemNamespace=call.options.system_namespace,
            hiddenLabelsPrefixes=list(_HIDDEN_LABELS),
            url=call.options.url or None,
        )
    )


def _instance_id(call: Call) -> str:
    """The same for all processes that share their records, and unlike that of any other server."""
    settings = call.engine.settings
    digest = blake2b(
        f"{settings.database or settings.home}".encode(), digest_size=16, person=b"tercel-uuid"
    ).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:]))


async def ping(_: Call) -> Response:
    """A sign of life."""
    return text_answer("pong")


async def health(call: Call) -> Response:
    """Whether records can be read, and how much room there is."""
    return _healthy({"database": await _database(call), "diskSpace": _disk_space(call)})


async def liveness(_: Call) -> Response:
    """A sign of life: whatever else is away, a new start would not bring it back."""
    return _healthy({})


async def _database(call: Call) -> Mapping[str, object]:
    # A database that is away is tried again for minutes, in a thread that then goes on alone: who asks is not to wait.
    try:
        await wait_for(in_thread(lambda: call.run(call.operations.flow_revisions("", ""))), _DATABASE_PATIENCE_S)
    except TimeoutError:
        return _down("It does not answer.")
    except TercelError as error:
        return _down(error.message)
    return {"name": "tercel", "status": "UP"}


def _disk_space(call: Call) -> Mapping[str, object]:
    try:
        usage = disk_usage(call.engine.settings.home)
    except OSError as error:
        return _down(str(error))
    return {"name": "tercel", "status": "UP", "details": {"total": usage.total, "free": usage.free}}


def _down(problem: str) -> Mapping[str, object]:
    return {"name": "tercel", "status": "DOWN", "details": {"error": problem}}


def _healthy(details: Mapping[str, Mapping[str, object]]) -> Response:
    is_up = all(part["status"] == "UP" for part in details.values())
    answer = {"name": "tercel", "status": "UP" if is_up else "DOWN", "details": details}
    return json_answer(answer, 200 if is_up else 503)


def version(_: Call) -> Response:
    """Which tercel this is."""
    return json_answer({"version": __version__, "type": "OSS"})


def me(call: Call) -> Response:
    """Who is signed in; nobody where the server lets everybody in."""
    return json_answer(present(id=call.user or None, username=call.user or None))


def set_basic_auth(call: Call) -> Response:
    """Set the user and the password, from now on and for later starts."""
    given = call.json_as(Credentials)
    problems = credential_problems(given.username, given.password)
    if problems:
        raise RequestError(422, " ".join(problems), reason="Invalid entity", errors=[(one, "") for one in problems])
    if call.options.login.is_off:
        raise RequestError(409, "The login is switched off.", hint="Switch it on where the server is configured.")
    call.options.login.keep(given.username, given.password)
    return empty_answer()


def basic_auth_problems(call: Call) -> Response:
    """What is wrong with the credentials that count."""
    return json_answer(call.options.login.problems)


ROUTES = (
    Route(method="GET", path="/configs", answer=configs),
    Route(method="POST", path="/basicAuth", answer=set_basic_auth),
    Route(method="GET", path="/basicAuthValidationErrors", answer=basic_auth_problems),
    Route(method="GET", path="/me", answer=me),
    Route(method="GET", path="/ping", answer=ping, is_outside=True, is_open=True),
    Route(method="GET", path="/health", answer=health, is_outside=True, is_open=True, is_management=True),
    Route(method="GET", path="/health/liveness", answer=liveness, is_outside=True, is_open=True, is_management=True),
    Route(method="GET", path="/health/readiness", answer=health, is_outside=True, is_open=True, is_management=True),
    Route(method="GET", path="/version", answer=version, is_outside=True, is_management=True),
)
