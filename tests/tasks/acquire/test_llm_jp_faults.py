"""A server that fails or lies gets a clear error, and leaves nothing wrong behind."""

from __future__ import annotations

import datetime
import ipaddress
import json
import time
from email.utils import format_datetime

import pytest

from data_contracts.errors import SourceError, TransientSourceError
from downloads import fetch_corpus, fetched, parts
from gitlab_server import (
    LOGIN,
    WIKI,
    GitLabServer,
    another_range,
    drip,
    endless,
    endless_pages,
    flipped_byte,
    half_then_close,
    half_then_reset,
    ignores_range,
    page,
    redirect,
    sha256_of,
    shard,
    silent,
    status,
    times,
)
from tasks.acquire.patience import retry_after_seconds

NAME = f"{WIKI}/train_0.jsonl.gz"
FILES = {NAME: shard(*range(50)), f"{WIKI}/validation_0.jsonl.gz": shard(50)}
KINDS = ("tree", "files", "batch", "object")


@pytest.fixture
def gitlab():
    with GitLabServer(FILES) as server:
        yield server


def refused(gitlab, store, message, kind=SourceError, **options):
    """The download fails with that message, leaves no wrong file, and works as soon as the server does."""
    with pytest.raises(SourceError, match=message) as error:
        fetch_corpus(store, gitlab.url, **options)
    assert type(error.value) is kind and error.value.hint
    right = {sha256_of(content): content for content in FILES.values()}
    assert all(right.get(name) == content for name, content in fetched(store).items())
    assert all(any(content.startswith(part) for content in FILES.values()) for part in parts(store))
    gitlab.faults.clear()
    fetch_corpus(store, gitlab.url, **options)
    assert fetched(store) == right and not parts(store)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (404, "HTTP 404, expected 200(.|\n)*source.revision", SourceError),
        (401, "HTTP 401(.|\n)*token may be needed: set GITLAB_TOKEN", SourceError),
        (403, "HTTP 403(.|\n)*token may be needed: set GITLAB_TOKEN", SourceError),
        (429, r"HTTP 429 \(tries: 3\)", TransientSourceError),
        (500, r"HTTP 500 \(tries: 3\)", TransientSourceError),
        (204, "204|announced|expected JSON|expected a Git LFS pointer", SourceError),
    ],
)
def test_a_status_of_failure_is_told_and_only_those_that_may_pass_are_retried(
    gitlab, tmp_path, kind, code, message, error
):
    gitlab.faults[kind] = status(code)
    if code == 204 and kind == "object":
        error = TransientSourceError
    refused(gitlab, tmp_path, message, error)


@pytest.mark.parametrize(
    ("kind", "code"), [("tree", 429), ("files", 500), ("batch", 503), ("object", 429), ("object", 502)]
)
def test_a_busy_server_is_waited_for(gitlab, tmp_path, kind, code):
    gitlab.faults[kind] = times(2, status(code))
    fetch_corpus(tmp_path, gitlab.url, transfer={"max_connections": 1})
    assert len(fetched(tmp_path)) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(gitlab, tmp_path, as_date):
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    gitlab.faults["batch"] = times(1, status(429, Retry_After=format_datetime(moment, usegmt=True) if as_date else "1"))
    started = time.monotonic()
    fetch_corpus(tmp_path, gitlab.url, transfer={"max_connections": 1, "max_delay_seconds": 10.0})
    assert time.monotonic() - started >= (0.8 if as_date else 1.0)


def test_retry_after_is_capped_and_may_be_nonsense(gitlab, tmp_path):
    gitlab.faults["batch"] = times(1, status(503, Retry_After="86400"))
    started = time.monotonic()
    fetch_corpus(tmp_path, gitlab.url)
    assert time.monotonic() - started < 5
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert [retry_after_seconds(value) for value in ("", "soon", "-3", "²", past)] == [0] * 5


@pytest.mark.parametrize(
    ("fault", "message", "error"),
    [
        (half_then_close, "RemoteProtocolError|ended after", TransientSourceError),
        (half_then_reset, "ReadError|RemoteProtocolError", TransientSourceError),
        (flipped_byte, "with sha256 .*twice, expected", SourceError),
        (page(LOGIN, Content_Type="text/html"), "HTML page, expected the object(.|\n)*login page", SourceError),
        (page(LOGIN), "announced 28 bytes, expected(.|\n)*login page", TransientSourceError),
        (endless, "more bytes than that, twice, expected", SourceError),
    ],
)
def test_a_body_that_is_not_the_object_is_refused(gitlab, tmp_path, fault, message, error):
    gitlab.faults["object"] = fault
    refused(gitlab, tmp_path, message, error)


