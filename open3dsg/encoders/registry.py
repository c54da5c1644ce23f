"""Encoders by name. Packages add theirs by an entry point in the group ``open3dsg.encoders``.

The settings may say where an encoder's weights are, and give a name to a further one: a table
``[encoders.clip-b32]`` with ``encoder = "clip"`` and a ``path`` is the encoder ``clip`` with those weights.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from open3dsg.encoders.contract import Choices, LoadedEncoder
from open3dsg.errors import UserError
from open3dsg.settings import load_settings

if TYPE_CHECKING:
    from open3dsg.encoders.contract import DenseEncoder, Encoder, PairEncoder, Precision, WordEncoder

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
    choices = choices_of(name, device, precision)
    kind = kind_of(name)
    found = list(entry_points(group=GROUP, name=kind))
    if not found:
        raise UserError(_unknown(name, kind))
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


def load_dense_encoder(name: str, device: str | None = None) -> DenseEncoder:
    """Make an encoder of every pixel; UserError where `name` is none. Else as `load_encoder`."""
    encoder = load_encoder(name, device)
    if encoder.views == "pixels" and hasattr(encoder, "encode_image"):
        return cast("DenseEncoder", encoder)
    raise UserError(f"the encoder {name} has no vector for every pixel: take one such as openseg or rooms")


def load_pair_encoder(name: str, device: str | None = None, precision: Precision = "fp32") -> PairEncoder:
    """Make an encoder of pairs; UserError where `name` is none. Else as `load_encoder`."""
    encoder = load_encoder(name, device, precision)
    if encoder.views in ("crops", "tokens"):
        return encoder
    raise UserError(f"the encoder {name} does not embed pairs: {_USES[encoder.views].format(name)}")


def load_text_encoder(name: str, device: str | None = None) -> WordEncoder:
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


def kind_of(name: str) -> str:
    """Return the entry point that `name` stands for: the one of that name, or that the settings give it."""
    return str(load_settings().encoders.get(name, {}).get("encoder", name))


def choices_of(name: str, device: str | None = None, precision: Precision = "fp32") -> Choices:
    """Return what the settings say of the encoder called `name`, whether there is one or not."""
    settings = load_settings()
    table = dict(settings.encoders.get(name, {}))
    table.pop("encoder", None)
    given = "path" in table
    path = table.pop("path", settings.checkpoints / name)
    text = table.pop("text", Choices.text)
    return Choices(name, path, text, table, device, precision, given)


def _unknown(name: str, kind: str) -> str:
    """Say why there is no encoder `kind` for `name`, and what would help."""
    settled = name in load_settings().encoders
    declared = ", ".join(sorted(entry_points(group=GROUP).names))
    if not declared:
        return f"no encoder is called {kind!r}, nor any other: install the package first (pip install -e .)"
    if settled and kind == name:
        return f'[encoders.{name}] in the settings: say by encoder = "..." which of {declared} it is'
    if settled:
        return f"[encoders.{name}] in the settings: no encoder is called {kind!r}; known: {declared}"
    known = ", ".join(encoder_names())
    return f"no encoder is called {name!r}; known: {known}; [encoders.{name}] in the settings would add it"


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
