"""JSON for programs that read line by line: one object a line, each with the keys that every document has."""

from __future__ import annotations

import json
import os
from typing import Any

from .options import Settings
from .output import SCHEMA, complain, say


class JsonLines:
    """Writes objects; each says of what ``type`` it is."""

    def __init__(self, settings: Settings) -> None:
        self._common = {
            "schema": SCHEMA,
            "host": os.uname().nodename,
            "cache": os.path.abspath(settings.directory),
        }

    def write(self, kind: str, /, **keys: Any) -> None:
        # It is ASCII, which `say` leaves as it is.
        say(json.dumps(self._common | {"type": kind} | keys, separators=(",", ":")))

    def fail(self, code: str, message: str, hint: str) -> None:
        """An error, for people on standard error, and as an object."""
        complain(message, hint)
        self.write("error", error={"code": code, "message": message, "hint": hint})
