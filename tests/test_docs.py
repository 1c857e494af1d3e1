"""The documents keep up with the code."""

import dataclasses
from pathlib import Path

import pytest

from gaugan import reading
from gaugan.spade.config import SpadeConfig, StyleVAEConfig

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("config", [SpadeConfig, StyleVAEConfig])
def test_every_option_of_the_painter_is_explained(config: type) -> None:
    text = (DOCS / "gaugan.md").read_text()
    flags = [f"`--{field.name.replace('_', '-')}`" for field in dataclasses.fields(config)]
    assert not [flag for flag in flags if flag not in text]


def test_every_code_of_an_outcome_is_explained() -> None:
    text = (DOCS / "labelling.md").read_text()
    assert not [code for code in sorted(reading.REFUSED | reading.SKIPPED) if f"`{code}`" not in text]
