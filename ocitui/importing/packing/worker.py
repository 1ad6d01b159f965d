"""The process that flattens and packs one image; `flatten_and_pack` starts it.

Reading headers holds the interpreter's lock for long stretches, so it is kept away from the process that draws the
screen. One request comes in as a line of JSON; progress, and at last a result or an error, go out as lines of JSON.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ocitui.cache import CacheError, StorageError

from ..layers.flatten import flattening
from ..layers.tree import ROOT, Counter
from ..progress import ImportPhase
from .packers import RootDirectory, die_with_parent, start_packer
from .packing import Failure, FlattenRequest, WorkerAnswer, decode_request, encode

# Below what draws the screen; the packers inherit it.
_NICENESS = 5
# A thread that inflates wants the interpreter only for a moment, 25 times as often as Python lets it by default.
_SWITCH_SECONDS = 0.0002


def main(parent: int) -> int:
    """Serve one request on standard input; ``parent`` is the process that sent it."""
    die_with_parent()
    if os.getppid() != parent:
        return 1
    sys.setswitchinterval(_SWITCH_SECONDS)
    with suppress(OSError):
        os.nice(_NICENESS)
    try:
        answer = WorkerAnswer(warnings=flatten_request(decode_request(sys.stdin.buffer.readline())))
    except CacheError as error:
        answer = WorkerAnswer(failure=Failure.of(error))
    except OSError as error:
        answer = WorkerAnswer(failure=Failure.of(StorageError(str(error))))
    except MemoryError:
        answer = WorkerAnswer(failure=Failure.of(StorageError("there is not enough memory to flatten this image")))
    _say(answer)
    return 1 if answer.failure else 0


def flatten_request(request: FlattenRequest) -> tuple[str, ...]:
    """Flatten and pack; gives what could not be kept.

    Raises LayerError, PackerError, StorageError; nothing of the output is left then.
    """
    counter = Counter(lambda now: _say(WorkerAnswer(now)), len(request.layers))
    with flattening(request.layers, request.options.limits, counter) as image:
        plan, tree = image.plan, image.plan.tree
        about = tree.modes[ROOT], tree.uids[ROOT], tree.gids[ROOT], tree.mtimes[ROOT]
        root = RootDirectory(*about, tree.xattrs.get(ROOT, ()))
        counter.tell()
        counter.begin(ImportPhase.WRITE, plan.size, plan.files)
        counter.tell()
        packer = start_packer(request.format, request.output, root, plan.size, request.options.packing)
        try:
            image.write(packer.write, counter)
            counter.tell()
            counter.phase = ImportPhase.FINISH
            counter.tell()
            packer.finish()
        except BaseException:
            packer.abort()
            raise
        return tuple(packer.warnings)


def _say(answer: WorkerAnswer) -> None:
    sys.stdout.buffer.write(encode(answer))
    sys.stdout.buffer.flush()
