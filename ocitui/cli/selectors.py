"""Entries and findings as an operator names them: by a word of `find_entry`, by a filter, by the beginning of an id.

And what a shell is offered for such words, which is to take no time: index.json is searched for names and digests,
sound or not, and of `.ocitui` only names and small files are read. What cannot be read offers nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocitui.cache import LEAST_DIGITS, CacheError, CorruptIndexError, NoSuchEntryError, find_entry, spelled, stem_of
from ocitui.directory import default_directory
from ocitui.text import counted, short_digest, timestamp, unescaped

from .options import FORMATS, ended_by_signals, run_async
from .output import Call, UsageProblemError, say

if TYPE_CHECKING:
    from ocitui.cache import ImageIndex, Key, NamedEntry, PackerCache
    from ocitui.contents import PackedTree
    from ocitui.doctor import Entries, Judge

_WHOLE = re.compile(rf"((?:sha256:)?[0-9a-f]{{64}}|(?:sha512:)?[0-9a-f]{{128}})(?:\.(?:{'|'.join(FORMATS)}))?")
_OF_FILES = re.compile(r"(?<!\S)!*(?:state:|used:|(?:size|age)[<>])\S*", re.IGNORECASE)
_MOST_ALIKE = 5
_HINT = f"ocitui list shows them; of a digest give {LEAST_DIGITS} digits or more"


def whole_digest(word: str) -> str:
    """The digest that this is, with or without algorithm and format, for which no index is needed; empty for others."""
    found = _WHOLE.fullmatch(word)
    if found is None or ":" in found[1]:
        return found[1] if found else ""
    return f"{'sha256' if len(found[1]) == 64 else 'sha512'}:{found[1]}"


def find_named(index: ImageIndex, word: str, held: Collection[str] = ()) -> NamedEntry:
    """What a word names in an index, or among the digests ``held`` besides; what it overrules is told. Raises
    NoSuchEntryError, with what is alike, and AmbiguousDigestError."""
    named = find_entry(word, index.digests, index.names, held)
    if named is None:
        stem = stem_of(spelled(word))
        like = sorted({name for name in index.names if name and stem_of(name) == stem})[:_MOST_ALIKE]
        raise NoSuchEntryError(f"there is no entry {word}", hint=f"there is {', '.join(like)}" if like else _HINT)
    if named.overruled:
        others = ", ".join(map(short_digest, named.overruled))
        say(f"note: {named.text} is {short_digest(named.digest)}, as for the daemon; {others} has it too", err=True)
    return named


def keys_of(index: ImageIndex, named: NamedEntry, formats: Collection[str]) -> list[Key]:
    """The entries of what was named: those of the word's format or of those asked for, else of all formats there are,
    as they are preferred. Raises AmbiguousDigestError where the word's is another than those asked for."""
    if not (named.format or formats):
        found = dict.fromkeys(index.formats[at] for at in index.positions(named.digest))
        return [(named.digest, one) for one in sorted(found, key=lambda one: (*FORMATS, one).index(one))]
    asked = [named.format] if not formats or named.format in formats else map(named.asked_format, formats)
    return [(named.digest, one) for one in asked]


def standing_names(index: ImageIndex) -> dict[str, str | None]:
    """The first name that stands for each digest, in the order of the index; None for one without."""
    # Of several entries that carry a name the last is the one that it stands for.
    winners = dict(zip(index.names, index.digests, strict=True))
    names = dict[str, str | None]()
    for name, digest in zip(index.names, index.digests, strict=True):
        names[digest] = names.get(digest) or (name if winners[name] == digest else None)
    return names


