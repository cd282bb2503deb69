"""`tercel cache`: the caches of working directories."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from tercel.cli.live_view import duration_text
from tercel.cli.options import home_option, settings_of
from tercel.model.json_form import instant_text
from tercel.server import read_home
from tercel.storage.caches import Caches, Listed


@click.group()
def cache() -> None:
    """See and clear the caches of working directories."""


@cache.command("list")
@click.option("--namespace", default="", help="Only this namespace and those below it.")
@home_option
def list_(namespace: str, home: Path | None) -> None:
    """List the entries: task, files, size, age."""
    now = datetime.now(UTC)
    for one in _entries(home, namespace):
        entry = one.entry
        if entry is None:
            click.echo(f"{one.folder}  damaged")
            continue
        key = entry.key
        loop = f" [{', '.join(key.values)}]" if key.values else ""
        more = f" key {key.key}" if key.key else ""
        size = f"{entry.pack.files} files, {_size(entry.pack.bytes)}"
        click.echo(f"{key.namespace}.{key.flow_id}.{key.task_id}{loop}{more}  {size}, {_age(now, entry.saved_at)} old")


@cache.command()
@click.argument("task", metavar="NAMESPACE.FLOW.TASK")
@home_option
def show(task: str, home: Path | None) -> None:
    """Show the entries of a task, as JSON."""
    shown: list[object] = []
    for one in _of_task(home, task):
        entry = one.entry
        if entry is not None:
            shown.append(
                {
                    "folder": one.folder,
                    "values": entry.key.values,
                    "key": entry.key.key,
                    "savedAt": instant_text(entry.saved_at),
                    "lastUsedAt": None if one.last_used_at is None else instant_text(one.last_used_at),
                    "patterns": entry.patterns,
                    "exclude": entry.exclude,
                    "platform": entry.platform,
                    "files": entry.pack.files,
                    "size": entry.pack.bytes,
                    "executionId": entry.execution_id,
                }
            )
    click.echo(json.dumps(shown, indent=2))


@cache.command()
@click.argument("task", metavar="NAMESPACE.FLOW.TASK", required=False)
@click.option("--all", "everything", is_flag=True, help="Every entry of the home.")
@home_option
def clear(task: str | None, everything: bool, home: Path | None) -> None:
    """Remove the entries of a task; the next run is a first one."""
    if (task is None) != everything:
        raise click.UsageError("Name a task, as NAMESPACE.FLOW.TASK, or give --all.")
    found = _entries(home, "") if task is None else _of_task(home, task)
    with read_home(settings_of(home)) as opened:
        caches = Caches(opened.storage)
        for one in found:
            caches.delete(one.folder)
    click.echo(f"{len(found)} {'entry' if len(found) == 1 else 'entries'} removed.")


def _entries(home: Path | None, namespace: str) -> list[Listed]:
    with read_home(settings_of(home)) as opened:
        return Caches(opened.storage).search(namespace)


def _of_task(home: Path | None, task: str) -> list[Listed]:
    found = [
        one
        for one in _entries(home, "")
        if one.entry is not None
        and f"{one.entry.key.namespace}.{one.entry.key.flow_id}.{one.entry.key.task_id}" == task
    ]
    if not found:
        raise click.ClickException(f"Nothing is cached for {task!r}; `tercel cache list` shows what is.")
    return found


def _age(now: datetime, then: datetime) -> str:
    return duration_text(now - then)


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
