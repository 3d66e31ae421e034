"""Write a data set as PNG files, one folder per class, with a table of them."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from longtail._io import write_text
from longtail.data.dataset import Dataset, Images, Part
from longtail.errors import InputError

BATCH = 256


def export_dataset(dataset: Dataset, target: Path, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Write every image as a lossless PNG, and `dataset.csv` with the columns path, label and split.

    The files are `train/<class>/<index>.png`, and the same under `val` (if present) and `test`. The index is the
    position in the split, zero-padded, so that names sort in the order of the images. The rows of the table are grouped
    by class, in the same order. A class name that cannot be a folder name is percent-encoded; the table has it
    unchanged. The table is written last, so an export with a table is complete. An error or an interrupt leaves the
    target as it was.

    Args:
        dataset: Data set to write, at the image size that the model sees.
        target: Folder that does not exist or is empty.
        on_progress: Callback with the number of images written and the number of all images.

    Returns:
        Path of the table.

    Raises:
        InputError: If the target is not empty or cannot be written, or two classes have the same name.

    Example:
        >>> import tempfile
        >>> from longtail.data import ResidentImages, Split
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
        raise InputError(f"two classes of {dataset.name} have the same name, so one folder would hold both; rename one")
    parts = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    present = {name: part for name, part in parts.items() if part is not None}
    total = sum(map(len, present.values()))
    rows: list[tuple[str, str, str]] = []
    try:
        with _new_folders(target, tuple(present)):
            for name, part in present.items():
                for row in _write_part(part, name, dataset.class_names, target):
                    rows.append(row)
                    if on_progress is not None:
                        on_progress(len(rows), total)
            return _write_table(rows, target)
    except (OSError, UnicodeEncodeError) as error:
        raise InputError(f"cannot write to {target}: {error}; give a writable folder with free space") from error


@contextmanager
def _new_folders(target: Path, names: tuple[str, ...]) -> Iterator[None]:
    """Create the target, and remove the folders of the splits if the block raises an error.

    Args:
        target: Folder that does not exist or is empty.
        names: Names of the folders in it that the block writes.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} exists and is not an empty folder; delete it or give another folder")
    existed = target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in [target / name for name in names] if existed else [target]:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_part(part: Part, split: str, class_names: tuple[str, ...], target: Path) -> Iterator[tuple[str, str, str]]:
    """Write the images of a split class by class, and yield the table row of each."""
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
    """Yield the plain views of the images on the CPU, read in batches."""
    full = len(order) // BATCH * BATCH
    for order_SB in (order[:full].view(-1, BATCH), order[full:].view(1, -1)):
        if order_SB.numel():
            for batch in images.batches(order_SB, None):
                yield from batch.cpu()


def _write_table(rows: list[tuple[str, str, str]], target: Path) -> Path:
    path, text = target / "dataset.csv", io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "split"))
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path


def folder_name(class_name: str) -> str:
    """Encode a class name as a folder name. Different class names give different folder names.

    Args:
        class_name: Any text. Letters, digits and a few signs are kept.

    Example:
        >>> folder_name("maple tree"), folder_name("cat/dog"), folder_name("..")
        ('maple tree', 'cat%2Fdog', '%2E%2E')
    """
    # a leading dot hides a folder; Windows drops dots and spaces at the end
    invalid = re.compile(r"[^\w .,+()'&@=!#-]|^[. ]+|[. ]+\Z")
    return invalid.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), class_name) or "%"
