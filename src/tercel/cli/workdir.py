"""`tercel workdir`: look into the directory of tasks as one of them found or left it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from difflib import unified_diff
from io import StringIO
from pathlib import Path
from typing import Any

import click

from tercel.cli.changes import MOST_LINES, change_json, change_text, kept_of, plain_path, shown, totals_text
from tercel.cli.options import home_option, meant_execution, settings_of
from tercel.errors import NotFoundError, UserError
from tercel.layers import Stack
from tercel.layers.changes import Change
from tercel.layers.copies import copy_entries
from tercel.layers.stacks import Entry
from tercel.layers.trees import READ_FLAGS
from tercel.model.size import size_text
from tercel.plugin_api import handed_down
from tercel.plugins.process import inherited_environment
from tercel.removal import remove_tree
from tercel.server import open_layers, read_home

_LONGEST_TEXT_BYTES = 64 << 10

_EXECUTION = click.argument("execution_id", metavar="EXECUTION")
_RUN = click.option(
    "--run", "run", metavar="TASK_RUN_ID", help="The task run that is meant, or its WorkingDirectory's, in loops."
)


@click.group()
def workdir() -> None:
    """Look into working directories as their tasks found or left them.

    EXECUTION is an id, or `last` for the newest one. CHILD is the id of a task of a WorkingDirectory, or of a task with
    inputFiles; a WorkingDirectory's own id stands for all its tasks. Of several attempts the last one counts.
    """


@workdir.command()
@_EXECUTION
@click.argument("child", metavar="CHILD")
@click.argument("other", metavar="[CHILD]", required=False)
@_RUN
@click.option("--text", "with_text", is_flag=True, help="Show which lines of text files are others.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@home_option
def diff(
    execution_id: str, child: str, other: str | None, run: str | None, with_text: bool, as_json: bool, home: Path | None
) -> None:
    """List what CHILD changed; with two, what is other in the directory after the second than after the first."""
    with read_home(settings_of(home)) as opened, kept_of(opened, meant_execution(opened, execution_id)) as kept:
        first = kept.part(child, run)
        last = first if other is None else kept.part(other, run)
        before, after = first.before if other is None else first.after, last.after
        changes = kept.changes(before, after)
        if as_json:
            click.echo(json.dumps([change_json(one) for one in changes], ensure_ascii=False, indent=2))
            return
        seen = shown(changes)
        for one in seen[:MOST_LINES]:
            click.echo(change_text(one))
            if with_text:
                click.echo(text_difference(one, kept.stack(before), kept.stack(after)), nl=False)
        if len(seen) > MOST_LINES:
            click.echo(f"… and {len(seen) - MOST_LINES} more; --json lists all")
        name = first.name if other is None else f"{first.name} → {last.name}"
        click.echo(f"{name}: {totals_text(seen)}")


def text_difference(change: Change, before: Stack, after: Stack) -> str:
    """The lines of a text file that are others, as `diff -u` shows them; "" for what is no text, or a long one."""
    old, new = _lines(before.find(change.path)), _lines(after.find(change.path))
    if old is None or new is None:
        return ""
    path = plain_path(change.path)
    difference = list(unified_diff(old, new, f"a/{path}", f"b/{path}"))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in difference)


def _lines(entry: Entry | None) -> list[str] | None:
    if entry is None or entry.kind == "d":
        return []
    if entry.kind != "f" or entry.status.st_size > _LONGEST_TEXT_BYTES:
        return None
    try:
        with open(os.open(entry.source, READ_FLAGS), "rb") as file:
            text = file.read(_LONGEST_TEXT_BYTES + 1).decode()
    except (PermissionError, UnicodeDecodeError):
        return None
    return None if "\0" in text else list(StringIO(text, newline="\n"))


@workdir.command()
@_EXECUTION
@click.argument("child", metavar="CHILD")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--before", is_flag=True, help="As CHILD found it.")
@_RUN
@home_option
def export(execution_id: str, child: str, target: Path, before: bool, run: str | None, home: Path | None) -> None:
    """Copy the directory as CHILD left it to DIR, which is new or empty."""
    is_there = os.path.lexists(target)
    if is_there and (not target.is_dir() or any(target.iterdir())):
        raise click.UsageError(f"{target} is there already and not an empty folder.")
    with read_home(settings_of(home)) as opened, kept_of(opened, meant_execution(opened, execution_id)) as kept:
        part = kept.part(child, run)
        stack = kept.stack(part.before if before else part.after)
        files, size, unreadable = _export(stack, target.absolute(), is_there=is_there)
    if unreadable:
        click.echo(f"Warning: {len(unreadable)} could not be read, such as {unreadable[0]!r}.", err=True)
    click.echo(f"{files} {'file' if files == 1 else 'files'}, {size_text(size)}, copied to {target}.")


def _export(stack: Stack, target: Path, *, is_there: bool) -> tuple[int, int, tuple[str, ...]]:
    """Copy a directory, all of it or nothing; how many files, their bytes, and what could not be read."""
    if is_there:
        folder = target
    else:
        folder = target.with_name(f".{target.name}.tercel-{os.urandom(6).hex()}")
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{target} cannot be made: {error.strerror}.", "Name a folder you may write to.") from error
    try:
        copied = copy_entries(stack.entries(), os.fspath(folder))
        if not is_there:
            folder.rename(target)
    except BaseException:
        for path in list(folder.iterdir()) if is_there else [folder]:
            remove_tree(path)
        raise
    return copied.files, copied.bytes, copied.unreadable


class _WithCommand(click.Command):
    """A command that takes another one after `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.obj, args = args[at + 1 :], args[:at]
        else:
            ctx.obj = []
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@workdir.command(cls=_WithCommand)
@_EXECUTION
@click.argument("child", metavar="[CHILD]", required=False)
@_RUN
@home_option
@click.pass_obj
def shell(command: list[str], execution_id: str, child: str | None, run: str | None, home: Path | None) -> None:
    """Open a shell in the directory as CHILD found it, or as it was at the end, or run COMMAND there.

    It is at the path at which the tasks saw it, with the environment variables that scripts get. What is changed there
    is thrown away. The exit code is the command's.
    """
    settings = settings_of(home)
    with read_home(settings) as opened:
        storage = opened.storage
        with kept_of(opened, meant_execution(opened, execution_id)) as kept:
            part = kept.part(child, run)
    names = f"{settings.script_environment},TERM,COLORTERM"
    environment = inherited_environment(os.environ) | handed_down(names, os.environ)
    command = command or [environment.get("SHELL") or "/bin/sh"]
    layers = part.before if child is not None else part.after
    store = open_layers(settings, storage).layers
    try:
        with store.directory(os.path.basename(part.snapshot.path)) as directory:
            if directory.uses(layers):
                raise NotFoundError("The directory was removed just now.")
            directory.fill(layers, made_at=part.snapshot.path)
            click.echo(f"{directory.path}: what you change here is thrown away when the command ends.", err=True)
            code = _run(command, directory.path, environment | {"WORKING_DIR": directory.path})
    finally:
        store.close()
    sys.exit(code)


def _run(command: Sequence[str], folder: str, environment: Mapping[str, str]) -> int:
    """Run a command to its end; its exit code, 128 + signal where a signal ended it."""
    with _Signals() as signals:
        try:
            process = subprocess.Popen(command, cwd=folder, env=environment)
        except OSError as error:
            raise UserError(f"{command[0]} cannot be started: {error.strerror}.") from error
        signals.pass_on_to(process)
        code = process.wait()
    return code if code >= 0 else 128 - code


class _Signals:
    """Lets signals end the command first: the directory is there for as long as this process is."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before: list[tuple[int, Any]] = []

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before.append((number, signal.signal(number, self._pass_on)))
        return self

    def pass_on_to(self, process: "subprocess.Popen[bytes]") -> None:
        """Send it the signals that come, and those that came already."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _pass_on(self, number: int, _: object) -> None:
        if number == signal.SIGINT:
            return  # the terminal sends Ctrl-C to the command, too
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
