"""A package's front: what it gives is imported when it is asked for, and nothing else is touched by that."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Barrier

import pytest

_AT_ONCE = 16
FRONT = """
from ocitui.front import front

with front(__name__):
    import colorsys
    from .first import one as one
    from .inner.second import two as two
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of some packages with such a front, whose modules cost what loading them says."""
    names = [f"fronted{number}" for number in range(_AT_ONCE * 15)]
    for name in names:
        (tmp_path / name / "inner").mkdir(parents=True)
        # As long as a front may be, so that threads meet in it.
        (tmp_path / name / "__init__.py").write_text(FRONT + "    from .first import one as one\n" * 300)
        (tmp_path / name / "first.py").write_text("one = object()")
        (tmp_path / name / "inner" / "__init__.py").write_text("")
        (tmp_path / name / "inner" / "second.py").write_text("two = object()")
    monkeypatch.syspath_prepend(tmp_path)
    yield names
    for module in [module for module in sys.modules if module.partition(".")[0] in names]:
        del sys.modules[module]


def test_a_name_is_imported_when_it_is_asked_for(packages: list[str]) -> None:
    package = import_module(packages[0])
    assert dir(package) == ["one", "two"] == package.__all__
    assert "colorsys" in vars(package), "what is not its own is imported at once"
    assert not [module for module in sys.modules if module.startswith(f"{packages[0]}.")]
    assert package.two is sys.modules[f"{packages[0]}.inner.second"].two
    assert f"{packages[0]}.first" not in sys.modules
    with pytest.raises(AttributeError, match=f"module '{packages[0]}' has no attribute 'three'"):
        package.three  # noqa: B018


def test_fronts_that_many_threads_load_at_once(packages: list[str]) -> None:
    before, interval = builtins.__import__, sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            start = Barrier(_AT_ONCE)
            loaded = list(pool.map(lambda name: (start.wait(), import_module(name))[1], packages))
    finally:
        sys.setswitchinterval(interval)
    assert builtins.__import__ is before
    assert [dir(package) for package in loaded] == [["one", "two"]] * len(packages)
    assert not [module for module in sys.modules if module.startswith("fronted") and "." in module]


def test_a_front_that_fails_leaves_imports_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = builtins.__import__
    (tmp_path / "failing.py").write_text(FRONT.replace("import colorsys", "import is_not_there"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="is_not_there"):
        import_module("failing")
    assert builtins.__import__ is before
