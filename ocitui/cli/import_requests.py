"""What was typed for an import, checked before anything is asked or written, as the importing library takes it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from ocitui.cache import CacheError, ImageName, PackedFormat, StorageError
from ocitui.cache.files import known_format, open_bounded
from ocitui.cache.packed_file import check_packed
from ocitui.importing.errors import SourceError
from ocitui.importing.packing.packing import check_choice
from ocitui.importing.registry.auth import read_config
from ocitui.importing.requests import ImportRequest
from ocitui.importing.sources.images import SourceKind, parse_platform
from ocitui.importing.sources.opening import home_path, recognise
from ocitui.importing.sources.references import is_host

from .output import UsageProblemError

REGISTRY_ONLY = ("tls_ca", "plain_http", "authfile", "mirror")
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


def read_request(*, format: str | None = None, **typed: Any) -> ImportRequest:
    """What was typed of a source; its ``format`` is that of packed files only, and is not among what this gives.

    Raises UsageProblemError, SourceError where there is no such path.
    """
    request = ImportRequest(**typed)
    kind = recognise(request.source).kind
    _refuse_others(request, kind)
    if format and kind is not SourceKind.PACKED:
        raise UsageProblemError(f"{request.source} is not packed yet, so it has no format", hint="leave out --format")
    with _as_usage():
        if request.platform is not None:
            parse_platform(request.platform)
    if request.tls_ca is not None:
        _check_authority(request.tls_ca)
    with _as_usage():
        if request.authfile is not None:
            read_config(home_path(request.authfile))
    if request.mirror is not None and not is_host(request.mirror):
        raise UsageProblemError(f"--mirror {request.mirror} is not a host", hint="write it as HOST[:PORT]")
    return request


def import_request(*, format: str | None = None, **typed: Any) -> ImportRequest:
    """What an import is to do. Raises UsageProblemError, InvalidNameError, SourceError where there is no such path."""
    request = read_request(**typed)
    if request.name == "":
        raise UsageProblemError("a name of no characters is none", hint="leave out --name to have the source's own")
    if request.name:
        ImageName.parse(request.name)
    return msgspec.structs.replace(request, format=_format(request, known_format(format)))


def _format(request: ImportRequest, asked: PackedFormat | None) -> PackedFormat:
    """What a packed file is by its magic or name, else what was asked for, else the one that the daemon looks for.

    Raises SourceError where a packed file is of another format, UsageProblemError for a choice that there is not.
    """
    if recognise(request.source).kind is not SourceKind.PACKED:
        format_ = asked or PackedFormat.SQUASHFS
        with _as_usage():
            check_choice(format_, request.compression, request.level)
        return format_
    files, found = request.packed_files(asked), None
    with suppress(StorageError):
        found = check_packed(files.packed).found
    if found and files.format and found is not files.format:
        raise SourceError(f"{files.packed} is {found} by its magic, not {files.format}")
    return found or files.format or PackedFormat.SQUASHFS


def _refuse_others(request: ImportRequest, kind: SourceKind) -> None:
    """Raises UsageProblemError for what this kind of source would not heed."""
    for fields, wanted, what in (
        (REGISTRY_ONLY, kind is SourceKind.REGISTRY, "a registry"),
        (_PACKED_ONLY, kind is SourceKind.PACKED, "packed files"),
        (_LAYERS_ONLY, kind is not SourceKind.PACKED, "images that are still to be packed"),
    ):
        given = [field for field in fields if getattr(request, field) not in (None, False)]
        if given and not wanted:
            option = given[0].replace("_", "-")
            raise UsageProblemError(
                f"--{option} is for {what}, and {request.source} is {_KINDS[kind]}", hint=f"leave out --{option}"
            )


def _check_authority(path: str) -> None:
    try:
        open_bounded(home_path(path), _LARGEST_AUTHORITY).close()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(home_path(path))
    except OSError as error:  # ssl.SSLError is one
        reason = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageProblemError(f"--tls-ca {path}: {reason}", hint="name a file of certificates in PEM") from error


@contextmanager
def _as_usage() -> Iterator[None]:
    """What the library refuses of the options is a mistake in the command line."""
    try:
        yield
    except CacheError as error:
        raise UsageProblemError(error.message, hint=error.hint) from error
