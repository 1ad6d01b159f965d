"""Trees of packed files as plain dictionaries, to be held against recorded ones, directories and mounts."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import random
import shutil
import socket
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ocitui.contents.tree import PackedTree
from tests.tools import ROOT

PACKED = ROOT / "tests" / "packed"
Told = dict[bytes, dict[str, Any]]
_LETTERS = dict(zip((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO), "fdlp", strict=True)) | {
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFSOCK: "s",
}


def unpacked_fixture(name: str, folder: Path) -> Path:
    """A file of ``tests/packed``, which are kept compressed."""
    path = folder / Path(name).name
    path.write_bytes(lzma.decompress((PACKED / f"{name}.xz").read_bytes()))
    return path


def sha256_of(file: Any) -> str:
    found = hashlib.sha256()
    while data := file.read(1 << 20):
        found.update(data)
    return found.hexdigest()


def told(tree: PackedTree) -> Told:
    """All that a tree says, bodies included."""
    names, links = Counter(tree.numbers), tree.first_names()
    made: Told = {}
    for entry in tree.walk():
        node = tree.node(entry)
        one: dict[str, Any] = {"mode": node.mode & 0o7777, "uid": node.uid, "gid": node.gid}
        one.update(mtime=node.mtime, type=_LETTERS[tree.kind(entry)])
        if one["type"] == "f":
            with tree.open(entry) as body:
                one.update(size=node.size, sha256=sha256_of(body))
        elif one["type"] == "l":
            one["target"] = tree.target(entry)
        elif one["type"] in "bc":
            one["rdev"] = list(node.device)
        if names[node.number] > 1:
            one.update(nlink=names[node.number], hardlink=tree.path(links.get(entry, entry)))
        if xattrs := tree.xattrs(entry):
            one["xattrs"] = {name: value.hex() for name, value in xattrs.items()}
        made[tree.path(entry)] = one
    return made


def walked(root: Path) -> Told:
    """The same of a directory."""
    paths = [b""]
    for folder, *names in os.walk(os.fsencode(root)):
        paths += [os.path.relpath(os.path.join(folder, name), os.fsencode(root)) for name in (*names[0], *names[1])]
    made, several = Told(), dict[int, list[bytes]]()
    for path in sorted(paths):
        whole = os.path.join(os.fsencode(root), path)
        found = os.lstat(whole)
        one: dict[str, Any] = {"mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}
        one.update(mtime=int(found.st_mtime), type=_LETTERS[stat.S_IFMT(found.st_mode)])
        if one["type"] == "f":
            with open(whole, "rb") as file:
                one.update(size=found.st_size, sha256=sha256_of(file))
        elif one["type"] == "l":
            one["target"] = os.readlink(whole)
        elif one["type"] in "bc":
            one["rdev"] = [os.major(found.st_rdev), os.minor(found.st_rdev)]
        if one["type"] != "d" and found.st_nlink > 1:
            one.update(nlink=found.st_nlink, hardlink=several.setdefault(found.st_ino, [path])[0])
        if xattrs := _xattrs(whole):
            one["xattrs"] = xattrs
        made[path] = one
    return made


def _xattrs(path: bytes) -> dict[bytes, str]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False).hex() for name in names}


def recorded_tree(name: str) -> Told:
    """Of ``tests/packed/NAME``, whose names that are no UTF-8 stand there as latin-1."""

    def encoded(text: str) -> bytes:
        return text.encode("latin-1") if any("\x80" <= letter <= "\xff" for letter in text) else text.encode()

    made: Told = {}
    for path, one in json.loads((PACKED / name).read_text(encoding="utf-8")).items():
        for field in ("target", "hardlink"):
            if field in one:
                one[field] = encoded(one[field])
        if "xattrs" in one:
            one["xattrs"] = {key.encode(): value for key, value in one["xattrs"].items()}
        made[encoded(path)] = one
    return made


@contextmanager
def mounted(image: Path, kind: str) -> Iterator[Path | None]:
    """A file system, mounted read-only; None where that cannot be done here."""
    folder = image.parent / f"{image.name}.mount"
    folder.mkdir()
    command = ["mount", "-t", kind, "-o", "loop,ro,nosuid,nodev", str(image), str(folder)]
    able = os.geteuid() == 0 and shutil.which("mount") is not None
    if not able or subprocess.run(command, check=False, capture_output=True, timeout=60).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, capture_output=True, timeout=60)


def random_root(root: Path, chance: random.Random, longest: int = 255) -> Path:
    """A directory of some dozens of entries of all kinds that who runs this may make, with names of so many bytes."""
    root.mkdir()
    folders, files = [root], list[Path]()
    for _ in range(chance.randrange(20, 90)):
        path = chance.choice(folders) / os.fsdecode(_name(chance)[:longest])
        kind = chance.choice("ffffffdddlhhps" if os.geteuid() else "ffffffdddlhhpscb")
        if os.path.lexists(path) or (kind == "h" and not files):
            continue
        if kind == "f":
            files.append(path)
            path.write_bytes(_body(chance))
        elif kind == "d":
            path.mkdir()
            folders.append(path)
        elif kind == "l":
            path.symlink_to(os.fsdecode(b"/".join(_name(chance) for _ in range(chance.randrange(1, 8)))))
        elif kind == "h":
            os.link(chance.choice(files), path)
        else:
            _make_special(path, kind, chance)
    for path in [*folders, *files]:
        _adorn(path, chance)
    return root


def _name(chance: random.Random) -> bytes:
    letters = chance.choice((b"abc", bytes(set(range(1, 256)) - set(b"/"))))
    name = bytes(chance.choices(letters, k=chance.choice((1, 2, 3, 8, 40, 255))))
    return name if name.strip(b".") else b"_"


def _body(chance: random.Random) -> bytes:
    size = chance.choice((0, 1, 2, 100, 4095, 4096, 4097, 70_000, 131_072, 131_073, 300_000))
    kinds: list[Callable[[], bytes]] = [
        lambda: bytes(size),
        lambda: chance.randbytes(size),
        lambda: (b"%d lines of text\n" % chance.randrange(100) * (size // 10 + 1))[:size],
        lambda: (bytes(131_072) + chance.randbytes(3) * size)[: size + 5],
    ]
    return chance.choice(kinds)()


def _make_special(path: Path, kind: str, chance: random.Random) -> None:
    if kind == "p":
        os.mkfifo(path)
    elif kind == "s":
        with socket.socket(socket.AF_UNIX) as listening:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                listening.bind(f"/proc/self/fd/{folder}/{path.name[:40]}")
            except (OSError, ValueError):
                pass
            finally:
                os.close(folder)
    else:
        device = os.makedev(chance.randrange(4096), chance.randrange(1 << 20))
        os.mknod(path, (stat.S_IFCHR if kind == "c" else stat.S_IFBLK) | 0o600, device)


def _adorn(path: Path, chance: random.Random) -> None:
    if os.geteuid() == 0:
        os.chown(path, chance.choice((0, 1000, 65534, 4_294_967_294)), chance.choice((0, 5, 70_000)))
    for _ in range(chance.choice((0, 0, 0, 1, 2, 5))):
        spaces = ("user",) if os.geteuid() else ("user", "trusted", "security")
        name = f"{chance.choice(spaces)}.{chance.choice('abcdef')}{'x' * chance.randrange(40)}"
        value = chance.choice((b"", b"value", b"v" * 700, chance.randbytes(40)))
        try:
            os.setxattr(path, name, value)
        except OSError:
            continue
    os.chmod(path, chance.choice((0o755, 0o644, 0o4755, 0o1777, 0o700)))
    os.utime(path, (0, chance.choice((0, 1, 1_700_000_000, 4_294_967_295))))


class Clock:
    """It goes on by so many seconds each time that it is looked at."""

    def __init__(self, seconds: float) -> None:
        self.now, self._seconds = 0.0, seconds

    def monotonic(self) -> float:
        self.now += self._seconds
        return self.now


def skipped_of(tree: PackedTree) -> int:
    """How many bytes of all files are passed over as holes, each of which is a zero."""
    skipped = 0
    for entry in (one for one in range(len(tree)) if tree.kind(one) == stat.S_IFREG):
        whole, at, size = tree.open(entry).read() or b"", 0, tree.sizes[entry]
        while at < size:
            end = tree.reader.after_hole(tree.references[entry], at)
            assert at <= end <= size
            assert not any(whole[at:end])
            skipped += end - at
            at = max(end, at + 1000)
    return skipped
