"""References, by the grammar of the distribution project."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ocitui.cache import usual_digest
from ocitui.importing.errors import InvalidReferenceError
from ocitui.importing.sources.opening import recognise_source
from ocitui.importing.sources.references import Reference, checked_host, is_host

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("alpine", "docker.io", "library/alpine", "latest", None),
        ("alpine:3.19", "docker.io", "library/alpine", "3.19", None),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("index.docker.io/team/app", "docker.io", "team/app", "latest", None),
        ("registry-1.docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("team/app", "docker.io", "team/app", "latest", None),
        ("localhost/foo", "localhost", "foo", "latest", None),
        ("localhost:5000/foo", "localhost:5000", "foo", "latest", None),
        ("localhost:5000", "docker.io", "library/localhost", "5000", None),
        ("Host/foo:1", "Host", "foo", "1", None),
        ("ghcr.io/a/b/c:v1", "ghcr.io", "a/b/c", "v1", None),
        ("[::1]:5000/foo", "[::1]:5000", "foo", "latest", None),
        (f"alpine@{DIGEST}", "docker.io", "library/alpine", None, DIGEST),
        (f"a.b:1/c:t@{DIGEST}", "a.b:1", "c", "t", DIGEST),
        ("a__b/c--d.e", "docker.io", "a__b/c--d.e", "latest", None),
    ],
)
def test_read(text: str, domain: str, path: str, tag: str | None, digest: str | None) -> None:
    assert Reference.parse(text) == Reference(domain, path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Alpine",
        "alpine:",
        "alpine:-x",
        "alpine@sha256:abc",
        f"alpine@sha512:{'0' * 128}",
        f"alpine@{DIGEST.upper()}",
        "a___b",
        "-a",
        "a/",
        "/a",
        "a//b",
        "host.com:65536/a",
        "host.com:x/a",
        "ho_st.com/a",
        "../../etc/passwd",
        "a/../b",
        "0" * 64,
        "a" * 256,
        "a:" + "t" * 129,
        "alpine\n",
        "host.com/é",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as error:
        Reference.parse(text)
    assert error.value.hint


def test_the_hub_has_a_host_of_its_own() -> None:
    assert Reference.parse("alpine").registry == "registry-1.docker.io"
    assert Reference.parse("localhost:5000/foo").registry == "localhost:5000"


def test_a_digest_is_sha256_and_nothing_else() -> None:
    assert usual_digest(DIGEST)
    assert not any(map(usual_digest, ["sha256:../x", DIGEST + "\n", DIGEST[:-1], "sha256:" + "g" * 64, "٣" * 64]))


def test_hosts() -> None:
    assert all(map(is_host, ["localhost", "a.b:443", "[::1]:1"]))
    assert not any(map(is_host, ["", "a b", "a/b", "a:99999", "-a", "https://a"]))


COMPONENT = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
DOMAIN = st.from_regex(r"([a-zA-Z0-9]([a-zA-Z0-9-]{0,4}[a-zA-Z0-9])?\.){1,3}[a-z]{2,4}(:[0-9]{1,4})?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(st.none() | DOMAIN, st.lists(COMPONENT, min_size=1, max_size=4), st.none() | TAG, st.booleans())
def test_a_reference_is_read_part_by_part(domain: str | None, path: list[str], tag: str | None, digest: bool) -> None:
    # A first part with a dot is a host, where another follows.
    assume(domain or len(path) == 1 or ("." not in path[0] and path[0] != "localhost"))
    text = "/".join([*([domain] if domain else []), *path])
    text += (f":{tag}" if tag else "") + (f"@{DIGEST}" if digest else "")
    reference = Reference.parse(text)
    whole = "/".join(path) if domain or len(path) > 1 else f"library/{path[0]}"
    wanted = tag or (None if digest else "latest")
    assert reference == Reference(domain or "docker.io", whole, wanted, DIGEST if digest else None)
    assert reference.wanted == (DIGEST if digest else tag or "latest")


@given(st.text(max_size=40) | st.from_regex(r"[a-zA-Z0-9./:@_-]{0,40}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError:
        return
    assert ".." not in reference.path.split("/")
    assert is_host(reference.domain)


@pytest.mark.parametrize(
    "text",
    [
        "anna:PASS@host/a",
        "anna:PASS@host",
        "https://anna:PASS@host/a:1",
        "anna:P@PASS@host/a",
        "a:PA/PASS@host/a",
        f"anna:PASS@host.com/a@sha256:{'0' * 64}",
        "anna:PASS@host/image.tar",
    ],
)
@pytest.mark.parametrize("prefix", ["", "docker://"])
def test_a_login_in_a_name_is_refused_and_not_repeated(prefix: str, text: str) -> None:
    with pytest.raises(InvalidReferenceError) as error:
        recognise_source(f"{prefix}{text}")
    assert "PASS" not in error.value.one_line
    with pytest.raises(InvalidReferenceError) as error:
        Reference.parse(text)
    assert "PASS" not in error.value.one_line


def test_a_mirror_with_a_login_is_not_repeated() -> None:
    with pytest.raises(InvalidReferenceError) as error:
        checked_host("anna:PASS@host", "the mirror")
    assert "PASS" not in error.value.one_line
