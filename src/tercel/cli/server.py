"""`tercel server`: a process that stays, starts flows at their dates and goes on with what others left open."""

import signal
from pathlib import Path
from types import FrameType

import click

from tercel.cli.options import home_option, settings_of
from tercel.cli.standing import left_paused
from tercel.errors import TercelError
from tercel.server import Engine, open_home
from tercel.store import Bell

_LOOK_S = 1.0
"""How often it looks for executions whose process died."""


@click.command()
@home_option
def server(home: Path | None) -> None:
    """Start flows at the dates of their triggers, and go on with what dead processes left open, until it is stopped.

    SIGTERM and Ctrl-C stop it: tasks that run are ended, and run again when it is started the next time. It has no API
    yet: save flows by `tercel flow save`.
    """
    stop = Bell()
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)
        stop.ring()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
    with open_home(settings_of(home), what="tercel server", on_wait=_tell, recover=False) as engine:
        for problem in engine.problems:
            click.echo(f"Warning: {problem}", err=True)
        engine.schedule()
        click.echo(f"Ready, in {engine.settings.home}.", err=True)
        while not heard:
            _go_on(engine)
            stop.wait(_LOOK_S)
        click.echo("Stopping.", err=True)


def _go_on(engine: Engine) -> None:
    """Take over what dead processes left; but what waits for a person is left to `tercel execution resume`."""
    before = len(engine.recovered)
    try:
        left = engine.interrupted()
        if left:
            engine.recover(left.keys() - left_paused(engine, left))
    except TercelError as error:
        click.echo(f"Warning: what dead processes left cannot be taken over: {error}", err=True)
    for execution_id in engine.recovered[before:]:
        click.echo(f"Goes on with {execution_id}, which another process left open.", err=True)


def _tell(holder: str) -> None:
    click.echo(f"Waiting for {holder}, which has the home to itself.", err=True)
