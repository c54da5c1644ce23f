"""Downloads from a server of the test's own: resumed, checked, moved into place whole."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from open3dsg.datasets.download import Options, Remote, Target, checked_base_url, fetch
from open3dsg.errors import UserError

CONTENT = json.dumps({"scans": list(range(30_000))}).encode()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Host:
    """What the server has and does."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut: list[int] = field(default_factory=list)  # bytes that each of the next answers ends after
    refusals: list[int] = field(default_factory=list)  # statuses of the next answers
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    url: str = ""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            host.asked.append(asked)
            data = host.files.get(self.path.removeprefix("/base/"))
            if host.refusals:
                self.send_error(host.refusals.pop(0))
            elif data is None:
                self.send_error(404)
            else:
                self.answer(data, int(asked[6:-1]) if asked and host.ranges else 0)

        def answer(self, data: bytes, start: int) -> None:
            if start and start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            sent = host.cut.pop(0) if host.cut else len(data)
            self.wfile.write(data[start : start + sent])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    host.url = f"http://127.0.0.1:{server.server_port}/base"
    yield host
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def get(host: Host, tmp_path: Path) -> Callable[..., bool]:
    """Fetch a remote below the test's folder, without long pauses."""

    def get(remote: Remote, **options: bool) -> bool:
        every = Options(base_url=host.url, first_pause_s=0.001, **options)
        return fetch(remote, tmp_path, every, lambda done, total: None)

    return get


