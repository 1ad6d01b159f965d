"""msgspec crashes the interpreter when two threads decode a type for the first time together: none meets one late.

Every decoder is built when its module is imported, before there are threads.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from msgspec import inspect

from tests.tools import ROOT

SOURCES = [path for path in sorted((ROOT / "ocitui").rglob("*.py")) if "msgspec" in path.read_text(encoding="utf-8")]
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]

THREADED = """
import importlib, sys, threading
from msgspec import json, inspect
from tests.test_decoders import decoders_of, sample_of

decoders = [decoder for name in sys.argv[1:] for decoder in decoders_of(importlib.import_module(name))]
samples = [json.encode(sample_of(inspect.type_info(decoder.type))) for decoder in decoders]
barrier = threading.Barrier(24)
sys.setswitchinterval(1e-6)

def decode_all():
    for decoder, sample in zip(decoders, samples):
        barrier.wait()
        decoder.decode(sample)

threads = [threading.Thread(target=decode_all) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(decoders))
"""


def sample_of(kind: inspect.Type) -> object:
    """A value of a type, with one element in each list and map, as decoded JSON."""
    match kind:
        case inspect.StructType() | inspect.DataclassType():
            return {field.encode_name: sample_of(field.type) for field in kind.fields}
        case inspect.ListType() | inspect.VarTupleType():
            return [sample_of(kind.item_type)]
        case inspect.DictType():
            return {"": sample_of(kind.value_type)}
        case inspect.UnionType():
            return sample_of(kind.types[0])
        case inspect.EnumType():
            return next(iter(kind.cls)).value
        case inspect.StrType() | inspect.CustomType():
            return ""
        case inspect.IntType() | inspect.FloatType():
            return 1
        case inspect.BoolType():
            return True
    return None


def decoders_of(module: ModuleType) -> list[msgspec.json.Decoder[object]]:
    """The decoders that a module holds, or holds the method of."""
    held = [getattr(value, "__self__", value) for value in vars(module).values()]
    return [value for value in held if isinstance(value, msgspec.json.Decoder)]


def structs_in(kind: inspect.Type, known: set[type] | None = None) -> set[type]:
    """The Struct types that a type is made of."""
    found = set() if known is None else known
    if isinstance(kind, inspect.StructType | inspect.DataclassType):
        if kind.cls in found:
            return found
        found.add(kind.cls)
        for field in kind.fields:
            structs_in(field.type, found)
    for name in ("item_type", "key_type", "value_type"):
        if isinstance(inner := getattr(kind, name, None), inspect.Type):
            structs_in(inner, found)
    for inner in getattr(kind, "types", ()):
        structs_in(inner, found)
    return found


@pytest.fixture(scope="module")
def built() -> set[type]:
    """The Struct types that are known once all modules are imported."""
    found = set[type]()
    for name in MODULES:
        for decoder in decoders_of(importlib.import_module(name)):
            structs_in(inspect.type_info(decoder.type), found)
    return found


def calls(tree: ast.AST, *, late: bool = False) -> Iterator[tuple[ast.Call, bool]]:
    """Every call, and whether it is made when something runs rather than at the import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield node, late
        yield from calls(node, late=late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def faults_in(source: str, module: ModuleType, built: set[type]) -> list[str]:
    """The calls by which msgspec may meet a type for the first time in a thread."""
    found: list[str] = []
    for call, late in calls(ast.parse(source)):
        name, line = ast.unparse(call.func), f"line {call.lineno}: {ast.unparse(call)}"
        typed = name.endswith("decode") and any(word.arg == "type" for word in call.keywords)
        if typed or (late and name.endswith(("Decoder", "Encoder"))):
            found.append(line)
        if name == "msgspec.convert":
            found += [line] if eval(ast.unparse(call.args[1]), vars(module)) not in built else []
    return found


@pytest.mark.parametrize(("path", "name"), zip(SOURCES, MODULES, strict=True), ids=MODULES)
def test_no_type_is_first_met_in_a_thread(path: Path, name: str, built: set[type]) -> None:
    assert faults_in(path.read_text(encoding="utf-8"), importlib.import_module(name), built) == []


@pytest.mark.parametrize(
    "late",
    [
        "def f(raw): return msgspec.json.decode(raw, type=Moved)",
        "def f(raw): return msgspec.json.Decoder(Moved).decode(raw)",
        "f = lambda raw: msgspec.json.Decoder(Moved)",
        "def f(tree): return msgspec.convert(tree, Unbuilt)",
    ],
)
def test_what_is_built_late_is_told(late: str, built: set[type]) -> None:
    module = ModuleType("late")
    vars(module).update(Unbuilt=msgspec.defstruct("Unbuilt", []))
    assert faults_in(late, module, built)


@pytest.mark.slow
def test_every_kind_is_first_decoded_by_many_threads_at_once() -> None:
    run = [sys.executable, "-c", THREADED, *MODULES]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15
