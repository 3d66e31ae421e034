from pathlib import Path

import torch

from longtail.data.dataset import Dataset, LoadReport, Part, Split
from longtail.data.duplicates import equal_files, equal_pixels
from longtail.data.inspect import inspect_data
from longtail.data.resident import ResidentImages


def part(*counts: int) -> Part:
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Part(ResidentImages(torch.zeros(len(targets), 3, 2, 2, dtype=torch.uint8)), targets)


def toy(test: Part, val: Part | None = None) -> Dataset:
    names = ("many", "edge", "medium", "few", "one", "none")
    load_report = LoadReport(notes=("A note.",), skipped=2, duplicates=3)
    return Dataset(
        "toy", names, part(101, 100, 20, 19, 1, 0), val, test, Split("toy", "", 241), load_report=load_report
    )


def test_every_number() -> None:
    seen = inspect_data(toy(part(2, 2, 2, 2, 2, 2), part(1, 1)))
    assert (seen.images, seen.classes, seen.counts) == (241, 6, (101, 100, 20, 19, 1, 0))
    assert (seen.many, seen.medium, seen.few) == (1, 2, 3)
    assert seen.imbalance_factor == 101
    assert (seen.zero_shot, seen.one_shot) == (("none",), ("one",))
    assert (seen.val_images, seen.test_images, seen.test_balanced) == (2, 12, True)
    assert (seen.duplicates, seen.skipped, seen.notes) == (3, 2, ("A note.",))


def test_gini_is_half_the_relative_mean_difference() -> None:
    counts = inspect_data(toy(part(1, 1, 1, 1, 1, 1))).counts
    differences = sum(abs(a - b) for a in counts for b in counts)
    seen = inspect_data(toy(part(1, 1, 1, 1, 1, 1)))
    assert abs(seen.gini - differences / (2 * len(counts) * sum(counts))) < 1e-12


def test_an_uneven_test_part_and_no_validation() -> None:
    seen = inspect_data(toy(part(2, 2, 2, 2, 2)))
    assert not seen.test_balanced
    assert seen.val_images == 0


def test_equal_pixels_names_the_first_twin() -> None:
    pixels = torch.randint(0, 256, (8, 3, 4, 4), dtype=torch.uint8)
    pixels[6] = pixels[1]
    pixels[3] = pixels[1]
    pixels[7] = pixels[5]  # both in the test split, which is no duplicate
    assert equal_pixels(pixels, [0, 1, 2, 3], [4, 5, 6, 7]) == [(6, 1)]
    pixels[7, 2, 3, 3] ^= 1
    assert equal_pixels(pixels, [5], [7]) == []


def test_equal_files(tmp_path: Path) -> None:
    contents = [b"a" * 500, b"b" * 500, b"b" + b"a" * 499, b"c" * 700, b"a" * 500, b"", b"", b"c" * 699]
    paths = [tmp_path / str(k) for k in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    train, test = [0, 1, 3, 5], [2, 4, 6, 7]  # 2 has the size and last bytes of 0; 7 differs from 3 in size
    slow = [
        (i, next(j for j in train if contents[j] == contents[i]))
        for i in test
        if contents[i] in [contents[j] for j in train]
    ]
    assert equal_files(paths, train, test) == slow == [(4, 0), (6, 5)]
