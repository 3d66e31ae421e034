"""The figures of BALMS draw themselves, and show what the paper says of them (supplement, Figs. 1 and 3, and A.5)."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.models.classifier import build_classifier

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SOFTMAX, SOFTMAX_CBS, BALANCED, BALANCED_CBS = range(4)
RARE = 2  # the class of a single example


def script(name: str) -> ModuleType:
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def toy() -> ModuleType:
    return script("balms_toy")


@pytest.fixture(scope="module")
def weights(toy: ModuleType) -> Tensor:
    """After 10, 1,000, 3,000 and 6,000 steps, shape (T, R, K, D)."""
    kept: Tensor = toy.train((10, 1_000, 3_000, 6_000))
    return kept


@pytest.fixture(scope="module")
def shares(toy: ModuleType, weights: Tensor) -> Tensor:
    """Of the square, shape (T, R, K)."""
    return torch.stack([toy.shares(weights_RKD) for weights_RKD in weights])


def test_a_step_of_the_demonstration_is_one_of_the_library(toy: ModuleType) -> None:
    counts, points_KD = toy.COUNTS.long(), toy.points()
    expected = []
    for loss_class in (CrossEntropy, BalancedSoftmax):
        for share_K in (toy.COUNTS / toy.COUNTS.sum(), torch.full((3,), 1 / 3, dtype=torch.float64)):
            layer = nn.Linear(3, 3, bias=False).double()
            nn.init.zeros_(layer.weight)
            losses_K = loss_class(counts, reduction="none")(layer(points_KD), torch.arange(3))
            (gradient_KD,) = torch.autograd.grad((share_K * losses_K).sum(), layer.weight)
            expected.append(-10 * gradient_KD)
    torch.testing.assert_close(toy.train((1,))[0], torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_softmax_is_symmetric_under_class_balanced_sampling_and_gets_there_faster(shares: Tensor) -> None:
    assert (shares[-1, SOFTMAX_CBS] - 1 / 3).abs().max() < 0.04  # the square is no triangle
    rare_T = shares[:, SOFTMAX, RARE]
    assert bool((rare_T.diff() > 0).all())
    assert rare_T[-1] < shares[0, SOFTMAX_CBS, RARE] - 0.1


def test_balanced_softmax_moves_the_boundaries_towards_the_fuller_classes(shares: Tensor) -> None:
    many, _, rare = shares[-1, BALANCED].tolist()
    assert many < 1 / 3 < 0.4 < rare


def test_balanced_softmax_with_class_balanced_sampling_over_balances(
    toy: ModuleType, weights: Tensor, shares: Tensor
) -> None:
    assert bool((shares[:, BALANCED_CBS, RARE] > shares[:, BALANCED, RARE] + 0.05).all())
    first_point_D = toy.points()[0]
    assert int((weights[0, BALANCED_CBS] @ first_point_D).argmax()) == RARE  # taken over, at first
    assert int((weights[0, SOFTMAX_CBS] @ first_point_D).argmax()) == 0


def test_the_shares_of_the_specification(toy: ModuleType) -> None:
    """At 1,000 steps the rarest class holds 0.58 of the plane under Balanced Softmax and class-balanced sampling."""
    assert float(toy.shares(toy.train((1_000,))[0])[BALANCED_CBS, RARE]) == pytest.approx(0.58, abs=0.01)


def test_near_convergence_a_rival_weighs_n_j_over_n_y_times_its_softmax() -> None:
    """Eq. 76: with another factor of 1 / n from class-balanced sampling, classes weigh as 1 / n^2 (Eq. 78)."""
    counts = torch.tensor([1000.0, 30.0, 2.0], dtype=torch.float64)
    logits_BC = torch.tensor([[40.0, 1.0, 0.0], [2.0, 40.0, 1.0], [3.0, 0.5, 40.0]], dtype=torch.float64)
    ratio_BC = (logits_BC + counts.log()).softmax(dim=1) / logits_BC.softmax(dim=1)
    torch.testing.assert_close(ratio_BC, counts / counts.unsqueeze(1), rtol=1e-6, atol=0)


def test_the_demonstration_draws_itself(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few: Tensor = toy.train((1, 2, 3, 4, 5))
    monkeypatch.setattr(toy, "train", lambda: few)
    monkeypatch.setattr(sys, "argv", ["balms_toy.py", "--out", str(tmp_path)])
    toy.main()
    assert (tmp_path / "balms-toy.svg").read_text().startswith("<svg")
    assert (tmp_path / "balms-toy.png").stat().st_size > 10_000
    assert "Balanced Softmax + class-balanced" in capsys.readouterr().out


def test_the_learnt_rates_draw_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = script("balms_rates")

    def untrained(_: Any, data: Any, config: Any) -> nn.Module:
        return build_classifier(config.model, data, 0)

    monkeypatch.setattr(rates, "backbone", untrained)
    monkeypatch.setattr(sys, "argv", ["balms_rates.py", "--iterations", "6", "--out", str(tmp_path)])
    rates.main()
    numbers = json.loads((tmp_path / "balms-rates.json").read_text())
    assert {name: len(values) for name, values in numbers.items()} == {"Softmax": 10, "Balanced Softmax": 10}
    assert numbers["Softmax"] != numbers["Balanced Softmax"]
    assert "variance" in (tmp_path / "balms-rates.svg").read_text()
    assert (tmp_path / "balms-rates.png").exists()
    assert "Balanced Softmax   variance" in capsys.readouterr().out
