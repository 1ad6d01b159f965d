"""Sound indexes of many kinds, and random damage that knows which bytes it left alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from ocitui.cache import Descriptor, ImageIndex
from tests.cache.support import entry

# What makes a search for braces and quotes stumble, and what other writing systems bring.
_TEXTS = [
    "app:1", "", "{", "}", '"', "\\", "\\\\", '\\"', '{"', '"}', '},{"', ',"digest":"', "[{", "}]}", ":", ",", "\n",
    "é", "中文", "\U0001f600", "\u2028", "\x00", "manifests", '{"mediaType":"x","digest":"y","size":1}',
]  # fmt: skip
TEXT = st.lists(st.sampled_from(_TEXTS), max_size=3).map("".join)
Index = dict[str, Any]


@st.composite
def descriptors(draw: st.DrawFn) -> dict[str, Any]:
    """A descriptor that the daemon loads, now and then with fields that look like descriptors."""
    fields = entry(draw(st.integers(0, 9)), format=draw(st.sampled_from(["squashfs", "erofs", "tar"])))
    fields["annotations"]["io.containerd.image.name"] = draw(TEXT)
    if draw(st.booleans()):
        fields["platform"] = {"architecture": draw(TEXT), "os": "linux"}
    if draw(st.integers(0, 3)) == 0:
        other = entry(draw(st.integers(10, 19)))
        fields["unknown"] = draw(st.sampled_from([other, {"manifests": [other]}, {"platform": other}]))
    if draw(st.integers(0, 3)) == 0:
        fields["annotations"] = {draw(TEXT): draw(TEXT), **fields["annotations"]}
    if draw(st.integers(0, 5)) == 0:
        del fields["annotations"]
    return fields


@st.composite
def sound_indexes(draw: st.DrawFn, most: int = 5) -> bytes:
    """The bytes of an index that the daemon loads."""
    index: Index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    index["manifests"] = draw(st.lists(descriptors(), max_size=most))
    if draw(st.integers(0, 3)) == 0:
        index["annotations"] = {"about": draw(TEXT)}
    if draw(st.integers(0, 3)) == 0:
        index["subject"] = draw(descriptors())
    indent = draw(st.sampled_from([2, 2, None, 0]))
    text = json.dumps(index, indent=indent, ensure_ascii=draw(st.booleans()))
    return text.replace("\n", "\r\n").encode() if draw(st.integers(0, 5)) == 0 else text.encode()


def places(data: bytes) -> list[tuple[int, int]]:
    """Where the descriptors of a sound index stand."""
    found: list[tuple[int, int]] = []
    at = data.index(b"[", data.index(b'"manifests"')) + 1
    for descriptor in ImageIndex.parse(data).descriptors:
        at = data.index(descriptor.raw, at)
        found.append((at, at + len(descriptor.raw)))
        at += len(descriptor.raw)
    return found


@dataclass(slots=True)
class Damaged:
    """Bytes, and for each the offset at which it stood in the sound ones; -1 for a byte that is new."""

    data: bytes
    origins: list[int] = field(repr=False)

    @classmethod
    def of(cls, sound: bytes) -> Damaged:
        return cls(sound, list(range(len(sound))))

    def replaced(self, start: int, end: int, new: bytes) -> Damaged:
        origins = [*self.origins[:start], *([-1] * len(new)), *self.origins[end:]]
        return Damaged(self.data[:start] + new + self.data[end:], origins)

    def place_of(self, start: int, end: int) -> int | None:
        """Where the bytes that stood from ``start`` to ``end`` are now, all of them and in order."""
        if start not in self.origins:
            return None
        at = self.origins.index(start)
        return at if self.origins[at : at + end - start] == list(range(start, end)) else None


JUNK = st.binary(max_size=8) | st.lists(
    st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b" ", b"\n", b"1", b"//x", b"\x00", b"\xff"]),
    max_size=4,
).map(b"".join)


@st.composite
def overwritten(draw: st.DrawFn, damaged: Damaged, least: int = 1, most: int = 3) -> Damaged:
    """Some places overwritten, bits flipped, holes of NULs, the end cut off: no byte changes its place."""
    for _ in range(draw(st.integers(least, most))):
        size = len(damaged.data)
        if not size:
            break
        start = draw(st.integers(0, size - 1))
        match draw(st.sampled_from(["flip", "hole", "end"])):
            case "flip":
                new = bytes([damaged.data[start] ^ 1 << draw(st.integers(0, 7))])
            case "hole":
                new = bytes(min(draw(st.integers(1, 600)), size - start))
            case _:
                new, damaged = b"", damaged.replaced(start, size, b"")
        damaged = damaged.replaced(start, start + len(new), new)
    return damaged


@st.composite
def mangled(draw: st.DrawFn, damaged: Damaged) -> Damaged:
    """Pieces cut out, put in, and replaced by what JSON is made of."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(damaged.data)))
        end = min(len(damaged.data), start + draw(st.integers(0, 500)))
        damaged = damaged.replaced(start, end, draw(JUNK))
    return damaged


def raw(fields: dict[str, Any]) -> bytes:
    """A descriptor's compact JSON."""
    return Descriptor.from_dict(fields).raw
