"""The page for everybody: keyboard alone, names for screen readers, contrast, small screens, strict policies."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
import reference
from studio_page import FACE, HEIGHT, MOUTH, WIDTH, SlowBackend, Studio, empty, serve_page, visit

from serve.api import ApiOptions
from serve.guard import Tokens

pytestmark = pytest.mark.browser

LEAST_CONTRAST = {"text": 4.5, "control": 3.0}  # WCAG 2.2 AA, 1.4.3 and 1.4.11


def test_keyboard_alone_draws_fills_undoes_and_saves(studio: Studio) -> None:
    page = studio.page
    page.focus("#surface")
    size = int(page.input_value("#brush"))
    for name in ("5", "[", " ", "Shift+ArrowRight", "ArrowDown", " "):
        page.keyboard.press(name)
    wanted, (x, y) = empty(), (WIDTH // 2, HEIGHT // 2)
    reference.draw(wanted, (x, y), (x + 10, y), size - 1, MOUTH)
    reference.draw(wanted, (x + 10, y), (x + 10, y + 1), size - 1, MOUTH)
    np.testing.assert_array_equal(studio.ids(), wanted)
    for name in ("Shift+ArrowDown", "Shift+ArrowDown", "f", "3", "Enter"):
        page.keyboard.press(name)
    reference.flood(wanted, x + 10, y + 21, FACE, int(page.input_value("#gap")))
    np.testing.assert_array_equal(studio.ids(), wanted)
    page.keyboard.press("r")
    for name in (" ", "Shift+ArrowLeft", "Escape"):  # a box that is taken back
        page.keyboard.press(name)
    np.testing.assert_array_equal(studio.ids(), wanted)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert not studio.ids().any()
    with page.expect_download():
        page.keyboard.press("Control+s")


def test_every_control_is_reached_by_tab_and_shows_it(studio: Studio) -> None:
    """From the top of the page once around: nothing is skipped, nothing traps, each has a visible ring."""
    page = studio.page
    script = """() => [...document.querySelectorAll('button, input, select, canvas[tabindex], a')]
      .filter((e) => e.checkVisibility() && !e.disabled && e.type !== 'file').length"""
    count = page.evaluate(script)
    seen = []
    page.evaluate("document.activeElement.blur()")
    for _ in range(count + 1):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("""() => {
              const e = document.activeElement;
              const ring = e.id === 'surface' ? document.getElementById('sheet') : e;
              return [e.id || e.ariaLabel || e.className + e.textContent, getComputedStyle(ring).outlineStyle];
            }""")
        )
        if len(seen) > 1 and seen[-1][0] == seen[0][0]:
            break
    assert len({name for name, _ in seen} - {""}) >= count
    assert [name for name, ring in seen if ring == "none" and name.strip() and len(name) < 200] == []


def test_every_control_has_a_name(studio: Studio) -> None:
    script = """() => [...document.querySelectorAll('button, input, select, canvas[tabindex], dialog')]
      .filter((e) => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim()
        || e.labels?.[0]?.textContent.trim() || e.id === 'notice-action'))
      .map((e) => e.outerHTML)"""
    assert studio.page.evaluate(script) == []
    assert studio.page.evaluate("[...document.images].filter((e) => e.getAttribute('alt') === null).length") == 0
    assert studio.page.get_attribute("#result", "alt").startswith("The painting")


def test_what_happens_is_said_to_screen_readers(studio: Studio) -> None:
    def spoken() -> str:
        return str(studio.page.inner_text("#spoken"))

    studio.page.focus("#surface")
    studio.page.keyboard.press("ArrowRight")
    assert spoken() == f"{WIDTH // 2 + 1}, {HEIGHT // 2}: background"
    studio.page.keyboard.press("6")
    assert spoken() == "hair"
    studio.page.keyboard.press("e")
    assert spoken() == "Ellipse"
    studio.page.keyboard.press("b")
    studio.page.keyboard.press(" ")
    assert spoken() == "hair down"
    studio.page.keyboard.press(" ")
    studio.page.wait_for_selector("#spoken:has-text('Up to date')", state="attached")
    studio.page.keyboard.press("Control+z")
    assert spoken() == "Undone"
    assert studio.page.get_attribute("#spoken", "aria-live") == "polite"
    assert studio.page.get_attribute("#notice-text", "role") == "alert"


def test_single_keys_can_be_turned_off_and_stay_off(studio: Studio) -> None:
    studio.page.keyboard.press("?")
    studio.page.uncheck("#single-keys")
    studio.page.keyboard.press("Escape")
    studio.page.keyboard.press("6")
    studio.page.keyboard.press("f")
    assert studio.pressed("[data-tool=brush]")
    studio.page.reload()
    studio.settle()
    studio.page.keyboard.press("f")
    assert studio.pressed("[data-tool=brush]")
    studio.page.keyboard.press("Control+z")  # keys with Ctrl still work
    studio.page.click("#help")
    studio.page.check("#single-keys")
    studio.page.click("#close-shortcuts")
    studio.page.keyboard.press("f")
    assert studio.pressed("[data-tool=fill]")


CONTRAST = """() => {
  const parse = (text) => {
    const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (e) => {
    for (let node = e; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] > 200) return colour;
    }
    return parse(getComputedStyle(document.documentElement).backgroundColor);
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll('body *')]
    .filter((e) => e.checkVisibility() && !e.closest('.sr, .skip, :disabled, option, canvas'))
    .filter((e) => hasText(e) || e.matches('button > svg, input, select'))
    .map((e) => ({ what: (e.closest('[id]') || e).id + ' ' + e.textContent.trim().slice(0, 20),
      kind: hasText(e) || e.matches('input, select') ? 'text' : 'control',
      ratio: ratio(parse(getComputedStyle(e).color), ground(e)) }));
}"""


def test_contrast_is_that_of_wcag_aa(studio: Studio) -> None:
    studio.page.keyboard.press("c")
    studio.page.context.set_offline(True)
    studio.page.click("#dice")
    studio.settle("offline")
    for theme in ("light", "dark"):
        studio.page.emulate_media(color_scheme=theme)
        studio.page.wait_for_timeout(200)  # colours fade
        found = studio.page.evaluate(CONTRAST)
        assert len(found) > 60
        assert [entry for entry in found if entry["ratio"] < LEAST_CONTRAST[entry["kind"]]] == []
    studio.page.context.set_offline(False)


def test_theme_is_switched_and_remembered(studio: Studio) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    before = studio.page.evaluate(ground)
    studio.page.click("#theme")
    after = studio.page.evaluate(ground)
    assert before != after
    studio.page.reload()
    studio.settle()
    assert studio.page.evaluate(ground) == after


SIZES = [(1280, 800), (1024, 768), (820, 1180), (420, 900), (320, 640)]


OUTSIDE = """(width) => [...document.querySelectorAll('main button, main input, main select')]
  .filter((e) => e.checkVisibility() && !e.closest('.cards') && e.getBoundingClientRect().right > width + 1)
  .map((e) => e.id || e.outerHTML)"""


def test_page_fits_screens_of_every_size(studio: Studio) -> None:
    page = studio.page
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#surface").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(WIDTH / HEIGHT, rel=0.01)
        result = page.locator("#result-sheet").bounding_box()
        seen_together = max(box["y"] + box["height"], result["y"] + result["height"]) <= height
        assert seen_together or height <= 700, (width, height)
        page.click("[data-view=compare]")  # a small painting becomes large
        assert page.is_visible("#amount") and page.locator("#result-sheet").bounding_box()["width"] > 280
        assert page.evaluate(OUTSIDE, width) == []
        page.click("[data-view=plain]")


def test_policy_forbids_what_is_not_ours_and_every_file_is_served_here(
    studio: Studio, server: tuple[str, SlowBackend]
) -> None:
    requests: list[str] = []
    studio.page.on("request", lambda request: requests.append(request.url))
    studio.page.reload()
    studio.settle()
    assert requests and all(url.startswith((server[0], "blob:")) for url in requests)
    answer = httpx.get(server[0])
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "<style" not in answer.text and " style=" not in answer.text and "onclick" not in answer.text


def test_behind_a_token_the_browsers_password_opens_the_page(browser: Any) -> None:
    token = "paint-token-0123456789"
    backend = SlowBackend((HEIGHT, WIDTH))
    for url in serve_page(backend, ApiOptions(tokens=Tokens.of(token, None))):
        for studio in visit(browser, (url, backend), http_credentials={"username": "any", "password": token}):
            studio.blank()
            studio.drag((20, 20))
            studio.painted()
            assert len(backend.jobs) == 1
