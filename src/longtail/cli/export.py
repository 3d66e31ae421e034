"""`longtail export`: write a trained model in the format of another program."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import File, Name, Threads
from longtail.errors import InputError


def main(
    run: Path,
    /,
    *,
    to: Literal["onnx", "torchscript", "torch-export", "safetensors", "hf", "card"] | None = None,
    output: File = None,
    test_prior: Annotated[str | None, Parameter(metavar="PRIOR")] = None,
    push: Name = None,
    threads: Threads = None,
) -> None:
    """Write a trained model in the format of another program, and compare the file with the model.

    The graph formats (onnx, torchscript, torch-export) take uint8 images (B, 3, S, S), normalize them, and return
    logits and probabilities. Class names, class frequencies and the preparation of image files are metadata.

    Args:
        run: Folder of a finished run.
        to: Format. Default: by the suffix of the output; onnx without an output. The format hf is a folder for the
            Hugging Face hub, card its README.md alone.
        output: File or folder to write; an existing file is replaced. Default: model with the suffix of the format.
        test_prior: Class frequencies of the use, to which the logits are shifted: uniform, train, forward-K,
            backward-K, or a file with counts per class.
        push: Repository of the Hugging Face hub to upload the folder to, as NAME/MODEL. Default: no upload.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.

    Examples:
        longtail export runs/first --output first.onnx
        longtail export runs/first --to hf --output first --test-prior train
    """
    from longtail.cli._output import console, out
    from longtail.export import KINDS, export_run, kind_of
    from longtail.export.hub import check_upload, upload
    from longtail.run import Run

    prepare(threads)
    kind = to or ("onnx" if output is None else kind_of(output))
    path = output or Path("README.md" if kind == "card" else f"model{KINDS[kind]}")
    if push is not None:
        if kind != "hf":
            raise InputError(f"`push` uploads the folder of the format hf, got the format {kind}; set `to` to hf")
        check_upload(push)
    _require_place(path, kind)
    written = export_run(Run.load(run), path, kind, test_prior=test_prior)
    if written.difference is None:
        how = "" if kind == "card" else " (not compared with the model: install onnxruntime)"
    else:
        how = f" (largest difference of the logits from the model: {written.difference:.2g})"
    out.print(f"{kind} -> {path}{how}")
    if push is not None:
        console.print(f"uploaded to {upload(path, push)}")


def _require_place(path: Path, kind: str) -> None:
    """Check before the work that the file or the folder can be written."""
    from longtail.cli._output import require_writable

    if kind != "hf":
        require_writable(path)
    elif path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, and the format hf is a folder; give another path")
    else:
        require_writable(path.resolve() / "README.md" if path.is_dir() else path)
