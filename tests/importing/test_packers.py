"""Packed files unpacked again by the formats' own tools, and packers that fail."""

import errno
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import SOUND_PACKED, PackedFormat, StorageError, check_packed
from ocitui.contents.tar_headers import Kind
from ocitui.importing.errors import LayerError, MissingToolError, PackerError
from ocitui.importing.layers.flatten import END, Flattening, tar_header
from ocitui.importing.layers.layers import LayerSource
from ocitui.importing.layers.tree import Tree
from ocitui.importing.packing.packers import Packer, flatten_request, start_packer
from ocitui.importing.packing.packing import FlattenRequest, PackOptions
from tests.importing.layer_support import (
    Found,
    Item,
    flattened,
    folder,
    hard,
    layer,
    link,
    sources,
    tree_of_directory,
    tree_of_tar,
)
from tests.tools import need

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and devices")


def owned(uid: int) -> Tree:
    """A root directory of that user."""
    tree = Tree()
    tree.uids[0], tree.gids[0] = uid, os.getgid()
    return tree


TREE = owned(os.getuid())
# A version 2 capability set: cap_net_raw, as ping has it.
CAPABILITY = "\1\0\0\2\0 " + "\0" * 14
LOWER = (
    folder("./", 0o750, uid=5, gid=6, mtime=77),
    folder("d", 0o1777, gid=3),
    Item("d/file", data=b"content" * 40_000, uid=3_000_000, gid=70_000, mode=0o4755, xattrs={"user.a": "1\n2"}),
    Item("d/ping", data=b"x", xattrs={"security.capability": CAPABILITY, "trusted.t": "y"}),
    Item("empty"),
    Item("gone", data=b"1"),
    hard("d/hard", "d/file"),
    hard("kept", "gone"),
    link("s", "d/" + "t" * 150),
    hard("s2", "s"),
    Item("null", tarfile.CHRTYPE, device=(1, 3), mode=0o666),
    Item("disk", tarfile.BLKTYPE, device=(8, 300)),
    Item("pipe", tarfile.FIFOTYPE),
    Item("caf\udce9", data=b"bytes"),
    Item("n" * 200 + "/" + "\udcff" * 200, data=b"long"),
)
UPPER = (Item(".wh.gone"), Item("d/-dashes and spaces", data=b"z" * 200_000))


