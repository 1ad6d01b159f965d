"""From layers to a packed file, in the process that `flatten_and_pack` starts: squashfs, erofs, or the tar itself.

Reading headers holds the interpreter's lock for long stretches, so it is kept away from the process that draws the
screen. One request comes in as a line of JSON; progress, and at last a result or an error, go out as lines of JSON.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from ocitui.cache import CacheError, PackedFormat, StorageError
from ocitui.text import printable
from ocitui.threads import processors

from ..errors import MissingToolError, PackerError
from ..layers.flatten import Flattening, flattening
from ..layers.layers import LayerSource
from ..layers.tree import ROOT, Counter, Tree
from ..progress import ImportPhase, ProgressCall
from .erofs import ErofsImage
from .packing import (
    GZIP_LEVEL,
    Failure,
    FlattenRequest,
    PackedLayers,
    PackOptions,
    WorkerAnswer,
    decode_layer,
    decode_request,
    discard,
    encode,
    find_tool,
    help_of,
    how_ended,
    is_packed_here,
    private_directory,
)
from .proof import HELD, grouped, losses, read_back
from .squashfs import SquashfsImage

_PIPE_BYTES = 1 << 20
_SYNCED_BYTES = 64 << 20
_KEPT_OUTPUT = 1 << 16
# Seconds that a packer may take nothing, or need after its input has ended.
_PATIENCE = 600
_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8
_F_SETPIPE_SZ = 1031


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however it ends (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


# What tools say of a full disk; tar speaks of the block that did not fit.
_NO_ROOM = ("No space left on device", "Wrote only")


class FedPacker:
    """A packer that is an outside program, which dies with its parent: fed with the tar piece by piece; then `finish`,
    after which the file is whole, and `sync`, after which it is on the disk; or `abort`, which leaves nothing of it.
    ``warnings`` are complete once it has finished. Each method raises PackerError, StorageError where there is no
    room."""

    def __init__(self, output: Path, tree: Tree) -> None:
        self.warnings: list[str] = []
        self._output, self._newest = output, max(tree.mtimes)

    def start(self, command: Sequence[str], owner: tuple[int, int] | None = None, keep: int | None = None) -> None:
        """Start a program, as the user and group ``owner``, which is to have the file descriptor ``keep``."""
        self._name, self._said, self._is_heard = Path(command[0]).name, bytearray(), True
        # Whoever reads this process's error output to its end waits for the packer, too.
        lifeline = os.dup(2)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                # All tell the time of it, and none a later one: not that of the packing (reproducible-builds.org).
                env={**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(self._newest)},
                user=owner[0] if owner else None,
                group=owner[1] if owner else None,
                extra_groups=[] if owner else None,
                pass_fds=(lifeline,) if keep is None else (lifeline, keep),
                preexec_fn=die_with_parent,  # noqa: PLW1509  the worker has no other thread when it starts a packer
            )
        except OSError as error:
            raise PackerError(f"cannot start {self._name}: {error.strerror}") from error
        finally:
            os.close(lifeline)
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._pipes = self._process.stdin, self._process.stderr
        self._input, self._errors = (pipe.fileno() for pipe in self._pipes)
        for fd in (self._input, self._errors):
            os.set_blocking(fd, False)
        self._poll = select.poll()
        self._poll.register(self._errors, select.POLLIN)
        # A wide pipe saves switches between the two; where it is not granted, a narrow one does.
        with suppress(OSError):
            fcntl.fcntl(self._input, _F_SETPIPE_SZ, _PIPE_BYTES)

    def write(self, data: memoryview) -> None:
        try:
            self._poll.register(self._input, select.POLLOUT)
            try:
                while data:
                    if self._wait(_PATIENCE, self._input):
                        data = data[os.write(self._input, data) :]
            finally:
                self._poll.unregister(self._input)
        except BrokenPipeError as error:
            # It closed its input, so it is ending: what it says last is the reason.
            self._end_input()
            raise self._failure(f"ended before its input did: {self._last_words()}") from error

    def take(self, image: Flattening, counter: Counter) -> None:
        image.write(self.write, counter)

    def finish(self) -> None:
        self._end()

    def sync(self) -> None:
        with writing(self._output), open(self._output, "rb") as file:
            os.fsync(file.fileno())

    def abort(self) -> None:
        # At once, **before** its input ends: an input that ends between two entries is success to it.
        with self._process:
            self._process.kill()
        discard(self._output)

    def _end(self) -> None:
        """Wait for the program, and see whether it did all."""
        self._end_input()
        self.warnings += self._lines()

    def _end_input(self) -> None:
        """End its input and wait until it has ended, well."""
        self._pipes[0].close()
        deadline = time.monotonic() + _PATIENCE
        while self._is_heard:
            self._wait(deadline - time.monotonic(), -1)
        try:
            code = self._process.wait(max(deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            raise self._stalled() from None
        self._pipes[1].close()
        if code:
            raise self._failure(f"failed with {how_ended(code)}: {self._last_words()}")

    def _wait(self, seconds: float, wanted: int) -> bool:
        """Hear what it says until ``wanted`` is ready, for so long."""
        ready = self._poll.poll(max(seconds, 0) * 1000)
        if not ready:
            raise self._stalled()
        if any(fd == self._errors for fd, _ in ready):
            heard = os.read(self._errors, 1 << 16)
            self._said += heard[: _KEPT_OUTPUT - len(self._said)]
            if not heard:
                self._poll.unregister(self._errors)
                self._is_heard = False
        return any(fd == wanted for fd, _ in ready)

    def _lines(self) -> list[str]:
        """What it wrote to its error output; the beginning, where that is long."""
        lines = (line.strip() for line in self._said.decode("utf-8", "replace").splitlines())
        return [line for line in lines if line]

    def _last_words(self) -> str:
        return "; ".join(self._lines()[-3:])[-500:] or "it did not say why"

    def _stalled(self) -> CacheError:
        return self._failure(f"did nothing for {_PATIENCE} seconds, and was ended")

    def _failure(self, what: str) -> CacheError:
        """What it did, unless it says that the disk is full."""
        if any(words in line for line in self._lines() for words in _NO_ROOM):
            return no_room(self._output)
        return PackerError(f"{self._name} {what}")


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Raises StorageError where the output cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise no_room(output) from error
        raise StorageError(f"cannot write {output}: {error.strerror}") from error


def create_file(output: Path) -> int:
    """A new file, open for writing. Raises StorageError."""
    with writing(output):
        return os.open(output, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)


def no_room(output: Path) -> StorageError:
    return StorageError(f"no room for {output}", hint="free some room, or choose another place; nothing was packed")


# What it says of ``./``, whose metadata it is told otherwise.
_EXPECTED = "Empty tar filename"
_LOST = "Could not resolve hardlink"
# What it may use for buffers; a quarter of all memory by its own default, which makes it slower.
BUFFERS = "64M"


class MksquashfsPacker(FedPacker):
    """``mksquashfs - FILE -tar``, which does not read ``./``: ``tree`` tells of the root."""

    def __init__(self, output: Path, tree: Tree, options: PackOptions) -> None:
        super().__init__(output, tree)
        tool = find_tool("mksquashfs")
        words = help_of(tool, "-help")
        if "\n-tar\t" not in words:
            raise MissingToolError(
                "mksquashfs here does not read tars",
                hint="install squashfs-tools 4.5 or later, or choose another format",
            )
        if ROOT in tree.xattrs:
            self.warnings.append("mksquashfs cannot keep the extended attributes of the root directory")
        if self._newest > time.time():
            self.warnings.append("a file is dated later than today, so mksquashfs 4.5 dates the root today")
        arguments = ["-tar", "-noappend", "-no-progress", "-quiet", "-no-recovery"]
        arguments += _compression(options) + _root(tree, words)
        owner = self._owner(tree.uids[ROOT], tree.gids[ROOT])
        if owner is None:
            self.start([tool, "-", str(output), *arguments])
            return
        # That owner may not enter the output's directory, so the file is handed over open.
        fd = create_file(output)
        try:
            os.fchown(fd, *owner)
            self.start([tool, "-", f"/proc/self/fd/{fd}", *arguments], owner, fd)
        except BaseException:
            discard(output)
            raise
        finally:
            os.close(fd)

    def _owner(self, uid: int, gid: int) -> tuple[int, int] | None:
        """Version 4.5 gives a tar's root directory to whoever runs it, whatever ``-root-uid`` says."""
        if (uid, gid) == (os.getuid(), os.getgid()):
            return None
        if os.geteuid() == 0:
            return uid, gid
        self.warnings.append("mksquashfs 4.5 makes its user the owner of the root directory, which is another's")
        return None

    def _end(self) -> None:
        self._end_input()
        for line in self._lines():
            if _LOST in line:
                # It leaves the file out, and ends with 0.
                raise self._failure(f"lost a file: {line}")
            if not line.startswith(_EXPECTED):
                self.warnings.append(line)
        if os.geteuid() == 0:
            os.chown(self._output, os.getuid(), os.getgid())


