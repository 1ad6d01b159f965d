"""What goes to the process that flattens, and what comes back: one line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ocitui.cache import CacheError, PackedFormat, StorageError

from ..errors import LayerDigestError, LayerError, LayerLimitError, MissingToolError, PackerError, WorkerError
from ..layers.layers import LayerLimits, LayerSource
from .packer_base import PackOptions


class Phase(StrEnum):
    READ = "read"
    """Layers are read and checked; ``total`` is the size of their files."""
    WRITE = "write"
    """Files go to the packer; ``total`` is the tar's size."""
    FINISH = "finish"
    """The packer has all and does what is left; there is no telling how long."""


@dataclass(frozen=True, slots=True)
class FlattenProgress:
    """How far it is: bytes and files of this phase; ``layer`` counts from 1, ``files_total`` is 0 where not known."""

    phase: Phase
    layer: int
    layers: int
    done: int
    total: int
    files: int
    files_total: int


@dataclass(frozen=True, slots=True)
class PackedResult:
    """A packed file, on the disk. ``warnings`` are what could not be kept; ``diff_ids`` are as found."""

    path: Path
    format: PackedFormat
    size: int
    tar_size: int
    entries: int
    files: int
    diff_ids: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlattenOptions:
    """How much the layers may ask for, and how they are packed."""

    limits: LayerLimits = field(default_factory=LayerLimits)
    packing: PackOptions = field(default_factory=PackOptions)


@dataclass(frozen=True, slots=True)
class FlattenRequest:
    layers: tuple[LayerSource, ...]
    output: Path
    format: PackedFormat
    options: FlattenOptions = field(default_factory=FlattenOptions)


_ERRORS: dict[str, type[CacheError]] = {
    error.code: error for error in (PackerError, MissingToolError, StorageError, WorkerError)
}
_LAYER_ERRORS: dict[str, type[LayerError]] = {
    error.code: error for error in (LayerError, LayerDigestError, LayerLimitError)
}


def encode_request(request: FlattenRequest) -> bytes:
    return _line(asdict(request))


def decode_request(line: bytes) -> FlattenRequest:
    said = json.loads(line)
    options = said["options"]
    return FlattenRequest(
        layers=tuple(LayerSource(**{**layer, "path": Path(layer["path"])}) for layer in said["layers"]),
        output=Path(said["output"]),
        format=PackedFormat(said["format"]),
        options=FlattenOptions(LayerLimits(**options["limits"]), PackOptions(**options["packing"])),
    )


def encode_answer(answer: FlattenProgress | PackedResult | CacheError) -> bytes:
    if isinstance(answer, FlattenProgress):
        return _line({"progress": asdict(answer)})
    if isinstance(answer, PackedResult):
        return _line({"result": asdict(answer)})
    said: dict[str, Any] = {"code": answer.code, "message": answer.message, "hint": answer.hint}
    if isinstance(answer, LayerError):
        entry = None if answer.entry is None else answer.entry.decode("latin-1")
        said |= {"reason": answer.reason, "layer": answer.layer, "entry": entry}
    return _line({"error": said})


def decode_answer(line: bytes) -> FlattenProgress | PackedResult | CacheError:
    """Raises ValueError where the line is something else."""
    said = json.loads(line)
    if "progress" in said:
        return FlattenProgress(**{**said["progress"], "phase": Phase(said["progress"]["phase"])})
    if "result" in said:
        return _result(said["result"])
    return _error(said["error"])


def _result(said: dict[str, Any]) -> PackedResult:
    changed = {
        "path": Path(said["path"]),
        "format": PackedFormat(said["format"]),
        "diff_ids": tuple(said["diff_ids"]),
        "warnings": tuple(said["warnings"]),
    }
    return PackedResult(**{**said, **changed})


def _error(said: dict[str, Any]) -> CacheError:
    layer_error = _LAYER_ERRORS.get(said["code"])
    if layer_error is not None:
        entry = None if said["entry"] is None else said["entry"].encode("latin-1")
        return layer_error(said["reason"], layer=said["layer"], entry=entry, hint=said["hint"])
    return _ERRORS.get(said["code"], WorkerError)(said["message"], hint=said["hint"])


def _line(value: dict[str, Any]) -> bytes:
    """In ASCII, so that paths that are not UTF-8 pass as the surrogates they are."""
    return json.dumps(value, default=str).encode("ascii") + b"\n"
