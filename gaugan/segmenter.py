"""A trained U-Net at work: pictures of any size in, label maps of their own size and a confidence out.

The fast path folds every batch norm into its convolution, computes activations inside the convolutions (CPU), keeps
tensors channels-last and computes in bfloat16 where the processor has instructions for it
(benchmarks/unet_inference.py: its speed, its agreement with the plain network).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaugan import checkpoint
from gaugan.config import from_plain
from gaugan.errors import UserError
from gaugan.images import to_tensor
from gaugan.labels import ClassTable
from gaugan.precision import compute_dtype, computes_bf16
from gaugan.unet.config import UNetConfig
from gaugan.unet.fusion import fuse_activations, fuse_batch_norms
from gaugan.unet.networks import UNet
from gaugan.unet.packed import pack_up_path


@dataclass(frozen=True)
class Segmentation:
    """The answer for one picture."""

    label_map: np.ndarray
    """uint8 (H, W) class ids at the picture's own size."""
    confidence: float
    """Mean over the pixels of the largest class probability, 4 decimals."""
    entropy: float
    """Mean over the pixels of the entropy in units of ln(number of classes): 0 = sure, 1 = no idea; 4 decimals."""


class Segmenter:
    """A U-Net checkpoint ready for pictures.

    A picture's answer does not depend on its company: every pass takes `batch_size` pictures, the last one filled up
    (on a CPU one picture is as fast as many). For a fixed batch size and thread count answers repeat bit by bit.
    """

    def __init__(
        self, unet: nn.Module, classes: ClassTable, image_size: tuple[int, int], *, checkpoint_hash: str = "",
        device: str = "cpu", precision: str = "auto", fast: bool = True, mirror: bool = False, batch_size: int = 0,
    ) -> None:  # fmt: skip
        """unet: eval-mode UNet; it is not changed. precision, fast and batch_size as in `load`."""
        self.classes, self.image_size, self.checkpoint_hash = classes, image_size, checkpoint_hash
        self.device, self.mirror = torch.device(device), mirror
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 16)
        native = precision == "auto" or computes_bf16(self.device)
        self.dtype = compute_dtype(precision, self.device) if fast and native else torch.float32
        self.memory_format = torch.channels_last if fast else torch.contiguous_format
        unet = fuse_batch_norms(copy.deepcopy(unet)) if fast else copy.deepcopy(unet)
        self.unet = unet.to(self.device, self.dtype).to(memory_format=self.memory_format)
        self.unet.eval().requires_grad_(False)
        if fast and self.device.type == "cpu":
            if isinstance(self.unet, UNet):
                pack_up_path(self.unet)
            fuse_activations(self.unet)

    @staticmethod
    def load(
        uri: str, device: str = "cpu", precision: str = "auto", fast: bool = True, mirror: bool = False,
        batch_size: int = 0,
    ) -> Segmenter:  # fmt: skip
        """From a checkpoint folder or a run folder.

        precision: "auto" (bf16 where it is faster), "bf16" (when the device computes it natively, else fp32) or "fp32";
        fast=False is the plain fp32 network; mirror=True averages with the mirrored picture: better labels for twice
        the time; batch_size: pictures per pass, 0 = 1 on a CPU, 16 on a GPU.
        Raises UserError when there is no U-Net checkpoint.
        """
        if precision not in ("auto", "bf16", "fp32"):
            raise UserError(f"precision {precision!r}: choose auto, bf16 or fp32")
        saved = checkpoint.load(checkpoint.find(uri))
        if saved.meta["system"] != "unet":
            raise UserError(f'{uri}: a checkpoint of system {saved.meta["system"]!r}; labelling needs one of "unet"')
        config = from_plain(UNetConfig, saved.meta["config"], source=saved.uri)
        unet = UNet(config.version, saved.classes.num_classes, config.widths).eval()
        unet.load_state_dict(saved.state["networks"]["unet_ema"])
        return Segmenter(
            unet, saved.classes, saved.image_size, checkpoint_hash=saved.hash,
            device=device, precision=precision, fast=fast, mirror=mirror, batch_size=batch_size,
        )  # fmt: skip

    @torch.inference_mode()
    def probabilities(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) in [-1, 1] at `image_size` -> (N, C, h, w) float32 on the segmenter's device."""
        images = images.to(self.device, self.dtype).contiguous(memory_format=self.memory_format)
        answer = self.unet(images).float().softmax(1)
        if self.mirror:
            answer = (answer + self.unet(images.flip(3)).float().softmax(1).flip(3)) / 2
        return answer

    def segment(self, images: Sequence[np.ndarray]) -> list[Segmentation]:
        """uint8 (H, W, 3) pictures of any sizes -> one Segmentation each, in order.

        A picture is scaled to fit `image_size`, its border repeated to fill it; probabilities are interpolated back.
        """
        answers: list[Segmentation] = []
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            ready = [fit(to_tensor(image, self.device)[None], self.image_size) for image in part]
            fitted = torch.cat(ready) if len(ready) > 1 else ready[0]
            if len(part) < self.batch_size:
                fitted = F.pad(fitted, (0, 0, 0, 0, 0, 0, 0, self.batch_size - len(part)))
            for image, answer in zip(part, self.probabilities(fitted), strict=False):
                answers.append(segmentation(unfit(answer[None], image.shape[:2])))
        return answers


def _scaled(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The largest height and width of the aspect of `size` within `target`."""
    scale = min(target[0] / size[0], target[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fit(image: Tensor, target: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) -> (1, 3, *target): scaled to fit (antialiased), centred, the border repeated outwards."""
    size = image.shape[2], image.shape[3]
    if size == tuple(target):
        return image
    height, width = _scaled(size, target)
    if (height, width) != size:
        image = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    return F.pad(image, (left, target[1] - width - left, top, target[0] - height - top), mode="replicate")


def unfit(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `fit` for its answer: (1, C, h, w) -> (1, C, *size)."""
    height, width = _scaled(size, (probabilities.shape[2], probabilities.shape[3]))
    top, left = (probabilities.shape[2] - height) // 2, (probabilities.shape[3] - width) // 2
    inner = probabilities[:, :, top : top + height, left : left + width]
    return inner if (height, width) == size else F.interpolate(inner, size, mode="bilinear")


def segmentation(probabilities: Tensor) -> Segmentation:
    """(1, C, H, W) -> label map, confidence and entropy."""
    confidence, label_map = probabilities[0].max(0)
    entropy = -torch.xlogy(probabilities[0], probabilities[0]).sum(0) / np.log(probabilities.shape[1])
    return Segmentation(
        label_map.to(torch.uint8).cpu().numpy(), round(float(confidence.mean()), 4), round(float(entropy.mean()), 4)
    )