def _compression(options: PackOptions) -> list[str]:
    compression = options.compression or "gzip"
    level = GZIP_LEVEL if options.level is None and compression == "gzip" else options.level
    words = ["-comp", compression, "-mem", BUFFERS]
    return words if level is None else [*words, "-Xcompression-level", str(level)]


def _root(tree: Tree, words: str) -> list[str]:
    """mksquashfs ignores ``./``: these say the same, as far as this version has them."""
    mode, uid, gid, mtime = tree.modes[ROOT], tree.uids[ROOT], tree.gids[ROOT], tree.mtimes[ROOT]
    wanted = {"mode": f"{mode:o}", "uid": str(uid), "gid": str(gid), "time": str(mtime)}
    return [word for name, value in wanted.items() if f"-root-{name} " in words for word in (f"-root-{name}", value)]


# All that the tar says, taken literally; links are made at once, as nobody else can write there.
_UNTAR = (
    "--extract",
    "--file=-",
    "--numeric-owner",
    "--same-owner",
    "--preserve-permissions",
    "--xattrs",
    "--xattrs-include=*",
    "--absolute-names",
    "--delay-directory-restore",
    "--directory",
)


def _compressing_erofs(output: Path, tree: Tree, options: PackOptions, identity: str) -> FedPacker:
    """The way that this machine's mkfs.erofs allows. Raises MissingToolError, PackerError, StorageError."""
    tool = find_tool("mkfs.erofs")
    words = help_of(tool, "--help")
    if name := next((name for _, name, _ in tree.names() if len(name) == _LONGEST_NAME), None):
        _try_name(tool, name, output)
    level = "" if options.level is None else f",{options.level}"
    command = [tool, f"-z{options.compression}{level}"]
    # Without it some versions give all files one time.
    command += [word for word in ("--quiet", "--preserve-mtime") if word in words]
    command += ["-U", str(uuid5(NAMESPACE_OID, identity))] if "\n -U" in words else []
    if "--tar" not in words:
        return _UnpackingErofsPacker(output, tree, command)
    # Without a source it reads its input.
    packer = FedPacker(output, tree)
    packer.start([*command, "--tar=f", str(output)])
    return packer


