"""Flattening and packing as the rest of the program sees it: how it may be done, and one call, in a process of its own,
which is sent a line of JSON and answers in such lines."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import deflate
import msgspec

from ocitui.cache import CacheError, PackedFormat, StorageError
from ocitui.contents import TreeLines
from ocitui.host import find_program
from ocitui.threads import in_thread, settled

from ..errors import (
    LayerDigestError,
    LayerError,
    LayerLimitError,
    MissingToolError,
    PackerError,
    ReadBackError,
    WorkerError,
)
from ..layers.layers import LayerLimits, Layers, LayerSource
from ..progress import ImportProgress, ProgressCall

if TYPE_CHECKING:
    from asyncio.subprocess import Process


class PackOptions(msgspec.Struct, frozen=True):
    """How to pack, in the packer's own words, None for the format's default; and how much the layers may ask for."""

    compression: str | None = None
    """squashfs: gzip; erofs: not compressed."""
    level: int | None = None
    """squashfs in gzip: GZIP_LEVEL."""
    packer: str | None = None
    """Of `PACKERS`, where ocitui can pack it too."""
    limits: LayerLimits = LayerLimits()


GZIP_LEVEL = 6
"""A third of the CPU of level 9 for 0.7 % more bytes."""
PACKERS = ("mksquashfs",)
"""Which can be asked for in place of ocitui itself; both pack squashfs."""
# The levels that each compression takes; none takes no level (mksquashfs 4.6, mkfs.erofs 1.8).
_LEVELS: dict[PackedFormat, dict[str, range]] = {
    PackedFormat.SQUASHFS: {
        "gzip": range(1, 10),
        "lzo": range(1, 10),
        "lz4": range(0),
        "xz": range(0),
        "zstd": range(1, 23),
        "lzma": range(0),
    },
    PackedFormat.EROFS: {
        "lz4": range(0),
        "lz4hc": range(13),
        "lzma": range(110),
        "deflate": range(10),
        "libdeflate": range(13),
        "zstd": range(23),
    },
    PackedFormat.TAR: {},
}


class PackingChoiceError(CacheError):
    """A packer, compression or level that the format does not have."""

    code = "packing-choice"
    default_hint = "leave out the packer, compression and level to have the format's own"


def check_choice(format: PackedFormat, compression: str | None, level: int | None, packer: str | None = None) -> None:
    """Raises PackingChoiceError where these do not go together."""
    levels = _LEVELS[format]
    if packer is not None and (format is not PackedFormat.SQUASHFS or packer not in PACKERS):
        raise PackingChoiceError(f"{format} has no packer {packer}: squashfs has {', '.join(PACKERS)}")
    if compression is not None and compression not in levels:
        offered = f"it has {', '.join(levels)}" if levels else "it is not compressed"
        raise PackingChoiceError(f"{format} has no compression {compression}: {offered}")
    if level is None:
        return
    if compression is None and format is not PackedFormat.SQUASHFS:
        raise PackingChoiceError(f"{format} is not compressed unless that is asked for, so it has no level")
    compression = compression or "gzip"
    allowed = levels[compression]
    if level not in allowed:
        said = f"levels {allowed[0]} to {allowed[-1]}" if allowed else "no levels"
        raise PackingChoiceError(f"{compression} in {format} has {said}, not {level}")


# The programs that pack, with the options that have them say what they can and which version they are.
_TOOLS = {
    PackedFormat.SQUASHFS: ("mksquashfs", "-help", "-version"),
    PackedFormat.EROFS: ("mkfs.erofs", "--help", "-V"),
}
_OFFERED = re.compile(
    r"Compressors available.*?:((?:\s+\w+(?: \(default\))?$)+)|[Aa]vailable compressors are:(.*)", re.MULTILINE
)
_VERSION = re.compile(r"(?:mksquashfs version|erofs-utils\)|mkfs\.erofs) (\d[\w.-]*)")


def is_packed_here(format: PackedFormat, compression: str | None, packer: str | None) -> bool:
    """Whether ocitui packs, without another program."""
    return packer is None and (compression is None or (format, compression) == (PackedFormat.SQUASHFS, "gzip"))


def tool_of(format: PackedFormat, compression: str | None, packer: str | None) -> str:
    """The path of the program that packs; empty where ocitui does. Raises MissingToolError."""
    return "" if is_packed_here(format, compression, packer) else find_tool(_TOOLS[format][0])


def packer_of(format: PackedFormat, compression: str | None, level: int | None, packer: str | None = None) -> str:
    """What packs, with its version, where it tells that, and what is asked of it, for the record. Raises
    MissingToolError, also where it does not have the compression by its help; PackerError."""
    if not (tool := tool_of(format, compression, packer)):
        # What the bytes of a squashfs depend on.
        said = ("ocitui", format, "deflate", deflate.__version__, level)
        return _joined(said if format is PackedFormat.SQUASHFS else said[:2])
    name, help_option, version_option = _TOOLS[format]
    # A version that says it in other words is left to say so itself.
    if compression is not None and (found := _OFFERED.search(help_of(tool, help_option))):
        offered = re.findall(r"\w+", (found[1] or found[2]).replace("(default)", ""))
        if compression not in offered:
            raise MissingToolError(
                f"{name} here does not compress with {compression}, only with {', '.join(offered)}",
                hint="choose one of these, or install a later version",
            )
    version = None
    with suppress(PackerError):
        version = _VERSION.search(help_of(tool, version_option))
    return _joined((name, version and version[1], compression, level))


def _joined(said: Sequence[object]) -> str:
    return " ".join(str(one) for one in said if one is not None)


_PACKAGES = {"mksquashfs": "squashfs-tools", "mkfs.erofs": "erofs-utils", "tar": "tar"}


def find_tool(name: str) -> str:
    """Its path. Raises MissingToolError, which names the Debian package."""
    found = find_program(name)
    if found is None:
        package = _PACKAGES[name]
        raise MissingToolError(f"{name} is not installed", hint=f"apt install {package}, or choose another format")
    return found


def help_of(tool: str, option: str) -> str:
    """All that a tool says of its options, wherever and with whatever status it says it. Raises PackerError."""
    try:
        said = subprocess.run([tool, option], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackerError(f"{tool} does not run: {error}") from error
    return (said.stdout + said.stderr).decode("utf-8", "replace")


class FlattenRequest(msgspec.Struct, frozen=True):
    """Behind it come the layers, a line each, as they are there; ``sizes`` are the bytes of their files. Without a
    ``format`` nothing is packed: the files are hashed, see `Flattening.write_hashes`."""

    sizes: tuple[int, ...]
    output: Path
    format: PackedFormat | None
    options: PackOptions


_ERRORS: dict[str, type[CacheError]] = {
    error.code: error
    for error in (
        LayerError,
        LayerDigestError,
        LayerLimitError,
        PackerError,
        MissingToolError,
        ReadBackError,
        StorageError,
    )
}


class Failure(msgspec.Struct, frozen=True):
    """An error as it is sent; what the worker does not raise on purpose becomes a WorkerError."""

    code: str
    message: str
    hint: str

    @classmethod
    def of(cls, error: CacheError) -> Failure:
        return cls(error.code, error.message, error.hint)

    def error(self) -> CacheError:
        return _ERRORS.get(self.code, WorkerError)(self.message, hint=self.hint)


class PackedLayers(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of packing; ``warnings`` say what could not be kept. ``lines`` tell what is in it; none where
    nothing was packed, or no reader of the format's compression is here."""

    warnings: tuple[str, ...] = ()
    lines: TreeLines | None = None


class WorkerAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of these: how far it is, a ``part`` of the lines, or the end with the digest of their ``content``, once the
    file is on the disk."""

    progress: ImportProgress | None = None
    part: bytes = b""
    failure: Failure | None = None
    warnings: tuple[str, ...] = ()
    content: str = ""


def encode(message: FlattenRequest | LayerSource | WorkerAnswer) -> bytes:
    """In ASCII, so that paths that are not UTF-8 pass as the surrogates they are."""
    return json.dumps(msgspec.to_builtins(message, enc_hook=str)).encode("ascii") + b"\n"


def decode_request(line: bytes) -> FlattenRequest:
    return msgspec.convert(json.loads(line), FlattenRequest, dec_hook=_made)


def decode_layer(line: bytes) -> LayerSource:
    """Raises ValueError where the line is something else, as at the end of who sends."""
    return msgspec.convert(json.loads(line), LayerSource, dec_hook=_made)


def decode_answer(line: bytes) -> WorkerAnswer:
    """Raises ValueError where the line is something else."""
    return msgspec.convert(json.loads(line), WorkerAnswer)


def _made(kind: type, said: str) -> object:
    return kind(said)


# They read the types before there are threads, two of which may not convert to one for the first time together.
_REQUESTS, _ANSWERS = msgspec.json.Decoder(FlattenRequest, dec_hook=_made), msgspec.json.Decoder(WorkerAnswer)
_LAYERS = msgspec.json.Decoder(LayerSource, dec_hook=_made)


# The worker looks for modules where this process does, and nowhere else: -P keeps the current directory out of it.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from ocitui.importing.packing.packers import main; sys.exit(main(int(sys.argv[2])))"
)
_LONGEST_LINE = 1 << 24


async def flatten_and_pack(
    layers: Layers,
    sizes: Sequence[int],
    output: Path,
    format: PackedFormat | None,
    options: PackOptions | None = None,
    progress: ProgressCall = lambda now: None,
) -> PackedLayers:
    """Flatten layers of these ``sizes``, read as they come, and pack them into a new file, which is read back, or
    without a ``format`` hash them. ``progress`` is called about ten times a second. A cancelled call leaves no process
    and no file; only ``output`` and a hidden directory beside it are written. Raises LayerError, PackerError,
    StorageError, WorkerError, and what ``layers`` raises."""
    if os.path.lexists(output):
        raise PackerError(f"{output} is there already")
    request = FlattenRequest(tuple(sizes), output, format, options or PackOptions())
    try:
        async with aclosing(layers):
            return await _run(request, layers, progress)
    except BaseException:
        await in_thread(lambda stop: _clear(output))
        raise


async def _run(request: FlattenRequest, layers: Layers, progress: ProgressCall) -> PackedLayers:
    import asyncio

    command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(os.getpid())]
    # In a session of its own, so that it can be ended with all it started, and only on purpose.
    try:
        worker = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=_LONGEST_LINE, start_new_session=True
        )
    except OSError as error:
        raise WorkerError(f"cannot start the process that flattens: {error.strerror}") from error
    assert worker.stderr is not None
    errors = asyncio.ensure_future(worker.stderr.read())
    sending = asyncio.ensure_future(_send(worker, request, layers))
    lines = bytearray()
    hearing = asyncio.ensure_future(_hear(worker, progress, lines))
    try:
        await asyncio.wait([sending, hearing], return_when=asyncio.FIRST_COMPLETED)
        if not hearing.done():
            await sending
        answer = await hearing
    finally:
        for one in (sending, hearing):
            one.cancel()
        # Before anything is waited for, which a second cancellation would end.
        if worker.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        # The packers hold the same error output open: its end is theirs.
        await settled(asyncio.gather(sending, hearing, errors, worker.wait(), return_exceptions=True))
    if answer is None:
        reason = errors.result().decode("utf-8", "replace").strip().rpartition("\n")[2][-500:] or "without a word"
        raise WorkerError(f"the process that flattens ended with {how_ended(worker.returncode or 0)}: {reason}")
    if answer.failure is not None:
        raise answer.failure.error()
    return PackedLayers(answer.warnings, TreeLines(bytes(lines), answer.content) if lines else None)


async def _send(worker: Process, request: FlattenRequest, layers: Layers) -> None:
    """Raises what ``layers`` raises; that the worker ended is heard elsewhere."""
    assert worker.stdin is not None
    worker.stdin.write(encode(request))
    async for layer in layers:
        with suppress(ConnectionError):
            worker.stdin.write(encode(layer))
            await worker.stdin.drain()


async def _hear(worker: Process, progress: ProgressCall, lines: bytearray) -> WorkerAnswer | None:
    """The worker's last answer; None where it ended without one, amid a line too."""
    assert worker.stdout is not None
    while True:
        try:
            line = await worker.stdout.readline()
            if not line.endswith(b"\n"):
                return None
            answer = decode_answer(line)
        except ValueError as error:
            raise WorkerError(f"the process that flattens said what cannot be read: {error}") from error
        if answer.progress is not None:
            progress(answer.progress)
        elif answer.part:
            lines += answer.part
        else:
            return answer


def how_ended(code: int) -> str:
    """What a process's return code says, in words; most real-time signals have no name."""
    if code >= 0:
        return f"status {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _clear(output: Path) -> None:
    """Remove what a killed worker could not."""
    shutil.rmtree(private_directory(output), ignore_errors=True)
    discard(output)


def discard(output: Path) -> None:
    """Remove what there is of a file that failed: where that fails too, the first failure is what is to be told."""
    with suppress(OSError):
        output.unlink()


def private_directory(output: Path) -> Path:
    """Where a packer of this output may unpack: removed with it, whoever ends it."""
    return output.with_name(f".{output.name}.tree")
