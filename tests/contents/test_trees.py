"""Trees of packed files: three formats of one root tell the same, and a program is looked for as the kernel would."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocitui.cache import PackedFormat
from ocitui.contents.trees import Node, NotCheckedError, Tree, _block_entries, has_program, lacking
from ocitui.doctor.check.examine import ReadThrough
from ocitui.threads import Stop
from tests.doctor.examine_support import EROFS, SQUASHFS, TAR
from tests.importing.sources import pack

FILE, FOLDER = Node(stat.S_IFREG, 1), Node(stat.S_IFDIR)


def link(target: bytes) -> Node:
    return Node(stat.S_IFLNK, None, target)


def read(path: Path, format: PackedFormat) -> ReadThrough:
    path.chmod(0o644)
    with open(path, "rb", buffering=0) as file:
        return ReadThrough(file, format, Stop())


@pytest.fixture(scope="module")
def odd_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with what makes listings hard to read."""
    root = tmp_path_factory.mktemp("odd") / "root"
    (root / "deep" / "er").mkdir(parents=True)
    names = [
        b"plain",
        b"with space",
        b"line\nbreak",
        b"-option",
        b"arrow -> x",
        b"\xff\xfe",
        b"deep/er/[a]*?",
        b"n" * 200,
    ]
    for name in names:
        (root / os.fsdecode(name)).write_bytes(name * 3)
    os.link(root / "plain", root / "twin")
    (root / "link").symlink_to("plain -> twice")
    (root / "away").symlink_to("/deep/er")
    (root / "long-link").symlink_to("x" * 3000)
    os.mkfifo(root / "pipe")
    for number in range(2000):
        (root / "deep" / f"entry-{number:05}").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def trees(odd_root: Path) -> dict[PackedFormat, ReadThrough]:
    packed = {}
    for format_ in PackedFormat:
        path = odd_root.parent / f"image.{format_}"
        packed[format_] = read(pack(format_, odd_root, path), format_)
    return packed


@pytest.mark.parametrize("format", PackedFormat)
def test_a_sound_file_is_read_through(format: PackedFormat, trees: dict[PackedFormat, ReadThrough]) -> None:
    assert (trees[format].problem, trees[format].unchecked) == ("", "")


@pytest.mark.parametrize(
    ("format", "bound"), [*((format_, "_MOST_NODES") for format_ in PackedFormat), (SQUASHFS, "_MOST_LISTED")]
)
def test_a_file_of_too_many_names_is_not_kept_in_memory(
    format: PackedFormat,
    bound: str,
    trees: dict[PackedFormat, ReadThrough],
    odd_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"ocitui.contents.trees.{bound}", 1000)
    through = read(odd_root.parent / f"image.{format}", format)
    assert through.unchecked == "it has too many files to compare"
    assert not through.tree


@pytest.mark.parametrize("format", PackedFormat)
def test_the_tree_is_that_of_the_root(
    format: PackedFormat, odd_root: Path, trees: dict[PackedFormat, ReadThrough]
) -> None:
    tree = trees[format].tree
    assert tree is not None
    # Not by rglob: that of Python 3.11.2 follows the links, and one of them is too long for it.
    paths = [Path(folder, name) for folder, *names in os.walk(odd_root) for name in [*names[0], *names[1]]]
    expected = {os.fsencode(path.relative_to(odd_root)): path.lstat() for path in paths}
    assert {path: node.kind for path, node in tree.items()} == {
        path: stat.S_IFMT(found.st_mode) for path, found in expected.items()
    }
    for path, node in tree.items():
        if node.kind == stat.S_IFLNK and path != b"link":
            assert node.target == os.readlink(
                odd_root.joinpath(os.fsdecode(path)).__fspath__().encode("utf-8", "surrogateescape")
            )
        if node.size is not None:
            assert node.size == expected[path].st_size


@pytest.mark.parametrize("format", PackedFormat)
@pytest.mark.parametrize("other", PackedFormat)
def test_formats_of_one_root_lack_nothing(
    format: PackedFormat, other: PackedFormat, trees: dict[PackedFormat, ReadThrough]
) -> None:
    one, two = trees[format].tree, trees[other].tree
    assert one is not None
    assert two is not None
    assert lacking(one, two) == []


def test_a_tar_need_not_name_its_directories(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x")
    packed = tmp_path / "image.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(tmp_path / "a" / "b" / "c", "./a/b/c")
    tree = read(packed, TAR).tree
    assert tree == {b"a": FOLDER, b"a/b": FOLDER, b"a/b/c": FILE}
    assert has_program(tree, b"/a/b/c")


def test_what_is_lacking() -> None:
    whole: Tree = {b"a": FILE, b"b": FOLDER, b"c": link(b"a"), b"pipe": Node(stat.S_IFIFO)}
    assert lacking({}, whole) == [b"a", b"b", b"c"]
    assert lacking(whole, {}) == []
    assert lacking({**whole, b"a": Node(stat.S_IFREG, 0)}, whole) == [b"a"]
    assert lacking({**whole, b"a": Node(stat.S_IFREG)}, whole) == []


@pytest.mark.parametrize(
    ("path", "there"),
    [
        (b"/bin/sh", True),
        (b"/bin/../bin/./sh", True),
        (b"/bin/none", False),
        (b"/usr/bin/sh", True),
        (b"/sbin/sh", True),
        (b"/bin/up", True),
        (b"/bin/gone", False),
        (b"/../bin/sh", True),
        (b"/loop", None),
        (b"/proc/self/exe", None),
        (b"/bin/dev", None),
    ],
)
def test_a_program_in_a_tree(path: bytes, there: bool | None) -> None:
    tree: Tree = {
        b"bin": FOLDER,
        b"bin/sh": FILE,
        b"bin/up": link(b"../../../bin/sh"),
        b"bin/gone": link(b"nowhere"),
        b"bin/dev": link(b"/dev/fd/3"),
        b"usr": FOLDER,
        b"usr/bin": link(b"../bin"),
        b"sbin": link(b"/usr/bin"),
        b"loop": link(b"loop"),
    }
    assert has_program(tree, path) is there


@given(data=st.data())
def test_a_bent_erofs_is_never_an_error_of_ours(data: st.DataObject, trees: object, odd_root: Path) -> None:
    content = bytearray((odd_root.parent / "image.erofs").read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(1024, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = odd_root.parent / "bent"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        # The tree alone: the program would take most of the time.
        patch.setenv("PATH", "/nowhere")
        result = read(path, EROFS)
    assert result.tree is not None or result.unchecked


@pytest.mark.parametrize("start", [0, 11, 48, 0xFFFF])
def test_a_directory_whose_first_name_begins_nowhere_cannot_be_read(start: int) -> None:
    with pytest.raises(NotCheckedError):
        list(_block_entries(bytes(8) + start.to_bytes(2, "little") + bytes(22)))


@given(content=st.binary(max_size=4000))
@pytest.mark.parametrize("format", [SQUASHFS, EROFS, TAR])
def test_any_bytes_are_never_an_error_of_ours(format: PackedFormat, content: bytes, odd_root: Path) -> None:
    path = odd_root.parent / "any"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        assert not read(path, format).problem
