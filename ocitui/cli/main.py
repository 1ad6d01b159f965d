"""`ocitui`: a command, or the screen on a directory."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocitui import __version__
from ocitui.directory import default_directory, default_place

from .options import (
    CACHE_WORD,
    json_option,
    likely,
    on_cache,
    on_mirror,
    pass_on,
    refuse_sudo,
    screen_options,
    why_no_screen,
)
from .output import Call, ExitCode, complain, say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ocitui.remote import HostMirror


# The file of each command in `commands`, and its line in the help, so that the help imports none of them.
COMMANDS = {
    "list": ("list_", "List the entries and the state of their files."),
    "resolve": ("lookup", "Say what the daemon would find for a name, and why."),
    "recall": ("lookup", "Say whether the daemon would find a packed file, and why."),
    "show": ("show", "Print a manifest or config."),
    "files": ("files", "List what is inside a packed file."),
    "cat": ("cat", "Print a file from inside a packed file."),
    "extract": ("extract", "Write files out of a packed file onto the disk."),
    "digest": ("digest", "Print a digest of the tree inside a packed file, to compare."),
    "diff": ("diff", "Tell what differs between two entries: config, layers, files."),
    "find": ("find", "Tell which entries hold a path, or a file of these bytes."),
    "verdict": ("lookup", "Say what the daemon would do with index.json at its start."),
    "why": ("why", "Say link by link why the daemon answers as it does."),
    "zones": ("zones", "List who needs which entry."),
    "check": ("check", "Examine the cache: what is wrong, and what would mend it."),
    "fleet": ("fleet", "Look at the caches of many hosts over ssh, the worst first."),
    "repair": ("repair", "Show what would mend the cache; with --apply do it."),
    "point": ("lookup", "Make a digest win its name; nothing is deleted."),
    "delete": ("delete", "Take entries out of the index and their files to the trash."),
    "prune": ("prune", "Make room: show what may go by rules; with --apply do it."),
    "pin": ("prune", "Keep entries out of prune, with a reason; list those that are."),
    "unpin": ("prune", "Let entries go by rules again."),
    "undo": ("undo", "Reverse a transaction."),
    "log": ("log", "List the transactions, newest first."),
    "report": ("report", "Write what explains an incident into one file."),
    "watch": ("watch", "Print a line for each change of the index, until it is stopped."),
    "history": ("history", "Tell what came and went, by whom, and which image a name stood for."),
    "trash": ("trash", "List what was taken out of the cache; restore or empty it."),
    "export": ("export", "Write entries into a tar, for another cache or host."),
    "import": ("import_", "Bring an image into the cache."),
    "pull": ("import_", "Bring entries of another host's cache in, over ssh."),
    "imports": ("imports", "List interrupted imports, and go on with them."),
    "inspect": ("inspect", "Say what an image to be imported is."),
    "units": ("units", "Print units for systemd that check the cache and make room; install them."),
    "help": ("help_", "Explain a topic: three in the morning, the daemon, depths, keys and more."),
    "demo": ("demo", "Open a small cache made for trying things out."),
    "completion": ("completion", "Print what makes a shell complete commands."),
}


class CommandGroup(click.Group):
    """Loads a command when it is asked for; ``opener`` takes a first word that names none."""

    opener: click.Command | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__package__}.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.opener is not None and args[0] not in COMMANDS:
            word = args[0]
            # A bare word that names neither a command nor a file is no directory to wait for.
            if word and os.sep not in word and not os.path.lexists(word):
                raise click.UsageError(f"there is no command and no directory {word}{likely(word, COMMANDS)}", ctx)
            return self.opener.name, self.opener, args
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*found, *options] or [CompletionItem(incomplete, type="dir")]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


_VERSION_HELP = "Print the version, and what a report of a fault needs besides."
_LIBRARIES = (
    "textual",
    "rich",
    "watchfiles",
    "msgspec",
    "click",
    "httpx2",
    "isal",
    "deflate",
    "xxhash",
    "backports.zstd",
)
_PROGRAMS = ("mksquashfs", "mkfs.erofs", "ssh", "kratad", "kratactl", "xenstore-list", "systemctl")


def _tell_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Scripts read the first line; no program is run for the others."""
    if asked and not context.resilient_parsing:
        say(f"ocitui, version {__version__}", *_surroundings())
        context.exit()


