"""End-to-end training with the mixings, transfers and embedding losses of the recipes."""

import json
from typing import ClassVar

import pytest
import torch

from longtail import augment
from longtail.component import Component
from longtail.config import recipes
from longtail.data.resident import ResidentImages
from longtail.errors import InputError
from longtail.models.classifier import Classifier
from longtail.models.heads import LinearHead
from longtail.run.fit import fit
from longtail.stages import Train
from longtail.stages.train import _check_batch_of_one
from longtail.transfer.base import Transfer

MIXED = {"mixup": "Mixup", "remix": "Remix", "cutmix": "CutMix", "cmo": "CMO", "bs-cmo": "CMO"}
ALWAYS_ON = {"set": [("stages.0.mixing.off_first", 0), ("stages.0.mixing.off_last", 0)]}


def config(method: str, epochs: int = 2):
    changes = [{"training": {"epochs": epochs}}]
    return recipes.compose("digits-lt", method, changes=[*changes, ALWAYS_ON] if MIXED[method] == "CMO" else changes)


def test_every_mixing_has_a_recipe_that_names_it():
    for method, name in MIXED.items():
        assert config(method).stages[0].mixing.name == name
    assert set(MIXED.values()) == set(augment.MIXINGS)


def test_bs_cmo_is_cmo_under_the_balanced_softmax():
    assert recipes.read("methods", "cmo")["stages"][0]["loss"] == "CrossEntropy"
    stages = recipes.read("methods", "bs-cmo")["stages"]
    assert stages == [{"name": "Train", "loss": "BalancedSoftmax", "mixing": "CMO"}]


@pytest.mark.parametrize("method", MIXED)
def test_two_epochs_on_the_digits(method, tmp_path):
    run = fit(config(method), tmp_path / "run", report=False)
    rows = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(0 < row["loss"] < 5 for row in rows)
    assert run.result["method"] == method
    assert 0 <= run.scores.top1 <= 100


def test_a_mixed_run_repeats_from_its_own_yaml_to_the_same_bits_and_differs_from_a_plain_one(tmp_path):
    def bits(folder):
        model = torch.load(folder / "checkpoint" / "last.pt", weights_only=True)["model"]
        return torch.cat([tensor.flatten().float() for tensor in model.values()])

    first = fit(config("bs-cmo"), tmp_path / "first", report=False)
    again = fit(recipes.typed(recipes.read_file(first.folder / "config.yaml")), tmp_path / "again", report=False)
    assert torch.equal(bits(again.folder), bits(first.folder))
    plain = recipes.compose("digits-lt", "balanced-softmax", changes=[{"training": {"epochs": 2}}])
    assert not torch.equal(bits(fit(plain, tmp_path / "plain", report=False).folder), bits(first.folder))


def test_a_run_too_short_for_cmo_is_refused_with_the_remedy(tmp_path):
    short = recipes.compose("digits-lt", "cmo", changes=[{"training": {"epochs": 6}}])
    with pytest.raises(InputError, match=r"leaves none of 6\. Train longer, or lower `off_first` and `off_last`"):
        fit(short, tmp_path / "run")


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (Component("Mixpu"), "no mixing 'Mixpu'; did you mean Mixup"),
        (Component("Remix", {"kapa": 3}), "no option of Remix 'kapa'; did you mean kappa"),
    ],
)
def test_an_unknown_mixing_or_option_is_refused_by_the_nearest(component, words):
    with pytest.raises(InputError, match=words):
        Train(mixing=component)


class Noted(Transfer):
    """Stand-in that records the labels of its two streams."""

    stream = Component("ReversedSampler")
    seen: ClassVar[list] = []

    def forward(self, maps, targets_B, second_B):
        if self.training:
            self.seen.append((targets_B.clone(), second_B.clone()))
        return maps, None


def one_epoch(method: str, *sets: tuple[str, object]):
    return recipes.compose("digits-lt", method, changes=[{"training": {"epochs": 1}}, {"set": list(sets)}])


def test_a_second_stream_doubles_the_batch_and_leaves_the_number_of_steps(tmp_path):
    Noted.seen.clear()
    fit(one_epoch("ce", ("stages.0.transfer", f"{__name__}.Noted")), tmp_path / "run", report=False)
    targets, second = (torch.stack(each) for each in zip(*Noted.seen, strict=True))
    assert targets.shape == (6, 128)  # 376 images, 64 of each stream at a time
    assert second[:, 1::2].all()
    assert not second[:, 0::2].any()
    first_counts, second_counts = (torch.bincount(targets[second == stream], minlength=10) for stream in (False, True))
    assert first_counts[0] > 5 * first_counts[9]
    assert second_counts[9] > 5 * second_counts[0]


def test_embedding_losses_with_a_class_balanced_stream_train(tmp_path):
    for method in ("elm", "elm-balanced", "dro-lt"):
        assert fit(one_epoch(method), tmp_path / method, report=False).result["method"] == method


def test_another_option_of_a_transfer_keeps_the_name_of_the_method_and_another_transfer_does_not():
    assert one_epoch("smart", ("stages.0.transfer.tau", 5.0)).method == "smart"
    assert one_epoch("smart", ("stages.0.transfer", "ISDA")).method == "custom"
    assert one_epoch("elm", ("stages.0.embedding_loss.name", "CenterLoss")).method == "custom"


@pytest.mark.parametrize(
    "axis", [{"transfer": Component("SemanticTransfer")}, {"embedding_loss": Component("PullLoss")}]
)
def test_mixing_is_refused_with_parts_that_require_single_labels(axis):
    with pytest.raises(InputError, match="makes one image of two classes"):
        Train(mixing=Component("Mixup"), **axis)


@pytest.mark.parametrize("transfer", [f"{__name__}.Noted", "ISDA"])
def test_a_transfer_refuses_an_embedding_loss_with_its_own_stream(data, model, context, transfer):
    stage = Train(transfer=Component(transfer), embedding_loss=Component("PullLoss", {"pairs": "balanced"}))
    with pytest.raises(InputError, match="PullLoss requests a second stream of images for itself, but"):
        stage(model, data, context)


def test_an_unknown_option_of_a_transfer_or_an_embedding_loss_is_refused_before_anything_runs():
    with pytest.raises(InputError, match="tua"):
        Train(transfer=Component("SemanticTransfer", {"tua": 1.0}))
    with pytest.raises(InputError, match="there is no embedding loss 'PulLoss'"):
        Train(embedding_loss=Component("PulLoss"))


def test_a_batch_of_one_that_batch_norm_cannot_train_on_is_refused():
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4), torch.nn.BatchNorm1d(4))
    backbone.embedding_dim = 4
    with pytest.raises(InputError, match="`batch_size` must be >= 2 for this backbone on images of 8 pixels, got 1"):
        _check_batch_of_one(Classifier(backbone, LinearHead(4, 10)), ResidentImages(pixels))
    backbone[2] = torch.nn.ReLU()
    _check_batch_of_one(Classifier(backbone, LinearHead(4, 10)), ResidentImages(pixels))
