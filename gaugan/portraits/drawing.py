"""Procedural anime-like portraits with exact label maps: the built-in sample data, any number, any size, seeded.

`draw_portrait(seed, size)` is a pure function. Picture and label map come from the same vector geometry, drawn 2-4
times larger and reduced (the picture antialiased, the label map by taking one sample per pixel). Classes are those of
gaugan.labels.PORTRAIT_CLASSES. `write_annotated` makes a folder as a person with labelme would leave it;
`write_pictures` one without labels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gaugan import storage
from gaugan.images import encode_jpeg, encode_png
from gaugan.labelme_writer import write_labelme
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.portraits.accessories import paint_accessories, paint_choker, paint_hand
from gaugan.portraits.backgrounds import paint_background
from gaugan.portraits.canvas import Canvas, Pen
from gaugan.portraits.clothes import draw_body, paint_clothes, paint_neck
from gaugan.portraits.expression import draw_expression
from gaugan.portraits.face import (
    paint_brows_over_hair,
    paint_ears,
    paint_face,
    paint_features,
    paint_glasses,
)
from gaugan.portraits.hair import (
    cast_shadow,
    paint_animal_ears,
    paint_back,
    paint_falling_hair,
    paint_front,
)
from gaugan.portraits.hairstyle import draw_hairstyle
from gaugan.portraits.look import Look, draw_look
from gaugan.progress import Progress

Image8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Framing:
    """Where the head lies in the picture, in fractions of the shorter side."""

    face_half_width: float
    centre_x: float
    centre_y: float
    tilt: float  # radians
    mirror: bool


def draw_framing(rng: np.random.Generator) -> Framing:
    """Close-up to bust, as portrait crops around a detected face come out."""
    return Framing(
        face_half_width=float(np.clip(rng.normal(0.26, 0.027), 0.18, 0.36)),
        centre_x=float(0.5 + np.clip(rng.normal(0, 0.025), -0.1, 0.1)),
        centre_y=float(0.425 + np.clip(rng.normal(0, 0.03), -0.1, 0.12)),
        tilt=float(np.radians(np.clip(rng.normal(0, 7), -20, 20))),
        mirror=bool(rng.random() < 0.5),
    )


def draw_portrait(seed: int, size: int | tuple[int, int]) -> tuple[Image8, Image8]:
    """One portrait: image uint8 (H, W, 3) RGB, label_map uint8 (H, W) of class ids.

    Same seed and size, same bytes. Raises ValueError when a side is below 16 pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16:
        raise ValueError(f"size: {height}x{width} is too small for a portrait; both sides must be at least 16 pixels")
    rng = np.random.default_rng([seed, 20190318])
    enlarge = 4 if min(height, width) <= 96 else 3 if min(height, width) <= 192 else 2
    canvas = Canvas(width * enlarge, height * enlarge)
    look = draw_look(rng)
    _paint(canvas, look, draw_framing(rng), rng)
    label_map = np.asarray(canvas.labels)[enlarge // 2 :: enlarge, enlarge // 2 :: enlarge]
    picture = canvas.picture.reduce(enlarge)
    return _develop(picture, rng), np.ascontiguousarray(label_map)


def _pens(canvas: Canvas, look: Look, framing: Framing) -> tuple[Pen, Pen]:
    """Pens for the head (tilted) and the body (tilted a quarter as much), joined at the neck."""
    width, height = canvas.size
    short = min(width, height)
    unit = framing.face_half_width * short
    at = np.array((width / 2 + (framing.centre_x - 0.5) * short, (height - short) * 0.3 + framing.centre_y * short))
    pens = []
    for tilt in (framing.tilt, framing.tilt * 0.25):
        turn = np.array(((np.cos(tilt), -np.sin(tilt)), (np.sin(tilt), np.cos(tilt)))) * unit
        # portraits are cropped around the face, so a head that looks aside stands aside
        pens.append(Pen(canvas, turn, at - turn @ (0.6 * look.yaw, 0.5 * look.pitch), look.line_width))
    head, body = pens
    joint = np.array((0.25 * look.yaw, 1.0))
    offset = head.matrix @ joint + head.offset - body.matrix @ (0.0, 1.0)
    return head, Pen(canvas, body.matrix, offset, look.line_width)


def _paint(canvas: Canvas, look: Look, framing: Framing, rng: np.random.Generator) -> None:
    """All layers, back to front."""
    head, body_pen = _pens(canvas, look, framing)
    style, expression, body = draw_hairstyle(rng, look), draw_expression(rng, look), draw_body(rng)
    paint_background(canvas, look, rng)
    animal = rng.random() < 0.06
    paint_back(head, look, style, rng)
    paint_neck(body_pen, look, body, rng)
    if rng.random() < 0.08:
        paint_choker(body_pen, look, body.neck, rng)
    paint_clothes(body_pen, look, body, rng)
    paint_ears(head, look, rng)
    paint_falling_hair(head, look, style, rng)
    paint_face(head, look, expression, rng)
    if rng.random() < 0.75:
        cast_shadow(head, look, style, rng)
    paint_features(head, look, expression, rng)
    glasses, hand = rng.random() < 0.09, rng.random() < 0.08
    if glasses:
        paint_glasses(head, look, expression, rng)
    if animal:
        paint_animal_ears(head, look, style, rng)
    paint_front(head, look, style, rng)
    if rng.random() < 0.4:
        paint_brows_over_hair(head, look, expression)
    paint_accessories(head, look, style, rng)
    if hand:
        paint_hand(body_pen, look, rng)


def _develop(picture: Image.Image, rng: np.random.Generator) -> Image8:
    """What camera, screen and file do to the drawing: uneven light, colour cast, blur, noise, screen tone, JPEG."""
    if rng.random() < 0.8:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.65) * min(picture.size) / 256))
    image = np.asarray(picture, np.float32)
    height, width = image.shape[:2]
    strength = rng.choice((0.0, 0.05, 0.14), p=(0.4, 0.45, 0.15))
    uneven = strength * (rng.normal(0, 0.5, (3, 3, 1)) + rng.normal(0, 0.07, (3, 3, 3)))
    light = np.clip(255 * (0.5 + uneven), 0, 255).astype(np.uint8)
    field = np.asarray(Image.fromarray(light).resize((width, height), Image.Resampling.BICUBIC), np.float32) / 127.5
    cast = 1 + rng.normal(0, 0.03, 3) + min(rng.normal(0.0, 0.05), 0.05)
    image = image * (field * cast.astype(np.float32))
    if rng.random() < 0.06:  # night, sunset, faded film
        image = image * rng.uniform(0.55, 1.0, 3).astype(np.float32) + rng.uniform(0, 40)
    if rng.random() < 0.02:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.04:  # screen tone
        y, x = np.ogrid[:height, :width]
        image = image * (1 - 0.12 * ((x + y) % 4 < 2))[..., None].astype(np.float32)
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(1, 6), (height, width, 1)).astype(np.float32)
    result = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        Image.fromarray(result).save(buffer, "JPEG", quality=int(rng.integers(55, 95)))
        result = np.asarray(Image.open(buffer))
    return np.ascontiguousarray(result)


