"""Every action of the screen, in one table: keys, footer, help and command palette come from here. It loads nothing of
Textual, as `ocitui help keys` shows it too."""

from __future__ import annotations

import textwrap
from itertools import chain
from typing import NamedTuple


class Action(NamedTuple):
    """``keys`` are Textual's names, the first one shown. ``command`` does the same on the command line; where it is
    empty, `list`, `check` and `show` print what the action moves to or arranges. ``aliases`` are what else it may be
    called. ``writes`` marks what changes the cache: read-only mode switches it off, and so does an index that is not
    sound, unless it ``mends``."""

    name: str
    keys: tuple[str, ...]
    label: str
    command: str
    help: str
    aliases: str = ""
    writes: bool = False
    mends: bool = False
    handled_by_widget: bool = False

    @property
    def key_label(self) -> str:
        """The first key as it is printed on a keyboard."""
        return key_label(self.keys[0])


_KEY_LABELS = {
    "question_mark": "?", "slash": "/", "colon": ":", "escape": "esc", "exclamation_mark": "!", "backslash": "\\",
    "less_than_sign": "<", "greater_than_sign": ">", "left_square_bracket": "[", "right_square_bracket": "]",
    "asterisk": "*", "f1": "F1", "f5": "F5", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End",
    "equals_sign": "=", "up": "↑", "down": "↓", "left": "←", "right": "→",
}  # fmt: skip
_OTHER_KEYS = ("enter", "space", "tab", "shift+tab", "F2")


def key_label(key: str) -> str:
    return _KEY_LABELS.get(key, key)


def key_named(label: str) -> str:
    """Textual's name of a key, by what is printed on it; of several, the first. Empty for what is none."""
    first = (label.split() or [""])[0]
    key = next((key for key, printed in _KEY_LABELS.items() if printed == first), first)
    return key if len(key) == 1 or key in _KEY_LABELS or key in _OTHER_KEYS or key.startswith("ctrl+") else ""


def commands(text: str) -> list[Action]:
    """What a typed command may mean, best first: a key, name or alias in full, then what begins so or has it within."""
    wanted = text.strip()

    def rank(action: Action) -> int:
        names = [action.label.lower(), *action.aliases.split()]
        if wanted in map(key_label, action.keys) or wanted.lower() in names:
            return 0
        if any(name.startswith(wanted.lower()) for name in names):
            return 1
        return 2 if any(wanted.lower() in name for name in names) else 3

    able = [action for action in ACTIONS if not action.handled_by_widget and action.name != "commands"]
    return sorted((action for action in able if rank(action) < 3), key=rank)


