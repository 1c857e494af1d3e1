"""Makes spade.json anew from the published SPADE code, which is not part of this repository (CC BY-NC-SA 4.0).

python tests/golden/regenerate_spade.py PATH_TO_SPADE

PATH_TO_SPADE is a checkout of github.com/NVlabs/SPADE; neither its sync_batchnorm module nor dill is needed, as on one
device it is plain batch norm. Nothing is downloaded, nothing but the numbers is kept.
"""

from __future__ import annotations

import importlib.machinery
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torchvision
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))
from golden import spade_cases as cases  # noqa: E402

OUTPUT = Path(__file__).with_name("spade.json")


def reference(path: Path) -> ModuleType:
    """The published `models.networks`; as its attributes `model` and `dataset` models.pix2pix_model and
    data.base_dataset."""
    missing = [name for name in ("models/networks", "data/base_dataset.py") if not (path / name).exists()]
    if missing:
        raise SystemExit(f"{path}: not the published repository, {' and '.join(missing)} missing; give its folder")
    for name in ("models", "util"):
        package = ModuleType(name)
        package.__path__ = [str(path / name)]
        sys.modules[name] = package
    stand_in: Any = ModuleType("util.util")
    sys.modules["util"].util = sys.modules["util.util"] = stand_in  # type: ignore[attr-defined]
    sync: Any = ModuleType("models.networks.sync_batchnorm")
    sync.SynchronizedBatchNorm2d = nn.BatchNorm2d
    sys.modules["models.networks.sync_batchnorm"] = sync
    sys.path.insert(0, str(path))
    import models.networks as networks  # type: ignore[import-not-found]
    import models.pix2pix_model as model  # type: ignore[import-not-found]

    networks.model = model
    networks.dataset = importlib.machinery.SourceFileLoader("base", f"{path}/data/base_dataset.py").load_module()
    return networks


def options(**changes: Any) -> SimpleNamespace:
    """The published options that the networks read."""
    defaults = {
        "label_nc": cases.CLASSES, "contain_dontcare_label": True, "no_instance": False, "output_nc": 3,
        "semantic_nc": cases.CLASSES + 2, "gpu_ids": [], "isTrain": True, "use_vae": False, "z_dim": 256,
        "norm_D": "spectralinstance", "norm_E": "spectralinstance", "ndf": 4, "num_D": 2, "n_layers_D": 4,
        "netD": "multiscale", "netD_subarch": "n_layer", "netG": "spade", "init_type": "xavier", "init_variance": 0.02,
        "no_ganFeat_loss": False, "no_vgg_loss": True, "lambda_feat": 10.0, "lambda_vgg": 10.0, "lambda_kld": 0.05,
        "gan_mode": "hinge", "beta1": 0.0, "beta2": 0.9, "lr": 0.0002, "no_TTUR": False,
        "resnet_n_downsample": 4, "resnet_n_blocks": 9, "resnet_kernel_size": 3, "resnet_initial_kernel_size": 7,
        "num_upsampling_layers": "normal", "crop_size": 256, "aspect_ratio": 1.0, "ngf": 4,
    }  # fmt: skip
    return SimpleNamespace(**(defaults | changes))


def generator_options(case: dict[str, Any]) -> SimpleNamespace:
    height, width = case["size"]
    return options(
        netG=case["generator"],
        ngf=case["ngf"],
        norm_G=case["norm"],
        crop_size=width,
        aspect_ratio=width / height,
        use_vae=case["z_dim"] is not None,
        z_dim=case["z_dim"] or 256,
        num_upsampling_layers=case.get("upsampling", "normal"),
        resnet_n_downsample=case.get("downsamplings", 4),
        resnet_n_blocks=case.get("blocks", 9),
        resnet_kernel_size=case.get("kernel_size", 3),
        resnet_initial_kernel_size=case.get("initial_kernel_size", 7),
    )


def filled(network: nn.Module, seed: int) -> nn.Module:
    network.load_state_dict(cases.fill({name: value.shape for name, value in network.state_dict().items()}, seed))
    return network


def data(size: tuple[int, int], seed: int) -> dict[str, torch.Tensor]:
    """A batch as the published model takes it: ignored pixels are class label_nc already."""
    label_map = cases.label_maps(size, seed).unsqueeze(1)
    label_map[label_map == 255] = cases.CLASSES
    instance = cases.instance_maps(size, seed).unsqueeze(1)
    return {"label": label_map, "instance": instance, "image": cases.pictures(size, seed)}


def semantics(networks: Any, size: tuple[int, int], seed: int) -> torch.Tensor:
    """The published encoding of the labels."""
    model = networks.model.Pix2PixModel.__new__(networks.model.Pix2PixModel)
    nn.Module.__init__(model)
    model.opt, model.FloatTensor, model.ByteTensor = options(), torch.FloatTensor, torch.ByteTensor
    return model.preprocess_input(data(size, seed))[0]


def generators(networks: Any) -> dict[str, Any]:
    found = {}
    for seed, (name, case) in enumerate(cases.GENERATORS.items()):
        kind = networks.SPADEGenerator if case["generator"] == "spade" else networks.Pix2PixHDGenerator
        network = filled(kind(generator_options(case)), seed)
        labels = semantics(networks, case["size"], seed)
        z = None if case["z_dim"] is None else cases.style_vectors(case["z_dim"], seed)
        with torch.no_grad():
            first = network.eval()(labels, z)
            trained = network.train()(labels, z)  # moves running statistics, u and v
            after = network.eval()(labels, z)
        passes = {"eval": first, "train": trained, "eval_after": after}
        found[name] = {"keys": cases.key_digest(network), **{key: cases.probe(x) for key, x in passes.items()}}
    return found


