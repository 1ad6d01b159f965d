"""Options that several commands share, and what they come to."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias

import click

from ocitui.directory import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE
from ocitui.text import parse_size

from .settings import Given, Settings

if TYPE_CHECKING:
    Seconds: TypeAlias = click.ParamType[float]
    Number: TypeAlias = click.ParamType[int]
else:
    Seconds = Number = click.ParamType  # not generic before click 8.4


P = ParamSpec("P")
F = Callable[..., Any]
# The doctor's own names for these are a heavy import; a test holds them together.
DEPTHS = ("quick", "header", "deep")
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw]?)", re.ASCII | re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "": 86_400}


class Span(Seconds):
    """Seconds, written as 30d, 12h or 90m; a bare number is days."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _SPAN.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a span of time like 30d or 12h", param, ctx)
        return float(match[1]) * _SECONDS[match[2].lower()]


depth_option = click.option(
    "--depth",
    type=click.Choice(DEPTHS),
    default="header",
    show_default=True,
    help="quick: index, names, documents; header: the packed files' headers too; deep: every byte.",
)


def with_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Gives a command these options, in this order."""

    def give(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return give


# The cache's own names for these are a heavy import; a test holds them together.
FORMATS = ("squashfs", "erofs", "tar")
THEMES = ("dark", "light", "ansi")


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
    "--format", "format_", type=click.Choice(FORMATS), help=f"The packed format [default: {FORMATS[0]}]."
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
        from .output import reported

        settings = _take_settings(kwargs)
        return reported(settings, lambda: function(settings, *args, **kwargs))

    return command


def _take_settings(options: dict[str, Any]) -> Settings:
    """The settings that the shared options come to; they are taken out of ``options``."""
    typed = {name: options.pop(name) for name in ("directory", "as_json", "read_only", "wait") if name in options}
    earlier = click.get_current_context().find_object(Given) or Given()
    return Given(**typed).over(earlier).settings


class ByteSize(Number):
    """Bytes, written as 64G or 1.5T: powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        size = parse_size(str(value))
        if size is None:
            self.fail(f"{value!r} is not a size like 500M or 64G", param, ctx)
        return size