@pytest.fixture
def image(tmp_path: Path) -> list[LayerSource]:
    return sources(tmp_path / "layers", [layer(*LOWER), layer(*UPPER)])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where packed files go, and nothing else."""
    directory = tmp_path / "place"
    directory.mkdir()
    return directory


def pack(
    image: list[LayerSource], output: Path, format: PackedFormat, options: PackOptions | None = None
) -> tuple[str, ...]:
    sizes = tuple(one.size for one in image)
    return flatten_request(FlattenRequest(sizes, output, format, options or PackOptions()), image).warnings


@contextmanager
def mounted(image: Path, directory: Path) -> Iterator[Path]:
    directory.mkdir()
    done = subprocess.run(["mount", "-o", "loop,ro", image, directory], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_tar_is_written_as_it_is(image: list[LayerSource], place: Path) -> None:
    assert pack(image, place / "out", PackedFormat.TAR) == ()
    assert (place / "out").read_bytes() == flattened(image)


@AS_ROOT
@pytest.mark.parametrize("compression", [None, "zstd", "xz"])
def test_a_squashfs_holds_the_tree(
    compression: str | None, image: list[LayerSource], place: Path, tmp_path: Path
) -> None:
    need("mksquashfs", "unsquashfs")
    warnings = pack(image, place / "out", PackedFormat.SQUASHFS, PackOptions(compression=compression))
    tree = tmp_path / "tree"
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-d", tree, place / "out"], check=True, capture_output=True)
    found = tree_of_directory(tree)
    # The tool that unpacks does not change the owner of what it unpacks into.
    assert_same(found, tree_of_tar(flattened(image)), root_owner=False)
    listed = subprocess.run(["unsquashfs", "-lln", place / "out"], check=True, capture_output=True).stdout
    assert listed.startswith(b"drwxr-x--- 5/6 ")
    assert warnings == ()
    assert [path.name for path in place.iterdir()] == ["out"]
    assert (place / "out").stat().st_uid == os.getuid()


@AS_ROOT
@pytest.mark.parametrize("compression", [None, "lz4"])
def test_an_erofs_holds_the_tree(
    compression: str | None, image: list[LayerSource], place: Path, tmp_path: Path
) -> None:
    need("mkfs.erofs")
    warnings = pack(image, place / "out", PackedFormat.EROFS, PackOptions(compression=compression))
    with mounted(place / "out", tmp_path / "mount") as tree:
        assert_same(tree_of_directory(tree), tree_of_tar(flattened(image)))
    assert warnings == ()
    assert [path.name for path in place.iterdir()] == ["out"]


def assert_same(found: Found, expected: Found, *, root_owner: bool = True) -> None:
    if not root_owner:
        for tree in (found.tree, expected.tree):
            tree["."] = {key: value for key, value in tree["."].items() if key not in ("uid", "gid")}
    assert found.tree == expected.tree
    assert found.hardlinks == expected.hardlinks


@pytest.mark.parametrize("format", PackedFormat)
def test_nothing_is_written_over(format: PackedFormat, image: list[LayerSource], place: Path) -> None:
    (place / "out").symlink_to("elsewhere")
    with pytest.raises(PackerError, match="is there already"):
        pack(image, place / "out", format)
    assert [path.name for path in place.iterdir()] == ["out"]


@pytest.mark.parametrize("format", PackedFormat)
def test_a_layer_that_fails_under_way_leaves_nothing(
    format: PackedFormat, image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mksquashfs", "mkfs.erofs")
    each_file = Flattening.each_file

    def each_after_a_cut(self: Flattening, *arguments: object) -> None:
        os.truncate(image[1].path, 2048)
        each_file(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Flattening, "each_file", each_after_a_cut)
    with pytest.raises(LayerError, match="layer 2: it was cut while it was read"):
        pack(image, place / "out", format)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "tool", "package"),
    [(PackedFormat.SQUASHFS, "mksquashfs", "squashfs-tools"), (PackedFormat.EROFS, "mkfs.erofs", "erofs-utils")],
)
def test_a_missing_tool_is_named_with_its_package(
    format: PackedFormat, tool: str, package: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(MissingToolError, match=f"{tool} is not installed") as caught:
        start(place / "out", format)
    assert f"apt install {package}" in caught.value.hint


def start(output: Path, format: PackedFormat, size: int = 1 << 20) -> Packer:
    """One of an outside program, but for a tar."""
    options = {PackedFormat.EROFS: PackOptions("lz4"), PackedFormat.SQUASHFS: PackOptions(packer="mksquashfs")}
    return start_packer(format, output, TREE, size, options.get(format, PackOptions()))


def tool(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose programs come before all others."""
    directory = tmp_path / "tools"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


SPIN = "cat /dev/zero > /dev/null"
HELP = 'case "$1" in -help|--help) printf "%b" "SYNTAX\\n-tar\\t--tar=X --quiet\\n"; exit 1;; esac\n'


def test_a_lost_hard_link_is_an_error(place: Path) -> None:
    need("mksquashfs")
    packer = start(place / "out", PackedFormat.SQUASHFS)
    packer.write(memoryview(tar_header(b"d/", Kind.DIRECTORY, 0o755, 0, 0, 0, 0)))
    packer.write(memoryview(tar_header(b"d/h", Kind.HARD_LINK, 0o644, 0, 0, 0, 0, link=b"nowhere")))
    packer.write(memoryview(tar_header(b"d/f", Kind.FILE, 0o644, 0, 0, 0, 0) + END))
    with pytest.raises(PackerError, match="lost a file: Could not resolve hardlink"):
        packer.finish()
    packer.abort()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("format", [PackedFormat.SQUASHFS, PackedFormat.EROFS])
def test_a_packer_that_dies_says_why(format: PackedFormat, tools: Path, place: Path) -> None:
    for name in ("mksquashfs", "mkfs.erofs"):
        tool(tools, name, HELP + "echo first >&2; echo the reason >&2; kill -9 $$")
    packer = start(place / "out", format)
    with pytest.raises(PackerError, match="signal SIGKILL: first; the reason"):
        packer.write(memoryview(bytes(8 << 20)))
    packer.abort()


def test_a_packer_that_ends_early_with_success_has_failed(tools: Path, place: Path) -> None:
    tool(tools, "mksquashfs", HELP + "exit 0")
    packer = start(place / "out", PackedFormat.SQUASHFS)
    with pytest.raises(PackerError, match="ended before its input did"):
        packer.write(memoryview(bytes(8 << 20)))
    packer.abort()


@pytest.mark.parametrize(
    "script",
    [
        "exec cat /dev/zero > /dev/null",
        "cat > /dev/null; exec cat /dev/zero > /dev/null",
        "exec 0<&-; exec sleep 10",
    ],
    ids=["takes nothing", "goes on after the end", "closes its input"],
)
def test_a_packer_that_spins_is_ended(script: str, tools: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tools, "mksquashfs", HELP + script)
    monkeypatch.setattr("ocitui.importing.packing.packers._PATIENCE", 0.2)
    packer = start(place / "out", PackedFormat.SQUASHFS)
    with pytest.raises(PackerError, match="did nothing for"):
        write_and_finish(packer)
    packer.abort()


