import os
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.config.schema import DataConfig
from longtail.data.counts import ClassCounts
from longtail.data.formats.cifar import detect_cifar, find_cifar, load_cifar
from longtail.data.formats.cifar_files import CIFAR100, CIFARS
from longtail.data.splits import indices_sha256
from longtail.errors import InputError

needs_cifar = pytest.mark.skipif(
    not os.environ.get("LONGTAIL_DATA"), reason="LONGTAIL_DATA is not set: no real CIFAR-100 to read"
)


def config(name: str, **settings: object) -> DataConfig:
    return DataConfig(name=name, **settings)  # type: ignore[arg-type]


def ldam_subset(labels: np.ndarray, num_classes: int, num_max: int, factor: float) -> np.ndarray:
    """Choose images as `imbalance_cifar.py` of LDAM-DRW: global legacy generator, unique labels, shuffle, first n."""
    np.random.seed(0)
    picked = []
    for c in np.unique(labels):
        members = np.where(labels == c)[0]
        np.random.shuffle(members)
        picked.extend(members[: int(num_max * ((1 / factor) ** (c / (num_classes - 1.0))))])
    return np.array(picked)


@pytest.mark.parametrize(("name", "num_max"), [("cifar10", 20), ("cifar100", 5)])
@pytest.mark.parametrize("kind", ["binary", "python"])
def test_long_tail_is_that_of_the_authors(name, num_max, kind, fake_cifar, tmp_path):
    fake = fake_cifar(name)
    fake.write(kind, tmp_path)
    dataset = load_cifar(config(f"{name}-lt", root=str(tmp_path), imbalance_factor=5.0))
    records = np.concatenate(fake.records[:-1])
    label_bytes = len(fake.cifar.label_keys)
    labels = records[:, label_bytes - 1]
    expected = ldam_subset(labels, len(fake.cifar.class_names), num_max, 5)
    np.testing.assert_array_equal(dataset.train.targets.numpy(), labels[expected])
    pixels = np.stack([records[i, label_bytes:].reshape(3, 32, 32) for i in expected])
    np.testing.assert_array_equal(dataset.train.images.pixels.numpy(), pixels)
    assert dataset.split.name == "ldam-seed0"
    assert dataset.split.sha256 == indices_sha256(torch.from_numpy(expected))
    assert dataset.split.images == len(expected) == dataset.class_counts.total
    assert dataset.imbalance_factor == 5.0
    assert dataset.load_report.notes == ()
    np.testing.assert_allclose(dataset.mean, pixels.mean((0, 2, 3)) / 255, rtol=1e-6)
    np.testing.assert_allclose(dataset.std, pixels.std((0, 2, 3)) / 255, rtol=1e-6)


def test_test_part_is_the_whole_official_one_in_its_order(fake_cifar, tmp_path):
    fake = fake_cifar("cifar100")
    fake.write("binary", tmp_path)
    dataset = load_cifar(config("cifar100-lt", root=str(tmp_path), imbalance_factor=5.0))
    np.testing.assert_array_equal(dataset.test.targets.numpy(), fake.records[-1][:, 1])
    np.testing.assert_array_equal(dataset.test.images.pixels.numpy().reshape(100, -1), fake.records[-1][:, 2:])
    assert dataset.class_names[:2] == ("apple", "aquarium_fish")
    assert dataset.val is None


def test_data_as_they_are(fake_cifar, tmp_path):
    fake = fake_cifar("cifar10")
    fake.pack("python", tmp_path)
    dataset = load_cifar(config("cifar10", root=str(tmp_path)))
    np.testing.assert_array_equal(dataset.train.targets.numpy(), np.concatenate(fake.records[:-1])[:, 0])
    assert (dataset.split.name, dataset.split.images, dataset.imbalance_factor) == ("full", 200, None)
    assert dataset.split.sha256 == indices_sha256(torch.arange(200))


def test_default_imbalance_factor_and_other_profiles(fake_cifar, tmp_path):
    fake_cifar("cifar10").write("binary", tmp_path)
    with pytest.raises(InputError, match="imbalance factor 100 leaves no image"):
        load_cifar(config("cifar10-lt", root=str(tmp_path)))
    step = load_cifar(config("cifar10-lt", root=str(tmp_path), imbalance_factor=10.0, profile="step"))
    assert step.split.name == "ldam-seed0-step"
    assert step.class_counts.counts.tolist() == [20] * 5 + [2] * 5
    named_plainly = load_cifar(config("cifar10", root=str(tmp_path), imbalance_factor=10.0))
    assert named_plainly.split.name == "ldam-seed0"
    assert named_plainly.class_counts.imbalance_factor == 10.0


