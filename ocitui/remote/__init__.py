"""Other hosts: the way there by plain `ssh`, what is read of their caches, and many of them side by side."""

from __future__ import annotations

from ocitui.front import front

with front(__name__):
    from .arrival import receive_cache_tar as receive_cache_tar
    from .cache_tar import ExportedEntry as ExportedEntry
    from .cache_tar import ExportError as ExportError
    from .cache_tar import entries_to_export as entries_to_export
    from .cache_tar import write_cache_tar as write_cache_tar
    from .ssh import MARKER as MARKER
    from .ssh import Connection as Connection
    from .ssh import FarAnswerError as FarAnswerError
    from .ssh import HostKeyError as HostKeyError
    from .ssh import HostSilentError as HostSilentError
    from .ssh import InvalidPlaceError as InvalidPlaceError
    from .ssh import LoginRefusedError as LoginRefusedError
    from .ssh import LostConnectionError as LostConnectionError
    from .ssh import NoPythonError as NoPythonError
    from .ssh import Patience as Patience
    from .ssh import Place as Place
    from .ssh import RemoteError as RemoteError
    from .ssh import SudoRefusedError as SudoRefusedError
    from .ssh import UnreachableError as UnreachableError