def chosen_keys(
    call: Call,
    cache: PackerCache,
    words: Sequence[str],
    filter_text: str | None,
    formats: Collection[str] = (),
    *,
    but_pinned: bool = False,
) -> list[Key]:
    """The entries that words name, or that pass a filter, in these formats or in all; each once. ``but_pinned`` leaves
    those out that pass the filter and are pinned, and says so. Raises NoSuchEntryError, AmbiguousDigestError,
    InterruptedBySignalError, and what `judged_entries` raises."""
    if filter_text is None:
        index = run_async(cache.index())
        return list(dict.fromkeys(key for word in words for key in keys_of(index, find_named(index, word), formats)))
    from ocitui.cache import Topic

    with ended_by_signals():
        entries, positions, judge = judged_entries(call, filter_text)
        keys = [(entries.digests[at], entries.formats[at]) for at in positions]
    if but_pinned and (pins := judge.remembered.noted(Topic.PINNED)):
        free = [key for key in keys if f"{key[0]}.{key[1]}" not in pins]
        if len(free) < len(keys):
            say(f"note: {counted(len(keys) - len(free), 'entry')} of these are pinned, and stay", err=True)
        keys = free
    if chosen := list(dict.fromkeys(key for key in keys if not formats or key[1] in formats)):
        return chosen
    raise NoSuchEntryError(f"no entry passes the filter {filter_text!r}")


def chosen_entries(call: Call, words: Sequence[str], filter_text: str | None) -> tuple[ImageIndex, list[Key]]:
    """The index, and for a command that only reads the entries that pass a filter, or that words name: of the formats
    that each has the one that is preferred, and there. Raises as `chosen_keys`."""
    from ocitui.cache import regular_file

    cache = call.cache()
    index = run_async(cache.index())
    if filter_text is not None:
        return index, chosen_keys(call, cache, (), filter_text)
    keys: dict[Key, None] = {}
    for word in words:
        found = keys_of(index, find_named(index, word), ())
        keys[next((one for one in found if regular_file(call.directory / f"{one[0]}.{one[1]}")), found[0])] = None
    return index, [*keys]


def need_entries(words: Sequence[str], filter_text: str | None) -> None:
    """Raises UsageProblemError unless entries are named, or a filter is given that says something."""
    if bool(words) == (filter_text is not None):
        what = "entries are named, and --filter is given" if words else "no entry is named"
        raise UsageProblemError(what, hint="name entries, or give --filter TEXT; ocitui list shows them")
    if filter_text is not None and not filter_text.strip():
        raise UsageProblemError("the filter is empty, and every entry passes it", hint="give --filter some text")


def judged_entries(call: Call, filter_text: str, at: float | None = None) -> tuple[Entries, Iterator[int], Judge]:
    """The entries of the cache, the positions that pass a filter, and who judges them. Those of a time, in seconds
    since the epoch, are not looked into. Raises UsageProblemError, with what was meant, where the filter cannot be
    understood, NoSuchEntryError where no index of then is kept, CorruptIndexError, CacheDirectoryError, StorageError.
    """
    from ocitui.cache import CacheFiles
    from ocitui.doctor import Entries, Judge, read_index

    judge = Judge(call.directory)
    if at is not None:
        entries = Entries(_index_at(call, filter_text, at), judge)
    else:
        with CacheFiles(call.directory) as files:
            reading = read_index(files)
        reading.require_sound(call.directory)
        judge.begin(reading)
        entries = Entries(reading.contents, judge)
    if "used:" in filter_text.lower():  # nobody pays for a look at zones and loop devices who does not ask for it
        from ocitui.host import find_users

        users = find_users(call.directory)
        entries.users, entries.doubt = users.names, users.doubt
    if misunderstood := entries.misunderstood(filter_text):
        raise UsageProblemError(misunderstood[0], hint=misunderstood[1])
    return entries, passing(judge, entries, filter_text), judge


def _index_at(call: Call, filter_text: str, moment: float) -> ImageIndex:
    """The index that was seen last at a time."""
    from ocitui.cache import IndexHistory, check_directory

    if found := _OF_FILES.search(filter_text):
        raise UsageProblemError(f"{found[0]} asks for what is not known of then", hint="filter by what the index tells")
    check_directory(call.directory)
    change = IndexHistory(call.directory).at(moment)
    say(f"note: index.json as it was from {timestamp(change.when)}, as far as it was seen", err=True)
    return change.index


