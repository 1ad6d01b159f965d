"""Every action of the screen, in one table: keys, footer, help and command palette come from here.

It loads nothing of Textual, as `ocitui help keys` shows it too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Group(StrEnum):
    """The sections of the help."""

    CACHE = "The cache"
    ENTRY = "The entry under the cursor, or those marked"
    TABLE = "The table"
    PANE = "The pane"
    PROGRAM = "The program"


@dataclass(frozen=True, slots=True)
class Action:
    """``keys`` are Textual's names, the first one shown. ``writes`` marks what changes the cache: read-only mode
    switches it off, and so does an index that is not sound, unless it ``mends``. ``in_footer`` is for what an operator
    needs to see without asking."""

    name: str
    keys: tuple[str, ...]
    label: str
    help: str
    group: Group
    writes: bool = False
    mends: bool = False
    in_footer: bool = False
    handled_by_widget: bool = False

    @property
    def key_label(self) -> str:
        """The first key as it is printed on a keyboard."""
        return key_label(self.keys[0])


_KEY_LABELS = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "space": "space",
    "escape": "esc",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "f1": "F1",
    "f5": "F5",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "ctrl+c": "ctrl+c",
    "ctrl+z": "ctrl+z",
}


def key_label(key: str) -> str:
    return _KEY_LABELS.get(key, key)


ACTIONS: tuple[Action, ...] = (
    Action(
        "resolve",
        ("r",),
        "Resolve",
        "Ask what a name resolves to in a format, and why: the steps the daemon takes, hit or miss.",
        Group.CACHE,
        in_footer=True,
    ),
    Action(
        "import_image",
        ("i",),
        "Import",
        "Bring an image in from a registry, an archive, an OCI layout or packed files; what was found is shown first.",
        Group.CACHE,
        writes=True,
        in_footer=True,
    ),
    Action(
        "imports",
        ("I",),
        "Imports",
        "How far imports are; cancel one, try it again, go on with one that was interrupted, remove downloads.",
        Group.CACHE,
    ),
    Action(
        "undo",
        ("u",),
        "Undo",
        "Reverse the newest transaction; what it moved comes back from the trash.",
        Group.CACHE,
        writes=True,
        in_footer=True,
    ),
    Action(
        "journal",
        ("t",),
        "Journal",
        "Every transaction: when, what, by whom; any one can be undone from there.",
        Group.CACHE,
    ),
    Action(
        "trash",
        ("X",),
        "Trash",
        "What transactions took out of the cache: restore a file, undo its transaction, or empty it and free the room.",
        Group.CACHE,
    ),
    Action(
        "verdict",
        ("v",),
        "Verdict",
        "What the daemon would do with index.json if it started now, and where a corrupt one breaks.",
        Group.CACHE,
    ),
    Action(
        "problems",
        ("p",),
        "Problems",
        "What is wrong, the worst first: what the daemon does about it, what mends it; check deeper, mend.",
        Group.CACHE,
        in_footer=True,
    ),
    Action(
        "refresh",
        ("R", "f5"),
        "Refresh",
        "Read index.json and list the directory again now; nothing that is known is forgotten.",
        Group.CACHE,
    ),
    Action(
        "delete",
        ("d",),
        "Delete",
        "Plan the removal of the marked entries, or of the one under the cursor; nothing happens before you confirm.",
        Group.ENTRY,
        writes=True,
        in_footer=True,
    ),
    Action(
        "mend",
        ("m",),
        "Mend",
        "Plan what mends the marked entries, or the one under the cursor; under a banner about the index, the index.",
        Group.ENTRY,
        writes=True,
        mends=True,
    ),
    Action(
        "why",
        ("w",),
        "Why",
        "Why the daemon answers as it does: one chain from a name to its entry, files, documents, header and content.",
        Group.ENTRY,
    ),
    Action(
        "point",
        ("P",),
        "Point",
        "Make the entry win its name, by moving it to the end of the index; a plan first, and nothing is deleted.",
        Group.ENTRY,
        writes=True,
    ),
    Action(
        "copy_digest",
        ("c",),
        "Copy digest",
        "Send the digest to the terminal's clipboard (OSC 52, works over SSH where the terminal allows it).",
        Group.ENTRY,
    ),
    Action(
        "copy_name",
        ("C",),
        "Copy name",
        "Send the name, in krata's spelling, to the terminal's clipboard.",
        Group.ENTRY,
    ),
    Action(
        "filter",
        ("slash",),
        "Filter",
        "Show only rows with these words; !word excludes; name: tag: digest: format: platform: state:bad used: "
        "size>100M age>30d. In a document it searches.",
        Group.TABLE,
        in_footer=True,
    ),
    Action("sort", ("s",), "Sort", "Choose the column to sort by; a click on its header does it too.", Group.TABLE),
    Action("move", ("up", "down", "j", "k"), "Move", "Move by a row or a line.", Group.TABLE, handled_by_widget=True),
    Action(
        "page",
        ("pageup", "pagedown"),
        "Page",
        "Move by a page.",
        Group.TABLE,
        handled_by_widget=True,
    ),
    Action(
        "ends",
        ("home", "end", "g", "G"),
        "Ends",
        "Move to the first or the last row or line.",
        Group.TABLE,
        handled_by_widget=True,
    ),
    Action(
        "mark",
        ("space",),
        "Mark",
        "Mark the row, and go on to the next; actions apply to what is marked.",
        Group.TABLE,
        in_footer=True,
        handled_by_widget=True,
    ),
    Action("mark_all", ("a",), "Mark all", "Mark every row that is shown.", Group.TABLE),
    Action("clear_marks", ("A",), "Unmark", "Take every mark away, hidden ones too.", Group.TABLE),
    Action(
        "open",
        ("enter",),
        "Open",
        "Give the pane the whole screen, and the keys; esc goes back.",
        Group.TABLE,
        in_footer=True,
        handled_by_widget=True,
    ),
    Action("show_tab('summary')", ("1",), "Summary", "Show the summary.", Group.PANE),
    Action("show_tab('manifest')", ("2",), "Manifest", "Show the manifest.", Group.PANE),
    Action("show_tab('config')", ("3",), "Config", "Show the config.", Group.PANE),
    Action("show_tab('problems')", ("4",), "Problems", "Show what is wrong with the entry.", Group.PANE),
    Action("next_tab", ("right_square_bracket",), "Next tab", "Show the next tab.", Group.PANE),
    Action("previous_tab", ("left_square_bracket",), "Previous tab", "Show the tab before.", Group.PANE),
    Action(
        "switch_focus",
        ("tab", "shift+tab"),
        "Other side",
        "Give the keys to the pane, or back to the table.",
        Group.PANE,
    ),
    Action(
        "matches",
        ("n", "N"),
        "Matches",
        "Go to the next match of a search in a document, or the one before.",
        Group.PANE,
        handled_by_widget=True,
    ),
    Action(
        "back",
        ("escape",),
        "Back",
        "Clear the filter, or go back; never quits.",
        Group.PROGRAM,
    ),
    Action("help", ("question_mark", "f1"), "Help", "These pages.", Group.PROGRAM, in_footer=True),
    Action("command_palette", ("colon",), "Commands", "Find a command by its name.", Group.PROGRAM),
    Action("next_theme", ("T",), "Theme", "Change to the next of dark, light and ansi.", Group.PROGRAM),
    Action(
        "redraw",
        ("ctrl+l",),
        "Redraw",
        "Write the whole screen again, where another program wrote over it.",
        Group.PROGRAM,
    ),
    Action(
        "interrupt",
        ("ctrl+c",),
        "Interrupt",
        "Cancel the import that runs, or what a screen is doing; it never leaves half a change.",
        Group.PROGRAM,
    ),
    Action(
        "suspend",
        ("ctrl+z",),
        "Suspend",
        "Give the shell back; fg there goes on. A transaction under way is finished first, imports stand still.",
        Group.PROGRAM,
    ),
    Action(
        "quit",
        ("q",),
        "Quit",
        "Leave; a transaction under way is finished first, and imports under way are asked about.",
        Group.PROGRAM,
        in_footer=True,
    ),
)

BY_NAME = {action.name: action for action in ACTIONS}
FOOTER = [action for action in ACTIONS if action.in_footer]


def keys_text() -> str:
    """The help's topic about keys, in Markdown."""
    return "\n".join(_keys_text()) + "\n"


def _keys_text() -> Iterator[str]:
    yield "# The keys of the screen"
    for group in Group:
        yield from ("", f"## {group}", "")
        for action in (one for one in ACTIONS if one.group is group):
            keys = " ".join(key_label(key) for key in action.keys)
            text = textwrap.wrap(f"{action.label}. {action.help}", 58)
            yield from (f"    {keys if not at else '':<15} {line}" for at, line in enumerate(text))
