"""What an image runs: found as a runtime finds it, with its interpreters; hostile headers are bounded."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import PackedFormat
from ocitui.contents import FoundProgram, find_program, open_tree
from ocitui.threads import Stop
from tests.importing.layer_support import Item, layer, link
from tests.tools import need


def elf(machine: int = 62, interpreter: bytes = b"", wide: bool = True, big: bool = False) -> bytes:
    """The headers of a program, by elf(5)."""
    order, at = "<>"[big], 64 if wide else 52
    text, header = interpreter + b"\0", 56 if wide else 32
    ident = b"\x7fELF" + bytes((1 + wide, 1 + big, 1)) + bytes(9)
    if wide:
        head = struct.pack(f"{order}HHIQQQIHHHHHH", 2, machine, 1, 0, at, 0, 0, 64, header, bool(interpreter), 0, 0, 0)
        entry = struct.pack(f"{order}IIQQQQQQ", 3, 4, at + header, 0, 0, len(text), len(text), 1)
    else:
        head = struct.pack(f"{order}HHIIIIIHHHHHH", 2, machine, 1, 0, at, 0, 0, 52, header, bool(interpreter), 0, 0, 0)
        entry = struct.pack(f"{order}IIIIIIII", 3, at + header, 0, 0, len(text), len(text), 4, 1)
    return ident + head + (entry + text if interpreter else b"")


def program(name: str, data: bytes, mode: int = 0o755) -> Item:
    return Item(name, data=data, mode=mode)


def found(
    *items: Item, run: str = "app", path: str | None = "/bin:/usr/bin", directory: str = "", architecture: str = "amd64"
) -> FoundProgram:
    environment = [] if path is None else ["A=b", f"PATH={path}"]
    return found_in(layer(*items), run, environment, directory, architecture)


def found_in(data: bytes, run: str, environment: list[str], directory: str, architecture: str) -> FoundProgram:
    with os.fdopen(os.memfd_create("tar"), "w+b") as file:
        file.write(data)
        file.flush()
        tree = open_tree(file, PackedFormat.TAR, Stop())
        return find_program(tree, [run], environment, directory, architecture)


LOADER = program("lib/ld.so", elf())
STATIC, DYNAMIC = program("usr/bin/app", elf()), program("usr/bin/app", elf(interpreter=b"/lib/ld.so"))


@pytest.mark.parametrize(
    ("items", "how", "paths"),
    [
        ([STATIC], {}, ["/usr/bin/app"]),
        ([STATIC], {"path": None}, ["/usr/bin/app"]),
        ([DYNAMIC, LOADER], {}, ["/usr/bin/app", "/lib/ld.so"]),
        ([DYNAMIC, LOADER], {"run": "/usr/bin/app"}, ["/usr/bin/app", "/lib/ld.so"]),
        ([STATIC], {"run": "bin/app", "directory": "/usr"}, ["/usr/bin/app"]),
        ([STATIC], {"run": "./app", "directory": "/usr/bin/"}, ["/usr/bin/./app"]),
        ([STATIC], {"run": "bin/app", "directory": "usr"}, ["/usr/bin/app"]),
        ([STATIC, link("bin", "usr/bin")], {}, ["/bin/app"]),
        ([STATIC, link("bin", "../../../usr/bin")], {}, ["/bin/app"]),
        ([program("bin/app", elf(), 0o644), STATIC], {}, ["/usr/bin/app"]),
        ([program("bin/app", b"#! /usr/bin/sh -e\n"), program("usr/bin/sh", elf())], {}, ["/bin/app", "/usr/bin/sh"]),
        ([program("bin/app", elf(22, b"/ld", big=True)), program("ld", elf(22, big=True))], {"architecture": "s390x"},
         ["/bin/app", "/ld"]),
        ([program("bin/app", elf(40, b"/ld", wide=False)), program("ld", elf(40, wide=False))], {"architecture": "arm"},
         ["/bin/app", "/ld"]),
        ([program("bin/app", elf(9999))], {"architecture": "pdp11"}, ["/bin/app"]),
    ],
)  # fmt: skip
def test_what_can_be_run(items: list[Item], how: dict[str, str], paths: list[str]) -> None:
    assert found(*items, **how) == FoundProgram(how.get("run", "app"), tuple(paths))


@pytest.mark.parametrize(
    ("items", "how", "problem"),
    [
        ([], {}, "app is nowhere in its PATH, /bin:/usr/bin"),
        ([STATIC], {"path": "/bin"}, "app is nowhere in its PATH, /bin"),
        ([], {"path": "/bin:" + "x" * 5000}, "app is nowhere in its PATH, /bin:" + "x" * 295),
        ([], {"run": "y" * 5000}, "its name has 5,000 bytes, and a path has 4,096 at most"),
        ([], {"run": "/app"}, "/app is not there"),
        ([STATIC], {"run": "/usr/bin"}, "/usr/bin is no file"),
        ([program("bin/app", elf(), 0o644)], {}, "/bin/app is not executable"),
        ([DYNAMIC], {}, "/lib/ld.so is not there"),
        ([DYNAMIC, program("lib/ld.so", elf(), 0o644)], {}, "/lib/ld.so is not executable"),
        ([DYNAMIC, program("lib/ld.so", elf(183))], {}, "/lib/ld.so is built for arm64, and the image is for amd64"),
        ([STATIC], {"architecture": "arm64"}, "/usr/bin/app is built for amd64, and the image is for arm64"),
        ([program("bin/app", elf(9999))], {}, "/bin/app is built for machine 9999, and the image is for amd64"),
        ([program("bin/app", b"#!/bin/none\n")], {}, "/bin/none is not there"),
        ([program("bin/app", b"#!\n")], {}, "/bin/app is a script that names no interpreter"),
        ([program("bin/app", b"#!/bin/app\n")], {}, "its interpreters have interpreters without end"),
        ([program("bin/app", b"")], {}, "/bin/app is neither an ELF nor a script"),
        ([program("bin/app", b"\x7fELF")], {}, "/bin/app is an ELF that is cut, or has wrong headers"),
        ([program("bin/app", DYNAMIC.data[:100])], {}, "/bin/app is an ELF that is cut, or has wrong headers"),
        ([link("bin", "bin")], {}, "the path leads through more than 40 symbolic links"),
    ],
)  # fmt: skip
def test_what_cannot(items: list[Item], how: dict[str, str], problem: str) -> None:
    told = found(*items, **how)
    assert (told.problem, told.unsure) == (problem, "")


def test_what_is_mounted_over_cannot_be_told() -> None:
    told = found(link("app", "/proc/self/exe"), run="/app")
    assert (told.problem, "mounted over" in told.unsure) == ("", True)


@given(st.binary(max_size=120), st.booleans())
def test_headers_of_any_bytes(noise: bytes, wide: bool) -> None:
    start = elf(interpreter=b"/ld", wide=wide)[:20]
    told = found(program("bin/app", start + noise))
    assert told.problem or told.paths == ("/bin/app",)


def test_a_real_program_is_read_as_readelf_reads_it() -> None:
    need("readelf")
    real = Path(os.path.realpath(shutil.which("ls") or sys.executable))
    said = subprocess.run(["readelf", "-hl", real], capture_output=True, text=True, check=True).stdout
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add(real, "bin/app")
    told = found_in(made.getvalue(), "app", ["PATH=/bin"], "", "")
    interpreter = told.problem.removesuffix(" is not there")
    assert f"[Requesting program interpreter: {interpreter}]" in said
