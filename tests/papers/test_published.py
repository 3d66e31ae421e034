"""Published numbers: every entry is complete, and the numbers equal those of the sources."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest

from longtail.config import recipes
from longtail.papers.published import Checkpoint, Published, Read, difference_in_sd, everything, published

ROWS = everything()
SCORES = {"top1", "many", "medium", "few", "mcc", "nmi", "ap", "ap_r", "ap_c", "ap_f", "ap_b"}
CIFAR = ("cifar10-lt", "cifar100-lt")
# classes of each group (Places-LT and ImageNet-LT by their released lists)
GROUP_SIZES = {"places-lt": (131, 163, 71), "imagenet-lt": (385, 479, 136)}


@pytest.fixture(params=sorted({row.table for row in ROWS}))
def rows(request: pytest.FixtureRequest) -> list[Published]:
    """Return the entries of a table."""
    return [row for row in ROWS if row.table == request.param]


def test_every_entry_has_its_source(rows: list[Published]) -> None:
    for row in rows:
        for text in (row.table, row.source, row.place, row.label, row.backbone, row.training, row.mismatch):
            assert isinstance(text, str), row
            assert text.strip(), row
        assert row.read in get_args(Read), row
        assert row.checkpoint in get_args(Checkpoint), row
        assert row.seeds is None or row.seeds >= 1, row
        assert row.place != "see the row", row


def test_every_name_is_one_of_ours(rows: list[Published]) -> None:
    for row in rows:
        assert row.method is None or row.method in recipes.names("methods"), row
        assert row.recipe is None or row.recipe in recipes.names("training"), row
        assert row.data == "lvis-v0.5" or row.data in recipes.names("data"), row
        assert (row.imbalance_factor is not None) == (row.data in CIFAR), row


def test_every_score_is_a_percentage(rows: list[Published]) -> None:
    for row in rows:
        assert row.scores, row
        assert set(row.scores) <= SCORES, row
        assert all(isinstance(value, float) and 1 < value < 100 for value in row.scores.values()), row


def test_no_entry_is_repeated() -> None:
    keys = [
        (row.table, row.place, row.label, row.data, row.imbalance_factor, row.backbone, row.recipe, *sorted(row.scores))
        for row in ROWS
    ]
    assert len(set(keys)) == len(keys)


def test_groups_average_to_the_whole() -> None:
    """A wrong digit would show: top-1 on a balanced test set is the mean of the groups, weighted by their classes."""
    checked = 0
    for row in ROWS:
        if "its groups average" in row.mismatch:  # a documented exception
            continue
        if row.data in GROUP_SIZES and {"top1", "many", "medium", "few"} <= set(row.scores):
            groups = [row.scores[name] for name in ("many", "medium", "few")]
            mean = np.average(groups, weights=GROUP_SIZES[row.data])
            assert mean == pytest.approx(row.scores["top1"], abs=0.55), row
            checked += 1
    assert checked == 11


def test_a_method_does_better_on_a_shorter_tail() -> None:
    series: dict[tuple[str, ...], list[Published]] = {}
    for row in ROWS:
        if row.data in CIFAR:
            series.setdefault((row.table, row.label, row.data, row.place), []).append(row)
    for rows in series.values():
        ordered = sorted(rows, key=lambda row: -(row.imbalance_factor or 0))
        values = [row.scores.get("top1", math.nan) for row in ordered]
        assert all(low < high for low, high in itertools.pairwise(values)), ordered


SPOT_CHECKS = [
    # table, label, data, imbalance factor, score, value, as read in the source
    ("B-Tab2", "Focal loss", "cifar100-lt", 100, "top1", 38.41),
    ("B-Tab2", "Meta-Weight-Net", "cifar10-lt", 10, "top1", 87.84),
    ("B-Tab2", "Equalization loss", "cifar100-lt", 200, "top1", 43.38),
    ("B-Tab2", "BALMS", "cifar10-lt", 100, "top1", 84.9),
    ("B-Tab3", "Softmax / Balanced Softmax", "cifar10-lt", 200, "top1", 78.53),
    ("B-Tab3", "Balanced Softmax / Softmax + CBS", "cifar10-lt", 200, "top1", 75.35),
    ("B-Readme", "Balanced Softmax, decoupled", "cifar100-lt", 200, "top1", 47.2),
    ("B-Readme", "BALMS", "places-lt", None, "top1", 38.3),
    ("B-Readme", "BALMS", "lvis-v0.5", None, "ap_r", 17.3),
    ("B-main T2", "LWS", "cifar10-lt", 100, "top1", 83.7),
    ("B-main T4", "BALMS", "lvis-v0.5", None, "ap_r", 19.6),
    ("D-Tab1", "PaCo + Balanced Softmax + DLSA", "inat18", None, "mcc", 72.7),
    ("D-Tab1", "cRT", "inat18", None, "many", 73.2),
    ("D-Tab2", "DLSA, full", "places-lt", None, "few", 32.3),
    ("D-Tab2", "DLSA, without the purity loss", "places-lt", None, "top1", 41.5),
    ("S-Tab1", "BSCE + SMART", "cifar10-lt", 50, "top1", 87.9),
    ("S-Tab1", "BCL", "cifar10-lt", 100, "top1", 84.3),
    ("S-Tab1", "GCL + CR", "cifar10-lt", 50, "top1", 86.8),
    ("S-Tab2", "ACE (3 experts) + SMART", "places-lt", None, "top1", 42.6),
    ("S-Tab2", "ALA loss", "places-lt", None, "top1", 40.1),
    ("S-Tab3", "PaCo", "inat18", None, "top1", 73.2),
    ("S-Tab4", "weights + BSCE", "cifar100-lt", 100, "top1", 53.89),
    ("S-Tab4", "augmentation + BSCE", "cifar100-lt", 100, "top1", 54.81),
    ("S-Tab5", "SMART, layer 3", "cifar100-lt", 100, "top1", 52.98),
    ("S-Tab5", "SMART, momentum 0.05", "cifar100-lt", 100, "top1", 35.32),
    ("S-Txt", "SMART, covariance of the tail class only", "cifar100-lt", 100, "top1", 50.71),
    ("E-Tab2", "ELM", "cifar100-lt", 100, "top1", 45.77),
    ("E-Tab2", "CE + DRO-LT (one stage)", "inat18", None, "top1", 62.05),
    ("BagofTricks-LT", "CDT", "cifar100-lt", 100, "top1", 39.59),  # 100 - 60.41
]


@pytest.mark.parametrize(("table", "name", "data", "factor", "score", "value"), SPOT_CHECKS)
def test_numbers_are_those_of_the_source(table, name, data, factor, score, value) -> None:
    found = [
        row.scores[score]
        for row in ROWS
        if (row.table, row.label, row.data, row.imbalance_factor) == (table, name, data, factor) and score in row.scores
    ]
    assert found == [value]


def test_sources_that_quote_the_same_paper_agree() -> None:
    cao = {row.table: row.scores["top1"] for row in published("cifar100-lt", 100, "ldam-drw")}
    assert cao["B-Tab2"] == cao["E-Tab2"] == 42.04
    assert cao["S-Tab1"] == pytest.approx(42.04, abs=0.05)


def test_the_imbalance_factor_chooses_where_there_is_a_choice() -> None:
    assert {row.imbalance_factor for row in published("cifar100-lt", 50)} == {50}
    assert published("cifar100-lt", 37) == []
    assert published("places-lt", 996.0) == published("places-lt", None) != []


def test_other_data_and_methods_have_no_published_numbers() -> None:
    assert published("photos", None) == []
    assert published("cifar100-lt", 100, "custom") == []
    assert {row.method for row in published("cifar100-lt", 100, "elm")} == {"elm"}


def test_a_row_may_differ_from_its_table() -> None:
    [ldam] = [row for row in published("cifar100-lt", 100, "ldam") if row.table == "B-Tab2"]
    [focal] = [row for row in published("cifar100-lt", 100, "focal") if row.table == "B-Tab2"]
    assert (ldam.recipe, ldam.checkpoint) == ("ldam", "best on test")
    assert (focal.recipe, focal.checkpoint) == (None, "unknown")


def test_difference_in_standard_deviations() -> None:
    assert difference_in_sd(42.0, 0.5, 3, 41.0) == pytest.approx(1 / (0.5 * (1 / 3 + 1) ** 0.5))
    assert difference_in_sd(42.0, 0.5, 3, 41.0, 3) == pytest.approx(1 / (0.5 * (2 / 3) ** 0.5))
    assert difference_in_sd(40.0, 0.5, 3, 41.0) == -difference_in_sd(42.0, 0.5, 3, 41.0)
    rng = np.random.default_rng(0)
    means, single = rng.normal(50, 0.7, (20_000, 4)).mean(1), rng.normal(50, 0.7, 20_000)
    spread = np.std([difference_in_sd(a, 0.7, 4, b) for a, b in zip(means, single, strict=True)])
    assert spread == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("sd", "n"), [(None, 1), (None, 3), (0.5, 1), (0.0, 3)])
def test_without_a_spread_there_is_no_such_difference(sd: float | None, n: int) -> None:
    assert difference_in_sd(42.0, sd, n, 41.0) is None
