"""The fast readers held against the strict one: indexes, manifests and configs of all shapes, bent by seeded chance.

What the strict reader accepts is accepted, with the same values; what it refuses is refused in its words, at its place.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
import pytest

from ocitui.cache import DocumentError, ImageIndex
from ocitui.cache import descriptors as descriptors_module
from ocitui.cache import documents as schema
from ocitui.cache.descriptors import ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE, Descriptor
from ocitui.cache.documents import (
    ImageConfiguration,
    ImageManifest,
    Platform,
    read_config,
    read_manifest,
    read_strictly,
)
from ocitui.cache.index import NotUtf8Error
from tests.cache.grammar import SCALARS, STRINGS
from tests.cache.support import entry

pytestmark = pytest.mark.slow

T = TypeVar("T")
Rows = list[tuple[object, ...]]

# Members as a descriptor may have them beside the usual ones: known, unknown, repeated, and spelt in other ways.
MEMBERS = [
    b'"platform":{"architecture":"amd64","os":"linux"}',
    b'"platform":{"os":"linux","architecture":"arm64","variant":"v8","os_features":["a"],"features":[]}',
    b'"platform":{"architecture":"amd64","os":"windows","os.version":"10.0","os.version":"11"}',
    b'"platform":["amd64","linux",null,null,null,null]', b'"platform":{"os":"linux"}', b'"platform":null',
    b'"platform":{"architecture":"a","os":"l","os":"l"}', b'"platform":{"architecture":"a","os":"\\u0022"}',
    b'"urls":["u","v"]', b'"urls":null', b'"urls":[]', b'"artifactType":"t"', b'"artifactType":null', b'"data":"ZA=="',
    b'"annotations":null', b'"annotations":{}', b'"size":0', b'"size":-0', b'"size":1', b'"digest":"d"',
    b'"\\u0064igest":"d"', b'"\\u0073ize":7', b'"x":1', b'"x":{"digest":[{"mediaType":"m"},{"digest":"e"}]}',
    b'"x":"},{"', b'"x":[{"digest":1},{"size":-0}]', b'"x":"\\ud800"', b'"x":-0', b'"x":1e400', b'"x":{"a":1,"a":2}',
    b'"x":"\\u0022"', b'"artifactType":"\\u0022\\u0022","data":null,"data":null',
    b'"x":"\\"\\\\"', b'"x":' + b"[" * 300 + b"]" * 300, b'"":0', b'"x":"\xc3\xa4"', b'"x":"\xff"',
]  # fmt: skip
ANNOTATIONS = [
    b'"a":"b"', b'"a":"\\"quoted\\""', b'"a":"\\u0022"', b'"a":"\\\\"', b'"a":"\xc3\xb6"', b'"a":"\\ud83d\\ude00"',
    b'"a":"\\ud800"', b'"a":null', b'"a":1', b'"a":"},{"', b'"a":"1","a":"2"', b'"a":"-0"', b'"\\"":""',
    b'"io.containerd.image.name":"other:2"', b'"org.opencontainers.image.ref.name":""', b'"a":"\xff"',
]  # fmt: skip
TOKENS = [
    *SCALARS, *(b'"%b"' % text for text in STRINGS), *MEMBERS, *ANNOTATIONS, b"{", b"}", b"[", b"]", b",", b":", b'"',
    b"\\", b" ", b"\n", b"\r\n", b"\t", b"\x00", b"\xc3", b"{}", b"[]", b'{"digest":"d","mediaType":"m","size":3}',
    b'["m","d",1,null,null,null,null,null]', b'"subject":null', b'"artifactType":"]"', b'"history":[]',
    b'"schemaVersion":2', b'"layers":[]', b'"manifests":[]', b'"Healthcheck":{"Test":["a"]}',
]  # fmt: skip

_NUMBER = re.compile(rb'(":\s*)-?[0-9.eE+-]+')


def laid_out(raw: bytes, chance: random.Random) -> bytes:
    """The same JSON as some writer or other would lay it out."""
    match chance.randrange(5):
        case 0:
            return json.dumps(json.loads(raw), separators=(",", ":"), ensure_ascii=False).encode()
        case 1:
            return json.dumps(json.loads(raw), indent="\t").encode().replace(b"\n", b"\r\n")
        case 2:
            return json.dumps(json.loads(raw)).encode()
    return json.dumps(json.loads(raw), indent=2, ensure_ascii=False).encode() + b"\n"


def make_index(chance: random.Random) -> bytes:
    """An index; of its descriptors none, some or nearly all are otherwise than the daemon writes them."""
    share, common = chance.choice([(0.0, b""), (0.15, b""), (0.15, chance.choice(MEMBERS[:-1]))])
    made: list[bytes] = []
    for number in range(chance.randrange(12)):
        fields: dict[str, Any] = entry(chance.randrange(6), name=chance.choice([None, "a:1"]))
        if chance.random() < share:
            del fields["annotations"][chance.choice(list(fields["annotations"]))]
        if chance.random() < share / 2:
            del fields["annotations"]
        keys = chance.sample(list(fields), len(fields)) if chance.random() < share / 2 else fields
        raw = json.dumps({key: fields[key] for key in keys}, separators=(",", ":")).encode()
        if common and chance.random() < 0.9:
            raw = raw[:-1] + b"," + common + b"}"
        if chance.random() < share:
            raw = raw[:-1] + b"," + chance.choice(MEMBERS) + b"}"
        if chance.random() < share:
            raw = raw.replace(b'"annotations":{', b'"annotations":{' + chance.choice(ANNOTATIONS) + b",")
        array = b'["m","d%d",1,null,null,null,null,null]' % number
        made.append(array if chance.random() < share / 5 else raw)
    more = chance.choice([b"", b',"annotations":{"a":"]"}', b',"x":[{"digest":"d"}]', b',"subject":null'])
    data = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
    return relaid(data + b",".join(made) + b"]" + more + b"}", chance).replace(b'},{"mediaType', b'},\n    {"mediaType')


def make_manifest(chance: random.Random) -> bytes:
    """A manifest; some of its descriptors with a member more."""
    blobs: list[bytes] = []
    for number in range(1 + chance.randrange(5)):
        blob = b'{"mediaType":"m","digest":"sha256:%d","size":%d' % (number, chance.choice([0, 1, 428]))
        blobs.append(blob + (b"," + chance.choice(MEMBERS) if chance.random() < 0.2 else b"") + b"}")
    more = chance.choice([b"", b"", b',"annotations":{"a":"b"}', b',"subject":' + blobs[0], b',"x":[{"y":null}]'])
    data = b'{"schemaVersion":2,"config":%b,"layers":[%b]%b}' % (blobs[0], b",".join(blobs[1:]), more)
    return relaid(data, chance)


def make_config(chance: random.Random) -> bytes:
    """A config with some of its fields, and some that the daemon does not know."""
    members = [
        b'"User":"u"', b'"ExposedPorts":{"80/tcp":{}}', b'"Env":["A=b"]', b'"Cmd":null', b'"Labels":{"k":"v"}',
        b'"Volumes":{"/v":{"x":1}}', b'"OnBuild":null', b'"ArgsEscaped":true', b'"Entrypoint":["sh","-c"]',
        b'"Healthcheck":{"Test":["a"],"Interval":1}', b'"User":"twice"', b'"WorkingDir":"\\u0022"',
        b'"User":"\\u0022\\u0022","Cmd":null,"Cmd":null',
    ]  # fmt: skip
    config = b",".join(chance.sample(members, chance.randrange(5)))
    created = b'{"created_by":"/bin/sh -c #(nop) CMD [\\"sh\\"] \\u0026\\u0026 true","empty_layer":true}'
    history = b",".join([chance.choice([created, b'{"created":null}', b"{}"])] * chance.randrange(3))
    more = chance.choice([b"", b',"variant":"v8"', b',"os.version":"1"', b',"os_version":1', b',"container":"c"'])
    data = b'{"architecture":"arm64","os":"linux","config":{%b},"rootfs":{"type":"layers","diff_ids":["d"]}' % config
    return relaid(data + b',"history":[%b]%b}' % (history, more), chance)


def relaid(data: bytes, chance: random.Random) -> bytes:
    try:
        return laid_out(data, chance) if chance.random() < 0.7 else data
    except (ValueError, RecursionError):
        return data


def bent(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few mutations, or none."""
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice([1, 1, 2, 8, 40]))
        match chance.randrange(9):
            case 0:
                data = data[:at] if chance.random() < 0.3 else data[:at] + data[end:]
            case 1:
                data = data[:at] + bytes([chance.randrange(256) & chance.choice([0x7F, 0x7F, 0xFF])]) + data[at + 1 :]
            case 2:
                data = data[:at] + chance.choice(TOKENS) + data[at:]
            case 3:
                data = data[:at] + data[at:end] * 2 + data[end:]
            case 4:
                data = renumbered(data, chance)
            case 5:
                member = chance.choice([*MEMBERS, *ANNOTATIONS, b'"schemaVersion":2', b'"size":-0'])
                data = after(data, chance, b"{", member + b",")
            case 6:
                data = after(
                    data, chance, chance.choice([b",", b":", b"[", b"{"]), chance.choice([b" ", b"\r\n", b"\t"])
                )
            case 7:
                data = swapped(data, chance)
            case 8:
                data = duplicated(data, chance)
    return data


