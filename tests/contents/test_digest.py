"""The digest of a tree: its text is fixed, and is the same whatever packed the image."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackedFormat
from ocitui.contents.digest import TreeLevel, digest_lines, tree_digest
from ocitui.contents.tree import ContentsError, UnreadableFormatError, open_tree
from ocitui.help import topic_text
from ocitui.threads import Stop
from tests.contents.test_extract import ZOO, member, tree_of, write_tar
from tests.contents.trees_support import PACKED

EMPTY, SU = hashlib.sha256(b"").hexdigest(), hashlib.sha256(b"su").hexdigest()
TEXT = {
    TreeLevel.CONTENT: f"""packed-tree 1 content
/ d
/bin d 0755 0:0
/bin/a\\x20b\\xe9 f 0644 12:34 0 sha256:{EMPTY}
/bin/su f 4755 0:0 2 sha256:{SU}
/bin/su2 f link=/bin/su
/lib l 0:0 ->usr/lib
/null c 0666 0:0 1,3
""",
    TreeLevel.XATTRS: f"""packed-tree 1 xattrs
/ d
/bin d 0755 0:0
/bin/a\\x20b\\xe9 f 0644 12:34 0 sha256:{EMPTY}
/bin/su f 4755 0:0 2 sha256:{SU} x:security.capability=0100 x:user.a=
/bin/su2 f link=/bin/su
/lib l 0:0 ->usr/lib
/null c 0666 0:0 1,3
""",
    TreeLevel.FULL: f"""packed-tree 1 full
/ d 0751 12:34 mtime=5
/bin d 0755 0:0 mtime=1700000000
/bin/a\\x20b\\xe9 f 0644 12:34 0 sha256:{EMPTY} mtime=1700000000
/bin/su f 4755 0:0 2 sha256:{SU} mtime=1700000000 x:security.capability=0100 x:user.a=
/bin/su2 f link=/bin/su
/lib l 0:0 ->usr/lib mtime=1700000000
/null c 0666 0:0 1,3 mtime=1700000000
""",
}
_NAMES = ("user.a", "security.capability", "system.posix_acl_access")
XATTRS = {f"SCHILY.xattr.{name}": value for name, value in zip(_NAMES, ("", "\1\0", "x"), strict=True)}
MEMBERS = [
    member("./", b"5", mode=0o751, uid=12, gid=34, mtime=5),
    member("null", b"3", devmajor=1, devminor=3, mode=0o666),
    member("lib", b"2", linkname="usr/lib", mode=0o700),
    member("bin", b"5"),
    member("bin/su", data=b"su", mode=0o4755, pax_headers=XATTRS),
    member("bin/su2", b"1", linkname="bin/su"),
    member("bin/a b\udce9", uid=12, gid=34),
]


@pytest.mark.parametrize("level", TreeLevel)
def test_the_text_is_fixed(level: TreeLevel, tmp_path: Path) -> None:
    with ExitStack() as stack:
        tree = tree_of(write_tar(tmp_path / "a.tar", MEMBERS), stack)
        assert "".join(digest_lines(tree, level, Stop())) == TEXT[level]
        assert tree_digest(tree, level, Stop()) == f"sha256:{hashlib.sha256(TEXT[level].encode()).hexdigest()}"


def test_the_order_of_members_is_none_of_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        one = tree_of(write_tar(tmp_path / "a.tar", ZOO), stack)
        backwards = ZOO[::-1]
        moved = sorted(backwards, key=lambda one: one[0].type == tarfile.LNKTYPE)
        other = tree_of(write_tar(tmp_path / "b.tar", moved), stack)
        assert tree_digest(one, TreeLevel.FULL, Stop()) == tree_digest(other, TreeLevel.FULL, Stop())


@pytest.mark.parametrize(
    "change", [{"data": b"SU"}, {"mode": 0o755}, {"uid": 1}, {"mtime": 1}, {"pax_headers": {}}, {"name": "bin/sv"}]
)
def test_what_changes_changes_the_level_that_has_it(change: dict[str, Any], tmp_path: Path) -> None:
    fields: dict[str, Any] = {"name": "bin/su", "data": b"su", "mode": 0o4755, "pax_headers": XATTRS} | change
    name, data = str(fields.pop("name")), fields.pop("data")
    assert isinstance(data, bytes)
    changed = [*MEMBERS[:4], member(name, data=data, **fields), member("bin/su2", b"1", linkname=name), MEMBERS[6]]
    with ExitStack() as stack:
        paths = [write_tar(tmp_path / "a.tar", MEMBERS), write_tar(tmp_path / "b.tar", changed)]
        trees = [tree_of(path, stack) for path in paths]
        differ = [level for level in TreeLevel if len({tree_digest(tree, level, Stop()) for tree in trees}) == 2]
    first = 2 if "mtime" in change else 1 if "pax_headers" in change else 0
    assert differ == list(TreeLevel)[first:]


def test_what_is_damaged_has_no_digest(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", MEMBERS)
    path.write_bytes(path.read_bytes()[:3000])
    with ExitStack() as stack, pytest.raises(ContentsError, match="has no digest"):
        tree_digest(tree_of(path, stack), TreeLevel.CONTENT, Stop())


def test_the_example_in_the_help_is_true(tmp_path: Path) -> None:
    time, attributes = 1_700_000_000, {"SCHILY.xattr.user.a": "1"}
    members = [
        member(".", b"5", mtime=time),
        member("bin", b"5", mtime=time),
        member("bin/hi", data=b"hi\n", mode=0o755, mtime=time, pax_headers=attributes),
        member("bin/two", b"1", linkname="bin/hi"),
        member("lib", b"2", linkname="usr/lib", mtime=time),
    ]
    told = topic_text("contents").replace("\n     ", " ")
    with ExitStack() as stack:
        tree = tree_of(write_tar(tmp_path / "a.tar", members), stack)
        assert "".join(f"    {line}" for line in digest_lines(tree, TreeLevel.FULL, Stop())) in told
        for level in TreeLevel:
            digest = tree_digest(tree, level, Stop()).removeprefix("sha256:")
            assert f"    {level:8}{digest}\n" in told


@pytest.mark.slow
@pytest.mark.parametrize("level", TreeLevel)
def test_the_zoo_has_one_digest_whatever_packed_it(level: TreeLevel, tmp_path: Path) -> None:
    """All but what is refused by its name, and what mkfs.erofs 1.5 packed without the name of 255 bytes."""
    digests = dict[str, str]()
    for packed in sorted(PACKED.glob("zoo*.xz")):
        path, format = tmp_path / packed.stem, PackedFormat(packed.stem.rpartition(".")[2])
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        with open(path, "rb") as file, suppress(UnreadableFormatError):
            digests[path.name] = tree_digest(open_tree(file, format, Stop()), level, Stop())
    del digests["zoo.15.erofs"]
    assert len(digests) > 15
    assert {name: digest for name, digest in digests.items() if digest != digests["zoo.tar"]} == {}