def discriminators(networks: Any) -> dict[str, Any]:
    found = {}
    for seed, (name, case) in enumerate(cases.DISCRIMINATORS.items()):
        opt = options(ndf=case["ndf"], num_D=case["scales"], n_layers_D=case["layers"], norm_D=case["norm"])
        network = filled(networks.MultiscaleDiscriminator(opt), seed).eval()
        size = (64, 96)
        with torch.no_grad():
            outputs = network(torch.cat([semantics(networks, size, seed), cases.pictures(size, seed)], dim=1))
        features = [[cases.probe(x, 5) for x in scale] for scale in outputs]
        found[name] = {"keys": cases.key_digest(network), "features": features}
    return found


def encoders(networks: Any) -> dict[str, Any]:
    found = {}
    for seed, (name, case) in enumerate(cases.ENCODERS.items()):
        network = filled(networks.ConvEncoder(options(ngf=case["nef"], norm_E=case["norm"])), seed).eval()
        with torch.no_grad():
            mu, logvar = network(cases.pictures((96, 160), seed))
        found[name] = {"keys": cases.key_digest(network), "mu": cases.probe(mu), "logvar": cases.probe(logvar)}
    return found


def trainings(networks: Any) -> dict[str, Any]:
    return {name: training(networks, case) for name, case in cases.TRAININGS.items()}


def training(networks: Any, case: dict[str, Any]) -> dict[str, Any]:
    """The losses of the first steps in the published order, and what they have moved."""
    height, width = case["size"]
    opt = options(
        ngf=case["ngf"], ndf=case["ndf"], norm_G=case["norm"], norm_D=case["norm_d"], gan_mode=case["gan"],
        use_vae=case["z_dim"] is not None, crop_size=width, aspect_ratio=width / height,
    )  # fmt: skip
    model = networks.model.Pix2PixModel(opt)
    for seed, network in enumerate((model.netG, model.netD, model.netE)):
        if network is not None:
            filled(network, seed)
    draws = iter(range(10**6))
    model.reparameterize = lambda mu, logvar: mu + cases.style_noise(mu.shape[1], next(draws)) * (0.5 * logvar).exp()
    optimisers = model.create_optimizers(opt)
    rows = []
    for step in range(cases.STEPS):
        row: dict[str, torch.Tensor] = {}
        turns = [("generator", optimisers[0]), ("discriminator", optimisers[1])]
        for mode, optimiser in turns[1 if step % case.get("d_steps", 1) else 0 :]:
            optimiser.zero_grad()
            answer = model(data(case["size"], step), mode=mode)
            terms = answer[0] if mode == "generator" else answer
            sum(terms.values()).mean().backward()
            optimiser.step()
            row |= terms
        rows.append({name: round(float(value.detach().mean()), 6) for name, value in row.items()})
    nets = [network for network in (model.netG, model.netD, model.netE) if network is not None]
    states = {name: value for network in nets for name, value in network.state_dict().items()}
    return {"losses": rows, "moved": {name: cases.probe(states[name], 4) for name in cases.MOVED if name in states}}


def perceptual(networks: Any) -> dict[str, float]:
    """The published loss with weights from chance, on pictures as they are and on normalised ones."""
    network = torchvision.models.vgg19(weights=None)
    network.features.load_state_dict(cases.vgg_weights({n: v.shape for n, v in network.features.state_dict().items()}))
    with (
        mock.patch.object(torchvision.models, "vgg19", lambda **_: network),
        mock.patch.object(nn.Module, "cuda", lambda self: self),
    ):
        loss = networks.VGGLoss([])
    fake, real = (cases.pictures((32, 48), seed) for seed in (0, 1))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    normalised = [((image + 1) / 2 - mean) / std for image in (fake, real)]
    with torch.no_grad():
        return {"vgg19": round(float(loss(fake, real)), 6), "vgg19-imagenet": round(float(loss(*normalised)), 6)}


def preprocessing(networks: Any) -> dict[str, Any]:
    """Picture and label map after every published mode, with the piece at a given place, and not mirrored."""
    picture, label_map = (Image.fromarray(each) for each in cases.picture_and_labels())
    found = {}
    for mode, case in cases.PREPROCESSING.items():
        height, width = case["size"]
        opt = SimpleNamespace(
            preprocess_mode=mode, load_size=case.get("load", 0), crop_size=width, aspect_ratio=width / height,
            isTrain=True, no_flip=True,
        )  # fmt: skip
        params = {"crop_pos": tuple(reversed(case.get("place", (0, 0)))), "flip": False}
        image = networks.dataset.get_transform(opt, params)(picture)
        ids = networks.dataset.get_transform(opt, params, method=Image.NEAREST, normalize=False)(label_map) * 255
        found[mode] = {"image": cases.probe(image), "label_map": cases.probe(ids[0])}
    return found


def main(path: Path) -> None:
    torch.set_num_threads(1)
    networks = reference(path)
    numbers = {
        "generators": generators(networks),
        "discriminators": discriminators(networks),
        "encoders": encoders(networks),
        "trainings": trainings(networks),
        "perceptual": perceptual(networks),
        "preprocessing": preprocessing(networks),
    }
    text = json.dumps(numbers, indent=1)
    OUTPUT.write_text(re.sub(r"\[[^\[\]{}]+\]", lambda found: " ".join(found[0].split()), text) + "\n")
    print(f"{OUTPUT}: written with torch {torch.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