def places(data: bytes, of: bytes) -> list[int]:
    return [at for at, byte in enumerate(data) if byte in of]


def renumbered(data: bytes, chance: random.Random) -> bytes:
    """One number, or all of one value, replaced by another scalar."""
    numbers = list(_NUMBER.finditer(data))
    if not numbers:
        return data
    number, other = chance.choice(numbers), b"-0" if chance.random() < 0.3 else chance.choice(SCALARS)
    if chance.random() < 0.2:
        return data.replace(number[0], number[1] + other)
    return data[: number.start()] + number[1] + other + data[number.end() :]


def swapped(data: bytes, chance: random.Random) -> bytes:
    """What stands in quotes, mostly, replaced by another text."""
    quotes = places(data, b'"')
    at = chance.randrange(max(1, len(quotes) - 1))
    if not quotes[at + 1 :]:
        return data
    return data[: quotes[at] + 1] + chance.choice(STRINGS) + data[quotes[at + 1] :]


def after(data: bytes, chance: random.Random, byte: bytes, more: bytes) -> bytes:
    found = places(data, byte)
    at = chance.choice(found) + 1 if found else 0
    return data[:at] + more + data[at:]


def duplicated(data: bytes, chance: random.Random) -> bytes:
    """One member or element twice: what stands between two commas."""
    commas = places(data, b",")
    if len(commas) < 2:
        return data
    at = chance.randrange(len(commas) - 1)
    return data[: commas[at]] + data[commas[at] : commas[at + 1]] * 2 + data[commas[at + 1] :]


