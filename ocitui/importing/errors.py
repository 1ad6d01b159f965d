"""What keeps an image from being imported::

CacheError
├── SourceError                 the source cannot be read, or is not sound
│   ├── UnsupportedSourceError  a kind of source that this version does not import
│   ├── InvalidReferenceError   what is typed is no image in a registry
│   ├── UnreadableSourceError   the path, or a file of it, cannot be read
│   ├── UnsoundSourceError      its bytes are not what its documents say
│   ├── NoSuchImageError        it holds no image of that name or platform
│   ├── UnsupportedImageError   an image that the daemon could not use, or that cannot be packed
│   ├── CredentialsError        the files that hold credentials cannot be used
│   └── RegistryError           the registry does not answer as one does
│       ├── DeniedError         it wants other credentials
│       ├── UnknownRealmError   it wants them sent to another host, which nobody agreed to
│       └── TransferError       the connection, or what came by it, is broken
├── NamedOtherwiseError         the cache has the same digest and format under another name
├── RepointsNameError           the name stands for another image now
├── NoRoomError                 the cache's file system is too full for it
├── LayerError                  a layer is not sound
│   ├── LayerDigestError        its bytes are not those the image names
│   └── LayerLimitError         it goes beyond a limit that keeps this machine safe
├── PackerError                 the packer failed
│   ├── MissingToolError        the packer is not installed
│   └── ReadBackError           what it packed is not what the layers hold
└── WorkerError                 the process that unpacks layers ended before its work
"""

from __future__ import annotations

from ocitui.cache import CacheError
from ocitui.contents import TarError, TarLimitError
from ocitui.text import printable


class SourceError(CacheError):
    code = "source"
    default_hint = "nothing was imported; ocitui inspect shows all that is known of a source"


class UnsupportedSourceError(SourceError):
    code = "unsupported-source"
    default_hint = "give packed:FILE, a squashfs, erofs or tar with its manifest and config beside it"


class NamedOtherwiseError(CacheError):
    code = "named-otherwise"
    default_hint = "give --rename to let the new name take the entry over"


class RepointsNameError(CacheError):
    code = "repoints-name"
    default_hint = "give --yes to let the name stand for the new image, or another one with --name"


class NoRoomError(CacheError):
    code = "no-room"
    default_hint = "free some room first: the daemon's next store would truncate its index on a full disk"


class InvalidReferenceError(SourceError):
    code = "invalid-reference"
    default_hint = "write it as [HOST[:PORT]/]NAME[:TAG][@DIGEST], the name in lower case"


class UnreadableSourceError(SourceError):
    code = "unreadable-source"
    default_hint = "see that the path is right and the file whole"


class UnsoundSourceError(SourceError):
    code = "unsound-source"
    default_hint = "nothing was imported; get the image again from where it came"


class NoSuchImageError(SourceError):
    code = "no-such-image"
    default_hint = "ocitui inspect SOURCE shows what there is"


class UnsupportedImageError(SourceError):
    code = "unsupported-image"
    default_hint = "build it again, with docker buildx or buildah: no copy changes what this is"


class CredentialsError(SourceError):
    code = "credentials"
    default_hint = "see what --authfile, REGISTRY_AUTH_FILE and DOCKER_CONFIG name"


class RegistryError(SourceError):
    code = "registry"
    default_hint = "see that the name's host is a registry"


class DeniedError(RegistryError):
    code = "denied"
    default_hint = "log in with skopeo login, name the credentials with --authfile, or import it with --login"


class UnknownRealmError(RegistryError):
    """``registry`` and ``realm`` are hosts, with a port where one is named."""

    code = "unknown-realm"

    def __init__(self, registry: str, realm: str) -> None:
        hint = "where that host is known to give its tokens, agree to it once, in an import with --allow-realm"
        super().__init__(f"{registry} wants its login sent to {realm}, which nobody agreed to yet", hint=hint)
        self.registry, self.realm = registry, realm


class TransferError(RegistryError):
    code = "transfer"
    default_hint = "try again: what was downloaded is kept, and the next pull goes on from there"


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

    def placed(self, *, layer: int = 0, entry: bytes | None = None) -> LayerError:
        """The same error, naming its layer or entry as well."""
        entry = self.entry if entry is None else entry
        return type(self)(self.reason, layer=layer or self.layer, entry=entry, hint=self.hint)

    @staticmethod
    def of(error: TarError) -> LayerError:
        """What is wrong with a tar, as an error of the layer that it is."""
        if not isinstance(error, TarLimitError):
            return LayerError(error.reason, entry=error.entry)
        hint = raised_with("--max-bytes") if error.raisable else ""
        return LayerLimitError(error.reason, entry=error.entry, hint=hint)


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


class ReadBackError(PackerError):
    code = "read-back"
    default_hint = "nothing was stored; see whether disk and memory are sound, then try again or choose another format"


class WorkerError(CacheError):
    code = "worker"
    default_hint = "nothing was packed; see whether the machine ran out of memory, then try again"


def raised_with(option: str) -> str:
    """What to do about a limit that an option raises."""
    return f"nothing was packed; where the image is trusted, {option} raises the limit"
