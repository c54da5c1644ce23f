"""The server of the pages: one port, a session a page, and a look at the database now and then."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from open3dsg.errors import UserError
from open3dsg.query.viewing import (
    count_instances,
    encoders_with_features,
    is_there,
    may_correct,
    scans_to_view,
)
from open3dsg.store.predictions import find_prediction, list_predictions
from open3dsg.store.scans import find_scan
from open3dsg.view.browser.connections import Connections, DatabaseAwayError
from open3dsg.view.browser.panel import Contents
from open3dsg.view.browser.session import LOST, Session, Start
from open3dsg.view.browser.text import html

if TYPE_CHECKING:
    from collections.abc import Callable

    import viser
    from psycopg import Connection

_PULSE_S = 2.0  # between looks whether the database is there
# From light to less light: pale things, and gaps of a scan, stand out from it.
_SKY = np.linspace((250, 251, 253), (205, 214, 226), 64).astype(np.uint8)[:, None].repeat(64, axis=1)
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Plan:
    """How to serve: read only where asked for, and where the role may not write."""

    host: str
    port: int  # 0: any that is free
    start: Start
    read_only: bool


def check_start(connection: Connection[Any], scan: str | None, run: str | None, max_points: int) -> Start:
    """Return what pages begin with; UserError for a scan or run that is not there, and an empty store."""
    if not scans_to_view(connection):
        raise UserError("the store has no scan to show: run `open3dsg ingest 3rscan ROOT` first")
    key = None if scan is None else find_scan(connection, scan).key
    prediction = None if run is None else find_prediction(connection, run).full_name
    return Start(key, prediction, max_points)


def read_contents(connection: Connection[Any], read_only: bool) -> Contents:
    """Return what the store has to offer a page."""
    return Contents(
        scans=scans_to_view(connection),
        instances=count_instances(connection),
        encoders=encoders_with_features(connection),
        predictions=[prediction.full_name for prediction in list_predictions(connection)],
        read_only=read_only,
    )


def serve(url: str, plan: Plan, say: Callable[[str], None]) -> None:
    """Serve pages until Ctrl-C; `say` is told the address, and what to know of it.

    The port must be free, and the host one that can be listened at: viser tries a thousand ports, and then
    waits for ever. Raises UserError where viser is missing, and where the port was taken meanwhile.
    """
    try:
        import viser
    except ImportError as error:
        raise UserError("the viewer needs viser: pip install 'open3dsg[view]'") from error
    with contextlib.redirect_stdout(io.StringIO()):  # where viser draws its address in a box
        server = viser.ViserServer(plan.host, plan.port, label="open3dsg", verbose=False)
    pages = _Pages(server, Connections(url), plan)
    try:
        if plan.port not in (0, server.get_port()):  # viser goes on to the next one without a word
            raise UserError(f"port {plan.port} of {plan.host} is in use: give another --port")
        _tell_address(plan, server.get_port(), say)
        with contextlib.suppress(KeyboardInterrupt):
            pages.watch()
    finally:
        pages.close()


def is_local(host: str) -> bool:
    """Tell whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOCAL_NAMES


def is_own_page(origin: str | None, asked_host: str, host: str) -> bool:
    """Tell whether a browser's connection comes from our own page, and not from one of another site.

    A site that somebody visits may let his browser connect to us; `origin` then names that site. And it may
    let its own name point to this machine, so that of a `host` that is local only local names will do.
    """
    if origin is not None and urlsplit(origin).netloc != asked_host:
        return False
    name = urlsplit(f"//{asked_host}").hostname or ""
    return not is_local(host) or is_local(name) or name == host


class _Pages:
    """The open pages."""

    def __init__(self, server: viser.ViserServer, connections: Connections, plan: Plan) -> None:
        self._server, self._connections, self._plan = server, connections, plan
        self._sessions: dict[int, Session] = {}
        self._waiting: dict[int, viser.ClientHandle] = {}  # came while the database was away
        self._lock = threading.Lock()
        self._is_away = False
        server.gui.configure_theme(
            show_logo=False, show_share_button=False, control_width="large", brand_color=(34, 87, 122)
        )
        server.scene.set_background_image(_SKY, "png")
        server.scene.set_up_direction("+z")
        server.scene.world_axes.visible = False
        server.on_client_connect(self._open)
        server.on_client_disconnect(self._close_one)

    def watch(self) -> None:
        """Look after the database for the open pages, for ever."""
        pause = threading.Event()
        while not pause.wait(_PULSE_S):
            if self._sessions or self._waiting:
                self._look()

    def close(self) -> None:
        """End all pages and the server."""
        for session in list(self._sessions.values()):
            session.close()
        with contextlib.redirect_stdout(io.StringIO()):  # where viser says that it stopped
            self._server.stop()
        self._connections.close()

    def _look(self) -> None:
        try:
            with self._connections.reading() as connection:
                is_there(connection)
        except DatabaseAwayError as error:
            self._is_away = True
            for session in list(self._sessions.values()):
                session.database_away(str(error))
            return
        except UserError:  # busy, so it is there
            pass
        if self._is_away:
            self._is_away = False
            for session in list(self._sessions.values()):
                session.database_back()
        for client in list(self._waiting.values()):
            self._open(client)

    def _open(self, client: viser.ClientHandle) -> None:
        """Begin a page."""
        if not self._is_own(client):
            client.gui.add_html(html("This address is not the one that `open3dsg view` gave.").markup)
            return
        try:
            contents = self._read_contents()
        except UserError as error:
            client.gui.reset()
            client.gui.add_html(
                html('<div role="alert" style="padding:8px">{} ({})</div>', LOST, error).markup
            )
            with self._lock:
                if self._is_open(client):
                    self._waiting[client.client_id] = client
            return
        client.gui.reset()
        with self._lock:
            self._waiting.pop(client.client_id, None)
            if self._is_open(client):
                session = Session(client, self._connections, contents, self._plan.start)
                self._sessions[client.client_id] = session

    def _is_own(self, client: viser.ClientHandle) -> bool:
        """Tell whether our own page asks; one that is gone meanwhile does no more.

        viser tells nobody where a connection comes from: this looks into it, which is why pyproject.toml
        pins its minor version. Were that to change, no page would open.
        """
        connection = self._server._websock_server._live_connections.get(client.client_id)
        if connection is None or connection.request is None:
            return False
        headers = connection.request.headers
        return is_own_page(headers.get("Origin"), headers.get("Host", ""), self._plan.host)

    def _is_open(self, client: viser.ClientHandle) -> bool:
        """Tell whether a page is still there; its end is told (`_close_one`) after it stops being so."""
        return client.client_id in self._server.get_clients()

    def _read_contents(self) -> Contents:
        read_only = self._plan.read_only
        if not read_only:
            with self._connections.writing() as connection:
                read_only = not may_correct(connection)
        with self._connections.reading() as connection:
            return read_contents(connection, read_only)

    def _close_one(self, client: viser.ClientHandle) -> None:
        with self._lock:
            self._waiting.pop(client.client_id, None)
            session = self._sessions.pop(client.client_id, None)
        if session is not None:
            session.close()


def _tell_address(plan: Plan, port: int, say: Callable[[str], None]) -> None:
    shown = f"[{plan.host}]" if ":" in plan.host else plan.host
    if not is_local(plan.host):
        may = "see the store" if plan.read_only else "see the store and correct it (--read-only forbids that)"
        say(f"warning: whoever reaches {shown}:{port} may {may}; nobody is asked for a password")
    say(f"the viewer is at http://{shown}:{port} until Ctrl-C")
