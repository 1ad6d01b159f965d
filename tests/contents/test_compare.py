"""What differs between two trees: exactly what makes their digests differ, and no file is read for nothing."""

from __future__ import annotations

import lzma
import random
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from ocitui.contents.compare import ComparedTree, TreeChange, TreeComparison
from ocitui.contents.digest import TreeLevel, digest_lines, tree_digest
from ocitui.contents.squashfs import squashfs_tree
from ocitui.contents.tree import DamagedError, Inode, PackedTree
from ocitui.text import escaped
from ocitui.threads import AbandonedError, Stop
from tests.contents import squashfs_maker
from tests.contents.test_extract import member, tree_of, write_tar
from tests.tools import ROOT

PACKED = ROOT / "tests" / "packed"

REG, DIR, LNK, CHR, SOCK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFSOCK


@dataclass(frozen=True)
class Node:
    kind: int = REG
    mode: int = 0o644
    uid: int = 0
    mtime: int = 5
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Bodies:
    """The reader of trees that are made here; what was read is kept. ``bent`` cannot be read."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes, self.read_of = nodes, list[int]()
        self.bent = set[int]()

    def target(self, reference: int) -> bytes:
        return self._node(reference).data

    def xattrs(self, reference: int) -> Mapping[bytes, bytes]:
        return dict(self._node(reference).xattrs)

    def read(self, reference: int, at: int, size: int) -> bytes:
        self.read_of.append(reference)
        return self._node(reference).data[at : at + size]

    def place(self, reference: int) -> tuple[int, ...]:
        return (reference,)

    def after_hole(self, reference: int, at: int) -> int:
        return at

    def _node(self, reference: int) -> Node:
        if reference in self.bent:
            raise DamagedError("it is bent")
        return self.nodes[reference]


Spec = dict[bytes, int]
"""Paths, by the inodes that they are names of."""


def made(names: Spec, nodes: list[Node], chance: random.Random) -> PackedTree:
    """The tree of them in some order, with numbers that nothing depends on; the first node is the root's."""
    numbers = chance.sample(range(1000), len(nodes))

    def inode(at: int) -> Inode:
        node = nodes[at]
        size = len(node.data) if node.kind in (REG, LNK) else 0
        return Inode(node.kind | node.mode, node.uid, 0, size, node.mtime, numbers[at], at, node.device)

    tree = PackedTree(Bodies(nodes), inode(0))
    places = {b"": 0}
    for path in sorted(names, key=lambda path: (path.count(b"/"), chance.random())):
        above, _, name = path.rpartition(b"/")
        if above in places and nodes[0 if not above else names[above]].kind == DIR:
            places[path] = tree.add(places[above], name, inode(names[path]))
    return tree


def some_tree(chance: random.Random) -> tuple[Spec, list[Node]]:
    nodes = [Node(DIR, 0o755), Node(DIR, 0o755), Node(DIR, 0o755)]
    nodes += [some_node(chance) for _ in range(4)]
    # Directories have one name each, all else may have several.
    names = {b"a": 1, b"b": 2 if chance.random() < 0.7 else 5}
    names |= {path: chance.randrange(3, 7) for path in (b"a/x", b"a-b", b"a/y", b"b/x", b"c") if chance.random() < 0.8}
    return names, nodes


def some_node(chance: random.Random) -> Node:
    kind = chance.choice((REG, REG, REG, LNK, CHR, SOCK))
    named = chance.choice((b"", b"user.a", b"security.b", b"system.c"))
    return Node(
        kind,
        chance.choice((0o644, 0o4755)),
        chance.choice((0, 7)),
        chance.choice((5, 6)),
        chance.choice((b"one", b"two", b"longer")) if kind in (REG, LNK) else b"",
        chance.choice(((1, 3), (1, 5))) if kind == CHR else (0, 0),
        ((named, chance.choice((b"", b"1"))),) if named and kind != LNK else (),
    )


def changed(names: Spec, nodes: list[Node], chance: random.Random) -> tuple[Spec, list[Node]]:
    """The same but for little, mostly one field."""
    names, nodes, other = dict(names), list(nodes), some_node(chance)
    at = chance.randrange(len(nodes))
    fields = ["mode", "uid", "mtime", "xattrs"] if nodes[at].kind == DIR else list(vars(other))
    match chance.randrange(6):
        case 0:
            names.pop(chance.choice(list(names)[1:] or [b"c"]), None)
        case 1:
            names[b"c"] = chance.randrange(3, 7)
        case 2 if nodes[at].kind != DIR:
            nodes[at] = other
        case _:
            field = chance.choice(fields)
            if field not in ("kind", "data", "device") or nodes[at].kind == other.kind:
                nodes[at] = replace(nodes[at], **{field: getattr(other, field)})
    return names, nodes


