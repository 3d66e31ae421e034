"""Each format gives the logits of the model, states what it takes, and refuses other inputs."""

import importlib.util
import json
import math
import warnings

import numpy as np
import pytest
import torch
import yaml

from longtail.errors import InputError
from longtail.export import ExportedGraph, exporting, load_exported
from longtail.export.formats import largest_difference
from longtail.export.hub import check_upload
from longtail.models import CosineHead, LinearHead, small_net
from longtail.models.classifier import Classifier

from ..cli.calling import call

PIXELS = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="the packages of the extra onnx are not installed",
)


@pytest.fixture(scope="module")
def expected(run):
    with torch.inference_mode():
        return run.model()(PIXELS)


def load_graph(path, read=torch.jit.load):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        return read(str(path))


def facts_of(path, read):
    found = {"longtail.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (torch.jit.load(str(path), _extra_files=found) if read == "jit" else torch.export.load(path, extra_files=found))
    return json.loads(found["longtail.json"])


def test_torchscript_gives_the_logits_for_any_batch_and_refuses_other_types_and_sizes(run, expected, tmp_path):
    assert run.export(tmp_path / "m.pt").difference < 1e-5
    module = load_graph(tmp_path / "m.pt")
    logits, probabilities = module(PIXELS)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(probabilities, expected.softmax(dim=1))
    with pytest.raises(Exception, match="images must be uint8 with values from 0 to 255"):
        module(PIXELS / 255)
    with pytest.raises(Exception, match=r"the shape after the batch must be \[3, 8, 8\]"):
        module(torch.zeros(1, 3, 9, 9, dtype=torch.uint8))
    assert facts_of(tmp_path / "m.pt", "jit")["class_names"] == list(run.class_names)


def test_torch_export_gives_the_logits_for_any_batch_and_refuses_other_types(run, expected, tmp_path):
    assert run.export(tmp_path / "m.pt2").kind == "torch-export"
    module = torch.export.load(tmp_path / "m.pt2").module()
    torch.testing.assert_close(module(PIXELS)[0], expected)
    torch.testing.assert_close(module(PIXELS[:1])[0], expected[:1])
    with pytest.raises(RuntimeError, match="dtype"):
        module(PIXELS / 255)
    assert facts_of(tmp_path / "m.pt2", "export")["class_counts"] == run.predictions().class_counts.tolist()


@needs_onnx
def test_onnxruntime_gives_the_shifted_logits_and_the_metadata(run, expected, tmp_path, capsys):
    import onnxruntime

    path = tmp_path / "m.onnx"
    assert call("export", run.folder, "--output", path, "--test-prior", "train") == 0
    assert "largest difference of the logits from the model" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(path))
    logits, probabilities = session.run(None, {"images": PIXELS.numpy()})
    prior = run.predictions().class_counts / run.predictions().class_counts.sum()
    wanted = expected + prior.log() - math.log(1 / 10)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_allclose(probabilities, wanted.softmax(dim=1), atol=1e-5)
    with pytest.raises(Exception, match="Unexpected input data type"):
        session.run(None, {"images": (PIXELS / 255).numpy()})
    stated = session.get_modelmeta().custom_metadata_map
    facts = json.loads(stated["longtail"])
    assert json.loads(stated["class_names"]) == facts["class_names"] == list(run.class_names)
    assert facts["input"] == {
        "kind": "images", "dtype": "uint8", "shape": [None, 3, 8, 8], "layout": "BCHW", "range": [0, 255],
    }  # fmt: skip
    assert facts["training_prior"] == facts["test_prior"] == pytest.approx(prior.tolist())
    assert facts["model_prior"] == [0.1] * 10
    assert facts["preprocessing"]["resize"] == {
        "kind": "shorter side",
        "size": 8,
        "interpolation": "bilinear",
        "antialias": True,
    }


@pytest.mark.parametrize("kind", ["safetensors", "hf"])
def test_weights_restore_the_model_without_the_run(run, expected, tmp_path, kind):
    path = tmp_path / ("m.safetensors" if kind == "safetensors" else "folder")
    run.export(path)
    loaded = load_exported(path)
    with torch.inference_mode():
        assert torch.equal(loaded.model(PIXELS), expected)
    assert (loaded.class_names, loaded.image_size) == (run.class_names, 8)


def test_a_shift_is_folded_into_the_bias_of_the_weights(run, expected, tmp_path):
    run.export(tmp_path / "m.safetensors", test_prior="train")
    prior = run.predictions().class_counts / run.predictions().class_counts.sum()
    with torch.inference_mode():
        logits = load_exported(tmp_path / "m.safetensors").model(PIXELS)
    torch.testing.assert_close(logits, expected + prior.log() - math.log(1 / 10))


