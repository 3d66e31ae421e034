"""Write a data set out as PNGs, a folder per class, and as the table of them: `longtail data export`."""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from longtail.data.dataset import Dataset, Images, Part
from longtail.errors import InputError

BATCH = 256


def export_dataset(dataset: Dataset, target: Path, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Write every image as a lossless PNG, and `dataset.csv` with the columns path, label and split.

    The files are `train/<class>/<position>.png`, likewise `val` (where there is one) and `test`. The position in the
    part, with leading zeros, is the name, so that names sort as the images of a class are ordered; rows of the table
    come in the same order, class after class. A class name that is no folder name is percent-encoded as in an address;
    the table has it as it is. The table is written last: where it is, the export is whole.

    Args:
        dataset: what to write, at the size that the net sees.
        target: a folder that does not exist or is empty.
        on_progress: called with the images written so far and the images in all.

    Returns:
        The path of the table.

    Raises:
        InputError: if the target is not empty or cannot be written to, or if two classes have one name.

    Example:
        >>> import tempfile
        >>> from longtail.data.dataset import Split
        >>> from longtail.data.resident import ResidentImages
        >>> part = Part(ResidentImages(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), torch.tensor([1, 0]))
        >>> dataset = Dataset("tiny", ("cat", "dog"), part, None, part, Split("full", "", 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(export_dataset(dataset, Path(folder)).read_text())
        path,label,split
        train/cat/1.png,cat,train
        train/dog/0.png,dog,train
        test/cat/1.png,cat,test
        test/dog/0.png,dog,test
    """
    if len(set(dataset.class_names)) < len(dataset.class_names):
        raise InputError(f"two classes of {dataset.name} have the same name, so that one folder would hold both")
    parts = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    present = {name: part for name, part in parts.items() if part is not None}
    total = sum(map(len, present.values()))
    rows: list[tuple[str, str, str]] = []
    try:
        _make_empty(target)
        for name, part in present.items():
            for row in _write_part(part, name, dataset.class_names, target):
                rows.append(row)
                if on_progress is not None:
                    on_progress(len(rows), total)
        return _write_table(rows, target)
    except (OSError, UnicodeEncodeError) as error:
        raise InputError(f"cannot write to {target}: {error}; give a folder on a disk with room") from error


def _make_empty(target: Path) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} exists and is no empty folder; delete it or give another, nothing is overwritten")
    target.mkdir(parents=True, exist_ok=True)


def _write_part(part: Part, split: str, class_names: tuple[str, ...], target: Path) -> Iterator[tuple[str, str, str]]:
    """Write the images of a part, class after class; a row of the table each."""
    folders = [f"{split}/{folder_name(name)}" for name in class_names]
    for label in sorted(set(part.targets.tolist())):
        (target / folders[label]).mkdir(parents=True)
    order = torch.argsort(part.targets, stable=True)
    digits = len(str(len(part) - 1))
    sequence = zip(order.tolist(), part.targets[order].tolist(), _in_order(part.images, order), strict=True)
    for position, label, image in sequence:
        path = f"{folders[label]}/{position:0{digits}}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(target / path)
        yield path, class_names[label], split


def _in_order(images: Images, order: Tensor) -> Iterator[Tensor]:
    """The images as evaluation sees them, one by one on the CPU, fetched a batch at a time."""
    whole = len(order) // BATCH * BATCH
    for order_SB in (order[:whole].view(-1, BATCH), order[whole:].view(1, -1)):
        if order_SB.numel():
            for batch in images.batches(order_SB, None):
                yield from batch.cpu()


def _write_table(rows: list[tuple[str, str, str]], target: Path) -> Path:
    path = target / "dataset.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "split"))
        writer.writerows(rows)
    return path


def folder_name(class_name: str) -> str:
    """A class name as a folder name, different for different names: letters, digits and a few signs stay.

    Example:
        >>> folder_name("maple tree"), folder_name("cat/dog"), folder_name("..")
        ('maple tree', 'cat%2Fdog', '%2E%2E')
    """
    # a leading dot hides a folder; at the end, Windows drops dots and blanks
    unfit = re.compile(r"[^\w .,+()'&@=!#-]|^[. ]+|[. ]+\Z")
    return unfit.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), class_name) or "%"
