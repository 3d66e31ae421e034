"""Export trained models: ONNX, TorchScript, torch.export, safetensors, Hugging Face folders and model cards."""

from longtail.export.exporting import KINDS, Exported, export_run, graph_of, kind_of
from longtail.export.graph import ExportedGraph
from longtail.export.restore import load_exported

__all__ = ["KINDS", "Exported", "ExportedGraph", "export_run", "graph_of", "kind_of", "load_exported"]