@pytest.mark.parametrize("packed", [False, True])
def test_path_of_a_folder_or_an_archive(packed, fake_cifar, tmp_path):
    fake = fake_cifar("cifar10")
    path = (fake.pack if packed else fake.write)("binary", tmp_path)
    dataset = load_cifar(config(str(path)))
    assert (dataset.name, len(dataset.train), len(dataset.test)) == (str(path), 200, 20)


def test_held_out_part_comes_from_the_long_tail(fake_cifar, tmp_path):
    fake_cifar("cifar10").write("binary", tmp_path)

    def load(**settings):
        return load_cifar(config("cifar10-lt", root=str(tmp_path), imbalance_factor=10.0, **settings))

    whole, split, other = load(), load(val_share=0.1), load(val_share=0.1, seed=1)
    held = ClassCounts.from_targets(split.val.targets, 10).counts
    expected = [max(round(0.1 * n), int(n >= 5)) for n in whole.class_counts.counts.tolist()]
    assert held.tolist() == expected
    assert (held + split.class_counts.counts).tolist() == whole.class_counts.counts.tolist()
    rows = {row.tobytes() for row in whole.train.images.pixels.numpy()}
    parts = [{row.tobytes() for row in part.images.pixels.numpy()} for part in (split.train, split.val)]
    assert parts[0] | parts[1] == rows
    assert not parts[0] & parts[1]
    assert split.split.images == len(split.train)
    assert len({whole.split.sha256, split.split.sha256, other.split.sha256}) == 3
    assert split.load_report.notes == (
        f"{sum(expected)} of the {len(whole.train)} training images are held out as a validation split.",
    )


def test_held_out_part_never_takes_a_whole_class(fake_cifar, tmp_path):
    fake_cifar("cifar10").write("binary", tmp_path)
    dataset = load_cifar(config("cifar10-lt", root=str(tmp_path), imbalance_factor=20.0, val_share=0.9))
    assert int(dataset.class_counts.counts.min()) == 1
    assert dataset.val is not None


def cut_down(fake, root: Path, factor: float) -> None:
    """Blank the training images outside a subset, which makes a file that compresses well."""
    train = fake.records[0]
    kept = ldam_subset(train[:, 1], 100, 5, factor)
    blanked = train.copy()
    blanked[np.setdiff1d(np.arange(len(train)), kept), 2:] = 0
    (fake.write("binary", root) / "train.bin").write_bytes(blanked.tobytes())


def test_file_cut_down_to_the_subset_is_read_with_a_note(fake_cifar, tmp_path):
    fake = fake_cifar("cifar100")
    cut_down(fake, tmp_path / "cut", 5)
    fake.write("binary", tmp_path / "whole")
    cut, whole = (
        load_cifar(config("cifar100-lt", root=str(tmp_path / which), imbalance_factor=5.0))
        for which in ("cut", "whole")
    )
    assert torch.equal(cut.train.images.pixels, whole.train.images.pixels)
    assert cut.split == whole.split
    assert whole.load_report.notes == ()
    assert cut.load_report.notes == (
        "Not the official bytes: train.bin in cifar-100-binary. No training image is blank.",
    )


def test_file_cut_down_to_a_smaller_subset_is_refused(fake_cifar, tmp_path):
    cut_down(fake_cifar("cifar100"), tmp_path, 5)
    with pytest.raises(InputError, match=r"\d+ of the 500 requested training images are blank in .*`longtail data get"):
        load_cifar(config("cifar100", root=str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"storage": "stream"},
            'cifar10-lt is kept in memory and cannot use `storage` "stream"; .*longtail data export',
        ),
        ({"image_size": 64}, "`image_size` of cifar10-lt must be 32 pixels, got 64; leave it out"),
        ({"val_share": 1.0}, r"`val_share` must be >= 0 and < 1, got 1\.0"),
        ({"val_share": -0.1}, "`val_share` must be >= 0 and < 1, got -0.1"),
        ({"imbalance_factor": 0.5}, r"`imbalance_factor` must be >= 1, got 0\.5"),
    ],
)
def test_setting_that_does_not_fit(settings, message):
    with pytest.raises(InputError, match=message):
        load_cifar(config("cifar10-lt", **settings))


