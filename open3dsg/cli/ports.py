"""Ports that commands listen at."""

from __future__ import annotations

import socket

from open3dsg.errors import UserError


def check_port(host: str, port: int) -> None:
    """Raise UserError where nothing can listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot listen at {host}:{port}: {reason}: give another --host or --port") from error
