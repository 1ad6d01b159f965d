"""Entries made up for the filter and the table: an index, a listing, and the states that a judge would give."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ocitui.cache import PackedFormat, new_index
from ocitui.cache.listing import Fact, Listing
from ocitui.doctor.entries import Entries
from ocitui.doctor.findings import Depth, EntryState

OK = EntryState("ok", None, Depth.HEADER)
NOT_LOOKED = EntryState("-")


@dataclass(frozen=True)
class Made:
    """What an entry is made of; ``size`` and ``modified`` (seconds) are the packed file's, None where there is none."""

    digest: str
    name: str | None = "image:1"
    format: str | None = "squashfs"
    reference: str | None = "1"
    platform: str = ""
    size: int | None = 1024
    modified: float = 1_700_000_000.0
    state: EntryState = OK

    def but(self, **other: Any) -> Made:
        return replace(self, **other)

    @property
    def raw(self) -> bytes:
        annotations = {
            "dev.krata.oci.packer.format": self.format,
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.reference,
        }
        fields: dict[str, Any] = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": self.digest}
        fields |= {"size": 500, "annotations": {key: value for key, value in annotations.items() if value is not None}}
        if self.platform:
            os_, architecture, *variant = self.platform.split("/")
            fields["platform"] = {"architecture": architecture, "os": os_} | (
                {"variant": variant[0]} if variant else {}
            )
        return json.dumps(fields).encode()


@dataclass
class FakeJudge:
    """Says what it was told to."""

    states: list[EntryState]
    listing: Listing = field(default_factory=Listing)

    def state_at(self, position: int) -> EntryState:
        return self.states[position]

    def put(self, made: Made) -> None:
        """Have the listing hold its packed file, or no such file."""
        if made.format in tuple(PackedFormat):
            there = made.size is not None
            fact = Fact(stat.S_IFREG | 0o644, made.size or 0, int(made.modified * 1e9), 0, 1) if there else None
            self.listing.put(f"{made.digest}.{made.format}", fact)


def entries_of(made: Iterable[Made], users: Mapping[str, str] | None = None) -> Entries:
    """Entries in this order."""
    made = [*made]
    judge = FakeJudge([one.state for one in made])
    for one in made:
        judge.put(one)
    return Entries(new_index(one.raw for one in made), judge, users)


def digest_of(number: int) -> str:
    return f"sha256:{number * 7919 % 1_000_003:064x}"


def numbered(count: int) -> Sequence[Made]:
    """Ordinary entries, each of a digest and a name of its own."""
    return [Made(digest_of(number), f"image{number:06}:1.36", reference="1.36") for number in range(count)]
