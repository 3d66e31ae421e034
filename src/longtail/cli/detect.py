"""`longtail detect`: train a detector on long-tailed data, and detect objects in images."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import CommandLine, Device, Folder, Integer, Name, Number, Threads, read_setting
from longtail.errors import InputError, first_ten

if TYPE_CHECKING:
    from longtail.detection.settings import DetectionConfig

Place = Annotated[str | None, Parameter(metavar="PATH")]


def train(
    data: str = "shapes-lt",
    /,
    *,
    images: Place = None,
    val: Place = None,
    val_images: Place = None,
    method: Name = None,
    recipe: Name = None,
    seed: Integer = None,
    epochs: Integer = None,
    batch_size: Integer = None,
    lr: Number = None,
    device: Device = "auto",
    settings: Annotated[tuple[str, ...], Parameter(name="--set", metavar="KEY=VALUE")] = (),
    out: Folder = None,
    resume: bool = False,
    threads: Threads = None,
    command: CommandLine = "",
) -> None:
    """Train a detector, evaluate it once, and write a report.

    Args:
        data: Annotations: a COCO or LVIS file, or a folder with them; or shapes-lt, a small example with drawn
            shapes. Default: shapes-lt.
        images: Folder of the images. Default: found next to the annotations.
        val: Annotations on which the detector is evaluated. Default: a fifth of the images is held out.
        val_images: Folder of the images of --val. Default: that of --images.
        method: Method: softmax, balanced-softmax, balanced-sigmoid, balms, seesaw, equalization, repeat-factor, ...
            Default: balanced-sigmoid.
        recipe: Recipe: shapes, own, lvis-r50 or lvis-v1. Default: shapes for the example, own for other data.
        seed: Seed of initialization, order and augmentation. Default: 0.
        epochs: Number of epochs of the training stage. The schedule keeps its shape.
        batch_size: Images per step of the training stage.
        lr: Peak learning rate of the training stage.
        device: Device: cpu, cuda, cuda:1, ... Default: auto.
        settings: Any setting, by its path in config.yaml.
        out: Folder of the run. Default: runs/DATA-METHOD-seedN.
        resume: Resume the run in --out.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.
        command: Command line as typed.

    Examples:
        longtail detect train --method balms
        longtail detect train instances.json --images photos/ --method repeat-factor --out runs/first
        longtail detect train lvis_train.json --val lvis_val.json --images lvis/ --recipe lvis-r50 --method balms
        longtail detect train --set model.class_agnostic=false --epochs 2
    """
    if resume and out is None:
        raise InputError("`--resume` needs `--out`, the folder of the run to resume")
    chosen = prepare(threads)
    from longtail.cli._output import console
    from longtail.cli._output import out as results
    from longtail.detection.run import fit_detector
    from longtail.detection.settings import compose
    from longtail.report.detection import detection_table

    length = {"epochs": epochs, "iterations": None} if epochs is not None else {}
    optimizer = {"optimizer": {"lr": lr}} if lr is not None else {}
    training = {**length, **({} if batch_size is None else {"batch_size": batch_size}), **optimizer}
    places = {"images": images, "val": val, "val_images": val_images}
    changes: list[dict[str, Any]] = [
        {"data": {name: value for name, value in places.items() if value is not None}, "device": device},
        {"train": {"training": training}},
        {} if seed is None else {"seed": seed},
        *(_nested(*read_setting(text)) for text in settings),
    ]
    config = compose(data, method or "balanced-sigmoid", recipe, changes)
    folder = out or _new_folder(config)
    setting = f"{config.model.architecture}; recipe {config.recipe}, {config.train.training.length}; seed {config.seed}"
    about = f"training {config.method} on {config.data.name} ({setting}) -> {folder}"
    run = fit_detector(
        config,
        folder,
        resume=resume,
        command=command,
        on_start=partial(_print_all, [str(chosen), about], console),
    )
    assert run.scores is not None
    results.print(detection_table({config.method: run.scores}))
    results.print(f"report: {folder / 'report.html'}")


def predict(
    run: Path,
    images: Annotated[tuple[Path, ...], Parameter(metavar="IMAGE")],
    /,
    *,
    output: Annotated[Path, Parameter(metavar="FILE")] = Path("detections.json"),
    draw: Folder = None,
    min_score: Number = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Detect objects in images with a trained run.

    The result file is a JSON list in the layout of COCO. `image_id` is the position of the image among the sorted
    paths, from 1, and `file_name` its path.

    Args:
        run: Folder of a finished detection run.
        images: Images, or folders of images.
        output: Result file to write; an existing one is replaced. Default: detections.json.
        draw: Folder for the images with boxes and masks. Default: no drawings.
        min_score: Smallest score of a drawn detection. Default: 0.5.
        device: Device: cpu, cuda, cuda:1, ... Default: auto.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.

    Examples:
        longtail detect predict runs/first new_photos/ --output detections.json --draw drawn/
    """
    from longtail.cli._output import out, require_writable
    from longtail.data.files import check_all, find_images
    from longtail.data.scan import Selection
    from longtail.detection.run import DetectionRun, predict_files
    from longtail.ranges import check_number

    prepare(threads)
    check_number("min_score", min_score, optional=True, at_least=0, at_most=1)
    require_writable(output)
    if draw is not None and draw.exists() and not draw.is_dir():
        raise InputError(f"`draw` must be a folder, and {draw} is a file; give another path")
    finished = DetectionRun(run)
    found = find_images(images, Selection())
    checked = check_all(found, "skip")
    paths = [found[index] for index in checked.readable.tolist()]
    if len(paths) < len(found):
        listed = first_ten(f"{error.path}: {error.reason}" for error in checked.bad)
        raise InputError(f"{len(found) - len(paths)} images cannot be read:\n{listed}\nremove or replace them")
    number = predict_files(finished, paths, output, device, draw, 0.5 if min_score is None else min_score)
    out.print(f"{number} detections in {len(paths)} images -> {output}")


def _nested(path: str, value: Any) -> dict[str, Any]:
    """Return a value of a dotted path as nested mappings."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def _new_folder(config: "DetectionConfig") -> Path:
    """Return a folder that does not exist yet: runs/DATA-METHOD-seedN, with a number if that is taken."""
    name = f"{Path(config.data.name).stem}-{config.method}-seed{config.seed}"
    place, number = Path("runs") / name, 1
    while place.exists():
        number += 1
        place = Path("runs") / f"{name}-{number}"
    return place


def _print_all(lines: list[str], console: Any) -> None:
    for line in lines:
        console.print(line)
