"""How the screen is to look, as it was kept from an earlier start: theme, layout, sort, colour of the host's name."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from pathlib import Path

import msgspec

from ocitui.host import config_path, read_config, write_config

from .terminal import HOST_COLOURS, THEMES
from .widgets.entry_columns import BY_NAME

LAYOUTS = ("split", "table", "pane")
_TOLD = 5


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
    """Where they lie."""
    return config_path("settings.toml", environment)


def read_settings(path: Path) -> tuple[ScreenSettings, str]:
    """What is kept there, and what is wrong with it; what is not understood counts as not said."""
    settings, odd = ScreenSettings(), list[str]()
    try:
        kept = read_config(path)
    except FileNotFoundError:
        return settings, ""
    except (OSError, ValueError) as error:
        return settings, f"{path} is not read: {getattr(error, 'strerror', None) or error}"
    for name, value in kept.items():
        if name in _ALLOWED and type(value) is type(getattr(settings, name)) and value in _ALLOWED[name]:
            setattr(settings, name, value)
        else:
            odd.append(name)
    return settings, f"{path}: not understood: {', '.join(odd[:_TOLD])}" if odd else ""


def keep_settings(directory: Path, path: Path, settings: ScreenSettings) -> None:
    """Write them. Raises StorageError, and ConflictError where the file would lie in the cache's ``directory``."""
    write_config(directory, path, msgspec.structs.asdict(settings))
