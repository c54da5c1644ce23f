"""The viewer in a real browser, on synthetic rooms: asked, corrected, and left alone by its database.

With OPEN3DSG_SCREENSHOTS set to a folder, pictures of the answered question are written there:
docs/viewer.png and docs/viewer-graph.png come from here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from psycopg import sql

from open3dsg.db.connect import connect
from open3dsg.store.corrections import list_corrections
from tests.conftest import as_url
from tests.e2e.conftest import COMMAND, Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PANEL_PX = 400
PATIENCE_MS = 60_000  # software rendering on a busy machine
SMALL = 760, 520
LOST = "The database does not answer"
QUESTION = "something to sleep on"
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>{window.hacked=1}'

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NOT TESTED: the viewer needs chromium")


@dataclass(frozen=True)
class Viewer:
    """`open3dsg view`, running."""

    store: Store
    address: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def store(rooms_store: Store, new_database: Callable[..., str]) -> Store:
    """The rooms in a database of our own: what is corrected here is nobody else's."""
    return Store(as_url(new_database("viewed", template="rooms_store")), rooms_store.rooms)


@pytest.fixture(scope="module")
def viewer(store: Store) -> Iterator[Viewer]:
    environment = {**os.environ, "OPEN3DSG_DATABASE_URL": store.url}
    command = [COMMAND, "view", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", told := process.stderr.readline())
    assert found is not None, told + process.communicate()[1]
    yield Viewer(store, found[0], process)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[1]
    assert (process.returncode, rest) == (0, "")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield browser
        browser.close()


def open_page(chromium: Browser, viewer: Viewer, width: int = SMALL[0], height: int = SMALL[1]) -> Page:
    """Open a page of its own, as another browser would, and wait until its room is drawn."""
    page = chromium.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(viewer.address)
    expect(page.get_by_text(re.compile(r"^\d+ objects, \d+ relations"))).to_be_visible(timeout=PATIENCE_MS)
    return page


def field(page: Page, label: str) -> Locator:
    """The text box beside a label; viser ties the two together by no id."""
    return page.locator(f"//label[.='{label}']/ancestor::div[.//input][1]//input")


def fill(page: Page, label: str, text: str) -> None:
    """Type; viser sends an input every 50 ms at most, and of several only the last."""
    field(page, label).fill(text)
    page.wait_for_timeout(200)


def ask(page: Page, question: str) -> None:
    fill(page, "Find", question)
    expect(page.get_by_text(f"to “{question}” in")).to_be_visible(timeout=PATIENCE_MS)


def answers(page: Page) -> list[str]:
    return page.get_by_role("button", name=re.compile(r"^\d+\. ")).all_inner_texts()


def drawing(page: Page) -> np.ndarray[Any, Any]:
    """The part of the page left of the panel, (h, w, 3)."""
    return np.asarray(Image.open(BytesIO(page.screenshot())).convert("RGB"))[:, :-PANEL_PX]


def click_the_middle(page: Page, is_done: Callable[[], bool]) -> None:
    """Click what the camera looks at, again where a page that draws slowly did not notice."""
    canvas = page.locator("canvas").first.bounding_box()
    assert canvas is not None
    for _ in range(6):
        page.mouse.click(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2, delay=100)
        for _ in range(20):
            if is_done():
                return
            page.wait_for_timeout(500)
    pytest.fail("nothing was clicked in the middle of the view")


def test_a_question_is_answered_in_the_room(chromium: Browser, viewer: Viewer) -> None:
    pictures = os.environ.get("OPEN3DSG_SCREENSHOTS")
    page = open_page(chromium, viewer, *((1280, 800) if pictures else SMALL))  # every pixel costs time
    expect(page.get_by_text(re.compile(r"^3 scans · \d+ objects$"))).to_be_visible()
    page.locator(".mantine-Notification-closeButton").click()  # that there is no GPU
    before = drawing(page)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 200  # a room, not an empty canvas
    ask(page, "anything at all")  # the first question in new words loads the language model
    ask(page, QUESTION)
    expected = json.loads(viewer.store.run("query", "nodes", QUESTION, "-k", "8", "--json"))
    listed = answers(page)
    assert len(listed) == len(expected) == 8
    for rank, (line, hit) in enumerate(zip(listed, expected, strict=True), 1):
        assert line.startswith(f"{rank}. {hit['similarity']:.2f} {hit['label']} {hit['instance']}"), line
    if pictures:
        page.screenshot(path=Path(pictures) / "viewer-graph.png")
    best = expected[0]
    page.get_by_role("button", name=re.compile(r"^1\. ")).click()
    chosen = page.get_by_text(f"{best['label']} {best['instance']}", exact=True).last
    expect(chosen).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text(re.compile("Nearest words: "))).to_be_visible()
    expect(page.get_by_text(re.compile(r"^frame \d+"))).to_have_count(2, timeout=PATIENCE_MS)
    page.wait_for_function("() => [...document.images].filter(one => one.naturalWidth > 50).length >= 3")
    assert (np.abs(drawing(page).astype(int) - before).sum(axis=2) > 60).mean() > 0.2  # the camera flew there
    if pictures:
        page.screenshot(path=Path(pictures) / "viewer.png")
    page.get_by_text(re.compile(r"^Relations \(\d+\)$")).click()
    page.get_by_role(
        "button", name=re.compile(rf"^(?!\d).*{best['label']} {best['instance']}\b")
    ).first.click()
    expect(page.get_by_text(re.compile(r"^\D+ \d+ → \D+ \d+$"))).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text(re.compile("Nearest words: "))).to_have_count(0)
    # Something's ball is in the middle of the view, where the camera flew to.
    click_the_middle(page, lambda: page.get_by_text(re.compile("Nearest words: ")).is_visible())