_LONGEST_NAME, _TRIAL_SECONDS = 255, 30


def _try_name(tool: str, name: bytes, output: Path) -> None:
    """Some versions cut a name of 255 bytes, and fail, or take the file of the shorter name. Raises PackerError where
    this one does, by packing an empty file of that name; StorageError."""
    trial = private_directory(output)
    image, root = trial / "image", trial / "root"
    try:
        with writing(trial):
            root.mkdir(0o700, parents=True)
            open(os.fsencode(root) + b"/" + name, "xb").close()
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([tool, image, root], capture_output=True, timeout=_TRIAL_SECONDS, check=False)
            if name in image.read_bytes():
                return
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    raise PackerError(f"mkfs.erofs loses names of 255 bytes: {printable(name)}", hint="--format squashfs holds it")


class _UnpackingErofsPacker(FedPacker):
    """The tar is unpacked beside the output, in a directory that nobody else enters, then packed from there."""

    def __init__(self, output: Path, image: Tree, command: list[str]) -> None:
        super().__init__(output, image)
        if os.geteuid() != 0:
            raise MissingToolError(
                "mkfs.erofs here does not read tars, and only root can unpack an image for it",
                hint="install erofs-utils 1.7 or later, run as root, or leave out --compression",
            )
        untar = [find_tool("tar"), *_UNTAR]
        self._private = private_directory(output)
        tree = self._private / "root"
        self._command = [*command, str(output), str(tree)]
        try:
            with writing(self._private):
                self._private.mkdir(0o700)
                tree.mkdir()
            self.start([*untar, str(tree)])
        except BaseException:
            self._clear()
            raise

    def finish(self) -> None:
        super().finish()
        self._clear()

    def abort(self) -> None:
        super().abort()
        self._clear()

    def _end(self) -> None:
        super()._end()
        self.start(self._command)
        super()._end()

    def _clear(self) -> None:
        shutil.rmtree(self._private, ignore_errors=True)


