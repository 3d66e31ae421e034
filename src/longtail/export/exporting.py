"""Write the model of a run in the format of another program.

Shapes: C = classes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from longtail._imports import check_installed
from longtail._io import atomic_write, write_errors, write_json
from longtail.data.counts import ClassCounts
from longtail.errors import InputError, unknown_name
from longtail.evaluation import adjust_to_prior
from longtail.export import metadata
from longtail.export.card import write_card
from longtail.export.formats import COMPARED, GRAPHS, largest_difference, write_graph
from longtail.export.graph import ExportedGraph
from longtail.export.restore import CONFIG, WEIGHTS, load_exported
from longtail.models.heads import LinearHead, linear_head
from longtail.run.priors import named_prior
from longtail.run.trained import Trained

if TYPE_CHECKING:
    from longtail.run.run import Run

KINDS = {
    "onnx": ".onnx",
    "torchscript": ".pt",
    "torch-export": ".pt2",
    "safetensors": ".safetensors",
    "hf": "",
    "card": ".md",
}
"""Formats, each with its suffix. `hf` is a folder in the layout of the Hugging Face hub."""

PREPROCESSOR = "preprocessor_config.json"
ONNX_PACKAGES = ("onnx", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """An exported file.

    Args:
        path: File or folder.
        kind: Format, a key of `KINDS`.
        difference: Largest absolute difference between the logits of the file and of the model on random inputs. None
            if they were not compared: a card has no logits, and ONNX needs the package onnxruntime.
    """

    path: Path
    kind: str
    difference: float | None


def kind_of(path: Path) -> str:
    """Return the format of a file by its suffix. A path without a suffix is a folder for the Hugging Face hub.

    Raises:
        InputError: If no format has the suffix.

    Example:
        >>> kind_of(Path("model.onnx"))
        'onnx'
    """
    suffixes = {suffix: kind for kind, suffix in KINDS.items()} | {".ts": "torchscript", ".torchscript": "torchscript"}
    if path.is_dir() or not path.suffix:
        return "hf"
    if path.suffix.lower() not in suffixes:
        listed = ", ".join(f"{suffix} ({kind})" for kind, suffix in KINDS.items() if suffix)
        raise InputError(f"the suffix of {path} must be that of a format, {listed}; or set the format")
    return suffixes[path.suffix.lower()]


def export_run(
    run: "Run", output: str | Path, kind: str | None = None, *, test_prior: str | Path | None = None
) -> Exported:
    """Write the model of a run in another format, and compare the file with the model.

    Args:
        run: Finished run.
        output: File to write or replace; a folder for the format "hf".
        kind: Format, a key of `KINDS`. None: by the suffix of `output`.
        test_prior: Class frequencies of the use, to which the exported logits are shifted: "uniform", "train",
            "forward-K", "backward-K" or a file with counts per class. None does not shift.

    Raises:
        InputError: If the format is unknown or a package for it is missing, the model cannot be exported, or the file
            gives other logits than the model. No file is left in these cases.
    """
    path = Path(output).expanduser()
    kind = kind_of(path) if kind is None else kind
    if kind not in KINDS:
        raise unknown_name("export format", kind, KINDS)
    _require(kind)
    graph, trained, prior_C = graph_of(run, test_prior)
    facts = metadata.describe(run, trained, prior_C)
    if kind in GRAPHS:
        return Exported(path, kind, write_graph(path, kind, graph, trained.image_size, facts))
    if kind == "card":
        write_card(path, facts, run)
        return Exported(path, kind, None)
    facts["structure"] = metadata.structure(run, trained)
    difference = _write_weights(path, kind, graph, trained, facts)
    if kind == "hf":
        _write_hub_files(path, facts, run)
    return Exported(path, kind, difference)


def graph_of(run: "Run", test_prior: str | Path | None = None) -> tuple[ExportedGraph, Trained, Tensor | None]:
    """Return the model of a run from its input to probabilities at the class frequencies of the use.

    Args:
        run: Finished run.
        test_prior: Class frequencies, see `export_run`.

    Returns:
        The graph, the trained model in it, and the class frequencies, shape (C,), or None.

    Raises:
        InputError: If the run is not finished, or there are no such class frequencies.
    """
    trained = run.trained()
    if test_prior is None:
        return ExportedGraph(trained.model), trained, None
    prior_C = _prior(run, test_prior)
    shift_C = adjust_to_prior(torch.zeros(1, len(prior_C)), run.model_prior, prior_C)[0]
    return ExportedGraph(trained.model, shift_C), trained, prior_C


def _prior(run: "Run", name: str | Path) -> Tensor:
    if str(name) == "estimate":
        raise InputError(
            "`test_prior` must be known for an export, got 'estimate'; estimate it with `longtail predict`, and give a "
            "file with counts per class"
        )
    return named_prior(name, ClassCounts(run.predictions().class_counts), run.class_names)


def _require(kind: str) -> None:
    for package in ONNX_PACKAGES if kind == "onnx" else ():
        check_installed(package, f"the format onnx needs the package {package}; install longtail[onnx]")


def _write_weights(path: Path, kind: str, graph: ExportedGraph, trained: Trained, facts: Mapping[str, Any]) -> float:
    from safetensors.torch import save

    model, inputs = graph.model, graph.example(COMPARED, trained.image_size, seed=1)
    with torch.inference_mode():
        expected_NC = graph(inputs)[0]
    if graph.shift_C is not None:
        if type(model.head) is not LinearHead:
            raise InputError(
                f"`test_prior` needs a linear head for the format {kind}, which holds weights only, got "
                f"{type(model.head).__name__}; use the format onnx, torchscript or torch-export"
            )
        model.head = linear_head(model.head.weight, model.head.bias + graph.shift_C).eval()
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    content = save(
        tensors, {"longtail": json.dumps(facts, ensure_ascii=False, allow_nan=False)}
    )  # one key: their order is random
    if kind == "hf":
        with write_errors(path):
            path.mkdir(parents=True, exist_ok=True)
    with atomic_write(path / WEIGHTS if kind == "hf" else path) as file:
        file.write(content)
    with torch.inference_mode():
        return largest_difference(expected_NC, load_exported(path).model(inputs), kind)


def _write_hub_files(folder: Path, facts: Mapping[str, Any], run: "Run") -> None:
    names = facts["class_names"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    write_json(folder / CONFIG, {"library_name": "longtail", "num_classes": len(names), **labels, **facts})
    if (steps := facts["preprocessing"]) is not None and steps["resize"]["kind"] != "pad":
        write_json(folder / PREPROCESSOR, _preprocessor(steps))
    write_card(folder / "README.md", facts, run)


def _preprocessor(steps: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preparation in the words of the image processors of transformers, which have none for padding."""
    resize, crop = steps["resize"], steps["crop"]
    size = {"height": resize["size"], "width": resize["size"]} if crop is None else {"shortest_edge": resize["size"]}
    return {
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": 2,  # bilinear
        "do_center_crop": crop is not None,
        **({} if crop is None else {"crop_size": {"height": crop["size"], "width": crop["size"]}}),
        "do_rescale": True,
        "rescale_factor": steps["normalize"]["scale"],
        "do_normalize": True,
        "image_mean": steps["normalize"]["mean"],
        "image_std": steps["normalize"]["std"],
    }
