"""The front of a package: all that other packages take from it, each name imported when it is asked for, so that a
program loads no more than it uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def front(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package; ``names`` are those of each of its modules."""
    module_of = {name: module for module, of_it in names.items() for name in of_it.split()}

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Not kept here: a test that puts something in its place in its module would not be heeded.
        return getattr(import_module(f".{module_of[name]}", package), name)

    return get, lambda: sorted(module_of), [*module_of]
