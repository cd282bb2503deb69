"""`tercel server`: a process that stays: the API, flows at their dates, and what others left open."""

import gc
import logging
import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

import click

from tercel.cli.options import home_option, settings_of
from tercel.errors import MissingToolError, TercelError, UnreachableError, UserError
from tercel.server_log import ServerLog
from tercel.settings import Settings
from tercel.store import Bell

if TYPE_CHECKING:
    from tercel.api import Api, HttpServer, Options
    from tercel.server import Engine

_LOGGER = logging.getLogger("tercel")

_LOOK_S = 1.0
"""How often it looks for executions whose process died."""

_DATABASE_PATIENCE_S = 60.0
_RETRY_S = 0.5

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.argument("kind", required=False, type=click.Choice(["standalone", "local"]), metavar="[standalone|local]")
@click.option("--host", metavar="ADDRESS", help="Listen there; TERCEL_HOST, or this machine only without a login.")
@click.option("--port", type=click.IntRange(0, 65535), help="TERCEL_PORT, or 8080; 0 takes a free one.")
@click.option("--worker-thread", "slots", type=click.IntRange(min=1), metavar="N", help="Jobs that run side by side.")
@click.option("--no-tutorials", is_flag=True, help="Accepted, as there are no tutorials.")
@click.option("--no-indexer", is_flag=True, help="Accepted, as there is no indexer.")
@home_option
def server(
    kind: str | None,
    host: str | None,
    port: int | None,
    slots: int | None,
    no_tutorials: bool,
    no_indexer: bool,
    home: Path | None,
) -> None:
    """Serve the API, start flows at the dates of their triggers, and go on with what dead processes left open.

    SIGTERM and Ctrl-C stop it: requests are answered to their end, tasks that run are ended, and run again when it is
    started the next time. A second signal ends it at once. `standalone` and `local` mean the same.
    """
    del kind, no_tutorials, no_indexer
    settings = settings_of(home, host=host, port=port, slots=slots)
    gc.disable()  # until it is ready: what is loaded now stays
    with ServerLog(settings.log_format, level=settings.log_level, task_level=settings.task_log_level) as log:
        _serve(settings, log)


def _serve(settings: Settings, log: ServerLog) -> None:
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
    with ExitStack() as after, _opened(settings, stop) as engine:
        _observe(engine, log, after)
        options = _options(settings)
        http = _listening(create_app(engine, options), _host(settings, options), settings)
        try:
            engine.schedule()
            http.start()
            gc.enable()
            _tell_ready(engine, http, options)
            while not heard and http.is_alive:
                _go_on(engine)
                stop.wait(_LOOK_S)
            if not heard:
                raise TercelError("The HTTP server has stopped by itself.", "Why is said above.")
            _LOGGER.info("Stopping.")
        finally:
            http.close()


def _opened(settings: Settings, stop: Bell) -> "Engine":
    """The engine, once its database answers: whoever starts both at once starts the database first only by chance."""
    from tercel.server import open_home  # noqa: PLC0415  # after what it freezes

    deadline = monotonic() + _DATABASE_PATIENCE_S
    is_told = False
    while True:
        try:
            return open_home(settings, what="tercel server", on_wait=_tell, recover=False)
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


def _go_on(engine: "Engine") -> None:
    """Take over what dead processes left; but what waits for a person is left to `tercel execution resume`."""
    from tercel.cli.standing import left_paused  # noqa: PLC0415  # loads the engine

    before = len(engine.recovered)
    try:
        left = engine.interrupted()
        if left:
            engine.recover(left.keys() - left_paused(engine, left))
    except TercelError as error:
        _LOGGER.warning("What dead processes left cannot be taken over: %s", error)
    for execution_id in engine.recovered[before:]:
        _LOGGER.info("Goes on with %s, which another process left open.", execution_id)


def _tell(holder: str) -> None:
    _LOGGER.warning("Waiting for %s, which has the home to itself.", holder)
