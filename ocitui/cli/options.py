"""Options that several commands share, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from ocitui.directory import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE, default_directory

P = ParamSpec("P")
F = Callable[..., Any]

# The cache's own names for these are a heavy import; a test holds them together.
FORMATS = ("squashfs", "erofs", "tar")
THEMES = ("dark", "light", "ansi")


@dataclass(frozen=True, slots=True)
class Settings:
    """What every command works on. ``as_json`` asks for one JSON document; ``wait`` is seconds to wait for the lock."""

    directory: Path
    as_json: bool = False
    read_only: bool = False
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Given:
    """Options as they were typed, before or after the command's name; None where they were not."""

    directory: Path | None = None
    as_json: bool = False
    read_only: bool = False
    wait: float | None = None

    def over(self, earlier: Given) -> Given:
        """These options, with those typed earlier where these say nothing."""
        return replace(
            earlier,
            directory=self.directory or earlier.directory,
            as_json=self.as_json or earlier.as_json,
            read_only=self.read_only or earlier.read_only,
            wait=earlier.wait if self.wait is None else self.wait,
        )

    @property
    def settings(self) -> Settings:
        return Settings(self.directory or default_directory(), self.as_json, self.read_only, self.wait or 0.0)


directory_option = click.option(
    "-C",
    "directory",
    metavar="DIR",
    # Whether it can be read is the core's to say: it knows why, and what the status is.
    type=click.Path(path_type=Path, readable=False),
    help=f"The cache directory [default: {DIRECTORY_VARIABLE}, else {DEFAULT_DIRECTORY}].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
read_only_option = click.option("--read-only", is_flag=True, help="Refuse whatever would write.")
# For those who always type it: a command that only reads has nothing to refuse.
_read_only_anyway_option = click.option("--read-only", is_flag=True, hidden=True)
wait_option = click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=86_400),
    help="Wait for the lock of another ocitui [default: 0].",
)
format_option = click.option(
    "--format", "format_", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="The packed format."
)
yes_option = click.option("--yes", "agreed", is_flag=True, help="Do it without asking.")


def reading(function: Callable[Concatenate[Settings, P], int]) -> F:
    """Give a command -C and --json, and the function its Settings."""
    return directory_option(json_option(_read_only_anyway_option(_with_settings(function))))


def writing(function: Callable[Concatenate[Settings, P], int]) -> F:
    """Give a command that writes --read-only and --wait besides."""
    return directory_option(json_option(read_only_option(wait_option(_with_settings(function)))))


def _with_settings(function: Callable[Concatenate[Settings, P], int]) -> F:
    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> int:
        from .failures import reported

        settings = _take_settings(kwargs)
        return reported(settings, lambda: function(settings, *args, **kwargs))

    return command


def _take_settings(options: dict[str, Any]) -> Settings:
    """The settings that the shared options come to; they are taken out of ``options``."""
    typed = {name: options.pop(name) for name in ("directory", "as_json", "read_only", "wait") if name in options}
    earlier = click.get_current_context().find_object(Given) or Given()
    return Given(**typed).over(earlier).settings
