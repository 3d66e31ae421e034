from pathlib import Path

import pytest

from longtail.data.formats.cifar_files import CIFAR10, CIFAR100, CIFARS, data_root, detect_cifar, find_cifar
from longtail.errors import InputError


def test_official_numbers():
    assert (CIFAR10.record_bytes, CIFAR100.record_bytes) == (3073, 3074)
    assert CIFAR10.sizes == (10_000,) * 6
    assert CIFAR100.sizes == (50_000, 10_000)
    for cifar in CIFARS.values():
        for layout in cifar.layouts:
            assert len(layout.files) == len(cifar.digests) == len(set(cifar.digests))
    assert [len(names) for names in CIFAR100.names.values()] == [100, 20]
    assert len(CIFAR10.class_names) == 10
    for names in (CIFAR10.class_names, *CIFAR100.names.values()):
        assert list(names) == sorted(set(names))


def test_python_layout_is_that_of_torchvision():
    torchvision = pytest.importorskip("torchvision")
    for cifar, theirs in ((CIFAR10, torchvision.datasets.CIFAR10), (CIFAR100, torchvision.datasets.CIFAR100)):
        layout = cifar.layouts[1]
        assert (layout.folder, layout.archive) == (theirs.base_folder, theirs.filename)
        assert list(layout.files) == [name for name, _ in theirs.train_list + theirs.test_list]


def test_data_root_order(monkeypatch, tmp_path):
    monkeypatch.setenv("LONGTAIL_DATA", str(tmp_path))
    assert data_root("elsewhere") == Path("elsewhere")
    assert data_root() == tmp_path
    monkeypatch.delenv("LONGTAIL_DATA")
    assert data_root() == Path.home() / ".cache" / "longtail"
    assert data_root("~/data") == Path.home() / "data"


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
