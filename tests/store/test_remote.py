"""Reading stores behind URLs, from servers that answer, and from servers that do not."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import uuid

import pytest

from tests.servers import S3_VARIABLES, Front, free_port, web_server
from tests.store.stores import filled
from vaprompt.errors import StoreError, UnreachableError
from vaprompt.store import FeatureStore, network
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import GROUP_FILE
from vaprompt.store.network import connect
from vaprompt.store.push import push
from vaprompt.store.remote import Remote
from vaprompt.store.storage import open_storage
from vaprompt.store.urls import scheme_of, shown, without_secrets
from vaprompt.store.verification import verify

VIDEOS = {"a": "train", "b": "validation", "c": "test"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = filled(tmp_path_factory.mktemp("remote") / "s.zarr", VIDEOS)
    made.write_index()
    return made


@pytest.fixture(scope="module")
def pushed(store, s3_front):
    """Return the URL of a store in the bucket that no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**S3_VARIABLES, "AWS_ENDPOINT_URL": s3_front.url}.items():
            patch.setenv(name, value)
        url = f"s3://team/{uuid.uuid4().hex}.zarr"
        push(store.path, url)
    return url


@pytest.fixture
def web(store):
    with web_server(store.path) as front:
        yield front


@pytest.fixture
def one_try(monkeypatch):
    """Fail where there is a pause before another try."""
    monkeypatch.setattr(network.random, "uniform", lambda *bounds: pytest.fail("tried again"))


def place_of(front: Front, url: str) -> str:
    return front.url if url == "web" else url


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_a_remote_store_is_read_like_a_local_one(kind, s3, web, store, pushed):
    url = web.url if kind == "web" else pushed
    remote = FeatureStore.open(url)
    assert remote.location == url
    assert remote.info() == store.info()
    assert remote.videos() == list(VIDEOS)
    for video in VIDEOS:
        assert remote.image(video).embedding_ND.tobytes() == store.image(video).embedding_ND.tobytes()
        assert remote.notes(video) == store.notes(video)
    with pytest.raises(StoreError, match="can only be read"):
        _ = remote.path


def test_a_remote_store_is_told_from_a_few_reads_however_many_videos_it_has(s3, pushed):
    FeatureStore.open(pushed).info()
    assert len(s3.asked) <= 7
    assert not [path for _, path in s3.asked if any(f"/{video}/" in path for video in VIDEOS)]


def test_a_bucket_without_an_index_is_listed(s3, store, pushed, monkeypatch):
    monkeypatch.setattr(Remote, "index", lambda self: None)
    monkeypatch.setattr("vaprompt.store.listing.read_index", lambda storage: None)
    assert FeatureStore.open(pushed).info() == store.info()


@pytest.mark.slow
def test_an_index_of_no_bytes_is_none(s3, store, pushed):
    connect(pushed).put(INDEX_FILE, b"", hashlib.sha256(b"").digest())
    assert FeatureStore.open(pushed).videos() == store.videos()
    push(store.path, pushed)
    assert Remote(pushed).index() is not None


def test_a_web_server_without_an_index_says_what_is_missing(store, tmp_path):
    shutil.copytree(store.path, tmp_path / "s", ignore=shutil.ignore_patterns(INDEX_FILE))
    with web_server(tmp_path / "s") as front, pytest.raises(StoreError, match="cannot be asked what it holds"):
        FeatureStore.open(front.url).info()


def test_a_file_url_is_its_folder(store):
    assert open_storage(f"file://{store.path}").location == store.path
    assert FeatureStore.open(f"file://{store.path}").path == store.path


