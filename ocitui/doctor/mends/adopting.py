"""Descriptors for files that have none: made of what the files tell, under a name that somebody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ocitui.cache import (
    ANNOTATION_PACKED_FORMAT,
    CacheError,
    Descriptor,
    Document,
    ImageName,
    Insert,
)
from ocitui.cache.files import config_name, known_format, manifest_name, packed_name
from ocitui.importing.describe import describe_image

from ..document_checks import has_digest
from ..findings import Finding
from .descriptors import name_annotations
from .near_copies import is_whole, read_document
from .outcome import Outcome
from .scene import Scene, entry_of, short
from .steps import Change, RepairStep, StepKind

Known = Mapping[tuple[str, str], Descriptor]
"""Descriptors that the index once had, by digest and format."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """``names`` are what the operator gives, by digest; ``known`` descriptors are taken where ``take_known``."""

    scene: Scene
    names: Mapping[str, str]
    known: Known
    take_known: bool = False

    def wants(self, finding: Finding) -> bool:
        """Whether an orphan is to be adopted."""
        return finding.digest in self.names or (self.take_known and self._known(finding) is not None)

    def known_name(self, finding: Finding) -> str:
        """The name that it once had; empty where nobody knows."""
        known = self._known(finding)
        return (known.image_name or "") if known is not None else ""

    def plan(self, finding: Finding, outcome: Outcome) -> None:
        """The step that adopts an orphan, or why it cannot be done."""
        try:
            descriptor = self._descriptor(finding)
        except (CacheError, OSError) as error:
            reason = error.message if isinstance(error, CacheError) else error.strerror or str(error)
            outcome.leave([finding], f"it cannot be adopted: {reason}", "move it to the trash: --trash-orphans")
            return
        assert self.scene.index is not None
        name = descriptor.image_name or ""
        winner = self.scene.index.by_name(name)
        taken = winner is not None and winner.digest != descriptor.digest
        outcome.steps.append(
            RepairStep(
                0,
                StepKind.ADOPT,
                f"Adopt {entry_of(finding.digest, finding.format)} as {name}",
                (finding,),
                then=f"recall by digest hits; {name} stays with {short(winner.digest)}, by `point` it would win"
                if taken and winner
                else f"a hit, and {name} resolves to it",
                source="the index as it once was" if self._uses_known(finding) else "its manifest and config",
                # First in the index, it takes no name from an entry that has it now.
                change=Change(insert=(Insert(self.scene.index.laid_out(descriptor.raw), 0 if taken else None),)),
            )
        )

    def _known(self, finding: Finding) -> Descriptor | None:
        known = self.known.get((finding.digest, finding.format))
        return known if known is not None and known.image_name else None

    def _uses_known(self, finding: Finding) -> bool:
        return finding.digest not in self.names and self._known(finding) is not None

    def _descriptor(self, finding: Finding) -> Descriptor:
        """Raises CacheError and OSError where the files are not what they have to be."""
        made = described(self.scene.directory, finding.digest, finding.format)
        if self._uses_known(finding):
            known = self._known(finding)
            assert known is not None
            return known
        name = ImageName.parse(self.names[finding.digest])
        return made.with_annotations({ANNOTATION_PACKED_FORMAT: finding.format, **dict(name_annotations(name))})


def described(directory: Path, digest: str, format: str) -> Descriptor:
    """A descriptor made of an entry's files, without its annotations.

    Raises CacheError and OSError where they are not what they have to be.
    """
    form = known_format(format)
    if form is None:
        raise CacheError(f"{format!r} is no format")
    raw_manifest = read_document(directory / manifest_name(digest))
    raw_config = read_document(directory / config_name(digest))
    manifest, config = Document.manifest(raw_manifest), Document.config(raw_config)
    if not has_digest(raw_manifest, digest):
        raise CacheError("its manifest is not the one of its digest")
    if not has_digest(raw_config, manifest.value.config.digest):
        raise CacheError("its config is not the one that its manifest names")
    if not is_whole(directory / packed_name(digest, form), form):
        raise CacheError(f"its packed file is no whole {form}")
    return describe_image(digest, manifest, config.value)
