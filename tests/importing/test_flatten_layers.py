"""Layer files: what they are compressed with, their digests, and files that lie."""

import bz2
import errno
import gzip
import hashlib
import lzma
import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from backports import zstd
from msgspec.structs import replace

from ocitui.importing.errors import LayerDigestError, LayerError, LayerLimitError
from ocitui.importing.layers.flatten import flattening
from ocitui.importing.layers.layers import LayerLimits, LayerSource, OpenLayer, compression_of, decompressed
from ocitui.importing.layers.tree import Counter
from tests.importing.layer_support import Item, flattened, layer, sources, tree_of_tar

TAR = layer(Item("a", data=b"1" * 100_000), Item("b", data=random.Random(1).randbytes(300_000)), Item("c", data=b"3"))
SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def in_parts(compress: Callable[[bytes], bytes]) -> bytes:
    return b"".join(compress(TAR[at : at + 50_000]) for at in range(0, len(TAR), 50_000))


FORMS: dict[str, Callable[[], bytes]] = {
    "plain": lambda: TAR,
    "gzip": lambda: gzip.compress(TAR),
    "gzip-members": lambda: in_parts(gzip.compress),
    "gzip-padded": lambda: gzip.compress(TAR) + bytes(700),
    "zstd": lambda: zstd.compress(TAR),
    "zstd-frames": lambda: in_parts(zstd.compress),
    "zstd-skippable": lambda: SKIPPABLE + zstd.compress(TAR) + SKIPPABLE,
    "xz": lambda: lzma.compress(TAR),
    "xz-streams": lambda: in_parts(lzma.compress),
    "bzip2": lambda: bz2.compress(TAR),
    "bzip2-streams": lambda: in_parts(bz2.compress),
}


@cache
def in_form(form: str) -> bytes:
    """Compressed when it is asked for: not by each process that only lists the tests."""
    return FORMS[form]()


@pytest.mark.parametrize("form", FORMS)
def test_the_compression_is_read_off_the_bytes(form: str, tmp_path: Path) -> None:
    (source,) = sources(tmp_path, [in_form(form)])
    known = replace(source, digest=digest(in_form(form)), diff_id=digest(TAR), size=len(in_form(form)))
    assert tree_of_tar(flattened([known])).tree == tree_of_tar(flattened(sources(tmp_path / "plain", [TAR]))).tree


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_inside_another_file_is_read_in_place(form: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(b"before" + in_form(form) + b"after")
    source = LayerSource(path, digest(in_form(form)), len(in_form(form)), digest(TAR), offset=6)
    assert set(tree_of_tar(flattened([source])).tree) == {".", "a", "b", "c"}


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("plain", "gzip-padded", "zstd-skippable")])
@pytest.mark.parametrize("left", [0.1, 0.5, 0.99])
def test_cut_layers_are_refused(form: str, left: float, tmp_path: Path) -> None:
    (source,) = sources(tmp_path, [in_form(form)[: int(len(in_form(form)) * left)]])
    with pytest.raises(LayerError, match=r"layer 1: .*(cut|damaged)"):
        flattened([replace(source, diff_id=digest(TAR))])


