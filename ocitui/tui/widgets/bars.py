"""The one-line bars: header, trouble, status, keys. Each repaints only when what it says changes."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget

Part = tuple[str, str] | str


class Bar(Widget):
    """One line of text; ``parts`` are texts, some with a style."""

    DEFAULT_CSS = """
    Bar {
        height: 1;
        width: 1fr;
    }
    """
    content = Content("")
    ellipsis = True

    def show(self, parts: Sequence[Part]) -> None:
        """Show these; nothing is written when they are what is shown already, styles included."""
        content = Content.assemble(*parts)
        if not content.is_same(self.content):
            self.content = content
            self.changed()

    def changed(self) -> None:
        self.refresh()

    def render(self) -> Content:
        return self.content.truncate(max(self.size.width, 1), ellipsis=self.ellipsis)


class HeaderBar(Bar):
    """Host, directory, how the cache is, and the daemon."""

    DEFAULT_CSS = """
    HeaderBar {
        background: $primary;
        color: $text;
        text-style: bold;
        &:ansi { background: ansi_blue; color: ansi_bright_white; }
        &:nocolor { text-style: bold reverse; }
    }
    """


class TroubleBar(Bar):
    """What is wrong with index.json; not there while nothing is."""

    DEFAULT_CSS = """
    TroubleBar {
        height: auto;
        max-height: 3;
        background: $error;
        color: $text;
        text-style: bold;
        display: none;
        &.-shown { display: block; }
        &:ansi { background: ansi_red; color: ansi_bright_white; }
        &:nocolor { text-style: bold reverse; }
    }
    """

    def changed(self) -> None:
        # It is as high as its text.
        self.refresh(layout=True)
        self.set_class(bool(self.content.plain), "-shown")

    def render(self) -> Content:
        return self.content


class StatusBar(Bar):
    """What was done, what is marked, what the filter shows."""

    DEFAULT_CSS = """
    StatusBar {
        background: $panel;
        color: $foreground;
    }
    """


class KeyBar(Bar):
    """The keys that apply now."""

    DEFAULT_CSS = """
    KeyBar {
        background: $background;
        color: $text-muted;
    }
    """


class TabBar(Bar):
    """The names of the pane's tabs."""

    ellipsis = False

    DEFAULT_CSS = """
    TabBar {
        background: $panel;
        color: $text-muted;
    }
    """
