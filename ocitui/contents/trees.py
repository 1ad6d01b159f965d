"""What is inside packed files: outside tools and whole files, bounded in time, memory and rate; and the trees that they
list, or that are read here, held against each other."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import pwd
import re
import select
import signal
import stat
import struct
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import BinaryIO, NamedTuple

import msgspec

from ocitui.cache import EROFS_READ_FEATURES, HASH_CHUNK, hash_file, open_bounded
from ocitui.host import find_program
from ocitui.threads import Stop

_KEPT_OUTPUT = 1 << 16
_LOOK_SECONDS = 0.1
_CHUNK = 1 << 18
_NOBODY = "nobody"
# How long a program may take: so long, and for a large file so many bytes a second.
_LEAST_SECONDS, _LEAST_RATE = 60.0, 4 << 20
# No file, no core, 1 GiB; set by the process itself, as in a container root may not bound that of another user.
_BOUNDED = ("/bin/sh", "-c", f'ulimit -f 0 && ulimit -c 0 && ulimit -v {1 << 20} && exec "$@" || exit 126', "sh")
_NOT_STARTED = (126, 127)
Sink = Callable[[bytes], object]


class NotCheckedError(Exception):
    """A program could not tell; the text says why."""


class Said(msgspec.Struct, frozen=True):
    """How a program ended, and the beginning of what it wrote to its error output, or to both where that was asked."""

    code: int
    errors: str


class Tool:
    """One program, for one packed file that is open. `path` is the name under which it finds the file."""

    def __init__(self, name: str, file: BinaryIO, stop: Stop) -> None:
        """Raises NotCheckedError where it is not installed, or could only be run as root."""
        program = find_program(name)
        if program is None:
            raise NotCheckedError(f"{name} is not installed")
        self._program, self._fd, self._stop = program, file.fileno(), stop
        self._name, self.path = name, f"/proc/self/fd/{self._fd}"
        self._size = os.fstat(self._fd).st_size
        self._user = _unprivileged(name, self._fd)

    def run(self, arguments: Sequence[str | bytes], sink: Sink | None = None) -> Said:
        """Run it to its end; its output goes to ``sink``, or with its errors. Raises NotCheckedError where it cannot be
        started, or ran out of time or memory, AbandonedError when the work is to end."""
        with ExitStack() as stack:
            try:
                private = stack.enter_context(tempfile.TemporaryDirectory(prefix="ocitui-"))
                process = subprocess.Popen(
                    [*_BOUNDED, self._program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE if sink else subprocess.STDOUT,
                    env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
                    cwd=private if self._user is None else "/",
                    user=self._user,
                    group=self._user,
                    extra_groups=None if self._user is None else [],
                    pass_fds=(self._fd,),
                    bufsize=0,
                )
            except OSError as error:
                # No fault of the file: too many processes, or no memory for one more.
                raise NotCheckedError(f"{self._name} cannot be started: {error.strerror}") from error
            stack.enter_context(process)
            stack.callback(process.kill)
            said = self._hear(process, sink)
        if said.code in _NOT_STARTED:
            raise NotCheckedError(f"{self._name} cannot be started: {said.errors.rpartition(': ')[2]}")
        if said.code == -signal.SIGKILL or any(word in said.errors.lower() for word in _NO_MEMORY):
            raise NotCheckedError(f"{self._name} ran out of memory")
        return said

    def _hear(self, process: subprocess.Popen[bytes], sink: Sink | None) -> Said:
        deadline = time.monotonic() + max(_LEAST_SECONDS, self._size / _LEAST_RATE)
        kept = bytearray()

        def keep(data: bytes) -> None:
            kept.extend(data[: _KEPT_OUTPUT - len(kept)])

        sinks = {pipe.fileno(): keep for pipe in (process.stderr,) if pipe is not None}
        assert process.stdout is not None
        sinks[process.stdout.fileno()] = sink or keep  # type: ignore[assignment]
        poll = select.poll()
        for fd in sinks:
            poll.register(fd, select.POLLIN)
        while sinks:
            self._stop.check()
            if time.monotonic() > deadline:
                raise NotCheckedError(f"{self._name} took too long, and was ended")
            for fd, _ in poll.poll(_LOOK_SECONDS * 1000):
                data = os.read(fd, _CHUNK)
                if data:
                    sinks[fd](data)
                else:
                    poll.unregister(fd)
                    del sinks[fd]
        try:
            code = process.wait(max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            raise NotCheckedError(f"{self._name} took too long, and was ended") from None
        return Said(code, kept.decode("utf-8", "replace").strip())


_NO_MEMORY = ("out of memory", "cannot allocate memory", "malloc failed", "enomem")


def _unprivileged(name: str, fd: int) -> int | None:
    """Whom to run it as: nobody instead of root; None stands for who runs this."""
    if os.geteuid() != 0:
        return None
    if not os.fstat(fd).st_mode & stat.S_IROTH:
        raise NotCheckedError(f"only root may read the file, and {name} is not run as root")
    try:
        return pwd.getpwnam(_NOBODY).pw_uid
    except KeyError:
        raise NotCheckedError(f"there is no user {_NOBODY}, and {name} is not run as root") from None


# ioprio_set(2) has no wrapper in the C library; its number differs by machine.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "i686": 289, "ppc64le": 273, "s390x": 282}
_WHO_PROCESS, _CLASS_IDLE, _CLASS_SHIFT = 1, 3, 13


def hash_past_cache(path: str, directory: int, passed: Callable[[int], object]) -> str:
    """The sha256 of what the disk itself holds, as far as its page cache can be passed by. Raises OSError."""
    with open_bounded(path, dir_fd=directory) as file:
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            direct = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return hash_file(file, passed)
        # O_DIRECT wants memory that begins at a page, which a mapping does.
        with (
            open(direct, "rb", buffering=0) as unbuffered,
            mmap.mmap(-1, HASH_CHUNK) as pages,
            memoryview(pages) as buffer,
        ):
            return hash_file(unbuffered, passed, buffer)


def be_idle() -> bool:
    """Let this thread, and what it starts, read only when nobody else does; False where that is not to be had."""
    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        return False
    idle = _CLASS_IDLE << _CLASS_SHIFT
    return bool(ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, 0, idle) == 0)


_MOST_LINKS = 40
# What is mounted over these in a guest, the image does not tell.
_MOUNTED = frozenset((b"proc", b"dev", b"sys", b"run"))


class Node(NamedTuple):
    """``kind`` is a file type as in modes; ``size`` a regular file's, None where not known; ``target`` a link's."""

    kind: int
    size: int | None = None
    target: bytes = b""


Tree = Mapping[bytes, Node]
"""Nodes by their paths, without a slash at the beginning or end; the root is left out."""
_COMPARED = frozenset((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK))


def lacking(tree: Tree, other: Tree) -> list[bytes]:
    """The paths that ``tree`` lacks, or holds less of, beside another packing of the same image."""
    return sorted(path for path, node in other.items() if node.kind in _COMPARED and _is_less(tree.get(path), node))


def _is_less(mine: Node | None, other: Node) -> bool:
    if mine is None:
        return True
    return mine.size is not None and other.size is not None and mine.size < other.size


def has_program(tree: Tree, path: bytes) -> bool | None:
    """Whether an absolute path leads to something, links followed inside the tree; None where that cannot be told."""
    parts = _parts(path)[::-1]
    at: list[bytes] = []
    links = 0
    while parts:
        part = parts.pop()
        if part == b"..":
            at = at[:-1]
            continue
        at.append(part)
        if at[0] in _MOUNTED:
            return None
        node = tree.get(b"/".join(at))
        if node is None:
            return False
        if node.kind == stat.S_IFLNK:
            links += 1
            if links > _MOST_LINKS:
                return None
            at = [] if node.target.startswith(b"/") else at[:-1]
            parts += _parts(node.target)[::-1]
    return True


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


_SUPERBLOCK_AT = 1024
_SUPERBLOCK = struct.Struct("<3I2BHQQIIII32xI")
_COMPACT = struct.Struct("<4H3I")
_EXTENDED = struct.Struct("<4HQ2I")
_DIRENT = struct.Struct("<QHBx")
_SLOT = 32
_PLAIN, _INLINE = 0, 2
_MOST_NODES, _MOST_LISTED, _LARGEST_DIRECTORY, _LONGEST_TARGET = 2_000_000, 1 << 28, 1 << 28, 1 << 16
_TOO_MANY = "it has too many files to compare"
_DOTS = (b".", b"..")


class _Inode(NamedTuple):
    mode: int
    size: int
    layout: int
    start: int
    tail_at: int


class _Image:
    """Raises NotCheckedError for what it cannot read, OSError as the disk does."""

    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        self._size = os.fstat(self._fd).st_size
        fields = self._unpack(_SUPERBLOCK, _SUPERBLOCK_AT)
        if not 9 <= fields[3] <= 16:
            raise NotCheckedError("its block size is none that is known")
        if unread := fields[12] & ~EROFS_READ_FEATURES:
            raise NotCheckedError(f"it has features that are not read here (0x{unread:x})")
        self.block = 1 << fields[3]
        self.root = fields[5]
        self._meta = fields[10] * self.block

    def inode(self, number: int) -> _Inode:
        at = self._meta + number * _SLOT
        form = int.from_bytes(self._read(at, 2), "little")
        if form & 1:
            _, attributes, mode, _, size, start, _ = self._unpack(_EXTENDED, at)
            head = 64
        else:
            _, attributes, mode, _, size, _, start = self._unpack(_COMPACT, at)
            head = 32
        head += 12 + 4 * (attributes - 1) if attributes else 0
        return _Inode(mode, size, form >> 1 & 7, start, at + head)

    def content(self, inode: _Inode, most: int) -> bytes:
        """All bytes of a directory or link."""
        if inode.size > most:
            raise NotCheckedError("a directory of it has an impossible size")
        if inode.layout == _PLAIN:
            return self._read(inode.start * self.block, inode.size)
        if inode.layout != _INLINE:
            raise NotCheckedError("its directories are compressed")
        tail = inode.size % self.block
        whole = inode.size - tail
        return self._read(inode.start * self.block, whole) + self._read(inode.tail_at, tail)

    def entries(self, inode: _Inode) -> Iterator[tuple[bytes, int]]:
        content = self.content(inode, _LARGEST_DIRECTORY)
        for at in range(0, len(content), self.block):
            yield from _block_entries(content[at : at + self.block])

    def _read(self, at: int, size: int) -> bytes:
        if not size:
            return b""
        if at + size > self._size:
            raise NotCheckedError("a part of it lies beyond its end")
        data = os.pread(self._fd, size, at)
        if len(data) != size:
            raise NotCheckedError("it was cut while it was read")
        return data

    def _unpack(self, form: struct.Struct, at: int) -> tuple[int, ...]:
        return form.unpack(self._read(at, form.size))


def _block_entries(block: bytes) -> Iterator[tuple[bytes, int]]:
    """The names of one block of a directory, with their inodes; the last name ends where the block's zeros begin."""
    if len(block) < _DIRENT.size:
        return
    count = _DIRENT.unpack_from(block)[1] // _DIRENT.size
    if not 0 < count * _DIRENT.size <= len(block):
        raise NotCheckedError("a directory of it cannot be read")
    entries = [_DIRENT.unpack_from(block, at * _DIRENT.size) for at in range(count)]
    ends = [entry[1] for entry in entries[1:]] + [len(block)]
    for (number, start, _), end in zip(entries, ends, strict=True):
        yield block[start:end].partition(b"\0")[0], number


