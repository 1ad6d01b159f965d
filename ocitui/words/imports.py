"""Imports in words: how one stands and ended, what it is to do, how far it is, and a few words for a status line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ocitui.cache import PackedFormat
from ocitui.importing import ImportOutcome, ImportPhase, JobState, NamedOtherwiseError
from ocitui.text import counted, human_size, human_span, short_digests, timestamp

from .lines import Line, Ways, said, with_text

if TYPE_CHECKING:
    from ocitui.cache import CacheError, PackedImage
    from ocitui.importing import ImportJob, ImportProgress, ImportRequest, SourceImage, Standing, UnfinishedImport

_PHASES = {
    ImportPhase.WAIT: "waits for another import of the same image",
    ImportPhase.FINISH: "it goes to the disk and is read back; how long that takes is not known",
    ImportPhase.STORE: "one transaction brings it in",
}


def import_percent(progress: ImportProgress) -> str:
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
    return f"importing{count}: {first.progress.phase} {import_percent(first.progress)}".rstrip()


def size_lines(image: SourceImage, standing: Standing | None, request: ImportRequest) -> Iterator[Line]:
    """What an image takes on the disk, which is an estimate by its layers, and what of these is not fetched again."""
    compressed = any(layer.digest != layer.diff_id for layer in image.layers)
    compresses = request.format == PackedFormat.SQUASHFS or request.compression is not None
    about = "about" if compressed is compresses else "less than" if compresses else "more than"
    size = human_size(sum(image.layer_sizes.values()))
    yield Line(f"{about} {size} as {request.format}, which is an estimate by its layers", "on disk")
    if standing is not None and standing.kept:
        whole = f"{standing.layers} of {counted(len(image.layer_sizes), 'layer')}, " if standing.layers else ""
        yield Line(f"{whole}{human_size(standing.kept)}, from earlier imports: not fetched again", "kept")


def import_label(request: ImportRequest) -> str:
    """The name an import was asked to give, else its source."""
    return request.name or short_digests(request.source)


def outcome_text(outcome: ImportOutcome, image: PackedImage) -> str:
    """What came of an import that ended well."""
    what = f"{image.name} as {image.format}"
    return {
        ImportOutcome.STORED: f"imported {what}",
        ImportOutcome.CACHED: f"the cache has {what} already",
        ImportOutcome.RENAMED: f"the cache had it already, and names it {what} now",
    }[outcome]


def end_text(job: ImportJob) -> str:
    """How an import ended, for the status line."""
    if job.result is not None:
        undo = "" if job.result.outcome is ImportOutcome.CACHED else "; u undoes it"
        return outcome_text(job.result.outcome, job.result.image) + undo
    if job.error is not None:
        return f"import of {import_label(job.request)} failed; I shows more: {job.error.message}"
    return f"import of {import_label(job.request)} {job.state}; the cache is as it was"


def interrupted_lines(unfinished: UnfinishedImport) -> list[Line]:
    """What an interrupted import was to do, or why its record does not tell."""
    begun = Line(timestamp(unfinished.started), "begun")
    if unfinished.problem:
        return [Line(f"its record cannot be read: {unfinished.problem}", "state", "bad"), begun]
    return [
        Line("interrupted: r goes on with it, f forgets it", "state", "bad"),
        begun,
        *_request_lines(unfinished.request),
        Line("what was downloaded is kept; D shows how much, and removes it", "download", "muted"),
    ]


def job_lines(job: ImportJob, fields: Ways) -> Iterator[Line]:
    """How an import stands, and what it is to do; ``fields`` are those of the form that stand for options."""
    if job.error is not None:
        yield Line(job.error.message, "failed", "bad")
        yield Line(_hint(job.error, fields), "hint")
    elif job.result is not None:
        image = job.result.image
        yield Line(end_text(job), "done", "good")
        yield Line(image.digest, "digest")
        yield from (Line(said(note, fields), "note") for note in job.result.notes)
    elif job.state is JobState.RUNNING:
        yield from _progress_lines(job.progress)
    else:
        yield Line(_STATES.get(job.state, job.state), "state")
    yield from _request_lines(job.request)


_STATES = {
    JobState.WAITING: "waits for its turn",
    JobState.CANCELLED: "cancelled; the cache is as it was, and what was downloaded is kept",
    JobState.INTERRUPTED: "interrupted; the next start offers to go on",
}


def _hint(error: CacheError, fields: Ways) -> str:
    if isinstance(error, NamedOtherwiseError):
        return "Y gives that entry the new name; nothing is packed again"
    if (by_field := said(error.hint, fields)) != error.hint:
        return f"{by_field}; i opens the form, filled as it was"
    return f"{error.hint}; r tries it again" if error.hint else "r tries it again"


def _progress_lines(now: ImportProgress) -> Iterator[Line]:
    yield Line(f"{now.phase} {import_percent(now)}".rstrip(), "step")
    if now.phase in _PHASES:
        yield Line(_PHASES[now.phase], "now")
    if now.total:
        yield Line(", ".join(part for part in (bytes_text(now), *import_pace(now)) if part), "bytes")
    files = files_text(now) if now.files else ""
    layer = f"{now.layer} of {now.layers_total}" if now.layer else ""
    yield from with_text(Line(files, "files"), Line(layer, "layer"), Line(now.note, "note", "bad"))


def bytes_text(now: ImportProgress) -> str:
    """As ``12M of 40M``; what came alone, where nobody knows how much there is to do."""
    return (
        f"{human_size(now.done)} of {human_size(now.total)}" if now.total else human_size(now.done) if now.done else ""
    )


def files_text(now: ImportProgress) -> str:
    """As ``12 of 40 files``; empty before the first."""
    if now.files_total:
        return f"{now.files} of {counted(now.files_total, 'file')}"
    return counted(now.files, "file") if now.files else ""


def import_pace(now: ImportProgress) -> tuple[str, str]:
    """The rate and the time that is left, as far as they are known."""
    rate = f"{human_size(round(now.rate))}/s" if now.rate is not None else ""
    return rate, f"{human_span(now.left)} left" if now.left is not None else ""


def _request_lines(request: ImportRequest) -> Iterator[Line]:
    yield Line(request.source, "source")
    yield Line(request.name or "as the source calls it", "name")
    yield Line(request.format, "format")
    if request.platform:
        yield Line(request.platform, "platform")


def list_summary(jobs: Sequence[ImportJob], interrupted: int, downloaded: int) -> str:
    """The imports screen's status line."""
    parts = [counted(len(jobs), "import") if jobs else "no import yet"]
    if interrupted:
        parts.append(f"{interrupted} interrupted")
    if downloaded:
        parts.append(f"{human_size(downloaded)} of downloads kept; D removes them")
    return ", ".join(parts)
