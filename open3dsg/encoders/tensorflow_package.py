"""TensorFlow as a guest: imported when it is needed, quiet, and beside torch on the same GPU."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from open3dsg.encoders.support import load_package
from open3dsg.errors import UserError

# What it says at import before any setting can stop it: oneDNN is on; a plugin is registered twice.
_CHATTER = re.compile(rb"WARNING: All log messages before absl|I\d{4} |[EW]\d{4} .*Unable to register cu")


def load_tensorflow(encoder: str, install: str) -> Any:
    """Import TensorFlow (4 to 6 s the first time); UserError with `install` where it is missing.

    Its log is set to errors alone, unless TF_CPP_MIN_LOG_LEVEL is set.
    """
    if sys.modules.get("tensorflow"):
        return sys.modules["tensorflow"]
    if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
        # Loading a model warns of each gradient that was not saved with it.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _without_chatter():
        return load_package("tensorflow", encoder, install)


def tensorflow_device(tf: Any, encoder: str, device: str | None) -> str:
    """Return the device to work on, as torch names it (cpu, cuda:1); None: a GPU where there is one.

    GPU memory is taken as it is needed, not all at once; with "cpu" no GPU is touched. Raises UserError for
    a device that it does not have.
    """
    gpus = tf.config.list_physical_devices("GPU")
    # It refuses once it works on something, which then stays as it is; the model is placed all the same.
    with suppress(RuntimeError):
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    if device == "cpu" or (device is None and not gpus):
        with suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
        return "cpu"
    numbered = re.fullmatch(r"cuda(?::(\d+))?", device or "cuda")
    number = int(numbered[1] or 0) if numbered else None
    if number is None or number >= len(gpus):
        here = ", ".join(["cpu", *(f"cuda:{place}" for place in range(len(gpus)))])
        raise UserError(
            f"--device {device}: tensorflow {tf.__version__}, on which {encoder} runs, has no such device"
            f" here, but {here}; tensorflow-cpu has no GPU: put tensorflow[and-cuda] in its place"
        )
    return f"cuda:{number}"


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what is written to standard error within the block; pass it on after, less the chatter."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)
