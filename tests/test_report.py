"""The report in a real browser: its slider, its plot, a small screen, and who sees badly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import media
import numpy as np
import pytest
from browser import Page, browsing, installed

from vfilter.comparison import compare

pytestmark = pytest.mark.slow

UNREADABLE = """
(() => {
  const light = (rgb) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.match(/[\\d.]+/g).map((code) => linear(code / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const written = [...document.querySelectorAll("main *")].filter(
    (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()),
  );
  return written.filter((e) => {
    const both = [light(getComputedStyle(e).color), light(ground(e))];
    return Math.max(...both) / Math.min(...both) < 4.5;
  }).map((e) => e.tagName + ": " + e.textContent);
})()
"""
"""Texts whose contrast is below 4.5:1 (WCAG 2.2, 1.4.3)."""

UNNAMED = """
[...document.querySelectorAll("img, select, input, [role=img], [role=region]")].filter((e) =>
  !(e.alt || e.ariaLabel || e.labels?.length
    || document.getElementById(e.getAttribute("aria-labelledby")))
).map((e) => e.outerHTML.slice(0, 200))
"""
"""Pictures, controls and regions without a name (WCAG 2.2, 1.1.1 and 4.1.2)."""


@pytest.fixture(scope="module")
def report(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of four frames of the scene as MJPEG, with deblock."""
    folder = tmp_path_factory.mktemp("report")
    clip = media.video_file(folder / "clip.mkv", "ffv1", frames=4)
    path = folder / "report.html"
    compare(clip, degrade="mjpeg:10", models=[model], against=["deblock"], report=path)
    return path


@pytest.fixture(scope="module")
def browser_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser = installed()
    if browser is None:
        pytest.skip("no Chromium to open the report in: install chromium")
    with browsing(browser, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser_page: Page, report: Path) -> Iterator[Page]:
    """The report in a window of a desktop; nothing may have gone wrong in it at the end."""
    browser_page.open(report, width=1180, height=900)
    yield browser_page
    assert browser_page.complaints == []


def shown(page: Page, path: Path, selector: str) -> np.ndarray:
    """What is seen of an element, (H, W, 3) uint8."""
    left, top, width, height = (int(number) for number in page.box(selector))
    page.screenshot(path)
    return np.asarray(cv2.imread(str(path)))[top : top + height, left : left + width]


def test_the_bar_follows_the_mouse(page: Page, tmp_path: Path) -> None:
    """Right of the bar is the right picture, left of it the left one."""
    page.run("for (const [id, i] of [['left', 0], ['right', 1]]) byId('shot-' + id).value = i")
    left, top, width, height = page.box("#compare")
    middle = top + height / 2
    pictures = {}
    for share in (0.9, 0.1):
        page.mouse("mousePressed", left + width / 2, middle, held=True)
        page.mouse("mouseMoved", left + width * share, middle, held=True)
        page.mouse("mouseReleased", left + width * share, middle)
        assert float(page.run("byId('share').value")) == pytest.approx(100 * share, abs=1)
        pictures[share] = shown(page, tmp_path / "bar.png", "#compare")
    between = slice(int(width * 0.2), int(width * 0.8))
    outside = slice(int(width * 0.95), None)
    changed = cv2.absdiff(pictures[0.9], pictures[0.1])
    assert changed[:, between].mean() > 1
    assert changed[:, outside].max() == 0


def test_the_bar_follows_the_keys(page: Page) -> None:
    page.run("byId('share').focus()")
    for _ in range(3):
        page.press("ArrowLeft")
    assert page.run("byId('share').value") == "47"
    assert page.run("byId('edge').style.left") == "47%"
    assert page.run("byId('share').getAttribute('aria-valuetext')") == "47 % left picture"


def test_the_chosen_pictures_are_shown_and_named(page: Page) -> None:
    labels = page.run("[...byId('shot-right').options].map((o) => o.text)")
    assert labels[0] == "source"
    assert "original" in labels
    assert labels[-1].endswith("changes, 8 times")
    urls = set()
    for index, label in enumerate(labels):
        page.run(
            f"byId('shot-right').value = {index};"
            "byId('shot-right').dispatchEvent(new Event('change'))"
        )
        page.run("byId('image-right').decode()")
        assert page.run("byId('image-right').alt").startswith(f"right: {label}, frame ")
        assert page.run("byId('image-right').naturalWidth") == media.WIDTH
        urls.add(page.run("byId('image-right').src"))
    assert len(urls) == len(labels)


def test_the_plot_tells_the_frame_under_the_mouse(page: Page) -> None:
    left, top, width, height = page.box(".u-over")
    page.mouse("mouseMoved", left + width * 0.66, top + height / 2)
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    told = page.run("[...document.querySelectorAll('.u-value')].map((e) => e.textContent)")
    values = page.run("data.metrics[0].lines.map((line) => line.values[2].toFixed(2))")
    assert told == ["2", *values]


def test_the_plot_tells_frames_by_the_keys(page: Page) -> None:
    page.run("byId('plot').focus()")
    page.press("End")
    page.press("ArrowLeft")
    assert page.run("byId('spoken').textContent").startswith("frame 2: source ")


def test_every_metric_is_drawn(page: Page) -> None:
    """A column of the table for each, and a plot whose name tells its means."""
    names = page.run("data.metrics.map((metric) => metric.name)")
    assert names[:2] == ["PSNR dB", "PSNR-B dB"]
    assert "VMAF" in names
    for index, name in enumerate(names):
        page.run(
            f"byId('metric').value = {index}; byId('metric').dispatchEvent(new Event('change'))"
        )
        assert page.run("byId('plot').ariaLabel").startswith(f"{name} of each frame; means: source")
        assert page.run("byId('plot').querySelectorAll('canvas').length") == 1


@pytest.mark.parametrize("width", [1180, 360])
def test_nothing_is_wider_than_the_screen(page: Page, report: Path, width: int) -> None:
    page.open(report, width=width, height=740, mobile=width < 500)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("byId('plot').querySelector('canvas').getBoundingClientRect().right") <= width


@pytest.mark.parametrize("width", [1180, 360])
def test_it_can_be_read_by_all(page: Page, report: Path, width: int) -> None:
    page.open(report, width=width, height=740, mobile=width < 500)
    page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.run(UNREADABLE) == []
    assert page.run(UNNAMED) == []
    assert page.run("document.documentElement.lang") == "en"


def test_the_keyboard_reaches_every_control(page: Page) -> None:
    wanted = ["shot-frame", "shot-left", "shot-right", "share", "metric", "plot"]
    reached = []
    for _ in range(14):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id"))
        if page.run("document.activeElement !== document.body"):
            outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none"
    assert [name for name in reached if name in wanted] == wanted