@pytest.mark.parametrize("fault", [500, 503, 429, "cut"])
@pytest.mark.parametrize("kind", ["s3", "web"])
def test_what_passes_is_tried_again(kind, fault, s3, web, store, pushed, quick_retries):
    front, url = (web, web.url) if kind == "web" else (s3, pushed)
    front.first(4, fault)
    assert FeatureStore.open(url).image("a").embedding_ND.tobytes() == store.image("a").embedding_ND.tobytes()


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_what_does_not_pass_is_one_line_after_a_stated_number_of_tries(kind, s3, web, pushed, quick_retries):
    front, url = (web, web.url) if kind == "web" else (s3, pushed)
    front.fault = lambda method, path: 500
    with pytest.raises(UnreachableError) as caught:
        FeatureStore.open(url)
    assert str(caught.value).startswith(f"{url}/zarr.json: the server did not do what was asked")
    assert "\n" not in str(caught.value)
    assert len(front.asked) == 1 + len(network.PAUSES)


@pytest.mark.parametrize("kind", ["s3", "web"])
def test_no_rights_are_said_at_once(kind, s3, web, pushed):
    front, url = (web, web.url) if kind == "web" else (s3, pushed)
    front.fault = lambda method, path: 403
    with pytest.raises(StoreError, match=r"no rights .* check the credentials") as caught:
        FeatureStore.open(url)
    assert not isinstance(caught.value, UnreachableError)
    assert len(front.asked) == 1


