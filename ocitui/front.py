"""The front of a package: all that others take from it, each name imported only when it is asked for."""

from __future__ import annotations

import builtins
import sys
from _thread import allocate_lock
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module

# No second front notes its names meanwhile.
_noting = allocate_lock()


@contextmanager
def front(package: str) -> Iterator[None]:
    """Within it, what a package imports from its own modules is noted instead, and becomes all that it gives; as the
    lazy imports of PEP 810 do by themselves. A type checker sees plain imports."""
    module_of: dict[str, str] = {}
    module = sys.modules[package]

    def note(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> object:
        if level == 0 or globals is not vars(module):
            return really_import(name, globals, locals, fromlist, level)
        module_of.update(dict.fromkeys(fromlist or (), name))
        return _Noted()

    def get(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Not kept here: a test that puts something in its place in its module would not be heeded.
        return getattr(import_module(f".{module_of[name]}", package), name)

    with _noting:
        really_import = builtins.__import__
        builtins.__import__ = note  # type: ignore[assignment]
        try:
            yield
        finally:
            builtins.__import__ = really_import
    for name in module_of:
        delattr(module, name)
    vars(module).update(__getattr__=get, __dir__=lambda: sorted(module_of), __all__=[*module_of])


class _Noted:
    """What stands for a module of which names were noted."""

    def __getattr__(self, name: str) -> None:
        return None