def _surroundings() -> Iterator[str]:
    """What ocitui runs on, a line each."""
    import platform
    from importlib.metadata import PackageNotFoundError, version
    from shutil import which

    def version_of(library: str) -> str:
        try:
            return f"{library} {version(library)}"
        except PackageNotFoundError:
            return f"{library} -"

    system, with_os = os.uname(), ""
    with suppress(OSError):
        with_os = f", {platform.freedesktop_os_release().get('PRETTY_NAME', '')}"
    yield f"Python {platform.python_version()}, {sys.executable}"
    yield f"{system.sysname} {system.release} {system.machine}{with_os}"
    yield f"ocitui in {Path(__file__).parents[1]}"
    yield ", ".join(map(version_of, _LIBRARIES))
    yield ", ".join(which(name) or f"{name} -" for name in _PROGRAMS)
    yield f"TERM {os.environ.get('TERM', '-')}, encoding {getattr(sys.stdout, 'encoding', '-')}"


BROKEN_PIPE = 141  # 128 and SIGPIPE: what a shell sees of other programs whose reader went away
_COMPLETION_VARIABLE = "_OCITUI_COMPLETE"


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    subcommand_metavar="[DIR | COMMAND [ARGS]...]",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version, help=_VERSION_HELP)
@screen_options
@json_option
@click.pass_context
def cli(context: click.Context, /, **typed: Any) -> int:
    """See, understand and change krata's image cache.

    Without a command the screen opens on DIR, which may be a report, or ssh://HOST[/DIR], too. A word that names a
    command is the command; ./list is a directory.
    """
    pass_on(context, (*COMMANDS, "open"), typed)
    return ExitCode.CLEAN if context.invoked_subcommand else _open(**typed)


@click.command("open", hidden=True)
@click.argument("directory_word", metavar="DIR", type=CACHE_WORD)
@screen_options
def open_command(directory_word: Path | str, **typed: Any) -> int:
    """Open the screen on DIR."""
    return _open(**typed | {"directory": directory_word})


cli.opener = open_command


def _open(
    *,
    directory: Path | str | None,
    sudo: bool,
    no_mouse: bool,
    wait: float | None,
    as_json: bool = False,
    **options: Any,
) -> int:
    """Open the screen; gives its status. Raises NoTerminalError."""
    if (problem := why_no_screen()) is not None:
        raise problem
    from ocitui.tui import ScreenOptions, run_screen

    def work(call: Call, mirror: HostMirror | None = None) -> int:
        chosen = options | {"read_only": options["read_only"] or call.read_only, "mirror": mirror}
        return run_screen(ScreenOptions(directory=call.directory, mouse=not no_mouse, wait=wait or 0.0, **chosen))

    place = directory or default_place()
    if isinstance(place, str):
        return on_mirror(Call(Path(place)), place, work, sudo=sudo, shared=True)
    refuse_sudo(sudo)
    call = Call(place)
    return call.reported(lambda: on_cache(call, work))


def run(args: Sequence[str]) -> int:
    """Run the command line; gives the status to exit with. Every error is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = _run(list(args))
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Mostly the output cannot be written. What is left of it goes nowhere, so that Python's exit does not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno == errno.EPIPE:
            return BROKEN_PIPE
        what = f"{error.filename}: " if error.filename else "the output cannot be written: "
        complain(f"{what}{error.strerror or error}", "")
        return ExitCode.UNCHECKED
    return status


def _run(args: list[str]) -> int:
    if instruction := os.environ.get(_COMPLETION_VARIABLE):
        from .commands.completion import complete

        return complete(cli, instruction)
    try:
        with cli.make_context("ocitui", args) as context:
            return int(cli.invoke(context))
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _usage_problem(error, args)
    except KeyboardInterrupt:
        complain("interrupted", "ocitui log shows what was done before")
        return ExitCode.CANCELLED


def _usage_problem(error: click.ClickException, args: list[str]) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else next((f"ocitui {word}" for word in args if word in COMMANDS), "ocitui")
    message = error.format_message().rstrip(".")
    hint = getattr(error, "hint", f"see {path} --help")
    call = Call(_named_directory(args) or default_directory(), as_json="--json" in args)
    call.fail("usage", " ".join(message.split()), hint)
    return ExitCode.USAGE


def _named_directory(args: list[str]) -> Path | None:
    """What stands behind -C in words that could not be parsed."""
    for number, word in enumerate(args):
        if word.startswith("-C"):
            name = word.removeprefix("-C") or "".join(args[number + 1 : number + 2])
            return Path(name) if name else None
    return None