@pytest.mark.parametrize(
    ("fault", "said"), [(None, "there is no feature store"), (403, r"no rights .* check the credentials")]
)
@pytest.mark.slow
def test_what_google_answers_is_one_line_whatever_its_library_logs(fault, said, tmp_path):
    """From something in the place of Google's server, which answers no more than a status."""
    with web_server(tmp_path) as front:
        front.fault = lambda method, path: fault
        told = subprocess.run(
            [sys.executable, "-m", "vaprompt", "store", "info", "gs://bucket/s.zarr"],
            env={**os.environ, "STORAGE_EMULATOR_HOST": front.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert re.match(rf"vaprompt: gs://bucket/s\.zarr.*{said}", told.stderr)
    if fault == 403:
        assert len(front.asked) == 1


def test_a_bad_request_to_google_is_no_fault_of_ours():
    """Its library tells it as Python's own ValueError."""
    refusals = iter([ValueError("Bad Request: https://storage.googleapis.com/b\ninvalid name")])

    def asked() -> None:
        raise next(refusals)

    with pytest.raises(UnreachableError, match=r"ValueError: Bad Request: https://storage.* invalid name") as told:
        network.attempted("gs://b/s", asked)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("url", ["s3://team/nothing.zarr", "s3://no-such-bucket/s.zarr", "web"])
def test_nothing_there_is_said_at_once(url, s3, tmp_path):
    with web_server(tmp_path) as front, pytest.raises(StoreError, match="there is no feature store"):
        FeatureStore.open(place_of(front, url))


def test_a_server_that_is_silent_or_gone_is_given_up(web, monkeypatch, quick_retries):
    monkeypatch.setattr(network, "READ", 0.1)
    web.delay = 0.5
    with pytest.raises(UnreachableError, match=r"Timeout"):
        FeatureStore.open(web.url)
    with pytest.raises(UnreachableError, match=r"connect"):
        FeatureStore.open(f"http://127.0.0.1:{free_port()}/s.zarr")


@pytest.mark.parametrize("gone", ["embedding/c/", "labels/zarr.json"])
def test_a_server_that_goes_away_is_no_fault_of_the_store(gone, web, quick_retries):
    web.fault = lambda method, path: 500 if gone in path else None
    with pytest.raises(UnreachableError, match="the server did not do what was asked"):
        verify(web.url, deep=True)


def test_time_is_bounded_even_where_each_try_is_slow(monkeypatch):
    now = iter(range(0, 10_000, 25))
    monkeypatch.setattr(network.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(network.time, "sleep", lambda seconds: None)
    tries = []

    def silent() -> None:
        tries.append(1)
        raise TimeoutError

    with pytest.raises(UnreachableError, match="tried for 75 s"):
        network.attempted("https://example.org/s", silent)
    assert len(tries) == 3


def test_a_fault_of_ours_is_not_taken_for_the_networks():
    with pytest.raises(TypeError):
        network.attempted("https://example.org/s", lambda: len(3))


def test_no_more_is_read_than_was_asked_for(web, s3, pushed):
    for url in (web.url, pushed):
        remote = Remote(url)
        with pytest.raises(StoreError, match="more than 10"):
            remote.read("image/a/embedding/zarr.json", 10)
        assert len(remote.objects.get("image/a/embedding/zarr.json", 10)) == 11


@pytest.mark.parametrize("key", ["../secret", "image//a", "image/./a", "/etc/passwd", "image\\..\\a"])
def test_no_key_leaves_the_store(key, web):
    remote = Remote(f"{web.url}/inner")
    for action in (remote.read, remote.size, remote.files, remote.folders):
        with pytest.raises(StoreError, match="could leave it"):
            action(key)
    assert web.asked == []


@pytest.mark.parametrize("what", ["replaced", "missing"])
def test_a_marker_that_is_not_the_one_in_the_index_is_told(what, store, tmp_path):
    copy = tmp_path / "s"
    shutil.copytree(store.path, copy)
    if what == "missing":
        shutil.rmtree(copy / "image" / "a")
    else:
        shutil.copy(copy / "image" / "b" / GROUP_FILE, copy / "image" / "a" / GROUP_FILE)
    with web_server(copy) as front:
        remote = FeatureStore.open(front.url)
        with pytest.raises(StoreError, match="half copied, or being changed"):
            remote.image("a")
        assert len(remote.image("b").frame_N) == 30


def test_a_missing_chunk_of_a_half_copied_store_is_named(store, tmp_path):
    copy = tmp_path / "s"
    shutil.copytree(store.path, copy)
    shutil.rmtree(copy / "image" / "a" / "embedding" / "c")
    with web_server(copy) as front, pytest.raises(StoreError, match="image/a/embedding/c/0/0: is missing"):
        FeatureStore.open(front.url).image("a")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://user:secret@host.org:81/a/s.zarr?token=secret#secret", "https://host.org:81/a/s.zarr"),
        ("https://host.org?token=secret", "https://host.org"),
        ("HTTPS://user:p@ss@host.org/s", "https://host.org/s"),
        ("http://user:se/cret@host/s@2", "http://host/s@2"),
        ("http://user:secret@host/a@b:c/s@2", "http://host/a@b:c/s@2"),
        ("http://user:se?cret#@host/s", "http://host/s"),
        ("http://host:81/a@b:c/s@2", "http://host:81/a@b:c/s@2"),
        ("http://[::1]:81/s@2", "http://[::1]:81/s@2"),
        ("http://host/a:b@2", "http://host/a:b@2"),
        ("s3://key:secret@bucket/s.zarr", "s3://bucket/s.zarr"),
        ("s3://bucket/s@2.zarr/", "s3://bucket/s@2.zarr"),
        ("folder/s@2?.zarr", "folder/s@2?.zarr"),
    ],
)
def test_no_secret_is_shown(url, wanted):
    assert shown(url) == wanted


def test_a_token_is_sent_and_never_told(web, quick_retries):
    url = web.url.replace("http://", "http://user:hush@") + "?token=hush"
    assert FeatureStore.open(url).location == web.url
    assert {path.partition("?")[2] for _, path in web.asked} == {"token=hush"}
    for status in (500, 403):
        web.fault = lambda method, path, status=status: status
        with pytest.raises(StoreError) as caught:
            FeatureStore.open(url)
        assert "hush" not in str(caught.value)


def test_nothing_there_is_told_without_the_token(tmp_path):
    with web_server(tmp_path) as front:
        url = front.url.replace("http://", "http://user:hush@") + "/x?token=hush"
        with pytest.raises(StoreError, match="there is no feature store") as caught:
            FeatureStore.open(url)
    assert str(caught.value).startswith(f"{front.url}/x: ")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"Location": "/loop?token=hush"}, {"Content-Encoding": "br"}])
