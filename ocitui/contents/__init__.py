"""What is inside packed files: their trees, read here or by the tools that make them."""

from __future__ import annotations

from ocitui.front import front

with front(__name__):
    from .trees import NotCheckedError as NotCheckedError
    from .trees import Said as Said
    from .trees import Tool as Tool
    from .trees import Tree as Tree
    from .trees import be_idle as be_idle
    from .trees import erofs_tree as erofs_tree
    from .trees import has_program as has_program
    from .trees import hash_past_cache as hash_past_cache
    from .trees import lacking as lacking
    from .trees import squashfs_tree as squashfs_tree
    from .trees import tar_tree as tar_tree
