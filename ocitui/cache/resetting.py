"""The daemon's own start on an absent or corrupt index, made without losing its bytes."""

from __future__ import annotations

import msgspec

from .files import INDEX_NAME
from .index import EMPTY_INDEX
from .index_file import IndexFile, refuse_link
from .journal import begin
from .marked import run_marked
from .mend_making import replacement
from .mending import IndexReplacement, see_index_in
from .records import TransactionKind
from .workspace import Workspace


def reset_index(space: Workspace, seen: IndexFile) -> None:
    """Put an empty index in place; a corrupt one goes to the trash, whole.

    Raises ConflictError where another program wrote index.json meanwhile, or it is a link.
    """
    refuse_link(space.directory)
    transaction = begin(TransactionKind.RESET)
    if seen.exists:
        wanted = IndexReplacement(see_index_in(space.root), EMPTY_INDEX)
        swap = replacement(space, transaction.id, wanted)
        run_marked(space, msgspec.structs.replace(transaction, marked=True, swap=swap))
        return
    draft = f"{transaction.id}.index"
    space.disk.write_new(space.staging, draft, EMPTY_INDEX, space.root.lstat(INDEX_NAME))
    try:
        space.disk.rename(space.staging, draft, space.root, INDEX_NAME)
    except FileExistsError:
        # The daemon was quicker, and its index is as good.
        space.disk.unlink(space.staging, draft)
    space.sync()
