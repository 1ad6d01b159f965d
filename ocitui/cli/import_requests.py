"""What was typed for an import, checked before anything is asked or written, as the importing library takes it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import asdict

import msgspec

from ocitui.cache import CacheError, ImageName, PackedFormat, StorageError
from ocitui.cache.files import open_bounded
from ocitui.cache.packed_file import check_packed
from ocitui.importing.errors import SourceError
from ocitui.importing.packing.packing import check_choice
from ocitui.importing.registry.auth import read_config
from ocitui.importing.requests import ImportRequest
from ocitui.importing.sources.image_tree import parse_platform
from ocitui.importing.sources.images import SourceKind
from ocitui.importing.sources.opening import (
    PackedFiles,
    SourceOptions,
    find_packed_files,
    home_path,
    optional_path,
    recognise,
)
from ocitui.importing.sources.references import is_host

from .import_options import AskedImport, AskedRegistry, AskedSource
from .output import UsageProblemError

_REGISTRY_ONLY = ("tls_ca", "plain_http", "authfile", "mirror")
_LARGEST_AUTHORITY = 64 << 20
_PACKED_ONLY = ("manifest", "config")
_LAYERS_ONLY = ("compression", "level", "max_bytes", "max_entries")

_KINDS = {
    SourceKind.OCI_LAYOUT: "an OCI layout",
    SourceKind.OCI_ARCHIVE: "an OCI archive",
    SourceKind.DOCKER_ARCHIVE: "an archive",
    SourceKind.REGISTRY: "an image in a registry",
    SourceKind.PACKED: "a packed file",
}


def read_request(asked: AskedSource) -> ImportRequest:
    """All that was typed but for the format. Raises UsageProblemError, SourceError where there is no such path."""
    kind = recognise(asked.source).kind
    _refuse_others(asked, kind)
    if (platform := asked.platform) is not None:
        _as_usage(lambda: parse_platform(platform))
    if asked.tls_ca is not None:
        _check_authority(asked.tls_ca)
    if (authfile := asked.authfile) is not None:
        _as_usage(lambda: read_config(home_path(authfile)))
    if asked.mirror is not None and not is_host(asked.mirror):
        raise UsageProblemError(f"--mirror {asked.mirror} is not a host", hint="write it as HOST[:PORT]")
    return ImportRequest(**{name: value for name, value in asdict(asked).items() if name != "format"})


def registry_access(asked: AskedRegistry) -> SourceOptions:
    """How to ask registries, checked as for an import from one. Raises UsageProblemError."""
    any_image = AskedSource(source="docker://localhost/any", **{name: getattr(asked, name) for name in _REGISTRY_ONLY})
    return read_request(any_image).source_options()


def import_request(asked: AskedImport) -> ImportRequest:
    """What an import is to do. Raises UsageProblemError, InvalidNameError, SourceError where there is no such path."""
    read = read_request(asked)
    if asked.name == "":
        raise UsageProblemError("a name of no characters is none", hint="leave out --name to have the source's own")
    if asked.name:
        ImageName.parse(asked.name)
    return msgspec.structs.replace(read, format=_format(asked))


def packed_files(asked: AskedSource) -> PackedFiles | None:
    """The files of a packed source; None for other sources. Raises SourceError."""
    if recognise(asked.source).kind is not SourceKind.PACKED:
        return None
    format_ = PackedFormat(asked.format) if asked.format else None
    return find_packed_files(asked.source, optional_path(asked.manifest), optional_path(asked.config), format_)


def _format(asked: AskedImport) -> PackedFormat:
    """A packed file's own format, else what was asked for, else the one that the daemon looks for."""
    files = packed_files(asked)
    if files is not None:
        return _packed_format(files)
    format_ = PackedFormat(asked.format or PackedFormat.SQUASHFS)
    _as_usage(lambda: check_choice(format_, asked.compression, asked.level))
    return format_


def _packed_format(files: PackedFiles) -> PackedFormat:
    """What the file is by its magic, where it is anything. Raises SourceError where another format was asked for."""
    try:
        found = check_packed(files.packed).found
    except StorageError:
        found = None
    if found and files.format and found is not files.format:
        raise SourceError(f"{files.packed} is {found} by its magic, not {files.format}")
    return found or files.format or PackedFormat.SQUASHFS


def _refuse_others(asked: AskedSource, kind: SourceKind) -> None:
    """Raises UsageProblemError for what this kind of source would not heed."""
    for fields, wanted, what in (
        (_REGISTRY_ONLY, kind is SourceKind.REGISTRY, "a registry"),
        (_PACKED_ONLY, kind is SourceKind.PACKED, "packed files"),
        (_LAYERS_ONLY, kind is not SourceKind.PACKED, "images that are still to be packed"),
    ):
        given = [field for field in fields if getattr(asked, field, None) not in (None, False)]
        if given and not wanted:
            option = given[0].replace("_", "-")
            raise UsageProblemError(
                f"--{option} is for {what}, and {asked.source} is {_KINDS[kind]}", hint=f"leave out --{option}"
            )
    if kind is not SourceKind.PACKED and asked.format and not isinstance(asked, AskedImport):
        raise UsageProblemError(f"{asked.source} is not packed yet, so it has no format", hint="leave out --format")


def _check_authority(path: str) -> None:
    try:
        open_bounded(home_path(path), _LARGEST_AUTHORITY).close()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(home_path(path))
    except OSError as error:  # ssl.SSLError is one
        reason = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageProblemError(f"--tls-ca {path}: {reason}", hint="name a file of certificates in PEM") from error


def _as_usage(check: Callable[[], object]) -> None:
    """What the library refuses of the options is a mistake in the command line."""
    try:
        check()
    except CacheError as error:
        raise UsageProblemError(error.message, hint=error.hint) from error
