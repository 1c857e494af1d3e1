"""gaugan.systems: the table says what the classes say."""

import importlib

import pytest

from gaugan.systems import SYSTEMS

CLASSES = {"unet": "gaugan.unet.system.UNetSystem", "style_vae": "gaugan.spade.vae.StyleVAESystem"}
CLASSES["spade"] = "gaugan.spade.system.SpadeSystem"


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_an_entry_names_the_metric_of_its_class_and_a_config_with_defaults(name: str) -> None:
    module, _, cls = CLASSES[name].rpartition(".")
    assert SYSTEMS[name].best_metric == getattr(importlib.import_module(module), cls).best_metric
    SYSTEMS[name].config()