def test_a_correction_is_text_kept_by_name_and_can_be_taken_back(chromium: Browser, viewer: Viewer) -> None:
    with connect(viewer.store.url) as connection:
        connection.autocommit = True
        hit = json.loads(viewer.store.run("query", "nodes", QUESTION, "-k", "1", "--json"))[0]
        scan = f"{hit['dataset']}/{hit['scan']}"
        page = open_page(chromium, viewer)
        ask(page, QUESTION)
        page.get_by_role("button", name=re.compile(r"^1\. ")).click()
        page.get_by_text("Correct", exact=True).click()
        fill(page, "Your name", "Ada")
        fill(page, "It is", EVIL)
        page.get_by_role("button", name="Save the label").click()
        expect(page.get_by_text("Corrected: is a")).to_be_visible(timeout=PATIENCE_MS)
        expect(page.get_by_text(EVIL).first).to_be_visible()
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
        (kept,) = list_corrections(connection, scan)
        assert (kept.instance, kept.text, kept.author, kept.in_force) == (hit["instance"], EVIL, "Ada", True)
        page.get_by_role("button", name=re.compile("^Take back")).click()
        expect(page.get_by_text("Corrected: is a")).to_have_count(0, timeout=PATIENCE_MS)
        (kept,) = list_corrections(connection, scan)
        assert (kept.reverted_by, kept.in_force) == ("Ada", False)


def test_a_predicate_is_denied_on_the_arrow_itself(chromium: Browser, viewer: Viewer) -> None:
    page = open_page(chromium, viewer)
    ask(page, "label:chair | * | *")
    page.get_by_role("button", name=re.compile(r"^1\. ")).click()
    title = page.get_by_text(re.compile(r"^chair \d+ → \D+ \d+$"))
    expect(title).to_be_visible(timeout=PATIENCE_MS)
    told = title.element_handle()
    assert told is not None
    page.wait_for_timeout(1000)  # for the flight to be drawn: the head of the arrow is in the middle then
    click_the_middle(page, lambda: not told.is_visible())  # it is told anew
    expect(title).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_text("Correct", exact=True).click()
    fill(page, "It is", "dancing with")
    page.get_by_role("button", name="This does not hold").click()
    expect(page.get_by_text("Nothing was kept")).to_be_visible(timeout=PATIENCE_MS)  # nobody said so
    fill(page, "Your name", "Grace")
    page.get_by_role("button", name="This does not hold").click()
    expect(page.get_by_text("Corrected: is not dancing with")).to_be_visible(timeout=PATIENCE_MS)
    with connect(viewer.store.url) as connection:
        (kept,) = [one for one in list_corrections(connection, None) if one.kind == "relation"]
    assert (kept.text, kept.holds, kept.author, kept.in_force) == ("dancing with", False, "Grace", True)


def test_pages_are_their_own_and_outlive_the_database(chromium: Browser, viewer: Viewer) -> None:
    first, second = open_page(chromium, viewer), open_page(chromium, viewer)
    ask(first, "lamp")
    assert answers(first)
    assert not answers(second)
    with psycopg.connect(as_url(viewer.store.url, dbname="postgres"), autocommit=True) as admin:
        name = sql.Identifier("viewed")
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'viewed'")
        for page in (first, second):
            expect(page.get_by_text(LOST)).to_be_visible(timeout=PATIENCE_MS)
        fill(second, "Find", "chair")
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    expect(second.get_by_text("to “chair” in")).to_be_visible(timeout=PATIENCE_MS)
    for page in (first, second):
        expect(page.get_by_text(LOST)).to_have_count(0, timeout=PATIENCE_MS)
    assert field(first, "Find").input_value() == "lamp"