def erofs_tree(file: BinaryIO, stop: Stop) -> Tree:
    """Every path of it. Raises NotCheckedError, OSError."""
    image = _Image(file)
    tree: dict[bytes, Node] = {}
    pending, seen = [(b"", image.root)], {image.root}
    while pending:
        stop.check()
        prefix, number = pending.pop()
        for name, child in image.entries(image.inode(number)):
            if name in _DOTS or not name:
                continue
            inode, path = image.inode(child), prefix + name
            kind = stat.S_IFMT(inode.mode)
            target = image.content(inode, _LONGEST_TARGET) if kind == stat.S_IFLNK else b""
            tree[path] = Node(kind, inode.size if kind == stat.S_IFREG else None, target)
            if kind == stat.S_IFDIR and child not in seen:
                seen.add(child)
                pending.append((path + b"/", child))
            if len(tree) > _MOST_NODES:
                raise NotCheckedError(_TOO_MANY)
    return tree


_KINDS = {
    stat.filemode(kind)[:1].encode(): kind
    for kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
}
_LINE = re.compile(
    rb"([-dlcbps])[rwxsStT-]{9} \d+/\d+ +(\d+)(?:, *\d+)? \d{4}-\d\d-\d\d \d\d:\d\d squashfs-root(?:/(.*))?", re.DOTALL
)
_ARROW = b" -> "


