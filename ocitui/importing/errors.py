"""What keeps an image from being imported::

CacheError
├── SourceError                 the source cannot be read, or is not sound
│   └── UnsupportedSourceError  a kind of source that this version does not import
├── NamedOtherwiseError         the cache has the same digest and format under another name
└── NoRoomError                 the cache's file system is too full for it
"""

from __future__ import annotations

from ocitui.cache import CacheError


class SourceError(CacheError):
    code = "source"
    default_hint = "nothing was imported; ocitui inspect shows all that is known of a source"


class UnsupportedSourceError(SourceError):
    code = "unsupported-source"
    default_hint = "give packed:FILE, a squashfs, erofs or tar with its manifest and config beside it"


class NamedOtherwiseError(CacheError):
    code = "named-otherwise"
    default_hint = "give --rename to let the new name take the entry over"


class NoRoomError(CacheError):
    code = "no-room"
    default_hint = "free some room first: the daemon's next store would truncate its index on a full disk"
