"""What keeps layers from becoming a packed file::

CacheError
├── LayerError              a layer is not sound, or holds what no packed file can
│   ├── LayerDigestError    a layer's bytes are not those that its digest, diff_id or size names
│   └── LayerLimitError     a layer goes beyond one of `LayerLimits`
├── PackerError             a packer failed, or lost something
│   └── MissingToolError    a packer is not installed, or is too old
└── WorkerError             the process that flattens ended without an answer
"""

from __future__ import annotations

from ocitui.cache import CacheError


class LayerError(CacheError):
    """``layer`` counts from 1 (0 where it is not known), ``entry`` is the entry's name as the layer spells it."""

    code = "layer"
    default_hint = "nothing was packed; the image has to be made or fetched again"

    def __init__(self, reason: str, *, layer: int = 0, entry: bytes | None = None, hint: str = "") -> None:
        place = [f"layer {layer}"] if layer else []
        place += [printable(entry)] if entry is not None else []
        super().__init__(f"{', '.join(place)}: {reason}" if place else reason, hint=hint)
        self.reason = reason
        self.layer = layer
        self.entry = entry

    def within(self, layer: int) -> LayerError:
        """The same error, naming its layer."""
        return type(self)(self.reason, layer=layer, entry=self.entry, hint=self.hint)


class LayerDigestError(LayerError):
    code = "layer-digest"
    default_hint = "nothing was packed; fetch the layer again, its bytes are not the image's"


class LayerLimitError(LayerError):
    code = "layer-limit"
    default_hint = "nothing was packed; no sound image comes near this limit, which is fixed"


class PackerError(CacheError):
    code = "packer"
    default_hint = "nothing was packed; another format may work"


class MissingToolError(PackerError):
    code = "missing-tool"
    default_hint = "install it, or choose another format"


class WorkerError(CacheError):
    code = "worker"
    default_hint = "nothing was packed; see whether the machine ran out of memory, then try again"


def raised_with(option: str) -> str:
    """What to do about a limit that an option raises."""
    return f"nothing was packed; where the image is trusted, {option} raises the limit"


def printable(name: bytes) -> str:
    """A name out of a layer, fit for a message: escaped, and cut where it is very long."""
    shown = repr(name.decode("utf-8", "backslashreplace"))
    return shown if len(shown) <= 300 else f"{shown[:200]}...{shown[-60:]}"
