"""The page in headless Chromium, as a reader has it: nothing here is skipped, without a browser it fails."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.report.conftest import Made

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "no Chromium: apt-get install chromium, or name one in $CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, made: Made) -> Iterator[Any]:
    """Opens the report in a window of a size and a preferred theme; complaints of the page fail the test."""
    contexts, complaints = [], []

    def open_(width: int = 1280, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url),
        )
        page.goto(made.written.page.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))


WHITE, DARK = "rgb(255, 255, 255)", "rgb(21, 23, 27)"


@pytest.mark.parametrize("width", [400, 768, 1280, 1920])
def test_nothing_is_wider_than_the_window(open_page: Any, width: int) -> None:
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """width => [...document.querySelectorAll("main *")]
        .filter(e => !e.closest(".scroll, .panels.wide, svg, .unseen"))
        .filter(e => e.getBoundingClientRect().right > width + 1)
        .map(e => e.tagName + "." + e.className)""",
        width,
    )
    assert outside == []


@pytest.mark.parametrize("width", [400, 1280])
def test_text_of_figures_stays_legible(open_page: Any, width: int) -> None:
    page = open_page(width)
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("svg.panel")].filter(s => s.getBoundingClientRect().width)
        .map(s => 11 * s.getBoundingClientRect().width / s.viewBox.baseVal.width)"""
    )
    assert len(sizes) > 20
    assert min(sizes) >= 9  # px
    assert max(sizes) <= 16


def test_text_of_a_figure_stays_inside_it(open_page: Any) -> None:
    page = open_page(1280)
    outside = page.evaluate(
        """() => [...document.querySelectorAll("svg.panel text")].filter(t => {
            const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();
            const across = a.right > b.right + 3 || a.left < b.left - 3;
            return across || a.top < b.top - 3 || a.bottom > b.bottom + 3;
        }).map(t => t.textContent)"""
    )
    assert outside == []


def test_the_theme_is_the_readers_until_they_choose(open_page: Any) -> None:
    assert background(open_page(scheme="light")) == WHITE
    page = open_page(scheme="dark")
    assert background(page) == DARK
    page.get_by_role("button", name="Light").click()
    assert background(page) == WHITE
    assert page.get_by_role("button", name="Light").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Dark").click()
    assert background(page) == DARK
    page.get_by_role("button", name="Auto").click()
    assert background(page) == DARK
    page.emulate_media(color_scheme="light")
    assert background(page) == WHITE


def test_figures_change_with_the_theme(open_page: Any) -> None:
    script = "getComputedStyle(document.querySelector('#labels svg text')).fill"
    assert open_page(scheme="light").evaluate(script) != open_page(scheme="dark").evaluate(script)


def test_the_choice_of_a_theme_is_kept(open_page: Any) -> None:
    page = open_page(scheme="light")
    page.get_by_role("button", name="Dark").click()
    page.reload()
    assert background(page) == DARK


def test_without_scripts_everything_is_there_and_nothing_pretends(open_page: Any) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("tbody tr").count() > 40
    assert page.locator(".themes").is_hidden()
    assert page.locator(".filter").first.is_hidden()
    assert page.locator("thead button").count() == 0


def column(page: Any, table: str, place: int) -> list[str]:
    return [
        text.strip() for text in page.locator(f"#{table} tbody tr > :nth-child({place})").all_text_contents()
    ]


def test_tables_sort_by_numbers_and_by_names_both_ways(open_page: Any) -> None:
    page = open_page()
    heads = page.locator("#worst-clips thead th")
    error = heads.filter(has_text="Error")
    values = column(page, "worst-clips", 3)
    error.get_by_role("button").click()
    assert column(page, "worst-clips", 3) == sorted(values, key=float, reverse=True)
    assert error.get_attribute("aria-sort") == "descending"
    error.get_by_role("button").click()
    assert column(page, "worst-clips", 3) == sorted(values, key=float)
    assert error.get_attribute("aria-sort") == "ascending"
    clip = heads.filter(has_text="Clip")
    clip.get_by_role("button").press("Enter")
    assert column(page, "worst-clips", 1) == sorted(column(page, "worst-clips", 1))
    assert error.get_attribute("aria-sort") == "none"
    assert heads.filter(has_text="Listen").get_by_role("button").count() == 0


