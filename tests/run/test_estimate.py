"""The estimate after the first steps, and the faster ways that follow a long one."""

import logging
import re
from dataclasses import replace

import pytest
import torch

from longtail.config import recipes
from longtail.data.load import load_data
from longtail.run.estimate import faster_ways, log_estimate
from longtail.run.fit import fit
from longtail.training import loop


@pytest.fixture(scope="module")
def digits():
    return load_data(recipes.compose("digits-lt", "ce").data, torch.device("cpu"))


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="longtail")
    return caplog


def config(**changes: object):
    return recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 120}, **changes}])


def test_a_training_states_its_rate_and_end_once(digits, tmp_path, said, monkeypatch):
    monkeypatch.setattr(loop, "ESTIMATE_AFTER", 0.0)
    monkeypatch.setattr("longtail.run.estimate.WORTH_SAYING", 0.0)
    fit(recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 3}}]), tmp_path, data=digits, report=False)
    lines = [message for message in said.messages if "expected end" in message]
    assert len(lines) == 1
    assert re.fullmatch(r"[\d,.]+ images/s, \d+ s left, expected end 20[-\d: ]+", lines[0])


def test_the_time_left_follows_from_the_rate(digits, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(loop, "ESTIMATE_AFTER", 0.0)
    monkeypatch.setattr("longtail.run.fit.log_estimate", lambda *arguments: given.append(arguments[2:]))
    fit(recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 3}}]), tmp_path, data=digits, report=False)
    ((rate, seconds),) = given
    assert seconds == pytest.approx((18 - 3) * 64 / rate)  # 3 epochs of 6 steps; estimated after the third step


def test_little_time_left_is_not_worth_a_line(digits, said):
    log_estimate(config(), digits, 100.0, 29.0)
    assert not said.messages


def test_more_than_an_hour_is_followed_by_faster_ways(digits, said):
    log_estimate(config(), digits, 3.21, 7200.0)
    first, second = said.messages
    assert first.startswith("3.2 images/s, 2 h 0 min left, expected end ")
    assert second == "faster on this machine: fewer epochs, `--epochs 30` (30 min)"


def test_large_images_and_pretrained_weights_have_more_ways(digits, monkeypatch):
    pretrained = config()
    pretrained = replace(pretrained, model=replace(pretrained.model, pretrained=True))
    monkeypatch.setattr(type(digits.test.images), "size", 224, raising=False)
    monkeypatch.setattr(digits.test.images, "size", 224)
    features, smaller, fewer = faster_ways(pretrained, digits, 0.5, 7200.0)
    images = len(digits.train) + len(digits.val) + len(digits.test)
    assert features.startswith("a head on features, `longtail features small_net digits-lt`")
    assert features.endswith(f"({round(images / 3 / 0.5 / 60)} min)")
    assert smaller == "smaller images, `--image-size 112` (30 min)"
    assert fewer == "fewer epochs, `--epochs 30` (30 min)"
