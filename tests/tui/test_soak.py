"""Whatever is pressed, at whatever size, over a slow line, beside another writer: the screen stays whole."""

from __future__ import annotations

import random
import re
import select
import time
from pathlib import Path

import pytest
from textual.keys import key_to_character

from ocitui.tui.actions import ACTIONS
from tests.tui.cache_support import make_cache, many, replace_index
from tests.tui.terminal_support import LIMIT_SECONDS, ProgramInPty, screen_on

pytestmark = pytest.mark.slow

# Those that end or stop the program, and the one that writes into the operator's own directory.
_LEFT_OUT = {"quit", "suspend", "keep_settings"}
_BYTES = {
    "enter": "\r",
    "escape": "\x1b",
    "space": " ",
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "f1": "\x1bOP",
    "f5": "\x1b[15~",
}
# And the answers to what is asked.
_KEYS = sorted(
    {key for action in ACTIONS if action.name not in _LEFT_OUT for key in action.keys} | {"y", "w", "x", "e"}
)
_BYTES_A_SECOND = 30_000
_MOST_GROWN = 10 << 20


def _typed(key: str) -> str:
    if key in _BYTES:
        return _BYTES[key]
    if key.startswith("ctrl+"):
        return chr(ord(key[-1]) - 96)
    return key_to_character(key) or key


def _read_slowly(program: ProgramInPty, seconds: float) -> None:
    """Take what was written, no faster than the line is, until nothing came for so long."""
    quiet = time.monotonic() + seconds
    while time.monotonic() < quiet:
        if select.select([program.fd], [], [], 0.01)[0]:
            before = len(program.output)
            program.read()
            came = len(program.output) - before
            quiet = time.monotonic() + seconds + came / _BYTES_A_SECOND
        program.output = program.output[-4096:]


def _memory(process: int) -> int:
    with open(f"/proc/{process}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def _main_screen(program: ProgramInPty) -> list[str]:
    """The screen after every way back, from the first row of all in the order of the index, nothing marked."""
    program.resize(80, 24)
    for key in ("escape",) * 8 + ("A", "s", "i", "escape", "R", "g", "1", "ctrl+l"):
        program.press(_typed(key))
        _read_slowly(program, 0.15)
    deadline = time.monotonic() + LIMIT_SECONDS
    seen: list[str] = []
    while time.monotonic() < deadline:
        _read_slowly(program, 0.5)
        before, seen = seen, [*program.display]
        if seen == before and not any("looking" in line for line in seen):
            break
    # What was said last, ages that go on meanwhile, and the free room of a disk that others use too.
    return [re.sub(r"\bdeep \w+", "deep", line.partition("disk")[0]).rstrip() for line in seen[:-2]]


@pytest.mark.parametrize(
    ("actions", "sizes"), [(250, 10), pytest.param(30_000, 1_000, marks=pytest.mark.long)], ids=["sample", "whole"]
)
def test_anything_at_all(actions: int, sizes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    chance = random.Random(20_260)
    cache = make_cache(tmp_path / "image", many(60))
    whole = (cache / "index.json").read_bytes()
    # Every key once, then at random. What a screen within a screen needs is loaded when it is first opened: the memory
    # at the start is taken once most have been.
    # Among commands that are typed at random is the one that quits.
    again = [key for key in _KEYS if key != "colon"]
    keys = [*_KEYS, *(chance.choice(again) for _ in range(actions))]
    begun = len(_KEYS) + min(actions // 2, 500)
    resized = set(chance.sample(range(len(_KEYS), len(keys)), sizes))
    with screen_on(cache) as program:
        program.wait_to_see("index in step")
        start = 0
        for number, key in enumerate(keys):
            if number == begun:
                start = _memory(program.process)
            if number in resized:
                program.resize(chance.randint(20, 200), chance.randint(5, 60))
            if number % 25 == 0:
                cut = chance.choice([len(whole), len(whole), len(whole) // 2, 0])
                replace_index(cache, whole[:cut])
            program.press(_typed(key))
            # An escape and a letter after it are one key to a terminal.
            _read_slowly(program, 0.12 if key == "escape" else 0.01)
            assert not program.ended(), f"it ended after {keys[max(number - 20, 0) : number + 1]}"
        replace_index(cache, whole)
        seen = _main_screen(program)
        grown = _memory(program.process) - start
        settings = tmp_path / "settings" / "ocitui" / "settings.toml"
        assert not settings.exists(), "nothing is created unasked"
        # How it is laid out is no fresh start's.
        program.press("K")
        program.until(settings.exists, "the settings")
    with screen_on(cache) as fresh:
        fresh.wait_to_see("index in step")
        assert seen == _main_screen(fresh)
    print(f"{grown >> 10} KB more than the {start >> 20} MB after {begun} keys")
    assert grown <= _MOST_GROWN
