"""`tercel cache`: the caches of working directories, in internal storage and on this machine."""

import json
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from tercel.cli.live_view import duration_text, printable
from tercel.cli.options import home_option, settings_of
from tercel.layers import Stack
from tercel.layers.changes import count, count_layer
from tercel.layers.pool import Pool
from tercel.model.duration import parse_duration
from tercel.model.json_form import Json, instant_text
from tercel.model.size import parse_size, size_text
from tercel.server import open_layers, read_home
from tercel.storage.caches import Caches, Listed

if TYPE_CHECKING:
    from tercel.worker.layer_services import LayerServices


@click.group()
def cache() -> None:
    """See, clear and prune the caches of working directories."""


class _Entry(NamedTuple):
    """An entry as it is here and in internal storage.

    Attributes:
        task: namespace, flow and task, with points between; of an entry that cannot be read its folder.
        files: all but folders.
        bytes: their content.
        layers: ids, the lowest first.
        hits: how often this machine has used it.
        used_at: its last use; None for never.
        is_here: this machine has all its layers.
        is_stored: so does internal storage.
    """

    listed: Listed
    task: str
    files: int
    bytes: int
    layers: tuple[str, ...]
    hits: int
    used_at: datetime | None
    is_here: bool
    is_stored: bool

    @property
    def needed_at(self) -> datetime:
        """Its last use, or when it was saved."""
        saved_at = datetime.fromtimestamp(0, UTC) if self.listed.entry is None else self.listed.entry.saved_at
        return saved_at if self.used_at is None else max(saved_at, self.used_at)

    @property
    def packed_bytes(self) -> int:
        """What it takes in internal storage."""
        return self.listed.entry.packed_bytes if self.listed.entry is not None and self.is_stored else 0

    @property
    def name(self) -> str:
        """For people: the task, with loop values and key."""
        if self.listed.entry is None:
            return self.task
        key = self.listed.entry.key
        loop = f" [{', '.join(key.values)}]" if key.values else ""
        return printable(f"{self.task}{loop}" + (f" key {key.key}" if key.key else ""))


@cache.command("list")
@click.option("--namespace", default="", help="Only this namespace and those below it.")
@home_option
def list_(namespace: str, home: Path | None) -> None:
    """List the entries: task, loop values, key; how much they hold, how old they are, how they are used."""
    with _opened(home) as (services, _):
        entries = _entries(services, namespace)
    now = datetime.now(UTC)
    for one in entries:
        click.echo(f"{one.name}  {_about(one, now)}")
    if entries:
        total, packed = sum(one.bytes for one in entries), sum(one.packed_bytes for one in entries)
        click.echo(
            f"In all: {_amount(len(entries), 'entry', 'entries')}, {size_text(total)}, {size_text(packed)} stored"
        )
    else:
        click.echo("Nothing is cached.")


def _about(one: _Entry, now: datetime) -> str:
    entry = one.listed.entry
    if entry is None:
        return "damaged"
    parts = [
        f"{_amount(one.files, 'file')}, {size_text(one.bytes)} in {_amount(len(one.layers), 'layer')}",
        f"{_since(entry.saved_at, now)} old",
        _amount(one.hits, "hit"),
    ]
    if one.used_at is not None:
        parts.append(f"last used {_since(one.used_at, now)} ago")
    if not one.is_stored:
        parts.append("on this machine only")
    else:
        parts.append("stored and on this machine" if one.is_here else "stored")
    return ", ".join(parts)


def _since(then: datetime, now: datetime) -> str:
    return duration_text(max(now - then, timedelta(0)))


@cache.command()
@click.argument("task", metavar="NAMESPACE.FLOW.TASK")
@home_option
def show(task: str, home: Path | None) -> None:
    """Show the entries of a task, as JSON."""
    with _opened(home) as (services, _):
        listed = [_entry_json(one, services.layers.pool) for one in _of_task(services, task)]
    click.echo(json.dumps(listed, ensure_ascii=False, indent=2))


def _entry_json(one: _Entry, pool: Pool) -> Json:
    entry = one.listed.entry
    if entry is None:
        return {"folder": one.listed.folder, "isDamaged": True}
    packs = {pack.id: pack for pack in entry.layers}
    return {
        "id": entry.id,
        "folder": one.listed.folder,
        "values": list(entry.key.values),
        "key": entry.key.key,
        "savedAt": instant_text(entry.saved_at),
        "lastUsedAt": None if one.used_at is None else instant_text(one.used_at),
        "hits": one.hits,
        "isStored": one.is_stored,
        "isHere": one.is_here,
        "patterns": list(entry.patterns),
        "exclude": list(entry.exclude),
        "platform": entry.platform,
        "root": entry.root,
        "files": one.files,
        "size": one.bytes,
        "packedSize": one.packed_bytes,
        "layers": [
            {
                "id": layer,
                "files": pack.files if pack is not None else None,
                "size": pack.bytes if pack is not None else pool.bytes(layer),
                "packedSize": pack.packed_bytes if pack is not None else None,
                "isHere": pool.has(layer),
            }
            for layer in one.layers
            for pack in [packs.get(layer)]
        ],
        "executionId": entry.execution_id,
        "taskRunId": entry.task_run_id,
        "revision": entry.revision,
        "seconds": entry.seconds,
    }


