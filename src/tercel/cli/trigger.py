"""`tercel trigger`: what starts the saved flows by itself, and where each stands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from tercel.cli.options import home_option, settings_of
from tercel.cli.saved_flows import meant_flow
from tercel.errors import NotFoundError, UserError
from tercel.model.flow import Flow
from tercel.model.json_form import instant_text
from tercel.model.source import read_flow
from tercel.model.trigger import Trigger
from tercel.plugins import catalog
from tercel.server import Home, open_home, read_home
from tercel.store import TriggerState

_FLOW = click.argument("name", metavar="FLOW")
_TRIGGER = click.argument("trigger_id", metavar="TRIGGER")


class _Row(NamedTuple):
    """A trigger of a saved flow, and where it stands; None where nothing is known of that yet."""

    flow: Flow
    trigger: Trigger
    state: TriggerState | None

    @property
    def why_off(self) -> str:
        """Why it starts nothing; empty where it does."""
        if self.flow.disabled:
            return "its flow is disabled"
        if self.trigger.disabled:
            return "disabled in its flow"
        return "disabled" if self.state is not None and self.state.disabled else ""


@click.group()
def trigger() -> None:
    """Look at triggers of saved flows, and switch them off and on. FLOW is NAMESPACE.ID, or ID where it is clear."""


@trigger.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", "flow_id", help="Only flows of this id.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@home_option
def list_(namespace: str | None, flow_id: str | None, as_json: bool, home: Path | None) -> None:
    """List triggers: whether each is on, and when its next date is."""
    with read_home(settings_of(home)) as opened:
        rows = list(_rows(opened, namespace, flow_id))
    if as_json:
        click.echo(json.dumps([_json(row) for row in rows], ensure_ascii=False, indent=2))
        return
    for row in rows:
        state = row.state
        when = "" if state is None or state.next_at is None or row.why_off else f"  next {instant_text(state.next_at)}"
        last = "" if state is None or state.execution_id is None else f"  execution {state.execution_id}"
        name = f"{row.flow.namespace}.{row.flow.id}  {row.trigger.id}  {row.trigger.type}"
        click.echo(f"{name}  {row.why_off or 'enabled'}{when}{last}")


@trigger.command()
@_FLOW
@_TRIGGER
@home_option
def enable(name: str, trigger_id: str, home: Path | None) -> None:
    """Have a trigger start executions again."""
    _switch(home, name, trigger_id, disabled=False)


@trigger.command()
@_FLOW
@_TRIGGER
@home_option
def disable(name: str, trigger_id: str, home: Path | None) -> None:
    """Have a trigger start nothing until it is enabled."""
    _switch(home, name, trigger_id, disabled=True)


def _switch(home: Path | None, name: str, trigger_id: str, *, disabled: bool) -> None:
    settings = settings_of(home)
    word = "disable" if disabled else "enable"
    with read_home(settings) as opened:
        flow = meant_flow(opened, name)
        known = [row.trigger.id for row in _rows(opened, flow.namespace, flow.id)]
    if trigger_id not in known:
        raise NotFoundError(
            f"The flow {flow.namespace}.{flow.id} has no trigger {trigger_id!r}.",
            f"Its triggers are: {', '.join(known)}." if known else "It has none.",
        )
    with open_home(settings, what=f"tercel trigger {word}", recover=False) as engine:
        call = engine.scheduler.set_disabled(flow.namespace, flow.id, trigger_id, disabled=disabled)
        engine.call(call)
        [row] = [row for row in _rows(engine, flow.namespace, flow.id) if row.trigger.id == trigger_id]
    click.echo(f"{flow.namespace}.{flow.id}  {trigger_id}  {word}d")
    if not disabled and row.why_off:
        click.echo(f"It still starts nothing: {row.why_off}.", err=True)


def _rows(home: Home, namespace: str | None, flow_id: str | None) -> Iterator[_Row]:
    """The triggers of saved flows; a flow that cannot be read any more is told and left out."""
    states = {(one.namespace, one.flow_id, one.trigger_id): one for one in home.call(home.queries.trigger_states())}
    for saved in home.call(home.queries.saved_flows(namespace)):
        if flow_id not in (None, saved.id) or "triggers" not in saved.source:
            continue
        try:
            flow = read_flow(saved.source, catalog())
        except UserError as error:
            click.echo(f"Warning: {saved.namespace}.{saved.id} cannot be read: {error.message}", err=True)
            continue
        for one in flow.triggers:
            yield _Row(flow, one, states.get((saved.namespace, saved.id, one.id)))


def _json(row: _Row) -> dict[str, object]:
    state = row.state
    next_at = None if state is None else state.next_at
    return {
        "namespace": row.flow.namespace,
        "flowId": row.flow.id,
        "triggerId": row.trigger.id,
        "type": row.trigger.type,
        "disabled": bool(row.why_off),
        "nextDate": None if next_at is None or row.why_off else instant_text(next_at),
        "executionId": None if state is None else state.execution_id,
    }
