"""`tercel config`: which settings are in force and what says so; whether a configuration can be used."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import click

from tercel.cli.options import configuration_of, home_option, settings_of
from tercel.configuration import Configuration, configure, file_sources
from tercel.settings import SETTINGS, Given, Setting, Settings, given_for, read_settings

_LONGEST_SHOWN = 60


@click.group()
def config() -> None:
    """See which settings are in force, and check configurations."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@home_option
def show(as_json: bool, home: Path | None) -> None:
    """Print every setting with its value and what gives it; secrets are masked.

    An option wins over an environment variable, that over the files of --config, those over Kestra's own variables
    (such as KESTRA_URL), those over TERCEL_CONFIGURATION and KESTRA_CONFIGURATION, which hold a configuration as text.
    """
    settings = settings_of(home)
    configuration = configuration_of(os.environ) or Configuration({})
    options = {} if home is None else {"home": Given(str(home), "--home")}
    rows = [_row(one, settings, configuration.given, options) for one in SETTINGS]
    notes = [{"key": one.key, "place": one.place, "reason": one.reason} for one in configuration.without_effect]
    if as_json:
        shown = {"settings": rows, "warnings": list(configuration.warnings), "withoutEffect": notes}
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    width = max(len(row["key"]) for row in rows)
    values = [
        row["value"] if len(row["value"]) <= _LONGEST_SHOWN else f"{row['value'][:_LONGEST_SHOWN]}…" for row in rows
    ]
    value_width = max(map(len, values))
    for row, value in zip(rows, values, strict=True):
        place = f" ({row['place']})" if row["place"] else ""
        click.echo(f"{row['key']:<{width}}  {value:<{value_width}}  {row['from']}{place}")
    _tell_notes(configuration)


def _row(
    setting: Setting, settings: Settings, configured: Mapping[str, Given], options: Mapping[str, Given]
) -> dict[str, str]:
    found = options.get(setting.field) or given_for(setting, os.environ, configured)
    value = _text(getattr(settings, setting.field))
    if found is not None and setting.shown is not str:
        value = setting.shown(found.text)
    return {
        "key": setting.key,
        "variable": setting.environment,
        "value": value,
        "from": "default" if found is None else found.name,
        "place": "" if found is None else found.place,
    }


def _text(value: object) -> str:
    match value:
        case None | {} | b"":
            return ""
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # of texts
        case _:
            return str(value)


def _tell_notes(configuration: Configuration) -> None:
    if configuration.without_effect:
        click.echo("\nWithout effect here:")
    for note in configuration.without_effect:
        click.echo(f"  {note.key}{f' ({note.place})' if note.place else ''}: {note.reason}")


@config.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
def validate(files: tuple[Path, ...]) -> None:
    """Check configurations: their keys, and whether each value can be used; of several files the last one wins.

    Placeholders are filled from the environment, which has no other say. Exit code 2 where something cannot be used; a
    key that has no effect is only told.
    """
    configuration = configure([], os.environ, file_sources(files), with_variables=False)
    usual = None if "home" in configuration.given else Path()  # whoever looks need not have one
    read_settings({}, configuration.given, home=usual)
    for sentence in configuration.warnings:
        click.echo(f"{click.style('⚠', fg='yellow')} {sentence}", err=True)
    for file in files:
        click.echo(f"{click.style('✓', fg='green')} {file}")
    _tell_notes(configuration)
