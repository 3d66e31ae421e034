"""A finished run: the one reader of a run folder.

Shapes: N = images, C = classes, H x W = image size.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtail.config.schema import Config, DataConfig
from longtail.data.counts import ClassCounts
from longtail.data.decode import BadImage, Decoding
from longtail.data.files import check_all, find_images
from longtail.data.resident import ResidentImages
from longtail.data.scan import Selection
from longtail.data.stream import StreamedImages
from longtail.data.views import fit_image
from longtail.errors import InputError, naming
from longtail.evaluation import Predictions, Scores, group_options, read_predictions, read_result
from longtail.models.classifier import Classifier, restore_classifier
from longtail.run.folder import fold_folder, is_cross_validation, load_config, not_finished
from longtail.run.priors import TestPrior, model_prior, to_prior
from longtail.run.trained import Trained
from longtail.training.checkpoint import CheckpointStore, applying
from longtail.training.log import read_rows
from longtail.training.predict import predict

if TYPE_CHECKING:
    from longtail.export import Exported

ImageLike = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
"""An image as `Run.predict` accepts it."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """Answers of a model to unlabeled images.

    Args:
        probabilities: Softmax of the logits, float32, shape (N, C).
        class_names: Names of the C classes, in the order of the columns.
        paths: Image files, if the images came from files; else None.
        unreadable: Image files that were left out because they cannot be read, each with the reason.
        prior: Class prior to which the probabilities were shifted, float64, shape (C,). None if they were not.
    """

    probabilities: Tensor
    class_names: tuple[str, ...]
    paths: tuple[Path, ...] | None = None
    unreadable: tuple[tuple[Path, str], ...] = ()
    prior: Tensor | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def labels(self) -> list[str]:
        """Name of the most likely class of each image."""
        return [self.class_names[index] for index in self.probabilities.argmax(dim=1).tolist()]


class Run:
    """A finished run. Files are read on first use and then kept.

    Args:
        folder: Folder that `longtail train` or `longtail.train` wrote.

    Raises:
        InputError: If the folder holds no run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.config: Config = load_config(self.folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Return the run in a folder.

        Raises:
            InputError: If the folder holds no run, or the run is not finished.
        """
        run = cls(folder)
        if not (run.folder / "result.json").is_file():
            raise not_finished(run.folder)
        return run

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def result(self) -> dict[str, Any]:
        """Content of `result.json`."""
        return read_result(self.folder / "result.json")

    @cached_property
    def groups(self) -> dict[str, Any]:
        """Options of `evaluate_logits` by which this run groups its classes: `many`, `few` and `groups`."""
        own = {"many": self.config.many, "few": self.config.few, "groups": self.config.groups}
        with naming(self.folder / "result.json"):
            return group_options(self.result.get("class_groups")) or own

    @cached_property
    def scores(self) -> Scores:
        """Scores of the test split."""
        return self.predictions().scores(**self.groups)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes, in the order of the logits."""
        return self.predictions().class_names

    @property
    def model_prior(self) -> Tensor:
        """Class prior that the softmax of the model assumes, float64, shape (C,); see `longtail.run.priors`."""
        return model_prior(self.config.stages, ClassCounts(self.predictions().class_counts))

    def predictions(self) -> Predictions:
        """Return the predictions on the test split."""
        return self._predictions

    @cached_property
    def _predictions(self) -> Predictions:
        if not (self.folder / "predictions.npz").is_file():
            raise not_finished(self.folder)
        return read_predictions(self.folder)

    @property
    def decoding(self) -> Decoding:
        """Settings to read new images with, apart from those that only the checkpoint has."""
        return Decoding(max_pixels=self.config.data.max_pixels)

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """Rows of `log.jsonl`, one per epoch."""
        return read_rows(self.folder / "log.jsonl")

    def checkpoint(self) -> dict[str, Any]:
        """Return the final checkpoint.

        Raises:
            InputError: If the run is not finished, or the checkpoint cannot be read.
        """
        if is_cross_validation(self.config):
            raise InputError(
                f"{self.folder} holds several models, one per fold; give {fold_folder(self.folder, 0)}, for example"
            )
        saved = CheckpointStore(self.folder / "checkpoint").load()
        if saved is None or saved["stage"] < len(self.config.stages):
            raise not_finished(self.folder)
        return saved

    def model(self, device: str | torch.device = "cpu") -> Classifier:
        """Return the trained model in evaluation mode. The data set is not needed.

        Args:
            device: Device of the returned model.

        Raises:
            InputError: If the run is not finished, or the checkpoint cannot be read.
        """
        return self.trained(device).model

    def predict(
        self,
        images: ImageLike | Sequence[ImageLike],
        device: str | torch.device = "cpu",
        on_batch: Callable[[int], None] | None = None,
        *,
        on_bad_image: Literal["fail", "skip"] = DataConfig.on_bad_image,
        workers: int | None = DataConfig.workers,
        follow_links: bool = DataConfig.follow_links,
        include: Sequence[str] | None = DataConfig.include,
        exclude: Sequence[str] | None = DataConfig.exclude,
        path_column: str | None = DataConfig.path_column,
        max_pixels: int | None = None,
        test_prior: TestPrior | None = None,
    ) -> Predicted:
        """Classify images with the plain view that the evaluation uses.

        The keywords are those of `longtail.train`, with the same defaults. They apply to files.

        Args:
            images: One image or a sequence of images. A path may be a file, a folder, which is searched, or a Parquet
                table with the bytes of images. Arrays and tensors are RGB: uint8 of shape (H, W, 3) for arrays and
                (3, H, W) for tensors, or floats in [0, 1].
            device: Device of the computation.
            on_batch: Called with the number of images of each finished batch.
            on_bad_image: "fail" stops at an unreadable image. "skip" leaves it out and names it in
                `Predicted.unreadable`.
            workers: Processes that read the images. None starts one per core, at most 8.
            follow_links: Follow symbolic links that lead out of a folder.
            include: Patterns of the image files of a folder to use.
            exclude: Patterns of the files and folders to leave out.
            path_column: Column of the images in a table. Default: the first that holds bytes.
            max_pixels: Largest number of pixels of an image file. None takes that of the run.
            test_prior: Class frequencies among the images, to which the probabilities are shifted: "uniform", "train",
                "estimate" (from these images), "forward-K", "backward-K", a file with counts per class, or shares by
                class name. None leaves the probabilities as the model gives them.

        Raises:
            InputError: If a file cannot be read, or an array has another shape, type or range.
        """
        if isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor)):
            images = [images]
        if not isinstance(images, Iterable) or isinstance(images, bytes) or not (images := list(images)):
            raise InputError(f"`images` must be one image or a sequence of at least one, got {images!r}")
        trained = self.trained(device)
        if not all(isinstance(image, (str, Path)) for image in images):
            size, resize = trained.image_size, trained.resize
            pixels = torch.stack([fit_image(to_pixels(image), size, resize) for image in images])
            with naming(self.folder):
                logits_NC, _ = predict(trained.model, ResidentImages(pixels, device), on_batch)
            return self._answers(logits_NC, trained.class_names, test_prior)
        selection = Selection(tuple(include or ()), tuple(exclude or ()), follow_links)
        paths = find_images([Path(image) for image in images], selection, path_column)  # type: ignore[arg-type]
        how = Decoding(trained.bits, max_pixels or self.decoding.max_pixels, trained.resize)
        bad: tuple[BadImage, ...] = ()
        if on_bad_image == "skip":
            checked = check_all(paths, on_bad_image, how=how)
            bad, paths = checked.bad, [paths[index] for index in checked.readable.tolist()]
            if not paths:
                raise InputError(f"none of the {len(bad):,} images can be read; the first: {bad[0]}")
        source = StreamedImages(paths, trained.image_size, device=device, workers=workers, how=how)
        with naming(self.folder):
            logits_NC, _ = predict(trained.model, source, on_batch)
        unreadable = tuple((each.path, each.reason) for each in bad)
        answers = self._answers(logits_NC, trained.class_names, test_prior)
        return replace(answers, paths=tuple(paths), unreadable=unreadable)

    def _answers(self, logits_NC: Tensor, class_names: tuple[str, ...], test_prior: TestPrior | None) -> Predicted:
        probabilities_NC = logits_NC.softmax(dim=1).cpu()
        if test_prior is None:
            return Predicted(probabilities_NC, class_names)
        counts = ClassCounts(self.predictions().class_counts)
        shifted_NC, prior_C = to_prior(probabilities_NC, self.model_prior, test_prior, counts, class_names)
        return Predicted(shifted_NC, class_names, prior=prior_C)

    def export(self, path: str | Path, kind: str | None = None, *, test_prior: str | Path | None = None) -> "Exported":
        """Write the model in the format of another program, and compare the file with the model.

        Args:
            path: File to write or replace; a folder for the format "hf".
            kind: Format: "onnx", "torchscript", "torch-export", "safetensors", "hf" (a folder for the Hugging Face hub)
                or "card" (its README.md). None: by the suffix of the path.
            test_prior: Class frequencies of the use, to which the exported logits are shifted: "uniform", "train",
                "forward-K", "backward-K" or a file with counts per class. None does not shift.

        Returns:
            Path, format, and the largest difference of the logits from those of the model.

        Raises:
            InputError: If the format is unknown or a package for it is missing, or the model cannot be exported.
        """
        from longtail.export import export_run  # the exporters are large

        return export_run(self, path, kind, test_prior=test_prior)

    def trained(self, device: str | torch.device = "cpu") -> Trained:
        """Return the trained model with its class names and image size. The data set is not needed.

        Args:
            device: Device of the returned model.

        Raises:
            InputError: If the run is not finished, or the checkpoint cannot be read.
        """
        saved = self.checkpoint()
        with applying(saved):
            model = restore_classifier(self.config.model, len(saved["class_names"]), saved)
        bits, resize = saved.get("bits"), saved.get("resize", "crop")
        return Trained(model.to(device), tuple(saved["class_names"]), saved["image_size"], bits, resize)


