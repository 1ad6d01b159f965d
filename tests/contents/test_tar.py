"""The tree inside a tar: all that an odd one holds, what several members of a path mean, and what is damaged."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import random
import stat
import subprocess
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import PackedFormat
from ocitui.contents import DamagedError, PackedTree, hash_files, open_tree
from ocitui.contents import tar as tar_module
from ocitui.contents.tar import tar_tree
from ocitui.contents.tree import ROOT, BulkReader, LinkLoopError, UnreadableFormatError
from ocitui.threads import AbandonedError, Stop
from tests.contents.test_tar_headers import END, raw, record, setting
from tests.contents.trees_support import skipped_of
from tests.importing.layer_support import Item, edited, folder, hard, layer, link
from tests.tools import ROOT as PROJECT
from tests.tools import need, seeds

PACKED = PROJECT / "tests" / "packed"
ZOO = lzma.decompress((PACKED / "zoo.tar.xz").read_bytes())
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO)
TYPES = dict(zip(_KINDS, "fdlbcp", strict=True))
Opened = Callable[[bytes], PackedTree]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """The tree of a tar's bytes."""
    files: list[BinaryIO] = []

    def open_one(data: bytes) -> PackedTree:
        path = tmp_path / f"{len(files)}.tar"
        path.write_bytes(data)
        files.append(path.open("rb"))
        return open_tree(files[-1], PackedFormat.TAR, Stop())

    yield open_one
    for file in files:
        file.close()


