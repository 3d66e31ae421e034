"""Runs on images that worker processes read from disk."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtail.config import recipes
from longtail.config.schema import Config, DataConfig
from longtail.run.fit import fit
from longtail.training.context import Interrupted
from longtail.training.state import TrainState
from tests.data.helpers import noise, save


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "photos"
    for index in range(9):
        save(root / ("cat" if index < 6 else "dog") / f"{index}.png", noise(index, 40, 36))
    return root


def config_of(photos: Path, cache: str) -> Config:
    training = {"epochs": 3, "batch_size": 3, "augment": "imagenet", "precision": "fp32"}
    data = DataConfig(str(photos), storage="stream", image_size=16, workers=2, test_per_class=1, cache=cache)
    return replace(recipes.compose("digits-lt", "ce", changes=[{"training": training}]), data=data)


def weights(folder: Path) -> list[torch.Tensor]:
    (path,) = (folder / "checkpoint").glob("last.pt")
    return list(torch.load(path, weights_only=True)["model"].values())


def test_a_run_resumed_with_kept_workers_and_written_copies_ends_in_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(photos, str(tmp_path / "one"))
    whole = fit(config, tmp_path / "whole", report=False)
    assert len(list((tmp_path / "one").glob("*/??/*"))) == 9
    stopped, original = config_of(photos, str(tmp_path / "two")), TrainState.update
    steps = []

    def update(state: TrainState, *arguments: object) -> None:
        original(state, *arguments)
        steps.append(1)
        if len(steps) == 4:  # within the second epoch
            state.context.stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "update", update)
        with pytest.raises(Interrupted):
            fit(stopped, tmp_path / "stopped", report=False)
    resumed = fit(stopped, tmp_path / "stopped", resume=True, report=False)
    assert all(map(torch.equal, weights(tmp_path / "stopped"), weights(tmp_path / "whole")))
    assert resumed.scores == whole.scores
    assert resumed.result["split"] == whole.result["split"]
