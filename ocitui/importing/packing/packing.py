"""Flattening and packing as the rest of the program sees it: one call, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ocitui.cache import CacheError, PackedFormat
from ocitui.threads import settled

from ..errors import PackerError, WorkerError
from ..layers.layers import LayerSource
from .flatten_messages import (
    FlattenOptions,
    FlattenProgress,
    FlattenRequest,
    PackedResult,
    decode_answer,
    encode_request,
)
from .packers import private_directory

# The worker looks for modules where this process does, and nowhere else: -P keeps the current directory out of it.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from ocitui.importing.packing.worker import main; sys.exit(main(int(sys.argv[2])))"
)
_LONGEST_LINE = 1 << 24


async def flatten_and_pack(
    layers: Sequence[LayerSource],
    output: Path,
    format: PackedFormat,
    options: FlattenOptions | None = None,
    progress: Callable[[FlattenProgress], None] | None = None,
) -> PackedResult:
    """Flatten layers, the lowest first, and pack them into a new file.

    ``progress`` is called at most about ten times a second. A cancelled call leaves no process and no file; nothing
    but ``output`` and a hidden directory beside it is ever written.

    Raises LayerError (with its layer, entry and reason), LayerDigestError, LayerLimitError, PackerError,
    MissingToolError, StorageError where there is no room, WorkerError.
    """
    if os.path.lexists(output):
        raise PackerError(f"{output} is there already")
    request = FlattenRequest(tuple(layers), output, format, options or FlattenOptions())
    try:
        return await _run(request, progress)
    except BaseException:
        await settled(asyncio.to_thread(_clear, output))
        raise


async def _run(request: FlattenRequest, progress: Callable[[FlattenProgress], None] | None) -> PackedResult:
    worker = await _start()
    assert worker.stderr is not None
    errors = asyncio.ensure_future(worker.stderr.read())
    try:
        answer = await _converse(worker, request, progress)
    finally:
        _kill(worker)
        # The packers hold the same error output open: its end is theirs.
        await settled(asyncio.gather(errors, worker.wait()))
    if answer is None:
        raise WorkerError(_last_words(worker, errors.result()))
    if isinstance(answer, CacheError):
        raise answer
    return answer


async def _start() -> Process:
    """In a session of its own, so that it can be ended with all it started, and only on purpose."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        _START,
        json.dumps(sys.path),
        str(os.getpid()),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=_LONGEST_LINE,
        start_new_session=True,
    )


async def _converse(
    worker: Process, request: FlattenRequest, progress: Callable[[FlattenProgress], None] | None
) -> PackedResult | CacheError | None:
    """The worker's answer; None where it ended without one."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    with suppress(ConnectionError):
        worker.stdin.write(encode_request(request))
        await worker.stdin.drain()
    async for line in worker.stdout:
        answer = decode_answer(line)
        if not isinstance(answer, FlattenProgress):
            return answer
        if progress is not None:
            progress(answer)
    return None


def _kill(worker: Process) -> None:
    if worker.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)


def _last_words(worker: Process, errors: bytes) -> str:
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    reason = lines[-1][-500:] if lines else "without a word"
    code = worker.returncode or 0
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
    return f"the process that flattens ended with {how}: {reason}"


def _clear(output: Path) -> None:
    """Remove what a killed worker could not."""
    shutil.rmtree(private_directory(output), ignore_errors=True)
    output.unlink(missing_ok=True)
