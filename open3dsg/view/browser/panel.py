"""The panel of one page: what can be asked and chosen, and what is told. It knows no database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from open3dsg.view.browser.scene import Look
from open3dsg.view.browser.text import Html, html, plain, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import viser

    from open3dsg.view.browser.question import Hit
    from open3dsg.view.browser.room import ColourBy, Room

ANNOTATED = "as annotated"
COLOURS: Sequence[ColourBy] = ("photo", "instance", "label", "similarity")
RELATIONS = ("all", "of what is chosen", "none")
_RELATIONS_OF = dict(zip(RELATIONS, ("all", "chosen", "none"), strict=True))
_LISTED_SCANS = 500  # in a list that is scrolled; beyond, part of a name is typed

_NOTE: Final = '<div style="{};opacity:.8">{}</div>'
_PADDING = "padding:2px 10px;font-size:13px;overflow-wrap:anywhere"
_TROUBLE = "margin:4px 10px;padding:6px 8px;border-radius:4px;background:#c92a2a;color:#fff;font-size:13px"


@dataclass(frozen=True)
class Contents:
    """What the store has to offer a page."""

    scans: Sequence[str]  # dataset/name
    instances: int
    encoders: Sequence[str]
    predictions: Sequence[str]  # RUN:LABEL
    read_only: bool


@dataclass(frozen=True)
class Wishes:
    """What to call when something is wanted; called from any thread, and must return at once."""

    scan: Callable[[str], None]
    graph: Callable[[], None]
    question: Callable[[bool], None]  # True: at once, False: once typing has stopped
    look: Callable[[], None]
    hit: Callable[[Hit], None]
    overview: Callable[[], None]
    compare: Callable[[], None]


class Panel:
    """The widgets of one page, and what their user has chosen in them."""

    def __init__(self, client: viser.ClientHandle, contents: Contents, wishes: Wishes) -> None:
        """Build the panel."""
        self._gui = client.gui
        self._wishes = wishes
        self._contents = contents
        self._hits: list[Any] = []
        self._gui.main_panel.dock_right()
        self._gui.add_html(_welcome(contents).markup)
        self._trouble = self._gui.add_html("", visible=False)
        self._build_scans()
        self._build_question()
        self._status = self._gui.add_html("")
        self._hit_folder = self._gui.add_folder("Answers", visible=False)
        self.details = self._gui.add_folder("Chosen")
        with self.details:
            hint = "Click a ball (an object) or a cone (a relation), or an answer."
            self.hint = self._gui.add_html(html(_NOTE, _PADDING, hint).markup)
        self._build_look()
        self._build_comparison()

    @property
    def question(self) -> str:
        """What is typed at present."""
        return str(self._question.value).strip()

    @property
    def asks_all_scans(self) -> bool:
        """Whether questions go to all scans."""
        return bool(self._all_scans.value)

    @property
    def encoder(self) -> str | None:
        """The encoder that is asked; None: the only one there is, or none."""
        return self._encoder.value if self._encoder is not None else None

    @property
    def run(self) -> str | None:
        """The prediction whose graph is drawn; None: the annotated one."""
        return None if self._graph.value == ANNOTATED else str(self._graph.value)

    @property
    def compared(self) -> tuple[str | None, str | None]:
        """The two graphs to compare, as `run` has them."""
        first, second = (None if one.value == ANNOTATED else str(one.value) for one in self._compared)
        return first, second

    def look(self) -> Look:
        """Return how things are to be drawn."""
        return Look(
            colour=self._colour.value,
            relations=_RELATIONS_OF[self._relations.value],
            labels=self._labels.value,
            boxes=self._boxes.value,
            ceiling=self._ceiling.value,
            cut_m=self._bottom_m + self._cut.value / 100 * self._height_m
            if self._cut.value < 100
            else float("inf"),
            point_scale=self._points.value / 100,
        )

    def set_scan(self, key: str) -> None:
        """Show which scan is drawn."""
        if key not in self._scan.options:
            self._scan.options = (key, *self._scan.options)
        set_value(self._scan, key)

    def set_room(self, room: Room, most_relations: int) -> None:
        """Fit the panel to a room: its height, and how many relations it has."""
        low, high = room.bounds
        self._bottom_m, self._height_m = float(low[2]), float(high[2] - low[2])
        relations = len(room.edges)
        set_value(self._relations, RELATIONS[0] if relations <= most_relations else RELATIONS[1])

    def set_graph(self, prediction: str | None) -> None:
        """Show whose graph is drawn."""
        set_value(self._graph, prediction or ANNOTATED)

    def tell(self, text: object) -> None:
        """Say something in one line below the question."""
        self._status.content = html(_NOTE, _PADDING, text).markup

    def tell_error(self, text: object) -> None:
        """Say what is wrong with what was asked."""
        self._status.content = html('<div style="{};color:#c92a2a">{}</div>', _PADDING, text).markup

    def tell_trouble(self, text: str | None) -> None:
        """Say, at the top and until it is over, that nothing works; None: it is over."""
        self._trouble.visible = text is not None
        if text is not None:
            self._trouble.content = html('<div role="alert" style="{}">{}</div>', _TROUBLE, text).markup

    def show_hits(self, hits: Sequence[Hit], scan: str) -> None:
        """List answers, best first; those of other scans than `scan` say of which."""
        for button in self._hits:
            button.remove()
        self._hits = []
        self._hit_folder.visible = bool(hits)
        with self._hit_folder:
            for rank, hit in enumerate(hits, 1):
                elsewhere = "" if hit.scan == scan else f" · {short(hit.scan.partition('/')[2], 14)}"
                button = self._gui.add_button(
                    short(f"{rank}. {hit.score:.2f}  {hit.text}{elsewhere}", 80),
                    hint=plain(hit.scan),
                    color="gray",
                )
                on_click(button, partial(self._wishes.hit, hit))
                self._hits.append(button)

    def _build_scans(self) -> None:
        scans = self._contents.scans
        self._scan = self._gui.add_dropdown("Scan", scans[:_LISTED_SCANS])
        on_change(self._scan, lambda: self._wishes.scan(str(self._scan.value)))
        if len(scans) > _LISTED_SCANS:
            part = self._gui.add_text("Find a scan", "", hint=f"{len(scans):,} scans: type part of a name")
            on_change(part, lambda: self._list_scans(str(part.value)))

    def _list_scans(self, part: str) -> None:
        found = [key for key in self._contents.scans if part.casefold() in key.casefold()]
        shown = str(self._scan.value)
        self._scan.options = tuple(dict.fromkeys([shown, *found[:_LISTED_SCANS]]))

    def _build_question(self) -> None:
        with self._gui.add_form(None) as form:
            self._question = self._gui.add_text(
                "Find", "", hint="Words for a thing, or: chair | next to | table"
            )
            self._all_scans = self._gui.add_checkbox("In all scans", len(self._contents.scans) > 1)
        on_change(self._question, lambda: self._wishes.question(False))
        on_change(self._all_scans, lambda: self._wishes.question(True))
        form.on_submit(lambda _event: self._wishes.question(True))
        self._encoder = None
        if len(self._contents.encoders) > 1:
            self._encoder = self._gui.add_dropdown("Encoder", self._contents.encoders)
            on_change(self._encoder, lambda: self._wishes.question(True))

    def _build_look(self) -> None:
        changed = self._wishes.look
        self._bottom_m, self._height_m = 0.0, 0.0
        with self._gui.add_folder("Drawing", expand_by_default=False):
            self._graph = self._gui.add_dropdown("Graph", (ANNOTATED, *self._contents.predictions))
            on_change(self._graph, self._wishes.graph)
            self._colour = self._gui.add_dropdown("Colour by", COLOURS)
            self._relations = self._gui.add_dropdown("Relations", RELATIONS)
            self._labels = self._gui.add_checkbox("Objects", True)
            self._boxes = self._gui.add_checkbox("Boxes", False)
            self._ceiling = self._gui.add_checkbox("Ceiling", False)
            self._cut = self._gui.add_slider(
                "Up to, %", 5, 100, 1, 100, hint="Leaves out what is higher in the room"
            )
            self._points = self._gui.add_slider(
                "Points, %", 20, 200, 10, 100, hint="Their size; at 100 % surfaces close"
            )
            on_click(self._gui.add_button("Whole room"), self._wishes.overview)
        drawn = self._colour, self._relations, self._labels, self._boxes, self._ceiling, self._cut
        for widget in (*drawn, self._points):
            on_change(widget, changed)

    def _build_comparison(self) -> None:
        graphs = (ANNOTATED, *self._contents.predictions)
        with self._gui.add_folder("Compare", expand_by_default=False):
            if len(graphs) == 1:
                hint = "There is no prediction yet: `open3dsg predict` makes them."
                self._gui.add_html(html(_NOTE, _PADDING, hint).markup)
            self._compared = (
                self._gui.add_dropdown("This", graphs),
                self._gui.add_dropdown("With", graphs, initial_value=graphs[-1]),
            )
            button = self._gui.add_button("Compare", disabled=len(graphs) == 1)
            on_click(button, self._wishes.compare)


def _welcome(contents: Contents) -> Html:
    read_only = html(" · read only") if contents.read_only else html("")
    scans, instances = len(contents.scans), contents.instances
    return html(
        '<div style="padding:6px 10px 2px;font-size:13px;line-height:1.45">'
        '<div style="font-size:16px;font-weight:600">Open3DSG scene graphs</div>'
        '<div style="opacity:.75">{} scan{} · {} objects{}</div>'
        "Type what you look for, such as <i>a place to sit</i>, or a relation: <i>chair | next to | table</i>"
        " (<b>*</b> is anything). Drag turns the view, the wheel comes nearer.</div>",
        f"{scans:,}",
        "" if scans == 1 else "s",
        f"{instances:,}",
        read_only,
    )


def on_click(button: viser.GuiButtonHandle, act: Callable[[], object]) -> None:
    """Act when a button is pressed."""

    def pressed(_event: viser.GuiEvent[Any]) -> None:
        act()

    button.on_click(pressed)


def on_change(widget: Any, act: Callable[[], object]) -> None:
    """Act when a person changes an input; what the page sets itself has no client."""

    def changed(event: viser.GuiEvent[Any]) -> None:
        if event.client is not None:
            act()

    widget.on_update(changed)


def set_value(widget: Any, value: object) -> None:
    """Let an input show another value. (To mypy the value of viser's inputs is read-only.)"""
    widget.value = value
