"""Servers for tests that are none of ours, and some that are no PostgreSQL at all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port of 127.0.0.1 and let `answer` talk to whoever connects; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def say_nothing(connection: socket.socket) -> None:
    """Take what comes and never answer, as a machine behind a half-open firewall."""
    while connection.recv(1024):
        pass


def speak_http(connection: socket.socket) -> None:
    """Answer as a web server does."""
    connection.recv(1024)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def be_postgres(version: str) -> Callable[[socket.socket], None]:
    """Return a server that lets everybody in and says it is PostgreSQL `version`."""

    def answer(connection: socket.socket) -> None:
        # https://www.postgresql.org/docs/current/protocol-message-formats.html: requests for encryption have
        # no type byte and these two codes; N declines them.
        while True:
            code = struct.unpack("!ii", connection.recv(1024)[:8])[1]
            if code not in (80877103, 80877104):
                break
            connection.sendall(b"N")
        parameters = {"server_version": version, "client_encoding": "UTF8"}
        told = b"".join(_message(b"S", f"{key}\0{value}\0".encode()) for key, value in parameters.items())
        connection.sendall(_message(b"R", struct.pack("!i", 0)) + told + _message(b"Z", b"I"))
        say_nothing(connection)

    return answer


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
