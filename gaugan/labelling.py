"""From a chunk of inputs to finished files, step by step; each step is a plain function and may run on any machine.

    read_chunk     CPU    bytes -> decoded picture, or a refusal with a code (reading.py)
    label_chunk    U-Net  picture -> label map, confidence
    write_chunk    CPU    -> OUTPUT/.work/SHARD/CHUNK.parquet (label_shards.py)
    merge_shard    CPU    -> OUTPUT/pairs/part-SHARD.parquet, OUTPUT/outcomes/part-SHARD.parquet

All files are written whole or not at all and hold no times or run ids: doing a step twice writes the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaugan.face_crop import crop_to_faces
from gaugan.label_plan import LabelPlan
from gaugan.reading import Picture

if TYPE_CHECKING:
    from gaugan.segmenter import Segmenter


def label_chunk(pictures: list[Picture], segmenter: Segmenter, plan: LabelPlan) -> list[Picture]:
    """Adds label map, confidence and entropy, in place; crops to the face first when the plan says so."""
    good = [picture for picture in pictures if picture.pixels is not None]
    if plan.crop == "face":
        crop_to_faces(good, segmenter, plan.image_size)
    answers = segmenter.segment([picture.pixels for picture in good if picture.pixels is not None])
    for picture, answer in zip(good, answers, strict=True):
        picture.label_map, picture.pixels = answer.label_map, None
        picture.confidence, picture.entropy = round(answer.confidence, 4), round(answer.entropy, 4)
    return pictures
