"""The catalog: a type name, or one of its former names, leads to the class that provides it.

A class announces itself by `@plugin` when its module is imported; which module holds which names is said by
the table in `plugins/__init__.py`, which is handed in. Nothing is imported before its type is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TypeVar

from tercel.model.task import Part

C = TypeVar("C", bound=type[Part])

_CLASSES: dict[str, type[Part]] = {}


def plugin(type_name: str, aliases: Sequence[str] = ()) -> Callable[[C], C]:
    """Announce a class as the one that provides *type_name*, and its former names *aliases*."""

    def announce(cls: C) -> C:
        cls.plugin_type = type_name  # type: ignore[attr-defined]  # every announced class has the ClassVar
        for name in (type_name, *aliases):
            _CLASSES[name] = cls
        return cls

    return announce


class Catalog:
    """Finds the class of a type name.

    Args:
        modules: type name, canonical or former, to the module that provides it.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def find(self, type_name: str) -> type[Part] | None:
        """The class that provides *type_name*, its module imported now if need be; None where nothing does."""
        found = _CLASSES.get(type_name)
        if found is None and type_name in self._modules:
            import_module(self._modules[type_name])
            found = _CLASSES.get(type_name)
        return found

    def names(self) -> Sequence[str]:
        """Every type name known, former ones included, sorted."""
        return sorted(self._modules)
