"""`tercel kv`: the key-value pairs of a namespace."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import cast, get_args

import click

from tercel.cli.options import home_option, settings_of
from tercel.errors import InvalidInputError, NotFoundError
from tercel.model.duration import format_duration, parse_duration
from tercel.model.json_form import instant_text
from tercel.model.key_values import ValueType, typed_value, untyped_value
from tercel.server import open_home, read_home
from tercel.store import KeyValue

_LONGEST_SHOWN = 80

_NAMESPACE = click.argument("namespace")
_KEY = click.argument("key")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def kv() -> None:
    """Keep values under keys that flows of a namespace share."""


@kv.command("list")
@_NAMESPACE
@click.option("--prefix", default="", help="Only keys that begin so.")
@_JSON
@home_option
def list_(namespace: str, prefix: str, as_json: bool, home: Path | None) -> None:
    """List the keys of a namespace, with their values; secrets in them are masked."""
    with read_home(settings_of(home)) as opened:
        found = opened.call(opened.queries.key_values(namespace, datetime.now(UTC), prefix))
    if as_json:
        click.echo(json.dumps([_json(one) for one in found], ensure_ascii=False, indent=2, default=_plain))
        return
    width = max((len(one.key) for one in found), default=0)
    for one in found:
        text = " ".join(_text(one.value).split())
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
        ends = "" if one.expires_at is None else f"  until {instant_text(one.expires_at)}"
        click.echo(f"{one.key:<{width}}  {shown}{ends}")


@kv.command()
@_NAMESPACE
@_KEY
@_JSON
@home_option
def get(namespace: str, key: str, as_json: bool, home: Path | None) -> None:
    """Print the value of a key: text as it is, all else as JSON; secrets in it are masked."""
    with read_home(settings_of(home)) as opened:
        found = opened.call(opened.queries.key_values(namespace, datetime.now(UTC), key))
    for one in found:
        if one.key == key:
            shown = _json(one) if as_json else one.value
            click.echo(json.dumps(shown, ensure_ascii=False, indent=2, default=_plain) if as_json else _text(shown))
            return
    raise NotFoundError(
        f"The namespace {namespace} has no key {key!r}, or it has expired.", f"`tercel kv list {namespace}` shows them."
    )


@kv.command("set")
@_NAMESPACE
@_KEY
@click.argument("value")
@click.option(
    "--type",
    "type_name",
    type=click.Choice(get_args(ValueType), case_sensitive=False),
    help="What VALUE is read as; without it as JSON where it is that, else as text.",
)
@click.option("--ttl", metavar="DURATION", help="How long it is kept, such as PT1H; for good without it.")
@click.option("--no-overwrite", is_flag=True, help="Refuse where the key has a value.")
@click.option("--description", default="", help="For readers.")
@home_option
def set_(
    namespace: str,
    key: str,
    value: str,
    type_name: str | None,
    ttl: str | None,
    no_overwrite: bool,
    description: str,
    home: Path | None,
) -> None:
    """Store VALUE under a key; a text that reads like an ISO duration is stored as one, unless --type is STRING."""
    read = _read(value, type_name)
    if read is None:
        raise InvalidInputError("The value null is none.", "`tercel kv delete` removes a key.")
    kept = None if ttl is None else _duration(ttl)
    with open_home(settings_of(home), what="tercel kv set", recover=False) as engine:
        stored = engine.operations.set_key_value(
            namespace, key, read, ttl=kept, overwrite=not no_overwrite, description=description
        )
        engine.call(stored)


@kv.command()
@_NAMESPACE
@_KEY
@home_option
def delete(namespace: str, key: str, home: Path | None) -> None:
    """Remove a key and its value."""
    with open_home(settings_of(home), what="tercel kv delete", recover=False) as engine:
        engine.call(engine.operations.delete_key_value(namespace, key))
    click.echo(f"{key} deleted.")


def _read(text: str, type_name: str | None) -> object:
    try:
        if type_name is not None:
            return typed_value(text, cast("ValueType", type_name.upper()))
    except ValueError as error:
        raise InvalidInputError(f"{text!r} cannot be read as {type_name}.", "Change it, or --type.") from error
    try:
        value = typed_value(text, "JSON")
    except ValueError:
        value = text
    return untyped_value(value) if isinstance(value, str) else value


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--ttl") from error


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    plain = (
        _plain(value) if isinstance(value, date | timedelta) else json.dumps(value, ensure_ascii=False, default=_plain)
    )
    return str(plain)


def _plain(value: object) -> object:
    """A date or a duration as text."""
    match value:
        case datetime():
            return value.isoformat()
        case date():
            return value.isoformat()
        case timedelta():
            return format_duration(value)
        case _:
            return str(value)


def _json(one: KeyValue) -> dict[str, object]:
    return {
        "key": one.key,
        "value": one.value,
        "description": one.description,
        "version": one.version,
        "createdAt": instant_text(one.created_at),
        "updatedAt": instant_text(one.updated_at),
        "expiresAt": None if one.expires_at is None else instant_text(one.expires_at),
    }
