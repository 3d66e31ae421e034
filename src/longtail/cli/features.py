"""`longtail features`: write embeddings, logits and labels of a data set to a file."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import Boolean, CommandLine, DataOptions, Device, File, Integer, Name, Threads, given_of

FEATURES = Parameter(group="Features")
FILE = Parameter(group="File")


def main(
    target: Annotated[str, Parameter(metavar="RUN_OR_BACKBONE")],
    data: str | None = None,
    /,
    *,
    options: DataOptions = DataOptions(),
    parts: Annotated[tuple[str, ...] | None, FEATURES, Parameter(metavar="PART")] = None,
    augment: Annotated[Integer, FEATURES] = 0,
    policy: Annotated[Name, FEATURES] = None,
    seed: Annotated[Integer, FEATURES] = None,
    pretrained: Annotated[Boolean, FEATURES] = None,
    device: Annotated[Device, FEATURES] = "auto",
    threads: Annotated[Threads, FEATURES] = None,
    output: Annotated[File, FILE] = None,
    kind: Annotated[Literal["npz", "safetensors", "parquet"], FILE, Parameter(name="--format")] = "npz",
    dtype: Annotated[Literal["float32", "float16"], FILE] = "float32",
    command: CommandLine = "",
) -> None:
    """Write embeddings, logits and labels of a data set to a file, on which `longtail train` can train a head.

    Args:
        target: Folder of a finished run, or a backbone: resnet50, timm/NAME, ...
        data: Name of a data set (longtail list data), or a path. Default: that of the run, or digits-lt.
        options: Options of the data set.
        parts: Splits to write: train, val, test. Default: all that the data set has.
        augment: Augmented views of each training image, in addition to the plain one. Default: 0.
        policy: Augmentation (longtail list augmentations). Default: that of the run.
        seed: Seed of the augmentation and of an untrained backbone. Default: 0.
        pretrained: ImageNet weights (true, the default) or an untrained backbone (false).
        device: Device: cpu, cuda, cuda:1, ... Default: auto.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.
        output: File to write; an existing one is replaced. Default: features.npz.
        kind: Format of the file: npz (the default), safetensors (both read by memory mapping) or parquet.
        dtype: Type of the numbers. float16 halves the file. Default: float32.
        command: Command line as typed.

    Examples:
        longtail features runs/first --output first.npz
        longtail train first.npz --method crt
        longtail features resnet50 photos/ --output photos.npz
        longtail features runs/first --augment 10 --format parquet
    """
    from longtail._logging import progress_bar
    from longtail.cli._output import out, require_writable
    from longtail.run.export_features import ExportOptions, export_features
    from longtail.run.fit import choose_device

    prepare(threads)
    wanted = ExportOptions(
        output=output or Path(f"features.{kind}"),
        kind=kind,
        dtype=dtype,
        parts=None if parts is None else tuple(parts),
        augment=augment or 0,
        policy=policy,
        seed=seed,
    )
    require_writable(wanted.output)
    with progress_bar("embedding", 1, images_per_unit=1) as bar:
        rows, dimensions = export_features(
            target,
            data,
            wanted,
            changes=given_of(options),
            pretrained=None if pretrained is None else pretrained.value,
            device=choose_device(device),
            command=command,
            on_progress=bar.moved_to,
        )
    out.print(f"{rows:,} rows of {dimensions:,} features -> {wanted.output}")
