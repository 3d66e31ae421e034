import torch

from longtail.data.dataset import Dataset, LoadReport, Part, Split
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
