"""How the house is cut: no circle of files, few arrows between them, few and full files, and what no file holds.

An arrow leads from a file to one that it imports from, whether at its head, within a function, or for a type's sake
only. A package's `__init__` is its front: who imports a name from it imports from the file where the name is made.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ocitui.cache import CacheError
from ocitui.cache import errors as cache_errors
from ocitui.importing import errors as importing_errors
from tests.tools import ROOT

# As it was measured, and a little more: the way is down.
MOST_FILES, MOST_ARROWS, LONGEST = 4.2, 31.5, 600
OURS = ("ocitui", "tests", ".ci")
# Spelt so that they do not stand here either.
BESIDE = re.compile(r"\.\./" + "shared" + r"|\bshared\(")
MACHINE = re.compile(
    r"(?<![\w.*])/(?:" + "|".join(("work", "farm", "root", "Users", "builds", "workspace")) + r")/[\w.]"
)


class House:
    """The files of the package by their dotted names, and which imports from which."""

    def __init__(self, root: Path) -> None:
        self._nodes: dict[str, list[ast.Import | ast.ImportFrom | ast.ClassDef]] = {}
        self._fronts: set[str] = set()
        self.lines: dict[str, int] = {}
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            is_front = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_front else parts)
            text = path.read_text(encoding="utf-8")
            walked = ast.walk(ast.parse(text))
            self._nodes[name] = [one for one in walked if isinstance(one, ast.Import | ast.ImportFrom | ast.ClassDef)]
            if is_front:
                self._fronts.add(name)
            else:
                self.lines[name] = text.count("\n")
        self._behind = {
            (front, alias.asname or alias.name): (self._base(front, node), alias.name)
            for front in self._fronts
            for node, alias in self._named(front)
        }
        self.arrows = {name: set(self._targets(name)) - {name} for name in self.lines}

    def classes(self) -> Counter[str]:
        """How many classes there are of each name; one that begins with an underscore is its file's own."""
        nodes = (node for nodes in self._nodes.values() for node in nodes)
        return Counter(one.name for one in nodes if isinstance(one, ast.ClassDef) and not one.name.startswith("_"))

    def names_of_front(self, front: str) -> dict[str, str]:
        """What a package gives, with the module that each name is from."""
        behind = {name: base for (package, name), (base, _) in self._behind.items() if package == front}
        return {name: module for name, module in behind.items() if module.startswith(f"{front}.")}

    def taken_from(self, front: str) -> set[str]:
        """What other packages take from one."""
        return {
            alias.name
            for module in self._nodes
            if not module.startswith(f"{front}.")
            for node, alias in self._named(module)
            if self._base(module, node) == front
        }

    def _named(self, module: str) -> Iterator[tuple[ast.ImportFrom, ast.alias]]:
        for node in self._nodes[module]:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield node, alias

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """The module that a `from` names."""
        if not node.level:
            return node.module or ""
        package = module.split(".") if module in self._fronts else module.split(".")[:-1]
        above = package[: len(package) - node.level + 1]
        return ".".join([*above, node.module] if node.module else above)

    def _targets(self, module: str) -> Iterator[str]:
        for node, alias in self._named(module):
            found = self._home(self._base(module, node), alias.name)
            if found in self.lines:
                yield found
        for imported in self._nodes[module]:
            if isinstance(imported, ast.Import):
                yield from (alias.name for alias in imported.names if alias.name in self.lines)

    def _home(self, base: str, name: str) -> str:
        """Where a name of a module comes from: through every front, to the file behind."""
        while f"{base}.{name}" not in self._nodes and (base, name) in self._behind:
            base, name = self._behind[base, name]
        return f"{base}.{name}" if f"{base}.{name}" in self._nodes else base


@cache
def house() -> House:
    return House(ROOT / "ocitui")


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """The files of a circle, in their order; none where there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def per_thousand_lines(count: int) -> float:
    return 1000 * count / sum(house().lines[name] for name in house().arrows)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(house().arrows) == []


@pytest.mark.parametrize("package", ["cache", "host", "contents", "importing", "doctor", "remote", "words", "tui"])
def test_a_front_gives_what_it_says_and_nothing_more(package: str) -> None:
    """What it gives while it runs is what a type checker sees, and what somebody takes."""
    front = import_module(f"ocitui.{package}")
    named = house().names_of_front(f"ocitui.{package}")
    assert sorted(named) == sorted(front.__all__) == dir(front)
    for name, module in named.items():
        assert getattr(front, name) is getattr(import_module(module), name)
    if package != "cache":
        assert set(named) - house().taken_from(f"ocitui.{package}") == set()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        front.nothing  # noqa: B018


def test_few_arrows_lead_from_file_to_file() -> None:
    assert per_thousand_lines(sum(map(len, house().arrows.values()))) <= MOST_ARROWS


def test_files_are_few_and_full() -> None:
    assert per_thousand_lines(len(house().arrows)) <= MOST_FILES


def test_a_class_name_stands_once() -> None:
    assert [name for name, count in house().classes().items() if count > 1] == []


def texts(*folders: str) -> Iterator[tuple[str, str]]:
    """Every file of these folders that is text, by its path in the project."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                data = path.read_bytes()
                if b"\0" not in data:
                    yield str(path.relative_to(ROOT)), data.decode(errors="replace")


@pytest.mark.parametrize("errors", [cache_errors, importing_errors])
def test_a_tree_of_errors_is_the_one_that_is_drawn(errors: ModuleType) -> None:
    drawn, above = dict[str, str](), ["CacheError"]
    for branch, name in re.findall(r"^ *([│ ]*[├└]── )(\w+)", errors.__doc__ or "", re.MULTILINE):
        above[len(branch) // 4 :] = [name]
        drawn[name] = above[-2]
    types = [one for one in vars(errors).values() if isinstance(one, type) and one.__module__ == errors.__name__]
    made = [one for one in types if issubclass(one, Exception)]
    assert drawn == {one.__name__: one.__bases__[0].__name__ for one in made if one is not CacheError}


def test_no_file_is_too_long() -> None:
    lengths = {path: text.count("\n") for path, text in texts("ocitui", "tests") if path.endswith(".py")}
    assert len(lengths) > 300
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST} == {}


def test_no_test_rests_on_what_lies_beside_the_checkout() -> None:
    assert [path for path, text in texts("tests", ".ci") if BESIDE.search(text)] == []


def test_no_file_names_a_directory_of_somebody_s_machine() -> None:
    more = ("README.md", "CHANGELOG.md", "pyproject.toml")
    found = {path: MACHINE.findall(text) for path, text in texts(*OURS)}
    found |= {name: MACHINE.findall((ROOT / name).read_text(encoding="utf-8")) for name in more}
    assert {path: names for path, names in found.items() if names} == {}


FOR_A_TYPE = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import z"
CIRCLES = {
    "in a function": {"a.py": "from . import b", "b.py": "def f():\n    from .a import x"},
    "through the front": {"a.py": "from p import y", "b.py": "import p.a", "__init__.py": "from .b import x as y"},
    "for a type": {"a.py": FOR_A_TYPE, "c/__init__.py": "from ..b import x as z", "b.py": "from . import a"},
    "none": {"a.py": "from .b import x", "b.py": "import os", "__init__.py": "from .a import x"},
}


@pytest.mark.parametrize("how", CIRCLES)
def test_a_circle_is_found_however_it_is_closed(how: str, tmp_path: Path) -> None:
    for name, text in CIRCLES[how].items():
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_text(text)
    assert set(circle(House(tmp_path / "p").arrows)) == ({"p.a", "p.b"} if how != "none" else set())
