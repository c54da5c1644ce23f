"""Options of `open3dsg train` that cannot be, refused before anything is opened."""

from __future__ import annotations

import pytest

from open3dsg.cli.train import train
from open3dsg.errors import UserError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--devices", "cpu,"), "a name between commas is missing"),
        (("--supervised",), "--supervised learns annotated relations"),
        (("--logs-in", "here"), "--logs-in is where --logger writes"),
        (("--checkpoint", "any", "--point-weights", "any"), "leave out --point-weights"),
    ],
)
def test_what_cannot_be_is_refused(given: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        train.main(["--dataset", "none", "--pair-encoder", "geometry", *given], standalone_mode=False)
