"""krata's image cache, as an async library: `PackerCache` and what it takes and gives. Names that are neither are for
the other packages of ocitui, and may change.

The tree of errors is drawn in `ocitui.cache.errors`; what the daemon would do with an index is `judge_index`. A name is
imported when it is first asked for, so that a program loads no more of the library than it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocitui.front import front

if TYPE_CHECKING:
    from .actor import author_of as author_of
    from .actor import by_another as by_another
    from .actor import whoami as whoami
    from .backups import BACKUPS_NAME as BACKUPS_NAME
    from .backups import Backup as Backup
    from .backups import keep_backup as keep_backup
    from .backups import keep_corrupt as keep_corrupt
    from .backups import late_updates as late_updates
    from .backups import list_backups as list_backups
    from .backups import next_number as next_number
    from .backups import read_backup as read_backup
    from .backups import transactions_since as transactions_since
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
    from .changes import discardable as discardable
    from .changes import new_index as new_index
    from .changes import see as see
    from .changes import see_index as see_index
    from .descriptors import ANNOTATION_IMAGE_NAME as ANNOTATION_IMAGE_NAME
    from .descriptors import ANNOTATION_PACKED_FORMAT as ANNOTATION_PACKED_FORMAT
    from .descriptors import ANNOTATION_REFERENCE as ANNOTATION_REFERENCE
    from .descriptors import Descriptor as Descriptor
    from .descriptors import sound_descriptor as sound_descriptor
    from .disk import Disk as Disk
    from .disk import Folder as Folder
    from .disk import refuse_inside as refuse_inside
    from .disk import storage_errors as storage_errors
    from .disk import write_outside as write_outside
    from .documents import DESCRIPTOR as DESCRIPTOR
    from .documents import IMAGE_INDEX as IMAGE_INDEX
    from .documents import BlobDescriptor as BlobDescriptor
    from .documents import ContainerConfig as ContainerConfig
    from .documents import Document as Document
    from .documents import HistoryItem as HistoryItem
    from .documents import ImageConfiguration as ImageConfiguration
    from .documents import ImageManifest as ImageManifest
    from .documents import Platform as Platform
    from .documents import read_config as read_config
    from .documents import read_manifest as read_manifest
    from .documents import structural_quotes as structural_quotes
    from .errors import AmbiguousDigestError as AmbiguousDigestError
    from .errors import CacheDirectoryError as CacheDirectoryError
    from .errors import CacheError as CacheError
    from .errors import ConflictError as ConflictError
    from .errors import CorruptIndexError as CorruptIndexError
    from .errors import DocumentError as DocumentError
    from .errors import FileTakenError as FileTakenError
    from .errors import InvalidNameError as InvalidNameError
    from .errors import InvalidPackedImageError as InvalidPackedImageError
    from .errors import LockedError as LockedError
    from .errors import NoSuchEntryError as NoSuchEntryError
    from .errors import NoSuchTransactionError as NoSuchTransactionError
    from .errors import PlanChangedError as PlanChangedError
    from .errors import ReadOnlyError as ReadOnlyError
    from .errors import StorageError as StorageError
    from .files import ANY_SIZE as ANY_SIZE
    from .files import INDEX_NAME as INDEX_NAME
    from .files import MOST_DOCUMENT_BYTES as MOST_DOCUMENT_BYTES
    from .files import MOST_INDEX_BYTES as MOST_INDEX_BYTES
    from .files import OWN_NAME as OWN_NAME
    from .files import READ_FLAGS as READ_FLAGS
    from .files import FileKind as FileKind
    from .files import PackedFormat as PackedFormat
    from .files import check_directory as check_directory
    from .files import config_name as config_name
    from .files import file_names as file_names
    from .files import identity_of as identity_of
    from .files import known_format as known_format
    from .files import manifest_name as manifest_name
    from .files import open_bounded as open_bounded
    from .files import packed_name as packed_name
    from .files import read_bounded as read_bounded
    from .files import read_kernel_file as read_kernel_file
    from .files import read_regular as read_regular
    from .files import read_to_end as read_to_end
    from .files import regular_file as regular_file
    from .files import usable_digest as usable_digest
    from .files import usual_digest as usual_digest
    from .files import valid_digest as valid_digest
    from .index import EntryKey as EntryKey
    from .index import ImageIndex as ImageIndex
    from .index import IndexFile as IndexFile
    from .index import Key as Key
    from .index import Signature as Signature
    from .index import entry_keys as entry_keys
    from .index import examine_index as examine_index
    from .index import index_signature as index_signature
    from .index import judge_index as judge_index
    from .index import read_patiently as read_patiently
    from .journal import JOURNAL_NAME as JOURNAL_NAME
    from .ledger import HASH_CHUNK as HASH_CHUNK
    from .ledger import LASTING_CODES as LASTING_CODES
    from .ledger import LEDGER_NAME as LEDGER_NAME
    from .ledger import Damage as Damage
    from .ledger import Damaged as Damaged
    from .ledger import Ledger as Ledger
    from .ledger import Recorded as Recorded
    from .ledger import Sound as Sound
    from .ledger import hash_file as hash_file
    from .ledger import record_stored as record_stored
    from .listing import CONFIG_PLACE as CONFIG_PLACE
    from .listing import FILE_SUFFIXES as FILE_SUFFIXES
    from .listing import FIRST_PACKED as FIRST_PACKED
    from .listing import MANIFEST_PLACE as MANIFEST_PLACE
    from .listing import PLACE_OF_SUFFIX as PLACE_OF_SUFFIX
    from .listing import ROW_WIDTH as ROW_WIDTH
    from .listing import CacheFiles as CacheFiles
    from .listing import Fact as Fact
    from .listing import Listing as Listing
    from .listing import is_plain as is_plain
    from .listing import part_of as part_of
    from .lookup import LATEST as LATEST
    from .lookup import Explanation as Explanation
    from .lookup import PackedImage as PackedImage
    from .lookup import Reason as Reason
    from .lookup import ResolvedImage as ResolvedImage
    from .lookup import explain_recall as explain_recall
    from .lookup import explain_resolve as explain_resolve
    from .names import LEAST_DIGITS as LEAST_DIGITS
    from .names import ImageName as ImageName
    from .names import NamedEntry as NamedEntry
    from .names import find_entry as find_entry
    from .names import spelled as spelled
    from .names import stem_of as stem_of
    from .own_folder import LOCK_NAME as LOCK_NAME
    from .own_folder import open_journal as open_journal
    from .own_folder import open_own_folder as open_own_folder
    from .own_folder import taking_turns as taking_turns
    from .own_folder import wait_for_turn as wait_for_turn
    from .packed_file import EROFS_READ_FEATURES as EROFS_READ_FEATURES
    from .packed_file import SOUND_PACKED as SOUND_PACKED
    from .packed_file import check_packed as check_packed
    from .packed_file import check_packed_file as check_packed_file
    from .records import ChangeMode as ChangeMode
    from .records import Identity as Identity
    from .records import Moved as Moved
    from .records import Placed as Placed
    from .records import Swap as Swap
    from .records import Transaction as Transaction
    from .records import TransactionKind as TransactionKind
    from .records import TransactionState as TransactionState
    from .records import some_of as some_of
    from .strict_json import Scanner as Scanner
    from .strict_json import Value as Value
    from .strict_json import next_element as next_element
    from .trash import EmptiedTrash as EmptiedTrash
    from .trash import TrashedFile as TrashedFile
    from .trash import files_that_go as files_that_go
    from .trash import list_trash as list_trash
    from .undoing import ExpectedEntries as ExpectedEntries
    from .undoing import Overwritten as Overwritten
    from .undoing import all_changes as all_changes
    from .undoing import can_be_undone as can_be_undone
    from .undoing import edit_again as edit_again
    from .undoing import expect_entries as expect_entries
    from .undoing import find_overwritten as find_overwritten
    from .undoing import taken_back as taken_back
    from .verdict import Condition as Condition
    from .verdict import Health as Health
    from .verdict import IndexOutcome as IndexOutcome
    from .verdict import Verdict as Verdict
    from .watch import Difference as Difference
    from .watch import IndexWatch as IndexWatch
    from .watch import to_the_second as to_the_second
    from .workspace import STAGING_NAME as STAGING_NAME
    from .workspace import TRASH_NAME as TRASH_NAME
    from .workspace import refused_files as refused_files
    from .workspace import size_in_own_folder as size_in_own_folder
    from .workspace import trash_identity as trash_identity

__getattr__, __dir__, __all__ = front(
    __name__,
    {
        "actor": "author_of by_another whoami",
        "backups": (
            "BACKUPS_NAME Backup keep_backup keep_corrupt late_updates list_backups next_number read_backup "
            "transactions_since"
        ),
        "cache": "PackerCache Preparation",
        "changes": (
            "Change DeletePlan Discard IndexEdit IndexReplacement IndexSeen Insert Place Remove Seen discardable "
            "new_index see see_index"
        ),
        "descriptors": (
            "ANNOTATION_IMAGE_NAME ANNOTATION_PACKED_FORMAT ANNOTATION_REFERENCE Descriptor sound_descriptor"
        ),
        "disk": "Disk Folder refuse_inside storage_errors write_outside",
        "documents": (
            "BlobDescriptor ContainerConfig DESCRIPTOR Document HistoryItem IMAGE_INDEX ImageConfiguration "
            "ImageManifest Platform read_config read_manifest structural_quotes"
        ),
        "errors": (
            "AmbiguousDigestError CacheDirectoryError CacheError ConflictError CorruptIndexError DocumentError "
            "FileTakenError InvalidNameError InvalidPackedImageError LockedError NoSuchEntryError "
            "NoSuchTransactionError PlanChangedError ReadOnlyError StorageError"
        ),
        "files": (
            "ANY_SIZE FileKind INDEX_NAME MOST_DOCUMENT_BYTES MOST_INDEX_BYTES OWN_NAME PackedFormat READ_FLAGS "
            "check_directory config_name file_names identity_of known_format manifest_name open_bounded "
            "packed_name read_bounded read_kernel_file read_regular read_to_end regular_file usable_digest "
            "usual_digest valid_digest"
        ),
        "index": (
            "EntryKey ImageIndex IndexFile Key Signature entry_keys examine_index index_signature judge_index "
            "read_patiently"
        ),
        "journal": "JOURNAL_NAME",
        "ledger": "Damage Damaged HASH_CHUNK LASTING_CODES LEDGER_NAME Ledger Recorded Sound hash_file record_stored",
        "listing": (
            "CONFIG_PLACE CacheFiles FILE_SUFFIXES FIRST_PACKED Fact Listing MANIFEST_PLACE PLACE_OF_SUFFIX "
            "ROW_WIDTH is_plain part_of"
        ),
        "lookup": "Explanation LATEST PackedImage Reason ResolvedImage explain_recall explain_resolve",
        "names": "ImageName LEAST_DIGITS NamedEntry find_entry spelled stem_of",
        "own_folder": "LOCK_NAME open_journal open_own_folder taking_turns wait_for_turn",
        "packed_file": "EROFS_READ_FEATURES SOUND_PACKED check_packed check_packed_file",
        "records": "ChangeMode Identity Moved Placed Swap Transaction TransactionKind TransactionState some_of",
        "strict_json": "Scanner Value next_element",
        "trash": "EmptiedTrash TrashedFile files_that_go list_trash",
        "undoing": (
            "ExpectedEntries Overwritten all_changes can_be_undone edit_again expect_entries find_overwritten "
            "taken_back"
        ),
        "verdict": "Condition Health IndexOutcome Verdict",
        "watch": "Difference IndexWatch to_the_second",
        "workspace": "STAGING_NAME TRASH_NAME refused_files size_in_own_folder trash_identity",
    },
)
