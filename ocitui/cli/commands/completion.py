"""`ocitui completion`, as click makes it for a shell; in bash also behind a colon, where bash begins a new word, and in
the others also behind the = of an option, where they replace the whole word."""

from __future__ import annotations

import os
import re

import click
from click import shell_completion

from ..output import ExitCode


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> ExitCode:
    """Print what makes SHELL complete ocitui's commands: eval "$(ocitui completion bash)".

    Names, digests, transactions, findings and filters are those of the cache that -C or OCITUI_CACHE names; of a
    corrupt index, what can be read of it. Nothing is written. ocitui pull completes those of the other host by an ssh
    master of yours that is open (ControlMaster in ssh_config(5)); without one, names here that lack files.
    """
    made = shell_completion.get_completion_class(shell)
    assert made is not None, "click knows each of these shells"
    click.echo(made(context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source())
    return ExitCode.CLEAN


PROGRAM = "ocitui"
COMPLETION_VARIABLE = "_OCITUI_COMPLETE"
# All is done there: ten thousand names in a loop of bash would take longer than to find them.
_BASH = """\
%(complete_func)s() {
    compopt +o nospace
    mapfile -t COMPREPLY < <(env _OCITUI_LINE="${COMP_LINE:0:COMP_POINT}" _OCITUI_BREAKS="$COMP_WORDBREAKS" \\
        _OCITUI_WORD="${COMP_WORDS[COMP_CWORD]}" %(complete_var)s=bash_complete "$1" 2>/dev/null)
    case ${COMPREPLY[0]} in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        nospace) compopt -o nospace ;;
    esac
    COMPREPLY=("${COMPREPLY[@]:1}")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_GOES_ON = tuple("/:=<>")
_MEANS = {'"': frozenset('"$`\\!'), "'": frozenset("'")}
"""What does not stand for itself in quotes: a name that holds it might be a command."""
_SPECIAL = re.compile(r"([^\w@%+=:,./^~-])")


class Bash(shell_completion.BashComplete):
    """Bash gives a word in pieces, broken where COMP_WORDBREAKS says, and replaces the last: here the line is read."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("_OCITUI_LINE")
        if line is None:  # a shell that still has the script of an older version
            return super().get_completion_args()
        # The mark tells a word that is begun from a blank after the last one.
        words = shell_completion.split_arg_string(f"{line}x")
        return words[1:-1], words[-1][:-1]

    def complete(self) -> str:
        """A line that says what bash is to add, then the replies as they are to stand in the line."""
        if "_OCITUI_WORD" not in os.environ:
            return super().complete()
        args, word = self.get_completion_args()
        found = self.get_completions(args, word)
        kinds = {one.type for one in found} - {"plain"}
        values = [one.value for one in found if one.type == "plain"]
        first = next(iter(kinds), "nospace" if any(one.endswith(_GOES_ON) for one in values) else "")
        if means := _MEANS.get(os.environ["_OCITUI_WORD"][:1]):
            values = [one for one in values if means.isdisjoint(one)]
        else:
            # What readline has of the word before its last break stays, so a reply comes without it.
            word = word.partition("=")[2] if word.startswith("--") and "=" in word else word
            breaks = [mark for mark in ":=@<>" if mark in os.environ.get("_OCITUI_BREAKS", "")]
            typed = word[: max((word.rfind(mark) + 1 for mark in breaks), default=0)]
            values = [_SPECIAL.sub(r"\\\1", one.removeprefix(typed)) for one in values]
        return "\n".join((first, *values))


class _WholeWord(shell_completion.ShellComplete):
    def get_completions(self, args: list[str], incomplete: str) -> list[shell_completion.CompletionItem]:
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if option.startswith("--") and equals:
            for one in (each for each in found if each.type == "plain"):
                one.value = f"{option}={one.value}"
        return found


class Fish(_WholeWord, shell_completion.FishComplete):
    """Fish adds no blank behind what goes on."""


class Zsh(_WholeWord, shell_completion.ZshComplete):
    """Zsh would: what goes on is given to it apart."""

    source_template = shell_completion.ZshComplete.source_template.replace(
        "        compadd -U -V unsorted -a completions\n",
        """\
        local goes_on='*[/:=<>]'
        compadd -U -V unsorted -S '' -- ${(M)completions:#$~goes_on}
        compadd -U -V unsorted -- ${completions:#$~goes_on}
""",
    )


for one in (Bash, Fish, Zsh):
    shell_completion.add_completion_class(one)


def complete(command: click.Command, instruction: str) -> int:
    """Answer the script's question; gives the status to exit with."""
    return shell_completion.shell_complete(command, {}, PROGRAM, COMPLETION_VARIABLE, instruction)
