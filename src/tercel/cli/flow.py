"""`tercel flow`: check flows, keep them, and print their JSON Schema."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tercel.cli.groups import LateGroup
from tercel.cli.options import config_option, settings_of
from tercel.model.source import Checked, check_flow
from tercel.plugins import catalog
from tercel.settings import Settings

_LATE = {
    "save": "tercel.cli.saved_flows",
    "list": "tercel.cli.saved_flows",
    "show": "tercel.cli.saved_flows",
    "revisions": "tercel.cli.saved_flows",
    "diff": "tercel.cli.saved_flows",
    "delete": "tercel.cli.saved_flows",
}
"""To check flows needs no home."""


@click.group(cls=LateGroup, late=_LATE)
def flow() -> None:
    """Check and save flows; their JSON Schema for editors. FLOW is NAMESPACE.ID, or ID where only one has it."""


@flow.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE_OR_DIR...", type=click.Path(path_type=Path))
@click.option("--local", is_flag=True, help="Accepted, as they are always checked here and not by a server.")
@config_option
def validate(paths: tuple[Path, ...], local: bool) -> None:
    """Check flow files, and every *.yaml and *.yml below folders; tells every violation at once."""
    del local
    is_valid = True
    settings = settings_of(Path())  # no home is needed
    for path in flow_files(paths):
        found = read_checked(path, settings)
        is_valid = found is not None and show_checked(found[1], path) and is_valid
    sys.exit(0 if is_valid else 1)


@flow.command()
@click.option("--type", "type_name", help="One type's schema instead of the whole flow's.")
def schema(type_name: str | None) -> None:
    """Print the JSON Schema of flows: point your editor's YAML support at it."""
    from tercel.model.schema import flow_schema, type_schema  # noqa: PLC0415  # only this command needs it

    if type_name is None:
        click.echo(json.dumps(flow_schema(catalog()), indent=2))
        return
    found = catalog().find(type_name)
    if found is None:
        raise click.UsageError(f"No plugin provides the type {type_name!r}; `tercel plugin list` shows every type.")
    click.echo(json.dumps(type_schema(found), indent=2))


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read."""
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8 text"


def read_checked(path: Path, settings: Settings) -> tuple[str, Checked] | None:
    """The text of a flow file and what a check finds in it; None, and why is told, where it cannot be read."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        click.echo(f"{click.style('✘', fg='red')} {path}\n  It cannot be read: {unreadable(error)}.", err=True)
        return None
    return source, check_flow(source, catalog(), settings.plugin_defaults)


def show_checked(checked: Checked, path: Path) -> bool:
    """Tell what a check found: a line on standard output for a valid flow, the issues on standard error."""
    for warning in checked.warnings:
        click.echo(f"{click.style('⚠', fg='yellow')} {path}:{warning.line}:{warning.column} {warning.text}", err=True)
    if checked.flow is not None and not checked.issues:
        click.echo(f"{click.style('✓', fg='green')} {checked.flow.namespace} / {checked.flow.id}")
        return True
    click.echo(f"{click.style('✘', fg='red')} {path}", err=True)
    for issue in checked.issues:
        code = f" [{issue.code}]" if issue.code else ""
        click.echo(f"  {issue.text}{code}", err=True)
    return False


def flow_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    """The files given, and every *.yaml and *.yml below the folders given."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix in {".yaml", ".yml"} and file.is_file())
        elif path.is_file():
            yield path
        else:
            raise click.UsageError(f"There is no file or folder {str(path)!r}.")
