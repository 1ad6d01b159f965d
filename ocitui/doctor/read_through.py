"""A packed file read through to its end by its format's own tool: what a flipped bit inside a compressed block shows.

The tools get the open file and no place to write; what they unpack goes through a pipe and is dropped.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import BinaryIO

from ocitui.cache import PackedFormat
from ocitui.importing.threads import Stop

from .tools import NotCheckedError, Said, Tool, ToolOptions
from .tree_readers import erofs_tree, squashfs_tree, tar_tree
from .trees import Tree

# Room for names on one command line: execve(2) takes at least 128 KiB, and 2 MiB as a rule.
_MOST_ARGUMENTS = 100_000
_UNSQUASHFS = ["-no-progress", "-processors", "1", "-data-queue", "16", "-frag-queue", "16"]
_NOT_ITS_FAULT = ("support", "unknown compression", "unrecognized option", "invalid option")


class ReadThrough:
    """One packed file, open: its ``tree``, and ``problem`` where reading it through found damage.

    ``unchecked`` says why a part of it could not be done.
    """

    def __init__(self, file: BinaryIO, format: PackedFormat, options: ToolOptions, stop: Stop) -> None:
        self._file, self._format, self._options, self._stop = file, format, options, stop
        self.tree: Tree | None = None
        self.problem = ""
        self.unchecked = ""

    def run(self) -> ReadThrough:
        """Raises OSError where the disk fails, AbandonedError when the work is to end."""
        try:
            match self._format:
                case PackedFormat.SQUASHFS:
                    self._squashfs()
                case PackedFormat.EROFS:
                    self._erofs()
                case PackedFormat.TAR:
                    self.tree = tar_tree(self._file, self._stop)
        except NotCheckedError as error:
            self.unchecked = str(error)
        return self

    def _squashfs(self) -> None:
        tool = Tool("unsquashfs", self._file, self._options, self._stop)
        said, self.tree = squashfs_tree(tool)
        self._judge(said)
        files = sorted(path for path, node in self.tree.items() if node.kind == stat.S_IFREG)
        for names in _batches(files):
            if self.problem:
                return
            said = tool.run([*_UNSQUASHFS, "-no-wildcards", "-cat", tool.path, *names], lambda data: None)
            self._judge(said)

    def _erofs(self) -> None:
        try:
            self.tree = erofs_tree(self._file, self._stop)
        except NotCheckedError as error:
            self.unchecked = str(error)
        tool = Tool("fsck.erofs", self._file, self._options, self._stop)
        self._judge(tool.run(["--extract", tool.path]))

    def _judge(self, said: Said) -> None:
        """A tool that says anything is not content, whatever its status is. Raises NotCheckedError."""
        errors = [line.strip() for line in said.errors.splitlines() if line.strip()]
        if said.code == 0 and not errors:
            return
        words = "; ".join(errors[-2:])[-300:] or f"status {said.code}"
        if any(text in said.errors.lower() for text in _NOT_ITS_FAULT):
            raise NotCheckedError(words)
        self.problem = words


def _batches(names: list[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for name in names:
        if size + len(name) > _MOST_ARGUMENTS:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += len(name) + 9  # each argument has a pointer and an end, too
    if batch:
        yield batch
