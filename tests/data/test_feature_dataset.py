import hashlib

import numpy as np
import pytest
import torch

from longtail.config.schema import DataConfig
from longtail.data.formats.feature_dataset import MappedFeatures, load_feature_data, thumbnails_of
from longtail.data.formats.features import write_features
from longtail.data.resident import ResidentImages
from longtail.errors import InputError
from tests.data.helpers import COUNTS, blocks, made_up


@pytest.fixture(params=["npz", "parquet", "safetensors"])
def file(request, tmp_path):
    rows, embeddings, logits = made_up(views=2)
    write_features(tmp_path / f"f.{request.param}", rows, blocks(embeddings, logits), kind=request.param)
    return tmp_path / f"f.{request.param}", embeddings


def plain(part) -> np.ndarray:
    return next(part.images.batches(torch.arange(len(part))[None], None)).numpy()


def foreign(path, counts, **more):
    """Write a file as another tool would, with the row number as first value."""
    labels = np.repeat(np.arange(len(counts)), counts)
    embeddings = np.stack([np.arange(len(labels)), labels], axis=1)
    np.savez(path, embeddings=embeddings, labels=labels, **more)
    return DataConfig(name=str(path))


def test_the_parts_are_those_of_the_file_and_images_are_counted_once(file):
    path, embeddings = file
    data = load_feature_data(DataConfig(name=str(path)))
    assert (len(data.train), len(data.val), len(data.test)) == (9, 2, 4)
    assert data.class_counts.counts.tolist() == COUNTS
    assert data.class_names == ("cat", "dög")
    assert np.array_equal(plain(data.train), embeddings[:9])
    assert np.array_equal(plain(data.val), embeddings[27:29])
    assert np.array_equal(plain(data.test), embeddings[29:])
    assert data.load_report.notes == ("Only a head is trained, on features of small_net on digits-lt (5 dimensions).",)


def test_a_random_number_picks_one_of_the_augmented_views(file):
    path, embeddings = file
    images = load_feature_data(DataConfig(name=str(path))).train.images
    assert images.num_augmented == 2
    uniforms_SBR = torch.tensor([[[0.0], [0.49], [0.5], [0.999]]])
    batch = next(images.batches(torch.tensor([[3, 3, 3, 8]]), uniforms_SBR))
    assert np.array_equal(batch, embeddings[[9 + 3, 9 + 3, 18 + 3, 18 + 8]])
    again = images.subset(torch.tensor([3, 8]))
    assert np.array_equal(next(again.batches(torch.tensor([[0, 0, 0, 1]]), uniforms_SBR)), batch)
    assert images.embedding_dim == 5


def test_the_digest_depends_on_the_file_and_the_split(file):
    path, _ = file
    data = load_feature_data(DataConfig(name=str(path)))
    expected = hashlib.sha256(path.read_bytes() + np.arange(9, dtype="<i8").tobytes()).hexdigest()
    assert (data.split.sha256, data.split.images, data.split.name) == (expected, 9, "features")


def test_what_the_file_lacks_is_held_out_as_of_images(tmp_path):
    config = foreign(tmp_path / "f.npz", [60, 20])
    data = load_feature_data(DataConfig(**{**vars(config), "val_share": 0.1, "test_per_class": 5}))
    assert torch.bincount(data.test.targets).tolist() == [5, 5]
    assert torch.bincount(data.val.targets).tolist() == [6, 2]
    assert data.class_counts.counts.tolist() == [49, 13]
    assert data.group_counts.counts.tolist() == [55, 15]
    rows = np.concatenate([plain(part)[:, 0] for part in (data.train, data.val, data.test)])
    assert sorted(rows) == list(range(80))
    for part in (data.train, data.val, data.test):
        assert plain(part)[:, 1].tolist() == part.targets.tolist()
    assert data.split.name == "features-val0.1"
    assert any("held out" in note for note in data.load_report.notes)
    assert "of another tool" in data.load_report.notes[0]


def test_a_long_tail_can_be_cut_and_takes_the_views_along(tmp_path):
    labels = np.tile(np.repeat([0, 1], 20), 2)
    parts = np.tile(["train"] * 39 + ["test"], 2)  # the last image of each class is the test split
    parts[[19, 59]] = "test"
    embeddings = np.arange(80, dtype=np.float32)[:, None]
    view = np.repeat([0, 1], 40)
    keep = (parts == "train") | (view == 0)
    np.savez(tmp_path / "f.npz", embeddings=embeddings[keep], labels=labels[keep], part=parts[keep], view=view[keep])
    data = load_feature_data(DataConfig(name=str(tmp_path / "f.npz"), imbalance_factor=4))
    assert data.class_counts.counts.tolist() == [19, 4]
    order = torch.arange(len(data.train))[None]
    augmented = next(data.train.images.batches(order, torch.zeros(1, len(data.train), 1)))
    assert np.array_equal(augmented, plain(data.train) + 40)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"part": ["test"] * 5}, "holds no train split, only test"),
        ({"part": ["train"] * 3 + ["test"] * 2}, "classes occur only in the test split"),
        ({"view": [0, 0, 0, 0, 1], "part": ["train"] * 5}, "view 1"),
        ({"view": [0, 0, 1, 1, 0], "part": ["train"] * 5, "labels": [0, 1, 1, 0, 1]}, "the labels differ"),
        ({"embeddings": np.full((5, 2), np.nan)}, "NaN or infinite"),
        ({"class_names": ["cat", "dog", "emu"]}, "emu"),
    ],
)
def test_invalid_files_are_refused(tmp_path, change, words):
    arrays = {"embeddings": np.ones((5, 2)), "labels": [0, 0, 0, 1, 1], **change}
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(InputError) as refused:
        load_feature_data(DataConfig(name=str(tmp_path / "f.npz")))
    assert words in str(refused.value)


def test_settings_out_of_range_are_refused_first():
    with pytest.raises(InputError, match="`val_share`"):
        load_feature_data(DataConfig(name="absent.npz", val_share=1.5))


def test_without_views_a_random_view_is_refused_and_there_are_no_pictures():
    images = MappedFeatures(np.ones((2, 3), np.float16), torch.tensor([[0, 1]]))
    with pytest.raises(InputError, match="no augmented views; write some with `longtail features`"):
        next(images.batches(torch.tensor([[0]]), torch.zeros(1, 1, 1)))
    with pytest.raises(InputError, match="no picture"):
        images.thumbnail(0)
    assert next(images.batches(torch.tensor([[0]]), None)).dtype == torch.float32
    assert thumbnails_of(images) is None
    pixels = ResidentImages(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    assert thumbnails_of(pixels)(0).shape == (3, 2, 2)
