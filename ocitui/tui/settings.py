"""How the screen is to look, as it was kept from an earlier start: theme, layout, sort, the colour of the host's name.

They lie in `ocitui/settings.toml` below `$XDG_CONFIG_HOME`, else `~/.config` (XDG Base Directory Specification). The
file is written when an operator asks for it, and never else.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from pathlib import Path

import msgspec

from ocitui.cache import read_bounded

from .terminal import HOST_COLOURS, THEMES
from .widgets.entry_rows import BY_NAME

LAYOUTS = ("split", "table", "pane")
_LARGEST, _TOLD = 1 << 16, 5
"""Bytes: a file that is larger is none of ours."""


class ScreenSettings(msgspec.Struct):
    """``split`` and ``wide_split`` are the table's share of the room in percent, with the pane below and beside it;
    ``sort`` is a column, empty for the order of the index. Each has a value that is used without a file."""

    theme: str = ""
    layout: str = "split"
    split: int = 50
    wide_split: int = 61
    sort: str = ""
    reverse: bool = False
    host_colour: str = "blue"


_ALLOWED: dict[str, Container[object]] = {
    "theme": ("", *THEMES),
    "layout": LAYOUTS,
    "split": range(20, 81),
    "wide_split": range(20, 81),
    "sort": ("", *BY_NAME),
    "reverse": (False, True),
    "host_colour": tuple(HOST_COLOURS),
}


def settings_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where they lie; a relative XDG_CONFIG_HOME is to be ignored."""
    base = environment.get("XDG_CONFIG_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.config")) / "ocitui" / "settings.toml"


def read_settings(path: Path) -> tuple[ScreenSettings, str]:
    """What is kept there, and what is wrong with it; what is not understood counts as not said."""
    settings, odd = ScreenSettings(), list[str]()
    try:
        text = read_bounded(path, _LARGEST).decode()
        import tomllib  # few have such a file

        kept = tomllib.loads(text)
    except FileNotFoundError:
        return settings, ""
    except (OSError, ValueError, RecursionError) as error:
        return settings, f"{path} is not read: {getattr(error, 'strerror', None) or error}"
    for name, value in kept.items():
        if name in _ALLOWED and type(value) is type(getattr(settings, name)) and value in _ALLOWED[name]:
            setattr(settings, name, value)
        else:
            odd.append(name)
    return settings, f"{path}: not understood: {', '.join(odd[:_TOLD])}" if odd else ""


def keep_settings(directory: Path, path: Path, settings: ScreenSettings) -> None:
    """Write them. Raises StorageError, and ConflictError where the file would lie in the cache's ``directory``."""
    from ocitui.cache import refuse_inside, storage_errors, write_outside

    refuse_inside(directory, path)
    with storage_errors(f"write {path}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Texts, numbers and truths are in TOML what they are in JSON.
    lines = (
        f"{name} = {msgspec.json.encode(value).decode()}" for name, value in msgspec.structs.asdict(settings).items()
    )
    write_outside(directory, path, "\n".join([*lines, ""]), replace=True)
