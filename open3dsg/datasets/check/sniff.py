"""What a file is by its first bytes: for files that are not what their name says."""

from __future__ import annotations

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file: run `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive, or a .pth or .npz file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"P5", "a PGM picture"),
    (b"ply", "a PLY file"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
)
_PICKLE_PROTOCOLS = range(2, 6)


def describe(head: bytes) -> str | None:
    """Say what a file is that begins with `head`; None where that cannot be told."""
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[:1] == b"\x80" and len(head) > 1 and head[1] in _PICKLE_PROTOCOLS:
        return "a pickle, such as a .pth or .pt file"
    if head.count(0) == len(head):
        return "nothing but zeros: a download that was not finished"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page: the server sent a message in place of the file"
    if text.startswith((b"{", b"[")):
        return "JSON"
    return None