def passing(judge: Judge, entries: Entries, filter_text: str) -> Iterator[int]:
    """The positions that pass, in order, each as soon as everything up to it was looked into."""
    passes, waiting, looks = entries.test(filter_text), set(judge.pending), judge.look()
    # What is wrong with descriptors is known once that began; an entry without any file waits for nothing else.
    waiting.difference_update(next(looks, ()))
    for position, digest in enumerate(entries.digests):
        while digest in waiting and (looked := next(looks, None)) is not None:
            waiting.difference_update(looked)
        if passes(position):
            yield position


async def find_keys(cache: PackerCache, words: Sequence[str]) -> frozenset[Key] | None:
    """The entries that these words name; None, which is all, where there is no word. Where the daemon would not load
    the index, the files tell what digests there are. Raises NoSuchEntryError, AmbiguousDigestError,
    CacheDirectoryError, and CorruptIndexError where that is why a word names nothing."""
    from ocitui.cache import ImageIndex

    if not words:
        return None
    held: list[Key] = []
    corrupt: CorruptIndexError | None = None
    try:
        index = await cache.index()
    except CorruptIndexError as error:
        index, held, corrupt = ImageIndex.empty(), keys_of_files(cache.directory), error
    known = {*held, *zip(index.digests, index.formats, strict=True)}
    chosen: set[Key] = set()
    for word in words:
        try:
            named = find_named(index, word, dict(held))
        except NoSuchEntryError:
            if corrupt is not None:
                raise corrupt from None
            if find_entry(word, (), (), dict(keys_of_files(cache.directory))):
                hint = "ocitui check tells of them as orphan-entry, and ocitui why of the digest"
                raise NoSuchEntryError(f"there are files of {word}, but no entry", hint=hint) from None
            raise
        of_it = {key for key in known if key[0] == named.digest and named.format in (None, key[1])}
        if not of_it:
            raise NoSuchEntryError(f"there is no entry {named.digest} in format {named.format}", hint=_HINT)
        chosen |= of_it
    return frozenset(chosen)


def keys_of_files(directory: Path) -> list[Key]:
    """The digests and formats of which there is a packed file. Raises CacheDirectoryError."""
    from ocitui.cache import CacheFiles, Listing

    with CacheFiles(directory) as files:
        listing = Listing.read(files)
    return [(digest, format_) for digest in listing.held() for format_ in listing.formats(digest)]


class NoSuchPathError(NoSuchEntryError):
    code = "no-such-path"
    default_hint = "ocitui files ENTRY lists what there is"


@contextmanager
def opened_tree(call: Call, word: str, *, whole: bool) -> Iterator[tuple[Key, PackedTree]]:
    """The entry that a word names, and the tree inside its packed file, if not ``whole`` as far as it is asked for: of
    the formats that it has the one that is preferred. A whole digest needs no index. Within, a signal ends it at once.
    Raises NoSuchEntryError, ContentsError, AmbiguousDigestError, StorageError, InterruptedBySignalError,
    CorruptIndexError, CacheDirectoryError."""
    key, path = packed_file(call, word)
    with tree_in(path, whole=whole) as tree:
        yield key, tree


@contextmanager
def tree_in(path: Path, *, whole: bool = True) -> Iterator[PackedTree]:
    """The tree inside a packed file, as `open_tree` gives it. Within, a signal ends it at once. Raises ContentsError,
    StorageError, InterruptedBySignalError."""
    from ocitui.cache import PackedFormat, StorageError, open_bounded
    from ocitui.contents import ContentsError, open_lazily, open_tree
    from ocitui.threads import Stop

    with ended_by_signals(), ExitStack() as stack:
        try:
            file = stack.enter_context(open_bounded(path))
            format = PackedFormat(path.suffix[1:])
            tree = open_tree(file, format, Stop()) if whole else open_lazily(path, file, format, Stop())
        except ContentsError as error:
            raise type(error)(f"{path.name}: {error.message}", hint=error.hint) from error
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}", hint="see that it is readable") from error
        yield tree


