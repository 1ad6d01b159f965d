"""What a repair may do beyond what is safe by itself, and where it may look for copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from ocitui.doctor.repair.plan import RepairOptions
from ocitui.importing.sources.opening import expanded

from ..widgets.lines_view import Line, LinesView
from ..widgets.pick_list import PickList, PickRow
from ..widgets.question import OneLineQuestion
from .full import FullScreen

_SOURCE = "source"
_OF_SOURCES = "a layout, an archive, packed files or another cache, in which good copies are looked for"


@dataclass(frozen=True, slots=True)
class _Switch:
    """Something that is allowed or not; ``about`` is what there is to know before it is."""

    label: str
    about: str
    read: Callable[[RepairOptions], bool]
    write: Callable[[RepairOptions, bool], RepairOptions]


_SWITCHES = (
    _Switch(
        "Ask registries",
        "by name and digest, never by tag; documents alone where only they are gone",
        lambda options: options.registry,
        lambda options, on: replace(options, registry=on),
    ),
    _Switch(
        "Adopt orphans",
        "those whose name a backup or the trash tells become entries again",
        lambda options: options.adopt_known,
        lambda options, on: replace(options, adopt_known=on),
    ),
    _Switch(
        "Drop entries",
        "what cannot be restored leaves the index, and its name is lost with it; undo brings it back",
        lambda options: options.drop,
        lambda options, on: replace(options, drop=on),
    ),
    _Switch(
        "Trash orphans",
        "files that no entry names go to the trash",
        lambda options: options.trash_orphans,
        lambda options, on: replace(options, trash_orphans=on),
    ),
    _Switch(
        "Change modes",
        "files that their owner may not read are made readable",
        lambda options: options.change_modes,
        lambda options, on: replace(options, change_modes=on),
    ),
)
_BY_LABEL = {switch.label: switch for switch in _SWITCHES}


class RepairOptionsScreen(FullScreen[RepairOptions | None]):
    """Dismissed with what is allowed, for a new plan."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "allow", "Allow", show=False),
        Binding("s", "source", "Source", show=False),
        Binding("D", "forget_sources", "Forget sources", show=False),
    ]
    AUTO_FOCUS = "PickList"
    CSS = """
    RepairOptionsScreen {
        PickList { height: auto; }
        LinesView { height: 1fr; border-top: solid $panel; }
        #ask { display: none; padding: 0 1; }
        &.-asking #ask { display: block; }
    }
    """
    subject: ClassVar[str] = "repair: what is allowed"
    keys = (("space", "Allow"), ("s", "Add a source"), ("D", "Forget sources"), ("enter", "Plan anew"), ("esc", "Back"))

    def __init__(self, options: RepairOptions) -> None:
        super().__init__()
        self._options = options

    def compose_body(self) -> Iterable[Widget]:
        yield PickList()
        yield LinesView()
        yield OneLineQuestion(self.end_asking, id="ask")

    def begin(self) -> None:
        self._draw()
        self.say("nothing is done by this: the plan is made anew, and shown")

    def _draw(self) -> None:
        rows = [
            PickRow(switch.label, f"[{'x' if switch.read(self._options) else ' '}] {switch.label}")
            for switch in _SWITCHES
        ]
        rows += [PickRow(f"{_SOURCE} {text}", f"    Restore from {text}") for text in self._options.sources]
        for view in self.query(PickList):
            view.set_rows(rows)
        self._draw_detail()

    @on(PickList.Moved)
    def _draw_detail(self) -> None:
        switch = _BY_LABEL.get(self.query_one(PickList).key or "")
        self.show_lines([Line(switch.about if switch else _OF_SOURCES)])

    def action_allow(self) -> None:
        switch = _BY_LABEL.get(self.query_one(PickList).key or "")
        if switch is not None:
            self._options = switch.write(self._options, not switch.read(self._options))
            self._draw()

    def action_source(self) -> None:
        question = self.query_one(OneLineQuestion)
        self.add_class("-asking")
        question.ask("", "where good copies are: a layout, an archive, packed files, another cache's directory")
        self.set_focus(question)

    def end_asking(self, *, keep: bool) -> None:
        question = self.query_one(OneLineQuestion)
        question.open = False
        self.remove_class("-asking")
        self.set_focus(self.query_one(PickList))
        text = expanded(question.value.strip())
        if keep and text:
            self._options = replace(self._options, sources=(*self._options.sources, text))
            self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a source is typed every key is its own."""
        return not self.has_class("-asking") or action == "interrupt"

    def action_forget_sources(self) -> None:
        self._options = replace(self._options, sources=())
        self._draw()

    @on(PickList.Picked)
    def _picked(self) -> None:
        self.dismiss(self._options)