def to_pixels(image: ImageLike) -> Tensor:
    """Convert an image to uint8 RGB pixels, shape (3, H, W).

    Raises:
        InputError: If the shape, type or range is not one that `Run.predict` states.

    Example:
        >>> to_pixels(np.ones((2, 4, 3))).shape
        torch.Size([3, 2, 4])
    """
    if isinstance(image, (str, Path)):
        raise InputError(
            f"one call of `predict` takes either paths or pixels, got the path {str(image)!r} among pixels"
        )
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))
    if not isinstance(image, (Tensor, np.ndarray)):
        raise InputError(f"an image must be a path, a PIL image, an array or a tensor, got a {type(image).__name__}")
    if isinstance(image, np.ndarray) and image.dtype.kind not in "uif":
        raise InputError(f"an image must be uint8, or floats in [0, 1], got {image.dtype}")
    native = image if isinstance(image, Tensor) else np.array(image, dtype=image.dtype.newbyteorder("="))
    pixels = native if isinstance(native, Tensor) else torch.from_numpy(native)
    if not isinstance(image, Tensor) and pixels.ndim == 3:
        pixels = pixels.permute(2, 0, 1)
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        wanted = "(3, H, W)" if isinstance(image, Tensor) else "(H, W, 3)"
        hint = "; give several images as a list" if pixels.ndim == 4 else ""
        raise InputError(f"an image must have the shape {wanted}, got {tuple(image.shape)}{hint}")
    if pixels.numel() == 0:
        raise InputError(f"an image must have at least one pixel, got the shape {tuple(image.shape)}")
    if pixels.is_floating_point():
        if not 0 <= float(pixels.min()) <= float(pixels.max()) <= 1:
            raise InputError(
                f"float images must lie in [0, 1], got values from {float(pixels.min()):g} to {float(pixels.max()):g}; "
                "divide by 255, or pass uint8"
            )
        return (pixels * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise InputError(f"an image must be uint8, or floats in [0, 1], got {pixels.dtype}")
    return pixels
