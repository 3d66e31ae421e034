"""A detection run: data -> detector -> stages -> scores -> the files of the run folder; and its later use."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from longtail import _random as randomness
from longtail._io import atomic_write, write_json, write_text
from longtail._logging import progress_bar
from longtail.config.convert import leaves, to_mapping, write_yaml
from longtail.config.recipes import read_file
from longtail.data.decode import decode_image
from longtail.detection import read_annotations, shapes_lt
from longtail.detection.adjust import adjust_classifier
from longtail.detection.architectures import build_detector
from longtail.detection.data import DetectionDataset, Objects, Verified
from longtail.detection.evaluation import DetectionScores, evaluate_detections, use_groups_of
from longtail.detection.model import Detector
from longtail.detection.results import Detections, Record, draw, encode_masks, records_of, to_records, write_results
from longtail.detection.settings import DetectionConfig, DetectionDataConfig, typed
from longtail.detection.training import DetectionSource, finetune_classifier, train_detector
from longtail.errors import InputError, naming
from longtail.run.fit import choose_device
from longtail.run.folder import already_taken, folder_lock, is_taken
from longtail.run.result import describe_cost, describe_versions
from longtail.training.checkpoint import CheckpointStore, applying
from longtail.training.context import Context, stopping_on_signals
from longtail.training.log import RunLog

logger = logging.getLogger("longtail")

FREE = ("device", "checkpoint_seconds", "data.workers", "data.images", "data.val_images")
"""Settings that change where a run happens, not its result."""
DETECT_BATCH = 8


def fit_detector(
    config: DetectionConfig,
    folder: Path | str,
    *,
    resume: bool = False,
    command: str = "",
    report: bool = True,
    on_start: Callable[[], None] = lambda: None,
) -> "DetectionRun":
    """Train a detector by a configuration, evaluate it once, and write the run folder.

    Args:
        config: Configuration, see `longtail.detection.settings.compose`.
        folder: Run folder. It receives config.yaml, log.jsonl, checkpoint/, detections.json, result.json and
            report.html.
        resume: Continue an interrupted run in `folder`. A folder without a run starts a new one.
        command: Command of the user, for the result.
        report: Write report.html too.
        on_start: Called after all checks, before the run folder is created.

    Returns:
        The finished run.

    Raises:
        InputError: For invalid input, a folder that holds another run, or a loss that is not finite.
        Interrupted: If the user asked to stop. The state is saved.
    """
    folder = Path(folder)
    device = choose_device(config.device)
    saved = _checkpoint(folder, config, resume)
    train, test = load_detection_data(config.data)
    split = fingerprint(train)
    if saved is not None and saved["split"] != split:
        raise InputError(f"{folder} was trained on other annotations; start a new run in another folder")
    model = build_detector(
        config.model, config.train.classifier, len(train.categories), train.has_masks, config.seed
    ).to(device)
    on_start()
    with folder_lock(folder, "training into"):
        if is_taken(folder) and not resume:  # another process has trained into it since the first check
            raise already_taken(folder)
        write_text(folder / "config.yaml", write_yaml(to_mapping(config)))
        context = _context(config, folder, split, device, saved)
        with stopping_on_signals(context.stop):
            _run_stages(model, DetectionSource(train, config.view, config.data.workers), config, context)
        scores = _evaluate(model, test, config, folder)
        write_json(folder / "result.json", _result(config, train, test, context, scores, command))
        run = DetectionRun(folder)
        run.scores = scores
        if report:
            from longtail.report.detection_page import write_detection_report

            write_detection_report(run, test)
    return run


def _checkpoint(folder: Path, config: DetectionConfig, resume: bool) -> dict[str, Any] | None:
    """Return the checkpoint of an interrupted run, if there is one to continue."""
    if not is_taken(folder):
        return None
    if not resume:
        raise already_taken(folder)
    old, new = (leaves(to_mapping(each)) for each in (DetectionRun(folder).config, config))
    changed = sorted(key for key in (old.keys() | new.keys()) - set(FREE) if old.get(key) != new.get(key))
    if changed:
        raise InputError(
            f"{folder} holds a run with another {changed[0]} ({old.get(changed[0])}, now {new.get(changed[0])}); "
            "resume it with the same settings, or choose another folder"
        )
    return CheckpointStore(folder / "checkpoint").load()


def load_detection_data(config: DetectionDataConfig) -> tuple[DetectionDataset, DetectionDataset]:
    """Return the training images and those on which the detector is evaluated.

    Args:
        config: Data of a run.

    Raises:
        InputError: If annotations or images are missing or not valid, or the classes of the two parts differ.
    """
    if config.name == "shapes-lt":
        return shapes_lt("train", seed=config.seed), shapes_lt("test", seed=config.seed)
    train = read_annotations(config.name, config.images)
    if config.val is not None:
        test = read_annotations(config.val, config.val_images or config.images)
        if test.categories != train.categories:
            raise InputError(
                f"`val` must have the classes of the training annotations in the same order, but {config.val} differs; "
                "write `categories` of both files alike"
            )
        use_groups_of(test, train)
        return train, test
    order_N = torch.randperm(len(train), generator=randomness.generator("detection split", config.seed))
    held_out = max(1, round(config.val_share * len(train)))
    if held_out >= len(train):
        raise InputError(f"{config.name} has {len(train)} images, too few to hold out some; give `val`")
    test, rest = (subset(train, part.sort().values.tolist()) for part in (order_N[:held_out], order_N[held_out:]))
    use_groups_of(test, rest)
    return rest, test


def subset(data: DetectionDataset, indices: Sequence[int]) -> DetectionDataset:
    """Return some of the images of a data set with their objects.

    Args:
        data: Data set whose images are files.
        indices: Positions of the images.
    """
    objects, verified = data.objects, data.verified
    picked = [objects.of(index) for index in indices]
    order_A = np.concatenate([*picked, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    part = Objects(
        np.cumsum([0, *(len(each) for each in picked)]),
        objects.boxes_A4[order_A],
        objects.labels_A[order_A],
        objects.crowd_A[order_A],
        objects.areas_A[order_A],
        objects.ids_A[order_A],
        objects.segments.take(order_A),
    )
    if verified is not None:
        verified = Verified(*([lists[i] for i in indices] for lists in (verified.negatives, verified.incomplete)))
    return DetectionDataset(
        [data.images[index] for index in indices], data.categories, data.category_ids, part, verified=verified
    )


def fingerprint(data: DetectionDataset) -> str:
    """Return a digest of the names of the images and of all boxes and classes."""
    digest = hashlib.sha256("\n".join([*data.categories, *(image.file.name for image in data.images)]).encode())
    for array in (data.objects.starts_N, data.objects.boxes_A4, data.objects.labels_A, data.objects.crowd_A):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _context(
    config: DetectionConfig, folder: Path, split: str, device: torch.device, saved: dict[str, Any] | None
) -> Context:
    saved = saved or {"stage": 0, "epoch": 0, "seconds": 0.0, "images": 0}
    return Context(
        seed=config.seed,
        stage=saved["stage"],
        split=split,
        device=device,
        store=CheckpointStore(folder / "checkpoint"),
        log=RunLog(folder / "log.jsonl", (saved["stage"], saved.get("epoch", 0)), (), to_mapping(config)),
        saved=saved if "model" in saved else None,
        seconds=saved["seconds"],
        images=saved["images"],
        chosen=saved.get("chosen", {}),
        compute=saved.get("compute", {}),
        checkpoint_seconds=config.checkpoint_seconds,
    )


def _run_stages(model: Detector, source: DetectionSource, config: DetectionConfig, context: Context) -> None:
    stages = [
        lambda: train_detector(model, source, config.train, context),
        lambda: _finetune(model, source, config, context),
        lambda: _adjust(model, source, config),
    ]
    if context.saved is not None:
        with applying(context.saved):
            model.load_state_dict(context.saved["model"])
    for index in range(context.stage, len(stages)):
        context.stage = index
        if context.saved is not None and "epoch" not in context.saved:
            context.saved = None  # the checkpoint closed the stage before
        stages[index]()
        context.saved, context.stage = None, index + 1
        context.store.save({**context.place(), "model": model.state_dict()})
    model.eval()


def _finetune(model: Detector, source: DetectionSource, config: DetectionConfig, context: Context) -> None:
    if config.finetune is not None:
        reweigher = finetune_classifier(model, source, config.finetune, context)
        if reweigher is not None:
            context.chosen["class_rates"] = reweigher.rates.tolist()


def _adjust(model: Detector, source: DetectionSource, config: DetectionConfig) -> None:
    if config.adjust is not None:
        adjust_classifier(model.predictor, config.adjust.correction, config.adjust.tau, source.data.instance_counts_C)


def _evaluate(model: Detector, test: DetectionDataset, config: DetectionConfig, folder: Path) -> DetectionScores:
    """Detect on the test images, write the result file and return the scores."""
    found = list(detect(model, test, config))
    records = to_records(found, test)
    write_results(folder / "detections.json", records)
    return evaluate_detections(records, test, max_per_image=config.model.detections)


def detect(model: Detector, data: DetectionDataset, config: DetectionConfig) -> Iterator[Detections]:
    """Yield the detections in each image of a data set.

    Args:
        model: Detector in evaluation mode.
        data: Images.
        config: Configuration with the sizes of the images.
    """
    device = model.predictor.cls_score.weight.device
    rows = [each.tolist() for each in torch.split(torch.arange(len(data)), DETECT_BATCH)]
    with progress_bar("detecting", len(data), images_per_unit=1) as bar:
        for row in rows:
            order_SB = torch.tensor([row])
            for batch in data.batches(order_SB, view=config.view, device=device, workers=0):
                sizes = [(data.images[index].height, data.images[index].width) for index in row]
                found = model.detect([image for image, _ in batch], sizes)
                yield from (_packed(data.images[i].id, each) for i, each in zip(row, found, strict=True))
            bar.advance(len(row))


def _packed(image_id: int, found: dict[str, Tensor]) -> Detections:
    masks = encode_masks(found["masks"][:, 0] > 0.5) if "masks" in found else None
    return Detections(image_id, found["boxes"].cpu(), found["scores"].cpu(), found["labels"].cpu(), masks)


def _result(
    config: DetectionConfig,
    train: DetectionDataset,
    test: DetectionDataset,
    context: Context,
    scores: DetectionScores,
    command: str,
) -> dict[str, Any]:
    return {
        "task": "detection",
        "data": Path(config.data.name).name,
        "method": config.method,
        "recipe": config.recipe,
        "seed": config.seed,
        "classes": list(train.categories),
        "category_ids": list(train.category_ids),
        "groups": list(test.groups),
        "images": {"train": len(train), "test": len(test)},
        "image_counts": train.image_counts_C.tolist(),
        "instance_counts": train.instance_counts_C.tolist(),
        "split": context.split,
        "evaluated_on": "test split" if config.data.name == "shapes-lt" else config.data.val or "held-out images",
        "chosen": context.chosen,
        "compute": context.compute,
        "test": scores.to_dict(),
        "cost": describe_cost(context),
        "versions": describe_versions(),
        "repairs": {**train.repairs},
        "command": command,
    }


class DetectionRun:
    """A finished detection run.

    Args:
        folder: Folder that `longtail detect train` wrote.

    Raises:
        InputError: If the folder holds no detection run.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()
        self.scores: DetectionScores | None = None
        path = self.folder / "config.yaml"
        if not path.exists():
            raise InputError(
                f"{folder} holds no run (no config.yaml); give the folder that `longtail detect train` wrote"
            )
        with naming(path):
            self.config: DetectionConfig = typed(read_file(path))

    @cached_property
    def result(self) -> dict[str, Any]:
        """Content of result.json.

        Raises:
            InputError: If the run is not finished.
        """
        path = self.folder / "result.json"
        if not path.is_file():
            raise InputError(
                f"the run in {self.folder} is not finished; resume it with: longtail detect train --resume --out "
                f"{self.folder}"
            )
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return content

    def model(self, device: str = "cpu") -> Detector:
        """Return the trained detector in evaluation mode.

        Args:
            device: Device name.
        """
        result = self.result
        saved = CheckpointStore(self.folder / "checkpoint").load()
        if saved is None:
            raise InputError(f"{self.folder} holds no checkpoint; train again")
        has_masks = any(name.startswith("net.roi_heads.mask_predictor") for name in saved["model"])
        config = replace(self.config.model, weights=None)
        model = build_detector(config, self.config.train.classifier, len(result["classes"]), has_masks, 0)
        with applying(saved):
            model.load_state_dict(saved["model"])
        return model.to(choose_device(device)).eval()


