"""A zoo of pictures and of what pretends to be one, made here: each with its pixels or its code.

`ANIMALS` maps a file name to an Animal. Exact pixels are those of the drawing it was made from, by the rules of
docs/labelling.md; formats that lose detail say how far off they may be.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 48


@dataclass(frozen=True)
class Animal:
    """A file, and what must come of it."""

    data: bytes
    code: str = ""
    pixels: np.ndarray | None = None
    """uint8 (H, W, 3) expected; None with a code."""
    off_by: int = 0
    """Largest difference that is allowed at 99 % of the pixels."""
    note: str = ""


def drawing(height: int = SIDE, width: int = 64) -> np.ndarray:
    """uint8 (H, W, 3): smooth, different in every corner and channel."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x // max(1, width - 1), 255 * y // max(1, height - 1), 128 + 60 * np.sin(x / 9) * np.cos(y / 7)]
    return np.stack(channels, axis=-1).astype(np.uint8)


DRAWING = drawing()
GREY = DRAWING[..., 0]
SQUARES = ((np.mgrid[0:SIDE, 0:64].sum(0) // 8) % 2).astype(np.uint8)
"""0 and 1 in a checked pattern."""


def saved(picture: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG file by hand: `rows` with their filter bytes, `extra` chunks before the data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def grey_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1).astype(np.uint8)


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return np.round(pixels * share + 255 * (1 - share)).astype(np.uint8)


def turned(orientation: int, kind: str) -> Animal:
    """A file whose EXIF says how to hold it; upright it is DRAWING."""
    lying = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](DRAWING)  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Animal(saved(np.ascontiguousarray(lying), kind, exif=exif, quality=98), pixels=DRAWING, off_by=12)


def sixteen_bit() -> Animal:
    values = np.arange(SIDE * 64, dtype=np.uint32).reshape(SIDE, 64) * 21
    return Animal(saved(values.astype(np.uint16), "PNG"), pixels=grey_rgb(values >> 8))


def sixteen_bit_colour() -> Animal:
    wide = (DRAWING.astype(np.uint16) * 256 + 7).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    return Animal(png(64, SIDE, 16, 2, rows), pixels=DRAWING)


def sixteen_bit_hidden() -> Animal:
    """Grey, 16 bit, one value of which is declared transparent."""
    values = np.where(SQUARES == 1, 0x1234, 0x9876).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    data = png(64, SIDE, 16, 0, rows, (b"tRNS", struct.pack(">H", 0x1234)))
    return Animal(data, pixels=grey_rgb(np.where(SQUARES == 1, 255, 0x98)))


def palette(transparency: bytes | int | None) -> Animal:
    picture = Image.frombytes("P", (64, SIDE), SQUARES.tobytes())
    picture.putpalette([10, 20, 30, 200, 100, 50])
    expected = np.array([[10, 20, 30], [200, 100, 50]], dtype=np.uint8)[SQUARES]
    if transparency is None:
        return Animal(saved(picture, "PNG"), pixels=expected)
    alpha = {0: 255, 1: 0} if isinstance(transparency, int) else dict(enumerate(transparency))
    layer = np.where(SQUARES == 0, alpha[0], alpha[1])
    return Animal(saved(picture, "PNG", transparency=transparency), pixels=on_white(expected, layer), off_by=1)


def animated(kind: str) -> Animal:
    others = [Image.new("RGB", (64, SIDE), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    first = Image.fromarray(DRAWING).quantize(64) if kind == "GIF" else Image.fromarray(DRAWING)
    data = saved(first, kind, save_all=True, append_images=others, **options)
    return Animal(data, pixels=np.asarray(first.convert("RGB")), note="animated")


def jpeg(**options: object) -> Animal:
    return Animal(saved(DRAWING, "JPEG", quality=98, **options), pixels=DRAWING, off_by=12)


def cmyk() -> Animal:
    ink = np.zeros((SIDE, 64, 4), dtype=np.uint8)
    ink[..., 3] = 255 - GREY
    return Animal(saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=98), pixels=grey_rgb(GREY), off_by=12)


def flipped(data: bytes, seed: int, count: int = 40) -> bytes:
    """Some bytes beyond the header replaced."""
    rng, spoiled = np.random.default_rng(seed), bytearray(data)
    for place in rng.integers(min(100, len(data) // 2), len(data), count):
        spoiled[place] = rng.integers(0, 256)
    return bytes(spoiled)


def long_text_png() -> bytes:
    """A small picture beside a text that unpacks to 200 MB."""
    text = b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9)
    return png(64, SIDE, 8, 2, b"".join(b"\0" + row.tobytes() for row in DRAWING), (b"zTXt", text))


def _animals() -> dict[str, Animal]:
    rgba = np.dstack([DRAWING, GREY])
    good_png, good_jpeg = saved(DRAWING, "PNG"), saved(DRAWING, "JPEG", quality=90)
    good_webp, good_gif = saved(DRAWING, "WEBP", lossless=True), saved(Image.fromarray(DRAWING).quantize(64), "GIF")
    bits = np.packbits(SQUARES, axis=1)
    return {
        "plain.png": Animal(good_png, pixels=DRAWING),
        "interlaced.gif": Animal(good_gif, pixels=np.asarray(Image.fromarray(DRAWING).quantize(64).convert("RGB"))),
        "lossless.webp": Animal(good_webp, pixels=DRAWING),
        "baseline.jpg": jpeg(),
        "progressive.jpg": jpeg(progressive=True),
        "subsampled.jpg": Animal(saved(DRAWING, "JPEG", quality=98, subsampling=2), pixels=DRAWING, off_by=16),
        "grey.jpg": Animal(saved(GREY, "JPEG", quality=98), pixels=grey_rgb(GREY), off_by=4),
        "grey.png": Animal(saved(GREY, "PNG"), pixels=grey_rgb(GREY)),
        "cmyk.jpg": cmyk(),
        "sixteen_bit.png": sixteen_bit(),
        "sixteen_bit_colour.png": sixteen_bit_colour(),
        "sixteen_bit_hidden.png": sixteen_bit_hidden(),
        "one_bit.png": Animal(
            png(64, SIDE, 1, 0, b"".join(b"\0" + row.tobytes() for row in bits)), pixels=grey_rgb(SQUARES * 255)
        ),
        "grey_alpha.png": Animal(
            saved(np.dstack([GREY, GREY]), "PNG"), pixels=on_white(grey_rgb(GREY), GREY), off_by=1
        ),
        "alpha.png": Animal(saved(rgba, "PNG"), pixels=on_white(DRAWING, GREY), off_by=1),
        "alpha.webp": Animal(saved(rgba, "WEBP", lossless=True, exact=True), pixels=on_white(DRAWING, GREY), off_by=1),
        "hidden_colour.png": Animal(
            saved(np.where(SQUARES[..., None] == 1, 8, DRAWING).astype(np.uint8), "PNG", transparency=(8, 8, 8)),
            pixels=np.where(SQUARES[..., None] == 1, 255, DRAWING).astype(np.uint8),
        ),
        "palette.png": palette(None),
        "palette_hidden.png": palette(1),
        "palette_translucent.png": palette(bytes([255, 100])),
        "animated.gif": animated("GIF"),
        "animated.webp": animated("WEBP"),
        "animated.png": animated("PNG"),
        **{f"exif_{turn}.jpg": turned(turn, "JPEG") for turn in range(1, 9)},
        **{f"exif_{turn}.png": turned(turn, "PNG") for turn in (3, 6)},
        "damaged_exif.jpg": jpeg(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"),
        "really_a_png.jpg": Animal(good_png, pixels=DRAWING),
        "really_a_jpeg.txt.png": jpeg(),
        "no_extension": Animal(good_png, pixels=DRAWING),
        "two words.png": Animal(good_png, pixels=DRAWING),
        "ünï 少女 🌸.png": Animal(good_png, pixels=DRAWING),
        "new\nline.png": Animal(good_png, pixels=DRAWING),
        "per%20cent?#[x].png": Animal(good_png, pixels=DRAWING),
        "packed.png.gz": Animal(b"\x1f\x8b\x08\0" + bytes(40), "not_an_image"),
        "empty.png": Animal(b"", "empty"),
        "one_byte.jpg": Animal(b"\xff", "not_an_image"),
        "text.png": Animal(b"hello, I am no picture at all", "not_an_image"),
        "cut.png": Animal(good_png[: len(good_png) // 2], "truncated"),
        "cut.jpg": Animal(good_jpeg[: len(good_jpeg) // 2], "truncated"),
        "cut.webp": Animal(good_webp[: len(good_webp) // 2], "truncated"),
        "cut.gif": Animal(good_gif[: len(good_gif) // 2], "truncated"),
        "only_a_header.png": Animal(good_png[:33], "truncated"),
        "bits_flipped.png": Animal(flipped(good_png, 1), "corrupt"),
        "vector.svg": Animal(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "unsupported_format"),
        "vector.eps": Animal(saved(DRAWING, "EPS"), "unsupported_format"),
        "scan.tif": Animal(saved(DRAWING, "TIFF"), "unsupported_format"),
        "tiff_named.png": Animal(saved(DRAWING, "TIFF"), "unsupported_format"),
        "bitmap.bmp": Animal(saved(DRAWING, "BMP"), "unsupported_format"),
        "icon.ico": Animal(saved(DRAWING, "ICO", sizes=[(16, 16)]), "unsupported_format"),
        "scene.jp2": Animal(saved(DRAWING, "JPEG2000"), "unsupported_format"),
        "page.pdf": Animal(saved(DRAWING, "PDF"), "unsupported_format"),
        "one_pixel.png": Animal(saved(drawing(1, 1), "PNG"), "too_small"),
        "a_line.png": Animal(saved(drawing(1, 5000), "PNG"), "too_small"),
        "a_strip.png": Animal(saved(drawing(16, 5000), "PNG"), pixels=drawing(16, 5000)),
        "bomb_header.png": Animal(png(100_000, 100_000, 8, 2, bytes(20)), "too_large"),
        "bomb.png": Animal(saved(Image.new("1", (13_300, 13_300)), "PNG"), "too_large"),
        "bomb_text.png": Animal(long_text_png(), "corrupt"),
        "bomb.gif": Animal(good_gif[:6] + struct.pack("<HH", 60_000, 60_000) + good_gif[10:], "too_large"),
        "notes.txt": Animal(b"hello", "other_file"),
    }  # fmt: skip


ANIMALS = _animals()