class TarPacker:
    """The tar as it is. Raises StorageError."""

    def __init__(self, output: Path, size: int) -> None:
        self.warnings: list[str] = []
        self._output, self._at, self._since = output, 0, 0
        self._expect(size)
        self._fd, self._syncing = create_file(output), ThreadPoolExecutor(1, "sync")
        self._synced: list[Future[None]] = []

    def take(self, image: Flattening, counter: Counter) -> None:
        image.write(self.write, counter)

    def write(self, data: memoryview) -> None:
        self._write_at(data, self._at)
        self._at += len(data)

    def _expect(self, size: int) -> None:
        if shutil.disk_usage(self._output.parent).free < size:
            raise no_room(self._output)

    def _write_at(self, data: bytes | bytearray | memoryview, at: int) -> None:
        left = memoryview(data)
        with writing(self._output):
            while left:
                done = os.pwrite(self._fd, left, at)
                left, at, self._since = left[done:], at + done, self._since + done
        if self._since >= _SYNCED_BYTES:
            # The disk has its work meanwhile, not all of it at the end. It tells of a failure once only.
            self._since = 0
            self._synced.append(self._syncing.submit(os.fdatasync, self._fd))

    def finish(self) -> None:
        """It is read back while the disk takes the end of it."""
        self._synced.append(self._syncing.submit(os.fsync, self._fd))

    def sync(self) -> None:
        with writing(self._output):
            for synced in self._synced:
                synced.result()
        self._syncing.shutdown()
        os.close(self._fd)

    def abort(self) -> None:
        self._syncing.shutdown(cancel_futures=True)
        os.close(self._fd)
        discard(self._output)


class HashPacker(TarPacker):
    """Packs nothing: what `Flattening.write_hashes` tells of a tree. Raises StorageError."""

    def take(self, image: Flattening, counter: Counter) -> None:
        image.write_hashes(self._write_at, counter)


class ErofsPacker(TarPacker):
    """erofs that is not compressed, written here. Raises StorageError."""

    def __init__(self, output: Path, identity: str) -> None:
        super().__init__(output, 0)
        self._identity = identity

    def take(self, image: Flattening, counter: Counter) -> None:
        made = ErofsImage(image, self._identity)
        self._expect(made.size)
        made.write(self._write_at, counter)


class SquashfsPacker(TarPacker):
    """squashfs in gzip, written here. Raises PackerError, StorageError."""

    def __init__(self, output: Path, level: int | None) -> None:
        super().__init__(output, 0)
        self._level = GZIP_LEVEL if level is None else level

    def take(self, image: Flattening, counter: Counter) -> None:
        size = SquashfsImage(image, self._level, processors()).write(self._write_at, counter)
        with writing(self._output):
            os.ftruncate(self._fd, size)


Packer = FedPacker | TarPacker


