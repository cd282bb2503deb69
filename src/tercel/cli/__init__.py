"""The command line. Each command lives in a module of its own that is imported when it is called.

Exit codes: 0 done; 1 it ran and reports a failure; 2 wrong usage, or a flow or input that is refused; 3 an execution is
left paused; 128 and the number of the signal that ended it.
"""

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

import click

from tercel import __version__
from tercel.errors import InvalidFlowError, InvalidInputError, InvalidSettingError, TercelError

_COMMANDS = {
    "run": ("tercel.cli.run:run", "Run a flow here and now, without a server."),
    "server": ("tercel.cli.server:server", "Serve the API, start flows at their dates, go on with what was left open."),
    "flow": ("tercel.cli.flow:flow", "Check, save, list and delete flows; their JSON Schema for editors."),
    "execution": ("tercel.cli.execution:execution", "Look at what ran, go on with it, run it again, change it."),
    "trigger": ("tercel.cli.trigger:trigger", "See what starts flows by itself, try it out, switch it off and on."),
    "workdir": ("tercel.cli.workdir:workdir", "Look into working directories as their tasks found or left them."),
    "cache": ("tercel.cli.cache:cache", "See, clear and prune the caches of working directories."),
    "kv": ("tercel.cli.kv:kv", "Key-value pairs that flows of a namespace share."),
    "namespace": ("tercel.cli.namespace:namespace", "Files of a namespace."),
    "plugin": ("tercel.cli.plugin:plugin", "The types that tasks can have."),
    "config": ("tercel.cli.config:config", "See which settings are in force, and check configurations."),
    "completion": ("tercel.cli.completion:completion", "Print the shell's completion script."),
}


class _LazyGroup(click.Group):
    """Imports a command when it is called; the list of commands needs no import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        return getattr(import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="tercel %(version)s")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.pass_context
def tercel(context: click.Context, debug: bool) -> None:
    """Run flows written in Kestra's YAML."""
    context.obj = debug
    if os.environ.get("NO_COLOR"):
        context.color = False


def run_command_line() -> NoReturn:
    """Run what the arguments ask for, and leave with its exit code; errors are told without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks is no error
    try:
        code: int | None = tercel.main(standalone_mode=False)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.ClickException as error:
        error.show()
        code = 2 if isinstance(error, click.UsageError) else 1
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except TercelError as error:
        if "--debug" in sys.argv[1:2]:
            raise
        code = show_error(error)
    except OSError as error:
        if "--debug" in sys.argv[1:2]:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        code = show_error(TercelError(f"{place}{error.strerror or error}."))
    sys.exit(code or 0)


def show_error(error: TercelError) -> int:
    """Tell an error on standard error, message first and then the hint; gives the exit code it means."""
    issues = getattr(error, "issues", ())
    if not issues:
        click.echo(click.style("Error: ", fg="red") + error.message, err=True)
        if error.hint:
            click.echo(error.hint, err=True)
    return 2 if isinstance(error, InvalidFlowError | InvalidInputError | InvalidSettingError) else 1