def remote(sha256: str | None = SHA256) -> Remote:
    return Remote("https://owner.example/data", "3RScan/a.json", Target("here/a.json", "json", sha256))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_file_is_fetched_once(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    host.files["3RScan/a.json"] = CONTENT
    assert get(remote()) is True
    assert files(tmp_path) == {"here/a.json": CONTENT}
    assert get(remote()) is False
    assert len(host.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_ends_early_is_resumed(
    ranges: bool, host: Host, get: Callable[..., bool], tmp_path: Path
) -> None:
    host.files["3RScan/a.json"], host.cut, host.ranges = CONTENT, [70_000, 50_000], ranges
    assert get(remote())
    assert files(tmp_path) == {"here/a.json": CONTENT}
    assert host.asked[0] is None
    assert host.asked[1:] == ["bytes=70000-", "bytes=120000-" if ranges else "bytes=50000-"]


def test_an_earlier_run_is_gone_on_with(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    host.files["3RScan/a.json"] = CONTENT
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a.json.part").write_bytes(CONTENT[:1000])
    assert get(remote())
    assert (host.asked, files(tmp_path)) == (["bytes=1000-"], {"here/a.json": CONTENT})


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (CONTENT, [f"bytes={len(CONTENT)}-"]),  # 416, and it is whole
        (CONTENT + b"more", [f"bytes={len(CONTENT) + 4}-", None]),  # 416, and it is of another file
        (b"other" * 100, ["bytes=500-", None]),  # 206, and the whole is wrong
    ],
)
def test_a_part_that_is_whole_or_of_another_file(
    there: bytes, asked: list[str | None], host: Host, get: Callable[..., bool], tmp_path: Path
) -> None:
    host.files["3RScan/a.json"] = CONTENT
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a.json.part").write_bytes(there)
    assert get(remote())
    assert (host.asked, files(tmp_path)) == (asked, {"here/a.json": CONTENT})


def test_a_server_in_trouble_is_asked_again(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    host.files["3RScan/a.json"], host.refusals = CONTENT, [503, 429, 500]
    assert get(remote())
    assert len(host.asked) == 4


@pytest.mark.parametrize(
    ("refusals", "told", "attempts"),
    [([404], "404 Not Found", 1), ([403], "403 Forbidden", 1), ([503] * 9, "503 Service Unavailable", 5)],
)
def test_a_server_that_refuses(
    refusals: list[int], told: str, attempts: int, host: Host, get: Callable[..., bool], tmp_path: Path
) -> None:
    host.refusals = refusals
    with pytest.raises(UserError, match=told) as error:
        get(remote())
    assert f"127.0.0.1: {host.url}/3RScan/a.json" in str(error.value)
    assert "--base-url" in str(error.value)
    assert "into here" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(host.asked) == attempts
    assert files(tmp_path) == {}


def test_a_connection_that_always_ends_early_leaves_what_it_got(
    host: Host, get: Callable[..., bool], tmp_path: Path
) -> None:
    host.files["3RScan/a.json"], host.cut = CONTENT, [1000] * 5
    with pytest.raises(UserError, match=r"after 5000 of .* after 5 attempts; run it again to go on"):
        get(remote())
    assert files(tmp_path) == {"here/a.json.part": CONTENT[:5000]}


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    options = Options(base_url="http://127.0.0.1:9/x", first_pause_s=0.001)
    with pytest.raises(UserError, match=r"refused.*--base-url"):
        fetch(remote(), tmp_path, options, lambda done, total: None)


def test_a_wrong_checksum(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    host.files["3RScan/a.json"] = b'{"scans": []}'
    with pytest.raises(UserError, match=f"sha256 is .* known is {SHA256[:12]}.*--unverified"):
        get(remote())
    assert files(tmp_path) == {}
    assert get(remote(), verify=False)
    assert files(tmp_path) == {"here/a.json": b'{"scans": []}'}
    host.files["3RScan/a.json"] = CONTENT  # with the check on, the other file is replaced
    assert get(remote())
    assert files(tmp_path) == {"here/a.json": CONTENT}


def test_a_web_page_in_place_of_the_file(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    host.files["3RScan/a.json"] = b"<!DOCTYPE html><html>please log in</html>"
    with pytest.raises(UserError, match="web page"):
        get(remote(sha256=None))
    assert files(tmp_path) == {}


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"3DSSG_subset/{name}.json", data)
            archive.writestr(f"__MACOSX/3DSSG_subset/._{name}.json", b"\0")
    return buffer.getvalue()


def archive() -> Remote:
    members = {
        "a.json": Target("subset/a.json", "json", SHA256),
        "b.json": Target("subset/b.json", "json"),
    }
    return Remote("https://owner.example", "3RScan/a.zip", Target("a.zip", "zip"), members)


def test_a_zip_is_unpacked_and_removed(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    host.files["3RScan/a.zip"] = zipped(a=CONTENT, b=b"[1]", c=b"[2]")
    host.cut = [50_000]
    assert get(archive()) is True
    assert files(tmp_path) == {"subset/a.json": CONTENT, "subset/b.json": b"[1]"}
    assert get(archive()) is False
    (tmp_path / "subset/b.json").write_bytes(b"[1")
    assert get(archive()) is True
    assert files(tmp_path)["subset/b.json"] == b"[1]"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (zipped(a=CONTENT), "holds no b.json"),
        (zipped(a=b"[]", b=b"[]"), "a.json in the zip file: its sha256"),
        (zipped(a=CONTENT, b=b"[]")[:-20], "directory"),
        (b"<html>", "web page"),
    ],
)
def test_a_zip_that_is_not_right(
    content: bytes, told: str, host: Host, get: Callable[..., bool], tmp_path: Path
) -> None:
    host.files["3RScan/a.zip"] = content
    with pytest.raises(UserError, match=told):
        get(archive())
    assert "subset/b.json" not in files(tmp_path)


def test_a_member_of_a_zip_that_does_not_unpack(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.json", CONTENT)
    data = bytearray(buffer.getvalue())
    start = data.index(b"a.json") + len("a.json")
    data[start : start + 8] = b"\xff" * 8
    host.files["3RScan/a.zip"] = bytes(data)
    with pytest.raises(UserError, match=r"a\.json in the zip file is damaged"):
        get(archive())
    assert "subset/a.json" not in files(tmp_path)


def test_a_folder_below_that_cannot_be_written(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    host.files["3RScan/a.zip"] = zipped(a=CONTENT, b=b"[1]")
    (tmp_path / "subset/a.json.part").mkdir(parents=True)
    with pytest.raises(UserError, match=r"a\.json\.part: cannot be written"):
        get(archive())


def test_a_folder_that_cannot_be_written(host: Host, get: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "here").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        get(remote())


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "host/x", "https://", ""])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UserError, match="--base-url is"):
        checked_base_url(url)
