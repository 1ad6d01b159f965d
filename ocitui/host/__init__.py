"""What the host knows beside the cache: daemon, zones, loop devices, programs, and what is kept for its operator."""

from __future__ import annotations

from ocitui.front import front

with front(__name__):
    from .daemon import START_SECONDS as START_SECONDS
    from .daemon import DaemonState as DaemonState
    from .daemon import daemon_seed as daemon_seed
    from .daemon import daemon_socket as daemon_socket
    from .daemon import find_daemon as find_daemon
    from .daemon import is_daemon as is_daemon
    from .loop_devices import Kernel as Kernel
    from .loop_devices import Loops as Loops
    from .loop_devices import LoopUse as LoopUse
    from .loop_devices import read_back as read_back
    from .loop_devices import users_of as users_of
    from .programs import answer_of as answer_of
    from .programs import domains_of as domains_of
    from .programs import find_program as find_program
    from .programs import unit_log as unit_log
    from .xdg import config_path as config_path
    from .xdg import read_config as read_config
    from .xdg import write_config as write_config
    from .zones import Leftover as Leftover
    from .zones import Need as Need
    from .zones import NeedRole as NeedRole
    from .zones import Users as Users
    from .zones import When as When
    from .zones import Zone as Zone
    from .zones import Zones as Zones
    from .zones import check_users as check_users
    from .zones import daemon_leftovers as daemon_leftovers
    from .zones import database_identity as database_identity
    from .zones import find_users as find_users
    from .zones import read_zones as read_zones
    from .zones import zones_in as zones_in
