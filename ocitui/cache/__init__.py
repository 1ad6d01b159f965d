"""krata's image cache, as an async library: `PackerCache` and what it takes and gives.

The tree of errors is drawn in `ocitui.cache.errors`; what the daemon would do with an index is `judge_index`. A name is
imported when it is first asked for, so that a program loads no more of the library than it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backups import Backup as Backup
    from .backups import keep_backup as keep_backup
    from .backups import keep_corrupt as keep_corrupt
    from .backups import list_backups as list_backups
    from .backups import list_corrupt as list_corrupt
    from .backups import read_backup as read_backup
    from .backups import read_corrupt as read_corrupt
    from .cache import PackerCache as PackerCache
    from .descriptors import ANNOTATION_IMAGE_NAME as ANNOTATION_IMAGE_NAME
    from .descriptors import ANNOTATION_PACKED_FORMAT as ANNOTATION_PACKED_FORMAT
    from .descriptors import ANNOTATION_REFERENCE as ANNOTATION_REFERENCE
    from .descriptors import Descriptor as Descriptor
    from .documents import Document as Document
    from .documents import ImageConfiguration as ImageConfiguration
    from .documents import ImageManifest as ImageManifest
    from .documents import Platform as Platform
    from .entries import Entry as Entry
    from .entries import EntryKey as EntryKey
    from .entries import EntryState as EntryState
    from .entries import FileKind as FileKind
    from .errors import CacheDirectoryError as CacheDirectoryError
    from .errors import CacheError as CacheError
    from .errors import ConflictError as ConflictError
    from .errors import CorruptIndexError as CorruptIndexError
    from .errors import DocumentError as DocumentError
    from .errors import InvalidNameError as InvalidNameError
    from .errors import InvalidPackedImageError as InvalidPackedImageError
    from .errors import LockedError as LockedError
    from .errors import NoSuchEntryError as NoSuchEntryError
    from .errors import NoSuchTransactionError as NoSuchTransactionError
    from .errors import PlanChangedError as PlanChangedError
    from .errors import ReadOnlyError as ReadOnlyError
    from .errors import StorageError as StorageError
    from .files import DEFAULT_DIRECTORY as DEFAULT_DIRECTORY
    from .filters import compile_filter as compile_filter
    from .filters import misread_sizes as misread_sizes
    from .formats import PackedFormat as PackedFormat
    from .health import Condition as Condition
    from .health import Health as Health
    from .images import PackedImage as PackedImage
    from .images import ResolvedImage as ResolvedImage
    from .index import ImageIndex as ImageIndex
    from .journal import DamagedRecord as DamagedRecord
    from .lookup import Explanation as Explanation
    from .lookup import Reason as Reason
    from .mending import ChangeMode as ChangeMode
    from .mending import Discard as Discard
    from .mending import IndexEdit as IndexEdit
    from .mending import IndexReplacement as IndexReplacement
    from .mending import IndexSeen as IndexSeen
    from .mending import Insert as Insert
    from .mending import Mend as Mend
    from .mending import Place as Place
    from .mending import Remove as Remove
    from .mending import Seen as Seen
    from .mending import new_index as new_index
    from .mending import see as see
    from .mending import see_index as see_index
    from .names import ImageName as ImageName
    from .overwriting import Overwritten as Overwritten
    from .plans import DeletePlan as DeletePlan
    from .records import Transaction as Transaction
    from .records import TransactionKind as TransactionKind
    from .records import TransactionState as TransactionState
    from .trash import EmptiedTrash as EmptiedTrash
    from .trash import TrashedFile as TrashedFile
    from .verdict import IndexOutcome as IndexOutcome
    from .verdict import Verdict as Verdict
    from .verdict import examine_index as examine_index
    from .verdict import judge_index as judge_index
    from .watch import Difference as Difference
    from .watch import IndexWatch as IndexWatch

_NAMES = {
    "backups": "Backup keep_backup keep_corrupt list_backups list_corrupt read_backup read_corrupt",
    "cache": "PackerCache",
    "descriptors": "ANNOTATION_IMAGE_NAME ANNOTATION_PACKED_FORMAT ANNOTATION_REFERENCE Descriptor",
    "documents": "Document ImageConfiguration ImageManifest Platform",
    "entries": "Entry EntryKey EntryState FileKind",
    "errors": (
        "CacheDirectoryError CacheError ConflictError CorruptIndexError DocumentError "
        "InvalidNameError InvalidPackedImageError LockedError NoSuchEntryError "
        "NoSuchTransactionError PlanChangedError ReadOnlyError StorageError"
    ),
    "files": "DEFAULT_DIRECTORY",
    "filters": "compile_filter misread_sizes",
    "formats": "PackedFormat",
    "health": "Condition Health",
    "images": "PackedImage ResolvedImage",
    "index": "ImageIndex",
    "journal": "DamagedRecord",
    "lookup": "Explanation Reason",
    "mending": (
        "ChangeMode Discard IndexEdit IndexReplacement IndexSeen Insert Mend Place Remove Seen new_index see see_index"
    ),
    "names": "ImageName",
    "overwriting": "Overwritten",
    "plans": "DeletePlan",
    "records": "Transaction TransactionKind TransactionState",
    "trash": "EmptiedTrash TrashedFile",
    "verdict": "IndexOutcome Verdict examine_index judge_index",
    "watch": "Difference IndexWatch",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
