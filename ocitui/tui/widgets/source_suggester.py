"""Completing a source: its kind, and the path behind it."""

from __future__ import annotations

import asyncio
import os

from textual.suggester import Suggester

_FILE_PREFIXES = ("oci:", "oci-archive:", "docker-archive:", "packed:")
_PREFIXES = (*_FILE_PREFIXES, "docker://")


class PathSuggester(Suggester):
    """Completes a path from what is on disk; ``sources`` allows a kind of source before it."""

    def __init__(self, *, sources: bool = False) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._sources = sources

    async def get_suggestion(self, value: str) -> str | None:
        if not self._sources:
            return await asyncio.to_thread(complete_path, value)
        return await asyncio.to_thread(complete_source, value)


def complete_source(value: str) -> str | None:
    """The first source that goes on from ``value``; None where there is none, or only a registry knows."""
    prefix = next((prefix for prefix in _FILE_PREFIXES if value.startswith(prefix)), "")
    found = complete_path(value.removeprefix(prefix))
    if found is not None:
        return prefix + found
    return next((known for known in _PREFIXES if value and not prefix and known.startswith(value)), None)


def complete_path(value: str) -> str | None:
    """The first path that goes on from ``value``, a directory with its slash; None where there is none."""
    folder, slash, start = value.rpartition("/")
    place = os.path.expanduser(f"{folder}/") if slash else "."
    try:
        names = sorted(name for name in os.listdir(place) if start and name.startswith(start))
    except OSError:
        return None
    if not names:
        return None
    end = "/" if os.path.isdir(os.path.join(place, names[0])) else ""
    found = f"{folder}{slash}{names[0]}{end}"
    return found if found != value else None
