"""`tercel trigger`: what starts the saved flows by itself, where each stands, and what a polling trigger finds."""

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
from tercel.scheduler import problem_of
from tercel.server import Home, open_home, read_home
from tercel.settings import Settings
from tercel.store import FlowRevision, TriggerState

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
        problem = "" if state is None or not problem_of(state) else f"  failed last: {problem_of(state)}"
        name = f"{row.flow.namespace}.{row.flow.id}  {row.trigger.id}  {row.trigger.type}"
        click.echo(f"{name}  {row.why_off or 'enabled'}{when}{last}{problem}")


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


@trigger.command("test")
@_FLOW
@_TRIGGER
@home_option
@click.pass_context
def try_out(context: click.Context, name: str, trigger_id: str, home: Path | None) -> None:
    """Evaluate a polling trigger now, and start nothing: print what an execution would see as `trigger`.

    That is JSON, secrets masked; nothing is printed where nothing would be started. What the trigger keeps stays as it
    is, and files that it saves are removed again. Its log goes to standard error.
    """
    settings = settings_of(home)
    flow = _flow_with(settings, name, trigger_id)
    with open_home(settings, what="tercel trigger test", recover=False) as engine:
        is_due, result = engine.call(engine.scheduler.try_out(flow.namespace, flow.id, trigger_id))
        for entry in result.entries:
            click.echo(f"{entry.level:<5} {entry.message}", err=True)
        if not is_due:
            click.echo("Its conditions do not hold: by itself it would not be evaluated now.", err=True)
        if result.problem:
            click.echo(click.style("Error: ", fg="red") + f"The evaluation failed: {result.problem}", err=True)
            context.exit(1)
        if result.variables is None:
            click.echo("There is nothing to start an execution for.", err=True)
            return
        click.echo(engine.mask(json.dumps(result.variables, ensure_ascii=False, indent=2)))


def _flow_with(settings: Settings, name: str, trigger_id: str) -> FlowRevision:
    """The flow that is meant; it has the trigger. Raises NotFoundError."""
    with read_home(settings) as opened:
        flow = meant_flow(opened, name)
        known = [row.trigger.id for row in _rows(opened, flow.namespace, flow.id)]
    if trigger_id not in known:
        raise NotFoundError(
            f"The flow {flow.namespace}.{flow.id} has no trigger {trigger_id!r}.",
            f"Its triggers are: {', '.join(known)}." if known else "It has none.",
        )
    return flow


def _switch(home: Path | None, name: str, trigger_id: str, *, disabled: bool) -> None:
    settings = settings_of(home)
    word = "disable" if disabled else "enable"
    flow = _flow_with(settings, name, trigger_id)
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
            flow = read_flow(saved.source, catalog(), home.settings.plugin_defaults)
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
        "problem": None if state is None else problem_of(state) or None,
    }
