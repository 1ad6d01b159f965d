"""The reader of tar headers: what it takes, and what it refuses."""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.contents.tar_headers import (
    ChunkReader,
    Kind,
    TarEntry,
    TarError,
    TarLimitError,
    TarReader,
    parse_pax,
)
from tests.importing.layer_support import Item, edited, folder, hard, layer, link

END = bytes(1024)


def read(data: bytes, most_bytes: int = 64 << 30, most_header: int = 1 << 20, chunk: int = 700) -> list[TarEntry]:
    return list(reader_of(data, most_bytes, most_header, chunk))


def reader_of(data: bytes, most_bytes: int = 64 << 30, most_header: int = 1 << 20, chunk: int = 700) -> TarReader:
    chunks: Iterator[bytes] = (data[at : at + chunk] for at in range(0, len(data), chunk))
    return TarReader(ChunkReader(chunks), most_bytes, most_header)


def one(data: bytes) -> TarEntry:
    entries = read(data)
    assert len(entries) == 1
    return entries[0]


def setting(start: int, value: bytes) -> Callable[[bytearray], None]:
    def edit(block: bytearray) -> None:
        block[start : start + len(value)] = value

    return edit


def raw(flag: bytes, body: bytes, name: bytes = b"x") -> bytes:
    """An entry with any type flag."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:148] = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (0o644, 0, 0, len(body), 0)
    block[156:157] = flag
    block[257:265] = b"ustar\00000"
    return edited(bytes(block), lambda _: None) + body + bytes(-len(body) % 512)


def record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = next(length for length in range(rest, rest + 9) if rest + len(str(length)) == length)
    return b"%d %s=%s\n" % (length, key, value)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_what_python_writes(format: int) -> None:
    long = "d" * 60 + "/" + "n" * 80
    data = layer(Item(long, data=b"123", uid=5, gid=6, mode=0o4755, mtime=77), folder("d"), format=format)
    first, second = read(data)
    assert (first.name, first.kind, first.mode, first.uid, first.gid) == (long.encode(), Kind.FILE, 0o4755, 5, 6)
    assert (first.size, first.mtime) == (3, 77)
    assert data[first.offset : first.offset + 3] == b"123"
    assert (second.name, second.kind) == (b"d/", Kind.DIRECTORY)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_and_numbers_beyond_ustar(format: int) -> None:
    name, target = "n" * 300 + "\udce9", "t" * 400
    items = (Item(name, uid=3_000_000, gid=4_000_000, mtime=1 << 34), link("s", target), hard("h", name))
    entries = read(layer(*items, format=format))
    assert [entry.name for entry in entries] == [b"n" * 300 + b"\xe9", b"s", b"h"]
    assert (entries[0].uid, entries[0].gid, entries[0].mtime) == (3_000_000, 4_000_000, 1 << 34)
    assert (entries[1].link, entries[2].link) == (target.encode(), b"n" * 300 + b"\xe9")


def test_pax_size_wins_and_xattrs_keep_their_bytes() -> None:
    body = record(b"size", b"3") + record(b"SCHILY.xattr.user.a", b"1\n\0=\xff") + record(b"mtime", b"-1.5")
    entry = one(raw(b"x", body) + raw(b"0", b"") + b"abc" + bytes(509) + END)
    assert (entry.size, entry.mtime) == (3, -1)
    assert entry.xattrs == ((b"user.a", b"1\n\0=\xff"),)


def test_libarchives_spelling_of_xattrs_counts_where_there_is_no_other() -> None:
    body = record(b"LIBARCHIVE.xattr.user.%61", b"MQ") + record(b"LIBARCHIVE.xattr.user.b", b"Mg==")
    assert parse_pax(body + record(b"SCHILY.xattr.user.b", b"3")).xattrs == ((b"user.a", b"1"), (b"user.b", b"3"))


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"5", b"6"])
def test_only_files_have_a_body_whatever_the_size_says(flag: bytes) -> None:
    pax = raw(b"x", record(b"size", b"4096"))
    data = edited(raw(flag, b"", b"first"), setting(124, b"%011o\0" % 4096)) + pax + raw(flag, b"", b"second") + END
    assert [(entry.name, entry.size) for entry in read(data)] == [(b"first", 0), (b"second", 0)]


def test_global_headers_are_passed_over() -> None:
    assert one(raw(b"g", record(b"path", b"other")) + raw(b"0", b"") + END).name == b"x"


def test_v7_names_directories_by_a_slash() -> None:
    data = edited(raw(b"\0", b"", b"d/"), setting(257, bytes(8)))
    assert one(data + END).kind is Kind.DIRECTORY


def test_prefixes_are_read_as_each_format_means_them() -> None:
    with_prefix = edited(raw(b"0", b""), setting(345, b"pre"))
    assert one(with_prefix + END).name == b"pre/x"
    gnu = edited(with_prefix, setting(257, b"ustar  \0"))
    assert one(gnu + END).name == b"x"


def test_old_tars_may_add_bytes_as_signed_numbers() -> None:
    block = bytearray(raw(b"0", b"", b"\xe9"))
    total = int(block[148:154], 8) - 256
    block[148:156] = b"%06o\0 " % total
    assert one(bytes(block) + END).name == b"\xe9"


def test_a_contiguous_file_is_a_regular_one() -> None:
    assert one(raw(b"7", b"", b"f") + END).kind is Kind.FILE


@pytest.mark.parametrize("kind", [b"S", b"D", b"M", b"V", b"N", b"A", b"9"])
def test_other_types_are_refused_by_name(kind: bytes) -> None:
    with pytest.raises(TarError, match=f"type '{kind.decode()}'|type {kind.decode()!r}") as caught:
        read(raw(kind, b"", b"f") + END)
    assert caught.value.entry == b"f"


def test_sparse_files_of_star_are_refused() -> None:
    with pytest.raises(TarError, match="as star writes them"):
        read(raw(b"x", record(b"SCHILY.realsize", b"10737418240")) + raw(b"0", b"") + END)


@pytest.mark.parametrize(
    "body",
    [
        b"abc",
        b"5 a=b\n",
        b"99 a=b\n",
        b"6 a=b\n6 a=c",
        b"7 ab=c ",
        b"-6 a=b\n",
        b"4 a\n",
        b"4 =\n",
        record(b"path", b"a\0b"),
        record(b"size", b"-1"),
        record(b"size", b"1e3"),
        record(b"uid", b"x"),
        record(b"mtime", b"soon"),
        record(b"SCHILY.xattr.", b"1"),
        record(b"LIBARCHIVE.xattr.user.a", b"!"),
    ],
)
def test_malformed_pax_headers_are_refused(body: bytes) -> None:
    with pytest.raises(TarError):
        read(raw(b"x", body) + raw(b"0", b"") + END)


WHOLE = layer(Item("a", data=b"1" * 700), Item("n" * 120, data=b"2"), link("s", "a"))
CONTENT = len(WHOLE.rstrip(b"\0"))


@given(length=st.integers(0, CONTENT - 1))
def test_of_a_cut_tar_only_what_is_there_is_read(length: int) -> None:
    found = []
    with suppress(TarError):
        for entry in reader_of(WHOLE[:length]):
            found.append(entry)
    assert found == read(WHOLE)[: len(found)]


@pytest.mark.parametrize("length", [1, 300, 600, 1024, 2000, CONTENT - 1])
def test_cut_inside_an_entry(length: int) -> None:
    with pytest.raises(TarError, match="cut"):
        read(WHOLE[:length])


@pytest.mark.parametrize("length", [1212, 1213, 1535, 1536])
def test_the_last_entry_may_lack_its_padding(length: int) -> None:
    assert [entry.size for entry in read(WHOLE[:length])] == [700]


@pytest.mark.parametrize("end", [END, bytes(512), b""])
def test_a_tar_may_lack_its_end(end: bytes) -> None:
    assert len(read(raw(b"0", b"") + end)) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"garbage" * 200, "not a tar"),
        (raw(b"0", b"") + bytes(512) + raw(b"0", b""), "zeros between entries"),
        (raw(b"x", record(b"uid", b"1")) + END, "zeros between entries"),
        (raw(b"x", record(b"uid", b"1")), "cut after an extended header"),
        (edited(raw(b"0", b""), setting(100, b"8888888\0")), "malformed"),
        (edited(raw(b"0", b""), setting(100, b"+000644\0")), "malformed"),
        (edited(raw(b"0", b""), setting(108, b"\xff" * 8)), "owner"),
        (edited(raw(b"0", b""), setting(124, b"\xff" * 12)), "size"),
    ],
)
def test_damaged_tars(data: bytes, reason: str) -> None:
    with pytest.raises(TarError, match=reason):
        read(data)


def test_a_claim_beyond_the_limit_is_refused_before_it_is_read() -> None:
    huge = edited(raw(b"0", b""), setting(124, b"\x80" + (10 << 30).to_bytes(11, "big")))
    with pytest.raises(TarLimitError, match="claims 10737418240 bytes"):
        read(huge, 1 << 30)
    with pytest.raises(TarError, match="cut in this entry"):
        read(huge)


@pytest.mark.parametrize("flag", [b"x", b"L", b"K", b"g"])
def test_extended_headers_are_bounded(flag: bytes) -> None:
    with pytest.raises(TarLimitError, match="extended header of 5000 bytes"):
        read(raw(flag, b"9" * 5000) + END, most_header=4096)


@given(
    names=st.lists(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1), max_size=8),
    data=st.binary(max_size=3000),
    chunk=st.integers(1, 5000),
)
def test_reads_what_python_reads(names: list[str], data: bytes, chunk: int) -> None:
    tar = layer(*(Item(f"d/{name}", data=data[number:]) for number, name in enumerate(names)))
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        expected = [(info.name.encode(), info.size, info.offset_data) for info in archive]
    assert [(entry.name, entry.size, entry.offset) for entry in read(tar, chunk=chunk)] == expected
