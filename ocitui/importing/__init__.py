"""Bringing images into a cache: from registries, layouts, archives, and packed files with their documents."""

from __future__ import annotations

from ocitui.front import front

with front(__name__):
    from .errors import DeniedError as DeniedError
    from .errors import NamedOtherwiseError as NamedOtherwiseError
    from .errors import NoSuchImageError as NoSuchImageError
    from .errors import RepointsNameError as RepointsNameError
    from .errors import SourceError as SourceError
    from .errors import UnknownRealmError as UnknownRealmError
    from .errors import UnreadableSourceError as UnreadableSourceError
    from .errors import UnsupportedSourceError as UnsupportedSourceError
    from .image_import import ImportDesk as ImportDesk
    from .image_import import ImportOutcome as ImportOutcome
    from .image_import import ImportResult as ImportResult
    from .image_import import UnfinishedImport as UnfinishedImport
    from .image_import import clear_blobs as clear_blobs
    from .image_import import fetch_and_pack as fetch_and_pack
    from .image_import import forget_import as forget_import
    from .image_import import import_image as import_image
    from .image_import import note_stored as note_stored
    from .image_import import recorded_import as recorded_import
    from .image_import import unfinished_imports as unfinished_imports
    from .inspect import ImportRequest as ImportRequest
    from .inspect import Inspection as Inspection
    from .inspect import Standing as Standing
    from .inspect import chosen_source as chosen_source
    from .inspect import inspect_source as inspect_source
    from .inspect import pinned_request as pinned_request
    from .inspect import standing_of as standing_of
    from .jobs import ImportJob as ImportJob
    from .jobs import ImportQueue as ImportQueue
    from .jobs import JobState as JobState
    from .layers.layers import LayerSource as LayerSource
    from .packing.packers import flatten_request as flatten_request
    from .packing.packing import FlattenRequest as FlattenRequest
    from .packing.packing import PackOptions as PackOptions
    from .packing.packing import check_choice as check_choice
    from .progress import ImportPhase as ImportPhase
    from .progress import ImportProgress as ImportProgress
    from .progress import LayerProgress as LayerProgress
    from .progress import ProgressCall as ProgressCall
    from .registry.auth import allow_realm as allow_realm
    from .registry.auth import check_access as check_access
    from .registry.upstream import Upstream as Upstream
    from .registry.upstream import UpstreamAnswer as UpstreamAnswer
    from .registry.upstream import ask_upstream as ask_upstream
    from .sources.images import ListedImage as ListedImage
    from .sources.images import SourceImage as SourceImage
    from .sources.images import SourceKind as SourceKind
    from .sources.images import describe as describe
    from .sources.images import describe_image as describe_image
    from .sources.images import manifest_type as manifest_type
    from .sources.opening import PackedFiles as PackedFiles
    from .sources.opening import PackedSource as PackedSource
    from .sources.opening import expanded_source as expanded_source
    from .sources.opening import find_packed_files as find_packed_files
    from .sources.opening import layout_in as layout_in
    from .sources.opening import open_source as open_source
    from .sources.opening import recognise_source as recognise_source
    from .sources.opening import standard_input as standard_input
    from .sources.references import Credentials as Credentials
    from .sources.references import Logins as Logins
    from .sources.references import Reference as Reference
    from .sources.references import RegistryOptions as RegistryOptions
    from .sources.references import SourceOptions as SourceOptions
    from .sources.references import home_path as home_path
    from .sources.references import registry_named as registry_named
    from .staging import BlobProgress as BlobProgress
    from .staging import BlobStore as BlobStore
    from .staging import check_room as check_room
    from .staging import remove_abandoned as remove_abandoned
    from .staging import staging_folder as staging_folder
