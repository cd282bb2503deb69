"""`tercel namespace files`: the files of a namespace."""

import os
import shutil
import sys
from pathlib import Path

import click

from tercel.cli.options import home_option, settings_of
from tercel.errors import NotFoundError
from tercel.storage.local import LocalStorage
from tercel.storage.namespace_files import StoredNamespaceFiles, is_namespace


@click.group()
def namespace() -> None:
    """Files of a namespace."""


@namespace.group()
def files() -> None:
    """Put, get, list and delete files that flows of a namespace share."""


@files.command()
@click.argument("name", metavar="NAMESPACE")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("target", required=False, metavar="[PATH]")
@home_option
def put(name: str, source: Path, target: str | None, home: Path | None) -> None:
    """Store a file, or all files of a folder, in a namespace under PATH."""
    stored = _files(name, home)
    if source.is_dir():
        pairs = [(path, path.relative_to(source).as_posix()) for path in sorted(source.rglob("*")) if path.is_file()]
        prefix = f"{target.rstrip('/')}/" if target else ""
    else:
        pairs, prefix = [(source, target or source.name)], ""
        if target and target.endswith("/"):
            pairs = [(source, target + source.name)]
    for path, relative in pairs:
        file = stored.put_file(prefix + relative, path)
        click.echo(f"{file.path}  {file.size} bytes")


@files.command()
@click.argument("name", metavar="NAMESPACE")
@click.argument("path")
@click.argument("target", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@home_option
def get(name: str, path: str, target: Path | None, home: Path | None) -> None:
    """Print a file, or copy it to FILE."""
    with _files(name, home).get(path) as source:
        if target is None:
            shutil.copyfileobj(source, sys.stdout.buffer)
            return
        with target.open("wb") as copy:
            shutil.copyfileobj(source, copy)


@files.command("list")
@click.argument("name", metavar="NAMESPACE")
@click.argument("folder", required=False, default="")
@home_option
def list_(name: str, folder: str, home: Path | None) -> None:
    """List the files of a namespace, or of a folder in it."""
    for file in _files(name, home).list(folder):
        click.echo(f"{file.path}  {file.size} bytes")


@files.command()
@click.argument("name", metavar="NAMESPACE")
@click.argument("path")
@home_option
def delete(name: str, path: str, home: Path | None) -> None:
    """Delete a file, or a folder with all that is in it."""
    count = _files(name, home).delete(path)
    if not count:
        raise NotFoundError(f"The namespace {name} has no file {path!r}.", "`tercel namespace files list` shows them.")
    click.echo(f"{count} {'file' if count == 1 else 'files'} deleted.")


def _files(name: str, home: Path | None) -> StoredNamespaceFiles:
    if not is_namespace(name):
        raise click.UsageError(f"{name!r} cannot be a namespace: its parts are of letters, digits, '-' and '_'.")
    settings = settings_of(home)
    os.makedirs(settings.home, mode=0o700, exist_ok=True)  # parents are made private too
    return StoredNamespaceFiles(LocalStorage(settings.storage_directory), name)
