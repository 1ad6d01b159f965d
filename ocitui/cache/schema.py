"""The daemon's types for index, manifest and config: the structs of oci-spec 0.6.8, field by field, in their order."""

from __future__ import annotations

from .serde import Boolean, Integer, Map, Optional, Sequence, String, Struct

_string = String()
_strings = Sequence("a sequence", _string)
_string_map = Map("a map", _string)
_maybe_string = Optional(_string)
_maybe_strings = Optional(_strings)
_maybe_string_map = Optional(_string_map)
# A Go map[string]struct{}: every value an object whose content does not matter.
_go_set = Optional(Map("a map", Struct("struct GoMapSerde", {})))

U32 = Integer("u32", 0, 2**32 - 1)
I64 = Integer("i64", -(2**63), 2**63 - 1)

PLATFORM = Struct(
    "struct Platform",
    {
        "architecture": _string,
        "os": _string,
        # Without the dots that OCI writes: what OCI calls os.version is an unknown field to the daemon.
        "os_version": _maybe_string,
        "os_features": _maybe_strings,
        "variant": _maybe_string,
        "features": _maybe_strings,
    },
)
DESCRIPTOR = Struct(
    "struct Descriptor",
    {
        "mediaType": _string,
        "digest": _string,
        "size": I64,
        "urls": _maybe_strings,
        "annotations": _maybe_string_map,
        "platform": Optional(PLATFORM),
        "artifactType": _maybe_string,
        "data": _maybe_string,
    },
)
_maybe_descriptor = Optional(DESCRIPTOR)
IMAGE_INDEX = Struct(
    "struct ImageIndex",
    {
        "schemaVersion": U32,
        "mediaType": _maybe_string,
        "artifactType": _maybe_string,
        "manifests": Sequence("a sequence", DESCRIPTOR),
        "subject": _maybe_descriptor,
        "annotations": _maybe_string_map,
    },
)
IMAGE_MANIFEST = Struct(
    "struct ImageManifest",
    {
        "schemaVersion": U32,
        "mediaType": _maybe_string,
        "artifactType": _maybe_string,
        "config": DESCRIPTOR,
        "layers": Sequence("a sequence", DESCRIPTOR),
        "subject": _maybe_descriptor,
        "annotations": _maybe_string_map,
    },
)
_CONFIG = Struct(
    "struct Config",
    {
        "User": _maybe_string,
        "ExposedPorts": _go_set,
        "Env": _maybe_strings,
        "Entrypoint": _maybe_strings,
        "Cmd": _maybe_strings,
        "Volumes": _go_set,
        "WorkingDir": _maybe_string,
        "Labels": _maybe_string_map,
        "StopSignal": _maybe_string,
    },
)
_ROOTFS = Struct("struct RootFs", {"type": _string, "diff_ids": _strings})
_HISTORY = Struct(
    "struct History",
    {
        "created": _maybe_string,
        "author": _maybe_string,
        "created_by": _maybe_string,
        "comment": _maybe_string,
        "empty_layer": Optional(Boolean()),
    },
)
IMAGE_CONFIGURATION = Struct(
    "struct ImageConfiguration",
    {
        "created": _maybe_string,
        "author": _maybe_string,
        "architecture": _string,
        "os": _string,
        "os.version": _maybe_string,
        "os.features": _maybe_strings,
        "variant": _maybe_string,
        "config": Optional(_CONFIG),
        "rootfs": _ROOTFS,
        "history": Sequence("a sequence", _HISTORY),
    },
)
