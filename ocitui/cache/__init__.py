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
    from .backups import list_backups as list_backups
    from .cache import PackerCache as PackerCache
    from .cache import Preparation as Preparation
    from .changes import Change as Change
    from .changes import DeletePlan as DeletePlan
    from .changes import Discard as Discard
    from .changes import IndexEdit as IndexEdit
    from .changes import IndexReplacement as IndexReplacement
    from .changes import IndexSeen as IndexSeen
    from .changes import Insert as Insert
    from .changes import Place as Place
    from .changes import Remove as Remove
    from .changes import Seen as Seen
    from .changes import new_index as new_index
    from .changes import see as see
    from .changes import see_index as see_index
    from .descriptors import ANNOTATION_IMAGE_NAME as ANNOTATION_IMAGE_NAME
    from .descriptors import ANNOTATION_PACKED_FORMAT as ANNOTATION_PACKED_FORMAT
    from .descriptors import ANNOTATION_REFERENCE as ANNOTATION_REFERENCE
    from .descriptors import Descriptor as Descriptor
    from .documents import Document as Document
    from .documents import ImageConfiguration as ImageConfiguration
    from .documents import ImageManifest as ImageManifest
    from .documents import Platform as Platform
    from .errors import AmbiguousDigestError as AmbiguousDigestError
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
    from .files import FileKind as FileKind
    from .files import PackedFormat as PackedFormat
    from .index import EntryKey as EntryKey
    from .index import ImageIndex as ImageIndex
    from .index import examine_index as examine_index
    from .index import judge_index as judge_index
    from .listing import Entry as Entry
    from .lookup import Explanation as Explanation
    from .lookup import PackedImage as PackedImage
    from .lookup import Reason as Reason
    from .lookup import ResolvedImage as ResolvedImage
    from .names import ImageName as ImageName
    from .records import ChangeMode as ChangeMode
    from .records import Transaction as Transaction
    from .records import TransactionKind as TransactionKind
    from .records import TransactionState as TransactionState
    from .trash import EmptiedTrash as EmptiedTrash
    from .trash import TrashedFile as TrashedFile
    from .verdict import Condition as Condition
    from .verdict import Health as Health
    from .verdict import IndexOutcome as IndexOutcome
    from .verdict import Verdict as Verdict
    from .watch import Difference as Difference
    from .watch import IndexWatch as IndexWatch

_NAMES = {
    "backups": "Backup keep_backup list_backups",
    "cache": "PackerCache Preparation",
    "changes": (
        "Change DeletePlan Discard IndexEdit IndexReplacement IndexSeen Insert Place Remove Seen new_index see "
        "see_index"
    ),
    "descriptors": "ANNOTATION_IMAGE_NAME ANNOTATION_PACKED_FORMAT ANNOTATION_REFERENCE Descriptor",
    "documents": "Document ImageConfiguration ImageManifest Platform",
    "errors": (
        "AmbiguousDigestError CacheDirectoryError CacheError ConflictError CorruptIndexError DocumentError "
        "InvalidNameError InvalidPackedImageError LockedError NoSuchEntryError NoSuchTransactionError "
        "PlanChangedError ReadOnlyError StorageError"
    ),
    "files": "DEFAULT_DIRECTORY FileKind PackedFormat",
    "index": "EntryKey ImageIndex examine_index judge_index",
    "listing": "Entry",
    "lookup": "Explanation PackedImage Reason ResolvedImage",
    "names": "ImageName",
    "records": "ChangeMode Transaction TransactionKind TransactionState",
    "trash": "EmptiedTrash TrashedFile",
    "verdict": "Condition Health IndexOutcome Verdict",
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