def compared(before: PackedTree, after: PackedTree, level: TreeLevel = TreeLevel.CONTENT) -> list[TreeChange]:
    return list(beside(before, after, level).changes(Stop()))


def beside(before: PackedTree, after: PackedTree, level: TreeLevel = TreeLevel.CONTENT) -> TreeComparison:
    """Two of which all can be read."""

    def unread(entry: int, error: Exception) -> None:
        raise error

    return TreeComparison(ComparedTree(before, unread), ComparedTree(after, unread), level)


def bytes_of(tree: PackedTree) -> int:
    return sum({tree.numbers[one]: tree.sizes[one] for one in range(len(tree)) if tree.kind(one) == REG}.values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_nothing_differs_exactly_where_the_digests_are_the_same(seed: int) -> None:
    chance, outcomes = random.Random(seed), set[tuple[bool, ...]]()
    for _ in range(150):
        names, nodes = some_tree(chance)
        others = (names, nodes)
        for _ in range(chance.randrange(4)):
            others = changed(*others, chance)
        before, after = made(names, nodes, chance), made(*others, chance)
        same = []
        for level in TreeLevel:
            found = compared(before, after, level)
            digests = {tree_digest(tree, level, Stop()) for tree in (before, after)}
            assert (not found) == (len(digests) == 1), (level, found, names, nodes, others)
            assert sum(one.grown for one in found) == bytes_of(after) - bytes_of(before)
            assert [one.path for one in found] == sorted({one.path for one in found})
            back = [(path, other, one, what, -grown) for path, one, other, what, grown in found]
            assert compared(after, before, level) == back
            same.append(not found)
        outcomes.add(tuple(same))
    assert outcomes == {(True, True, True), (True, True, False), (True, False, False), (False, False, False)}


_PAX = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.system.posix_acl_access": "x"}
FIELDS: dict[str, Any] = {"name": "bin/su", "data": b"su", "mode": 0o4755, "pax_headers": _PAX}


@pytest.mark.parametrize(
    ("change", "what", "first"),
    [
        ({"data": b"SU"}, ("content",), 0),
        ({"data": b"longer"}, ("size",), 0),
        ({"mode": 0o755, "uid": 7}, ("mode", "owner"), 0),
        ({"pax_headers": {}}, ("xattrs",), 1),
        ({"pax_headers": {"SCHILY.xattr.user.a": "1"}}, (), 3),
        ({"mtime": 1}, ("mtime",), 2),
        ({"mtime": 1, "gid": 3, "pax_headers": {}}, ("owner", "mtime", "xattrs"), 0),
    ],
)
def test_what_is_another_of_a_path(change: dict[str, Any], what: tuple[str, ...], first: int, tmp_path: Path) -> None:
    """Each level from the ``first`` one on tells it, of what it has."""
    with ExitStack() as stack:
        trees = [
            tree_of(write_tar(tmp_path / f"{at}.tar", [member(**fields), member("z", b"1", linkname="bin/su")]), stack)
            for at, fields in enumerate((FIELDS, FIELDS | change))
        ]
        told = [[(one.path, one.what) for one in compared(trees[0], trees[1], level)] for level in TreeLevel]
    of_level = [set(what) - {"mtime", "xattrs"}, set(what) - {"mtime"}, set(what)]
    parts = [tuple(one for one in what if one in kept) for kept in of_level]
    # The other name of the inode tells nothing more.
    assert told == [[(b"bin/su", parts[at])] if at >= first else [] for at in range(3)]


def test_targets_devices_links_and_names(tmp_path: Path) -> None:
    alike = [member("one", data=b"12"), member("three", data=b"1")]
    old = [member("sort", b"5"), member("l", b"2", linkname="a"), member("n", b"3", devmajor=1, devminor=3)]
    old += [member("two", b"1", linkname="one")]
    new = [member("sort", data=b"1"), member("l", b"2", linkname="b"), member("n", b"3", devmajor=1, devminor=5)]
    new += [member("two", data=b"12")]
    paths = [tmp_path / "old.tar", tmp_path / "new.tar"]
    write_tar(paths[0], [*alike, *old, member("gone", data=b"123")])
    write_tar(paths[1], [*alike, *new, member("here/it", data=b"1234")])
    with ExitStack() as stack:
        before, after = (tree_of(path, stack) for path in paths)
        found = compared(before, after)
        assert [(one.path, one.before is None, one.after is None, one.what, one.grown) for one in found] == [
            (b"gone", False, True, (), -3),
            (b"here", True, False, (), 0),
            (b"here/it", True, False, (), 4),
            (b"l", False, False, ("target",), 0),
            (b"n", False, False, ("device",), 0),
            (b"sort", False, False, ("type",), 1),
            (b"two", False, False, ("link",), 2),
        ]


def test_only_files_of_one_size_are_read_and_no_bytes_beside_themselves() -> None:
    chance = random.Random(1)
    nodes = [Node(DIR), Node(data=b"same"), Node(data=b"size"), Node(data=b"grows")]
    names = {b"same": 1, b"again": 1, b"size": 2, b"grows": 3}
    before = made(names, nodes, chance)
    after = made(names, [*nodes[:2], Node(data=b"SIZE"), Node(data=b"grows more")], chance)
    assert {one.path: one.what for one in compared(before, after)} == {b"size": ("content",), b"grows": ("size",)}
    assert isinstance(before.reader, Bodies)
    # To its end where nothing differs, and each inode once.
    assert before.reader.read_of == [1, 2]
    before.reader.read_of.clear()
    twin = made(names, nodes, chance)
    twin.reader = before.reader
    assert compared(before, twin) == compared(before, before) == []
    assert before.reader.read_of == []


class Blocks(Bodies):
    """What is stored in blocks of some bytes, the last of a file in a way of its own."""

    def __init__(self, nodes: list[Node], size: int, way: bytes = b"") -> None:
        super().__init__(nodes)
        self.layout, self._way = (0, size), way

    def parts(self, reference: int) -> Iterator[tuple[int, object]]:
        data, size = self.nodes[reference].data, self.layout[1]
        for at in range(0, len(data), size):
            part = data[at : at + size]
            yield len(part), part + (self._way if at + size >= len(data) else b"")


@pytest.mark.parametrize(
    ("other", "size", "way", "read"),
    [
        (b"aabbccd", 2, b"", 0),
        (b"aabbccX", 2, b"", 1),
        (b"aabXccX", 2, b"", 1),
        (b"aabbccd", 2, b"x", 1),
        (b"aabbccX", 4, b"", 1),
        (b"aabbccd", 4, b"", 1),
    ],
)
def test_only_parts_that_are_stored_otherwise_are_read(other: bytes, size: int, way: bytes, read: int) -> None:
    """Those of another layout are no parts to compare."""
    chance, nodes = random.Random(1), [Node(DIR), Node(data=b"aabbccd")]
    others = [Node(DIR), Node(data=other)]
    before, after = made({b"f": 1}, nodes, chance), made({b"f": 1}, others, chance)
    reader = Blocks(others, size, way)
    before.reader, after.reader = Blocks(nodes, 2), reader
    assert [one.what for one in compared(before, after)] == [("content",)] * (other != b"aabbccd")
    assert len(reader.read_of) == read


def test_long_bodies_are_compared_in_parts_and_can_be_stopped() -> None:
    chance, stop, passed = random.Random(1), Stop(), list[int]()
    body = bytes(5 << 20)
    before, after = (made({b"f": 1}, [Node(DIR), Node(data=data)], chance) for data in (body + b"1", body + b"2"))

    def told(size: int) -> None:
        passed.append(size)
        if len(passed) == 2:
            stop.set()

    comparison = beside(before, after)
    with pytest.raises(AbandonedError):
        list(comparison.changes(stop, told))
    assert passed == [2 << 20, 2 << 20]
    assert [one.what for one in comparison.changes(Stop())] == [("content",)]


def test_what_cannot_be_read_is_told_and_the_rest_compared() -> None:
    chance, told = random.Random(1), list[tuple[bytes, str]]()
    nodes = [Node(DIR), Node(data=b"bent"), Node(data=b"well"), Node(LNK, data=b"there"), Node()]
    names = {b"bent": 1, b"well": 2, b"link": 3, b"no bytes": 4}
    before = made(names, nodes, chance)
    after = made(names, [*nodes[:2], Node(data=b"WELL"), Node(LNK, data=b"here"), Node()], chance)
    assert isinstance(after.reader, Bodies)
    after.reader.bent = {1, 3, 4}

    def unread(entry: int, error: Exception) -> None:
        told.append((after.path(entry), str(error)))

    sides = ComparedTree(before, lambda *_: pytest.fail("all of it can be read")), ComparedTree(after, unread)
    found = list(TreeComparison(*sides, TreeLevel.CONTENT).changes(Stop()))
    assert [(one.path, one.what) for one in found] == [(b"well", ("content",))]
    assert told == [(path, "it is bent") for path in (b"bent", b"no bytes", b"link")]


def test_a_block_of_an_impossible_size_is_not_read_to_compare_it(
    read_squashfs: Callable[[bytes], PackedTree],
) -> None:
    told = list[str]()
    image = squashfs_maker.made(
        squashfs_maker.Member(b"f", squashfs_maker.FILE, squashfs_maker.file(2, 5, 300_000)), data=bytes(300_000)
    )
    one, other = (ComparedTree(read_squashfs(image), lambda _, error: told.append(str(error))) for _ in range(2))
    assert list(TreeComparison(one, other, TreeLevel.CONTENT).changes(Stop())) == []
    assert told == ["its block at byte 96 has an impossible size"] * 2


def test_a_tree_of_which_a_part_is_not_known_is_compared_with_nothing() -> None:
    tree = made({}, [Node(DIR)], random.Random(1))
    tree.damage.append((0, "it is cut"))
    with pytest.raises(DamagedError, match="cannot be compared, as a part of it cannot be read: it is cut"):
        compared(made({}, [Node(DIR)], random.Random(1)), tree)


def squashfs(name: str, stack: ExitStack, tmp_path: Path, edit: tuple[int, int] = (0, 0)) -> PackedTree:
    """A fixture; of the byte at a place other bits are set."""
    image = bytearray(lzma.decompress((PACKED / f"zoo.{name}.squashfs.xz").read_bytes()))
    image[edit[0]] ^= edit[1]
    path = tmp_path / f"{name}-{edit[0]}.squashfs"
    path.write_bytes(image)
    return squashfs_tree(stack.enter_context(open(path, "rb", buffering=0)), Stop())


def test_two_ends_in_one_fragment_are_not_taken_for_each_other(tmp_path: Path) -> None:
    with ExitStack() as stack:
        before, after = (squashfs("raw", stack, tmp_path) for _ in range(2))
        ends = [one for one in before.files() if before.sizes[one] < 4096]
        one, other = next(
            pair
            for pair in combinations(ends, 2)
            if len({before.sizes[each] for each in pair}) == 1
            and len({before.open(each).read() for each in pair}) == 2
            and not {*map(before.path, pair)} & {*map(before.path, before.first_names().values())}
        )
        for column in (after.references, after.numbers):
            column[one], column[other] = column[other], column[one]
        found = {change.path: change.what for change in compared(before, after)}
        assert found == {before.path(each): ("content",) for each in (one, other)}


@pytest.mark.parametrize(("other", "is_read"), [("gzip", False), ("xz", True), ("raw", True)])
def test_what_two_images_store_alike_is_not_unpacked(other: str, is_read: bool, tmp_path: Path) -> None:
    passed = list[int]()
    with ExitStack() as stack:
        before, after = (squashfs(name, stack, tmp_path) for name in ("gzip", other))
        if not is_read:
            after = squashfs("gzip", stack, tmp_path)
        assert list(beside(before, after, TreeLevel.FULL).changes(Stop(), passed.append)) == []
    assert bool(passed) is is_read


@pytest.mark.slow
def test_a_byte_that_differs_is_in_the_files_whose_hashes_it_changes(tmp_path: Path) -> None:
    """In blocks that are stored as they are, of one file or of several, and in the ends of many."""
    chance, counts, level = random.Random(4), set[int](), TreeLevel.CONTENT
    with ExitStack() as stack:
        before = squashfs("raw", stack, tmp_path)
        lines = {*digest_lines(before, level, Stop())}
        for at in (100, 442_300, *chance.sample(range(835_456, 838_552), 30)):
            after = squashfs("raw", stack, tmp_path, (at, 0x10))
            changed_lines = lines.symmetric_difference(digest_lines(after, level, Stop()))
            found = compared(before, after)
            told = {"/" + escaped(one.path).replace(" ", r"\x20") for one in found}
            assert told == {line.split()[0] for line in changed_lines}
            assert {one.what for one in found} <= {("content",)}
            counts.add(len(found))
    assert min(counts - {0}) == 1 < max(counts)
