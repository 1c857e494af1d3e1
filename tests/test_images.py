"""gaugan.images: a zoo of files, each with its expected pixels or its refusal."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gaugan import images
from gaugan.images import ImageError, decode_image, decode_image_with_note

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
CORNER = np.zeros((4, 6, 3), dtype=np.uint8)
CORNER[0, 0], CORNER[0, -1], CORNER[-1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(body)) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10) + b"IDAT" + b"\0" * 14


def frames(count: int = 3) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (255, 255, 255) if n == 0 else (n, 0, 0)) for n in range(count)]


def with_pixels(mode: str, value: object, size: tuple[int, int] = (3, 2)) -> Image.Image:
    return Image.new(mode, size, value)  # type: ignore[arg-type]


def transparent_palette() -> Image.Image:
    picture = Image.frombytes("P", (2, 1), bytes([0, 1]))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.info["transparency"] = bytes([255, 0])
    return picture


@pytest.mark.parametrize(
    ("data", "pixel"),
    [
        (encoded(with_pixels("RGB", (1, 2, 3))), (1, 2, 3)),
        (encoded(with_pixels("L", 77)), (77, 77, 77)),
        (encoded(with_pixels("1", 1)), (255, 255, 255)),
        (encoded(with_pixels("LA", (0, 0))), (255, 255, 255)),
        (encoded(with_pixels("LA", (9, 255))), (9, 9, 9)),
        (encoded(with_pixels("RGBA", (255, 0, 0, 0))), (255, 255, 255)),
        (encoded(with_pixels("RGBA", (0, 0, 0, 51))), (204, 204, 204)),
        (encoded(Image.fromarray(np.full((2, 3), 246 * 256 + 99, dtype=np.uint16))), (246, 246, 246)),
        (encoded(with_pixels("RGB", (8, 8, 8)), transparency=(8, 8, 8)), (255, 255, 255)),
        (encoded(with_pixels("CMYK", (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
        (encoded(with_pixels("CMYK", (0, 0, 0, 255)), "JPEG"), (0, 0, 0)),
        (encoded(with_pixels("RGB", (1, 2, 3)), "WEBP", lossless=True), (1, 2, 3)),
        (encoded(with_pixels("P", 0), "GIF"), (0, 0, 0)),
    ],
)
def test_every_pixel_format_becomes_rgb_with_transparency_on_white(data: bytes, pixel: tuple[int, int, int]) -> None:
    image, note = decode_image_with_note(data)
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8 and note == "" and image.flags.writeable
    assert np.array_equal(image, np.broadcast_to(np.array(pixel, dtype=np.uint8), image.shape))


def test_a_palette_with_transparent_entries_is_laid_on_white() -> None:
    picture = transparent_palette()
    assert decode_image(encoded(picture, transparency=bytes([255, 0]))).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    upright = Image.fromarray(CORNER.repeat(16, 0).repeat(16, 1))
    back: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
        6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
        7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
        8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(back[orientation](upright), kind, exif=exif.tobytes(), quality=95)
    found = decode_image(data)
    assert found.shape == (64, 96, 3) and images.read_size(data) == (64, 96)
    assert np.abs(found.astype(int) - np.array(upright))[8::16, 8::16].max() < 40


def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = encoded(PHOTO, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decode_image(data).shape == PHOTO.shape and images.read_size(data) == PHOTO.shape[:2]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {"default_image": False})],
)
def test_the_first_frame_of_an_animation_is_read_and_noted(kind: str, options: dict[str, object]) -> None:
    first, *others = frames()
    image, note = decode_image_with_note(encoded(first, kind, save_all=True, append_images=others, **options))
    assert note == "animated" and image.min() == 255


def test_a_wrong_extension_does_not_matter_and_odd_shapes_are_fine() -> None:
    for shape in ((1, 1, 3), (1, 5000, 3), (5000, 1, 3)):
        image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(decode_image(images.encode_png(image)), image)


PHOTO_PNG, PHOTO_JPEG = encoded(PHOTO), encoded(PHOTO, "JPEG")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"\0", "not_an_image"),
        (b"hello, this is text", "not_an_image"),
        (b"<!DOCTYPE html><html></html>", "not_an_image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not_an_image"),
        (PHOTO_PNG[:8], "truncated"),
        (PHOTO_PNG[: len(PHOTO_PNG) * 7 // 10], "truncated"),
        (PHOTO_JPEG[: len(PHOTO_JPEG) * 7 // 10], "truncated"),
        (encoded(PHOTO, "WEBP")[:-300], "truncated"),
        (encoded(PHOTO, "GIF")[:3000], "truncated"),
        (PHOTO_PNG[:60] + bytes(40) + PHOTO_PNG[100:], "corrupt"),
        (png_header(100_000, 100_000), "too_large"),
        (png_header(13_300, 13_300), "too_large"),
        (png_header(10_001, 10_000), "too_large"),
        (encoded(PHOTO, "TIFF"), "unsupported_format"),
        (encoded(PHOTO, "BMP"), "unsupported_format"),
        (encoded(PHOTO, "EPS"), "unsupported_format"),
        (encoded(PHOTO, "PDF"), "unsupported_format"),
        (encoded(PHOTO, "ICO", sizes=[(16, 16)]), "unsupported_format"),
        (encoded(PHOTO, "PPM"), "unsupported_format"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format"),
        (b'<?xml version="1.0"?><svg/>', "unsupported_format"),
        (b"\0\0\0\x20ftypavif", "unsupported_format"),
    ],
)
def test_unusable_files_are_refused_with_a_stable_code(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.code == code and caught.value.message == str(caught.value) != ""


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x20ftypmp42\0\0\0\0", "MP4"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "HEIC"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "WebM"),
        (b"CWS\x0a\0\0\0\0", "Flash"),
        (b"PK\x03\x04\x14\0\0\0", "zip"),
        (b"\xa6\x09\0\0\x11\xaf\x10\0", "FLIC"),
        (bytes(40) + b"TRUEVISION-XFILE.\0", "TGA"),
    ],
)
def test_films_archives_and_other_formats_are_named(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=f"{kind} files are not read") as caught:
        decode_image(data)
    assert caught.value.code == "unsupported_format"


def test_a_format_or_side_can_be_refused_by_the_caller() -> None:
    with pytest.raises(ImageError, match="GIF files are not read; allowed are PNG, JPEG") as caught:
        decode_image(encoded(PHOTO, "GIF"), formats=("PNG", "JPEG"))
    assert caught.value.code == "unsupported_format"
    with pytest.raises(ImageError, match="256x192") as caught:
        decode_image(PHOTO_PNG, min_side=193)
    assert caught.value.code == "too_small"
    with pytest.raises(ImageError) as caught:
        decode_image(PHOTO_PNG, max_pixels=256 * 192 - 1)
    assert caught.value.code == "too_large"


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    real = encoded(Image.new("1", (13_300, 13_300)))
    peaks = []
    for data in (real, png_header(100_000, 100_000)):
        before = _resident_mb()
        tracemalloc.start()
        with pytest.raises(ImageError):
            decode_image(data)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
        assert _resident_mb() - before < 20
    assert max(peaks) < 5


def _resident_mb() -> float:
    import psutil

    return psutil.Process().memory_info().rss / 2**20


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.integers(0, 2**31), st.integers(1, 60))
def test_flipped_bytes_give_a_picture_or_a_typed_refusal_never_another_error(kind: str, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(encoded(PHOTO[::8, ::8], kind))
    for place in rng.integers(0, len(data), count):
        data[place] = rng.integers(0, 256)
    try:
        assert decode_image(bytes(data), max_pixels=10**6).dtype == np.uint8
    except ImageError:
        pass


def test_tensors_and_pixels_convert_both_ways_without_loss() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = images.to_tensor(values)
    assert tensor.shape == (3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(images.to_uint8(tensor), values)
    stack = images.to_tensor(np.stack([values, values[::-1]]))
    assert stack.shape == (2, 3, 16, 16) and np.array_equal(images.to_uint8(stack)[1], values[::-1])
    assert images.to_uint8(torch.tensor([-9.0, 9.0, 0.0]).view(3, 1, 1)).tolist() == [[[0, 255, 128]]]


def test_encoded_pictures_carry_no_metadata_and_are_the_same_each_time() -> None:
    data = images.encode_png(PHOTO)
    assert np.array_equal(decode_image(data), PHOTO) and data == images.encode_png(PHOTO.copy())
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info == {}
    assert np.abs(decode_image(images.encode_jpeg(PHOTO)).astype(int) - PHOTO).mean() < 20


def test_fitting_crops_the_middle_and_keeps_picture_and_label_map_aligned() -> None:
    label_map = np.zeros((40, 100), dtype=np.uint8)
    label_map[:, 40:60] = 5
    image = np.where(label_map[..., None] == 5, 255, 0).repeat(3, -1).astype(np.uint8)
    fitted, fitted_map = images.fit_pair(image, label_map, (20, 20))
    assert fitted.shape == (20, 20, 3) and set(np.unique(fitted_map)) == {0, 5}
    assert np.array_equal(fitted[..., 0] > 127, fitted_map == 5) and (fitted_map == 5).mean() == 0.5
    same, same_map = images.fit_pair(image, label_map, (40, 100))
    assert np.array_equal(same, image) and np.array_equal(same_map, label_map)


def test_a_grid_places_pictures_row_by_row() -> None:
    sheet = images.grid([np.full((4, 6, 3), value, dtype=np.uint8) for value in (10, 20, 30)], columns=2, gap=1)
    assert sheet.shape == (9, 13, 3)
    assert (sheet[0, 0, 0], sheet[0, 7, 0], sheet[5, 0, 0], sheet[5, 7, 0]) == (10, 20, 30, 255)
