"""Pictures: safe decoding, encoding, sizes and ranges. One owner for every picture convention.

Raw pixels are uint8 (H, W, 3) RGB; networks see float32 (3, H, W) in [-1, 1]. Size is checked from the header before
anything is decoded, formats are allow-listed, and every refusal has a stable code.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
MAX_PIXELS = 100_000_000
MAGIC = {
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF",
    b"II*\x00": "TIFF", b"MM\x00*": "TIFF", b"II+\x00": "TIFF", b"MM\x00+": "TIFF", b"BM": "BMP",
    b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"<svg": "SVG", b"<?xml": "SVG",
    b"\x00\x00\x01\x00": "ICO", b"\x00\x00\x02\x00": "CUR", b"8BPS": "PSD", b"icns": "ICNS", b"DDS ": "DDS",
    b"P1": "PPM", b"P2": "PPM", b"P3": "PPM", b"P4": "PPM", b"P5": "PPM", b"P6": "PPM", b"P7": "PPM", b"Pf": "PPM",
    b"\x00\x00\x00\x0cjP": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000", b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL": "JPEG XL", b"qoif": "QOI", b"SIMPLE  =": "FITS", b"\xd7\xcd\xc6\x9a": "WMF",
    b"\x01\xda": "SGI", b"\x59\xa6\x6a\x95": "SUN", b"/* XPM": "XPM", b"BLP1": "BLP", b"BLP2": "BLP",
    b"#define ": "XBM", b"\x1aE\xdf\xa3": "WebM", b"FWS": "Flash", b"CWS": "Flash", b"ZWS": "Flash",
    b"PK\x03\x04": "zip",
    b"\xd0\xcf\x11\xe0": "OLE", b"\xb1\x68\xde\x3a": "DCX", b"(\x00\x00\x00": "DIB", b"Image type: ": "IM",
    b"DanM": "MSP", b"LinS": "MSP", b"FTEX": "FTEX", b"FTC\x00": "FTEX", b"\x80\xe8\x00\x00": "PIXAR",
    b"\x0a\x00\x01": "PCX", b"\x0a\x02\x01": "PCX", b"\x0a\x03\x01": "PCX", b"\x0a\x05\x01": "PCX",
    b"GRIB": "GRIB", b"BUFR": "BUFR", b"\x89HDF": "HDF5", b"Rar!": "rar", b"7z\xbc\xaf": "7z",
}  # fmt: skip
FLIC = (b"\x11\xaf", b"\x12\xaf")
TGA_END = b"TRUEVISION-XFILE.\0"
BRANDS = {b"avi": "AVIF", b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIC", b"msf": "HEIC", b"qt ": "QuickTime"}
"""First letters of the brand of an ISO media file; any other is a film."""
BAND_PIXELS = 2**20
"""Pixels are converted in bands of about this many: a large picture costs its decoded form, its result, and no more."""


class ImageError(ValueError):
    """A picture that can't be used.

    `code` is one of empty, not_an_image, unsupported_format, too_large, too_small, truncated, corrupt.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def decode_image(
    data: bytes, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] = FORMATS, min_side: int = 1
) -> np.ndarray:
    """File bytes -> uint8 (H, W, 3) RGB, upright (EXIF), alpha on white, 16 bit scaled to 8. Raises ImageError."""
    return decode_image_with_note(data, max_pixels, formats, min_side)[0]


