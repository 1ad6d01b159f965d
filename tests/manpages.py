"""Makes the man pages in ocitui/help/man, from click and the help's texts: `python -m tests.manpages`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from ocitui.cli.main import COMMANDS, cli
from ocitui.help import TOPICS, paragraphs, topic_text
from ocitui.tui.actions import keys_text
from tests.tools import ROOT

PAGES = ROOT / "ocitui" / "help" / "man"
_LINES = {name: line for name, (_, line) in COMMANDS.items()}


def pages() -> dict[str, str]:
    """Each page's file name, and what is in it."""
    context = click.Context(cli, info_name="ocitui")
    found = {"ocitui.1": _text(_main(context))}
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found[f"ocitui-{name}.1"] = _text(_command(command, name, context))
    return found


def _text(lines: Iterator[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _main(context: click.Context) -> Iterator[str]:
    yield from _head("ocitui", "see, understand and change krata's image cache")
    yield ".SH SYNOPSIS"
    yield r"\fBocitui\fR [\fIOPTIONS\fR] [\fIDIR\fR]"
    yield ".br"
    yield r"\fBocitui\fR \fICOMMAND\fR [\fIARGS\fR]"
    yield ".SH DESCRIPTION"
    yield from _prose(cli.help or "")
    yield ".SH COMMANDS"
    for name, line in _LINES.items():
        yield from (".TP", rf"\fBocitui\-{_escaped(name)}\fR(1)", _escaped(line))
    yield from _options(cli, context)
    for topic, title in TOPICS.items():
        yield f".SH {_escaped(title.rstrip('.').upper())}"
        yield from _topic(keys_text() if topic == "keys" else topic_text(topic))


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, parent, name)
    line = _LINES[name].rstrip(".")
    yield from _head(f"ocitui-{name}", f"{line[0].lower()}{line[1:]}")
    yield ".SH SYNOPSIS"
    pieces = " ".join(command.collect_usage_pieces(context))
    yield rf"\fBocitui {_escaped(name)}\fR {_escaped(pieces)}"
    yield ".SH DESCRIPTION"
    yield from _prose(command.help or "")
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield f".SH {_escaped(inner.upper())}"
            yield from _prose(found.help or "")
            yield from _listed_options(found, click.Context(found, context, inner))
    yield ".SH EXIT STATUS"
    yield from _topic(topic_text("exit-statuses"))
    yield from (".SH SEE ALSO", r"\fBocitui\fR(1)")


def _head(name: str, what: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" "1" "" "ocitui" "ocitui"'
    yield from (".SH NAME", rf"{_escaped(name)} \- {_escaped(what)}")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    yield ".SH OPTIONS"
    yield from _listed_options(command, context)


def _listed_options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield from (".TP", rf"\fB{_escaped(record[0])}\fR", _escaped(" ".join(record[1].split())))


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.replace("\b", "").strip().split("\n\n"):
        yield from (".PP", _escaped(" ".join(paragraph.split())))


def _topic(markdown: str) -> Iterator[str]:
    for piece in paragraphs(markdown):
        if piece.startswith("# "):
            continue
        if piece.startswith("#"):
            yield f".SS {_escaped(piece.lstrip('# '))}"
        elif piece.startswith("    "):
            yield from (".PP", ".nf", *(_escaped(line) for line in piece.splitlines()), ".fi")
        elif piece.startswith("- "):
            yield from (r".IP \(bu 2", _escaped(piece[2:]))
        else:
            yield from (".PP", _escaped(piece))


def _escaped(text: str) -> str:
    """Text that troff takes as it is."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return re.sub(r"^(?=[.'])", r"\\&", text)


def main() -> None:
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