@pytest.mark.parametrize(("fault", "message"), [(drip, "bytes in .* s, expected more"), (silent, "ReadTimeout")])
def test_a_server_that_nearly_stands_still_is_left(gitlab, tmp_path, fault, message):
    gitlab.faults["object"] = fault
    refused(gitlab, tmp_path, message, TransientSourceError, transfer={"read_timeout_seconds": 0.3})


def test_an_endless_body_is_not_read_past_the_announced_size(gitlab, tmp_path):
    gitlab.faults["object"] = endless
    with pytest.raises(SourceError):
        fetch_corpus(tmp_path, gitlab.url, transfer={"max_connections": 1})
    assert not parts(tmp_path) and gitlab.sent_bytes < 32 << 20  # what the sockets of both ends hold, twice


def test_one_wrong_copy_is_fetched_again(gitlab, tmp_path):
    gitlab.faults["object"] = times(1, flipped_byte)
    fetch_corpus(tmp_path, gitlab.url)
    assert gitlab.kinds().count("object") == 3


@pytest.mark.parametrize(
    "fault", [ignores_range, another_range, lambda g, h: "Range" in h.headers and status(416)(g, h)]
)
def test_a_server_that_knows_no_ranges_sends_the_object_from_its_start(gitlab, tmp_path, fault):
    gitlab.faults["object"] = times(1, half_then_close)
    with pytest.raises(TransientSourceError):
        fetch_corpus(tmp_path, gitlab.url, transfer={"max_tries": 1, "max_connections": 1})
    assert len(parts(tmp_path)) == 1
    gitlab.faults["object"] = fault
    fetch_corpus(tmp_path, gitlab.url)
    assert any("Range" in seen.headers for seen in gitlab.requests)
    assert len(fetched(tmp_path)) == 2 and not parts(tmp_path)


def test_an_unasked_range_is_refused(gitlab, tmp_path):
    gitlab.faults["object"] = page(FILES[NAME][5:], 206, Content_Range=f"bytes 5-{len(FILES[NAME]) - 1}/*")
    refused(gitlab, tmp_path, "answered HTTP 206 'bytes 5-.*expected bytes 0-", TransientSourceError)


@pytest.mark.parametrize("change", [+1, -1])
def test_a_pointer_with_a_wrong_size_is_refused(gitlab, tmp_path, change):
    size = len(FILES[NAME])
    pointer = gitlab.pointer(NAME).replace(b"size %d" % size, b"size %d" % (size + change))
    gitlab.faults["files"] = lambda server, http: "train_0" in http.path and page(pointer)(server, http)
    with pytest.raises(TransientSourceError, match=f"announced {size} bytes, expected {size + change}"):
        fetch_corpus(tmp_path, gitlab.url)
    assert sha256_of(FILES[NAME]) not in fetched(tmp_path)


@pytest.mark.parametrize("kind", ["tree", "files", "batch"])
@pytest.mark.parametrize("body", [LOGIN, b"[" * 100_000, b"null", b"7", b'{"objects": [{}]}', b'[{"path": 1}]'])
def test_an_answer_of_another_kind_is_told(gitlab, tmp_path, kind, body):
    gitlab.faults[kind] = page(body)
    refused(gitlab, tmp_path, "expected (JSON|a Git LFS pointer|a list of files|the address of)")


def test_an_lfs_server_that_lacks_the_object_is_quoted_and_nothing_secret_with_it(gitlab, tmp_path):
    answer = {"oid": "0" * 64, "error": {"code": 404, "message": "Object does not exist"}, "header": "secret"}
    gitlab.faults["batch"] = page(json.dumps({"objects": [answer]}).encode())
    refused(gitlab, tmp_path, r"^`ja/ja_wiki/[a-z]+_0.jsonl.gz`: the LFS server says 'Object does not exist', expected")


@pytest.mark.parametrize(
    "name",
    [
        f"{WIKI}/../../etc/train_0.jsonl.gz",
        "/etc/train_0.jsonl.gz",
        f"{WIKI}\\..\\train_0.jsonl.gz",
        f"{WIKI}//train_0.jsonl.gz",
        f"{WIKI}/./train_0.jsonl.gz",
        f"{WIKI}/a\ntrain_0.jsonl.gz",
        "ja/ja_wiki_2/train_0.jsonl.gz",
        "en/en_wiki/README.md",
    ],
)
def test_a_name_outside_of_the_folder_is_refused(gitlab, tmp_path, name):
    gitlab.faults["tree"] = page(json.dumps([{"type": "blob", "path": name}]).encode())
    refused(gitlab, tmp_path, "the server lists it, expected names in `ja/ja_wiki/`")


