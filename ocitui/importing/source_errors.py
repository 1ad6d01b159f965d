"""What is wrong with an image's source, as a tree below `SourceError`::

SourceError
├── InvalidReferenceError     not a reference to an image in a registry
├── UnreadableSourceError     a file or directory that is not there, cut, or not of its kind
├── UnsoundSourceError        what is there is not what its digest, size or document says
├── NoSuchImageError          no image of that name, digest or platform
├── UnsupportedImageError     an image or document of a kind that cannot be imported
├── CredentialsError          a file of credentials or its helper program fails
└── RegistryError             a registry refuses, or does not speak its protocol
    ├── DeniedError           it wants other credentials than there are
    └── TransferError         it cannot be reached, or breaks off, after all tries
"""

from __future__ import annotations

from .errors import SourceError


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
    default_hint = "make it again as an OCI image, with skopeo copy or docker buildx"


class CredentialsError(SourceError):
    code = "credentials"
    default_hint = "see what --authfile, REGISTRY_AUTH_FILE and DOCKER_CONFIG name"


class RegistryError(SourceError):
    code = "registry"
    default_hint = "see that the name's host is a registry"


class DeniedError(RegistryError):
    code = "denied"
    default_hint = "log in with skopeo login or docker login, or name the credentials with --authfile"


class TransferError(RegistryError):
    code = "transfer"
    default_hint = "try again: what was downloaded is kept, and the next pull goes on from there"