@pytest.mark.parametrize("stretch", [2, 512, 1536, 1 << 20])
def test_files_that_are_hashed_together_have_the_hashes_of_what_each_holds(
    stretch: int, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those within a stretch of the tar, those that go beyond it, and none that has a header of its own to be read."""
    monkeypatch.setattr(tar_module, "_STRETCH", stretch)
    sizes = [0, 1, 511, 512, 513, 1024, 2000, 5000, 3, 0]
    bodies = {b"f%d" % size: random.Random(size).randbytes(size) for size in sizes}
    items = [Item(name.decode(), data=data) for name, data in bodies.items()]
    tree = opened(layer(*items, Item("x", data=b"attributed", xattrs={"user.a": "1"}), hard("again", "f513")))
    found = dict[bytes, str]()
    reader = tree.reader
    assert isinstance(reader, BulkReader)
    reader.hash_files(tree, tree.files(), lambda entry, hash: found.setdefault(tree.name(entry), hash.hex()), Stop())
    found[b"f513"] = found.pop(b"again", "") or found[b"f513"]
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in bodies.items()}


def test_a_body_that_is_cut_while_it_is_hashed_is_damage(opened: Opened, tmp_path: Path) -> None:
    tree = opened(layer(Item("f", data=bytes(5000)), Item("large", data=bytes(3 << 20))))
    for left in (3 << 20, 2048):
        os.truncate(tmp_path / "0.tar", left)
        with pytest.raises(DamagedError):
            hash_files(tree, lambda entry, hash: None, Stop())


def paths(tree: PackedTree) -> list[bytes]:
    return [tree.path(entry) for entry in tree.walk()][1:]


def entry_of(tree: PackedTree, path: bytes) -> int:
    found = tree.find(path)
    assert found is not None, path
    return found


def body(tree: PackedTree, path: bytes) -> bytes:
    data = tree.open(entry_of(tree, path)).read()
    assert data is not None
    return data


def said(tree: PackedTree) -> str:
    return "\n".join(text for _, text in tree.damage)


def text(name: bytes) -> str:
    """A name as the recorded trees have it."""
    return name.decode("latin-1")


def recorded(tree: PackedTree) -> dict[str, dict[str, Any]]:
    """All of a tree, as it was recorded through a kernel's mount."""
    links, names, found = tree.first_names(), Counter(tree.numbers), dict[str, dict[str, Any]]()
    for entry in tree.walk():
        node, kind = tree.node(entry), TYPES[tree.kind(entry)]
        about: dict[str, Any] = {"type": kind, "mode": stat.S_IMODE(node.mode), "mtime": node.mtime}
        about |= {"uid": node.uid, "gid": node.gid}
        if kind == "f":
            about |= {"size": node.size, "sha256": hashlib.sha256(tree.open(entry).readall() or b"").hexdigest()}
        if kind == "l":
            about["target"] = text(tree.target(entry))
        if kind in "bc":
            about["rdev"] = list(node.device)
        if xattrs := tree.xattrs(entry):
            about["xattrs"] = {text(name): value.hex() for name, value in xattrs.items()}
        if names[node.number] > 1:
            about |= {"hardlink": text(tree.path(links.get(entry, entry))), "nlink": names[node.number]}
        found[text(tree.path(entry))] = about
    return found


def test_the_zoo_is_what_a_kernel_shows_of_it(opened: Opened) -> None:
    tree = opened(ZOO)
    assert tree.damage == []
    assert recorded(tree) == json.loads((PACKED / "zoo-tar.json").read_bytes())


HOSTILE: dict[str, tuple[list[bytes], str]] = {
    "dotdot": ([], "climbs"),
    "link-later": ([b"a", b"b"], ""),
    "link-nowhere": ([], "which is not there"),
    "through-file": ([b"a"], "which is no directory"),
    "twice": ([b"a"], ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_lies_is_left_out_and_told(name: str, opened: Opened) -> None:
    found, reason = HOSTILE[name]
    tree = opened(lzma.decompress((PACKED / "hostile" / f"{name}.tar.xz").read_bytes()))
    assert paths(tree) == found
    assert reason in said(tree)
    assert bool(tree.damage) == bool(reason)


@pytest.mark.parametrize(
    ("name", "entries", "why"),
    [("cut", 116, "'./data/exact2': its tar is cut in this entry"), ("no-end", 146, "it ends without two zero blocks")],
)
def test_a_cut_tar_shows_what_it_has_and_where_it_ends(name: str, entries: int, why: str, opened: Opened) -> None:
    data = lzma.decompress((PACKED / "hostile" / f"{name}.tar.xz").read_bytes())
    tree = opened(data)
    assert len(tree) == entries
    assert f"behind byte {len(data)}" in said(tree)
    assert why in said(tree)


def test_the_last_of_a_path_counts_with_all_that_it_is(opened: Opened) -> None:
    first = Item("a", data=b"first", uid=1, mode=0o600, mtime=5)
    tree = opened(layer(first, link("b", "a"), Item("a", data=b"second", uid=2), Item("b", data=b"x"), folder("a")))
    assert tree.damage == []
    assert [tree.kind(entry_of(tree, path)) for path in (b"a", b"b")] == [stat.S_IFDIR, stat.S_IFREG]
    again = opened(layer(first, Item("a", data=b"second", uid=2)))
    assert (body(again, b"a"), again.uids[entry_of(again, b"a")]) == (b"second", 2)
    device = Item("a", tarfile.CHRTYPE, device=(1, 3))
    for members, expected in (((device, first), (0, 0)), ((first, device), (1, 3))):
        assert opened(layer(*members)).node(1).device == expected
    late = opened(layer(hard("a", "b"), Item("a", data=b"own"), Item("b", data=b"other")))
    assert (body(late, b"a"), late.damage) == (b"own", [])
    again = opened(layer(hard("a", "late"), Item("b", data=b"last"), hard("a", "b"), Item("late", data=b"first")))
    assert (body(again, b"a"), again.damage) == (b"last", [])


@pytest.mark.parametrize(
    ("members", "left"),
    [
        ([folder("d"), Item("d/x"), Item("d")], [b"d", b"d/x"]),
        ([Item("d/x"), link("d", "e")], [b"d", b"d/x"]),
        ([link("d", "e"), folder("e"), Item("d/x")], [b"d", b"e"]),
        ([folder("d"), hard("h", "d")], [b"d"]),
        ([hard("a", "b"), hard("b", "a")], []),
        ([hard("a", "b"), hard("b", "../c"), Item("c")], [b"c"]),
        ([link("l", "")], []),
        ([link("l", "t" * 70_000)], []),
        ([Item("n" * 256), Item("ok")], [b"ok"]),
        ([Item("n/" * 3000 + "x"), Item("ok")], [b"ok"]),
        ([Item("."), Item("ok")], [b"ok"]),
        ([Item("./" * 150), Item("ok")], [b"ok"]),
        ([hard("h", "/" * 300), Item("ok")], [b"ok"]),
        ([hard(".", "ok"), Item("ok")], [b"ok"]),
    ],
)
def test_what_cannot_stand_in_a_tree_is_damage(members: list[Item], left: list[bytes], opened: Opened) -> None:
    tree = opened(layer(*members))
    assert paths(tree) == left
    assert tree.damage


def test_directories_that_are_not_named_are_made_and_may_be_named_later(opened: Opened) -> None:
    tree = opened(layer(Item("/a/b/c", data=b"x"), folder("a", mode=0o700, uid=9), folder("./", mode=0o711, mtime=3)))
    assert paths(tree) == [b"a", b"a/b", b"a/b/c"]
    assert [stat.S_IMODE(tree.modes[entry_of(tree, path)]) for path in (b"", b"a", b"a/b")] == [0o711, 0o700, 0o755]
    assert tree.mtimes[ROOT] == 3
    assert tree.xattrs(entry_of(tree, b"a/b")) == {}
    assert len(set(tree.numbers)) == len(tree)


def test_hard_links_before_and_behind_their_file_are_one_inode(opened: Opened) -> None:
    chain = [hard(f"l{number}", f"l{number + 1}") for number in range(2000)]
    tree = opened(layer(*chain, hard("d/early", "l2000"), Item("l2000", data=b"x"), hard("late", "./d/early")))
    assert tree.damage == []
    assert len({tree.numbers[entry_of(tree, path)] for path in paths(tree) if path != b"d"}) == 1
    assert body(tree, b"late") == body(tree, b"d/early") == body(tree, b"l0") == b"x"


def test_a_link_keeps_the_file_that_it_was_made_to(opened: Opened) -> None:
    """As where it is unpacked: who replaces a file gives the name a new one. A file given twice links to itself."""
    tree = opened(layer(Item("a", data=b"old"), hard("h", "a"), Item("a", data=b"new"), hard("a", "a")))
    assert (body(tree, b"a"), body(tree, b"h"), tree.damage) == (b"new", b"old", [])
    assert tree.first_names() == {}


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_are_read_with_their_holes(version: str, tmp_path: Path, opened: Opened) -> None:
    need("tar")
    content = random.Random(version)
    with (tmp_path / "file").open("wb") as file:
        for at in (0, 70_000, 500_000):
            file.seek(at)
            file.write(content.randbytes(9000))
        file.truncate(2_000_000)
    whole = (tmp_path / "file").read_bytes()
    form = ["--format=posix", f"--sparse-version={version}", "--sparse"]
    subprocess.run(["tar", *form, "-C", tmp_path, "-cf", tmp_path / "it", "file"], check=True)
    made = (tmp_path / "it").read_bytes()
    assert len(made) < 100_000
    tree = opened(made)
    file_ = tree.open(entry_of(tree, b"file"))
    assert file_.read() == whole
    for _ in range(200):
        at, size = content.randrange(2_000_100), content.randrange(100_000)
        file_.seek(at)
        assert file_.read(size) == whole[at : at + size]
    assert skipped_of(tree) > 1_900_000


def test_a_file_of_holes_is_listed_at_once_and_read_in_parts(opened: Opened) -> None:
    records = record(b"GNU.sparse.map", b"%d,3" % (1 << 40)) + record(b"GNU.sparse.size", b"%d" % (1 << 41))
    tree = opened(raw(b"x", records) + raw(b"0", b"abc") + END)
    assert tree.sizes[1] == 1 << 41
    file = tree.open(1)
    assert file.read(5) == bytes(5)
    file.seek((1 << 40) - 1)
    assert file.read(5) == b"\0abc\0"
    ends = [tree.reader.after_hole(tree.references[1], at) for at in (0, 1 << 40, (1 << 40) + 2, (1 << 40) + 3)]
    assert ends == [1 << 40, 1 << 40, (1 << 40) + 2, 1 << 41]


def test_a_plain_body_is_read_without_its_header(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be a hundred thousand of them."""
    tree = opened(
        layer(Item("a", data=b"body"), hard("b", "a"), Item("empty"), folder("d"), Item("d/c", data=b"x" * 999))
    )
    monkeypatch.delattr(tar_module, "TarReader")
    assert [body(tree, name) for name in (b"a", b"b", b"empty", b"d/c")] == [b"body", b"body", b"", b"x" * 999]
    assert not any(tree.xattrs(entry) for entry in range(len(tree)))
    assert skipped_of(tree) == 0


def test_bodies_are_read_while_others_are(opened: Opened) -> None:
    names = [f"f{number}" for number in range(20)]
    tree = opened(layer(*(Item(name, data=name.encode() * 100) for name in names)))
    files = [(name, tree.open(entry_of(tree, name.encode()))) for name in names]
    parts = dict.fromkeys(names, b"")
    for _ in range(40):
        for name, file in files:
            parts[name] += file.read(7) or b""
    assert all((name.encode() * 100).startswith(part) and len(part) > 190 for name, part in parts.items())


def test_a_body_that_is_cut_is_no_short_one(opened: Opened, tmp_path: Path) -> None:
    tree = opened(layer(Item("a", data=b"x" * 3000), Item("b", xattrs={"user.a": "1"})))
    os.truncate(tmp_path / "0.tar", 1000)
    with pytest.raises(DamagedError, match="ends at byte 1000"):
        tree.open(1).read()
    os.truncate(tmp_path / "0.tar", 0)
    with pytest.raises(DamagedError, match="cut while it was read"):
        tree.xattrs(2)


@pytest.mark.parametrize("data", [b"", b"garbage" * 300, bytes(512), ZOO[:300], b"\0" * 512 + ZOO[:512]])
def test_what_is_no_tar_is_refused(data: bytes, opened: Opened) -> None:
    with pytest.raises(DamagedError):
        opened(data)


def test_what_is_not_read_is_named(opened: Opened) -> None:
    with pytest.raises(UnreadableFormatError, match="sparse files of GNU's old format"):
        opened(raw(b"S", b"", b"f") + END)
    tree = opened(raw(b"0", b"abc", b"before") + raw(b"V", b"", b"label") + raw(b"0", b"") + END)
    assert paths(tree) == [b"before"]
    assert "'label': volume labels are not supported" in said(tree)


def test_an_empty_tar_is_an_empty_tree(opened: Opened) -> None:
    tree = opened(bytes(10240))
    assert (len(tree), tree.damage, tree.kind(ROOT)) == (1, [], stat.S_IFDIR)


def test_no_field_is_beyond_its_column(opened: Opened) -> None:
    huge = edited(raw(b"0", b""), setting(136, b"\x80" + b"\x7f" * 11))
    early = raw(b"x", record(b"mtime", b"-" + b"9" * 20)) + raw(b"0", b"", b"y")
    name = raw(b"x", record(b"GNU.sparse.name", b"a\0b") + record(b"GNU.sparse.size", b"0")) + raw(b"0", b"")
    tree = opened(huge + early + name + END)
    assert list(tree.mtimes)[1:] == [(1 << 63) - 1, -(1 << 63)]
    assert "a name that none may have" in said(tree)
    many = b"".join(record(b"SCHILY.xattr.user.%d" % number, b"") for number in range(5000))
    with pytest.raises(UnreadableFormatError, match="more than 4096 extended attributes"):
        opened(raw(b"x", many) + raw(b"0", b"") + END).xattrs(1)


def test_entries_and_damage_are_bounded(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = opened(raw(b"0", b"", b"../x") * 3000 + END)
    assert len(tree.damage) == 1000
    assert "more that is not told" in said(tree)
    monkeypatch.setattr("ocitui.contents.tree.MOST_ENTRIES", 50)
    with pytest.raises(UnreadableFormatError, match="more than 50 entries"):
        opened(raw(b"0", b"", b"a/" * 50) + END)
    monkeypatch.setattr(tar_module, "MOST_ENTRIES", 50)
    with pytest.raises(UnreadableFormatError, match="more than 50 entries"):
        opened(layer(*(hard(f"h{number}", "gone") for number in range(60))))


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    (tmp_path / "it").write_bytes(ZOO)
    with (tmp_path / "it").open("rb") as file, pytest.raises(AbandonedError):
        tar_tree(file, stop)


def test_a_path_is_followed_inside_the_tree_alone(opened: Opened) -> None:
    tree = opened(
        layer(
            *(folder("usr/bin"), Item("usr/bin/sh"), link("bin", "usr/bin"), link("abs", "/bin/sh")),
            link("usr/bin/deep", "/abs"),
            *(link("out", "../../../../bin/../../usr/bin/sh"), link("loop", "loop"), link("gone", "nowhere/at/all")),
            *(link(f"l{number}", f"l{number + 1}") for number in range(40)),
            *(Item("l40"), link("more", "l0")),
        )
    )
    shell = entry_of(tree, b"usr/bin/sh")
    for path in (b"bin/sh", b"/bin//sh", b"abs", b"bin/deep", b"out", b"../../bin/./sh", b"usr/../bin/sh"):
        assert tree.follow(path) == shell
    assert tree.follow(b"abs", last=False) == entry_of(tree, b"abs")
    assert tree.follow(b"bin/", last=False) == entry_of(tree, b"usr/bin")
    assert tree.follow(b"") == tree.follow(b"/..") == ROOT
    for path in (b"gone", b"nowhere", b"usr/bin/sh/x", b"usr/bin/sh/../sh"):
        assert tree.follow(path) is None
    assert tree.follow(b"l0") == entry_of(tree, b"l40")
    for path in (b"loop", b"loop/x", b"more"):
        with pytest.raises(LinkLoopError, match="40 symbolic links"):
            tree.follow(path)


def test_a_long_target_through_a_large_directory_is_followed_at_once(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "z/../" * 2000 + "f0"
    tree = opened(layer(*(Item(f"f{number}") for number in range(500)), folder("z"), link("zl", target)))
    expected, named, name = tree.find(b"f0"), list[int](), PackedTree.name

    def counted(tree: PackedTree, entry: int) -> bytes:
        named.append(entry)
        return name(tree, entry)

    monkeypatch.setattr(PackedTree, "name", counted)
    assert tree.follow(b"zl") == expected
    assert len(named) < 20 * 2002


FORMS = ("gnu", "posix", "ustar")


@pytest.mark.parametrize("seed", seeds(3, 200))
@pytest.mark.parametrize("form", FORMS)
def test_it_has_what_gnu_tar_packed(form: str, seed: int, tmp_path: Path, opened: Opened) -> None:
    need("tar")
    chance, root, at_hand = random.Random(seed), tmp_path / "root", [tmp_path / "root"]
    root.mkdir()
    for number in range(60):
        names = [f"n{number}", f"é {number}", f"\udcff{number}", f"{number:0>90}"]
        path = chance.choice(at_hand) / chance.choice(names[:3] if form == "ustar" else names)
        match chance.randrange(5):
            case 0 if len(path.parts) < 12 and len(str(path)) < 230:
                path.mkdir()
                at_hand.append(path)
            case 1:
                path.symlink_to(chance.choice(["/nowhere", "n1", "\udcff", "t" * 99]))
            case 2:
                os.mkfifo(path)
            case 3 if files := [one for one in root.rglob("*") if one.is_file() and not one.is_symlink()]:
                os.link(chance.choice(sorted(files)), path)
            case _:
                path.write_bytes(chance.randbytes(chance.choice([0, 1, 511, 512, 513, 30_000])))
                path.chmod(chance.choice([0o644, 0o4755, 0o1700]))
                os.utime(path, (0, chance.randrange(1 << 31)))
    made = tmp_path / "made"
    command = ["tar", f"--format={form}", "-C", str(root), "-cf", str(made), "."]
    subprocess.run(command, check=True)
    tree = opened(made.read_bytes())
    expected = {os.fsencode(path.relative_to(root)): path for path in root.rglob("*")}
    assert tree.damage == []
    assert set(paths(tree)) == set(expected)
    for name, path in expected.items():
        entry, found = entry_of(tree, name), path.lstat()
        node = tree.node(entry)
        assert (node.mode, node.uid, node.gid) == (found.st_mode, found.st_uid, found.st_gid)
        assert node.mtime == int(found.st_mtime)
        if stat.S_ISREG(found.st_mode):
            assert body(tree, name) == path.read_bytes()
            assert tree.numbers.count(node.number) == found.st_nlink
        elif stat.S_ISLNK(found.st_mode):
            assert tree.target(entry) == os.fsencode(os.readlink(path))


SMALL = layer(Item("a", data=b"body", uid=3), folder("d"), Item("d/" + "n" * 120, data=b"x" * 600), link("l", "a"))
BUDGET = 4 << 20


def read_all(tree: PackedTree) -> dict[bytes, tuple[object, ...]]:
    """What can be read of each path, bodies within a budget; what raises is told by its class."""
    found: dict[bytes, tuple[object, ...]] = {}
    left = BUDGET
    for entry in range(len(tree)):
        got: list[object] = [tree.node(entry)]
        try:
            got.append(dict(tree.xattrs(entry)))
            if tree.kind(entry) == stat.S_IFLNK:
                got.append(tree.target(entry))
            elif tree.kind(entry) == stat.S_IFREG:
                data = tree.open(entry).read(min(left, tree.sizes[entry])) or b""
                left -= len(data)
                got.append(data)
        except (DamagedError, UnreadableFormatError) as error:
            got.append(type(error))
        found[tree.path(entry)] = tuple(got)
    return found


@pytest.mark.slow
def test_no_flipped_bit_of_a_header_goes_by_without_notice(opened: Opened) -> None:
    """The sum of its bytes is the only checksum of a tar: of one header each bit is tried."""
    expected = read_all(opened(SMALL))
    for bit in range(512 * 8):
        data = bytearray(SMALL)
        data[bit // 8] ^= 1 << bit % 8
        try:
            tree = opened(bytes(data))
        except DamagedError:
            continue
        assert tree.damage or read_all(tree) == expected


@given(length=st.integers(0, len(SMALL)))
def test_of_a_cut_tar_nothing_is_made_up(length: int) -> None:
    with in_memory(SMALL) as file:
        expected = read_all(tar_tree(file, Stop()))
    with in_memory(SMALL[:length]) as file:
        try:
            tree = tar_tree(file, Stop())
        except DamagedError:
            return
        found = read_all(tree)
    assert set(found) <= set(expected)
    assert tree.damage or found == expected
    assert all(got == expected[path] or DamagedError in got or path == b"d" for path, got in found.items())


@contextmanager
def in_memory(data: bytes) -> Iterator[BinaryIO]:
    with os.fdopen(os.memfd_create("tar"), "w+b") as file:
        file.write(data)
        file.flush()
        yield file


def mutant(chance: random.Random) -> bytes:
    """The zoo, changed in one to three places: a bit, a byte, a run, a block, or a header whose sum is right again."""
    data = bytearray(ZOO)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data))
        block = at - at % 512
        match chance.randrange(7):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.randrange(256)
            case 2:
                data[at : at + 40] = chance.randbytes(40)
            case 3:
                data[block : block + 512] = bytes(512)
            case 4:
                other = chance.randrange(len(data) // 512) * 512
                data[block : block + 512] = data[other : other + 512]
            case 5:
                del data[at:]
                data += bytes(1024)
            case _:
                headers = [start for start in range(0, len(data), 512) if data[start + 257 : start + 262] == b"ustar"]
                start = chance.choice(headers or [0])
                place = chance.choice([0, 100, 108, 116, 124, 136, 156, 157, 329, 345])
                values = [b"\xff" * 8, b"\x80" + b"\x7f" * 11, b"77777777777", b"../", chance.randbytes(8)]
                value = chance.choice(values)
                data[start : start + 512] = edited(bytes(data[start : start + 512]), setting(place, value))
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(1, 180))
def test_any_bytes_give_a_tree_or_one_of_two_errors(seed: int) -> None:
    """A hundred mutants each; none takes more than a few megabytes."""
    chance = random.Random(seed)
    for _ in range(100):
        with in_memory(mutant(chance)) as file:
            tracemalloc.start()
            with suppress(DamagedError, UnreadableFormatError):
                tree = tar_tree(file, Stop())
                read_all(tree)
                assert len(tree) < 1000
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 4 * BUDGET