def portrait_seed(seed: int, index: int) -> int:
    """The seed of the index-th portrait of a folder; folders with different seeds share no portrait."""
    return seed * 1_000_000 + index


def write_annotated(folder_uri: str, count: int, size: int | tuple[int, int], seed: int = 0) -> None:
    """`images/portrait_00000.png` .. with label maps `labelme/portrait_00000.json`, as a person leaves them."""
    progress = Progress(count, unit="portrait")
    for index in range(count):
        image, label_map = draw_portrait(portrait_seed(seed, index), size)
        stem = f"portrait_{index:05d}"
        storage.write_bytes(storage.join(folder_uri, "images", f"{stem}.png"), encode_png(image))
        text = write_labelme(label_map, PORTRAIT_CLASSES, f"../images/{stem}.png")
        storage.write_text(storage.join(folder_uri, "labelme", f"{stem}.json"), text)
        progress.tell(index + 1, "drawn")


def write_pictures(folder_uri: str, count: int, size: int | tuple[int, int], seed: int = 1) -> None:
    """Pictures without labels: every third a JPEG, the others PNG."""
    progress = Progress(count, unit="portrait")
    for index in range(count):
        image, _ = draw_portrait(portrait_seed(seed, index), size)
        suffix, data = ("jpg", encode_jpeg(image)) if index % 3 == 2 else ("png", encode_png(image))
        storage.write_bytes(storage.join(folder_uri, f"portrait_{index:05d}.{suffix}"), data)
        progress.tell(index + 1, "drawn")
