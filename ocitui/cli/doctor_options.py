"""What can be asked of the doctor, as it is typed. Nothing heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .import_options import ByteSize

if TYPE_CHECKING:
    from typing import TypeAlias

    Seconds: TypeAlias = click.ParamType[float]
else:
    Seconds = click.ParamType  # not generic before click 8.4

F = Callable[..., Any]
# The doctor's own names for these are a heavy import; a test holds them together.
DEPTHS = ("quick", "header", "deep")
SEVERITIES = ("info", "low", "warning", "medium", "high", "critical")
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhdw]?)", re.ASCII | re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "": 86_400}
MOST_JOBS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCheck:
    """A check; ``max_rate`` is in bytes a second, ``older_than`` in seconds."""

    depth: str = "header"
    fail_on: str = "low"
    severity: str | None = None
    show_all: bool = False
    entries: tuple[str, ...] = ()
    jobs: int | None = None
    max_rate: int | None = None
    older_than: float | None = None
    prometheus: Path | None = None
    acknowledge: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    forget_all: bool = False


class Rate(ByteSize):
    """Bytes a second, written as 50M or 50M/s."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return super().convert(value.removesuffix("/s") if isinstance(value, str) else value, param, ctx)


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
jobs_option = click.option(
    "--jobs", metavar="N", type=click.IntRange(1, MOST_JOBS), help="Packed files read at once [default: 2]."
)
rate_option = click.option("--max-rate", metavar="SIZE/s", type=Rate(), help="Read no faster than this, as 50M/s.")

_CHECK_OPTIONS = (
    depth_option,
    click.option(
        "--entry", "entries", metavar="DIGEST|NAME", multiple=True, help="Look only at these entries, repeatable."
    ),
    click.option(
        "--fail-on",
        type=click.Choice(SEVERITIES[1:]),
        default="low",
        show_default=True,
        help="The least severity that makes the exit status 1.",
    ),
    click.option(
        "--severity", type=click.Choice(SEVERITIES), help="Show only what is at least this bad [default: low]."
    ),
    click.option("--all", "show_all", is_flag=True, help="Show everything: info, acknowledged, long lists in full."),
    jobs_option,
    rate_option,
    click.option(
        "--older-than", metavar="SPAN", type=Span(), help="Deep: pass over what was found sound since, as 30d or 12h."
    ),
    click.option(
        "--prometheus",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
        help="Write metrics for node_exporter's textfile collector; - is standard output, in place of the findings.",
    ),
    click.option(
        "--acknowledge",
        metavar="ID",
        multiple=True,
        help="Accept a finding by the id it is shown with; it stays so until it changes. Repeatable.",
    ),
    click.option("--forget", metavar="ID", multiple=True, help="No longer accept this finding, repeatable."),
    click.option("--forget-acknowledged", "forget_all", is_flag=True, help="No longer accept any."),
)


def check_options(function: F) -> F:
    """Give a command the options of a check; their values are fields of AskedCheck."""
    return with_options(function, _CHECK_OPTIONS)


def with_options(function: F, options: tuple[Callable[[F], F], ...]) -> F:
    """Give a command these options, in this order."""
    for option in reversed(options):
        function = option(function)
    return function
