"""What the host knows beside the cache: its daemon, its loop devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocitui.front import front

if TYPE_CHECKING:
    from .daemon import DaemonState as DaemonState
    from .daemon import daemon_socket as daemon_socket
    from .daemon import find_daemon as find_daemon
    from .daemon import is_daemon as is_daemon
    from .loop_devices import LoopUse as LoopUse
    from .loop_devices import read_back as read_back
    from .loop_devices import users_by_name as users_by_name
    from .loop_devices import users_of as users_of
    from .loop_devices import users_of_any as users_of_any

__getattr__, __dir__, __all__ = front(
    __name__,
    {
        "daemon": "DaemonState daemon_socket find_daemon is_daemon",
        "loop_devices": "LoopUse read_back users_by_name users_of users_of_any",
    },
)
