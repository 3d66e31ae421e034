"""Features in the place of images: a data set on which a head is trained, the backbone's work being done.

Shapes: M = rows of the file, n = images of a part, V = views, S = steps of an epoch, B = batch, D = embedding
dimension, R = uniform random numbers of an image.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, Images, LoadReport, Part, Split
from longtail.data.divide import check_division, divide, held_out_suffix
from longtail.data.formats.feature_npz import Array
from longtail.data.formats.features import FeatureSet, load_features
from longtail.data.listing import check_class_presence
from longtail.errors import InputError


class MappedFeatures:
    """Embeddings that stay in their file, where images are expected; a batch reads its rows alone.

    Args:
        embeddings_MD: of any float type, mapped or in memory.
        rows_Vn: places of the n images in each view, the plain one first, int64 on the CPU.
        device: where training runs.

    Example:
        >>> images = MappedFeatures(np.arange(6.0).reshape(3, 2), torch.tensor([[2, 0]]))
        >>> next(images.batches(torch.tensor([[1, 0]]), None))
        tensor([[0., 1.],
                [4., 5.]])
    """

    def __init__(self, embeddings_MD: Array, rows_Vn: Tensor, device: torch.device | str = "cpu") -> None:
        self.embeddings_MD, self.rows_Vn, self.device = embeddings_MD, rows_Vn, torch.device(device)
        self.size = 1

    @property
    def embedding_dim(self) -> int:
        """D."""
        return int(self.embeddings_MD.shape[1])

    @property
    def num_augmented(self) -> int:
        """Augmented views of each image."""
        return len(self.rows_Vn) - 1

    def __len__(self) -> int:
        return self.rows_Vn.shape[1]

    def batches(self, order_SB: Tensor, uniforms_SBR: Tensor | None) -> Iterator[Tensor]:
        """One float32 tensor (B, D) per row of `order_SB`.

        Args:
            order_SB: which images, int64.
            uniforms_SBR: the first number of an image picks one of its augmented views; None asks for the plain one.

        Raises:
            InputError: if an augmented view is asked for and there is none.
        """
        if uniforms_SBR is not None and not self.num_augmented:
            raise InputError("these features have no augmented views; write some: longtail features RUN --augment 10")
        for step, picked_B in enumerate(order_SB.cpu()):
            view = 0 if uniforms_SBR is None else 1 + (uniforms_SBR[step, :, 0].cpu() * self.num_augmented).long()
            rows_B = self.rows_Vn[view, picked_B].numpy()
            yield torch.from_numpy(np.asarray(self.embeddings_MD[rows_B], dtype=np.float32)).to(self.device)

    def subset(self, indices: Tensor) -> "MappedFeatures":
        """The embeddings at `indices`, in that order."""
        return MappedFeatures(self.embeddings_MD, self.rows_Vn[:, indices.cpu()], self.device)

    def thumbnail(self, index: int) -> Tensor:
        """There is none."""
        raise InputError(f"an embedding has no picture, so there is no thumbnail {index}; ask the images themselves")


def thumbnails_of(images: Images) -> Callable[[int], Tensor] | None:
    """What shows one image to a person, by its place; None where there are only features.

    Example:
        >>> thumbnails_of(MappedFeatures(np.zeros((2, 3)), torch.tensor([[0, 1]]))) is None
        True
    """
    return None if isinstance(images, MappedFeatures) else images.thumbnail


def load_feature_data(config: DataConfig, device: torch.device | str = "cpu") -> Dataset:
    """Read features as a data set; what parts the file lacks are held out as of images.

    Args:
        config: `name` is the path of the file; how to divide it and the imbalance factor are heeded, and all that
            speaks of images is not.
        device: where training runs.

    Returns:
        The split's digest is over that of the file and the places of the rows trained on, little-endian int64.

    Raises:
        InputError: if the file can not be read, has no training part, a class without a training image, a value that
            is NaN or infinite, or views that are not of the same images; or a setting is out of range.
    """
    check_division(config)
    found = load_features(config.name)
    if "train" not in found.parts:
        raise InputError(f"{config.name} holds no train part, only {', '.join(found.parts)}; write its features too")
    found.check_finite()
    labels_M, names = found.rows.labels_N, found.rows.class_names
    brought = {part: found.rows_of(part) for part in found.parts}
    check_class_presence(config.name, names, {part: labels_M[rows] for part, rows in brought.items()})
    rows, notes = divide(brought, labels_M, names, config)
    views_Vn = _views(found)[:, torch.searchsorted(brought["train"], rows["train"])]
    parts = {part: MappedFeatures(found.embeddings_ND, rows_n[None], device) for part, rows_n in rows.items()}
    train = MappedFeatures(found.embeddings_ND, views_Vn, device)
    about = found.rows.about
    suffix = "" if "val" in brought else held_out_suffix(config)
    return Dataset(
        name=config.name,
        class_names=names,
        train=Part(train, labels_M[rows["train"]]),
        val=Part(parts["val"], labels_M[rows["val"]]) if "val" in rows else None,
        test=Part(parts["test"], labels_M[rows["test"]]),
        split=Split(f"features{suffix}", _digest(found.path, rows["train"]), len(rows["train"])),
        imbalance_factor=config.imbalance_factor or about.get("imbalance_factor"),
        load_report=LoadReport(notes=(_origin(found), *notes)),
        val_from_train="val" not in brought or bool(about.get("val_from_train")),
    )


def _views(found: FeatureSet) -> Tensor:
    """Rows of the training images in each view, the plain one first, shape (V, n)."""
    plain_n = found.rows_of("train")
    labels_n, rows = found.rows.labels_N[plain_n], [plain_n]
    for view in range(1, int(found.rows.views_N.max()) + 1):
        rows.append(found.rows_of("train", view))
        if not torch.equal(found.rows.labels_N[rows[-1]], labels_n):
            raise InputError(
                f"view {view} in {found.path} is not of the same training images, in the same order, as view 0: the "
                "labels differ"
            )
    return torch.stack(rows)


def _digest(path: Path, rows_n: Tensor) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(rows_n.numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _origin(found: FeatureSet) -> str:
    about = found.rows.about
    whose = f"of {about['backbone']} on {about['data']}" if {"backbone", "data"} <= set(about) else "of another tool"
    return f"Only a head is trained, on features {whose} ({found.embeddings_ND.shape[1]:,} dimensions)."
