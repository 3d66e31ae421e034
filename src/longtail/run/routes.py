"""Routes from photographs to a classifier, with the time that each takes on this machine.

| route | what is trained | chosen |
|---|---|---|
| features | a linear head, solved on the features of a frozen pretrained backbone | on a CPU |
| finetune | all layers, from pretrained weights | on an accelerator |
| scratch | all layers, from random weights | where there are no pretrained weights |

Shapes: N = images, D = embedding dimension, C = classes.
"""

import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from longtail.component import Component
from longtail.data.dataset import Dataset, Images, Part
from longtail.data.stream import StreamedImages
from longtail.errors import InputError
from longtail.models.hub import cache_folder
from longtail.models.pretrained import PREFIX, has_cached_weights, torchvision_names
from longtail.models.sources import build_backbone
from longtail.models.weights import installed_weights
from longtail.run.estimate import duration

NETWORKS = (
    "hf/facebook/dinov2-small",
    "resnet50",
    "timm/tf_efficientnet_lite2",
    "timm/tf_efficientnet_lite1",
    "timm/tf_efficientnet_lite0",
    "resnet18",
)
"""Pretrained networks of which the first with weights on this machine is used, best first."""
DEFAULT = {True: "resnet18", False: "resnet50"}
"""Network to download if there are no weights on this machine, by whether the device is a CPU."""
CPU_SIZE = 160
"""Side of the images in pixels for features on a CPU, which takes half the time of 224."""
LONGEST = 4 * 3600.0
"""Seconds above which features are preferred on an accelerator too."""
TOO_LONG = 1800.0
"""Seconds of features on a CPU above which a faster network is preferred."""
PASSES = ((1 << 60, 120), (20_000, 100), (6_000, 350))
"""Pairs of a number of examples and a number of passes over at most these, which solving a head takes."""
FLOPS = {"cpu": 3e10}
"""Floating-point operations per second and thread in solving a head."""
STEP = 3
"""Cost of a training step, in forward passes."""


@dataclass(frozen=True)
class Route:
    """One way to train, with its estimated time.

    Args:
        name: "features", "finetune" or "scratch".
        backbone: Name of the backbone.
        size: Side of the images in pixels.
        seconds: Estimated time.
    """

    name: str
    backbone: str
    size: int
    seconds: float

    def __str__(self) -> str:
        what = {
            "features": f"features of {self.backbone} and a solved head",
            "finetune": f"{self.backbone} fine-tuned",
            "scratch": f"{self.backbone} from scratch",
        }
        return f"{what[self.name]}, images of {self.size} pixels: about {duration(self.seconds)}"


def routes_for(data: Dataset, device: torch.device, epochs: int, backbone: str = "") -> tuple[Route, ...]:
    """Return the routes for a data set of photographs, the recommended one first.

    Args:
        data: Data set.
        device: Device of the training.
        epochs: Epochs of fine-tuning. Training from scratch takes three times as many.
        backbone: Pretrained backbone that the user has chosen, or "".
    """
    on_cpu, size = device.type == "cpu", data.train.images.size
    small = min(size, CPU_SIZE) if on_cpu else size
    reading = reading_seconds(data.train.images)
    known = (backbone,) if backbone else weights_at_hand() or (DEFAULT[on_cpu],)
    found = [Route("features", name, small, _features_seconds(data, name, small, device, reading)) for name in known]
    fast = [route for route in found if route.seconds <= TOO_LONG]
    features = fast[0] if fast else min(found, key=lambda route: route.seconds)
    step = STEP * seconds_per_image(features.backbone, size, device) + reading
    finetune = Route("finetune", features.backbone, size, epochs * len(data.train) * step)
    plain = DEFAULT[on_cpu]
    step = STEP * seconds_per_image(plain, size, device) + reading
    scratch = Route("scratch", plain, size, 3 * epochs * len(data.train) * step)
    if on_cpu or finetune.seconds > LONGEST:
        return features, finetune, scratch
    return finetune, features, scratch


def weights_at_hand() -> tuple[str, ...]:
    """Return the networks of `NETWORKS` whose weights are on this machine, without asking a server."""
    return tuple(name for name in NETWORKS if _at_hand(name))


def _at_hand(name: str) -> bool:
    if name in torchvision_names():
        return has_cached_weights(name)
    try:
        if name.startswith(PREFIX):
            import timm  # noqa: F401

            return installed_weights(name.removeprefix(PREFIX)) is not None
        import transformers  # noqa: F401
    except ImportError:
        return False
    folder = Path(cache_folder()) / f"models--{name.removeprefix('hf/').replace('/', '--')}" / "snapshots"
    return any(folder.glob("*/*.safetensors"))


@cache
def seconds_per_image(backbone: str, size: int, device: torch.device) -> float:
    """Measure the time of a forward pass per image, at random weights, in about a second.

    Args:
        backbone: Name of the backbone.
        size: Side of the images in pixels.
        device: Device of the computation.
    """
    batch = 8 if device.type == "cpu" else 64
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        model = build_backbone(Component(backbone), pretrained=False).to(device).eval()
        images = torch.zeros(batch, 3, size, size, device=device)
        times = []
        for _ in range(4):
            started = time.perf_counter()
            model(images).sum().item()  # waits for the device
            times.append(time.perf_counter() - started)
    return min(times[1:]) / batch


def reading_seconds(images: Images) -> float:
    """Measure the time to read an image, with all workers, from up to 8 of them.

    Args:
        images: Training images.
    """
    picked = torch.linspace(0, len(images) - 1, min(8, len(images))).long()
    started = time.perf_counter()
    try:
        for index in picked.tolist():
            next(iter(images.batches(torch.tensor([[index]]), None)))
    except InputError:  # an unreadable image is reported by the training, which names it
        return 0.0
    return (time.perf_counter() - started) / len(picked) / max(1, getattr(images, "workers", 1))


def _features_seconds(data: Dataset, backbone: str, size: int, device: torch.device, reading: float) -> float:
    images = len(data.train) + len(data.test) + (0 if data.val is None else len(data.val))
    seconds = images * (seconds_per_image(backbone, size, device) + reading)
    passes = sum(min(len(data.train), limit) * count for limit, count in PASSES)
    rate = FLOPS.get(device.type, 1e13) * (torch.get_num_threads() if device.type == "cpu" else 1)
    return seconds + 4 * passes * 1280 * len(data.class_names) / rate


def resized(data: Dataset, size: int | None) -> Dataset:
    """Return a data set whose images on disk are read at another size, and images in memory as they are.

    Args:
        data: Data set.
        size: Side of the images in pixels. None: as it is.
    """

    def of(part: Part) -> Part:
        if size is None or not isinstance(part.images, StreamedImages):
            return part
        return Part(part.images.resized(size), part.targets)

    return replace(data, train=of(data.train), val=None if data.val is None else of(data.val), test=of(data.test))
