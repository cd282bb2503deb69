"""The catalog: a type name, or one of its former names, leads to the class that provides it.

A class announces itself by `@plugin` when its module is imported; which module holds which names is said by
the table in `plugins/__init__.py`, which is handed in. Nothing is imported before its type is asked for.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TypeVar

from tercel.errors import MissingToolError
from tercel.model.issue import nearest
from tercel.model.task import Part

C = TypeVar("C", bound=type[Part])

_CLASSES: dict[str, type[Part]] = {}


def plugin(type_name: str, aliases: Sequence[str] = ()) -> Callable[[C], C]:
    """Announce a class as the one that provides *type_name*, and its former names *aliases*."""

    def announce(cls: C) -> C:
        cls.plugin_type = type_name
        cls.plugin_aliases = tuple(aliases)
        for name in (type_name, *aliases):
            _CLASSES[name] = cls
        return cls

    return announce


class Catalog:
    """Finds the class of a type name.

    Args:
        modules: type name, canonical or former, to the module that provides it.
        more: further ones, asked for once and only when a type is not in *modules*; packages from outside.
    """

    def __init__(self, modules: Mapping[str, str], more: Callable[[], Mapping[str, str]] = dict[str, str]) -> None:
        self._modules = modules
        self._more = more
        self._has_all = False

    def find(self, type_name: str) -> type[Part] | None:
        """The class that provides *type_name*, its module imported now if need be; None where nothing does.

        Raises:
            MissingToolError: the module that should provide it cannot be imported, or does not.
        """
        announced = _CLASSES.get(type_name)
        if announced is None:
            module = self._modules.get(type_name) or self._all().get(type_name)
        elif announced.__module__ in sys.modules:
            module = announced.__module__
        else:
            return announced  # of no module that can be imported
        if module is None:
            return None
        try:
            import_module(module)  # where another thread imports it, the class is announced before the module is whole
        except ImportError as error:
            raise MissingToolError(
                f"The plugin of {type_name} cannot be imported: {error}.", "Install what it needs, or update it."
            ) from error
        found = _CLASSES.get(type_name)
        if found is None:
            raise MissingToolError(
                f"The module {module} should provide {type_name} and does not.", "Update the package it belongs to."
            )
        return found

    def names(self) -> Sequence[str]:
        """Every type name known, former ones included, sorted."""
        return sorted(self._all())

    def nearest(self, type_name: str) -> str | None:
        """The known type that *type_name* most likely was meant to be; None where none is near."""
        modules = list(self._all())
        package, _, simple = type_name.rpartition(".")
        same = [name for name in modules if name.rpartition(".")[2].lower() == simple.lower()]
        if not package:
            return same[0] if same else None
        return nearest(type_name, same, cutoff=0.8) or nearest(type_name, modules, cutoff=0.9)

    def _all(self) -> Mapping[str, str]:
        if not self._has_all:
            self._modules = {**self._more(), **self._modules}
            self._has_all = True
        return self._modules