def packed_file(call: Call, word: str) -> tuple[Key, Path]:
    """The entry that a word names, and its packed file: of the formats that it has the one that is preferred. A whole
    digest needs no index. Raises NoSuchEntryError, AmbiguousDigestError, CorruptIndexError, CacheDirectoryError."""
    from ocitui.cache import check_directory, read_patiently, regular_file, usable_digest

    check_directory(call.directory)
    if digest := whole_digest(word):
        ending = word.rpartition(".")[2]
        keys: list[Key] = [(digest, one) for one in (FORMATS if ending not in FORMATS else (ending,))]
    else:
        seen = read_patiently(call.directory)
        seen.require_sound(call.directory)
        keys = keys_of(seen.contents, find_named(seen.contents, word), ())
    for digest, format in keys:
        path = call.directory / f"{digest}.{format}"
        if format in FORMATS and usable_digest(digest) and regular_file(path):
            return (digest, format), path
    told = f"there is no packed file of {word}"
    raise NoSuchEntryError(told, hint="ocitui check says what is missing, ocitui repair where it may come from")


def entry_at(tree: PackedTree, path: str, *, follow: bool) -> int:
    """The entry of a path as it was typed, or as programs are told it: links in it are followed inside the tree, one
    at its end only to ``follow`` it. Raises NoSuchPathError, ContentsError, StorageError."""
    from ocitui.cache import StorageError

    typed = os.fsencode(path)
    try:
        found = (tree.follow(one, follow) for one in dict.fromkeys((typed, unescaped(typed))))
        if (entry := next((one for one in found if one is not None), None)) is not None:
            return entry
    except OSError as error:
        raise StorageError(f"the packed file cannot be read: {error.strerror}") from error
    if tree.damage:
        from ocitui.contents import DamagedError

        raise DamagedError(f"there is no {path} in what could be read: {tree.damage[0][1]}")
    raise NoSuchPathError(f"there is no {path} in the packed file")


class NoSuchFindingError(NoSuchEntryError):
    code = "no-such-finding"
    default_hint = "ocitui check shows the findings with their ids; --only also takes codes, digests and names"


def fingerprints(word: str, known: Iterable[str]) -> list[str]:
    """The one fingerprint that begins so, or none. Raises UsageProblemError where these are several."""
    if len(word) < LEAST_DIGITS:
        return []
    found = list(dict.fromkeys(one for one in known if one.startswith(word)))
    if len(found) > 1:
        raise UsageProblemError(f"{word} begins the ids of {len(found)} findings", hint="give more of its digits")
    return found


