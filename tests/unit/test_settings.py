from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.errors import UserError
from open3dsg.settings import FIELDS, Settings, describe, load_settings, mask_password


def _environ(home: Path, **variables: str) -> dict[str, str]:
    return {"HOME": str(home), **variables}


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_follow_the_home_folder_and_create_nothing(tmp_path: Path) -> None:
    settings = load_settings(_environ(tmp_path))
    assert tmp_path in settings.home.parents
    assert settings.home.name == "open3dsg"
    assert settings.database_url is None
    assert settings.postgres_version == 18
    assert set(settings.sources.values()) == {"default"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("sys.platform != 'linux'", reason="XDG folders are Linux's")
def test_xdg_folders_are_used_and_relative_ones_ignored(tmp_path: Path) -> None:
    assert load_settings(_environ(tmp_path, XDG_DATA_HOME="/srv/x")).home == Path("/srv/x/open3dsg")
    relative = load_settings(_environ(tmp_path, XDG_DATA_HOME="x"))
    assert relative.home == tmp_path / ".local/share/open3dsg"


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = _write(
        tmp_path / ".config/open3dsg/config.toml",
        'home = "/srv/file"\npostgres_version = 16\n',
    )
    settings = load_settings(_environ(tmp_path, OPEN3DSG_HOME="/srv/environment"))
    assert settings.home == Path("/srv/environment")
    assert settings.postgres_version == 16
    assert settings.sources == {
        "home": "environment OPEN3DSG_HOME",
        "database_url": "default",
        "postgres_version": f"file {file}",
        "checkpoints": "default",
        "encoders": "default",
    }


def test_config_file_is_found_by_xdg_and_by_its_own_variable(tmp_path: Path) -> None:
    _write(tmp_path / "xdg/open3dsg/config.toml", "postgres_version = 16")
    named = _write(tmp_path / "named.toml", 'database_url = "postgresql://h/d"')
    by_xdg = load_settings(_environ(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg")))
    assert by_xdg.postgres_version == 16
    by_name = load_settings(
        _environ(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg"), OPEN3DSG_CONFIG=str(named))
    )
    assert (by_name.postgres_version, by_name.database_url) == (18, "postgresql://h/d")


def test_relative_folders_start_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = _write(tmp_path / "etc/open3dsg.toml", 'home = "../store"')
    assert load_settings(_environ(tmp_path, OPEN3DSG_CONFIG=str(file))).home == tmp_path / "store"
    assert load_settings(_environ(tmp_path, OPEN3DSG_HOME="here")).home == tmp_path / "here"


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    settings = load_settings(_environ(tmp_path, OPEN3DSG_DATABASE_URL="", OPEN3DSG_POSTGRES_VERSION=""))
    assert settings.database_url is None
    assert settings.postgres_version == 18


@pytest.mark.parametrize("version", ["17", "sixteen", "-16", "16.1", "٣"])
def test_a_wrong_version_names_its_variable(tmp_path: Path, version: str) -> None:
    with pytest.raises(UserError, match=r"^OPEN3DSG_POSTGRES_VERSION: expected 16 or 18, got"):
        load_settings(_environ(tmp_path, OPEN3DSG_POSTGRES_VERSION=version))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("postgres_version = true", "postgres_version: expected 16 or 18, got True"),
        ("postgres_version = 17", "postgres_version: expected 16 or 18, got 17"),
        ("postgres_version = 18.0", "postgres_version: expected 16 or 18"),
        ("home = 3", "home: expected a folder as text, got 3"),
        ('home = ""', "home: expected a folder as text"),
        ('database_url = ["a"]', "database_url: expected a URL as text, got a value of type list"),
        ("colour = 1", "unknown key 'colour'; the settings are home, database_url, postgres_version"),
        ("home = ", "not valid TOML"),
        ("home", "not valid TOML"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, text: str, complaint: str) -> None:
    file = _write(tmp_path / "settings.toml", text)
    with pytest.raises(UserError) as caught:
        load_settings(_environ(tmp_path, OPEN3DSG_CONFIG=str(file)))
    assert str(caught.value).startswith(f"{file}: {complaint}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"settings\.toml: not valid TOML"):
        load_settings(_environ(tmp_path, OPEN3DSG_CONFIG=str(file)))


def test_a_named_file_must_exist_and_a_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.toml: no such settings file"):
        load_settings(_environ(tmp_path, OPEN3DSG_CONFIG=str(tmp_path / "missing.toml")))
    with pytest.raises(UserError, match="cannot read the settings file: Is a directory"):
        load_settings(_environ(tmp_path, OPEN3DSG_CONFIG=str(tmp_path)))


def test_every_field_of_settings_has_a_row_and_its_password_is_masked() -> None:
    settings = Settings(
        Path("/srv"),
        "postgresql://u:secret@h/d",
        18,
        Path("/srv/checkpoints"),
        {"clip": {}},
        {"home": "environment OPEN3DSG_HOME"},
    )
    rows = describe(settings)
    names = [name for name in Settings.__dataclass_fields__ if name != "sources"]
    assert [row.name for row in rows] == names == [entry.name for entry in FIELDS]
    assert rows[0].source == "environment OPEN3DSG_HOME"
    assert rows[1].value == "postgresql://u:***@h/d"


@pytest.mark.parametrize(
    "template",
    [
        "postgresql://user:{}@host/database",
        "postgresql+psycopg://user:{}@host:5432/database?sslmode=require",
        "postgresql://:{}@host",
        "postgresql://user@host/database?password={}&sslmode=require",
        "postgresql://host/database?sslpassword={}",
    ],
)
@given(tail=st.text(alphabet=st.characters(exclude_characters="&", exclude_categories=("Z", "C"))))
def test_no_password_survives_masking(template: str, tail: str) -> None:
    masked = mask_password(template.format(f"S3cret{tail}S3cret"))
    assert "S3cret" not in masked
    assert "***" in masked


def test_masking_leaves_urls_without_a_password_alone() -> None:
    for url in (
        "postgresql://user@host:5432/database",
        "postgresql://open3dsg@/open3dsg?host=/a%20b&port=5432",
    ):
        assert mask_password(url) == url


def test_checkpoints_lie_below_the_data_folder_wherever_that_is(tmp_path: Path) -> None:
    assert load_settings(_environ(tmp_path, OPEN3DSG_HOME="/srv/x")).checkpoints == Path("/srv/x/checkpoints")
    named = load_settings(_environ(tmp_path, OPEN3DSG_HOME="/srv/x", OPEN3DSG_CHECKPOINTS="/models"))
    assert named.checkpoints == Path("/models")


def test_encoders_are_tables_whose_paths_start_at_the_file(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "config.toml",
        '[encoders.clip]\npath = "models/ViT-L-14-336px.pt"\n'
        '[encoders.small]\nencoder = "clip"\nlayers = 3\n',
    )
    settings = load_settings(_environ(tmp_path, OPEN3DSG_CONFIG=str(file)))
    assert settings.encoders == {
        "clip": {"path": tmp_path / "models/ViT-L-14-336px.pt"},
        "small": {"encoder": "clip", "layers": 3},
    }
    rows = {row.name: row for row in describe(settings)}
    assert rows["encoders"].value == "clip, small"


def test_encoders_can_be_named_in_the_environment(tmp_path: Path) -> None:
    environ = _environ(tmp_path, OPEN3DSG_ENCODERS='jina = {encoder = "sentence", path = "/models/jina"}')
    assert load_settings(environ).encoders == {"jina": {"encoder": "sentence", "path": Path("/models/jina")}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clip = 3", "clip: expected a table"),
        ("clip = {path = 3}", "clip.path: expected text, got 3"),
        ("clip = {encoder = ''}", "clip.encoder: expected text"),
        ('"a b" = {}', "'a b' cannot be an encoder's name"),
        ("clip = ", "not valid TOML"),
    ],
)
def test_bad_encoders_are_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        load_settings(_environ(tmp_path, OPEN3DSG_ENCODERS=text))
    assert str(caught.value).startswith("OPEN3DSG_ENCODERS: ")
    assert told in str(caught.value)
