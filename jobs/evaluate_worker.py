"""One worker of jobs/evaluate.py: holds the painter, the judge and the dataset, and measures the rows it is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from gaugan import evaluation, storage
from gaugan.errors import UserError
from gaugan.evaluation import Evaluator, FeatureFunction, Part
from gaugan.pairs import DecodedPair, Pairs
from gaugan.preprocess import Preprocess

TRAINING_PICTURES = 200
"""Real training pictures for the mean colours and for the distance between real and real."""


class EvaluateWorker:
    """A Ray actor. `load` comes first: what goes wrong in a constructor, Ray tells as the death of an actor."""

    def load(
        self, *, model: str, data: str, judge: str, inception: str, seeds: int, seed: int, threads: int, device: str
    ) -> None:
        """Loads dataset and networks."""
        import torch

        from gaugan.painter import Painter
        from gaugan.segmenter import Segmenter

        torch.set_num_threads(threads)
        self.pairs = Pairs.open(data)
        self.painter = Painter.load(model, device)
        segmenter = Segmenter.load(judge, device, precision="fp32")
        features: dict[str, FeatureFunction] = {"unet": encoder_features(segmenter)}
        if inception:
            features["inception"] = inception_features(inception, device)
        self.features = features
        training = self._training_rows()
        self.mean_colours = evaluation.mean_colours(training, self.painter.classes.num_classes)
        self.evaluator = Evaluator(self.painter, segmenter, features, self.mean_colours, seeds, first_seed=seed)

    def _rows(self, split: str, indices: range) -> list[DecodedPair]:
        fit = Preprocess(self.painter.image_size)
        stored = (self.pairs.read(split, index) for index in indices)
        return [pair.changed(*fit.scale(pair.image, pair.maps)) for pair in stored]

    def _training_rows(self) -> list[DecodedPair]:
        split = "train" if self.pairs.num("train") else "held_out"
        return self._rows(split, range(min(TRAINING_PICTURES, self.pairs.num(split))))

    def training_features(self, count: int) -> dict[str, np.ndarray]:
        """Features of up to `count` real training pictures; {} when there are none."""
        rows = self._rows("train", range(min(count, self.pairs.num("train"))))
        if len(rows) < 2:
            return {}
        images = [row.image for row in rows]
        return {name: np.concatenate([of(np.stack([image])) for image in images]) for name, of in self.features.items()}

    def measure(self, start: int, stop: int, total: int, gallery: list[int]) -> Part:
        """Held-out rows [start, stop) of `total`; `gallery`: the rows whose pictures are kept."""
        rows = self._rows("held_out", range(start, stop))
        references = [*rows[1:], *self._rows("held_out", range(stop % total, stop % total + 1))]
        return self.evaluator.measure(rows, references, start, gallery)


def encoder_features(segmenter: Any) -> FeatureFunction:
    """The last map of a U-Net's down path, averaged over the picture: uint8 (N, H, W, 3) -> (N, 320)."""
    import torch
    from torch.nn import functional as F

    from gaugan.images import to_tensor

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        fitted = F.interpolate(to_tensor(images), segmenter.image_size, mode="bilinear", antialias=True)
        fitted = fitted.to(segmenter.device, segmenter.dtype).contiguous(memory_format=segmenter.memory_format)
        pooled: np.ndarray = segmenter.unet.down(fitted)[-1].float().mean(dim=(2, 3)).cpu().numpy()
        return pooled

    return features


def inception_features(uri: str, device: str) -> FeatureFunction:
    """torch-fidelity's Inception (the network of the published FID figures): uint8 (N, H, W, 3) -> (N, 2048).

    Its loader unpickles; so the file is first read as tensors only, and refused when it holds anything else.
    """
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with storage.local_copy(uri) as path:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
            network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
        except Exception as error:
            raise UserError(
                f"--inception {uri}: not the weights of torch-fidelity's Inception "
                f"(weights-inception-2015-12-05-6726825d.pth): {error}"
            ) from error
    network = network.to(device).eval()

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).to(device)
        pooled: np.ndarray = network(batch)[0].float().cpu().numpy()
        return pooled

    return features
