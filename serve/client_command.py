"""The client for people.

    python -m serve.client paint mask.png --seed 7 -o out.png
    python -m serve.client segment portrait.jpg -o mask.png
    python -m serve.client classes
    python -m serve.client model | swap URI | rollback        # need the server's GAUGAN_ADMIN_TOKEN

Tokens are read from the environment: GAUGAN_TOKEN, and GAUGAN_ADMIN_TOKEN for the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gaugan.errors import UserError
from serve.client import DEFAULT_URL, PATIENCE_S, Client, ServerError

ADMINISTRATION = ("model", "swap", "rollback")
FORMATS = (".png", ".webp")
TOKEN, ADMIN_TOKEN = "GAUGAN_TOKEN", "GAUGAN_ADMIN_TOKEN"  # noqa: S105  (names of variables)


def main(argv: Sequence[str] | None = None, client: Client | None = None) -> int:
    """The command; returns the exit code (0 ok, 2 refused by the server, 1 anything else)."""
    flags = _parser().parse_args(argv)
    token = os.environ.get(ADMIN_TOKEN if flags.command in ADMINISTRATION else TOKEN)
    try:
        client = client or Client(flags.url, token=token, patience_s=flags.patience)
        return _COMMANDS[flags.command](client, flags)
    except ServerError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2 if 400 <= problem.status < 500 else 1
    except (OSError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.client", description="Calls a running `python -m serve`.")
    parser.add_argument("--url", default=DEFAULT_URL, help="address of the server (default: %(default)s)")
    help_ = "seconds for which a busy or restarting server is asked again (default: %(default)g)"
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help=help_)
    commands = parser.add_subparsers(dest="command", required=True)
    paint = commands.add_parser("paint", help="paint a label map")
    paint.add_argument("label_map", type=Path, help="PNG of class ids or class colours")
    paint.add_argument("--seed", type=int, help="same seed, same picture; random when absent")
    paint.add_argument("--style", type=Path, help="picture whose style is taken")
    paint.add_argument("--style2", type=Path, help="second style picture")
    paint.add_argument("--style-id", help="a style of the server's gallery")
    paint.add_argument("--style2-id", help="second style of the gallery")
    paint.add_argument("--blend", type=float, default=0.0, help="0 = style alone, 1 = style2 alone")
    paint.add_argument("--n", type=int, default=1, help="paint a sheet of n pictures")
    ways = ("refuse", "nearest", "crop")
    paint.add_argument("--resize", choices=ways, default="refuse", help="label map of another size")
    paint.add_argument("-o", "--output", type=Path, required=True, help="file to write: .png or .webp")
    segment = commands.add_parser("segment", help="turn a portrait into a label map")
    segment.add_argument("image", type=Path, help="PNG, JPEG or WebP")
    segment.add_argument(
        "--fit", choices=("own", "paint"), default="own", help="paint: crop and scale to the model's size"
    )
    segment.add_argument("-o", "--output", type=Path, required=True, help="PNG file to write")
    commands.add_parser("classes", help="print the class table")
    commands.add_parser("model", help="print the served model and its last change")
    swap = commands.add_parser("swap", help="serve another model")
    swap.add_argument("uri", help="a run or checkpoint folder, s3:// or models:/NAME@ALIAS, as of the server's --model")
    commands.add_parser("rollback", help="serve the model before the last change again")
    return parser


def _paint(client: Client, flags: argparse.Namespace) -> int:
    suffix = flags.output.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"--output {flags.output}: paintings are written as {' or '.join(FORMATS)}")
    styles = {name: path.read_bytes() for name in ("style", "style2") if (path := getattr(flags, name)) is not None}
    painting = client.paint(
        flags.label_map.read_bytes(),
        seed=flags.seed,
        style_id=flags.style_id,
        style2_id=flags.style2_id,
        blend=flags.blend,
        n=flags.n,
        resize=flags.resize,
        format=suffix.removeprefix("."),
        **styles,
    )
    flags.output.write_bytes(painting.data)
    print(f"{flags.output}: seed {painting.seed}, {painting.model}")
    return 0


def _segment(client: Client, flags: argparse.Namespace) -> int:
    png, confidence = client.segment(flags.image.read_bytes(), flags.fit)
    flags.output.write_bytes(png)
    print(f"{flags.output}: confidence {confidence:.4f}")
    return 0


def _classes(client: Client, flags: argparse.Namespace) -> int:
    print(json.dumps(client.classes(), indent=2))
    return 0


def _model(client: Client, flags: argparse.Namespace) -> int:
    print(json.dumps(client.served_model(), indent=2))
    return 0


def _swap(client: Client, flags: argparse.Namespace) -> int:
    return _tell_swap(client.swap(flags.uri))


def _rollback(client: Client, flags: argparse.Namespace) -> int:
    return _tell_swap(client.rollback())


def _tell_swap(answer: dict[str, Any]) -> int:
    task, current = answer["task"], answer["current"]
    print(f"{task['step']}: {current['name']} {current['version']} ({current['uri']}) is served")
    if task["step"] == "done":
        return 0
    print(f"error: {task['wanted']}: {task['reason']}", file=sys.stderr)
    return 2


_COMMANDS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "paint": _paint, "segment": _segment, "classes": _classes, "model": _model, "swap": _swap, "rollback": _rollback,
}  # fmt: skip
