"""Groups of commands of which some are imported only when they are called."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

_NAMES = {"list": "list_"}


class LateGroup(click.Group):
    """A group with commands that live in other modules, which take long to import.

    Args:
        late: the name of each such command, with the module that has a function of that name as Python writes it.
    """

    def __init__(self, *arguments: Any, late: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late = late

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Its own commands, then the late ones."""
        return [*super().list_commands(ctx), *self._late]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a late command."""
        if cmd_name in self._late:
            return getattr(import_module(self._late[cmd_name]), _NAMES.get(cmd_name, cmd_name.replace("-", "_")))
        return super().get_command(ctx, cmd_name)
