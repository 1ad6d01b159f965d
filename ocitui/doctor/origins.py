"""Whether an entry can come back once it is gone: from where it was imported, or from the registry of its name, which
krata's own client asks as one whom nobody knows. What is not known is treated as what cannot come back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from ocitui.cache import ImageName, InvalidNameError, Ledger, Note, RecordedSource, Sources, Topic, usual_digest
from ocitui.host import daemon_seed
from ocitui.importing import SourceError, SourceKind, layout_in, recognise_source, standard_input
from ocitui.text import age_of

if TYPE_CHECKING:
    from ocitui.importing import RegistryOptions, UpstreamAnswer

LASTING_SECONDS = 30 * 86_400
"""So long it is taken for granted that a registry still has what it gave: tags move, and registries clear out."""
_FRESH_SECONDS, _AT_ONCE = 86_400, 4


class ComesBack(StrEnum):
    """From where an entry can be had again."""

    LOCAL = "local"
    DAEMON = "registry-daemon"
    OCITUI = "registry-ocitui"
    NO = "no"
    UNKNOWN = "not-known"


class Origin(msgspec.Struct, frozen=True):
    """``text`` says why, ``source`` is where it was imported from (empty: not known)."""

    comes_back: ComesBack
    text: str
    source: str = ""

    @property
    def is_sure(self) -> bool:
        """Whether it can be had again, as far as anybody can tell."""
        return self.comes_back not in (ComesBack.NO, ComesBack.UNKNOWN)


class FileRecords(Protocol):
    """What is on record of packed files, by their names: a ledger, or what a judge remembers of it."""

    @property
    def sources(self) -> Sources: ...

    def noted(self, topic: Topic) -> dict[str, Note]: ...


_NOTHING_KNOWN = Origin(ComesBack.UNKNOWN, "not known: no import of it is on record, and no registry was asked")


class Origins:
    """The origins of a cache's entries, by their packed files' names, as far as they are ``known``."""

    def __init__(self, directory: Path, known: FileRecords) -> None:
        self._directory, self._sources, self._asked = directory, known.sources, known.noted(Topic.ASKED)

    def of(self, file: str) -> Origin:
        """Where an entry can come back from, by the name of its packed file. Looks at a local source, asks nobody."""
        recorded, asked = self._sources.get(file), self._asked.get(file)
        if recorded is None and asked is None:
            return _NOTHING_KNOWN
        source, is_registry = recorded.text if recorded else "", False
        if recorded is not None:
            with suppress(SourceError, OSError, ValueError):
                found = recognise_source(source)
                is_registry = found.kind is SourceKind.REGISTRY
                if not is_registry and (local := self._local(recorded, found.path, file.rpartition(".")[0])):
                    return Origin(ComesBack.LOCAL, local, source)
        later = asked is not None and (recorded is None or asked.when >= recorded.imported)
        if asked is not None and later and (origin := _of_answer(asked, source)) is not None:
            return origin
        if recorded is None:
            return _NOTHING_KNOWN
        if standard_input(source) is not None:
            return Origin(ComesBack.NO, "it came by standard input, which gives nothing twice", source)
        if not is_registry:
            return Origin(ComesBack.NO, f"{source} is gone, or was written since", source)
        if time.time() - recorded.imported > LASTING_SECONDS:
            seen = f"{age_of(recorded.imported)} ago"
            return Origin(ComesBack.UNKNOWN, f"not known: {source} gave it {seen}, and was not asked since", source)
        kind = ComesBack.OCITUI if recorded.private else ComesBack.DAEMON
        whom = "to ocitui, with what the daemon has not" if recorded.private else "to one whom nobody knows"
        return Origin(kind, f"{source} gave it {age_of(recorded.imported)} ago {whom}", source)

    def _local(self, recorded: RecordedSource, path: Path, digest: str) -> str:
        """Why a path of this machine still has it; empty where it need not. Raises OSError, ValueError."""
        path = Path(os.path.realpath(path))
        if path.is_relative_to(os.path.realpath(self._directory)):
            return ""
        if path.is_dir():
            blob = layout_in(path).joinpath("blobs", *digest.split(":"))
            return f"{recorded.text} has it" if usual_digest(digest) and blob.is_file() else ""
        if path.stat().st_mtime < recorded.imported + 1:  # it is noted in whole seconds
            return f"{recorded.text} is there, not written since"
        return ""


async def ask_origins(
    directory: Path,
    ledger: Ledger,
    names: Mapping[str, str],
    options: RegistryOptions,
    told: Callable[[int, int], object] = lambda done, total: None,
    *,
    anew: bool = False,
) -> dict[str, UpstreamAnswer]:
    """Ask registries for images, by the packed files' names with the name of each; what was asked within a day is not
    asked again unless ``anew``. The ledger notes what they say, and has to be flushed. ``told`` hears how many are
    answered. Never raises."""
    from ocitui.importing import Upstream, ask_upstream

    seed, slots = await asyncio.to_thread(daemon_seed, directory), asyncio.Semaphore(_AT_ONCE)
    known, fresh = ledger.noted(Topic.ASKED), time.time() - _FRESH_SECONDS

    def is_known(file: str) -> bool:
        return file in known and known[file].when >= fresh and not known[file].text.startswith(Upstream.UNKNOWN)

    wanted = {file: name for file, name in names.items() if anew or not is_known(file)}
    answers: dict[str, UpstreamAnswer] = {}

    async def ask_one(file: str, text: str) -> None:
        recorded = ledger.sources.get(file)
        async with slots:
            with suppress(InvalidNameError):
                name, digest = ImageName.parse(text), file.rpartition(".")[0]
                source = recorded.text if recorded else ""
                answers[file] = answer = await ask_upstream(name, digest, options, seed=seed, source=source)
                if answer.upstream is not Upstream.UNKNOWN or not Origins(directory, ledger).of(file).is_sure:
                    ledger.note(Topic.ASKED, file, f"{answer.upstream} {answer.text}")
        told(len(answers), len(wanted))

    async with asyncio.TaskGroup() as group:
        for file, text in wanted.items():
            group.create_task(ask_one(file, text))
    return answers


# By the words of `importing.Upstream`, for which a listing need not load what speaks to registries.
_ANSWERS = {"unknown": ComesBack.UNKNOWN, "daemon": ComesBack.DAEMON, "login": ComesBack.OCITUI, "gone": ComesBack.NO}


def _of_answer(asked: Note, source: str) -> Origin | None:
    """What a registry said, where that still holds: a no does until it is asked again."""
    word, _, text = asked.text.partition(" ")
    kind = _ANSWERS.get(word)
    lasts = kind is ComesBack.NO or time.time() - asked.when <= LASTING_SECONDS
    if kind is None or not lasts:
        return None
    said = "not known: " if kind is ComesBack.UNKNOWN else ""
    return Origin(kind, f"{said}{text}, asked {age_of(asked.when)} ago", source)
