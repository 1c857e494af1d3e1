"""Procedural anime-like portraits with exact label maps: the built-in sample data (gaugan/portraits/drawing.py)."""

from gaugan.portraits.drawing import draw_portrait, portrait_seed, write_annotated, write_pictures

__all__ = ["draw_portrait", "portrait_seed", "write_annotated", "write_pictures"]
