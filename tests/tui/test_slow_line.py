"""Every screen over a slow line, in a terminal of its own: counted are bytes, whatever the time they take."""

from __future__ import annotations

import select
import time
from collections import deque
from pathlib import Path

import pytest

from tests.contents.trees_support import unpacked_fixture
from tests.tui.cache_support import make_cache, many, packed_path
from tests.tui.line_support import ANSWER, ASK, Size, most_bytes
from tests.tui.screen_support import SMALL, WIDE
from tests.tui.terminal_support import LIMIT_SECONDS, ProgramInPty, screen_on

pytestmark = [pytest.mark.slow, pytest.mark.waits]

_BYTES_A_SECOND, _ROUND_TRIP, _QUIET = 30_000, 0.15, 0.5
_ESCAPE, _PAGE_DOWN = "\x1b", "\x1b[6~"
# What is pressed and what is seen then, after each of which comes the way back. Those that have a limit of their own
# are named by their key; each other view has that of all.
_WALKS: list[list[tuple[str, str, str]]] = [
    [("", "j", " 2 of 500"), ("j", "j", " 3 of 500"), ("pagedown", _PAGE_DOWN, " of 500")],
    [("slash", "/", "filter"), ("", "image0001", "image00010")],
    [("s", "s", "size"), ("s", "s", "SIZE\u25be"), ("", "s", ""), ("", "i", "")],
    [("p", "p", "\u203a problems"), ("", "j", "sq"), ("", "M", "\u203a repair"), ("", "o", "Ask registries")],
    [("w", "w", "\u203a why")],
    [("question_mark", "?", "\u203a help"), ("", "\t", "")],
    [("", "1", "resolves"), ("", "2", "schemaVersion"), ("", "3", ""), ("", "5", "config-unparsable"), ("", "6", "")],
    [("", "\r", "registry.example.com/fleet"), ("", "]", ""), ("", "]", "")],
    [("", "\\", ""), ("", "\\", ""), ("", "\\", ""), (">", ">", ""), ("<", "<", "")],
    [("", "r", "\u203a resolve")],
    [("", "i", "FOUND nothing yet"), ("", "/nowhere\r", "does not exist"), ("", "\x1bOQ", "TLS CA file")],
    [("", "I", "\u203a imports")],
    [("", "u", "")],
    [("", "t", "\u203a timeline")],
    [("", "X", "\u203a trash")],
    [("", "v", "\u203a verdict")],
    [("", "d", "\u203a delete")],
    [("", "m", "\u203a repair")],
    [("", "P", "\u203a point")],
    [("", "c", "name")],
    [("", ":", "resolve"), ("", "ti", "")],
    [("", "n", ""), ("", "!", ""), ("", "G", "500 of 500"), ("", "g", " 1 of 500"), ("", "a", "marked"), ("", "A", "")],
    [("4", "4", " MODE"), ("", "\t", ""), ("j", "j", ""), ("4", "\x1b[C", ""), ("s", "s", "time"), ("4", "s", "")],
    [("", "\t", "Find"), ("", "/odd\r", "match 1"), ("=", "\r", "\u203a file"), ("=", "h", "")],
    [("", "  ", "2 marked"), ("=", "=", "\u203a diff"), ("", "", "FILES")],
    [("", "1A", ""), ("", "T", ""), ("", "T", ""), ("", "T", ""), ("", "H", "")],
]


class _Line:
    """A line of so many bytes a second, on which an answer of the terminal takes a round trip."""

    def __init__(self, program: ProgramInPty) -> None:
        self.program = program
        self._answers, self._asked = deque[float](), 0

    def take(self, seen: str = "", *, still: float = _QUIET, at_rest: bool = False) -> int:
        """Take what is written until this is seen and nothing came for so long, nor, where it is to be ``at_rest``, the
        program did anything; gives how many bytes that was."""
        begun = now = time.monotonic()
        before, quiet, done = len(self.program.output), now + still, self.program.cpu_ticks()
        while now < quiet or self._answers or not any(seen in row for row in self.program.display):
            assert now < begun + LIMIT_SECONDS, f"never came: {seen}\n" + "\n".join(self.program.display)
            if self._answers and self._answers[0] <= now:
                self._answers.popleft()
                self.program.press(ANSWER)
            if select.select([self.program.fd], [], [], 0.01)[0]:
                known = len(self.program.output)
                self.program.read()
                time.sleep((len(self.program.output) - known) / _BYTES_A_SECOND)
                quiet = time.monotonic() + still
            now = time.monotonic()
            if at_rest and done != (done := self.program.cpu_ticks()):
                quiet = now + still
            asked = self.program.output.count(ASK.encode())
            self._answers.extend([now + _ROUND_TRIP] * (asked - self._asked))
            self._asked = asked
        return len(self.program.output) - before

    def back(self) -> None:
        """To the main screen, from whatever was opened."""
        # On a busy machine a frame of the last key may still be to come.
        self.take(at_rest=True)
        for _ in range(4):
            # An escape and a key right after it are another key.
            self.program.press(_ESCAPE)
            assert self.take(still=0.2, at_rest=True) <= most_bytes()
        self.program.press("g")
        self.take(" 1 of ")
        assert "\u203a" not in self.program.display[0]


@pytest.mark.parametrize("size", [SMALL, WIDE])
def test_a_walk_through_all_screens(tmp_path: Path, size: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    images = many(500)
    cache = make_cache(tmp_path / "image", images)
    (cache / f"{images[0].digest}.config.json").write_text("{")
    packed_path(cache, images[5]).unlink()
    for image in images[:2]:
        unpacked_fixture("zoo.gzip.squashfs", tmp_path).rename(packed_path(cache, image))
    with screen_on(cache) as program:
        program.resize(*size)
        line = _Line(program)
        line.take("high")
        spent: list[tuple[str, int, int]] = []
        for walk in _WALKS:
            for name, keys, seen in walk:
                program.press(keys)
                spent.append((repr(keys), line.take(seen), most_bytes(size, name)))
            line.back()
        print("\n".join(f"{keys:14} {came:6} of {most}" for keys, came, most in spent))
        assert [one for one in spent if one[1] > one[2]] == []
        assert not program.ended()
