"""One page: what is drawn, asked and chosen in it. Pages share nothing but the connections.

Everything that asks the database or draws runs in the page's own thread (`worker`); what the browser reports
only puts jobs there.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from open3dsg.errors import UserError
from open3dsg.query.graph import read_graph
from open3dsg.store.corrections import correct_label, correct_relation, revert_correction
from open3dsg.store.scans import find_scan
from open3dsg.view.browser.chosen import Chosen
from open3dsg.view.browser.comparison import as_table, compare_edges, compare_nodes
from open3dsg.view.browser.connections import DatabaseAwayError
from open3dsg.view.browser.details import read_edge, read_node, tell_edge, tell_node
from open3dsg.view.browser.panel import ANNOTATED, Panel, Wishes, on_click
from open3dsg.view.browser.question import Source, ask, is_relation, similarities
from open3dsg.view.browser.room import read_room
from open3dsg.view.browser.scene import FEW_EDGES, Scene
from open3dsg.view.browser.text import html, plain
from open3dsg.view.browser.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import viser
    from psycopg import Connection

    from open3dsg.query.graph import StoredGraph
    from open3dsg.view.browser.connections import Connections
    from open3dsg.view.browser.panel import Contents
    from open3dsg.view.browser.question import Hit
    from open3dsg.view.browser.room import Pair, Room

_TYPING_S = 0.45  # without a further letter before a question is asked
_RESTING_S = 0.35  # of the camera before more points are fetched
LOST = "The database does not answer; this page goes on by itself when it is back."


@dataclass(frozen=True)
class Start:
    """What a page begins with."""

    scan: str | None
    run: str | None  # a prediction
    max_points: int


class Session:
    """The state of one page."""

    def __init__(
        self, client: viser.ClientHandle, connections: Connections, contents: Contents, start: Start
    ) -> None:
        """Build the page and begin to draw."""
        self._client, self._connections, self._contents, self._start = client, connections, contents, start
        self._worker = Worker(f"page-{client.client_id}")
        self._again: dict[str, Callable[[], None]] = {}  # what the database was away for
        self._room: Room | None = None
        self._similarity: Mapping[int, float] = {}
        self._chosen: tuple[int, ...] = ()
        self._pair: Pair | None = None
        wishes = Wishes(
            scan=lambda key: self._do("room", lambda: self._open(key)),
            graph=lambda: self._do("room", self._reopen),
            question=lambda now: self._do("question", self._ask, 0.0 if now else _TYPING_S),
            look=lambda: self._do("look", self._redraw),
            hit=lambda hit: self._do("choose", lambda: self._choose_hit(hit)),
            overview=lambda: self._do("look", self._show_all),
            compare=lambda: self._do("compare", self._compare),
        )
        self._panel = Panel(client, contents, wishes)
        self._told = Chosen(client, self._panel.details, self._panel.hint)
        self._scene = Scene(client, self._click_node, self._click_edge)
        client.camera.on_update(lambda _camera: self._do("near", self._draw_near, _RESTING_S))
        self._panel.set_graph(start.run)
        first = start.scan or contents.scans[0]
        self._do("room", lambda: self._open(first))

    def close(self) -> None:
        """End with the page."""
        self._worker.close()

    def database_away(self, reason: str) -> None:
        """Say that the database does not answer."""
        self._panel.tell_trouble(f"{LOST} ({reason})")

    def database_back(self) -> None:
        """Go on: what could not be done is done now."""
        self._panel.tell_trouble(None)
        again, self._again = self._again, {}
        for name, job in again.items():
            self._do(name, job)

    def _do(self, name: str, job: Callable[[], None], after_s: float = 0.0) -> None:
        self._worker.post(name, lambda: self._try(name, job), after_s)

    def _try(self, name: str, job: Callable[[], None]) -> None:
        try:
            job()
        except DatabaseAwayError as error:
            self._again[name] = job
            self.database_away(str(error))
        except UserError as error:
            self._panel.tell_error(error)
        except Exception:  # a bug: the page says so and stays usable, its traceback is on the terminal
            traceback.print_exc(file=sys.stderr)
            self._panel.tell_error("that went wrong; the terminal of `open3dsg view` says how")

    # The room

    def _open(self, key: str) -> None:
        """Read a scan and draw it, with the camera where all of it is seen."""
        self._panel.tell(f"reading {key} ...")
        room = self._read_room(key)
        self._room, self._chosen, self._pair, self._similarity = room, (), None, {}
        self._panel.set_scan(key)
        self._panel.set_room(room, FEW_EDGES)
        self._told.clear()
        self._scene.show_all(room)
        self._redraw()
        self._tell_room(room)
        if self._panel.question:
            self._ask()

    def _reopen(self) -> None:
        """Read the scan's graph anew, as after a correction; the camera and what is chosen stay."""
        if self._room is None:
            return
        room = self._room
        with self._connections.reading() as connection:
            graph = self._read_graph(connection, room.scan.key, self._panel.run)
        self._room = replace(room, graph=graph)
        self._redraw()
        self._tell_room(self._room)
        self._tell_chosen()

    def _read_room(self, key: str) -> Room:
        with self._connections.reading() as connection:
            scan = find_scan(connection, key)
            graph = self._read_graph(connection, key, self._panel.run)
            return read_room(connection, scan, graph, self._start.max_points)

    def _read_graph(self, connection: Connection[Any], key: str, run: str | None) -> StoredGraph:
        """Read a graph; where the run says nothing of the scan, the annotated one, and the panel shows so."""
        try:
            return read_graph(connection, key, run=run)
        except DatabaseAwayError:
            raise
        except UserError as error:
            if run is None:
                raise
            self._panel.set_graph(None)
            self._panel.tell_error(error)
            return read_graph(connection, key)

    def _tell_room(self, room: Room) -> None:
        points = f"{self._scene.drawn_points:,} points"
        if room.is_thinned:
            points += f" of {len(room.order):,}, more where you look"
        self._panel.tell(f"{len(room.placed)} objects, {len(room.edges)} relations, {points}")

    def _redraw(self) -> None:
        if self._room is not None:
            look = replace(self._panel.look(), similarity=self._similarity)
            self._scene.draw(self._room, look, self._chosen, self._pair)

    def _redraw_graph(self) -> None:
        if self._room is not None:
            look = replace(self._panel.look(), similarity=self._similarity)
            self._scene.draw_graph(self._room, look, self._chosen, self._pair)

    def _draw_near(self) -> None:
        if self._room is not None and self._room.is_thinned:
            self._scene.draw_near(self._room, replace(self._panel.look(), similarity=self._similarity))

    def _show_all(self) -> None:
        if self._room is not None:
            self._scene.show_all(self._room)

    # Questions

    def _source(self) -> Source:
        """Return who is asked; of several encoders the panel knows which."""
        only = self._contents.encoders[0] if self._contents.encoders else None
        return Source(self._panel.encoder or only, self._panel.run)

    def _ask(self) -> None:
        room, text = self._room, self._panel.question
        if room is None:
            return
        if not text:
            self._similarity = {}
            self._panel.show_hits([], room.scan.key)
            self._tell_room(room)
            return
        self._panel.tell(f"asking for “{text}” ...")
        self._panel.show_hits([], room.scan.key)  # of another question
        source, scan = self._source(), None if self._panel.asks_all_scans else room.scan.key
        with self._connections.reading() as connection:
            answer = ask(connection, text, source, scan)
            if not is_relation(text):
                self._similarity = similarities(connection, text, source, room.scan.key, len(room.nodes))
        self._panel.show_hits(answer.hits, room.scan.key)
        found = f"{len(answer.hits)} answers" if len(answer.hits) != 1 else "1 answer"
        self._panel.tell(f"{found} to “{text}” in {answer.seconds * 1000:.0f} ms; click one to go there")
        if self._panel.look().colour == "similarity":
            self._redraw()

    def _choose_hit(self, hit: Hit) -> None:
        """Go to an answer, into its scan first."""
        if self._room is None or self._room.scan.key != hit.scan:
            self._open(hit.scan)
        if self._room is None:
            return
        self._pair = None if hit.object is None else (hit.instance, hit.object)
        self._chosen = (hit.instance,) if hit.object is None else (hit.instance, hit.object)
        self._redraw_graph()
        self._scene.fly_to(self._room, self._chosen)
        self._tell_chosen()

    # What is chosen

    def _click_node(self, instance: int) -> None:
        self._do("choose", lambda: self._choose((instance,), None))

    def _click_edge(self, pair: Pair) -> None:
        self._do("choose", lambda: self._choose(pair, pair))

    def _choose(self, instances: tuple[int, ...], pair: Pair | None) -> None:
        self._chosen, self._pair = instances, pair
        self._redraw_graph()
        self._tell_chosen()

    def _tell_chosen(self) -> None:
        room = self._room
        if room is None or not self._chosen or any(number not in room.nodes for number in self._chosen):
            return
        if self._pair is None:
            self._tell_node(room, self._chosen[0])
        else:
            self._tell_edge(room, self._pair)

    def _tell_node(self, room: Room, instance: int) -> None:
        with self._connections.reading() as connection:
            read = read_node(connection, room, instance, self._source())
        details = tell_node(room, instance, read)
        self._told.tell(details)
        self._told.list_relations(room, instance, self._click_edge)
        if self._contents.read_only:
            return
        self._told.take_corrections(
            details,
            [room.nodes[instance].label],
            [("Save the label", True)],
            lambda word, author, _holds: self._write(
                lambda connection: correct_label(connection, room.scan.key, instance, word, author)
            ),
            self._revert,
        )

    def _tell_edge(self, room: Room, pair: Pair) -> None:
        with self._connections.reading() as connection:
            read = read_edge(connection, room, pair, self._source())
        details = tell_edge(room, pair, read)
        self._told.tell(details)
        if self._contents.read_only:
            return
        self._told.take_corrections(
            details,
            [edge.predicate for edge in room.edges.get(pair, ())],
            [("This holds", True), ("This does not hold", False)],
            lambda word, author, holds: self._write(
                lambda connection: correct_relation(
                    connection, room.scan.key, *_ends(pair, word), holds, author
                )
            ),
            self._revert,
        )

    def _revert(self, correction_id: int, author: str) -> None:
        self._write(lambda connection: revert_correction(connection, correction_id, author))

    def _write(self, write: Callable[[Connection[Any]], object]) -> None:
        """Correct something, then show the graph as it is now."""

        def job() -> None:
            try:
                with self._connections.writing() as connection:
                    write(connection)
            except UserError as error:  # where it is seen: the line below the question is scrolled away
                self._client.add_notification("Nothing was kept", plain(error), color="red")
                raise
            self._reopen()
            self._panel.tell("kept; predictions and annotations stay as they were")

        self._do("correct", job)

    # Two graphs

    def _compare(self) -> None:
        if self._room is None:
            return
        key = self._room.scan.key
        with self._connections.reading() as connection:
            first, second = (read_graph(connection, key, run=run) for run in self._panel.compared)
        names = [graph.prediction or ANNOTATED for graph in (first, second)]
        with self._client.gui.add_modal(f"{key}: {names[0]} and {names[1]}") as modal:
            self._client.gui.add_html(
                html(
                    '<div style="max-height:65vh;overflow:auto">{}{}</div>',
                    as_table(compare_nodes(first, second), "Objects", *names),
                    as_table(compare_edges(first, second), "Relations", *names),
                ).markup
            )
            on_click(self._client.gui.add_button("Close"), modal.close)


def _ends(pair: Pair, predicate: str) -> tuple[int, str, int]:
    return pair[0], predicate, pair[1]
