"""`tercel plugin`: the types that tasks can have, and their documentation."""

from typing import Any, cast

import click

from tercel.plugins import MODULES, catalog


@click.group()
def plugin() -> None:
    """The types that tasks can have."""


@plugin.command("list")
@click.option("--all", "with_former", is_flag=True, help="Former names too.")
def list_(with_former: bool) -> None:
    """List every type."""
    for name in sorted(MODULES):
        found = catalog().find(name)
        if found is None:
            continue
        is_former = name != getattr(found, "plugin_type", name)
        if is_former and not with_former:
            continue
        click.echo(f"{name} → {found.plugin_type}" if is_former else name)  # pyright: ignore[reportAttributeAccessIssue]  # @plugin sets it


@plugin.command()
@click.argument("type_name", metavar="TYPE")
def doc(type_name: str) -> None:
    """Tell what a type does, its properties and outputs; the last part of the name is enough where it is clear."""
    names = [name for name in sorted(MODULES) if name == type_name] or [
        name for name in sorted(MODULES) if name.endswith(f".{type_name}") and name.startswith("io.kestra.plugin.")
    ]
    known = catalog()
    classes = {found: name for name in reversed(names) if (found := known.find(name)) is not None}
    if len(classes) != 1:
        some = f" It could be {' or '.join(sorted(classes.values()))}." if classes else ""
        message = f"No single type is meant by {type_name!r}.{some} `tercel plugin list` shows every type."
        raise click.UsageError(message)
    found, name = classes.popitem()
    from tercel.model.schema import summary, type_schema  # noqa: PLC0415  # only this command needs it

    click.echo(f"{name}\n\n{summary(found)}\n\nProperties:")
    schema = cast("dict[str, Any]", type_schema(found))
    for key, value in schema["properties"].items():
        must = " (required)" if key in schema.get("required", ()) else ""
        about = value.get("description", "")
        click.echo(f"  {key}{must}: {about}" if about else f"  {key}{must}")