def test_no_secret_is_told_in_a_librarys_words(headers, tmp_path, quick_retries):
    with web_server(tmp_path) as front:
        front.headers, front.fault = headers, lambda method, path: 302 if "Location" in headers else 200
        with pytest.raises(UnreachableError, match=rf"url='{front.url}/") as caught:
            FeatureStore.open(f"{front.url}/s.zarr?token=hush")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("InvalidURL: https://user:hush@h:1/x?t=hush", "InvalidURL: https://h:1/x"),
        ("400, url='http://h/x?t=hush', again http://u:hush@h", "400, url='http://h/x again http://h"),
        ("no URL: user@host?", "no URL: user@host?"),
    ],
)
def test_no_secret_is_shown_of_urls_in_a_text(text, wanted):
    assert without_secrets(text) == wanted


@pytest.mark.parametrize(
    "url", ["http://[::1/s", "https://user:hush@h:99999/s?t=hush", "http://h:abc/s", "file://[h/s"]
)
def test_what_is_no_url_is_one_line(url):
    with pytest.raises(StoreError, match=r"is no URL; write https://HOST:PORT") as caught:
        open_storage(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://:80/s", "http://user:hush@/s"])
def test_a_url_without_a_host_is_told_as_such(url):
    with pytest.raises(StoreError, match="names no bucket or server"):
        open_storage(url)


@pytest.mark.parametrize("url", ["http://a..b/s", "http://xn--/s", "s3://UPPER_x!/s"])
def test_a_host_or_bucket_that_can_be_none_is_told_at_once(url, s3, one_try):
    with pytest.raises(UnreachableError, match=r"; check the URL, or the region"):
        open_storage(url)


@pytest.mark.parametrize("target", ["/loop", "ftp://h/s", "http://a..b/s", "http://[::1/s"])
def test_a_redirect_that_leads_nowhere_is_told_at_once(target, tmp_path, one_try):
    with web_server(tmp_path) as front:
        front.headers, front.fault = {"Location": target}, lambda method, path: 302
        with pytest.raises(UnreachableError, match=r"; check the URL, or the region"):
            open_storage(front.url)


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (301, "PermanentRedirect", "check the URL, or the region"),
        (400, "AuthorizationHeaderMalformed", "check the URL, or the region"),
        (400, "EntityTooLarge", "ask whoever runs the server"),
    ],
)
def test_what_s3_will_say_again_is_told_at_once(status, code, remedy, s3, one_try):
    s3.fault = lambda method, path: status
    s3.words = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    with pytest.raises(UnreachableError, match=f"; {remedy}"):
        connect("s3://team/s.zarr").put("x", b"x", hashlib.sha256(b"x").digest())


@pytest.mark.parametrize("manner", ["no HEAD", "compressed", "no length"])
def test_a_whole_store_is_whole_whatever_its_server_says_of_lengths(manner, web):
    if manner == "no HEAD":
        web.fault = lambda method, path: 405 if method == "HEAD" else None
    elif manner == "compressed":
        web.headers, web.encode = {"Content-Encoding": "gzip"}, gzip.compress
    else:
        web.headers = {"Content-Length": ""}
    found = verify(web.url)
    assert not found.faults
    assert found.videos == len(VIDEOS)


def test_only_schemes_that_are_known_are_taken():
    with pytest.raises(StoreError, match=r"'ftp://' is no place for a store; use a path, or s3://, gs://"):
        scheme_of("ftp://user:secret@host/s.zarr")
    with pytest.raises(StoreError, match="names another machine"):
        open_storage("file://host/s.zarr")


@pytest.mark.parametrize(
    "url", ["s3://key:secret@bucket/s.zarr", "s3://bucket/s.zarr?versionId=1", "s3://bucket/s.zarr#2"]
)
def test_credentials_of_buckets_do_not_belong_into_the_url(url):
    with pytest.raises(StoreError, match="has credentials or options in the URL") as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("url", "package"), [("s3://b/s", "s3fs"), ("gs://b/s", "gcsfs"), ("https://h/s", "aiohttp")])
def test_a_missing_package_is_one_line_that_says_how_to_install_it(url, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StoreError, match=rf"without the package {package}; install it with: pip install 'vaprompt"):
        FeatureStore.open(url)


def test_missing_credentials_are_told_as_such(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"no rights to do that .*[Cc]redentials"):
        FeatureStore.open("s3://team/s.zarr")