def test_path_that_is_no_cifar(tmp_path):
    with pytest.raises(InputError, match="neither an official CIFAR folder"):
        load_cifar(config(str(tmp_path)))
    with pytest.raises(InputError, match="no CIFAR data set or path 'cifar-100-lt'; did you mean cifar100-lt"):
        load_cifar(config("cifar-100-lt"))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("kind", ["binary", "python"])
def test_found_as_folder_as_archive_and_as_root(name, kind, fake_cifar, tmp_path, monkeypatch):
    fake = fake_cifar(name)
    folder = fake.write(kind, tmp_path / "a")
    archive = fake.pack(kind, tmp_path)
    assert find_cifar(name, str(tmp_path / "a")).path == folder
    assert find_cifar(name, str(folder)).path == folder
    assert find_cifar(name, str(tmp_path)).path == archive
    monkeypatch.setenv("LONGTAIL_DATA", str(tmp_path / "a"))
    found = find_cifar(name)
    assert (found.path, found.layout.kind, found.cifar, found.complete) == (folder, kind, fake.cifar, True)


def test_renamed_folder_is_known_by_its_files(fake_cifar, tmp_path):
    folder = fake_cifar("cifar100").write("python", tmp_path).rename(tmp_path / "mine")
    found = detect_cifar(folder)
    assert found is not None
    assert (found.cifar.name, found.layout.kind) == ("cifar100", "python")


def test_image_folder_with_train_and_test_folders_is_not_cifar(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    assert detect_cifar(tmp_path) is None


def test_root_of_the_other_data_set_does_not_count(fake_cifar, tmp_path):
    folder = fake_cifar("cifar10").write("binary", tmp_path)
    with pytest.raises(InputError, match=r"no CIFAR-100 in .*cifar-10-batches-bin"):
        find_cifar("cifar100", str(folder))


def test_whole_archive_is_preferred_to_a_half_unpacked_folder(fake_cifar, tmp_path):
    fake = fake_cifar("cifar10")
    archive = fake.pack("binary", tmp_path)
    (fake.write("binary", tmp_path) / "test_batch.bin").unlink()
    assert find_cifar("cifar10", str(tmp_path)).path == archive
    archive.unlink()
    assert not find_cifar("cifar10", str(tmp_path)).complete


def test_absence_says_what_was_looked_for_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAIL_DATA", str(tmp_path))
    with pytest.raises(InputError) as error:
        find_cifar("cifar10")
    for part in (
        f"no CIFAR-10 in {tmp_path}",
        "cifar-10-batches-bin, cifar-10-binary.tar.gz, cifar-10-batches-py, cifar-10-python.tar.gz",
        "`longtail data get cifar10`",
        "LONGTAIL_DATA",
    ):
        assert part in str(error.value)
    with pytest.raises(InputError, match="did you mean cifar100"):
        find_cifar("cifar-100")


@needs_cifar
def test_real_cifar100_lt():
    dataset = load_cifar(config("cifar100-lt"))
    assert (len(dataset.train), len(dataset.test)) == (10_847, 10_000)
    assert dataset.class_counts.groups()["many"].sum() == 35
    assert dataset.class_counts.counts[[0, 99]].tolist() == [500, 5]
    assert dataset.split.sha256 == "e0d58a4d2700c46062da852554e5d185bbee74d3c612b052ea2a839bdadf939e"
    assert (ClassCounts.from_targets(dataset.test.targets, 100).counts == 100).all()


@needs_cifar
def test_real_cifar100_lt_split_is_that_of_the_authors():
    folder = Path(os.environ["LONGTAIL_DATA"]) / "cifar-100-binary"
    if not folder.exists():
        pytest.skip("LONGTAIL_DATA holds no cifar-100-binary")
    labels = np.fromfile(folder / "train.bin", np.uint8).reshape(-1, 3074)[:, 1]
    expected = indices_sha256(torch.from_numpy(ldam_subset(labels, 100, 500, 100)))
    assert expected == load_cifar(config("cifar100-lt")).split.sha256
    for file, names in CIFAR100.names.items():
        assert tuple((folder / file).read_text().split()) == names
    assert CIFARS["cifar100"] is CIFAR100