# Compiled when they are asked for: no command that runs is to pay for them.
_JSON_TEXT = rb'"\s*:\s*"([^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+)"'
_TOLD = rb'"(?:digest' + _JSON_TEXT + rb"|io\.containerd\.image\.name" + _JSON_TEXT + rb")"
_FILE = r"([^.]+:[^.]+)\.(?:squashfs|erofs|tar|manifest\.json|config\.json)"
_BEGUN_DIGEST = rf"(?:sha(?:256|384|512):)?[0-9a-f]{{{LEAST_DIGITS},}}"
_ALGORITHM = "sha256:"
# Whose words may name a digest that no entry has; of `check` where the daemon would not load the index.
_TAKE_ORPHANS = ("show", "why", "check")
DOCUMENTS = ("manifest", "config")
_MOST_INDEX_BYTES = 1 << 27
_MOST_DIGESTS = 50
_FAR_SECONDS = 1.0
# The doctor's own names for these are a heavy import; a test holds them together.
FILTER_FIELDS = ("name", "tag", "digest", "format", "platform", "state", "used")
_FILTER_TERMS = (*(f"{field}:" for field in FILTER_FIELDS), "size>", "size<", "age>", "age<")

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def completer(offered: Callable[[Path, str, click.Context], Collection[str]]) -> Completer:
    """What goes on with a word, of what is ``offered`` in a directory for it; nothing where that cannot be read."""

    def complete(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
        with suppress(OSError, ValueError, RecursionError, CacheError):
            found = dict.fromkeys(offered(_directory(context), word, context))
            return [one for one in found if one.startswith(word) and one.isprintable()]
        return []

    return complete


def _entries(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """Names; digests for who begins one, also such as no entry has where that is understood; formats behind either."""
    return _of_told(_told(directory), directory, word, context)


def _of_told(told: Collection[tuple[str, str]], directory: Path, word: str, context: click.Context) -> Collection[str]:
    stem, dot, _ = word.rpartition(".")
    names = {name for _, name in told if name}
    begun = sorted(name for name in names if name.startswith(word))
    digests = _digests(directory, word, told, held=context.info_name in _TAKE_ORPHANS)
    known = (dot and stem in names) or any(stem in (digest, digest.rpartition(":")[2]) for digest, _ in told)
    return [*begun, *digests, *(f"{stem}.{one}" for one in FORMATS if stem and known)]


complete_entry = completer(_entries)


@completer
def complete_far_entry(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """Entries of the host that stands before, where it tells of them at once; else names of this cache of which files
    are gone."""
    if told := _in_index(_far_index(context)):
        return _of_told(told, directory, word, context)
    files = {*os.listdir(directory)}
    wanted = {name for digest, name in _told(directory) if name and not _is_whole(digest, files)}
    return sorted(wanted)


def _far_index(context: click.Context) -> bytes:
    """The index of the host that stands before, by a connection of the operator's that is open: a new one takes longer
    than a shell is to wait, and may have to be asked for. Empty where there is none."""
    import asyncio

    from ocitui.cache import INDEX_NAME
    from ocitui.remote import FarFiles, SshPlace

    files = FarFiles(SshPlace.parse(context.params["place"] or ""), sudo=bool(context.params.get("sudo")))
    with suppress(CacheError, TimeoutError):
        return run_async(asyncio.wait_for(files.glance(INDEX_NAME, _MOST_INDEX_BYTES), _FAR_SECONDS))
    return b""


def _is_whole(digest: str, files: Collection[str]) -> bool:
    """Whether there are documents and a packed file of a digest."""
    documents = all(f"{digest}.{one}.json" in files for one in DOCUMENTS)
    return documents and any(f"{digest}.{one}" in files for one in FORMATS)


@completer
def complete_shown(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """Entries, and behind one, or a filter, which of their documents."""
    before: Sequence[str] = context.params.get("words") or ()
    filtered = context.params.get("filter_text") is not None
    if len(before) > (not filtered) and before[-1] in DOCUMENTS:
        return ()
    entries = () if filtered else _entries(directory, word, context)
    return [*(DOCUMENTS if before or filtered else ()), *entries]


@completer
def complete_digest(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """Digests; of the name before, where there is one."""
    told = _told(directory)
    if (name := context.params.get("name")) and (own := [pair for pair in told if pair[1] == spelled(name)]):
        return [digest if word.startswith("sha") else digest.rpartition(":")[2] for digest, _ in own]
    return _digests(directory, word, told, held=False)


@completer
def complete_pair(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """DIGEST=, which a name is to follow."""
    return [one if one.endswith(":") else f"{one}=" for one in _digests(directory, word, _told(directory))]


@completer
def complete_filter(directory: Path, text: str, context: click.Context) -> Collection[str]:
    """Fields, and values where they are few."""
    before, blank, word = text.rpartition(" ")
    bare = word.lstrip("!")
    head = f"{before}{blank}{word[: len(word) - len(bare)]}"
    values: Collection[str] = ()
    if bare.lower().startswith("state:"):
        from ocitui.doctor import STATE_WORDS

        values = STATE_WORDS
    elif bare.lower().startswith("format:"):
        values = FORMATS
    field, colon, _ = bare.partition(":")
    return [f"{head}{field}:{value}" for value in values] if colon else [f"{head}{term}" for term in _FILTER_TERMS]


@completer
def complete_acknowledged(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """The ids of the findings that were accepted."""
    from ocitui.doctor import load_acknowledged

    return load_acknowledged(directory)


@completer
def complete_finding(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """The ids of the findings that were told last."""
    from ocitui.doctor import told_last

    return told_last(directory)


@completer
def complete_concern(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """What a repair may be about: the codes and ids of findings, names and digests."""
    from ocitui.doctor import CATALOGUE, told_last

    told = _told(directory)
    digests = _digests(directory, word, told) if word else ()
    found = [*CATALOGUE, *sorted({name for _, name in told if name}), *digests]
    with suppress(OSError, CacheError):
        found += told_last(directory)
    return found


@completer
def complete_transaction(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """Those that can be undone, newest first."""
    from ocitui.cache import open_journal

    with open_journal(directory) as journal:
        return [record.id for record in journal.names() if record.state == "done"]


@completer
def complete_trashed(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """The ids by which files came into the trash, and the files, for whoever begins one."""
    from ocitui.cache import open_own_folder

    with open_own_folder(directory, "trash") as trash:
        pairs = [name.split("~") for name in sorted(trash.names(), reverse=True) if name.count("~") == 1]
    return [*(by for by, _ in pairs), *(name for _, name in pairs if word and context.info_name == "restore")]


@completer
def complete_import(directory: Path, word: str, context: click.Context) -> Collection[str]:
    """The imports that were begun and not ended."""
    from ocitui.cache import open_own_folder

    with open_own_folder(directory, "imports") as imports:
        return sorted(name.removesuffix(".json") for name in imports.names() if name.endswith(".json"))


def _directory(context: click.Context) -> Path:
    """The cache that the words before name; the shell has not expanded them."""
    given: click.Context | None = context
    while given is not None:
        if directory := given.params.get("directory"):
            return Path(os.path.expandvars(directory)).expanduser()
        given = given.parent
    return default_directory()


def _told(directory: Path) -> list[tuple[str, str]]:
    """What the index tells; nothing where it cannot be read."""
    from ocitui.cache import INDEX_NAME, read_bounded

    with suppress(OSError):
        return _in_index(read_bounded(directory / INDEX_NAME, _MOST_INDEX_BYTES))
    return []


def _in_index(data: bytes) -> list[tuple[str, str]]:
    """The digests that an index tells, in order, each with the name that follows it; empty where none does."""
    told: list[tuple[str, str]] = []
    for digest, name in re.findall(_TOLD, data):
        if digest or not told or told[-1][1]:
            told.append((_text(digest), _text(name)))
        else:
            told[-1] = told[-1][0], _text(name)
    return told


def _text(raw: bytes) -> str:
    if b"\\" not in raw:
        return raw.decode(errors="replace")
    import json

    try:
        return str(json.loads(b'"%b"' % raw))
    except ValueError:
        return ""


def _digests(directory: Path, word: str, told: Collection[tuple[str, str]], *, held: bool = True) -> Collection[str]:
    """The digests that begin so, written as the word is; of many only for who begins one. ``held``: of files too."""
    if word and word != _ALGORITHM and _ALGORITHM.startswith(word):
        return [_ALGORITHM]
    few = len(told) <= _MOST_DIGESTS
    if not word and not few:
        return ()

    def written(digest: str) -> str:
        return digest if ":" in word else digest.rpartition(":")[2]

    found = {one for digest, _ in told if (one := written(digest)).startswith(word)}
    if not told or (held and (few or re.fullmatch(_BEGUN_DIGEST, word))):
        files = [name for name in os.listdir(directory) if written(name).startswith(word)]
        found.update(written(whole[1]) for name in files if (whole := re.fullmatch(_FILE, name)))
    return sorted(found)


entries_argument = click.argument("words", metavar="[ENTRY]...", nargs=-1, shell_complete=complete_entry)
filter_option = click.option(
    "--filter",
    "filter_text",
    metavar="TEXT",
    shell_complete=complete_filter,
    help="Entries in which each of these words is found, as on the screen.",
)