def start_packer(
    format: PackedFormat | None, output: Path, tree: Tree, size: int, options: PackOptions, identity: str = ""
) -> Packer:
    """A packer of a tree whose tar has ``size`` bytes; its UUID is made from ``identity``. Raises MissingToolError,
    PackerError, StorageError."""
    if os.path.lexists(output):
        raise PackerError(f"{output} is there already")
    if format is None:
        return HashPacker(output, 0)
    if format is PackedFormat.TAR:
        return TarPacker(output, size)
    is_own = is_packed_here(format, options.compression, options.packer)
    if format is PackedFormat.SQUASHFS:
        return SquashfsPacker(output, options.level) if is_own else MksquashfsPacker(output, tree, options)
    if is_own:
        return ErofsPacker(output, identity)
    return _compressing_erofs(output, tree, options, identity)


# Below what draws the screen; the packers inherit it.
_NICENESS = 5
# Of what is sent in a line.
_PART = 1 << 18
# Compressions that no reader here knows.
_UNREAD = ("lzo",)
# A thread that inflates wants the interpreter only for a moment, 25 times as often as Python lets it by default.
_SWITCH_SECONDS = 0.0002


def main(parent: int) -> int:
    """Serve one request on standard input; ``parent`` is the process that sent it."""
    die_with_parent()
    if os.getppid() != parent:
        return 1
    sys.setswitchinterval(_SWITCH_SECONDS)
    # One place that threads take memory from keeps less of it than one for each (mallopt(3), which not every C has).
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    with suppress(OSError):
        os.nice(_NICENESS)
    try:
        request = decode_request(sys.stdin.buffer.readline())
        layers = (decode_layer(sys.stdin.buffer.readline()) for _ in request.sizes)
        packed = flatten_request(request, layers, lambda now: _say(WorkerAnswer(now)))
        lines, content = packed.lines or (b"", "")
        for at in range(0, len(lines), _PART):
            _say(WorkerAnswer(part=lines[at : at + _PART]))
        answer = WorkerAnswer(warnings=packed.warnings, content=content)
    except CacheError as error:
        answer = WorkerAnswer(failure=Failure.of(error))
    except OSError as error:
        answer = WorkerAnswer(failure=Failure.of(StorageError(str(error))))
    except MemoryError:
        answer = WorkerAnswer(failure=Failure.of(StorageError("there is not enough memory to flatten this image")))
    _say(answer)
    return 1 if answer.failure else 0


def flatten_request(
    request: FlattenRequest, layers: Iterable[LayerSource], progress: ProgressCall = lambda now: None
) -> PackedLayers:
    """Pack layers as they come, and read back what that gives, or leave nothing. Raises LayerError, PackerError,
    StorageError."""
    counter = Counter(progress, len(request.sizes))
    counter.begin(ImportPhase.READ, sum(request.sizes))
    with flattening(layers, request.options.limits, counter, HELD[request.format or PackedFormat.TAR]) as image:
        plan = image.plan
        counter.tell()
        counter.begin(ImportPhase.WRITE, plan.size, plan.files)
        counter.tell()
        identity = " ".join(layer.source.diff_id for layer in image.layers)
        packer = start_packer(request.format, request.output, plan.tree, plan.size, request.options, identity)
        try:
            packer.take(image, counter)
            counter.tell()
            counter.phase = ImportPhase.FINISH
            counter.tell()
            packer.finish()
            packed = _proved(request, image, packer)
            packer.sync()
        except BaseException:
            packer.abort()
            raise
        return packed


def _proved(request: FlattenRequest, image: Flattening, packer: Packer) -> PackedLayers:
    """What came of it, once it was read back. Raises ReadBackError."""
    notes = [*losses(image, request.format or PackedFormat.TAR), *grouped(packer.warnings)]
    if request.format is None:
        return PackedLayers(tuple(notes))
    if request.options.compression in _UNREAD:
        return PackedLayers((*notes, f"it was not read back: {request.options.compression} is not read here"))
    # mksquashfs makes some of the root as it likes.
    with_root = not isinstance(packer, MksquashfsPacker)
    return PackedLayers(tuple(notes), read_back(request.output, request.format, image, with_root=with_root))


def _say(answer: WorkerAnswer) -> None:
    sys.stdout.buffer.write(encode(answer))
    sys.stdout.buffer.flush()