def decode_image_with_note(
    data: bytes, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] = FORMATS, min_side: int = 1
) -> tuple[np.ndarray, str]:
    """As `decode_image`, and a note: "animated" when only the first of several frames was read, else ""."""
    picture = open_picture(data, max_pixels, formats)
    width, height = picture.size
    if min(width, height) < min_side:
        raise ImageError("too_small", f"{width}x{height} pixels; each side needs at least {min_side}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
            turn, pixels = _orientation(picture), _rgb_pixels(picture)
            note = "animated" if _is_animated(picture) else ""
            picture.close()  # its memory is free before a turned copy is made
            return _upright(pixels, turn), note
    except MemoryError:
        raise
    except Exception as error:
        code = "truncated" if _is_cut_short(data, error) else "corrupt"
        raise ImageError(code, f"{picture.format} data can't be decoded: {error}") from error


def read_size(data: bytes, formats: tuple[str, ...] = FORMATS) -> tuple[int, int]:
    """(height, width) of the upright picture from the header alone. Raises ImageError."""
    picture = _open(data, formats)
    width, height = picture.size
    return (width, height) if _orientation(picture) >= 5 else (height, width)


def file_kind(data: bytes) -> str:
    """What the first bytes say: PNG, JPEG, WEBP, GIF, TIFF ..., or "" when they say nothing."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:11], "MP4")
    if data[4:6] in FLIC:
        return "FLIC"
    if data.endswith(TGA_END):
        return "TGA"
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "")


def open_picture(data: bytes, max_pixels: int, formats: tuple[str, ...]) -> Image.Image:
    """A picture of which only the header was read, within the limits. Raises ImageError."""
    picture = _open(data, formats)
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageError("too_large", f"{width}x{height} = {width * height} pixels; at most {max_pixels} are allowed")
    return picture


def _open(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError("empty", "the file has 0 bytes")
    kind, allowed = file_kind(data), ", ".join(formats)
    if kind and kind not in formats:
        raise ImageError("unsupported_format", f"{kind} files are not read; allowed are {allowed}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of big pictures; our own cap decides
            return Image.open(io.BytesIO(data), formats=list(formats))
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", str(error)) from error
    except Exception as error:
        if not kind:
            raise ImageError("not_an_image", f"no picture of a known format ({allowed})") from error
        code = "truncated" if _is_cut_short(data, error) else "corrupt"
        # Pillow's usual words, "cannot identify", say no more than ours.
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        what = "but ends within its header" if code == "truncated" else "but can't be opened as one"
        raise ImageError(code, f"begins like a {kind} file {what}{reason}") from error


def _is_cut_short(data: bytes, error: Exception) -> bool:
    if file_kind(data) == "WEBP" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        return True
    if file_kind(data) == "PNG" and _is_cut_png(data):
        return True
    return isinstance(error, EOFError) or "truncated" in str(error).lower()


def _is_cut_png(data: bytes) -> bool:
    """True when a chunk ends beyond the file (chunks: length, kind, body, checksum)."""
    place = 8
    while place < len(data):
        if data[place + 4 : place + 8] == b"IEND":
            return place + 12 > len(data)
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return True


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1..8; 1 when there is none or the EXIF data is damaged (the pixels may be fine)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(picture.getexif().get(0x0112, 1))
    except Exception:
        return 1


def _is_animated(picture: Image.Image) -> bool:
    """Whether there are more frames; damage beyond the first one counts as none.

    MPO, the JPEGs of several lenses in one file, has several pictures but does not move.
    """
    try:
        return picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
    except Exception:
        return False


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) turned and mirrored as an EXIF orientation says, contiguous."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _rgb_pixels(picture: Image.Image) -> np.ndarray:
    """A loaded picture -> uint8 (H, W, 3), band by band."""
    width, height = picture.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = np.asarray(_to_rgb(picture.crop((0, top, width, bottom))))
    return pixels


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB: 16 bit is scaled (Pillow's own convert clips), transparency is laid on white."""
    from PIL import Image

    if picture.mode.startswith("I"):
        values, hidden = np.array(picture), picture.info.get("transparency")
        pixels = np.clip(values >> 8, 0, 255).astype(np.uint8)
        picture = Image.fromarray(pixels if hidden is None else np.where(values == hidden, np.uint8(255), pixels))
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture.convert("RGB")


def encode_png(image: np.ndarray, compress_level: int = 4) -> bytes:
    """uint8 (H, W, 3) -> PNG bytes without any metadata; equal pixels give equal bytes."""
    return _encode(image, "PNG", compress_level=compress_level)


def encode_jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    """uint8 (H, W, 3) -> JPEG bytes."""
    return _encode(image, "JPEG", quality=quality)


def encode_webp(image: np.ndarray, quality: int = 90) -> bytes:
    """uint8 (H, W, 3) -> WebP bytes without any metadata; equal pixels give equal bytes."""
    return _encode(image, "WEBP", quality=quality, method=2)


def _encode(image: np.ndarray, kind: str, **options: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def to_tensor(image: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1] on the device; 0 -> -1, 255 -> 1."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return pixels.movedim(-1, -3).float() / 127.5 - 1.0


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """float (..., 3, H, W) in [-1, 1] -> uint8 (..., H, W, 3), rounded and clipped; the inverse of `to_tensor`."""
    import torch

    scaled = ((images.detach().float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.movedim(-3, -1).contiguous().cpu().numpy()


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (*size, 3), antialiased bicubic."""
    from PIL import Image

    if image.shape[:2] == tuple(size):
        return image
    return np.array(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def resize_label_map(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W) -> uint8 `size`, nearest neighbour as in PIL (data preparation's rule); also int32 and uint16."""
    from PIL import Image

    if label_map.shape == tuple(size):
        return label_map
    wide = label_map if label_map.dtype == np.uint8 else label_map.astype(np.int32)  # the modes that Pillow resizes
    resized = Image.fromarray(wide).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.array(resized).astype(label_map.dtype)


def centre_box(size: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest centred box with width / height = `aspect`."""
    height, width = size
    box_width = min(width, max(1, round(height * aspect)))
    box_height = min(height, max(1, round(width / aspect)))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def fit_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Centre crop to the aspect of `size`, then resize."""
    top, left, height, width = centre_box((image.shape[0], image.shape[1]), size[1] / size[0])
    return resize_image(image[top : top + height, left : left + width], size)


def fit_label_map(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`fit_image` for a label map: the same crop, nearest neighbour."""
    top, left, height, width = centre_box((label_map.shape[0], label_map.shape[1]), size[1] / size[0])
    return resize_label_map(label_map[top : top + height, left : left + width], size)


def fit_pair(image: np.ndarray, label_map: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`fit_image` for a picture and its label map together."""
    return fit_image(image, size), fit_label_map(label_map, size)


def grid(images: list[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """uint8 pictures (h, w, 3) of one size -> one uint8 sheet, row by row, white gaps."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet
