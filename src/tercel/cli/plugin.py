"""`tercel plugin`: the types that flows can name, their documentation, and a package to begin types of one's own."""

from collections.abc import Iterator
from pathlib import Path

import click

from tercel.errors import MissingToolError
from tercel.model.catalog import Catalog
from tercel.model.task import Part
from tercel.plugins import catalog


@click.group()
def plugin() -> None:
    """The types that flows can name."""


@plugin.command("list")
@click.option("--all", "with_former", is_flag=True, help="Former names too.")
def list_(with_former: bool) -> None:
    """List every type; those of installed packages with the package."""
    known = catalog()
    for name, part in _found(known):
        is_former = name != part.plugin_type
        if is_former and not with_former:
            continue
        package = known.package_of(name)
        click.echo((f"{name} → {part.plugin_type}" if is_former else name) + (f"  ({package})" if package else ""))
    for fault in known.faults():
        click.echo(fault, err=True)


def _found(known: Catalog) -> Iterator[tuple[str, type[Part]]]:
    """Every name that leads to a class, and the class."""
    for name in known.names():
        try:
            part = known.find(name)
        except MissingToolError:
            continue
        if part is not None:
            yield name, part


@plugin.command()
@click.argument("type_name", metavar="TYPE")
def doc(type_name: str) -> None:
    """Tell what a type does, its properties and outputs, and show an example.

    The last part of the name is enough where it is clear.
    """
    known = catalog()
    meant = [name for name in known.names() if name == type_name] or [
        name for name in known.names() if name.endswith(f".{type_name}") and not name.startswith("io.kestra.core.")
    ]
    classes: dict[type[Part], str] = {}
    for name in reversed(meant):
        part = known.find(name)
        if part is not None:
            classes[part] = name
    if len(classes) != 1:
        some = f" It could be {' or '.join(sorted(classes.values()))}." if classes else ""
        message = f"No single type is meant by {type_name!r}.{some} `tercel plugin list` shows every type."
        raise click.UsageError(message)
    part, name = classes.popitem()
    package = known.package_of(name)
    click.echo("\n".join(_told(part, name, package)))


def _told(part: type[Part], name: str, package: str) -> Iterator[str]:
    from tercel.model.documentation import part_name, parts_inside  # noqa: PLC0415  # only this command needs it
    from tercel.model.schema import example_flow, outputs, summary  # noqa: PLC0415  # as above

    yield name
    if name != part.plugin_type:
        yield f"The former name of {part.plugin_type}."
    if package:
        yield f"From the package {package}."
    yield f"\n{summary(part)}\n"
    if "type" in part.deprecated:
        yield f"Deprecated. {part.deprecated['type']}\n"
    yield "Properties:"
    yield from _properties(part)
    for inside in parts_inside(part):
        yield f"\n{part_name(inside)}:"
        yield from _properties(inside)
    results = outputs(part)
    if results:
        yield "\nOutputs:"
        yield from (f"  {key}: {about}" for key, about in results.items())
    if part.plugin_aliases:
        yield f"\nFormer names: {', '.join(sorted(part.plugin_aliases))}"
    example = example_flow(part)
    if example:
        yield "\nExample:"
        yield from (f"  {line}".rstrip() for line in example.splitlines())


def _properties(part: type[Part]) -> Iterator[str]:
    from tercel.model.documentation import properties  # noqa: PLC0415  # only this command needs it

    for one in properties(part):
        notes = [one.kind.replace("`", "")]
        notes += ["required"] if one.is_required else []
        notes += ["rendered"] if one.is_rendered else []
        notes += [f"{one.default} by default"] if one.default else []
        yield f"  {one.name} ({'; '.join(notes)})" + (f": {one.about}" if one.about else "")


@plugin.command()
@click.argument("name")
@click.option("--type", "type_name", help="Full name of the package's first type, instead of one made from NAME.")
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Make the package's folder in this one.",
)
def new(name: str, type_name: str | None, folder: Path) -> None:
    """Begin a package with a type of one's own.

    Writes the folder NAME with a task, its entry point, an example flow and tests. NAME is that of the package, such
    as acme-text.
    """
    from tercel.cli.plugin_template import (  # noqa: PLC0415  # only here
        is_package_name,
        is_taken,
        is_type_name,
        package_files,
    )

    if not is_package_name(name):
        raise click.UsageError(
            f"{name!r} is no name for a package. Use small letters, digits and '-', as in acme-text."
        )
    if type_name is not None and not is_type_name(type_name):
        raise click.UsageError(f"{type_name!r} is no name for a type. Write it like io.acme.text.Keep.")
    for one in (name, type_name):
        if one is not None and is_taken(one):
            raise click.UsageError(f"Python or Tercel has something named {one!r} already. Choose another name.")
    target = folder / name
    if target.exists():
        raise click.UsageError(f"{target} is there already. Choose another name, or remove it.")
    for path, text in package_files(name, type_name).items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, "utf-8")
        click.echo(target / path)
    click.echo(
        f"\nInstall it with `pip install -e {target}`, and try it: `tercel run {target / 'flow.yaml'}`", err=True
    )
