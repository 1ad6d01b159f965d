"""krata's image cache, as an async library: `PackerCache` and what it takes and gives.

The tree of errors is drawn in `ocitui.cache.errors`; what the daemon would do with an index is `judge_index`. A name is
imported when it is first asked for, so that a program loads no more of the library than it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocitui.cache.backups import Backup as Backup
    from ocitui.cache.backups import keep_backup as keep_backup
    from ocitui.cache.backups import keep_corrupt as keep_corrupt
    from ocitui.cache.backups import late_updates as late_updates
    from ocitui.cache.backups import list_backups as list_backups
    from ocitui.cache.backups import list_corrupt as list_corrupt
    from ocitui.cache.backups import next_number as next_number
    from ocitui.cache.backups import read_backup as read_backup
    from ocitui.cache.backups import read_corrupt as read_corrupt
    from ocitui.cache.backups import transactions_since as transactions_since
    from ocitui.cache.cache import PackerCache as PackerCache
    from ocitui.cache.cache import Preparation as Preparation
    from ocitui.cache.changes import Change as Change
    from ocitui.cache.changes import ChangeMode as ChangeMode
    from ocitui.cache.changes import Discard as Discard
    from ocitui.cache.changes import IndexEdit as IndexEdit
    from ocitui.cache.changes import IndexReplacement as IndexReplacement
    from ocitui.cache.changes import IndexSeen as IndexSeen
    from ocitui.cache.changes import Insert as Insert
    from ocitui.cache.changes import Place as Place
    from ocitui.cache.changes import Remove as Remove
    from ocitui.cache.changes import Seen as Seen
    from ocitui.cache.changes import new_index as new_index
    from ocitui.cache.changes import see as see
    from ocitui.cache.changes import see_index as see_index
    from ocitui.cache.deleting import DeletePlan as DeletePlan
    from ocitui.cache.descriptors import ANNOTATION_IMAGE_NAME as ANNOTATION_IMAGE_NAME
    from ocitui.cache.descriptors import ANNOTATION_PACKED_FORMAT as ANNOTATION_PACKED_FORMAT
    from ocitui.cache.descriptors import ANNOTATION_REFERENCE as ANNOTATION_REFERENCE
    from ocitui.cache.descriptors import Descriptor as Descriptor
    from ocitui.cache.documents import Document as Document
    from ocitui.cache.documents import ImageConfiguration as ImageConfiguration
    from ocitui.cache.documents import ImageManifest as ImageManifest
    from ocitui.cache.documents import Platform as Platform
    from ocitui.cache.entries import Entry as Entry
    from ocitui.cache.entries import EntryKey as EntryKey
    from ocitui.cache.errors import AmbiguousDigestError as AmbiguousDigestError
    from ocitui.cache.errors import CacheDirectoryError as CacheDirectoryError
    from ocitui.cache.errors import CacheError as CacheError
    from ocitui.cache.errors import ConflictError as ConflictError
    from ocitui.cache.errors import CorruptIndexError as CorruptIndexError
    from ocitui.cache.errors import DocumentError as DocumentError
    from ocitui.cache.errors import InvalidNameError as InvalidNameError
    from ocitui.cache.errors import InvalidPackedImageError as InvalidPackedImageError
    from ocitui.cache.errors import LockedError as LockedError
    from ocitui.cache.errors import NoSuchEntryError as NoSuchEntryError
    from ocitui.cache.errors import NoSuchTransactionError as NoSuchTransactionError
    from ocitui.cache.errors import PlanChangedError as PlanChangedError
    from ocitui.cache.errors import ReadOnlyError as ReadOnlyError
    from ocitui.cache.errors import StorageError as StorageError
    from ocitui.cache.files import DEFAULT_DIRECTORY as DEFAULT_DIRECTORY
    from ocitui.cache.files import FileKind as FileKind
    from ocitui.cache.index import ImageIndex as ImageIndex
    from ocitui.cache.index import examine_index as examine_index
    from ocitui.cache.index import judge_index as judge_index
    from ocitui.cache.lookup import Explanation as Explanation
    from ocitui.cache.lookup import PackedImage as PackedImage
    from ocitui.cache.lookup import Reason as Reason
    from ocitui.cache.lookup import ResolvedImage as ResolvedImage
    from ocitui.cache.names import ImageName as ImageName
    from ocitui.cache.names import PackedFormat as PackedFormat
    from ocitui.cache.records import Transaction as Transaction
    from ocitui.cache.records import TransactionKind as TransactionKind
    from ocitui.cache.records import TransactionState as TransactionState
    from ocitui.cache.trash import EmptiedTrash as EmptiedTrash
    from ocitui.cache.trash import TrashedFile as TrashedFile
    from ocitui.cache.verdict import Condition as Condition
    from ocitui.cache.verdict import Health as Health
    from ocitui.cache.verdict import IndexOutcome as IndexOutcome
    from ocitui.cache.verdict import Verdict as Verdict
    from ocitui.cache.watch import Difference as Difference
    from ocitui.cache.watch import IndexWatch as IndexWatch

_NAMES = {
    "backups": (
        "Backup keep_backup keep_corrupt late_updates list_backups list_corrupt "
        "next_number read_backup read_corrupt transactions_since"
    ),
    "cache": "PackerCache Preparation",
    "changes": (
        "Change ChangeMode Discard IndexEdit IndexReplacement IndexSeen Insert Place Remove Seen new_index "
        "see see_index"
    ),
    "deleting": "DeletePlan",
    "descriptors": "ANNOTATION_IMAGE_NAME ANNOTATION_PACKED_FORMAT ANNOTATION_REFERENCE Descriptor",
    "documents": "Document ImageConfiguration ImageManifest Platform",
    "entries": "Entry EntryKey",
    "errors": (
        "AmbiguousDigestError CacheDirectoryError CacheError ConflictError CorruptIndexError DocumentError "
        "InvalidNameError "
        "InvalidPackedImageError LockedError NoSuchEntryError NoSuchTransactionError PlanChangedError "
        "ReadOnlyError StorageError"
    ),
    "files": "DEFAULT_DIRECTORY FileKind",
    "index": "ImageIndex examine_index judge_index",
    "lookup": "Explanation PackedImage Reason ResolvedImage",
    "names": "ImageName PackedFormat",
    "records": "Transaction TransactionKind TransactionState",
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
