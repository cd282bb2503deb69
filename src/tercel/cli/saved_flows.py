"""`tercel flow save`, `list`, `show`, `revisions`, `diff`, `delete`: flows that a home keeps, by their revisions."""

import json
import sys
from pathlib import Path

import click

from tercel.cli.flow import flow_files, read_checked, show_checked
from tercel.cli.options import home_option, settings_of
from tercel.errors import NotFoundError, UserError
from tercel.model.flow import Flow
from tercel.model.json_form import instant_text
from tercel.operations.flow_diff import changes_between, choose_revisions, find_revision
from tercel.server import Home, open_home, read_home
from tercel.store import FlowRevision

_FLOW = click.argument("name", metavar="FLOW")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE_OR_DIR...", type=click.Path(path_type=Path))
@home_option
def save(paths: tuple[Path, ...], home: Path | None) -> None:
    """Save flow files, and every *.yaml and *.yml below folders, without running them.

    A flow whose text is other than before gets its next revision. Where one is refused, none is saved.
    """
    settings = settings_of(home)
    flows: list[tuple[str, Flow]] = []
    is_valid = True
    for path in flow_files(paths):
        found = read_checked(path, settings)
        if found is None or found[1].flow is None or found[1].issues:
            is_valid = False
            if found is not None:
                show_checked(found[1], path)
            continue
        source, checked = found
        for warning in checked.warnings:
            click.echo(f"Warning: {path}: {warning.text}", err=True)
        assert checked.flow is not None
        flows.append((source, checked.flow))
    if not is_valid:
        click.echo("Nothing was saved.", err=True)
        sys.exit(1)
    with open_home(settings, what="tercel flow save", recover=False) as engine:
        known = {(one.namespace, one.id): one.revision for one in engine.call(engine.queries.saved_flows())}
        for source, flow in flows:
            saved = engine.call(engine.operations.save_flow(source, flow))
            note = "unchanged, " if known.get((saved.namespace, saved.id)) == saved.revision else ""
            known[saved.namespace, saved.id] = saved.revision
            click.echo(f"{saved.namespace}.{saved.id}  {note}revision {saved.revision}")


@click.command("list")
@click.option("--namespace", help="Only this namespace.")
@_JSON
@home_option
def list_(namespace: str | None, as_json: bool, home: Path | None) -> None:
    """List the saved flows, each in its latest revision."""
    with read_home(settings_of(home)) as opened:
        found = opened.call(opened.queries.saved_flows(namespace))
    if as_json:
        click.echo(json.dumps([_json(one) for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        click.echo(f"{one.namespace}.{one.id}  revision {one.revision}  {instant_text(one.created_at)}")


@click.command()
@_FLOW
@click.option("--revision", type=click.IntRange(min=1), metavar="N", help="This revision, not the latest.")
@home_option
def show(name: str, revision: int | None, home: Path | None) -> None:
    """Print the text of a flow."""
    with read_home(settings_of(home)) as opened:
        known = revisions_of(opened, name)
    found = known[-1] if revision is None else find_revision(known, revision)
    if revision is None and found.deleted:
        raise NotFoundError(f"The flow {name} was deleted.", f"--revision {found.revision} shows its last text.")
    click.echo(found.source, nl=not found.source.endswith("\n"))


@click.command()
@_FLOW
@_JSON
@home_option
def revisions(name: str, as_json: bool, home: Path | None) -> None:
    """List the revisions of a flow, oldest first."""
    with read_home(settings_of(home)) as opened:
        found = revisions_of(opened, name)
    if as_json:
        click.echo(json.dumps([_json(one) for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        click.echo(f"{one.revision}  {instant_text(one.created_at)}{'  deleted' if one.deleted else ''}")


@click.command()
@_FLOW
@click.argument("earlier", type=click.IntRange(min=1), required=False)
@click.argument("later", type=click.IntRange(min=1), required=False)
@home_option
def diff(name: str, earlier: int | None, later: int | None, home: Path | None) -> None:
    """Show what has changed in a flow from the revision EARLIER to LATER: those of the last change where not given.

    The exit code is 0 where nothing has changed, else 1.
    """
    with read_home(settings_of(home)) as opened:
        known = revisions_of(opened, name)
    changes = changes_between(*choose_revisions(known, earlier, later))
    click.echo("\n".join(changes), nl=bool(changes))
    sys.exit(bool(changes))


@click.command()
@_FLOW
@home_option
def delete(name: str, home: Path | None) -> None:
    """Delete a flow; its executions and its revisions stay, and saved again it goes on with the next revision."""
    settings = settings_of(home)
    with read_home(settings) as opened:
        found = meant_flow(opened, name)
    with open_home(settings, what="tercel flow delete", recover=False) as engine:
        engine.call(engine.operations.delete_flow(found.namespace, found.id))
    click.echo(f"{found.namespace}.{found.id} deleted.")


def meant_flow(home: Home, name: str) -> FlowRevision:
    """The latest revision of the flow that NAMESPACE.ID means, or ID where only one flow has it.

    Raises:
        NotFoundError: there is no such flow, or it was deleted.
        UserError: several have that id.
    """
    flows = home.call(home.queries.saved_flows())
    found = [one for one in flows if f"{one.namespace}.{one.id}" == name] or [one for one in flows if one.id == name]
    if not found:
        raise NotFoundError(f"There is no flow {name}.", "`tercel flow list` shows what is saved.")
    if len(found) > 1:
        names = ", ".join(f"{one.namespace}.{one.id}" for one in found)
        raise UserError(f"Several flows are called {name}.", f"Give one with its namespace: {names}.")
    return found[0]


def revisions_of(home: Home, name: str) -> list[FlowRevision]:
    """Every revision of a flow, oldest first; of a deleted one by its full name only. Raises as `meant_flow`."""
    try:
        latest = meant_flow(home, name)
    except NotFoundError:
        parts = name.split(".")
        for at in range(1, len(parts)):
            found = home.call(home.queries.flow_revisions(".".join(parts[:at]), ".".join(parts[at:])))
            if found:
                return found
        raise
    return home.call(home.queries.flow_revisions(latest.namespace, latest.id))


def _json(one: FlowRevision) -> dict[str, object]:
    return {
        "namespace": one.namespace,
        "id": one.id,
        "revision": one.revision,
        "savedAt": instant_text(one.created_at),
        "deleted": one.deleted,
    }