def test_a_name_that_comes_twice_is_refused(gitlab, tmp_path):
    gitlab.faults["tree"] = page(json.dumps([{"type": "blob", "path": NAME}] * 2).encode())
    refused(gitlab, tmp_path, "lists it twice")


def test_a_folder_without_readable_files_is_named(gitlab, tmp_path):
    gitlab.faults["tree"] = page(json.dumps([{"type": "blob", "path": f"{WIKI}/README.md"}]).encode())
    refused(gitlab, tmp_path, "`ja/ja_wiki`: no file at .* expected .jsonl")


def test_a_tree_without_end_is_left(gitlab, tmp_path):
    gitlab.faults["tree"] = endless_pages
    refused(gitlab, tmp_path, "does not end after 200 pages")
    gitlab.faults["tree"] = page(b"[]", x_next_page="1")
    with pytest.raises(SourceError, match="page '1' of its tree follows page 1"):
        fetch_corpus(tmp_path / "b", gitlab.url)


@pytest.mark.parametrize("kind", ["tree", "files"])
def test_an_answer_without_end_is_left(gitlab, tmp_path, kind):
    gitlab.faults[kind] = endless
    refused(
        gitlab, tmp_path, "the answer does not end, expected at most 67,108,864 bytes", transfer={"max_connections": 1}
    )


def test_redirects_are_followed(gitlab, tmp_path):
    for kind in KINDS:
        gitlab.faults[kind] = times(2, redirect(lambda http: http.path, 307))
    fetch_corpus(tmp_path, gitlab.url, transfer={"max_connections": 1})
    assert len(fetched(tmp_path)) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (redirect(lambda http: http.path, 308), "more than 5 redirects"),
        (redirect("file:///etc/passwd", 307), "`file:/etc/passwd`: .* leads there, expected http or https"),
        (redirect("ftp://example.org/x", 307), "expected http or https"),
    ],
)
def test_redirects_are_bounded_and_lead_to_http_alone(gitlab, tmp_path, kind, fault, message):
    gitlab.faults[kind] = fault
    refused(gitlab, tmp_path, message)


def test_a_redirect_to_no_address_is_refused(gitlab, tmp_path):
    gitlab.faults["batch"] = redirect("http://host:port/", 307)
    refused(gitlab, tmp_path, "Invalid URL in location", TransientSourceError)


def test_a_redirect_that_would_lose_the_question_is_refused(gitlab, tmp_path):
    gitlab.faults["batch"] = redirect(f"{gitlab.url}/users/sign_in", 302)
    refused(gitlab, tmp_path, "HTTP 302 sends a POST elsewhere")


@pytest.mark.parametrize("href", ["file:///etc/passwd", "ftp://example.org/x", "http://host:port/"])
def test_an_object_lies_on_http_alone(gitlab, tmp_path, href):
    oid = sha256_of(FILES[NAME])
    answer = {"oid": oid, "actions": {"download": {"href": href}}}
    gitlab.faults["batch"] = page(json.dumps({"objects": [answer]}).encode())
    with pytest.raises(SourceError, match="expected http"):
        fetch_corpus(tmp_path, gitlab.url, transfer={"max_connections": 1})


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1: paths of certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


def test_a_certificate_that_nobody_vouches_for_is_refused_and_https_never_becomes_http(
    certificate, tmp_path, monkeypatch
):
    with GitLabServer(FILES, tls=certificate) as gitlab:
        with pytest.raises(SourceError, match=r"CERTIFICATE_VERIFY_FAILED(.|\n)*SSL_CERT_FILE") as error:
            fetch_corpus(tmp_path / "s", gitlab.url)
        assert not isinstance(error.value, TransientSourceError) and not gitlab.requests
        monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
        gitlab.object_url = gitlab.url
        fetch_corpus(tmp_path / "s", gitlab.url, token="glpat-secret")
        assert len(fetched(tmp_path / "s")) == 2
        gitlab.faults["object"] = redirect(f"http://127.0.0.1:{gitlab.port}/x")
        with pytest.raises(SourceError, match="leads there, expected https"):
            fetch_corpus(tmp_path / "t", gitlab.url)
