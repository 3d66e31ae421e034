"""The stage that trains end to end, with the ways of mixing that its recipes name."""

import json

import pytest
import torch

from longtail import mixing, recipes
from longtail.config import Component
from longtail.errors import InputError
from longtail.run import fit
from longtail.stages import Train

MIXED = {"mixup": "Mixup", "remix": "Remix", "cutmix": "CutMix", "cmo": "CMO", "bs-cmo": "CMO"}
ALWAYS_ON = {"set": [("stages.0.mixing.off_first", 0), ("stages.0.mixing.off_last", 0)]}


def config(method: str, epochs: int = 2):
    changes = [{"training": {"epochs": epochs}}]
    return recipes.compose("digits-lt", method, changes=[*changes, ALWAYS_ON] if MIXED[method] == "CMO" else changes)


def test_every_mixing_has_a_recipe_that_names_it():
    for method, name in MIXED.items():
        option = config(method).stages[0].options["mixing"]
        assert (option if isinstance(option, str) else option["name"]) == name
    assert set(MIXED.values()) == set(mixing.__all__)


def test_bs_cmo_is_cmo_under_the_balanced_softmax():
    assert recipes.read("methods", "cmo")["stages"][0]["loss"] == "CrossEntropy"
    stages = recipes.read("methods", "bs-cmo")["stages"]
    assert stages == [{"name": "Train", "loss": "BalancedSoftmax", "mixing": "CMO"}]


@pytest.mark.parametrize("method", MIXED)
def test_two_epochs_on_the_digits(method, tmp_path):
    run = fit(config(method), tmp_path / "run")
    rows = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(0 < row["loss"] < 5 for row in rows)
    assert run.result["method"] == method
    assert 0 <= run.scores.top1 <= 100


def test_a_mixed_run_repeats_from_its_own_yaml_to_the_same_bits_and_differs_from_a_plain_one(tmp_path):
    def bits(folder):
        model = torch.load(folder / "checkpoint" / "last.pt", weights_only=True)["model"]
        return torch.cat([tensor.flatten().float() for tensor in model.values()])

    first = fit(config("bs-cmo"), tmp_path / "first")
    again = fit(recipes.typed(recipes.read_file(first.folder / "config.yaml")), tmp_path / "again")
    assert torch.equal(bits(again.folder), bits(first.folder))
    plain = recipes.compose("digits-lt", "balanced-softmax", changes=[{"training": {"epochs": 2}}])
    assert not torch.equal(bits(fit(plain, tmp_path / "plain").folder), bits(first.folder))


def test_a_run_too_short_for_cmo_says_what_to_do(tmp_path):
    short = recipes.compose("digits-lt", "cmo", changes=[{"training": {"epochs": 6}}])
    with pytest.raises(InputError, match="leaves none of 6; train longer, or lower its off_first and off_last"):
        fit(short, tmp_path / "run")


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (Component("Mixpu"), "no way of mixing images 'Mixpu'; did you mean Mixup"),
        (Component("Remix", {"kapa": 3}), "no option of Remix 'kapa'; did you mean kappa"),
    ],
)
def test_an_unknown_mixing_or_option_is_refused_by_the_nearest(component, words):
    with pytest.raises(InputError, match=words):
        Train(mixing=component)