def squashfs_tree(tool: Tool) -> tuple[Said, Tree]:
    """How unsquashfs ended, and what it listed until then. Raises NotCheckedError."""
    listed, tree = bytearray(), dict[bytes, Node]()

    def keep(data: bytes) -> None:
        listed.extend(data)
        if len(listed) > _MOST_LISTED:
            raise NotCheckedError(_TOO_MANY)

    said = tool.run(["-no-progress", "-processors", "1", "-lln", tool.path], keep)
    for kind, size, path in _listed(bytes(listed)):
        if path:
            name, _, target = path.partition(_ARROW) if kind == stat.S_IFLNK else (path, b"", b"")
            tree[name] = Node(kind, size if kind == stat.S_IFREG else None, target)
        if len(tree) > _MOST_NODES:
            raise NotCheckedError(_TOO_MANY)
    return said, tree


def _listed(output: bytes) -> list[tuple[int, int, bytes]]:
    """The lines taken apart; one unlike the others goes on with the name before it, which has a line break."""
    listed: list[tuple[int, int, bytes]] = []
    for line in output.rstrip(b"\n").split(b"\n"):
        if found := _LINE.fullmatch(line):
            listed.append((_KINDS[found[1]], int(found[2]), found[3] or b""))
        elif listed:
            kind, size, path = listed[-1]
            listed[-1] = kind, size, path + b"\n" + line
    return listed


