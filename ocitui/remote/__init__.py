"""Other hosts: the way there by plain `ssh`, what is read of their caches, and many of them side by side."""

from __future__ import annotations

from ocitui.front import front

with front(__name__):
    from .cache_tar import ExportedEntry as ExportedEntry
    from .cache_tar import entries_to_export as entries_to_export
    from .cache_tar import pull_entries as pull_entries
    from .cache_tar import receive_cache_tar as receive_cache_tar
    from .cache_tar import write_cache_tar as write_cache_tar
    from .far_files import FarFiles as FarFiles
    from .fleet import FleetRow as FleetRow
    from .fleet import FleetStanding as FleetStanding
    from .fleet import read_inventory as read_inventory
    from .fleet import survey as survey
    from .mirror import HostMirror as HostMirror
    from .mirror import SshPeers as SshPeers
    from .oci_image import ExportedImage as ExportedImage
    from .oci_image import is_layout_there as is_layout_there
    from .oci_image import write_image_tar as write_image_tar
    from .oci_image import write_layout as write_layout
    from .ssh import SshPlace as SshPlace
