"""Formats that contain the computation: ONNX, TorchScript and torch.export.

Shapes: N = inputs of the comparison, C = classes.
"""

import importlib.util
import json
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtail._io import atomic_write
from longtail.errors import InputError
from longtail.export.graph import ExportedGraph
from longtail.models.classifier import Classifier

FACTS = "longtail.json"
"""Name of the metadata within a TorchScript archive and a torch.export archive."""
TOLERANCE = 1e-3
"""Largest difference of the logits of a file, relative to the largest logit (at least 1)."""
COMPARED = 3
"""Number of inputs of the comparison. It differs from the number of the trace, so a fixed batch size is found."""


Writer = Callable[[ExportedGraph, Tensor, Path, str], None]
"""Function that writes a graph, traced with an example, to a file, with metadata as JSON text."""
Reader = Callable[[Path], Callable[[Tensor], Tensor]]
"""Function from a file to a function from inputs to logits."""


def write_graph(path: Path, kind: str, graph: ExportedGraph, image_size: int, facts: Mapping[str, Any]) -> float | None:
    """Write a graph to a file, and compare the file with the graph before an earlier file is replaced.

    Args:
        path: File to write or replace.
        kind: Format, a key of `GRAPHS`.
        graph: Model from its input to logits and probabilities.
        image_size: Side of the images, in pixels.
        facts: Metadata, as JSON values.

    Returns:
        Largest absolute difference of the logits on random inputs. None without the package onnxruntime.

    Raises:
        InputError: If the network is not supported, or the file gives other logits.
    """
    writer, reader = GRAPHS[kind]
    example = graph.example(2, image_size)
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model"
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # about the exporters themselves
                writer(graph, example, draft, text)
        except Exception as error:  # exporters raise errors of any type about a network that they do not support
            raise _not_exportable(kind, graph.model, error) from error
        difference = _compare(draft, kind, graph, graph.example(COMPARED, image_size, seed=1), reader)
        with atomic_write(path) as file:
            file.write(draft.read_bytes())
    return difference


def _not_exportable(kind: str, model: Classifier, error: Exception) -> InputError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    parts = f"{type(model.backbone).__name__} and {type(model.head).__name__}"
    return InputError(
        f"a model of {parts} cannot be written as {kind} ({reason}); choose another format, such as safetensors"
    )


def _compare(draft: Path, kind: str, graph: ExportedGraph, inputs: Tensor, reader: Reader) -> float | None:
    if kind == "onnx" and importlib.util.find_spec("onnxruntime") is None:
        return None
    with torch.inference_mode():
        expected_NC = graph(inputs)[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found_NC = reader(draft)(inputs)
    except Exception as error:  # the runtimes raise errors of any type
        raise InputError(
            f"the written {kind} file cannot be run: {str(error).strip()[:300]}; choose another format"
        ) from error
    return largest_difference(expected_NC, found_NC, kind)


def largest_difference(expected_NC: Tensor, found_NC: Tensor, kind: str) -> float:
    """Return the largest absolute difference between the logits of a model and those of its file.

    Args:
        expected_NC: Logits of the model, shape (N, C).
        found_NC: Logits of the file, shape (N, C).
        kind: Format of the file, for messages.

    Raises:
        InputError: If the difference exceeds `TOLERANCE`.
    """
    finite = expected_NC.isfinite()
    same = found_NC.shape == expected_NC.shape and torch.equal(found_NC.isfinite(), finite)
    difference = float((found_NC[finite] - expected_NC[finite]).abs().max()) if same else math.inf
    limit = TOLERANCE * max(1.0, float(expected_NC[finite].abs().max()))
    if not difference <= limit:
        raise InputError(
            f"the {kind} file gives other logits than the model (difference {difference:.3g}, at most {limit:.3g} is "
            "allowed); choose another format"
        )
    return difference


def _write_onnx(graph: ExportedGraph, example: Tensor, draft: Path, text: str) -> None:
    program: Any = torch.onnx.export(
        graph,
        (example,),
        dynamo=True,
        input_names=["images" if graph.takes_images else "features"],
        output_names=["logits", "probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    proto = program.model_proto
    for key, value in {"longtail": text, "class_names": json.dumps(json.loads(text)["class_names"])}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    draft.write_bytes(proto.SerializeToString())


def _read_onnx(draft: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: torch.from_numpy(session.run(["logits"], {name: inputs.numpy()})[0])


class _Checked(nn.Module):
    """A traced graph that refuses other types and sizes; tracing alone drops these checks."""

    def __init__(self, graph: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.graph = graph
        self.is_image = example.dtype == torch.uint8
        self.size = list(example.shape[1:])

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Check the input and run the graph."""
        if self.is_image and inputs.dtype != torch.uint8:
            raise ValueError("images must be uint8 with values from 0 to 255; multiply images in [0, 1] by 255")
        if not self.is_image and inputs.dtype != torch.float32:
            raise ValueError("features must be float32")
        if list(inputs.shape[1:]) != self.size:
            raise ValueError("the shape after the batch must be " + str(self.size))
        logits_BC, probabilities_BC = self.graph(inputs)
        return logits_BC, probabilities_BC


def _write_torchscript(graph: ExportedGraph, example: Tensor, draft: Path, text: str) -> None:
    traced = torch.jit.trace(graph, (example,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(torch.jit.script(_Checked(traced, example)), str(draft), _extra_files={FACTS: text})


def _read_torchscript(draft: Path) -> Callable[[Tensor], Tensor]:
    module: Any = torch.jit.load(str(draft))  # type: ignore[no-untyped-call]
    return lambda inputs: module(inputs)[0]


def _write_torch_export(graph: ExportedGraph, example: Tensor, draft: Path, text: str) -> None:
    program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, draft, extra_files={FACTS: text})


def _read_torch_export(draft: Path) -> Callable[[Tensor], Tensor]:
    module = torch.export.load(draft).module()
    return lambda inputs: module(inputs)[0]


GRAPHS: dict[
    str, tuple[Callable[[ExportedGraph, Tensor, Path, str], None], Callable[[Path], Callable[[Tensor], Tensor]]]
]
GRAPHS = {
    "onnx": (_write_onnx, _read_onnx),
    "torchscript": (_write_torchscript, _read_torchscript),
    "torch-export": (_write_torch_export, _read_torch_export),
}
"""Writer and reader of each format that contains the computation."""
