"""The commands that print the analyses of DLSA: on a short run, and on features with a known answer."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from longtail.config import recipes
from longtail.data.counts import ClassCounts
from longtail.errors import InputError
from longtail.posthoc import ClassifierSettings, DLSASettings
from longtail.run.fit import fit
from tests.scripts import script


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    sets = [
        ("model.backbone.width", 4),
        ("stages.0.training.epochs", 2),
        ("stages.1.levels", 2),
        ("stages.1.clusters", 5),
        ("stages.1.flow.epochs", 3),
        ("stages.1.learning.epochs", 3),
    ]
    folder = tmp_path_factory.mktemp("runs") / "dlsa"
    fit(recipes.compose("digits-lt", "dlsa", changes=[{"set": sets}]), folder, report=False)
    return folder


def test_all_tables_of_a_run_are_printed(run, tmp_path, capsys):
    script("dlsa_analysis").main([str(run), "--bins", "3", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    for title in (
        "Share of the training images that each level takes",
        "Share of the test images that each level takes",
        "Clusters of level 2, by size and purity",
        "Filter of level 2 over its training",
        "Accuracy on the test images of each level",
        "Classes of (row) predicted as classes of (column), difference DLSA",
    ):
        assert title in text
    shares = re.findall(r"^\d+-\d+ +([\d.]+) +([\d.]+) +([\d.]+)$", text, flags=re.MULTILINE)[:3]
    assert all(sum(map(float, row)) == pytest.approx(100, abs=0.2) for row in shares)
    assert (tmp_path / "dlsa-confusion.svg").read_text().startswith("<svg")


def test_the_classifiers_it_is_compared_with_start_where_those_of_the_run_did(run, tmp_path, capsys):
    """With a run that learns next to nothing, without and with DLSA are one classifier: the one before."""
    analysis, before, after = script("dlsa_analysis"), tmp_path / "ce", tmp_path / "dlsa"
    sets = [("model.backbone.width", 4), ("stages.0.training.epochs", 2)]
    fit(recipes.compose("digits-lt", "ce", changes=[{"set": sets}]), before, report=False)
    still = [("stages.1.clusters", 5), ("stages.1.flow.epochs", 1), ("stages.1.learning.lr", 1e-12)]
    fit(recipes.compose("digits-lt", "dlsa", changes=[{"set": sets + still}]), after, report=False)
    analysis.main([str(after), "--before", str(before)])
    text = capsys.readouterr().out
    without, with_ = (
        re.search(rf"^{name} +(.*)$", text.split("Scores")[1], re.MULTILINE) for name in ("without", "with")
    )
    assert without is not None
    assert with_ is not None
    assert without[1] == with_[1]
    assert "start\nfrom random weights" not in text
    analysis.main([str(after)])
    assert "start\nfrom random weights" in capsys.readouterr().out
    with pytest.raises(InputError, match="does not have the backbone of this run and a linear head"):
        analysis.main([str(after), "--before", str(run)])


def test_a_run_of_another_method_is_refused(tmp_path):
    changes = [{"set": [("model.backbone.width", 4), ("stages.0.training.epochs", 1)]}]
    fit(recipes.compose("digits-lt", "ce", changes=changes), tmp_path / "ce", report=False)
    with pytest.raises(InputError, match=r"the last stage of .*ce is Train, not Filter"):
        script("dlsa_analysis").main([str(tmp_path / "ce")])


def test_the_probe_rises_with_the_separation_where_head_and_tail_overlap():
    """A rare class on each full one: nothing but the oracle can tell them apart."""
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [2.0, 0.1], [-2.0, 0.1]])

    def part(per_class: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.arange(4).repeat_interleave(torch.tensor(per_class))
        return means[targets] + 0.3 * torch.randn(len(targets), 2, generator=generator), targets

    train, test, probe = part([90, 90, 9, 9]), part([50] * 4), script("dlsa_probe").probe
    settings = ClassifierSettings(epochs=20, lr=0.5)
    top1 = [probe(train, test, ClassCounts([90, 90, 9, 9]), p, settings, 0).top1 for p in (0.5, 0.9, 1.0)]
    assert top1[0] < 60
    assert top1[0] < top1[1] < top1[2]
    assert top1[2] > 95


def test_settings_are_chosen_on_held_out_images(run, capsys, monkeypatch):
    choice = script("dlsa_choose")
    monkeypatch.setattr(choice, "AXES", {"levels": (1, 2), "clusters": (5, 3)})
    choice.main([str(run), "--search-seeds", "2", "--seeds", "2"])
    text = capsys.readouterr().out
    assert "on 41 held-out training images, 2 seeds" in text
    assert re.findall(r"kept: (\w+) \d", text) == ["levels", "clusters"]
    tested = text.split("test, 2 other seeds")[1]
    assert all(name in tested for name in ("one classifier", "as in the run", "as chosen"))


def test_the_choice_is_the_best_of_each_axis(monkeypatch):
    """A score that is highest at share 0.5 and sigma 0.5; levels change nothing, so the first stays."""
    choice = script("dlsa_choose")

    class Known:
        def scores(self, settings, part, seeds):
            assert part == "val"
            value = settings.share - abs(settings.sigma - 0.5)
            return [SimpleNamespace(balanced=value + seed) for seed in seeds]

    chosen = choice.choose(Known(), DLSASettings(levels=2), range(3))
    assert (chosen.levels, chosen.share, chosen.sigma, chosen.clusters) == (2, 0.5, 0.5, 500)


def test_nothing_can_be_chosen_if_nothing_is_held_out(tmp_path):
    sets = [("model.backbone.width", 4), ("stages.0.training.epochs", 1), ("data.val_share", 0.0)]
    fast = [("stages.1.clusters", 5), ("stages.1.flow.epochs", 1), ("stages.1.learning.epochs", 1)]
    fit(recipes.compose("digits-lt", "dlsa", changes=[{"set": sets + fast}]), tmp_path / "run", report=False)
    with pytest.raises(InputError, match="--val-share"):
        script("dlsa_choose").main([str(tmp_path / "run")])
