"""Encoders by name. Packages add theirs by an entry point in the group ``open3dsg.encoders``.

The settings may say where an encoder's weights are, and give a name to a further one: a table
``[encoders.clip-b32]`` with ``encoder = "clip"`` and a ``path`` is the encoder ``clip`` with those weights.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from open3dsg.encoders.contract import Choices, LoadedEncoder
from open3dsg.errors import UserError
from open3dsg.settings import load_settings

if TYPE_CHECKING:
    from open3dsg.encoders.contract import Encoder, PairEncoder, Precision, TextEncoder

GROUP = "open3dsg.encoders"
METHODS = {
    "crops": ("encode_crops", "encode_text"),
    "pixels": ("encode_pixels", "encode_text"),
    "tokens": ("encode_tokens",),
    "boxes": ("relate",),
    "text": ("encode_text",),
}


def encoder_names() -> list[str]:
    """Names of all encoders that packages and the settings declare, sorted; none of them is imported."""
    return sorted({*entry_points(group=GROUP).names, *load_settings().encoders})


def load_encoder(name: str, device: str | None = None, precision: Precision = "fp32") -> LoadedEncoder:
    """Make the encoder called `name`; its weights load with the first call that needs them.

    Raises UserError where nothing declares the name, two packages do, or what is declared cannot be made or
    is no encoder.
    """
    kind, choices = _choices(name, device, precision)
    found = list(entry_points(group=GROUP, name=kind))
    if not found:
        known = ", ".join(encoder_names()) or "none: install the package first (pip install -e .)"
        told = f"[encoders.{name}] in the settings: " if kind != name else ""
        raise UserError(f"{told}no encoder is called {kind!r}; known: {known}")
    if len(found) > 1:
        claims = " and ".join(entry.value for entry in found)
        raise UserError(f"the encoder name {kind!r} is taken twice, by {claims}: uninstall one of them")
    return _make(found[0], choices)


def load_node_encoder(name: str, device: str | None = None, precision: Precision = "fp32") -> Encoder:
    """Make an encoder of instances; UserError where `name` is none. Else as `load_encoder`."""
    encoder = load_encoder(name, device, precision)
    if encoder.views in ("crops", "pixels"):
        return encoder
    raise UserError(f"the encoder {name} does not embed instances: {_USES[encoder.views].format(name)}")


def load_pair_encoder(name: str, device: str | None = None, precision: Precision = "fp32") -> PairEncoder:
    """Make an encoder of pairs; UserError where `name` is none. Else as `load_encoder`."""
    encoder = load_encoder(name, device, precision)
    if encoder.views in ("crops", "tokens"):
        return encoder
    raise UserError(f"the encoder {name} does not embed pairs: {_USES[encoder.views].format(name)}")


def load_text_encoder(name: str, device: str | None = None) -> TextEncoder:
    """Make an encoder with a text side; UserError where `name` has none. Else as `load_encoder`."""
    encoder = load_encoder(name, device)
    if encoder.views in ("crops", "pixels", "text"):
        return encoder
    raise UserError(f"the encoder {name} does not embed words: {_USES[encoder.views].format(name)}")


_USES = {
    "pixels": "`open3dsg features dump --nodes --encoder {}` embeds instances; pairs want --pair-encoder",
    "tokens": "`open3dsg features dump --pairs --pair-encoder {}` turns pairs into tokens",
    "boxes": "`open3dsg features caption --encoder {}` says how instances relate",
    "text": "it embeds words, for encoders whose text side it is",
}


def _choices(name: str, device: str | None, precision: Precision) -> tuple[str, Choices]:
    """Return which entry point `name` stands for, and what was chosen for it."""
    settings = load_settings()
    table = dict(settings.encoders.get(name, {}))
    kind = table.pop("encoder", name)
    path = table.pop("path", settings.checkpoints / name)
    text = table.pop("text", Choices.text)
    return kind, Choices(name, path, text, table, device, precision)


def _make(entry: EntryPoint, choices: Choices) -> LoadedEncoder:
    told = f"the encoder {choices.name!r} (entry point {entry.value})"
    try:
        declared = entry.load()
        made = declared.from_choices(choices) if hasattr(declared, "from_choices") else declared()
    except UserError:
        raise
    except Exception as error:  # whatever a stranger's package raises, the user needs its name
        raise UserError(f"{told} cannot be loaded: {type(error).__name__}: {error}") from error
    views = getattr(made, "views", None)
    wanted = METHODS.get(views) if isinstance(views, str) else None
    if wanted is None or not all(hasattr(made, method) for method in wanted):
        kinds = ", ".join(repr(kind) for kind in METHODS)
        raise UserError(f"{told} is no encoder: its views must be one of {kinds}, with the methods for it")
    encoder: LoadedEncoder = made
    return encoder
