"""What the settings say of encoders: which one a name stands for, its weights, its options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from open3dsg.encoders.clip import Clip, find_checkpoint
from open3dsg.encoders.clip_models import HuggingFaceClip
from open3dsg.encoders.conse import Conse
from open3dsg.encoders.contract import Choices
from open3dsg.encoders.overview import list_encoders
from open3dsg.encoders.registry import choices_of, encoder_names, kind_of, load_encoder, load_node_encoder
from open3dsg.encoders.rooms import Rooms
from open3dsg.encoders.support import check_options, need_checkpoint
from open3dsg.errors import BadFileError, UserError
from open3dsg.settings import load_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder and no settings but those of the test."""
    folder = tmp_path / "home"
    for name in [name for name in os.environ if name.startswith("OPEN3DSG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPEN3DSG_HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    return folder


def configure(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OPEN3DSG_ENCODERS", text)


def test_weights_lie_under_the_name_in_the_folder_of_checkpoints(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().checkpoints == home / "checkpoints"
    found = choices_of("clip")
    assert (found.checkpoint, found.path_given, found.options) == (home / "checkpoints" / "clip", False, {})
    monkeypatch.setenv("OPEN3DSG_CHECKPOINTS", "/models")
    assert choices_of("clip").checkpoint == Path("/models/clip")


def test_a_name_of_ones_own_stands_for_an_encoder_with_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, '[clip-b32]\nencoder = "clip"\npath = "/models/b32"\n')
    assert "clip-b32" in encoder_names()
    assert (kind_of("clip-b32"), kind_of("clip")) == ("clip", "clip")
    found = choices_of("clip-b32", "cuda:1", "bf16")
    assert found == Choices("clip-b32", Path("/models/b32"), "minilm", {}, "cuda:1", "bf16", path_given=True)
    encoder = load_encoder("clip-b32")
    assert isinstance(encoder, Clip)
    assert encoder.name == "clip-b32"


def test_an_unknown_encoder_behind_a_name_is_told_with_the_table_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(monkeypatch, '[mine]\nencoder = "clop"\n')
    with pytest.raises(
        UserError, match=r"^\[encoders.mine\] in the settings: no encoder is called 'clop'; known:"
    ):
        load_encoder("mine")
    configure(monkeypatch, '[mine]\npath = "/models/b32"\n')
    with pytest.raises(
        UserError, match=r'^\[encoders.mine\] in the settings: say by encoder = "\.\.\." which of .*clip'
    ) as error:
        load_encoder("mine")
    assert " mine" not in str(error.value)
    with pytest.raises(UserError, match=r"; \[encoders\.yours\] in the settings would add it$"):
        load_encoder("yours")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "clip.pooling = 1",
            "[encoders.clip] in the settings: unknown key 'pooling'; what can be set is encoder, path",
        ),
        ('clip.text = "sentence"', "unknown key 'text'"),
        (
            'conse.path = "/x"',
            "[encoders.conse] in the settings: path: the weights of this encoder come with",
        ),
        ('minilm.path = "/x"', "path: the weights of this encoder come with its packages; take it out"),
        ("rooms.top = 3", "unknown key 'top'"),
        ('sentence.max_tokens = "many"', "max_tokens: expected a whole number, got 'many'"),
        ("sentence.max_tokens = true", "max_tokens: expected a whole number, got True"),
        ("sentence.max_tokens = 0", "max_tokens: expected at least 1, got 0"),
        ('sentence.pooling = "sum"', "pooling: expected one of mean, cls, max, got 'sum'"),
        ('sentence.trust_remote_code = "yes"', "trust_remote_code: expected true or false, got 'yes'"),
    ],
)
def test_options_that_an_encoder_does_not_know_are_refused(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(monkeypatch, text)
    with pytest.raises(UserError) as error:
        load_encoder(text.split(".", maxsplit=1)[0])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_whole_number_passes_where_a_number_is_wanted_and_a_sentence_encoder_where_one_is_used() -> None:
    check_options(Choices("x", Path(), options={"share": 1}), {"share": float})
    check_options(Choices("x", Path(), text="sentence"), {"text": str})
    with pytest.raises(UserError, match="share: expected a number, got False"):
        check_options(Choices("x", Path(), options={"share": False}), {"share": float})


def test_rooms_takes_the_weights_that_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    own = load_encoder("rooms")
    configure(monkeypatch, '[rooms]\npath = "/models/rooms.safetensors"\n')
    named = load_encoder("rooms")
    assert isinstance(own, Rooms)
    assert isinstance(named, Rooms)
    assert (own.weights.parent.name, named.weights) == ("weights", Path("/models/rooms.safetensors"))


def test_encoders_are_made_without_choices_as_well() -> None:
    assert (Conse().name, Rooms().name) == ("conse", "rooms")


def test_a_sentence_model_embeds_no_instances() -> None:
    with pytest.raises(UserError, match="the encoder minilm does not embed instances: it embeds words"):
        load_node_encoder("minilm")


def test_missing_weights_are_told_with_the_place_and_the_source(tmp_path: Path) -> None:
    choices = Choices("clip-b32", tmp_path / "b32")
    with pytest.raises(BadFileError) as error:
        need_checkpoint(choices, "the file at {path}")
    assert str(error.value) == (
        f"{tmp_path}/b32: the weights of the encoder clip-b32 are missing. It wants the file at"
        f" {tmp_path}/b32; `path` in [encoders.clip-b32] names another place"
    )
    (tmp_path / "b32").touch()
    assert need_checkpoint(choices, "") == tmp_path / "b32"


def test_a_clip_is_a_file_or_a_folder_with_one_or_one_of_hugging_face(tmp_path: Path) -> None:
    with pytest.raises(
        BadFileError, match=r"no config\.json and no \*\.pt in it\. The encoder clip wants it"
    ):
        find_checkpoint(tmp_path, "clip", "it")
    first = tmp_path / "ViT-B-32.pt"
    first.touch()
    assert find_checkpoint(first, "clip", "it") == find_checkpoint(tmp_path, "clip", "it") == first
    (tmp_path / "ViT-B-16.pt").touch()
    with pytest.raises(BadFileError, match=r"2 files \*\.pt in it: say which by `path`"):
        find_checkpoint(tmp_path, "clip", "it")
    (tmp_path / "config.json").touch()
    assert find_checkpoint(tmp_path, "clip", "it") == tmp_path


def test_the_list_tells_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, 'b32.encoder = "clip"\nb32.path = "/nowhere/b32"\nodd.encoder = "clop"\n')
    monkeypatch.setattr(Conse, "NEEDS", ("not_installed_at_all",))
    rows = {row.name: row for row in list_encoders()}
    assert sorted(rows) == encoder_names()
    assert (rows["rooms"].ready, rows["rooms"].dimension, rows["rooms"].checkpoint) == (True, 384, None)
    assert rows["b32"].checkpoint == Path("/nowhere/b32")
    assert (rows["b32"].encoder, rows["b32"].views, rows["b32"].ready) == ("clip", "crops", False)
    assert rows["b32"].missing == ("weights",)
    assert (rows["b32"].way_out or "").startswith("it wants a CLIP at /nowhere/b32: ")
    assert "no encoder is called 'clop'" in (rows["odd"].way_out or "")
    assert (rows["odd"].views, rows["odd"].missing, rows["odd"].ready) == (None, ("cannot be made",), False)
    assert rows["conse"].missing == ("package not_installed_at_all",)
    assert (rows["conse"].way_out or "").startswith("pip install 'open3dsg[conse]'")
    assert (rows["rooms"].missing, rows["rooms"].way_out) == ((), None)
    configure(monkeypatch, f'b32.encoder = "clip"\nb32.path = "{tmp_path}"\n')
    assert {row.name: row.missing for row in list_encoders()}["b32"] == ()


def test_the_list_tells_weights_and_packages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HuggingFaceClip, "NEEDS", ("not_installed.at_all", "nor_this"))
    (row,) = (row for row in list_encoders() if row.name == "clip")
    assert row.missing == ("weights", "package not_installed.at_all", "package nor_this")
    assert (row.way_out or "").startswith("it wants a CLIP at ")
    assert (row.way_out or "").endswith("; pip install 'open3dsg[conse]'")


def test_what_a_clip_needs_depends_on_its_form(tmp_path: Path) -> None:
    def needs(path: Path) -> tuple[str, ...]:
        return Clip(Choices("clip", path)).NEEDS

    assert needs(tmp_path) == ("torch", "transformers")
    (tmp_path / "ViT-B-32.pt").touch()
    assert needs(tmp_path) == needs(tmp_path / "ViT-B-32.pt") == ("torch", "clip")
    (tmp_path / "config.json").touch()
    assert needs(tmp_path) == ("torch", "transformers")


def test_the_list_loads_neither_weights_nor_libraries() -> None:
    told = (
        "import sys; from open3dsg.encoders.overview import list_encoders; list_encoders();"
        "heavy = 'torch transformers tensorflow lavis clip numba scipy open3d'.split();"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