def told(read: Callable[[], T]) -> T | str:
    """What was read, or how and where it was refused."""
    try:
        return read()
    except DocumentError as error:
        return f"{type(error).__name__} {error.message} at line {error.line} column {error.column}"


def strictly(data: bytes) -> Rows:
    """Each descriptor's values as the strict reader reads them. Raises DocumentError."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise NotUtf8Error("stream did not contain valid UTF-8", line=line, column=column) from None
    return [values_of(fields) for fields in read_strictly(data, schema.IMAGE_INDEX)["manifests"]]


def values_of(fields: dict[str, Any]) -> tuple[object, ...]:
    annotations, platform = fields.get("annotations") or {}, fields.get("platform")
    return (
        fields["digest"],
        fields["size"],
        fields["mediaType"],
        *(annotations.get(key) for key in (ANNOTATION_IMAGE_NAME, ANNOTATION_PACKED_FORMAT, ANNOTATION_REFERENCE)),
        msgspec.convert(platform, Platform) if platform else None,
    )


def by_the_index(data: bytes, previous: ImageIndex | None = None) -> Rows:
    """Each descriptor's values as columns; the bytes are proven on the way. Raises DocumentError."""
    index = ImageIndex.parse(data, previous)
    columns = (
        index.digests, index.sizes, index.media_types, index.names, index.formats, index.references, index.platforms,
    )  # fmt: skip
    rows: Rows = list(zip(*columns, strict=True))
    assert index.data == data
    for position, descriptor in enumerate(index.descriptors):
        assert data[index.start(position) : index.end(position)] == descriptor.raw == index.raw(position)
        assert values_of(read_strictly(descriptor.raw, schema.DESCRIPTOR)) == rows[position]
        assert msgspec.structs.astuple(descriptor)[1:] == rows[position]
        assert Descriptor.parse(descriptor.raw) == descriptor
    return rows


def check_index(seed: int) -> None:
    chance = random.Random(seed)
    sound = make_index(chance)
    data = bent(sound, chance)
    expected = told(lambda: strictly(data))
    assert told(lambda: by_the_index(data)) == expected, (seed, data)
    previous = told(lambda: ImageIndex.parse(sound))
    if isinstance(previous, ImageIndex):
        assert told(lambda: by_the_index(data, previous)) == expected, (seed, data, sound)


def check_manifest(seed: int) -> None:
    chance = random.Random(seed)
    data = bent(make_manifest(chance), chance)
    expected = told(lambda: msgspec.convert(read_strictly(data, schema.IMAGE_MANIFEST), ImageManifest))
    assert told(lambda: read_manifest(data)) == expected, (seed, data)


def check_config(seed: int) -> None:
    chance = random.Random(seed)
    data = bent(make_config(chance), chance)
    expected = told(lambda: msgspec.convert(read_strictly(data, schema.IMAGE_CONFIGURATION), ImageConfiguration))
    assert told(lambda: read_config(data)) == expected, (seed, data)


def check_index_in_small_blocks(seed: int) -> None:
    """Few descriptors are many blocks where a block is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descriptors_module, "_BLOCK", 600)
        patch.setattr(descriptors_module, "_SMALLEST_BLOCK", 100)
        patch.setattr(descriptors_module, "_FULL_BLOCK", 2)
        check_index(seed)


CHECKS = [check_index, check_index_in_small_blocks, check_manifest, check_config]


@pytest.mark.parametrize("check", CHECKS)
def test_a_sample_of_mutations_is_read_as_the_strict_reader_does(check: Callable[[int], None]) -> None:
    for seed in range(1_000):
        check(seed)


@pytest.mark.long
@pytest.mark.parametrize("check", CHECKS)
def test_mutations_are_read_as_the_strict_reader_does(check: Callable[[int], None]) -> None:
    for seed in range(1_000_000, 1_025_000):
        check(seed)


def test_the_mutations_are_of_all_kinds() -> None:
    """Else nothing is shown by them: many are read, and many are refused, for many reasons."""
    refusals: list[str] = []
    for seed in range(600):
        chance = random.Random(seed)
        outcome = told(partial(strictly, bent(make_index(chance), chance)))
        refusals += [outcome.rpartition(" at line")[0]] if isinstance(outcome, str) else []
    assert 150 < len(refusals) < 450
    assert len(set(refusals)) > 30
