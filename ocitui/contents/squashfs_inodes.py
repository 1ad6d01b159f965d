"""The inodes of squashfs, of the fourteen forms that Linux fs/squashfs/squashfs_fs.h has, in one shape."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import NamedTuple

LINK_FORM, BASIC_FORMS = 3, range(1, 8)
NO_FRAGMENT = NO_XATTRS = (1 << 32) - 1
BEHIND_TARGET = 1 << 32
"""In place of a number of attributes: that stands behind the link's target."""


class SquashfsInode(NamedTuple):
    """``form`` is the basic one; ``size`` a file's, of a link's target, or a listing's; ``start`` and ``offset`` tell
    where a listing is, or the blocks of a file and its place in its fragment."""

    form: int
    mode: int
    user: int
    group: int
    mtime: int
    number: int
    size: int
    start: int
    offset: int
    fragment: int
    xattrs: int
    device: int


def _form(number: int, layout: str, fields: str) -> tuple[struct.Struct, tuple[int, ...], Callable[..., Iterable[int]]]:
    """What stands behind the head of an inode of this form, what to add to that, and how to put all in order."""
    form, xattrs = (number - 1) % len(BASIC_FORMS) + 1, NO_XATTRS
    if form == LINK_FORM and number != LINK_FORM:
        xattrs = BEHIND_TARGET
    told = ["", "mode", "user", "group", "mtime", "number", *fields.split()]
    told += ["form", "size", "start", "offset", "device", "fragment", "xattrs"]
    order = itemgetter(*(told.index(field) for field in SquashfsInode._fields))
    return struct.Struct(layout), (form, 0, 0, 0, 0, NO_FRAGMENT, xattrs), order


INODE_FORMS = {
    number: _form(number, layout, fields)
    for number, layout, fields in (
        (1, "<I4xHH4x", "start size offset"),
        (2, "<4I", "start fragment offset size"),
        (3, "<4xI", "size"),
        (4, "<4xI", "device"),
        (5, "<4xI", "device"),
        (6, "<4x", ""),
        (7, "<4x", ""),
        (8, "<4xII6xHI", "size start offset xattrs"),
        (9, "<QQ12x3I", "start size fragment offset xattrs"),
        (10, "<4xI", "size"),
        (11, "<4xII", "device xattrs"),
        (12, "<4xII", "device xattrs"),
        (13, "<4xI", "xattrs"),
        (14, "<4xI", "xattrs"),
    )
}