def predict_files(
    run: DetectionRun, paths: Sequence[Path], output: Path, device: str, folder: Path | None, min_score: float
) -> int:
    """Detect objects in image files, write the result file and, on request, drawings.

    Args:
        run: Finished run.
        paths: Image files.
        output: Result file. `image_id` is the position of the file, from 1.
        device: Device name.
        folder: Folder for the drawings; None draws nothing.
        min_score: Smallest score of a drawn detection.

    Returns:
        The number of detections.
    """
    model, result = run.model(device), run.result
    where = model.predictor.cls_score.weight.device
    records: list[Record] = []
    with progress_bar("detecting", len(paths), images_per_unit=1) as bar:
        for number, path in enumerate(paths, 1):
            pixels = decode_image(path)
            size = (int(pixels.shape[1]), int(pixels.shape[2]))
            view = transforms.resize(pixels, list(run.config.view.size(*size)), antialias=True)
            found = _packed(number, model.detect([view.to(where)], [size])[0])
            named = records_of([found], result["category_ids"])
            records += [{**record, "file_name": str(path)} for record in named]
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                drawn = draw(pixels, found, result["classes"], min_score=min_score)
                with atomic_write(folder / f"{number:06d}-{path.stem}.png") as file:
                    Image.fromarray(drawn.permute(1, 2, 0).numpy()).save(file, "PNG")
            bar.advance()
    write_results(output, records)
    return len(records)