@cache.command()
@click.argument("task", metavar="NAMESPACE.FLOW.TASK", required=False)
@click.option("--all", "everything", is_flag=True, help="Every entry of the home.")
@home_option
def clear(task: str | None, everything: bool, home: Path | None) -> None:
    """Remove the entries of a task, here and in internal storage; the next run is a first one."""
    if (task is None) != everything:
        raise click.UsageError("Name a task, as NAMESPACE.FLOW.TASK, or give --all.")
    with _opened(home) as (services, _):
        found = _entries(services) if task is None else _of_task(services, task)
        for one in found:
            services.shelf.clear(one.listed)
        services.layers.sweep()
    click.echo(f"{_amount(len(found), 'entry', 'entries')} removed.")


def _read_span(_: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """A time span: ISO 8601, or a whole number with its unit."""
    if value is None:
        return None
    short = re.fullmatch(r"(\d{1,6})\s*([wdhms])", value.strip(), re.IGNORECASE)
    if short:
        unit = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[short[2].lower()]
        return timedelta(**{unit: int(short[1])})
    with suppress(ValueError):
        span = parse_duration(value)
        if span >= timedelta(0):
            return span
    raise click.BadParameter(f"{value!r} is not a time span such as 30d, 12h or P30D.", param=param)


def _read_size(_: click.Context, param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not {error}.", param=param) from error


@cache.command()
@click.option("--older-than", callback=_read_span, metavar="SPAN", help="Entries not used for so long: 30d, 12h, P30D.")
@click.option(
    "--to", "limit", callback=_read_size, metavar="SIZE", help="Least recently used entries, down to 500M or 10G."
)
@home_option
def prune(older_than: timedelta | None, limit: int | None, home: Path | None) -> None:
    """Remove entries by their last use, here and in internal storage, and what crashes have left behind.

    Without an option only the latter. SIZE is that of all entries together, as `tercel cache list` says it.
    """
    now = datetime.now(UTC)
    with _opened(home) as (services, caches):
        pool = services.layers.pool
        before = _sizes(pool)
        gone = _prunable(_entries(services), now, older_than, limit)
        for one in gone:
            services.shelf.clear(one.listed)
            about = f"{size_text(one.bytes)}, not used for {_since(one.needed_at, now)}"
            click.echo(f"{one.name}: {'damaged' if one.listed.entry is None else about}")
        lost = services.clean() + caches.collect(now)
        there = set(pool.layers())
        freed = sum(size for layer, size in before.items() if layer not in there)
    stored = sum(one.packed_bytes for one in gone)
    removed = f"{_amount(len(gone), 'entry', 'entries')}, {_amount(lost, 'layer or leftover', 'layers and leftovers')}"
    click.echo(
        f"{removed} removed; freed {size_text(freed)} on this machine and {size_text(stored)} in internal storage."
    )


def _prunable(
    entries: Sequence[_Entry], now: datetime, older_than: timedelta | None, limit: int | None
) -> list[_Entry]:
    """The entries to be removed, the least recently used first."""
    total = sum(one.bytes for one in entries)
    gone: list[_Entry] = []
    for one in sorted(entries, key=lambda one: one.needed_at):
        is_old = older_than is not None and now - one.needed_at > older_than
        if is_old or (limit is not None and total > limit):
            gone.append(one)
            total -= one.bytes
    return gone


def _sizes(pool: Pool) -> dict[str, int]:
    """Content of each layer on this machine, in bytes; of one that is being made, for now."""
    sizes: dict[str, int] = {}
    for layer in pool.layers():
        facts = pool.facts(layer)
        with suppress(OSError):  # gone meanwhile
            sizes[layer] = count_layer(pool.tree(layer))[1] if facts is None else facts.bytes
    return sizes


@contextmanager
def _opened(home: Path | None) -> "Generator[tuple[LayerServices, Caches]]":
    with read_home(settings_of(home)) as opened:
        services = open_layers(opened.settings, opened.storage)
        try:
            yield services, Caches(opened.storage)
        finally:
            services.close()


def _entries(services: "LayerServices", namespace: str = "") -> list[_Entry]:
    return [_entry(services, one) for one in services.shelf.listed(namespace)]


def _entry(services: "LayerServices", listed: Listed) -> _Entry:
    entry, pool = listed.entry, services.layers.pool
    if entry is None:
        return _Entry(listed, listed.folder, 0, 0, (), 0, None, is_here=False, is_stored=True)
    key = entry.key
    hits, used_at = services.shelf.uses(entry)
    is_stored = services.shelf.is_stored(entry)
    layers = tuple(layer.id for layer in entry.layers) if is_stored else services.shelf.layers_here(entry)
    files, size = entry.files, entry.bytes
    if not is_stored:
        with suppress(OSError):  # stored meanwhile, and then removed
            files, size = count(Stack([pool.tree(layer) for layer in layers]))
    return _Entry(
        listed,
        f"{key.namespace}.{key.flow_id}.{key.task_id}",
        files,
        size,
        layers,
        hits,
        used_at,
        is_here=all(pool.has(layer) for layer in layers),
        is_stored=is_stored,
    )


def _of_task(services: "LayerServices", task: str) -> list[_Entry]:
    found = [one for one in _entries(services) if one.task == task]
    if not found:
        raise click.ClickException(f"Nothing is cached for {task!r}; `tercel cache list` shows what is.")
    return found


def _amount(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
