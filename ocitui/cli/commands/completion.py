"""`ocitui completion`, as click makes it for a shell; in bash also behind a colon, where bash begins a new word."""

from __future__ import annotations

import os

import click
from click.shell_completion import (
    BashComplete,
    add_completion_class,
    get_completion_class,
    shell_complete,
    split_arg_string,
)

from ..settings import ExitCode


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> ExitCode:
    """Print what makes SHELL complete ocitui's commands: eval "$(ocitui completion bash)"."""
    click.echo(completion_script(context.find_root().command, shell))
    return ExitCode.CLEAN


PROGRAM = "ocitui"
COMPLETION_VARIABLE = "_OCITUI_COMPLETE"
_LINE = "_OCITUI_LINE"
# `typed` is what readline has of the word before its last break; it stays, so a completion comes without it.
_BASH = """\
%(complete_func)s() {
    local type value line=${COMP_LINE:0:COMP_POINT} typed= quoted=
    compopt +o nospace
    [[ ${COMP_WORDS[COMP_CWORD]} == [\\"\\']* ]] && quoted=yes
    while IFS=',' read -r type value; do
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            typed) [[ $quoted ]] || typed=$value ;;
            plain)
                [[ $value == *[/:] ]] && compopt -o nospace
                value=${value#"$typed"}
                if [[ $quoted ]]; then :
                elif [[ $value == '~'* ]]; then printf -v value '~%%q' "${value:1}"
                elif [[ $value ]]; then printf -v value '%%q' "$value"
                fi
                COMPREPLY+=("$value")
                ;;
        esac
    done < <(env _OCITUI_LINE="$line" _OCITUI_BREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Bash gives a word in pieces, broken where COMP_WORDBREAKS says, and replaces the last: here the line is read."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get(_LINE)
        if line is None:  # a shell that still has the script of an older version
            return super().get_completion_args()
        # The mark tells a word that is begun from a blank after the last one.
        words = split_arg_string(f"{line}x")
        return words[1:-1], words[-1][:-1]

    def complete(self) -> str:
        completed = super().complete()
        if os.environ.get(_LINE) is None:
            return completed
        word = self.get_completion_args()[1]
        breaks = [mark for mark in ":=@" if mark in os.environ.get("_OCITUI_BREAKS", "")]
        end = max((word.rfind(mark) + 1 for mark in breaks), default=0)
        return f"typed,{word[:end]}\n{completed}"


add_completion_class(Bash)


def completion_script(command: click.Command, shell: str) -> str:
    """The script that a shell evaluates. Raises LookupError for a shell that click does not know."""
    made = get_completion_class(shell)
    if made is None:
        raise LookupError(shell)
    return made(command, {}, PROGRAM, COMPLETION_VARIABLE).source()


def complete(command: click.Command, instruction: str) -> int:
    """Answer the script's question; gives the status to exit with."""
    return shell_complete(command, {}, PROGRAM, COMPLETION_VARIABLE, instruction)
