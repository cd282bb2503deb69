"""`tercel server`: a process that stays: the API, flows at their dates, and what others left open."""

import gc
import logging
import os
import signal
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

import click

from tercel import __version__
from tercel.cli.options import home_option, settings_of
from tercel.errors import MissingToolError, TercelError, UnreachableError, UserError
from tercel.server_log import ServerLog
from tercel.settings import Settings, read_level
from tercel.store import Bell

if TYPE_CHECKING:
    from tercel.api import Api, HttpServer, Options
    from tercel.executor import Skips
    from tercel.server import Engine

_LOGGER = logging.getLogger("tercel")

_LOOK_S = 1.0
"""How often it looks for executions whose process died."""

_DATABASE_PATIENCE_S = 60.0
_RETRY_S = 0.5

_OUTAGE_S = 300.0
"""How long a database that went away is tried for before the server ends; whoever looks after it starts it again."""

_LAST_TRY_S = 5.0
"""The same, once it is to stop."""

_LONGEST_TRY_S = 20.0
_BLINK_S = 2.0
_TELL_S = 60.0

_AGAIN = "Start the server again: it goes on with what it has left."

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _read_level(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else read_level(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not {error}.") from error


def _read_list(_: click.Context, __: click.Parameter, value: str) -> frozenset[str]:
    """What stands between commas; of a name with its tenant before a `|`, what comes after that."""
    parts = [one.strip().split("|") for one in value.split(",")]
    return frozenset(".".join(part[1:] or part) for part in parts if part[-1])


@click.command()
@click.argument("kind", required=False, type=click.Choice(["standalone", "local"]), metavar="[standalone|local]")
@click.option("--host", metavar="ADDRESS", help="Listen there; TERCEL_HOST, or this machine only without a login.")
@click.option("--port", type=click.IntRange(0, 65535), help="TERCEL_PORT, or 8080; 0 takes a free one.")
@click.option("--worker-thread", "slots", type=click.IntRange(min=1), metavar="N", help="Jobs that run side by side.")
@click.option(
    "-f",
    "--flow-path",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Save the flows of this folder first.",
)
@click.option("-l", "--log-level", callback=_read_level, metavar="LEVEL", help="TERCEL_LOG_TASKS: of what tasks log.")
@click.option("-v", "--verbose", count=True, help="The same as -l DEBUG; -vv as -l TRACE.")
@click.option("--internal-log", is_flag=True, help="Let -l and -v count for TERCEL_LOG_LEVEL, too.")
@click.option(
    "--skip-executions", metavar="ID,…", default="", callback=_read_list, help="Leave these executions alone."
)
@click.option(
    "--skip-flows", metavar="NAMESPACE.ID,…", default="", callback=_read_list, help="Leave executions of these alone."
)
@click.option(
    "--skip-namespaces", metavar="NAMESPACE,…", default="", callback=_read_list, help="Leave executions in these alone."
)
@click.option("--no-tutorials", is_flag=True, help="Accepted, as there are no tutorials.")
@click.option("--no-indexer", is_flag=True, help="Accepted, as there is no indexer.")
@click.option("-p", "--plugins", metavar="DIR", help="Accepted: plugins are packages, installed by pip.")
@home_option
def server(
    kind: str | None,
    host: str | None,
    port: int | None,
    slots: int | None,
    folder: Path | None,
    log_level: str | None,
    verbose: int,
    internal_log: bool,
    skip_executions: frozenset[str],
    skip_flows: frozenset[str],
    skip_namespaces: frozenset[str],
    home: Path | None,
    **accepted: object,
) -> None:
    """Serve the API, start flows at the dates of their triggers, and go on with what dead processes left open.

    SIGTERM and Ctrl-C stop it: requests are answered to their end, tasks that run are ended, and run again when it is
    started the next time. A second signal ends it at once. `standalone` and `local` mean the same.
    """
    del kind, accepted
    level = log_level or (("DEBUG", "TRACE")[min(verbose, 2) - 1] if verbose else None)
    own_level = level if internal_log else None
    settings = settings_of(home, host=host, port=port, slots=slots, task_log_level=level, log_level=own_level)
    gc.disable()  # until it is ready: what is loaded now stays
    from tercel.executor import Skips  # noqa: PLC0415  # loads the engine

    with ServerLog(settings.log_format, level=settings.log_level, task_level=settings.task_log_level) as log:
        _serve(settings, log, folder, Skips(skip_executions, skip_flows, skip_namespaces))


def _serve(settings: Settings, log: ServerLog, folder: Path | None, skips: "Skips") -> None:
    stop = Bell()
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        if heard:
            os._exit(128 + number)  # nothing is waited for: the next start finds what is left
        heard.append(number)
        stop.ring()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
    try:
        from tercel.api import create_app  # noqa: PLC0415  # only this command serves HTTP
    except ModuleNotFoundError as error:
        raise MissingToolError(f"The server needs {error.name}.", "Install it: pip install 'tercel[server]'") from error
    with ExitStack() as after, _opened(settings, stop, _Patience(heard), skips) as engine:
        _observe(engine, log, after)
        options = _options(settings)
        http = _listening(create_app(engine, options), _host(settings, options), settings)
        try:
            if folder is not None:
                _load_flows(engine, folder)
            engine.schedule()
            http.start()
            gc.enable()
            _tell_ready(engine, http, options)
            standing: set[tuple[str, str]] = set()
            while not heard and http.is_alive and engine.failure is None:
                _go_on(engine, skips, standing)
                stop.wait(_LOOK_S)
            if not heard:
                raise _ended_by_itself(engine)
            _LOGGER.info("Stopping.")
        finally:
            http.close()


class _Patience:
    """How long a database that went away is tried for; says once a minute that it is away.

    Args:
        heard: signals that ask the server to stop; looked at anew each time.
    """

    def __init__(self, heard: Sequence[int]) -> None:
        self._heard = heard
        self._asked_at = self._away_since = self._told_at = -_OUTAGE_S

    def __call__(self) -> float:
        """In seconds; asked after each try that failed."""
        now = monotonic()
        if now > self._asked_at + _LONGEST_TRY_S:
            self._away_since = now
        self._asked_at = now
        if now > self._away_since + _BLINK_S and now > self._told_at + _TELL_S:
            self._told_at = now
            _LOGGER.warning("The database does not answer, and is tried again; nothing goes on meanwhile.")
        return _LAST_TRY_S if self._heard else _OUTAGE_S


def _ended_by_itself(engine: "Engine") -> TercelError:
    """Why a server has to end that nobody has stopped."""
    failure = engine.failure
    if failure is None:
        return TercelError("The HTTP server has stopped by itself.", "Why is said above.")
    if not isinstance(failure, TercelError):
        _LOGGER.error("The engine has stopped.", exc_info=failure)
        return TercelError("The engine has stopped by a mistake of its own.", f"It is told above. {_AGAIN}")
    hint = failure.hint if isinstance(failure, UserError) else ""
    return TercelError(f"The engine has stopped: {failure.message}", f"{hint} {_AGAIN}".lstrip())


def _opened(settings: Settings, stop: Bell, patience: Callable[[], float], skips: "Skips") -> "Engine":
    """The engine, once its database answers: whoever starts both at once starts the database first only by chance."""
    from tercel.server import open_home  # noqa: PLC0415  # after what it freezes

    deadline = monotonic() + _DATABASE_PATIENCE_S
    is_told = False
    while True:
        try:
            return open_home(
                settings,
                what="tercel server",
                on_wait=_tell,
                recover=False,
                database_patience=patience,
                skips=skips,
            )
        except UnreachableError as error:
            if not is_told:
                _LOGGER.warning("%s Trying again for a minute.", error.message)
                is_told = True
            if stop.wait(_RETRY_S) or monotonic() >= deadline:
                raise


def _observe(engine: "Engine", log: ServerLog, after: ExitStack) -> None:
    """Say what happens, and trace it where that is wanted, until the engine is closed; *after* ends when it is."""
    changed = None
    if engine.settings.traces == "otlp":
        from tercel.tracing import Tracer  # noqa: PLC0415  # seldom wanted

        tracer = Tracer()
        after.callback(tracer.close)
        changed = tracer.changed
    log.start(engine.mask)
    engine.watch(changed, log.tell_tasks if engine.settings.task_log_level != "OFF" else None)


def _load_flows(engine: "Engine", folder: Path) -> None:
    """Save the flows of a folder; each that cannot be is told, and left out."""
    from tercel.cli.flow import flow_files, unreadable  # noqa: PLC0415  # few name a folder

    count = 0
    for path in flow_files((folder,)):
        try:
            engine.call(engine.operations.save_flow(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            _LOGGER.warning("The flow %s cannot be read: %s.", path, unreadable(error))
        except UnreachableError:
            raise
        except UserError as error:
            _LOGGER.warning("The flow %s is not saved: %s", path, error)
        else:
            count += 1
    _LOGGER.info("Saved what is new of %s flows in %s.", count, folder)


def _options(settings: Settings) -> "Options":
    from tercel.api import Login, Options  # noqa: PLC0415  # see above

    login = Login(
        username=settings.username,
        password=settings.password,
        tokens=settings.api_tokens,
        file=settings.home / "login.json",
        open_paths=settings.open_urls,
        is_off=settings.login == "none",
    )
    return Options(
        login=login,
        context_path=settings.context_path,
        is_local=settings.host in ("", *_LOOPBACK),
        allowed_origins=settings.allowed_origins,
        most_upload_bytes=settings.max_upload_bytes,
        url=settings.url,
        system_namespace=settings.system_namespace,
        logs_requests=settings.logs_requests,
    )


def _host(settings: Settings, options: "Options") -> str:
    """Where to listen. Raises UserError where everybody could reach a server that lets everybody in."""
    if options.login.is_required:
        return settings.host or "0.0.0.0"
    if not options.is_local and not options.login.is_off:
        raise UserError(
            f"Without a login the server cannot listen on {settings.host}: everybody could run programs here.",
            "Set TERCEL_USERNAME and TERCEL_PASSWORD; or TERCEL_LOGIN=none, where nobody else can reach it.",
        )
    return settings.host or _LOOPBACK[0]


def _listening(app: "Api", host: str, settings: Settings) -> "HttpServer":
    """The server, with a port for operators if nobody else has it."""
    from tercel.api import HttpServer  # noqa: PLC0415  # see above

    port = settings.management_port
    if port is not None and (port == 0 or port != settings.port):
        with suppress(UserError):
            return HttpServer(app, host, settings.port, management_port=port)
    return HttpServer(app, host, settings.port)


def _tell_ready(engine: "Engine", http: "HttpServer", options: "Options") -> None:
    address, settings = http.address + options.context_path, engine.settings
    _LOGGER.info("Ready. Server Running on %s, in %s.", address, settings.home)
    _LOGGER.info("Tercel %s; operators are answered on %s.", __version__, http.management_address or address)
    if http.management_address is None and settings.management_port not in (None, settings.port):
        _LOGGER.warning("Somebody else listens on port %s, for operators.", settings.management_port)
    if not options.login.is_required:
        who = "Everybody on this machine" if options.is_local else "Everybody who reaches this machine"
        _LOGGER.warning("%s may use it, as no login is set.", who)
    else:
        for problem in options.login.problems:
            _LOGGER.warning("%s", problem)
    for problem in engine.problems:
        _LOGGER.warning("%s", problem)


def _go_on(engine: "Engine", skips: "Skips", standing: set[tuple[str, str]]) -> None:
    """Take over what dead processes left; but what waits for a person is left to whoever resumes it.

    Args:
        engine: takes it over.
        skips: what is left alone.
        standing: executions, each with its process, that were left where they are; not looked at again. Changed.
    """
    from tercel.cli.standing import left_paused  # noqa: PLC0415  # loads the engine

    before = len(engine.recovered)
    try:
        left = engine.interrupted()
        if left.items() - standing:
            stays = left_paused(engine, left) | _skipped(engine, left, skips)
            engine.recover(left.keys() - stays)
            standing.clear()
            standing.update((execution_id, left[execution_id]) for execution_id in stays)
    except TercelError as error:
        _LOGGER.warning("What dead processes left cannot be taken over: %s", error)
    for execution_id in engine.recovered[before:]:
        _LOGGER.info("Goes on with %s, which another process left open.", execution_id)


def _skipped(engine: "Engine", left: Collection[str], skips: "Skips") -> set[str]:
    """Those of the executions *left* that are to be left alone."""
    if not skips:
        return set()
    return {one for one in left if skips.has(engine.call(engine.queries.get_execution(one)))}


def _tell(holder: str) -> None:
    _LOGGER.warning("Waiting for %s, which has the home to itself.", holder)
