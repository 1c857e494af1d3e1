"""Zoom, pan, fingers and pens: what is seen moves, what is drawn stays exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from studio_page import EYE, HAIR, Studio, empty, visit

pytestmark = pytest.mark.browser


class Device:
    """Fingers and pens as the browser's debugging protocol sends them; positions are pixels of the label map."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.session: Any = studio.page.context.new_cdp_session(studio.page)

    def fingers(self, kind: str, *points: tuple[float, float]) -> None:
        """kind: touchStart, touchMove, touchEnd; positions in the window."""
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def finger_stroke(self, *pixels: tuple[int, int]) -> None:
        points = [self.studio.at(*pixel) for pixel in pixels]
        self.fingers("touchStart", points[0])
        for point in points[1:]:
            self.fingers("touchMove", point)
        self.fingers("touchEnd")

    def pen(self, kind: str, pixel: tuple[int, int], force: float) -> None:
        x, y = self.studio.at(*pixel)
        down = {} if kind == "mouseMoved" and force == 0 else {"button": "left", "buttons": 1, "clickCount": 1}
        event = {"type": kind, "x": x, "y": y, "force": force, "pointerType": "pen", **down}
        self.session.send("Input.dispatchMouseEvent", event)


def zoom(studio: Studio) -> int:
    return int(studio.page.inner_text("#zoom-fit").removesuffix("%"))


def test_strokes_land_where_they_are_seen_in_a_zoomed_and_moved_view(studio: Studio) -> None:
    studio.choose("brush", HAIR, 3)
    x, y = studio.at(70, 20)
    studio.page.mouse.move(x, y)
    studio.page.keyboard.down("Control")
    studio.page.mouse.wheel(0, -900)
    while zoom(studio) <= 250:
        studio.page.wait_for_timeout(20)
    studio.page.keyboard.up("Control")
    assert studio.at(70, 20) == pytest.approx((x, y), abs=4)  # what was under the pointer stays there
    studio.page.mouse.wheel(30, 20)
    studio.page.wait_for_timeout(150)
    assert studio.at(70, 20) == pytest.approx((x - 30, y - 20), abs=4)
    points = [(65, 19), (75, 24), (70, 27)]
    studio.drag(*points)
    wanted = empty()
    reference.stroke(wanted, points, 3, HAIR)
    np.testing.assert_array_equal(studio.ids(), wanted)
    studio.page.keyboard.press("0")
    assert zoom(studio) == 100


def test_hand_and_middle_button_move_the_view_and_draw_nothing(studio: Studio) -> None:
    studio.page.click("#zoom-in")
    studio.page.click("#zoom-in")
    before = studio.at(0, 0)
    studio.page.keyboard.press("h")
    box = studio.page.locator("#sheet").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for button in ("left", "middle"):
        studio.page.mouse.move(*middle)
        studio.page.mouse.down(button=button)
        studio.page.mouse.move(middle[0] + 20, middle[1] + 10)
        studio.page.mouse.up(button=button)
        studio.page.keyboard.press("b")
    assert studio.at(0, 0) == pytest.approx((before[0] + 40, before[1] + 20), abs=0.5)
    assert not studio.ids().any()


def test_drawing_never_leaves_the_edges_of_the_sheet(studio: Studio) -> None:
    for _ in range(12):
        studio.page.keyboard.press("+")
    assert zoom(studio) == 1600
    studio.page.mouse.move(*studio.at(48, 40))
    studio.page.mouse.wheel(-100_000, -100_000)
    studio.page.wait_for_timeout(150)
    sheet = studio.page.locator("#sheet").bounding_box()
    canvas = studio.page.locator("#surface").bounding_box()
    assert (canvas["x"], canvas["y"]) == pytest.approx((sheet["x"], sheet["y"]), abs=1)


def test_one_finger_draws(touch_studio: Studio) -> None:
    touch_studio.choose("brush", HAIR, 5)
    points = [(20, 20), (50, 40), (30, 60)]
    Device(touch_studio).finger_stroke(*points)
    wanted = empty()
    reference.stroke(wanted, points, 5, HAIR)
    np.testing.assert_array_equal(touch_studio.ids(), wanted)


