"""`ocitui units`: what has systemd check the cache and make room in it, printed or installed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import click

from ocitui.cache import StorageError

from ..options import agreeing
from ..output import Call, ExitCode, UsageProblemError

_SYSTEM = Path("/etc/systemd/system")
_PARTS = ("service", "timer")
_MOST_BYTES = 1 << 20
# What systemd reads as it stands: no quotes, no specifiers, no variables, no word's end.
_PLAIN = re.compile(r"/[\w./+@:,=~-]*", re.ASCII)


@click.command("units")
@click.option(
    "--policy",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Prune too, by the rules in this file (ocitui help room).",
)
@click.option(
    "--prometheus",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Have each check write its metrics there.",
)
@click.option("--install", is_flag=True, help="Write them, after a question.")
@click.option("--into", metavar="DIR", type=click.Path(path_type=Path), default=_SYSTEM, help="Where they go.")
@agreeing
def units_command(call: Call, policy: Path | None, prometheus: Path | None, install: bool, into: Path) -> ExitCode:
    """Print units for systemd: a nightly check that reads every file once a month, and with --policy a daily prune.

    With --install they are written to /etc/systemd/system, and what is to be run then is said; nothing is started.
    Where a unit is there already and is another, what changes is shown, and it is replaced only after the question, or
    with --yes. What is to be otherwise on a host belongs into a drop-in: systemctl edit ocitui-scrub.service.

    The units run as root, at idle priority, without a network, and can write only to the cache, to /tmp and to where
    the metrics are.
    """
    call.refuse_told("have systemd check the cache")
    if policy is not None:
        from ocitui.doctor import read_policy

        read_policy(policy)
    units = [_unit(into, name, text) for name, text in _texts(call.directory, policy, prometheus)]
    changing = [unit for unit in units if unit.there != unit.text]
    if not install:
        call.answer(partial(_told, into, units), _shown(units))
        return ExitCode.CLEAN
    if changing:
        replaced = sum(unit.there is not None for unit in changing)
        question = f"write them, {replaced} over what is there?" if replaced else "write them?"
        call.agree(_plan(units), question, partial(_told, into, units))
        _write(call, changing)
    call.answer(partial(_told, into, units, written=changing), _done(units, changing))
    return ExitCode.CLEAN


class Unit(NamedTuple):
    """A unit's file, what is to be in it, and what is there, None for nothing."""

    path: Path
    text: str
    there: str | None

    @property
    def state(self) -> str:
        if self.there is None:
            return "new"
        return "same" if self.there == self.text else "changed"


def _texts(directory: Path, policy: Path | None, metrics: Path | None) -> Iterator[tuple[str, str]]:
    """Each unit's name and text. Raises UsageProblemError where a path cannot stand in one."""
    cache = _plain(directory)
    writable = [f"-{cache}"] + ([f"-{_plain(metrics.parent)}"] if metrics else [])
    shipped = files("ocitui") / "deploy"
    given = {
        "SANDBOX": (shipped / "sandbox.conf").read_text(encoding="utf-8").rstrip(),
        "PROGRAM": _program(),
        "CACHE": cache,
        "WRITABLE": " ".join(writable),
        "METRICS": f"--prometheus {_plain(metrics)}" if metrics else "",
        "POLICY": _plain(policy) if policy else "",
    }
    for work in ("scrub", "prune") if policy else ("scrub",):
        for part in _PARTS:
            name = f"ocitui-{work}.{part}"
            text = (shipped / name).read_text(encoding="utf-8")
            for word, value in given.items():
                text = text.replace(f"@{word}@", value)
            yield name, re.sub(r" +$", "", text, flags=re.MULTILINE)


def _plain(path: Path) -> str:
    found = os.path.abspath(path)
    if not _PLAIN.fullmatch(found):
        raise UsageProblemError(f"a unit cannot hold the path {found}", hint="use one of plain letters and digits")
    return found


def _program() -> str:
    """What runs this very ocitui, as which it was started."""
    started = Path(sys.argv[0])
    return _plain(started) if started.name == "ocitui" else f"{_plain(Path(sys.executable))} -m ocitui"


def _unit(into: Path, name: str, text: str) -> Unit:
    """Raises StorageError where something is there that cannot be read."""
    from ocitui.cache import read_bounded

    path = into / name
    try:
        there: str | None = read_bounded(path, _MOST_BYTES).decode("utf-8", "backslashreplace")
    except FileNotFoundError:
        there = None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", hint="move it aside") from error
    return Unit(path, text, there)


def _write(call: Call, units: Sequence[Unit]) -> None:
    from ocitui.cache import write_outside

    for unit in units:
        write_outside(call.directory, unit.path, unit.text, replace=unit.there is not None)


def _shown(units: Sequence[Unit]) -> Iterator[str]:
    for unit in units:
        yield f"# {unit.path}"
        yield from unit.text.splitlines()
        yield ""
    yield from (f"# {unit.state:<8} {unit.path}" for unit in units)
    yield "# ocitui units with --install writes them, after a question"


def _plan(units: Sequence[Unit]) -> Iterator[str]:
    for unit in units:
        yield f"{unit.state:<8} {unit.path}"
        if unit.there is not None and unit.state == "changed":
            yield from unified_diff(unit.there.splitlines(), unit.text.splitlines(), "there", "new", lineterm="")
    program = _program().partition(" ")[0]
    if _is_others(Path(program)):
        yield f"note: root would run {program}, which belongs to another user"


def _is_others(program: Path) -> bool:
    """Whether somebody else than root could have a unit run what he likes."""
    found = program.resolve()
    return any(one.exists() and one.stat().st_uid != 0 for one in (found, *found.parents))


def _done(units: Sequence[Unit], written: Sequence[Unit]) -> Iterator[str]:
    yield f"wrote {', '.join(unit.path.name for unit in written)}" if written else "all of them are there as they are"
    yield from _next(units)


def _next(units: Sequence[Unit]) -> list[str]:
    """What is to be run then."""
    timers = " ".join(unit.path.name for unit in units if unit.path.suffix == ".timer")
    return ["systemctl daemon-reload", f"systemctl enable --now {timers}"]


def _told(into: Path, units: Sequence[Unit], written: Sequence[Unit] = ()) -> dict[str, Any]:
    return {
        "directory": str(into),
        "units": [{"name": unit.path.name, "state": unit.state, "text": unit.text} for unit in units],
        "written": [unit.path.name for unit in written],
        "run": _next(units),
    }
