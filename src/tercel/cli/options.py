"""Options that several commands share, and what they mean."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tercel.model.task import LogLevel
from tercel.settings import CONFIGURATION_VARIABLE, Settings, read_settings, unknown_settings

if TYPE_CHECKING:
    from tercel.configuration import Configuration
    from tercel.server import Home

_FILES = "tercel.configuration_files"
_BEGINNINGS = ("KESTRA_", "DATASOURCES_", "MICRONAUT_", "ENDPOINTS_", CONFIGURATION_VARIABLE)
"""How environment variables begin that may be a configuration."""

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
    """`--home DIR`, and the configuration that may name one."""
    return click.option(
        "--home",
        metavar="DIR",
        type=_HomePath(file_okay=False, path_type=Path),
        help="Folder that keeps everything; TERCEL_HOME, or ~/.tercel.",
    )(config_option(command))


def config_option(command: C) -> C:
    """`-c FILE`, which `settings_of` reads."""
    return click.option(
        "-c",
        "--config",
        "configuration_files",
        metavar="FILE",
        multiple=True,
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_note_files,
        help="Take settings from a YAML file; of several the last one wins.",
    )(command)


def _note_files(context: click.Context, _: click.Parameter, files: tuple[Path, ...]) -> None:
    context.meta[_FILES] = files


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
    """The settings with what the command line says on top; tells of variables and keys that mean nothing."""
    for sentence in unknown_settings(os.environ):
        click.echo(f"Warning: {sentence}", err=True)
    configuration = configuration_of(os.environ)
    for sentence in () if configuration is None else configuration.warnings:
        click.echo(f"Warning: {sentence}", err=True)
    configured = None if configuration is None else configuration.given
    return read_settings(os.environ, configured, home=None if home is None else home.absolute(), **given)


def configuration_of(environment: Mapping[str, str]) -> "Configuration | None":
    """What the configurations come to that the environment and the command line name; None where there are none.

    Raises:
        InvalidSettingError: one cannot be read or used.
    """
    files = _files()
    if not files and not any(name.startswith(_BEGINNINGS) for name in environment):
        return None
    from tercel.configuration import configure, environment_sources, file_sources  # noqa: PLC0415  # most have none

    return configure(environment_sources(environment), environment, file_sources(files))


def _files() -> Sequence[Path]:
    """The files that the command line names; called `kestra`, the one that Kestra looks for if it is there."""
    context = click.get_current_context()
    files: Sequence[Path] = context.meta.get(_FILES, ())
    if not files and context.find_root().info_name == "kestra":
        usual = Path("~/.kestra/config.yml").expanduser()
        return [usual] if usual.is_file() else []
    return files


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