def tar_tree(file: BinaryIO, stop: Stop) -> Tree:
    """The members of a tar whose headers are sound; the last of a path counts. Raises NotCheckedError, OSError."""
    tree: dict[bytes, Node] = {}
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", errorlevel=0) as archive:
            while (member := archive.next()) is not None:
                stop.check()
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep every one of them
                path = member.name.encode("utf-8", "surrogateescape").strip(b"/").removeprefix(b"./").strip(b"/")
                if path not in (b"", b"."):
                    tree[path] = _member_node(member)
                    # Directories that a tar need not name are made when it is unpacked.
                    while (path := path.rpartition(b"/")[0]) and path not in tree:
                        tree[path] = Node(stat.S_IFDIR)
                if len(tree) > _MOST_NODES:
                    raise NotCheckedError(_TOO_MANY)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise NotCheckedError(f"its members cannot be listed: {error}") from error
    return tree


def _member_node(member: tarfile.TarInfo) -> Node:
    if member.isdir():
        return Node(stat.S_IFDIR)
    if member.issym():
        return Node(stat.S_IFLNK, None, member.linkname.encode("utf-8", "surrogateescape"))
    if member.islnk():
        return Node(stat.S_IFREG)
    if member.isreg():
        return Node(stat.S_IFREG, member.size)
    return Node(stat.S_IFIFO if member.isfifo() else stat.S_IFCHR)
