from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.data.counts import ClassCounts
from longtail.errors import InputError
from longtail.transfer.pairing import Pairing, head_classes, similarity_table, tail_classes

COUNTS = ClassCounts([600, 300, 150, 30, 8])  # heads 0, 1, 2
HEADS = head_classes(COUNTS)
SEEN = torch.tensor([50.0, 50.0, 50.0, 5.0, 1.0])
DRAWS = 3000


def covariances(seed: int = 0) -> Tensor:
    rows = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(seed))
    return rows.transpose(1, 2) @ rows


def shares(pairing: Pairing, label: int, seen: Tensor = SEEN) -> list[float]:
    """Return the share of each class among the heads of a class."""
    torch.manual_seed(0)
    classes = torch.full((DRAWS,), label)
    every = covariances()
    heads, _ = pairing(classes, seen, every[classes], every, per_class=False)
    return (torch.bincount(heads, minlength=5) / DRAWS).tolist()


def test_heads_are_the_many_shot_classes_or_the_fuller_half() -> None:
    assert HEADS.tolist() == [True, True, True, False, False]
    assert head_classes(ClassCounts([90, 70, 50, 9])).tolist() == [True, True, False, False]  # none above 100
    assert head_classes(ClassCounts([900, 700, 500])).tolist() == [True, True, False]  # none at or below
    assert head_classes(COUNTS, 2).tolist() == [True, True, False, False, False]
    assert head_classes(COUNTS, 0.4).tolist() == [True, True, False, False, False]


def test_tails_are_the_rest_or_the_few_shot_classes() -> None:
    assert tail_classes(COUNTS, HEADS).tolist() == [False, False, False, True, True]
    assert tail_classes(COUNTS, HEADS, "few").tolist() == [False, False, False, False, True]


def test_uniform_draws_and_draws_by_frequency() -> None:
    assert shares(Pairing(COUNTS, HEADS), 4) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0], abs=0.04)
    frequency = Pairing(COUNTS, HEADS, pairing="frequency")
    assert shares(frequency, 4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0, 0], abs=0.04)


def test_only_heads_that_have_shown_enough_images_lend() -> None:
    seen = torch.tensor([19.0, 20.0, 50.0, 50.0, 50.0])
    for options in (
        {},
        {"pairing": "frequency"},
        {"pairing": "covariance"},
        {"pairing": "table", "similarity": torch.eye(5)},
    ):
        share = shares(Pairing(COUNTS, HEADS, **options), 4, seen)  # type: ignore[arg-type]
        assert share[0] == share[3] == share[4] == 0
        assert share[1] > 0.2
        _, is_ready = Pairing(COUNTS, HEADS, **options)(torch.tensor([3]), seen * 0, covariances()[3:4], covariances())  # type: ignore[arg-type]
        assert not is_ready.any()


def test_one_draw_for_all_groups_of_a_class() -> None:
    pairing, classes = Pairing(COUNTS, HEADS), torch.tensor([3, 4, 3, 3, 4])
    differ = set()
    for seed in range(20):
        torch.manual_seed(seed)
        heads, is_ready = pairing(classes, SEEN, covariances()[classes], covariances())
        assert heads[0] == heads[2] == heads[3]
        assert heads[1] == heads[4]
        assert is_ready.all()
        differ.add(bool(heads[0] == heads[1]))
    assert differ == {True, False}


def test_nearest_by_covariance_are_those_of_largest_cosine() -> None:
    every = covariances()
    cosines = [float((every[4] * m).sum() / (every[4].norm() * m.norm())) for m in every[:3]]
    best = int(np.argmax(cosines))
    share = shares(Pairing(COUNTS, HEADS, pairing="covariance", nearest=1), 4)
    assert share[best] == 1
    worst = int(np.argmin(cosines))
    share = shares(Pairing(COUNTS, HEADS, pairing="covariance", nearest=2), 4)
    assert share[worst] == 0
    assert share[best] == pytest.approx(0.5, abs=0.05)


def table() -> Tensor:
    """Class 4 is most similar to the tail class 3, which does not lend, then to 2 and 0."""
    similarity = torch.zeros(5, 5)
    similarity[4] = torch.tensor([0.5, 0.1, 0.7, 0.9, 1.0])
    return similarity


@pytest.mark.parametrize("kind", ["tensor", "npy", "csv"])
def test_nearest_by_a_table_given_or_read(kind: str, tmp_path: Path) -> None:
    given: Any = table()
    if kind == "npy":
        given = str(tmp_path / "table.npy")
        np.save(given, table().numpy())
    if kind == "csv":
        given = str(tmp_path / "table.csv")
        np.savetxt(given, table().numpy(), delimiter=",")
    share = shares(Pairing(COUNTS, HEADS, pairing="table", nearest=2, similarity=given), 4)
    assert share == pytest.approx([0.5, 0, 0.5, 0, 0], abs=0.05)
    assert torch.equal(similarity_table(given, 5), table())


def test_what_can_not_be_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.npy"
    damaged.write_bytes(b"no numbers")
    for options, message in (
        ({"pairing": "unifrom"}, "'unifrom'; did you mean uniform"),
        ({"nearest": 0}, "`nearest` must be an integer >= 1, got 0"),
        ({"pairing": "table"}, "set both or none"),
        ({"similarity": torch.eye(5)}, "set both or none"),
        ({"pairing": "table", "similarity": torch.eye(4)}, r"must have shape \(5, 5\).*got \(4, 4\)"),
        ({"pairing": "table", "similarity": torch.full((5, 5), torch.nan)}, "a finite number for each pair"),
        ({"pairing": "table", "similarity": "missing.npy"}, r"cannot read 'missing.npy'"),
        ({"pairing": "table", "similarity": str(damaged)}, "cannot read"),
        ({"pairing": "table", "similarity": {"a": 1}}, "cannot read"),
    ):
        with pytest.raises(InputError, match=message):
            Pairing(COUNTS, HEADS, **options)  # type: ignore[arg-type]
    for heads in ("most", 0, 5, 1.0, 0.01, -1, True):
        with pytest.raises(InputError, match="`heads` must be 'many', a number of classes from 1 to 4, or a share"):
            head_classes(COUNTS, heads)
    with pytest.raises(InputError, match="the same number of images"):
        head_classes(ClassCounts([200, 200]))
    with pytest.raises(InputError, match="choice of tail classes 'all'"):
        tail_classes(COUNTS, HEADS, "all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="use tails='rest'"):
        tail_classes(ClassCounts([500, 30]), torch.tensor([True, False]), "few")
