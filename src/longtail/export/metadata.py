"""Facts about a trained model that every exported format states: classes, input, priors, origin and scores.

Shapes: S = side of the images, C = classes.
"""

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from longtail.config.convert import to_mapping
from longtail.data.counts import ClassCounts
from longtail.data.views import PADDING, shorter_side
from longtail.models.classifier import Classifier
from longtail.run.trained import Trained
from longtail.version import __version__

if TYPE_CHECKING:
    from longtail.run.run import Run

FORMAT = "longtail-model"
VERSION = 1
SCORES = ("top1", "balanced", "many", "medium", "few", "mcc", "ece")


def describe(run: "Run", trained: Trained, test_prior: Tensor | None) -> dict[str, Any]:
    """Return the metadata of a model as JSON values.

    Args:
        run: Finished run.
        trained: Its model.
        test_prior: Class frequencies to which the exported logits are shifted, shape (C,). None: they are not.
    """
    predictions, result = run.predictions(), run.result
    counts, names = ClassCounts(predictions.class_counts), trained.class_names
    scores = run.scores.to_dict()
    return {
        "format": FORMAT,
        "version": VERSION,
        "longtail": __version__,
        "class_names": list(names),
        "class_counts": counts.counts.tolist(),
        "training_prior": _shares(counts.prior),
        "model_prior": _shares(run.model_prior),
        "test_prior": None if test_prior is None else _shares(test_prior),
        "input": _input(trained.model, trained.image_size),
        "preprocessing": preprocessing(trained) if trained.model.backbone.takes_images else None,
        "outputs": {"logits": [None, len(names)], "probabilities": [None, len(names)]},
        "backbone": result.get("backbone"),
        "run": {key: result.get(key) for key in ("data", "method", "recipe", "seed", "split", "protocol")},
        "scores": {key: _finite(scores[key]) for key in SCORES if key in scores},
    }


def preprocessing(trained: Trained) -> dict[str, Any]:
    """Return the preparation of an image file as the model expects it.

    The steps up to `crop` are left to the caller of an exported graph. Normalization is part of the graph.

    Args:
        trained: Model with its image size.
    """
    model = trained.model
    std = 1 / (255 * model.scale_C11.flatten())
    mean = -model.shift_C11.flatten() * std
    return {
        "color": "RGB",
        "resize": {**_resize(trained), "interpolation": "bilinear", "antialias": True},
        "crop": {"kind": "center", "size": trained.image_size} if trained.resize == "crop" else None,
        "normalize": {"inside_graph": True, "scale": 1 / 255, "mean": _rounded(mean), "std": _rounded(std)},
        "gray_bits": trained.bits,
    }


def structure(run: "Run", trained: Trained) -> dict[str, Any]:
    """Return the JSON values from which `load_exported` rebuilds the network.

    Args:
        run: Finished run.
        trained: Its model.
    """
    return {
        "config": to_mapping(run.config.model),
        "parts": trained.model.structure(),
        "image_size": trained.image_size,
        "bits": trained.bits,
        "resize": trained.resize,
    }


def _resize(trained: Trained) -> dict[str, Any]:
    """Return the side that a resize sets: the shorter one before a crop, both, or the longer one before padding."""
    if trained.resize == "crop":
        return {"kind": "shorter side", "size": shorter_side(trained.image_size)}
    if trained.resize == "squash":
        return {"kind": "both sides", "size": trained.image_size}
    return {"kind": "pad", "size": trained.image_size, "color": list(PADDING)}


def _input(model: Classifier, image_size: int) -> dict[str, Any]:
    if not model.backbone.takes_images:
        shape = [None, model.backbone.embedding_dim]
        return {"kind": "features", "dtype": "float32", "shape": shape, "layout": "BD", "range": None}
    shape = [None, 3, image_size, image_size]
    return {"kind": "images", "dtype": "uint8", "shape": shape, "layout": "BCHW", "range": [0, 255]}


def _shares(prior_C: Tensor) -> list[float]:
    return [float(f"{share:.9g}") for share in prior_C.double().tolist()]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]
