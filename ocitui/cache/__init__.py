"""krata's image cache, as an async library: `PackerCache` and what it takes and gives.

The tree of errors is drawn in `ocitui.cache.errors`; what the daemon would do with an index is `judge_index`.
"""

from .cache import PackerCache
from .descriptors import (
    ANNOTATION_IMAGE_NAME,
    ANNOTATION_PACKED_FORMAT,
    ANNOTATION_REFERENCE,
    Descriptor,
)
from .documents import Document, ImageConfiguration, ImageManifest, Platform
from .entries import Entry, EntryKey, EntryState, FileKind
from .errors import (
    CacheDirectoryError,
    CacheError,
    ConflictError,
    CorruptIndexError,
    DocumentError,
    InvalidNameError,
    InvalidPackedImageError,
    LockedError,
    NoSuchEntryError,
    NoSuchTransactionError,
    PlanChangedError,
    ReadOnlyError,
    StorageError,
)
from .files import DEFAULT_DIRECTORY
from .filters import compile_filter
from .formats import PackedFormat
from .health import Condition, Health
from .images import PackedImage, ResolvedImage
from .index import ImageIndex
from .journal import Transaction, TransactionKind, TransactionState
from .lookup import Explanation, Reason
from .names import ImageName
from .plans import DeletePlan
from .verdict import IndexOutcome, Verdict, examine_index, judge_index
from .watch import Difference

__all__ = [
    "ANNOTATION_IMAGE_NAME",
    "ANNOTATION_PACKED_FORMAT",
    "ANNOTATION_REFERENCE",
    "DEFAULT_DIRECTORY",
    "CacheDirectoryError",
    "CacheError",
    "Condition",
    "ConflictError",
    "CorruptIndexError",
    "DeletePlan",
    "Descriptor",
    "Difference",
    "Document",
    "DocumentError",
    "Entry",
    "EntryKey",
    "EntryState",
    "Explanation",
    "FileKind",
    "Health",
    "ImageConfiguration",
    "ImageIndex",
    "ImageManifest",
    "ImageName",
    "IndexOutcome",
    "InvalidNameError",
    "InvalidPackedImageError",
    "LockedError",
    "NoSuchEntryError",
    "NoSuchTransactionError",
    "PackedFormat",
    "PackedImage",
    "PackerCache",
    "PlanChangedError",
    "Platform",
    "ReadOnlyError",
    "Reason",
    "ResolvedImage",
    "StorageError",
    "Transaction",
    "TransactionKind",
    "TransactionState",
    "Verdict",
    "compile_filter",
    "examine_index",
    "judge_index",
]
