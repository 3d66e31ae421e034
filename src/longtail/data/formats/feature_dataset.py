"""Features in the place of images: a data set on which only a head is trained.

Shapes: M = rows of the file, n = images of a split, V = views, S = steps of an epoch, B = batch, D = embedding
dimension, R = uniform random numbers per image.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, Images, LoadReport, Part, Split
from longtail.data.formats.feature_files import Array
from longtail.data.formats.features import FeatureSet, load_features
from longtail.data.formats.listing import check_class_presence
from longtail.data.splits import check_split_options, complete_splits, val_suffix
from longtail.errors import InputError, naming


class MappedFeatures:
    """Embeddings that stay in their file, in the place of images. A batch reads only its own rows.

    Args:
        embeddings_MD: Embeddings of any float type, mapped or in memory.
        rows_Vn: Rows of the n images in each view, plain view first, int64 on the CPU.
        device: Device of the training.

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
        """Embedding dimension D."""
        return int(self.embeddings_MD.shape[1])

    @property
    def num_augmented(self) -> int:
        """Number of augmented views of each image."""
        return len(self.rows_Vn) - 1

    def __len__(self) -> int:
        return self.rows_Vn.shape[1]

    def batches(self, order_SB: Tensor, uniforms_SBR: Tensor | None) -> Iterator[Tensor]:
        """Yield one float32 tensor (B, D) per row of `order_SB`.

        Args:
            order_SB: Indices of the images of each batch, int64.
            uniforms_SBR: Random numbers in [0, 1), of which the first of an image chooses one of its augmented views.
                None gives the plain view.

        Raises:
            InputError: If an augmented view is requested and there is none.
        """
        if uniforms_SBR is not None and not self.num_augmented:
            raise InputError("these features have no augmented views; write some with `longtail features`")
        for step, picked_B in enumerate(order_SB.cpu()):
            view = 0 if uniforms_SBR is None else 1 + (uniforms_SBR[step, :, 0].cpu() * self.num_augmented).long()
            rows_B = self.rows_Vn[view, picked_B].numpy()
            yield torch.from_numpy(np.asarray(self.embeddings_MD[rows_B], dtype=np.float32)).to(self.device)

    def subset(self, indices: Tensor) -> "MappedFeatures":
        """Return the embeddings at `indices`, in that order."""
        return MappedFeatures(self.embeddings_MD, self.rows_Vn[:, indices.cpu()], self.device)

    def thumbnail(self, index: int) -> Tensor:
        """Raise an error, because embeddings have no thumbnails."""
        raise InputError(f"an embedding has no picture, so there is no thumbnail {index}; use the images themselves")


def thumbnails_of(images: Images) -> Callable[[int], Tensor] | None:
    """Return the function that gives the thumbnail of an image by its index, or None for features.

    Example:
        >>> thumbnails_of(MappedFeatures(np.zeros((2, 3)), torch.tensor([[0, 1]]))) is None
        True
    """
    return None if isinstance(images, MappedFeatures) else images.thumbnail


def load_feature_data(config: DataConfig, device: torch.device | str = "cpu") -> Dataset:
    """Load a feature file as a data set. Splits that it lacks are held out as for images.

    Args:
        config: Settings, whose `name` is the path of the file. Split options and the imbalance factor are used,
            settings of images are not.
        device: Device of the training.

    Returns:
        Data set whose split digest covers the bytes of the file and the indices of its training rows, as little-endian
        int64.

    Raises:
        InputError: If the file cannot be read, has no training split, a class without a training image, a value that
            is NaN or infinite, or views of different images; or a setting is out of range.
    """
    check_split_options(
        test_per_class=config.test_per_class, val_share=config.val_share, imbalance_factor=config.imbalance_factor
    )
    found = load_features(config.name)
    if "train" not in found.parts:
        raise InputError(f"{config.name} holds no train split, only {', '.join(found.parts)}; add its features")
    found.check_finite()
    labels_M, names = found.rows.labels_N, found.rows.class_names
    given = {part: found.rows_of(part) for part in found.parts}
    check_class_presence(config.name, names, {part: labels_M[rows] for part, rows in given.items()})
    with naming(config.name):
        rows, notes = complete_splits(
            given,
            labels_M,
            names,
            test_per_class=config.test_per_class,
            imbalance_factor=config.imbalance_factor,
            profile=config.profile,
            val_share=config.val_share,
            seed=config.seed,
        )
    views_Vn = _views(found)[:, torch.searchsorted(given["train"], rows["train"])]
    parts = {part: MappedFeatures(found.embeddings_ND, rows_n[None], device) for part, rows_n in rows.items()}
    train = MappedFeatures(found.embeddings_ND, views_Vn, device)
    about = found.rows.about
    suffix = "" if "val" in given else val_suffix(config.val_share)
    return Dataset(
        name=config.name,
        class_names=names,
        train=Part(train, labels_M[rows["train"]]),
        val=Part(parts["val"], labels_M[rows["val"]]) if "val" in rows else None,
        test=Part(parts["test"], labels_M[rows["test"]]),
        split=Split(f"features{suffix}", _digest(found.path, rows["train"]), len(rows["train"])),
        imbalance_factor=config.imbalance_factor or about.get("imbalance_factor"),
        load_report=LoadReport(notes=(_origin(found), *notes)),
        val_from_train="val" not in given or bool(about.get("val_from_train")),
    )


def _views(found: FeatureSet) -> Tensor:
    """Return the rows of the training images in each view, plain view first, shape (V, n)."""
    plain_n = found.rows_of("train")
    labels_n, rows = found.rows.labels_N[plain_n], [plain_n]
    for view in range(1, int(found.rows.views_N.max()) + 1):
        rows.append(found.rows_of("train", view))
        if not torch.equal(found.rows.labels_N[rows[-1]], labels_n):
            raise InputError(
                f"view {view} in {found.path} must have the same training images, in the same order, as view 0, but "
                "the labels differ"
            )
    return torch.stack(rows)


def _digest(path: Path, rows_n: Tensor) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(rows_n.numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _origin(found: FeatureSet) -> str:
    about = found.rows.about
    origin = f"of {about['backbone']} on {about['data']}" if {"backbone", "data"} <= set(about) else "of another tool"
    return f"Only a head is trained, on features {origin} ({found.embeddings_ND.shape[1]:,} dimensions)."