def test_the_folder_for_the_hub_has_its_files_and_a_valid_card(run, tmp_path):
    assert call("export", run.folder, "--to", "hf", "--output", tmp_path / "f") == 0
    names = {path.name for path in (tmp_path / "f").iterdir()}
    assert names == {"model.safetensors", "config.json", "preprocessor_config.json", "README.md"}
    config = json.loads((tmp_path / "f" / "config.json").read_text())
    assert config["id2label"]["3"] == run.class_names[3]
    processor = json.loads((tmp_path / "f" / "preprocessor_config.json").read_text())
    assert (processor["size"], processor["crop_size"]) == ({"shortest_edge": 8}, {"height": 8, "width": 8})
    card = (tmp_path / "f" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    metrics = front["model-index"][0]["results"][0]["metrics"]
    assert {each["type"]: each["value"] for each in metrics}["balanced"] == round(run.scores.balanced, 2)
    assert "license" not in front
    for heading in ("Data", "Scores on the test split", "Classes", "Calibration", "Limits", "Use"):
        assert f"\n## {heading}\n" in card
    for name, count, accuracy in zip(
        run.class_names, run.predictions().class_counts.tolist(), run.scores.per_class, strict=True
    ):
        assert f"| {name} | {count} | {accuracy:.1f} |" in card


def test_the_preparation_of_the_hub_folder_gives_the_input_of_the_network(run, tmp_path):
    """The statistics as transformers applies them equal the normalization of the model."""
    run.export(tmp_path / "f", "hf")
    steps = json.loads((tmp_path / "f" / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(steps[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    model = run.model()
    wanted = PIXELS * model.scale_C11 + model.shift_C11
    torch.testing.assert_close((PIXELS * steps["rescale_factor"] - mean) / std, wanted, atol=1e-4, rtol=1e-4)


def test_heads_on_features_take_float_features(head, tmp_path):
    head.export(tmp_path / "head.pt")
    module, inputs = load_graph(tmp_path / "head.pt"), torch.randn(4, 64)
    with torch.inference_mode():
        torch.testing.assert_close(module(inputs)[0], head.model()(inputs))
    with pytest.raises(Exception, match="features must be float32"):
        module(inputs.double())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "m.zip"), "must be that of a format"),
        (("--output", "no/m.onnx"), "not a writable folder"),
        (("--to", "onx"), "did you mean onnx?"),
        (("--to", "safetensors", "--test-prior", "estimate"), "must be known for an export, got 'estimate'"),
        (("--to", "safetensors", "--push", "me/model"), "`push` uploads the folder of the format hf"),
        (("--to", "hf", "--push", "model"), "`push` must be a repository such as my-name/my-model, got 'model'"),
    ],
)
def test_refusals_come_before_work_and_leave_nothing(run, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert call("export", run.folder, *words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "ONNX_PACKAGES", ("no_such_package",))
    with pytest.raises(InputError, match=r"needs the package no_such_package; install longtail\[onnx\]"):
        run.export(tmp_path / "m.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package huggingface_hub"):
        check_upload("me/model")


def test_a_shift_of_weights_needs_a_linear_head(run, tmp_path, monkeypatch):
    model = Classifier(small_net(), CosineHead(64, 10))
    trained = exporting.Trained(model, run.class_names, 8)
    graph = ExportedGraph(model, torch.ones(10))
    with pytest.raises(InputError, match="`test_prior` needs a linear head"):
        exporting._write_weights(tmp_path / "m.safetensors", "safetensors", graph, trained, {})
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_traced_is_refused_and_the_old_file_kept(tmp_path):
    class Random(torch.nn.Module):
        embedding_dim = 64

        def forward(self, images):
            raise RuntimeError("no tracing")

    from longtail.export.formats import write_graph

    (tmp_path / "m.pt").write_text("old")
    with pytest.raises(InputError, match=r"Random and LinearHead cannot be written as torchscript \(no tracing\)"):
        write_graph(tmp_path / "m.pt", "torchscript", ExportedGraph(Classifier(Random(), LinearHead(64, 3))), 8, {})
    assert (tmp_path / "m.pt").read_text() == "old"


def test_other_logits_are_refused():
    logits = torch.tensor([[1.0, -torch.inf], [2.0, 3.0]])
    assert largest_difference(logits, logits.clone(), "onnx") == 0
    for other in (logits + 0.1, logits[:1], logits.nan_to_num(), logits * torch.nan):
        with pytest.raises(InputError, match="other logits than the model"):
            largest_difference(logits, other, "onnx")


def test_files_of_other_tools_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="without the metadata of `longtail export`"):
        load_exported(tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"123")
    with pytest.raises(InputError, match="cannot read"):
        load_exported(tmp_path / "broken.safetensors")
