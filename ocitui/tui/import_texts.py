"""What is said of imports: a row, the lines of one, and a few words for the status line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocitui.importing.errors import NamedOtherwiseError
from ocitui.importing.image_import import ImportOutcome
from ocitui.importing.jobs import ImportJob, JobState
from ocitui.importing.progress import ImportPhase, ImportProgress, LayerProgress
from ocitui.importing.requests import ImportRequest
from ocitui.importing.unfinished import UnfinishedImport
from ocitui.text import human_age, human_size, timestamp

from .shorten import counted, short_digests
from .widgets.lines_view import Kind, Line, heading
from .widgets.pick_list import PickRow

_BAR = 12
_ROOM_FOR_BAR = 70
_KINDS: dict[JobState, Kind] = {
    JobState.WAITING: "muted",
    JobState.RUNNING: "plain",
    JobState.DONE: "good",
    JobState.FAILED: "bad",
    JobState.CANCELLED: "muted",
    JobState.INTERRUPTED: "muted",
}
_OUTCOMES = {
    ImportOutcome.STORED: "brought in; u undoes it",
    ImportOutcome.CACHED: "it was there already under this name; nothing was done",
    ImportOutcome.RENAMED: "it was there; its entry has this name now, and nothing was packed",
}
_PHASES = {
    ImportPhase.WAIT: "waits for another import of the same image",
    ImportPhase.FINISH: "the packer ends its work; how long that takes is not known",
    ImportPhase.STORE: "one transaction brings it in",
}


def bar(done: int, total: int, width: int = _BAR) -> str:
    """A bar that the ASCII filter turns into number signs and dots."""
    full = min(done * width // total, width) if total else 0
    return "█" * full + "·" * (width - full)


def percent(progress: ImportProgress) -> str:
    """``41 %``; empty where nobody knows how much there is to do."""
    if not progress.total or progress.phase is ImportPhase.FINISH:
        return ""
    return f"{min(progress.done * 100 // progress.total, 100)} %"


def short_text(active: Sequence[ImportJob]) -> str:
    """For the status line: how many imports there are, and how far the first is; empty without any."""
    if not active:
        return ""
    first = next((job for job in active if job.state is JobState.RUNNING), active[0])
    count = f" {len(active)}" if len(active) > 1 else ""
    return f"importing{count}: {first.progress.phase} {percent(first.progress)}".rstrip()


def called(request: ImportRequest) -> str:
    """The name an import was asked to give, else its source."""
    return request.name or short_digests(request.source)


def end_text(job: ImportJob) -> str:
    """How an import ended, for the status line."""
    name = called(job.request)
    if job.result is not None:
        image = job.result.image
        what = {
            ImportOutcome.STORED: f"imported as {short_digests(image.digest)}, {image.format}; u undoes it",
            ImportOutcome.CACHED: f"is in the cache already, {image.format}; nothing was done",
            ImportOutcome.RENAMED: f"is the name of {short_digests(image.digest)} now, {image.format}",
        }[job.result.outcome]
        return f"{image.name} {what}"
    if job.error is not None:
        return f"import of {name} failed; I shows more: {job.error.message}"
    return f"import of {name} {job.state}; the cache is as it was"


def job_row(job: ImportJob, width: int) -> PickRow:
    """An import in a line."""
    text = f"{job.id} {called(job.request)} {job.request.format}"
    return PickRow(f"job{job.id}", text, _right(job, width), _KINDS[job.state])


def _right(job: ImportJob, width: int) -> str:
    now = job.progress
    if job.state is not JobState.RUNNING:
        return f"{job.state:<11}"
    drawn = f"{bar(now.done, now.total)} " if width >= _ROOM_FOR_BAR else ""
    left = human_age(now.left) if now.left is not None else ""
    return f"{now.phase:<11} {drawn}{percent(now):>5} {left:>4}"


def interrupted_row(unfinished: UnfinishedImport) -> PickRow:
    request = unfinished.request
    return PickRow(f"old{unfinished.id}", f"- {called(request)} {request.format}", f"{'interrupted':<11}", "bad")


def interrupted_lines(unfinished: UnfinishedImport) -> list[Line]:
    """What an interrupted import was to do."""
    return [
        Line("interrupted: g goes on with it, f forgets it", "state", "bad"),
        Line(timestamp(unfinished.started), "begun"),
        *_request_lines(unfinished.request),
        Line("what was downloaded is kept; D shows how much, and removes it", "download", "muted"),
    ]


def job_lines(job: ImportJob, layers: Sequence[LayerProgress]) -> list[Line]:
    """All that is known of an import: how it stands, what it is to do, its layers."""
    lines = [*_state_lines(job), *_request_lines(job.request)]
    if layers:
        lines += [Line(), heading(f"Layers: {len(layers)}, {human_size(sum(layer.total for layer in layers))}")]
        lines += [_layer_line(layer) for layer in layers]
    return lines


def _layer_line(layer: LayerProgress) -> Line:
    text = f"{bar(layer.done, layer.total)} {human_size(layer.done):>5} of {human_size(layer.total):>5}"
    return Line(text, layer.digest.rpartition(":")[2][:12])


def _state_lines(job: ImportJob) -> Iterator[Line]:
    if job.error is not None:
        yield Line(job.error.message, "failed", "bad")
        yield Line(_hint(job), "hint")
    elif job.result is not None:
        image = job.result.image
        yield Line(_OUTCOMES[job.result.outcome], "done", "good")
        yield Line(str(image.name), "krata's name")
        yield Line(image.digest, "digest")
        yield from (Line(note, "note") for note in job.result.notes)
    elif job.state is JobState.RUNNING:
        yield from _progress_lines(job.progress)
    else:
        yield Line(_STATES.get(job.state, job.state), "state")


_STATES = {
    JobState.WAITING: "waits for its turn",
    JobState.CANCELLED: "cancelled; the cache is as it was, and what was downloaded is kept",
    JobState.INTERRUPTED: "interrupted; the next start offers to go on",
}


def _hint(job: ImportJob) -> str:
    if isinstance(job.error, NamedOtherwiseError):
        return "Y gives that entry the new name; nothing is packed again"
    hint = job.error.hint if job.error is not None else ""
    return f"{hint}; r tries it again" if hint else "r tries it again"


def _progress_lines(now: ImportProgress) -> Iterator[Line]:
    yield Line(f"{now.phase} {percent(now)}".rstrip(), "step")
    if now.phase in _PHASES:
        yield Line(_PHASES[now.phase], "now")
    if now.total:
        yield Line(f"{human_size(now.done)} of {human_size(now.total)}{_speed(now)}", "bytes")
    if now.files:
        of = f" of {now.files_total}" if now.files_total else ""
        yield Line(f"{now.files}{of}", "files")
    if now.layer:
        yield Line(f"{now.layer} of {now.layers_total}", "layer")
    if now.note:
        yield Line(now.note, "note", "bad")


def _speed(now: ImportProgress) -> str:
    rate = f", {human_size(int(now.rate))}/s" if now.rate is not None else ""
    left = f", {human_age(now.left)} left" if now.left is not None else ""
    return rate + left


def _request_lines(request: ImportRequest) -> Iterator[Line]:
    yield Line(request.source, "source")
    yield Line(request.name or "as the source calls it", "name")
    yield Line(request.format, "format")
    if request.platform:
        yield Line(request.platform, "platform")


def list_summary(jobs: Sequence[ImportJob], interrupted: int, downloaded: int) -> str:
    """The imports screen's status line."""
    parts = [counted(len(jobs), "import", "imports") if jobs else "no import yet"]
    if interrupted:
        parts.append(f"{interrupted} interrupted")
    if downloaded:
        parts.append(f"{human_size(downloaded)} of downloads kept; D removes them")
    return ", ".join(parts)
