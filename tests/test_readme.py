"""README.md and the help's texts say what is true: their commands are run, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import ROOT, need

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md")}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def steps() -> Iterator[tuple[str, str]]:
    """Each command of the console blocks, in order, and what it prints."""
    for block in blocks("console"):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            yield command, output


def normal(text: str) -> str:
    """Without what the packing tools of a host make of it: ids, digests and sizes."""
    return re.sub(r"\d{4,}", "N", re.sub(r"\b[0-9a-f]{8,64}\b", "ID", text))


def expected(output: str) -> str:
    """A pattern: `…` stands for any text, alone in its line for any lines."""
    lines = normal(output).splitlines(keepends=True)
    return "".join("(?:.*\n)*?" if line == "…\n" else re.escape(line).replace("…", ".*") for line in lines)


def run(commands: list[str], home: Path) -> list[str]:
    """What each of these commands prints, in one shell."""
    script = "\n".join(f"printf '\\n\\001\\n'; {command}" for command in commands)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "COLUMNS": "80", "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return [part.removesuffix("\n") for part in f"{done.stdout}\n".split("\n\001\n")[1:]]


@pytest.mark.slow
def test_every_console_block_is_what_happens(tmp_path: Path) -> None:
    need("mksquashfs", "mkfs.erofs")
    wanted = [tuple(text.replace("/tmp/ocitui-demo", f"{tmp_path}/ocitui-demo") for text in step) for step in steps()]
    assert len(wanted) > 6
    for (command, output), seen in zip(wanted, run([command for command, _ in wanted], tmp_path), strict=True):
        text = normal(f"{seen.rstrip()}\n" if seen.strip() else "")
        assert re.fullmatch(expected(output), text), f"$ {command}\n{text}\nand not\n{output}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXTS[path]) if "://" not in link]
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_file_that_contributing_names_is_there() -> None:
    named = re.findall(r"`((?:ocitui|tests)/[\w./-]+)`", TEXTS[ROOT / ".github" / "CONTRIBUTING.md"])
    assert len(named) > 10
    assert [name for name in named if name != "tests/run" and not (ROOT / name).exists()] == []


def test_it_is_short() -> None:
    assert README.count("\n") <= 160
