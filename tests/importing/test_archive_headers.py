"""The headers of an archive: what is damaged is refused, and nothing keeps the reader for ever."""

from __future__ import annotations

import tarfile
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocitui.contents.tar_headers import ChunkReader, TarError
from ocitui.importing.errors import UnreadableSourceError
from ocitui.importing.sources.archive import Member, read_members


def members_of(data: bytes) -> list[Member]:
    return list(read_members(ChunkReader(iter([data]))))


def archive(records: bytes) -> bytes:
    """A tar of one empty file behind an extended header."""
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return header.tobuf() + records + bytes(-len(records) % 512) + tarfile.TarInfo("file").tobuf() + bytes(1024)


def test_an_extended_header_names_the_file() -> None:
    assert members_of(archive(b"13 path=name\n")) == [Member("name", 1536, 0)]


@pytest.mark.parametrize(
    "records",
    [b"abc path=name\n", b"0 path=name\n", b"3 path=name\n", b"99 path=name\n", b"13 path:name\n", b"9 size=x\n"],
)
def test_a_damaged_extended_header_is_refused(records: bytes) -> None:
    with pytest.raises(TarError, match="its PAX"):
        members_of(archive(records))


def test_names_without_end_are_refused() -> None:
    """A compressed archive of a few megabytes may hold 200,000 names of a megabyte each."""
    long = b"1000014 path=" + b"n" * 1_000_000 + b"\n"
    with pytest.raises(UnreadableSourceError, match="names are too long"):
        members_of(archive(long)[:-1024] * 40)


@given(st.binary(max_size=60))
@example(b"5 a=\n" * 10)
def test_any_extended_header_is_read_or_refused(records: bytes) -> None:
    with suppress(TarError):
        members_of(archive(records))
