"""Options that several commands share, and what they mean."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tercel.settings import Settings, read_settings, unknown_settings

C = TypeVar("C", bound=Callable[..., Any])


def home_option(command: C) -> C:
    """`--home DIR`."""
    return click.option(
        "--home",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that keeps everything; TERCEL_HOME, or ~/.tercel.",
    )(command)


def settings_of(home: Path | None, **given: object) -> Settings:
    """The settings with what the command line says on top; tells of variables that mean nothing."""
    for sentence in unknown_settings(os.environ):
        click.echo(f"Warning: {sentence}", err=True)
    return read_settings(os.environ, home=None if home is None else home.absolute(), **given)


def pairs(option: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], dict[str, str]]:
    """A callback that reads repeated `NAME=VALUE` arguments of *option*; a name given twice is refused."""

    def read(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
        found: dict[str, str] = {}
        for text in values:
            name, separator, value = text.partition("=")
            if not separator or not name:
                raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE.", param_hint=option)
            if name in found:
                raise click.BadParameter(f"{name!r} is given twice.", param_hint=option)
            found[name] = value
        return found

    return read
