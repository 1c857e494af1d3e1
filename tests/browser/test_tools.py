"""Each tool of the paint page against an independent implementation, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from studio_page import CLOTHES, EYE, FACE, HAIR, HEIGHT, WIDTH, Studio, empty

pytestmark = pytest.mark.browser


def test_brush_paints_exact_discs_along_the_stroke(studio: Studio) -> None:
    points = [(20, 20), (60, 33), (61, 70), (-4, 90)]
    for brush in (1, 2, 7, 20):
        studio.choose("brush", HAIR, brush)
        studio.drag(*points)
        wanted = empty()
        reference.stroke(wanted, points, brush, HAIR)
        np.testing.assert_array_equal(studio.ids(), wanted)
        studio.page.click("#undo")


def test_line_keeps_only_its_last_position(studio: Studio) -> None:
    studio.choose("line", EYE, 3)
    studio.drag((10, 10), (90, 12), (50, 75), (80, 40))
    wanted = empty()
    reference.draw(wanted, (10, 10), (80, 40), 3, EYE)
    np.testing.assert_array_equal(studio.ids(), wanted)


@pytest.mark.parametrize("tool", ["rectangle", "ellipse"])
def test_boxes_fill_what_lies_between_two_corners_in_any_order(studio: Studio, tool: str) -> None:
    studio.choose(tool, CLOTHES)
    studio.drag((60, 20), (5, 5), (30, 41))
    studio.choose(tool, EYE)
    studio.drag((70, 60), (200, 70))
    wanted = empty()
    reference.box(wanted, (60, 20), (30, 41), CLOTHES, tool == "ellipse")
    reference.box(wanted, (70, 60), (200, 70), EYE, tool == "ellipse")
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_shift_makes_lines_straight_and_boxes_square(studio: Studio) -> None:
    studio.choose("line", HAIR, 1)
    studio.page.keyboard.down("Shift")
    studio.drag((10, 10), (60, 13))
    studio.drag((10, 20), (30, 37))
    studio.choose("rectangle", FACE)
    studio.drag((50, 30), (60, 55))
    studio.page.keyboard.up("Shift")
    wanted = empty()
    reference.draw(wanted, (10, 10), (60, 10), 1, HAIR)
    reference.draw(wanted, (10, 20), (30, 40), 1, HAIR)
    reference.box(wanted, (50, 30), (75, 55), FACE)
    np.testing.assert_array_equal(studio.ids(), wanted)


OUTLINE = [(15, 40), (48, 8), (80, 41), (47, 74), (15, 40)]


def test_fill_stays_inside_a_one_pixel_outline(studio: Studio) -> None:
    studio.choose("brush", HAIR, 1)
    studio.drag(*OUTLINE)
    studio.choose("fill", FACE)
    studio.page.fill("#gap", "0")
    studio.drag((48, 40))
    wanted = empty()
    reference.stroke(wanted, OUTLINE, 1, HAIR)
    reference.flood(wanted, 48, 40, FACE, 0)
    assert (wanted == FACE).sum() > 1500 and wanted[0, 0] == 0
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_fill_does_not_leak_through_a_gap_that_holds(studio: Studio) -> None:
    corners = [(20, 15), (70, 15), (70, 60), (20, 60), (20, 20)]  # open for 4 pixels at the left
    studio.choose("line", HAIR, 1)
    for start, end in zip(corners, corners[1:], strict=False):
        studio.drag(start, end)
    outline = studio.ids()
    studio.choose("fill", FACE)
    for gap, leaks in ((4, False), (3, True)):
        studio.page.fill("#gap", str(gap))
        studio.drag((40, 40))
        wanted = outline.copy()
        reference.flood(wanted, 40, 40, FACE, gap)
        np.testing.assert_array_equal(studio.ids(), wanted)
        assert (wanted[0, 0] == FACE) == leaks
        assert (wanted[16:60, 21:70] == FACE).all()  # every corner inside is filled
        studio.page.click("#undo")


def test_eyedropper_takes_the_class_and_gives_the_last_tool_back(studio: Studio) -> None:
    studio.choose("brush", CLOTHES, 9)
    studio.drag((30, 30))
    studio.choose("ellipse", EYE)
    studio.page.click("[data-tool=pick]")
    studio.drag((30, 30))
    assert studio.pressed(f"[data-class-id='{CLOTHES}']") and studio.pressed("[data-tool=ellipse]")
    studio.page.keyboard.down("Alt")
    studio.drag((90, 70))
    studio.page.keyboard.up("Alt")
    assert studio.pressed("[data-class-id='0']") and studio.pressed("[data-tool=ellipse]")


def test_right_button_erases(studio: Studio) -> None:
    studio.choose("brush", HAIR, 21)
    studio.drag((40, 40), (60, 40))
    studio.page.fill("#brush", "7")
    studio.drag((40, 40), (50, 42), button="right")
    wanted = empty()
    reference.draw(wanted, (40, 40), (60, 40), 21, HAIR)
    reference.draw(wanted, (40, 40), (50, 42), 7, 0)
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_mirror_draws_every_tool_twice(studio: Studio) -> None:
    studio.page.click("#mirror")
    studio.choose("brush", HAIR, 11)
    studio.drag((20, 20), (30, 50))
    studio.choose("line", EYE, 2)
    studio.drag((2, 2), (40, 8))
    studio.choose("ellipse", CLOTHES)
    studio.drag((5, 60), (25, 75))
    studio.choose("fill", FACE)
    studio.page.fill("#gap", "0")
    studio.drag((24, 35))
    wanted = empty()
    for flip in (lambda x: x, lambda x: WIDTH - 1 - x):
        reference.draw(wanted, (flip(20), 20), (flip(30), 50), 11, HAIR)
    for flip in (lambda x: x, lambda x: WIDTH - 1 - x):
        reference.draw(wanted, (flip(2), 2), (flip(40), 8), 2, EYE)
        reference.box(wanted, (flip(5), 60), (flip(25), 75), CLOTHES, round_=True)
        reference.flood(wanted, flip(24), 35, FACE, 0)
    np.testing.assert_array_equal(studio.ids(), wanted)
    np.testing.assert_array_equal(wanted, wanted[:, ::-1])


def test_keys_choose_classes_tools_sizes_and_mirror(studio: Studio) -> None:
    for number in range(7):
        studio.page.keyboard.press(str(number + 1))
        assert studio.pressed(f"[data-class-id='{number}']")
    tools = {"b": "brush", "l": "line", "r": "rectangle", "e": "ellipse", "f": "fill", "i": "pick", "h": "hand"}
    for key, tool in tools.items():
        studio.page.keyboard.press(key)
        assert studio.pressed(f"[data-tool={tool}]")
    size = int(studio.page.input_value("#brush"))
    studio.page.keyboard.press("]")
    studio.page.keyboard.press("]")
    studio.page.keyboard.press("[")
    assert int(studio.page.input_value("#brush")) == size + 1
    studio.page.keyboard.press("m")
    assert studio.pressed("#mirror")


def test_sixty_steps_are_undone_and_redone_and_survive_tool_switches(studio: Studio) -> None:
    snapshots = [studio.ids()]
    rng = np.random.default_rng(0)
    for step in range(66):
        studio.page.keyboard.press("blref"[step % 5])
        studio.page.keyboard.press(str(1 + (step % 6 + 1)))
        points = [(int(x), int(y)) for x, y in rng.integers((0, 0), (WIDTH, HEIGHT), (2, 2))]
        studio.drag(*points)
        if not (studio.ids() == snapshots[-1]).all():
            snapshots.append(studio.ids())
    assert len(snapshots) > 50
    for wanted in reversed(snapshots[:-1]):
        studio.page.keyboard.press("Control+z")
        np.testing.assert_array_equal(studio.ids(), wanted)
    for wanted in snapshots[1:]:
        studio.page.keyboard.press("Control+Shift+z")
        np.testing.assert_array_equal(studio.ids(), wanted)
    assert studio.page.is_disabled("#redo")


def test_undo_in_the_middle_of_a_stroke_takes_that_stroke_back(studio: Studio) -> None:
    studio.choose("brush", HAIR, 5)
    studio.drag((10, 10), (30, 10))
    before = studio.ids()
    for tool in ("brush", "line", "ellipse"):
        studio.choose(tool, EYE, 5)
        studio.page.mouse.move(*studio.at(40, 40))
        studio.page.mouse.down()
        studio.page.mouse.move(*studio.at(60, 60))
        studio.page.keyboard.press("Control+z")
        studio.page.mouse.move(*studio.at(80, 70))
        studio.page.mouse.up()
        np.testing.assert_array_equal(studio.ids(), before)
    studio.page.keyboard.press("Control+z")
    assert not studio.ids().any()


def test_a_mouse_that_joins_the_keyboards_stroke_makes_a_step_of_its_own(studio: Studio) -> None:
    studio.page.focus("#surface")
    for key in (" ", "Shift+ArrowRight"):
        studio.page.keyboard.press(key)
    keyboard = studio.ids()
    studio.drag((10, 10), (20, 10))
    studio.page.keyboard.press("Control+z")
    np.testing.assert_array_equal(studio.ids(), keyboard)
    studio.page.keyboard.press("Control+z")
    assert keyboard.any() and not studio.ids().any()


def test_eyedropper_after_the_hand_gives_a_tool_that_paints(studio: Studio) -> None:
    for key in ("e", "h", "i", "4"):
        studio.page.keyboard.press(key)
    assert studio.pressed("[data-tool=ellipse]")


def test_keys_work_in_layouts_without_latin_letters_or_with_brackets_behind_altgr(studio: Studio) -> None:
    press = """([key, code, ctrlKey]) => document.body.dispatchEvent(
      new KeyboardEvent('keydown', { key, code, ctrlKey, bubbles: true, cancelable: true }))"""
    studio.choose("brush", HAIR, 9)
    studio.drag((20, 20))
    studio.page.evaluate(press, ["я", "KeyZ", True])
    assert not studio.ids().any()
    studio.page.evaluate(press, ["а", "KeyF", False])
    assert studio.pressed("[data-tool=fill]")
    size = int(studio.page.input_value("#brush"))
    studio.page.keyboard.press(".")
    assert int(studio.page.input_value("#brush")) == size + 1