def test_negative_numbers_and_empty_cells_sort_where_they_belong(open_page: Any) -> None:
    page = open_page()
    gain = page.locator("#pairs thead th").filter(has_text="Gain of mean")
    gain.get_by_role("button").click()
    values = [float(text.replace("\N{MINUS SIGN}", "-")) for text in column(page, "pairs", 10)]
    assert values == sorted(values, reverse=True)
    assert min(values) < 0 < max(values)
    validation = page.locator("#ledger thead th").filter(has_text="Validation").first.get_by_role("button")
    for _ in range(2):
        validation.click()
        assert column(page, "ledger", 3) == ["0.4000", ""]


def test_rows_can_be_filtered(open_page: Any) -> None:
    page = open_page()
    table = page.locator("#worst-clips")
    wanted = column(page, "worst-clips", 1)[4]
    table.get_by_role("searchbox").fill(wanted)
    assert table.locator("tbody tr:visible").count() == 1
    assert table.locator("output").text_content() == "1 of 20"
    table.get_by_role("searchbox").fill("no such clip")
    assert table.locator("tbody tr:visible").count() == 0
    table.get_by_role("searchbox").fill("")
    assert table.locator("tbody tr:visible").count() == 20


def test_a_figure_is_downloaded_as_an_svg_of_its_panels_in_the_colours_shown(open_page: Any) -> None:
    page = open_page()
    with page.expect_download() as started:
        page.locator("#scores").get_by_role("button", name="SVG").click()
    assert started.value.suggested_filename == "scores.svg"
    root = ElementTree.parse(started.value.path()).getroot()
    assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 2
    assert "var(" not in ElementTree.tostring(root, encoding="unicode")


def test_the_player_plays_the_clip(open_page: Any) -> None:
    page = open_page()
    player = page.locator("#worst-clips audio").first
    heard = player.evaluate(
        """audio => new Promise((resolve, reject) => {
            audio.muted = true;
            audio.onerror = () => reject(new Error(audio.error.message));
            audio.onended = () => resolve([audio.duration, audio.currentTime]);
            audio.play().catch(reject);
        })"""
    )
    assert 0.29 < heard[0] < 0.4
    assert heard[1] == pytest.approx(heard[0], abs=0.05)


def test_contents_stay_in_sight_on_a_wide_window_and_lead_to_every_section(open_page: Any) -> None:
    page = open_page(1440)
    for link in page.locator(".contents a").all():
        link.click()
        target = page.locator(str(link.get_attribute("href")))
        page.wait_for_function(
            "e => Math.abs(e.getBoundingClientRect().top) < innerHeight", arg=target.element_handle()
        )
        assert link.bounding_box()["y"] < 500
        assert target.locator("h2").is_visible()


def test_tables_scroll_inside_themselves_and_by_keyboard_on_a_phone(open_page: Any) -> None:
    page = open_page(400)
    region = page.get_by_role("region", name="Scored systems")
    assert region.evaluate("e => e.scrollWidth > e.clientWidth")
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("e => e.scrollLeft > 0", arg=region.element_handle())
    left = region.locator("tbody th").first.bounding_box()["x"]
    assert left == pytest.approx(region.bounding_box()["x"], abs=2)  # names stay


def test_on_paper_it_is_light_and_without_what_needs_a_screen(open_page: Any) -> None:
    page = open_page(scheme="dark")
    page.get_by_role("button", name="Dark").click()
    page.emulate_media(media="print")
    assert background(page) == WHITE
    for selector in (".contents", ".filter", "#worst-clips audio", ".skip"):
        assert page.locator(selector).first.is_hidden()
    assert page.locator("svg.panel").first.is_visible()
    page.emulate_media(media="screen")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") <= 12


def test_a_page_taken_as_a_picture_is_not_blank(open_page: Any) -> None:
    png = open_page().screenshot(full_page=True)
    width, height = struct.unpack(">II", png[16:24])
    assert width == 1280
    assert height > 3_000
    assert len(png) > 100_000
