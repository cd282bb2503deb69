"""The catalog: a type name, or one of its former names, leads to the class that provides it.

A class announces itself by `@plugin` when its module is imported; which module holds which names is said by
the table in `plugins/__init__.py`, which is handed in. Nothing is imported before its type is asked for.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NamedTuple, TypeVar

from tercel.errors import MissingToolError
from tercel.model.issue import nearest
from tercel.model.task import Part

C = TypeVar("C", bound=type[Part])

_CLASSES: dict[str, dict[str, type[Part]]] = {}
"""Type name to the classes that are announced under it, by the name of their module; the newest last."""


def plugin(type_name: str, aliases: Sequence[str] = ()) -> Callable[[C], C]:
    """Announce a class as the one that provides *type_name*, and its former names *aliases*."""

    def announce(cls: C) -> C:
        cls.plugin_type = type_name
        cls.plugin_aliases = tuple(aliases)
        for name in (type_name, *aliases):
            known = _CLASSES.setdefault(name, {})
            known.pop(cls.__module__, None)
            known[cls.__module__] = cls
        return cls

    return announce


class Offer(NamedTuple):
    """What a package from outside says about a type: that one of its modules announces it.

    Attributes:
        module: whose import announces the type.
        package: name of the package, as it was installed.
    """

    module: str
    package: str


class Catalog:
    """Finds the class of a type name.

    Args:
        modules: type name, canonical or former, to the module that provides it.
        more: what packages from outside offer, by type name; asked for once, and only when a type is not in *modules*.
    """

    def __init__(
        self, modules: Mapping[str, str], more: Callable[[], Mapping[str, Sequence[Offer]]] = dict[str, Sequence[Offer]]
    ) -> None:
        self._modules = modules
        self._more = more
        self._offers: Mapping[str, Sequence[Offer]] | None = None

    def find(self, type_name: str) -> type[Part] | None:
        """The class that provides *type_name*, its module imported now if need be; None where nothing does.

        A type of *modules* is what its module announces, whatever else announces the same name.

        Raises:
            MissingToolError: the module that should provide it cannot be imported, or does not; or the class cannot
                be used; or several packages from outside say that they provide it.
        """
        module = self._modules.get(type_name)
        if module is not None:
            return _imported(type_name, module)
        offers = self._offered().get(type_name, ())
        if not offers:
            return _announced(type_name)
        packages = sorted({offer.package for offer in offers})
        if len(packages) > 1:
            raise MissingToolError(
                f"The type {type_name} is provided by several packages: {', '.join(packages)}.",
                "Uninstall all of them but one.",
            )
        return _imported(type_name, *offers[0])

    def package_of(self, type_name: str) -> str:
        """The packages from outside that offer *type_name*, with commas between them; "" where none does."""
        return ", ".join(sorted({offer.package for offer in self._offered().get(type_name, ())}))

    def faults(self) -> Sequence[str]:
        """What is wrong with the types that packages from outside offer, a sentence for each."""
        found: list[str] = []
        for name in sorted(self._offered()):
            if name in self._modules:
                found.append(f"The type {name} of the package {self.package_of(name)} is not used: tercel has its own.")
                continue
            try:
                self.find(name)
            except MissingToolError as error:
                found.append(str(error))
        return found

    def names(self) -> Sequence[str]:
        """Every type name known, former ones included, sorted."""
        return sorted({*self._modules, *self._offered()})

    def nearest(self, type_name: str) -> str | None:
        """The known type that *type_name* most likely was meant to be; None where none is near."""
        modules = self.names()
        package, _, simple = type_name.rpartition(".")
        same = [name for name in modules if name.rpartition(".")[2].lower() == simple.lower()]
        if not package:
            return same[0] if same else None
        return nearest(type_name, same, cutoff=0.8) or nearest(type_name, modules, cutoff=0.9)

    def _offered(self) -> Mapping[str, Sequence[Offer]]:
        if self._offers is None:
            self._offers = self._more()
        return self._offers


def _announced(type_name: str) -> type[Part] | None:
    """The class that was announced last under a name that no table has."""
    classes = list(_CLASSES.get(type_name, {}).values())
    if not classes:
        return None
    module = classes[-1].__module__
    # Where another thread imports the module, the class is announced before the module is whole.
    return _imported(type_name, module) if module in sys.modules else classes[-1]


def _imported(type_name: str, module: str, package: str = "") -> type[Part]:
    """What *module*, of *package* where it is one from outside, announces as *type_name*."""
    try:
        import_module(module)
    except Exception as error:
        if package:
            raise MissingToolError(
                f"The type {type_name} cannot be used: its package {package} cannot be imported:"
                f" {type(error).__name__}: {error}.",
                "Install what the package needs, update it, or uninstall it.",
            ) from error
        if not isinstance(error, ImportError):
            raise
        raise MissingToolError(
            f"The plugin of {type_name} cannot be imported: {error}.", "Install what it needs, or update it."
        ) from error
    classes = _CLASSES.get(type_name, {})
    own = [part for name, part in classes.items() if name == module or name.startswith(f"{module}.")]
    if not classes:
        of = f" of the package {package}" if package else ""
        raise MissingToolError(
            f"The module {module}{of} should provide {type_name} and does not.", "Update the package it belongs to."
        )
    found = (own or list(classes.values()))[-1]
    if package:
        _check_shape(found, package)
    return found


def _check_shape(part: type[Part], package: str) -> None:
    """Raise MissingToolError where YAML cannot be turned into *part*."""
    from tercel.model.shapes import shape_of  # noqa: PLC0415  # only types from outside are looked at

    try:
        shape_of(part)
    except Exception as error:
        raise MissingToolError(
            f"The type {part.plugin_type} of the package {package} cannot be used: {error}", "Update the package."
        ) from error
