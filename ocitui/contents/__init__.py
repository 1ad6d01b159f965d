"""What is inside packed files: their trees, read here; nothing is mounted, and no other program is asked."""

from __future__ import annotations

from ocitui.front import front

with front(__name__):
    from .compare import ComparedTree as ComparedTree
    from .compare import TreeChange as TreeChange
    from .compare import TreeComparison as TreeComparison
    from .compare import unlike as unlike
    from .digest import TreeLevel as TreeLevel
    from .digest import TreeLines as TreeLines
    from .digest import TreeStore as TreeStore
    from .digest import digest_lines as digest_lines
    from .digest import hash_files as hash_files
    from .digest import keep_lines as keep_lines
    from .digest import kept_xattrs as kept_xattrs
    from .digest import open_lazily as open_lazily
    from .digest import read_lines as read_lines
    from .digest import sorted_entries as sorted_entries
    from .digest import text_digest as text_digest
    from .extract import Extracted as Extracted
    from .extract import Extraction as Extraction
    from .find import PathPattern as PathPattern
    from .find import find_entries as find_entries
    from .program import FoundProgram as FoundProgram
    from .program import find_program as find_program
    from .soundness import has_program as has_program
    from .soundness import read_through as read_through
    from .soundness import taken_file_problem as taken_file_problem
    from .tar_headers import FILE_TYPES as FILE_TYPES
    from .tar_headers import TAR_BLOCK as TAR_BLOCK
    from .tar_headers import ByteReader as ByteReader
    from .tar_headers import ChunkReader as ChunkReader
    from .tar_headers import FileReader as FileReader
    from .tar_headers import Kind as Kind
    from .tar_headers import Segments as Segments
    from .tar_headers import TarEntry as TarEntry
    from .tar_headers import TarError as TarError
    from .tar_headers import TarLimitError as TarLimitError
    from .tar_headers import TarReader as TarReader
    from .tar_headers import Xattrs as Xattrs
    from .tar_headers import is_header as is_header
    from .tar_headers import sum_of_bytes as sum_of_bytes
    from .tree import MOST_XATTRS as MOST_XATTRS
    from .tree import ROOT as ROOT
    from .tree import ContentsError as ContentsError
    from .tree import DamagedError as DamagedError
    from .tree import PackedTree as PackedTree
    from .tree import UnreadableFormatError as UnreadableFormatError
    from .tree import open_tree as open_tree
