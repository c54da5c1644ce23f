"""`features caption` and `show captions` as people type them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests.command import GRAPH, OBSERVE, Done, call, environment
from tests.conftest import as_url
from tests.content import row_counts

CAPTION = ("features", "caption", "--encoder", "geometry")
Captioned = tuple[dict[str, str], dict[str, Done]]

TEXT = {"OPEN3DSG_ENCODERS": "[geometry]\ntext = 'toy'"}


@pytest.fixture(scope="module")
def captioned(
    root: Path, template: str, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Captioned:
    """The variables of a database where pairs have captions, and what each command printed."""
    url = as_url(new_database("captioned", template=template))
    variables = environment(tmp_path_factory.mktemp("captions"), url) | TEXT
    done = {}
    for name, command in (("ingest", ("ingest", "3rscan", root)), ("observe", OBSERVE), ("graph", GRAPH)):
        done[name] = call(variables, *command)
    done["submit"] = call(
        variables, "jobs", "submit", "captions", "--encoder", "geometry", "--scan", mini.NAME
    )
    done["caption"] = call(variables, *CAPTION)
    done["again"] = call(variables, *CAPTION, "--json")
    return variables, done


def test_it_captions_all_pairs_once(captioned: Captioned) -> None:
    _variables, done = captioned
    assert done["submit"].out == "captions: 1 queued in gpu, 0 already queued, 0 already done, 0 failed\n"
    first, counts = done["caption"].out.splitlines()
    assert first.startswith("captions: 3 done, 0 already done, 0 failed in ")
    assert "captions " in counts
    again = done["again"].json
    assert again["scans"] == {"done": 0, "skipped": 3, "failed": 0}
    assert again["step"] == "captions"


def test_captions_are_listed_by_scan_encoder_and_instance(captioned: Captioned) -> None:
    variables, _done = captioned
    whole = call(variables, "show", "captions", mini.NAME, "--json").json
    told = call(variables, "show", "captions", mini.NAME, "--instance", 7, "--encoder", "geometry")
    header, *lines = told.out.splitlines()
    assert header.split() == ["subject", "label", "phrase", "object", "label", "encoder"]
    assert len(lines) == sum(7 in {one["subject"], one["object"]} for one in whole)
    assert any(line.split()[:5] == ["7", "picture", "attached", "to", "2"] for line in lines)
    assert told.err == f"{len(lines)} captions; `open3dsg features caption` makes them\n"
    (one,) = (one for one in whole if (one["subject"], one["object"]) == (7, 2))
    assert (one["phrase"], one["caption"], one["object_label"]) == ("attached to", "attached to", "wall")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("show", "captions", mini.NAME, "--instance", 99), "has no instance 99; it has 1, 2, 4, 7"),
        (("show", "captions", mini.NAME, "--encoder", "none such"), "no features of an encoder 'none such'"),
        ((*CAPTION, "--beams", 3), "the encoder geometry speaks by rules: leave out --beams"),
        (
            ("features", "caption", "--encoder", "toycaptions", "--scan", mini.NAME),
            "has no features of pairs by toycaptions@8899aabbccddeeff: run `open3dsg features dump --pairs",
        ),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(
    captioned: Captioned, command: tuple[Any, ...], told: str
) -> None:
    variables, _done = captioned
    with psycopg.connect(variables["OPEN3DSG_DATABASE_URL"]) as database:
        before = row_counts(database) | {"encoder": 0}
        done = call(variables, *command)
        assert done.code == 2
        (line,) = done.errors
        assert told in line
        assert row_counts(database) | {"encoder": 0} == before


def test_settings_that_rules_do_not_know_are_refused(captioned: Captioned) -> None:
    variables, _done = captioned
    done = call({**variables, "OPEN3DSG_ENCODERS": "[geometry]\nnear = 2"}, *CAPTION)
    (line,) = done.errors
    assert "[encoders.geometry] in the settings: unknown key 'near'" in line
