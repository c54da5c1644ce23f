"""The package scenezoo: opened in the one version that is known here, its trouble told in one line."""

from __future__ import annotations

import re
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from open3dsg.datasets.scenezoo_sources import Source

VERSION = "0.3.1"
# It asks for the whole of open3d, 1.2 GB, of which open3d-cpu has what is needed.
INSTALL = f"pip install 'open3dsg[scenezoo]' && pip install --no-deps scenezoo=={VERSION}"

_NOT_FETCHED = re.compile(r"not cached for offline use: (\S+/([^/\s]+))")


def open_dataset(source: Source, root: Path, files: Mapping[str, Path]) -> Any:
    """Return scenezoo's adapter of a dataset; it reads nothing yet, and never fetches anything.

    `files` are the adapter's options that name a file. Raises UserError where the package is missing or of
    another version: poses and intrinsics are taken as 0.3.1 gives them, and a silent change would bend them.
    """
    try:
        found = metadata.version("scenezoo")
        if found != VERSION:
            raise UserError(f"scenezoo {found} is installed, and {VERSION} is needed: {INSTALL}")
        import scenezoo

        adapter = scenezoo.get_dataset_info(source.name).dataset_class
    except (metadata.PackageNotFoundError, ModuleNotFoundError) as error:
        raise _lacking(error) from error
    except (ImportError, OSError) as error:  # a library of the system that Open3D needs is missing
        raise UserError(
            f"scenezoo cannot be loaded ({error}); Open3D needs, on Debian, the package libusb-1.0-0"
        ) from error
    with told_in_one_line(f"{root}: scenezoo's {source.name}"):
        return adapter(root, offline=True, **files)


@contextmanager
def told_in_one_line(what: str) -> Iterator[None]:
    """Raise BadFileError, `what` first, for what scenezoo raises over files that are missing or damaged.

    Its parsers check some of what they read and stumble over the rest; the cause stays in the traceback.
    Raises UserError for a package that it imports only now and that is missing.
    """
    from open3d import utility
    from plyfile import PlyParseError
    from scenezoo import SceneZooError

    stumbles = (
        SceneZooError, PlyParseError, OSError, ValueError, LookupError, TypeError, AttributeError,
        RuntimeError, SyntaxError, EOFError, ArithmeticError, MemoryError,
    )  # fmt: skip
    try:
        with utility.VerbosityContextManager(utility.VerbosityLevel.Error):
            yield
    except ModuleNotFoundError as error:
        raise _lacking(error) from error
    except stumbles as error:
        raise BadFileError(f"{what}: {_reason(error)}") from error


def not_fetched(error: BaseException) -> bool:
    """Tell whether scenezoo misses a file that it would fetch, and that is not the scan's own."""
    return _NOT_FETCHED.search(str(error)) is not None


def _lacking(error: ModuleNotFoundError) -> UserError:
    return UserError(f"this needs the package {error.name or 'scenezoo'}: {INSTALL}")


def _reason(error: BaseException) -> str:
    """Return what an error says, in one line, with the way out where it is known."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read: {error.strerror}"
    text = " ".join(str(error).split())
    if missed := _NOT_FETCHED.search(text):
        url, file = missed.groups()
        return f"{file} is needed: fetch {url} into ROOT, or name its folder with --metadata"
    if isinstance(error, LookupError) or not text:
        return f"damaged or of another layout ({type(error).__name__}: {text})"
    return text
