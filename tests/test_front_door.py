"""The front door: what `import longtail as lt` offers, and how little it costs."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import longtail as lt


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> lt.Run:
    return lt.train(method="ce", epochs=2, out=tmp_path_factory.mktemp("front") / "run")


def test_importing_the_package_imports_neither_torch_nor_numpy():
    code = "import sys, longtail; print(sorted({'torch', 'numpy', 'yaml', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_training_imports_no_library_that_a_run_may_not_need():
    unneeded = {"torchvision", "timm", "sklearn", "scipy.optimize", "torch._dynamo"}
    code = f"import sys, longtail.run.fit; print(sorted({unneeded} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_found_and_an_unknown_one_is_not():
    for name in lt.__all__:
        assert getattr(lt, name) is not None
    assert set(lt.__all__) == set(dir(lt))
    with pytest.raises(AttributeError, match="no attribute 'lossses'"):
        _ = lt.lossses


def test_subpackages_offer_their_components():
    assert lt.losses.BalancedSoftmax([3, 1])(torch.zeros(1, 2), torch.tensor([1])) > 0
    assert len(lt.samplers.ClassBalancedSampler([0, 0, 1])) == 3


def test_arguments_of_train_are_those_of_the_command_line_and_all_default_to_the_recipes():
    parameters = inspect.signature(lt.train).parameters
    assert {"epochs", "batch_size", "lr", "seed", "method", "out", "val_share", "settings"} <= set(parameters)
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def test_a_trained_run_has_configuration_result_scores_predictions_and_model(run):
    assert run.config.method == "ce"
    assert run.config.stages[0].training.epochs == 2
    assert run.result["test"]["top1"] == run.scores.top1
    assert len(run.predictions()) == run.predictions().logits.shape[0]
    assert len(run.log) == 2
    assert not run.model().training


def test_a_loaded_run_is_the_trained_one(run):
    loaded = lt.load(run.folder)
    assert loaded.result == run.result
    assert all(torch.equal(a, b) for a, b in zip(loaded.model().parameters(), run.model().parameters(), strict=True))


def test_settings_reach_any_setting(tmp_path):
    run = lt.train(method="ce", epochs=1, out=tmp_path / "run", settings={"stages.0.training.clip_norm": 1.0})
    assert run.config.stages[0].training.clip_norm == 1.0


def test_resume_continues_a_finished_run_to_the_same_result(run):
    assert lt.train(out=run.folder, resume=True).result["test"] == run.result["test"]


def test_resume_without_a_folder_and_an_unfinished_run_are_refused(tmp_path):
    with pytest.raises(lt.InputError, match="`resume` requires `out`"):
        lt.train(resume=True)
    with pytest.raises(lt.InputError, match="holds no run"):
        lt.load(tmp_path)


def test_paths_pictures_arrays_and_tensors_of_one_image_get_one_answer(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    given = [tmp_path / "one.png", str(tmp_path / "one.png"), Image.fromarray(pixels), pixels, tensor]
    given += [pixels / 255, tensor / 255]
    answers = [run.predict(each) for each in given]
    for answer in answers:
        torch.testing.assert_close(answer.probabilities, answers[0].probabilities)
        assert answer.labels == answers[0].labels
    assert answers[0].paths == (tmp_path / "one.png",)
    assert answers[2].paths is None
    assert answers[0].probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8)), r"must have the shape \(H, W, 3\), got \(8, 8\)"),
        (torch.zeros(8, 8, 3), r"must have the shape \(3, H, W\)"),
        (np.full((8, 8, 3), 255.0), r"must lie in \[0, 1\], got values from 255 to 255"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "must be uint8, or floats"),
    ],
)
def test_pixels_of_another_kind_are_refused(run, image, words):
    with pytest.raises(lt.InputError, match=words):
        run.predict(image)


def test_evaluate_takes_lists_arrays_and_tensors_alike():
    logits, targets = [[2.0, 1.0], [1.0, 0.0]], [0, 1]
    expected = lt.evaluate(torch.tensor(logits), torch.tensor(targets), [500, 5])
    assert lt.evaluate(np.array(logits, dtype=np.float32), np.array(targets), np.array([500, 5])) == expected
    assert lt.evaluate(logits, targets, [500, 5]).top1 == expected.top1
    assert (expected.top1, expected.few) == (50.0, 0.0)


def test_recommend_gives_a_reason_for_its_choice():
    advice = lt.recommend("digits-lt")
    assert advice.method == "balanced-softmax"
    assert "times the images" in str(advice)