def test_two_fingers_move_and_zoom_and_leave_no_mark(touch_studio: Studio) -> None:
    touch_studio.choose("brush", HAIR, 5)
    x, y = touch_studio.at(48, 40)
    device = Device(touch_studio)
    device.fingers("touchStart", (x - 20, y))
    device.fingers("touchMove", (x - 30, y))  # the first finger has drawn already
    device.fingers("touchStart", (x - 30, y), (x + 30, y))
    device.fingers("touchMove", (x - 60, y), (x + 60, y))
    device.fingers("touchMove", (x - 45, y + 15), (x + 75, y + 15))
    device.fingers("touchEnd")
    assert zoom(touch_studio) == 200
    assert touch_studio.at(48, 40) == pytest.approx((x + 15, y + 15), abs=4)
    assert not touch_studio.ids().any() and touch_studio.page.is_disabled("#redo")


def test_a_tap_with_two_fingers_undoes(touch_studio: Studio) -> None:
    touch_studio.choose("brush", HAIR, 9)
    device = Device(touch_studio)
    device.finger_stroke((20, 20), (40, 40))
    assert touch_studio.ids().any()
    x, y = touch_studio.at(48, 40)
    device.fingers("touchStart", (x, y))
    device.fingers("touchStart", (x, y), (x + 60, y))
    device.fingers("touchEnd")
    assert not touch_studio.ids().any() and touch_studio.page.is_enabled("#redo")


def test_pen_pressure_changes_the_brush_unless_turned_off(studio: Studio) -> None:
    studio.choose("brush", EYE, 20)
    device = Device(studio)

    def dot(pixel: tuple[int, int], force: float) -> None:
        device.pen("mouseMoved", pixel, 0)
        device.pen("mousePressed", pixel, force)
        device.pen("mouseReleased", pixel, 0)

    dot((20, 20), 0.25)
    assert studio.page.is_visible("#pressure")
    studio.page.uncheck("#pressure")
    dot((60, 50), 0.25)
    wanted = empty()
    reference.draw(wanted, (20, 20), (20, 20), 8, EYE)  # 20 * (0.2 + 0.8 * 0.25)
    reference.draw(wanted, (60, 50), (60, 50), 20, EYE)
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_after_a_pen_a_finger_moves_the_view_instead_of_drawing(touch_studio: Studio) -> None:
    device = Device(touch_studio)
    touch_studio.choose("brush", HAIR, 1)
    device.pen("mouseMoved", (30, 30), 0)
    device.pen("mousePressed", (30, 30), 0.5)
    device.pen("mouseReleased", (30, 30), 0)
    drawn = touch_studio.ids()
    assert (drawn == HAIR).sum() == 1
    touch_studio.page.click("#zoom-in")
    before = touch_studio.at(0, 0)
    device.finger_stroke((40, 40), (45, 45))
    np.testing.assert_array_equal(touch_studio.ids(), drawn)
    assert touch_studio.at(0, 0) != pytest.approx(before, abs=1)


@pytest.mark.parametrize("tool", ["fill", "pick"])
def test_fingers_that_zoom_neither_fill_nor_pick(touch_studio: Studio, tool: str) -> None:
    chosen = f"[data-class-id='{HAIR}']"
    touch_studio.page.click(chosen)
    touch_studio.page.click(f"[data-tool={tool}]")
    x, y = touch_studio.at(48, 40)
    device = Device(touch_studio)
    device.fingers("touchStart", (x - 30, y))
    device.fingers("touchStart", (x - 30, y), (x + 30, y))
    device.fingers("touchMove", (x - 60, y), (x + 60, y))
    device.fingers("touchEnd")
    assert zoom(touch_studio) == 200
    assert not touch_studio.ids().any() and touch_studio.pressed(chosen) and touch_studio.pressed(f"[data-tool={tool}]")
    device.finger_stroke((48, 40))  # one finger still does what the tool says
    assert touch_studio.ids().all() if tool == "fill" else not touch_studio.pressed(chosen)


@pytest.mark.parametrize("density", [0.75, 2.5])
def test_strokes_are_exact_on_screens_of_any_density(browser: Any, server: Any, density: float) -> None:
    for studio in visit(browser, server, device_scale_factor=density):
        studio.blank()
        studio.choose("brush", HAIR, 5)
        studio.drag((10, 10), (60, 40), (61, 70))
        wanted = empty()
        reference.stroke(wanted, [(10, 10), (60, 40), (61, 70)], 5, HAIR)
        np.testing.assert_array_equal(studio.ids(), wanted)
