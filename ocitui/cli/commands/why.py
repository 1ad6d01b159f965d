"""`ocitui why`: from what was typed, link by link, to what the daemon would answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ocitui.cache import PackedFormat, check_directory, known_format

from ..options import FORMATS, noting, registries_options, run_async
from ..output import Call, ExitCode, paragraph
from ..selectors import complete_entry

if TYPE_CHECKING:
    from ocitui.doctor import Chain, Link

_ALL = "all"


@click.command("why")
@click.argument("text", metavar="NAME|DIGEST", shell_complete=complete_entry)
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS, _ALL]),
    help=f"The packed format; all: every one that there is of it [default: {FORMATS[0]}].",
)
@click.option("--ask", is_flag=True, help="Ask the registry too: what the name is there today, and who gets it.")
@registries_options
@noting
def why_command(call: Call, /, text: str, format_: str | None, *, ask: bool, **typed: Any) -> ExitCode:
    """Say why the daemon answers as it does for a name or a digest: every link from it to the answer.

    The chain goes on where the daemon stops, and looks where it does not: at digests, headers and recorded hashes, and
    whether what the image runs is there, executable and of its architecture, which changes no answer.
    DIGEST may be its first digits; each may end with .FORMAT.

    Exits with 0 for a hit, with 1 for a miss, with 4 where the daemon fails, or would lose the index.
    """
    from ocitui.doctor import ask_upstream_of, chain_of

    from ..import_run import check_registry

    access = check_registry(typed, "" if ask else "--ask")
    check_directory(call.directory)
    fallback = None if format_ == _ALL else PackedFormat.SQUASHFS
    chain = run_async(chain_of(call.directory, text, known_format(format_), fallback=fallback))
    if ask:
        chain = run_async(ask_upstream_of(call.directory, chain, access, keep=not call.read_only))
    call.answer(lambda: chain_json(chain), (*call.place(), *chain_lines(chain)))
    return _status(chain)


_MARKS = {"ok": "ok", "bad": "BAD", "unknown": "?"}
_LINK = "  {:<4}{:<19}"


def chain_lines(chain: Chain) -> Iterator[str]:
    """A line or more for each link, then the answers."""
    yield from _links(chain.links)
    if chain.assumed:
        yield from paragraph("from here on as it would be once index.json is mended: ocitui repair", "  ")
    for one in chain.formats:
        yield f"in {one.format}:"
        yield from _links(one.links)
        yield from paragraph(one.text, _LINK.format("=>", "the daemon answers"))


def chain_json(chain: Chain) -> dict[str, Any]:
    """The chain as programs read it."""
    return {
        "typed": chain.typed,
        "name": chain.name or None,
        "digest": chain.digest or None,
        "outcome": chain.outcome.value,
        "assumed": chain.assumed,
        "links": [_link_json(link) for link in chain.links],
        "formats": [
            {
                "format": one.format.value,
                "links": [_link_json(link) for link in one.links],
                "answer": one.answer.value,
                "text": one.text,
                "program": one.program and one.program._asdict(),
            }
            for one in chain.formats
        ],
        "hit": _status(chain) is ExitCode.CLEAN,
    }


def _status(chain: Chain) -> ExitCode:
    """That of the worst answer; an index that the daemon would not load is an error, whatever was salvaged of it."""
    from ocitui.cache import IndexOutcome
    from ocitui.doctor import Answer

    answers = {one.answer for one in chain.formats}
    if chain.outcome in (IndexOutcome.RESET, IndexOutcome.ERROR) or answers - {Answer.HIT, Answer.MISS}:
        return ExitCode.UNCHECKED
    return ExitCode.CLEAN if answers == {Answer.HIT} else ExitCode.PROBLEMS


def _links(links: Sequence[Link]) -> Iterator[str]:
    for link in links:
        first = _LINK.format(_MARKS[link.standing], link.title)
        yield from paragraph(link.text, first)
        if link.advice:
            yield from paragraph(link.advice, " " * len(first) + "-> ")


def _link_json(link: Link) -> dict[str, Any]:
    return {"title": link.title, "standing": link.standing.value, "text": link.text, "advice": link.advice or None}