@pytest.mark.parametrize("length", [512, 512 + 700])
def test_a_tar_without_its_end_is_whole_where_its_digest_says_so(length: int, tmp_path: Path) -> None:
    whole = layer(Item("a", data=bytes(700) if length > 512 else b""))
    (source,) = sources(tmp_path, [whole[:length]])
    assert "a" in tree_of_tar(flattened([source])).tree
    with pytest.raises(LayerDigestError, match="layer 1: its uncompressed digest"):
        flattened([replace(source, diff_id=digest(whole))])


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"digest": digest(b"")}, "its digest is sha256"),
        ({"diff_id": digest(b"")}, "its uncompressed digest"),
        ({"size": 5}, "bytes for it, not 5"),
        ({"size": 1 << 40}, "bytes for it, not"),
        ({"offset": 1 << 40}, "bytes for it"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
def test_what_is_known_of_a_layer_is_checked(
    form: str, known: dict[str, str | int], reason: str, tmp_path: Path
) -> None:
    (source,) = sources(tmp_path, [in_form(form)])
    with pytest.raises(LayerDigestError, match=reason) as caught:
        flattened([replace(source, **known)])
    assert caught.value.layer == 1


OTHER: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "zip": ("plain", lambda data: b"PK\x03\x04" + data, "zip"),
    "lz4": ("plain", lambda data: b"\x04\x22\x4d\x18" + data, "lz4"),
    "gzip-and-little": ("gzip", lambda data: data + b"more", "something follows the end of its gzip data"),
    "gzip-begun-again": ("gzip", lambda data: data + b"\x1f\x8b", "gzip data are cut"),
    "gzip-and-more": ("gzip", lambda data: data + b"and more", "something follows the end of its gzip data"),
    "gzip-members-apart": ("gzip", lambda data: data + bytes(99) + data, "something follows"),
    "gzip-flipped": ("gzip", lambda data: flipped(data, -5), "damaged"),
    "zstd-and-more": ("zstd", lambda data: data + b"more", "something follows the end of its zstd data"),
    "bzip2-cut": ("bzip2", lambda data: data[:-20], "bzip2 data are cut"),
    "xz-cut": ("xz", lambda data: data[:-20], "xz data are cut"),
    "xz-flipped": ("xz", lambda data: flipped(data, 40), "xz data are damaged"),
    "bzip2-flipped": ("bzip2", lambda data: flipped(data, 40), "bzip2 data are damaged"),
}


@pytest.mark.parametrize("case", OTHER)
def test_other_bytes_are_refused(case: str, tmp_path: Path) -> None:
    form, change, reason = OTHER[case]
    with pytest.raises(LayerError, match=reason):
        flattened(sources(tmp_path, [change(in_form(form))]))


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, lzma.compress, bz2.compress])
def test_a_disk_that_fails_is_no_damaged_layer(compress: Callable[[bytes], bytes]) -> None:
    data = compress(TAR)

    def blocks() -> Iterator[bytes]:
        yield data[:40]
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(decompressed(blocks(), compression_of(data)))


@pytest.mark.slow
@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, lzma.compress, bz2.compress])
def test_bombs_stop_at_the_limit(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    bomb = compress(layer(Item("zeros", data=bytes(12 << 20))))
    assert len(bomb) < 1 << 20
    with pytest.raises(LayerLimitError, match="claims"):
        flattened(sources(tmp_path, [bomb]), LayerLimits(unpacked_bytes=2 << 20))
    padded = compress(layer(Item("f")) + bytes(12 << 20))
    with pytest.raises(LayerLimitError, match="unpack to more than"):
        flattened(sources(tmp_path, [padded]), LayerLimits(unpacked_bytes=2 << 20))


@pytest.mark.parametrize("kind", ["absent", "directory", "fifo"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "layer"
    if kind == "directory":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(LayerError, match="layer 1: "):
        flattened([LayerSource(path, digest(b""), 0, digest(b""))])


def test_a_layer_that_changes_under_way_is_noticed(tmp_path: Path) -> None:
    (source,) = sources(tmp_path, [TAR])
    opened = OpenLayer(source)
    os.truncate(source.path, 1000)
    with pytest.raises(LayerError, match="changed while it was read"):
        opened.check_unchanged()
    with pytest.raises(LayerError, match="cut while it was read"):
        list(opened.part(0, len(TAR)))
    opened.close()


def test_no_thread_of_a_layer_is_left_once_it_is_read(tmp_path: Path) -> None:
    """An image may have 127 layers, and a packer is started without other threads."""
    with flattening(sources(tmp_path, [TAR, in_form("gzip")]), LayerLimits(), Counter()):
        assert not [one for one in threading.enumerate() if one.name.startswith("hash")]


def test_a_layer_that_is_left_half_read_waits_for_no_thread_until_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads it may be collected in any thread, amid a lock that a thread needs to end."""
    (source,) = sources(tmp_path, [TAR])
    opened = OpenLayer(source)
    chunks = opened.checked_chunks(lambda count: None)
    next(chunks)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", lambda *_: pytest.fail("it waits"))
        chunks.close()  # type: ignore[attr-defined]
    opened.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("hash")]
