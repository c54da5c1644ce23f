"""The part of the panel that tells of what is chosen, and takes corrections of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from open3dsg.view.browser.details import tell_correction
from open3dsg.view.browser.panel import on_click
from open3dsg.view.browser.text import html, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import viser

    from open3dsg.view.browser.details import Details
    from open3dsg.view.browser.room import Pair, Room

_MOST_RELATIONS = 30  # buttons; the room shows all


class Chosen:
    """What is told of the chosen object or relation; made anew with each choice."""

    def __init__(
        self, client: viser.ClientHandle, folder: viser.GuiFolderHandle, hint: viser.GuiHtmlHandle
    ) -> None:
        """Tell it in `folder`, in place of the `hint` what to click."""
        self._gui, self._folder, self._hint = client.gui, folder, hint
        self._parts: list[Any] = []
        self._author = ""

    def clear(self) -> None:
        """Tell of nothing."""
        for part in self._parts:
            part.remove()
        self._parts = []
        self._hint.visible = True

    def tell(self, details: Details) -> None:
        """Tell what is known, with the photographs."""
        self.clear()
        self._hint.visible = False
        with self._folder:
            self._parts.append(self._gui.add_html(details.told.markup))
            if details.pictures.crops is not None:
                self._parts.append(self._gui.add_image(details.pictures.crops, format="jpeg"))
            for caption, picture in details.pictures.frames:
                self._parts.append(self._gui.add_image(picture, label=caption, format="jpeg"))

    def list_relations(self, room: Room, instance: int, on_pair: Callable[[Pair], None]) -> None:
        """List the relations of an object, as buttons that choose them."""
        pairs = [pair for pair in room.edges if instance in pair]
        if not pairs:
            return
        with self._folder:
            part = self._gui.add_folder(f"Relations ({len(pairs)})", expand_by_default=False)
        self._parts.append(part)
        with part:
            for pair in pairs[:_MOST_RELATIONS]:
                predicates = ", ".join(dict.fromkeys(edge.predicate for edge in room.edges[pair]))
                subject, object_ = (f"{room.nodes[end].label} {end}" for end in pair)
                button = self._gui.add_button(short(f"{subject} {predicates} {object_}"), color="gray")
                on_click(button, partial(on_pair, pair))
            if len(pairs) > _MOST_RELATIONS:
                self._gui.add_html(html("<i>and {} more</i>", len(pairs) - _MOST_RELATIONS).markup)

    def take_corrections(
        self,
        details: Details,
        words: Sequence[str],
        answers: Sequence[tuple[str, bool]],
        correct: Callable[[str, str, bool], None],
        revert: Callable[[int, str], None],
    ) -> None:
        """Offer to correct, in a folder of its own.

        `words` are what is said at present, the first of them stands in the text box; `answers` are the
        buttons, each with what it says: that the word holds, or that it does not. `correct` is called with
        word, author and that, `revert` with the number of a correction and the author.
        """
        with self._folder:
            part = self._gui.add_folder("Correct", expand_by_default=bool(details.corrections))
        self._parts.append(part)
        with part:
            author = self._gui.add_text("Your name", self._author, hint="Kept with the correction")
            word = self._gui.add_text("It is", words[0] if words else "")
            for answer, holds in answers:
                on_click(self._gui.add_button(answer), partial(self._correct, correct, word, author, holds))
            for one in details.corrections:
                self._gui.add_html(tell_correction(one).markup)
                button = self._gui.add_button(short(f"Take back “{one.text}”"), color="red")
                on_click(button, partial(self._revert, revert, one.correction_id, author))

    def _correct(
        self,
        correct: Callable[[str, str, bool], None],
        word: viser.GuiTextHandle,
        author: viser.GuiTextHandle,
        holds: bool,
    ) -> None:
        correct(word.value.strip(), self._named(author), holds)

    def _revert(
        self, revert: Callable[[int, str], None], correction_id: int, author: viser.GuiTextHandle
    ) -> None:
        revert(correction_id, self._named(author))

    def _named(self, author: viser.GuiTextHandle) -> str:
        """Return who says so, remembered for the next time."""
        self._author = author.value.strip()
        return self._author