# fmt: off
GROUPS = {
    "The cache": (
        Action("resolve", ("r",), "Resolve", "resolve NAME",
               "Ask what a name resolves to in a format, and why: the steps the daemon takes, hit or miss."),
        Action("import_image", ("i",), "Import", "import SOURCE",
               "Bring an image in from a registry, an archive, an OCI layout or packed files; what was found is "
               "shown first.", aliases="pull add", writes=True),
        Action("imports", ("I",), "Imports", "imports",
               "How far imports are; cancel one, try it again, go on with one that was interrupted, remove downloads."),
        Action("undo", ("u",), "Undo", "undo",
               "Reverse the newest transaction; what it moved comes back from the trash.", writes=True),
        Action("journal", ("t",), "Timeline", "log",
               "What was done: when, what, by whom, and the index before and after; / filters it, and any one can be "
               "undone.", aliases="journal log transactions history"),
        Action("trash", ("X",), "Trash", "trash",
               "What transactions took out of the cache: restore a file, undo its transaction, or empty it and free "
               "the room.", aliases="restore"),
        Action("verdict", ("v",), "Verdict", "verdict",
               "What the daemon would do with index.json if it started now, and where a corrupt one breaks."),
        Action("problems", ("p",), "Problems", "check",
               "What is wrong, the worst first: what the daemon does about it, what mends it; check deeper, mend.",
               aliases="check findings"),
        Action("zones", ("z",), "Zones", "zones",
               "The zones of this host, and the entries that each needs: whether they are there, now and at its next "
               "start.", aliases="guests used"),
        Action("room", ("b",), "Room", "prune",
               "What takes the room, the largest first: who needs it and whether it can come back; mark, by a rule or "
               "by hand, against how much is to be free.", aliases="prune disk du ncdu"),
        Action("refresh", ("R", "f5"), "Refresh", "",
               "Read index.json and list the directory again now; nothing that is known is forgotten. Of a fleet, ask "
               "all hosts again."),
    ),
    "The entry under the cursor, or those marked": (
        Action("delete", ("d",), "Delete", "delete NAME",
               "Plan the removal of the marked entries, or of the one under the cursor; nothing happens before you "
               "confirm.", aliases="rm remove", writes=True),
        Action("mend", ("m",), "Mend", "repair",
               "Plan what mends the marked entries, or the one under the cursor; under a banner about the index, the "
               "index.", aliases="repair fix", writes=True, mends=True),
        Action("pin", ("asterisk",), "Pin", "pin NAME",
               "Keep the marked entries, or the one under the cursor, out of every rule, with a reason; again lets it "
               "go.", aliases="unpin keep", writes=True, mends=True),
        Action("why", ("w",), "Why", "why NAME",
               "Why the daemon answers as it does: one chain from a name to its entry, files, documents, header and "
               "content."),
        Action("point", ("P",), "Point", "point NAME DIGEST",
               "Make the entry win its name, by moving it to the end of the index; a plan first, and nothing is "
               "deleted.", writes=True),
        Action("diff", ("equals_sign",), "Diff", "diff NAME NAME",
               "What differs between two marked entries, or two formats of one: config, labels, environment, layers, "
               "files, and of a text its lines.", aliases="compare"),
        Action("copy", ("c",), "Copy", "list --json",
               "Choose what goes to the terminal's clipboard (OSC 52, over SSH too where it allows that), with a "
               "capital into a file: name, digest, path, JSON; on other screens the finding, the plan, the "
               "transaction."),
    ),
    "The table": (
        Action("filter", ("slash",), "Filter", "list --filter TEXT",
               "Show only rows with these words; !word excludes; name: tag: digest: format: platform: state:bad "
               "used: size>100M age>30d. In a document it searches, in Files it finds names.", aliases="search find"),
        Action("sort", ("s",), "Sort", "",
               "Choose the column to sort by, the largest or oldest first; again, or a capital, reverses. A click on "
               "its header does it too."),
        Action("bad_row(1)", ("n",), "Next bad", "list --filter state:bad",
               "Go to the next bad row, past the last to the first; after a search in a document or Files, to its next "
               "match."),
        Action("worst_first", ("exclamation_mark",), "Worst first", "", "Sort by the state, what is worst first."),
        Action("bad_row(-1)", ("N",), "Previous bad", "", "Go to the bad row before, or to the match before."),
        Action("move", ("up", "down", "j", "k"), "Move", "", "Move by a row or a line.", handled_by_widget=True),
        Action("page", ("pageup", "pagedown", "ctrl+f"), "Page", "", "Move by a page.", handled_by_widget=True),
        Action("half_page", ("ctrl+u", "ctrl+d"), "Half page", "",
               "Move by half a page, up or down.", handled_by_widget=True),
        Action("ends", ("home", "end", "g", "G"), "Ends", "",
               "Move to the first or the last row or line.", handled_by_widget=True),
        Action("mark", ("space",), "Mark", "delete NAME NAME",
               "Mark the row, and go on to the next; actions apply to what is marked.", handled_by_widget=True),
        Action("mark_all", ("a",), "Mark all", "delete --filter TEXT", "Mark every row that is shown."),
        Action("clear_marks", ("A",), "Unmark", "", "Take every mark away, also those that the filter hides."),
        Action("open", ("enter",), "Open", "",
               "Give the pane the whole screen, and the keys; of a fleet, show the cache of the host; esc goes back.",
               handled_by_widget=True),
    ),
    "The pane": (
        Action("show_tab('summary')", ("1",), "Summary", "list --json", "Show the summary."),
        Action("show_tab('manifest')", ("2",), "Manifest", "show NAME manifest", "Show the manifest."),
        Action("show_tab('config')", ("3",), "Config", "show NAME config", "Show the config."),
        Action("show_tab('files')", ("4",), "Files", "files NAME",
               "Show what is inside its packed file: enter and the arrows open directories, enter a text or the bytes; "
               "/ finds by name, s sorts by size, name, time.", aliases="tree ls inside"),
        Action("extract", ("x",), "Extract", "extract NAME PATH -o DIR",
               "Write the file or directory under the cursor of Files out of the packed file; what and where is shown "
               "first.", aliases="unpack"),
        Action("hidden", ("l",), "Hidden by layers", "files NAME --layers",
               "Of the entry whose Files are shown, what its layers hold in vain, as later ones hide it; they are read "
               "where it was imported from.", aliases="waste dive"),
        Action("show_tab('problems')", ("5",), "Its problems", "check --entry NAME",
               "Show what is wrong with the entry."),
        Action("show_tab('history')", ("6",), "Its history", "log",
               "Show what was done to the entry, and when it was checked."),
        Action("step_tab(1)", ("right_square_bracket",), "Next tab", "", "Show the next tab."),
        Action("step_tab(-1)", ("left_square_bracket",), "Previous tab", "", "Show the tab before."),
        Action("layout", ("backslash",), "Layout", "", "Table and pane, the table alone, the pane alone."),
        Action("move_split(5)", ("greater_than_sign",), "Wider table", "", "Give the table more of the room."),
        Action("move_split(-5)", ("less_than_sign",), "Wider pane", "", "Give the pane more of the room."),
        Action("switch_focus", ("tab", "shift+tab"), "Other side", "",
               "Give the keys to the pane, or back to the table."),
    ),
    "The program": (
        Action("back", ("escape",), "Back", "", "Clear the filter, or go back; never quits."),
        Action("help", ("question_mark", "f1"), "Help", "help", "These pages."),
        Action("commands", ("colon",), "Commands", "",
               "Type a command by its name, its key or what else it may be called, as :delete, :d or :rm."),
        Action("next_theme", ("T",), "Theme", "", "Change to the next of dark, light and ansi; K keeps it."),
        Action("host_colour", ("H",), "Host colour", "",
               "Change the colour behind the host's name, to tell windows apart."),
        Action("keep_settings", ("K",), "Keep", "",
               "Have the next start look like this: theme, layout, split, sort, and the colour of the host's name."),
        Action("redraw", ("ctrl+l",), "Redraw", "",
               "Write the whole screen again, where another program wrote over it."),
        Action("interrupt", ("ctrl+c",), "Interrupt", "",
               "Cancel the import that runs, or what a screen is doing; it never leaves half a change."),
        Action("suspend", ("ctrl+z",), "Suspend", "",
               "Give the shell back; fg there goes on. A transaction under way is finished first, imports stand "
               "still."),
        Action("quit", ("q",), "Quit", "",
               "Leave; a transaction under way is finished first, and imports under way are asked about.",
               aliases="exit"),
    ),
}
# fmt: on
"""The actions beneath the titles of the help."""
ACTIONS = tuple(chain.from_iterable(GROUPS.values()))

BY_NAME = {action.name: action for action in ACTIONS}
_USUAL = (
    *("resolve", "import_image", "delete", "filter", "mark", "open"),
    *("undo", "sort", "problems", "copy", "bad_row(1)"),
)


def footer(*, trouble: bool, bad: bool, marks: bool) -> list[Action]:
    """The line of keys, as far as there is room: first what helps an index in ``trouble``, or on a ``bad`` row."""
    first = ["mend", "verdict"] if trouble else ["mend", "why"] if bad else []
    usual = [*_USUAL[:3], *(["clear_marks"] if marks else []), *_USUAL[3:]]
    return [BY_NAME[name] for name in (*first, *usual)]


def keys_text() -> str:
    """The help's topic about keys, in Markdown."""
    lines = ["# The keys of the screen"]
    for title, actions in GROUPS.items():
        lines += ["", f"## {title}", ""]
        for action in actions:
            keys = " ".join(key_label(key) for key in action.keys)
            text = textwrap.wrap(f"{action.label}. {action.help}", 57)
            text += [f"`ocitui {action.command}`"] if action.command else []
            lines += [f"    {keys if not at else '':<16} {line}" for at, line in enumerate(text)]
    return "\n".join(lines) + "\n"