def write_and_finish(packer: Packer) -> None:
    packer.write(memoryview(bytes(8 << 20)))
    packer.finish()


def test_a_packer_is_killed_before_its_input_ends(tools: Path, place: Path) -> None:
    seen = place / "seen"
    tool(tools, "mksquashfs", HELP + f"cat > /dev/null; echo whole > {seen}")
    packer = start(place / "out", PackedFormat.SQUASHFS)
    packer.write(memoryview(bytes(512)))
    packer.abort()
    assert not seen.exists()


def test_a_chatty_packer_neither_blocks_nor_fills_memory(tools: Path, place: Path) -> None:
    tool(tools, "mksquashfs", HELP + "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; cat > /dev/null; echo > \"$2\"")
    packer = start(place / "out", PackedFormat.SQUASHFS)
    write_and_finish(packer)
    assert sum(map(len, packer.warnings)) <= 1 << 16


@pytest.mark.parametrize("format", [PackedFormat.TAR, PackedFormat.SQUASHFS])
def test_an_output_that_cannot_be_removed_is_left(format: PackedFormat, tools: Path, place: Path) -> None:
    """What the packer failed with is told, not that."""
    tool(tools, "mksquashfs", HELP + "exec cat > /dev/null")
    packer = start(place / "out", format)
    (place / "out").unlink(missing_ok=True)
    (place / "out").mkdir()
    packer.abort()
    assert (place / "out").is_dir()


def start_what_removes_itself(tools: Path, output: Path) -> None:
    """A packer that is gone once it has said what it can, for a file that is made before it: its root is another's."""
    tool(tools, "mksquashfs", 'rm "$0"; ' + HELP)
    start_packer(PackedFormat.SQUASHFS, output, owned(os.getuid() + 1), 512, PackOptions(packer="mksquashfs"))


@AS_ROOT
def test_what_kept_a_packer_from_its_start_is_told_whatever_becomes_of_its_output(
    tools: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "not permitted", str(path))

    monkeypatch.setattr(Path, "unlink", fails)
    with pytest.raises(PackerError, match="cannot start mksquashfs"):
        start_what_removes_itself(tools, place / "out")


@AS_ROOT
def test_a_packer_that_cannot_be_started_leaves_nothing(tools: Path, place: Path) -> None:
    with pytest.raises(PackerError, match="cannot start mksquashfs"):
        start_what_removes_itself(tools, place / "out")
    assert list(place.iterdir()) == []


@AS_ROOT
def test_an_unpacker_that_cannot_be_started_leaves_nothing(tools: Path, place: Path) -> None:
    tool(tools, "mkfs.erofs", "echo usage")
    tool(tools, "tar", "")
    (tools / "tar").write_text("#!/absent\n")
    with pytest.raises(PackerError, match="cannot start tar"):
        start_packer(PackedFormat.EROFS, place / "out", TREE, 512, PackOptions("lz4"))
    assert list(place.iterdir()) == []


def test_newer_erofs_tools_read_the_tar_themselves(tools: Path, place: Path) -> None:
    tool(tools, "mkfs.erofs", HELP + f'echo "$@" > {place}/said; for last; do :; done; cat > "$last"')
    packer = start_packer(PackedFormat.EROFS, place / "out", TREE, 512, PackOptions(compression="lz4hc", level=9))
    packer.write(memoryview(b"x" * 512))
    packer.finish()
    assert (place / "said").read_text().split() == ["-zlz4hc,9", "--quiet", "--tar=f", str(place / "out")]
    assert (place / "out").read_bytes() == b"x" * 512


def test_without_a_newer_erofs_tool_it_takes_root(place: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tools, "mkfs.erofs", "echo usage")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingToolError, match="only root can unpack") as caught:
        start_packer(PackedFormat.EROFS, place / "out", TREE, 512, PackOptions("lz4"))
    assert "erofs-utils 1.7" in caught.value.hint


