"""Options that several commands share, and what they mean."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tercel.model.task import LogLevel
from tercel.settings import Settings, read_settings, unknown_settings

if TYPE_CHECKING:
    from tercel.server import Home

C = TypeVar("C", bound=Callable[..., Any])


class _HomePath(click.Path):
    """A path that is not empty, as it is where a shell's variable is not set."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):
            self.fail("it is empty.", param, ctx)
        return super().convert(value, param, ctx)


def home_option(command: C) -> C:
    """`--home DIR`."""
    return click.option(
        "--home",
        metavar="DIR",
        type=_HomePath(file_okay=False, path_type=Path),
        help="Folder that keeps everything; TERCEL_HOME, or ~/.tercel.",
    )(command)


def namespace_files_option(command: C) -> C:
    """`--namespace-files DIR`."""
    return click.option(
        "--namespace-files",
        "folder",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Take namespace files from this folder.",
    )(command)


def task_runner_option(command: C) -> C:
    """`--task-runner process`."""
    return click.option(
        "--task-runner", type=click.Choice(["process"]), help="Run every script this way, whatever the flow says."
    )(command)


def log_level_option(command: C) -> C:
    """`--log-level LEVEL`."""
    return click.option(
        "--log-level",
        type=click.Choice(list(LogLevel), case_sensitive=False),
        default=LogLevel.INFO,
        help="Lines to show.",
    )(command)


def settings_of(home: Path | None, **given: object) -> Settings:
    """The settings with what the command line says on top; tells of variables that mean nothing."""
    for sentence in unknown_settings(os.environ):
        click.echo(f"Warning: {sentence}", err=True)
    return read_settings(os.environ, home=None if home is None else home.absolute(), **given)


def meant_execution(home: "Home", execution_id: str) -> str:
    """An execution's id; `last` is the newest one's."""
    if execution_id != "last":
        return execution_id
    from tercel.store import ExecutionQuery  # noqa: PLC0415  # only for this word

    found = home.call(home.queries.search_executions(ExecutionQuery(limit=1)))
    if not found:
        raise click.ClickException("Nothing was run in this home yet.")
    return found[0].id


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
