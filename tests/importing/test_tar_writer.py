"""The headers that packers read: every one comes back as it went in."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from ocitui.contents.tar_headers import ChunkReader, Kind, TarReader, Xattrs
from ocitui.importing.layers.flatten import END, pax_records, tar_header

PATHS = st.lists(st.binary(min_size=1, max_size=130), min_size=1, max_size=4).map(
    lambda parts: b"/".join(part.replace(b"\0", b"0").replace(b"/", b"_") for part in parts)
)
IDS = st.integers(0, (1 << 32) - 2)
XATTRS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=9).map(str.encode), st.binary(max_size=300), max_size=3
).map(lambda found: tuple(sorted(found.items())))


@given(
    name=PATHS,
    kind=st.sampled_from(list(Kind)),
    mode=st.integers(0, 0o7777),
    uid=IDS,
    gid=IDS,
    mtime=st.integers(0, (1 << 32) - 1),
    link=PATHS,
    device=st.tuples(st.integers(0, 4095), st.integers(0, (1 << 20) - 1)),
    xattrs=XATTRS,
)
def test_a_header_comes_back(
    name: bytes,
    kind: Kind,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int],
    xattrs: Xattrs,
) -> None:
    made = tar_header(name, kind, mode, uid, gid, 0, mtime, link, device, xattrs)
    (entry,) = TarReader(ChunkReader(iter([made, END])))
    assert (entry.name, entry.kind, entry.mode, entry.uid, entry.gid) == (name, kind, mode, uid, gid)
    assert (entry.mtime, entry.link, entry.xattrs) == (mtime, link, xattrs)
    assert entry.device == (device if kind in (Kind.CHARACTER, Kind.BLOCK) else None)
    assert (len(made) > 512) is bool(pax_records(name, uid, gid, 0, link, xattrs))


def test_sizes_beyond_octal_are_written_too() -> None:
    made = tar_header(b"f", Kind.FILE, 0o644, 0, 0, 1 << 40, 0)
    with tarfile.open(fileobj=io.BytesIO(made + END)) as archive:
        info = archive.next()
    assert info is not None
    assert info.size == 1 << 40