def test_an_erofs_of_its_own_takes_neither_root_nor_mkfs(
    image: list[LayerSource], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert pack(image, place / "out", PackedFormat.EROFS) == ()
    assert check_packed(place / "out") == SOUND_PACKED[PackedFormat.EROFS]


def test_what_erofs_cannot_hold_is_told(place: Path, tmp_path: Path) -> None:
    xattrs = {"com.apple.provenance": "a", "user.kept": "b", "user.long": "c" * 70_000, "system.posix_acl_accessX": "d"}
    image = sources(tmp_path / "layers", [layer(*(Item(f"f{number}", xattrs=xattrs) for number in range(9)))])
    assert pack(image, place / "out", PackedFormat.EROFS) == tuple(
        f"erofs holds no extended attribute '{name}': that of 9 files is left out ('f0', 'f1', 'f2', ...)"
        for name in ("com.apple.provenance", "system.posix_acl_accessX", "user.long")
    )
    with mounted(place / "out", tmp_path / "mount") as root:
        assert os.listxattr(root / "f0") == ["user.kept"]


def test_an_erofs_of_awkward_sizes(place: Path, tmp_path: Path) -> None:
    """Ends of files around what fits behind an inode, names around what fits in a block, links as long as they go."""
    need("fsck.erofs")
    around = [base + more for base in (0, 64, 1984, 2048, 4032, 4096, 8192, 12288) for more in (-33, -1, 0, 1, 40)]
    items = [Item(f"f{size}", data=os.urandom(size)) for size in around if size >= 0]
    items += [Item(f"x{size}", data=os.urandom(size), xattrs={"user.a": "v" * size}) for size in around if size > 0]
    items += [folder("wide"), *(Item("wide/" + f"{number:03}" * 85) for number in range(100)), folder("none")]
    items += [link(f"link{size}", "t" * size) for size in (1, 4031, 4032, 4033, 4095)]
    items += [folder(f"d{size}") for size in range(3)] + [Item("d1/" + "n" * 60), Item("d2/" + "\udcff" * 255)]
    items += [Item("deep/" * 100 + "f", data=b"x"), Item("disk", tarfile.BLKTYPE, device=(4095, 1_048_575))]
    image = sources(tmp_path / "layers", [layer(*items)])
    assert pack(image, place / "out", PackedFormat.EROFS) == ()
    subprocess.run(["fsck.erofs", "--extract", place / "out"], check=True, capture_output=True)
    with mounted(place / "out", tmp_path / "mount") as root:
        assert_same(tree_of_directory(root), tree_of_tar(flattened(image)))
        assert (root / "wide").stat().st_nlink == 2
        assert root.stat().st_nlink == 2 + sum(path.lstat().st_nlink > 1 for path in root.iterdir())


def test_an_old_mksquashfs_is_named(place: Path, tools: Path) -> None:
    tool(tools, "mksquashfs", "echo usage")
    with pytest.raises(MissingToolError, match="does not read tars") as caught:
        start(place / "out", PackedFormat.SQUASHFS)
    assert "4.5" in caught.value.hint


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", directory], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("cannot mount a tmpfs")
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("format", PackedFormat)
def test_a_full_disk_is_said_and_left_clean(format: PackedFormat, small: Path, tmp_path: Path) -> None:
    need("mksquashfs", "mkfs.erofs")
    image = sources(tmp_path / "layers", [layer(Item("noise", data=os.urandom(3 << 20)))])
    with pytest.raises(StorageError, match="no room"):
        pack(image, small / "out", format)
    assert list(small.iterdir()) == []


def test_a_tar_that_meets_the_end_of_the_disk(small: Path) -> None:
    packer = start(small / "out", PackedFormat.TAR, size=1000)
    with pytest.raises(StorageError, match="no room"):
        packer.write(memoryview(bytes(2 << 20)))
    packer.abort()
    assert list(small.iterdir()) == []


@pytest.mark.parametrize("format", [PackedFormat.TAR, PackedFormat.EROFS])
def test_what_the_disk_loses_meanwhile_is_told(
    format: PackedFormat, image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux tells of it once, to whoever asks first (fsync(2))."""
    asked = []

    def fails_once(fd: int) -> None:
        asked.append(fd)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails_once)
    monkeypatch.setattr("ocitui.importing.packing.packers._SYNCED_BYTES", 1 << 16)
    with pytest.raises(StorageError, match="Input/output error"):
        pack(image, place / "out", format)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("format", [PackedFormat.TAR, PackedFormat.EROFS, PackedFormat.SQUASHFS])
def test_what_the_disk_loses_at_the_end_is_told_though_it_was_read_back(
    format: PackedFormat, image: list[LayerSource], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        pack(image, place / "out", format)
    assert list(place.iterdir()) == []


def test_the_tar_is_one_that_gnu_tar_takes_without_a_word(image: list[LayerSource]) -> None:
    need("tar")
    done = subprocess.run(["tar", "--list"], input=flattened(image), capture_output=True, check=True)
    assert done.stderr == b""
    with tarfile.open(fileobj=io.BytesIO(flattened(image))) as archive:
        assert len(done.stdout.splitlines()) == len(archive.getmembers())
