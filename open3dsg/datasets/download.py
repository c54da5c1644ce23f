"""Public files of data owners over HTTP: resumed where a connection broke, checked, moved into place whole.

A file is written as NAME.part beside its place and renamed when it is complete and right, so that a name
without .part is always a whole file. Running again goes on where it stopped, and fetches nothing that is
there.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from open3dsg import __version__
from open3dsg.datasets.check.files import damage_of
from open3dsg.datasets.images import DAMAGED_ZIP
from open3dsg.errors import UserError

_ATTEMPTS = 5
_FIRST_PAUSE_S = 1.0  # doubled with each attempt
_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 16
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_TROUBLE = (
    urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError,
)  # fmt: skip

Progress = Callable[[int, int | None], None]  # bytes that are there, bytes in all where the server says so


@dataclass(frozen=True)
class Target:
    """A file to have: where, below the folder, and what is known of it."""

    path: str
    kind: str  # as `damage_of` knows it: json, zip, text
    sha256: str | None = None


@dataclass(frozen=True)
class Remote:
    """A file at its owner's: `base` and `path` make its address. A zip gives several targets."""

    base: str
    path: str
    target: Target
    members: Mapping[str, Target] | None = None  # end of a member's name -> what it becomes

    def url(self, base: str | None) -> str:
        """Return the address, below another `base` where one is given."""
        return f"{(base or self.base).rstrip('/')}/{self.path}"

    @property
    def targets(self) -> Sequence[Target]:
        """The files that are there in the end."""
        return list(self.members.values()) if self.members else [self.target]


@dataclass(frozen=True)
class Options:
    """How files are fetched. Tests take a shorter pause."""

    base_url: str | None = None
    verify: bool = True  # refuse files whose checksum is another than the known one
    first_pause_s: float = _FIRST_PAUSE_S


def fetch(remote: Remote, folder: Path, options: Options, progress: Progress) -> bool:
    """Fetch a file below `folder`; return False where all of it was there already.

    Raises UserError, with host, file and the way out, where that does not succeed.
    """
    if all(_is_right(folder / target.path, target, options) for target in remote.targets):
        return False
    place = folder / remote.target.path
    part = place.with_name(f"{place.name}.part")
    with _writing(place):
        part.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        _fetch_part(remote, part, options, progress)
        wrong = _wrong(part, remote.target, options)
        if wrong and resumed:  # the beginning may be of an older file: once more from the start
            part.unlink()
            _fetch_part(remote, part, options, progress)
            wrong = _wrong(part, remote.target, options)
        if wrong:
            part.unlink()
            raise _failure(remote, options, wrong)
        if remote.members:
            _unpack(remote, part, folder, options)
            part.unlink()
        else:
            part.replace(place)
    return True


def checked_base_url(url: str) -> str:
    """Return `url` if files can be fetched below it, else raise UserError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--base-url is {url!r}: give an address that begins with http:// or https://")
    return url


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or place}: cannot be written: {error.strerror}") from error


def _fetch_part(remote: Remote, part: Path, options: Options, progress: Progress) -> None:
    """Complete `part`, trying again where the connection or the server fails."""
    pause_s = options.first_pause_s
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _receive(remote.url(options.base_url), part, progress)
        except urllib.error.HTTPError as error:
            with error:
                reason = f"the server answers {error.code} {error.reason}"
            if error.code not in _RETRIED or attempt == _ATTEMPTS:
                raise _failure(remote, options, reason) from None
        except _TROUBLE as error:
            if attempt == _ATTEMPTS:
                cause = getattr(error, "reason", None) or error
                told = f"{cause} after {attempt} attempts; run it again to go on where it stopped, or"
                raise _failure(remote, options, told) from None
        else:
            return
        time.sleep(pause_s)
        pause_s *= 2


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Receive what `part` still lacks. Raises OSError where the connection ends before the file does."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"open3dsg/{__version__}"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        # The scheme is one of ours, or was checked by checked_base_url.
        response = urllib.request.urlopen(  # noqa: S310
            urllib.request.Request(url, headers=headers),  # noqa: S310
            timeout=_TIMEOUT_S,
        )
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        with error:
            if _range(error.headers.get("Content-Range"))[1] == start:
                return  # all of it was there
        part.unlink()  # more than all of it: of another file
        _receive(url, part, progress)
        return
    with response:
        first, total = _range(response.headers.get("Content-Range"))
        if response.status != http.HTTPStatus.PARTIAL_CONTENT or first != start:
            start = 0  # the server sends the whole file
            length = response.headers.get("Content-Length")
            total = int(length) if length and length.isdecimal() else None
        _write(response, part, start, total, progress)


def _write(
    response: http.client.HTTPResponse, part: Path, start: int, total: int | None, progress: Progress
) -> None:
    done = start
    with part.open("ab" if start else "wb") as file:
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            progress(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _range(header: str | None) -> tuple[int | None, int | None]:
    """Return first byte and total of ``bytes 5-9/10`` and ``bytes */10``; None for what it does not say."""
    matched = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", header or "")
    if matched is None:
        return None, None
    first, total = matched.groups()
    return int(first) if first else None, int(total) if total.isdecimal() else None


def _unpack(remote: Remote, archive: Path, folder: Path, options: Options) -> None:
    """Write the members that are wanted; those of a zip that are not are passed over."""
    with zipfile.ZipFile(archive) as opened:
        for ending, target in (remote.members or {}).items():
            names = [name for name in opened.namelist() if f"/{name}".endswith(f"/{ending}")]
            if not names:
                raise _failure(remote, options, f"the zip file holds no {ending}")
            try:
                content = opened.read(min(names, key=len))
            except DAMAGED_ZIP as error:
                raise _failure(remote, options, f"{ending} in the zip file is damaged: {error}") from error
            place = folder / target.path
            part = place.with_name(f"{place.name}.part")
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            if wrong := _wrong(part, target, options):
                part.unlink()
                raise _failure(remote, options, f"{ending} in the zip file: {wrong}")
            part.replace(place)


def _is_right(place: Path, target: Target, options: Options) -> bool:
    return place.is_file() and _wrong(place, target, options) is None


def _wrong(path: Path, target: Target, options: Options) -> str | None:
    """Return what is wrong with a file that should be `target`."""
    if damage := damage_of(path, target.kind):
        return damage.what
    if target.sha256 is None or not options.verify:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == target.sha256:
        return None
    return (
        f"its sha256 is {found[:12]}..., known is {target.sha256[:12]}...: give --unverified to take it, or"
    )


def _failure(remote: Remote, options: Options, reason: str) -> UserError:
    url = remote.url(options.base_url)
    way_out = f"fetch it by hand into {os.path.dirname(remote.targets[0].path) or 'the folder'}"
    joint = "" if reason.endswith(" or") else ";"
    return UserError(
        f"{urlsplit(url).hostname}: {url}: {reason}{joint} give a mirror with --base-url, or {way_out}"
    )
