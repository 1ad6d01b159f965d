"""What is kept for an operator from one start to the next: files in TOML below `$XDG_CONFIG_HOME/ocitui`, else
`~/.config/ocitui` (XDG Base Directory Specification). They are written when that is asked for, and never else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ocitui.cache import read_bounded, refuse_inside, storage_errors, write_outside

_LARGEST = 1 << 16  # bytes: a file that is larger is none of ours


def config_path(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the file of that name lies; a relative XDG_CONFIG_HOME is to be ignored."""
    base = environment.get("XDG_CONFIG_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.config")) / "ocitui" / name


def read_config(path: Path) -> dict[str, Any]:
    """What such a file says. Raises OSError, FileNotFoundError where there is none; ValueError where it is no TOML."""
    text = read_bounded(path, _LARGEST).decode()
    import tomllib  # few have such a file

    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def write_config(directory: Path, path: Path, values: Mapping[str, Any]) -> None:
    """Write such a file, for its owner alone. Raises StorageError, and ConflictError where it would be in the cache."""
    refuse_inside(directory, path)
    with storage_errors(f"write {path}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Texts, numbers, truths and lists are in TOML what they are in JSON, and so is a key in quotes.
    told = {name if name.isidentifier() else f'"{name}"': msgspec.json.encode(values[name]).decode() for name in values}
    lines = (f"{key} = {value}\n" for key, value in told.items())
    write_outside(directory, path, "".join(lines), replace=True, most=0o600)
