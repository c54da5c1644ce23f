"""Encoders by name. Packages add theirs by an entry point in the group ``open3dsg.encoders``."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from open3dsg.encoders.contract import Encoder
from open3dsg.errors import UserError

GROUP = "open3dsg.encoders"
METHODS = {"crops": "encode_crops", "pixels": "encode_pixels"}


def encoder_names() -> list[str]:
    """Names of all encoders that installed packages declare, sorted; none of them is imported."""
    return sorted(entry_points(group=GROUP).names)


def load_encoder(name: str) -> Encoder:
    """Make the encoder called `name`; its weights load with the first call that needs them.

    Raises UserError where no package declares the name, two do, or what is declared cannot be made or is
    no encoder.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        known = ", ".join(encoder_names()) or "none: install the package first (pip install -e .)"
        raise UserError(f"no encoder is called {name!r}; known: {known}")
    if len(found) > 1:
        claims = " and ".join(entry.value for entry in found)
        raise UserError(f"the encoder name {name!r} is taken twice, by {claims}: uninstall one of them")
    return _make(found[0])


def _make(entry: EntryPoint) -> Encoder:
    told = f"the encoder {entry.name!r} (entry point {entry.value})"
    try:
        encoder: Encoder = entry.load()()
    except UserError:
        raise
    except Exception as error:  # whatever a stranger's package raises, the user needs its name
        raise UserError(f"{told} cannot be loaded: {type(error).__name__}: {error}") from error
    views = getattr(encoder, "views", None)
    if not isinstance(views, str) or not hasattr(encoder, METHODS.get(views, "")):
        raise UserError(
            f"{told} is no encoder: its views must be 'crops' or 'pixels', with the method for it"
        )
    return encoder
