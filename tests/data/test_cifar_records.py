import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

from longtail.data.formats.cifar_files import CIFAR10, CIFAR100, CifarFiles, detect_cifar
from longtail.data.formats.cifar_records import binary_records, is_official, python_records, read_cifar
from longtail.errors import InputError


def read(path):
    files = detect_cifar(path)
    assert files is not None
    return read_cifar(files)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("kind", ["binary", "python"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_layout_gives_the_same_records(name, kind, packed, fake_cifar, tmp_path):
    fake = fake_cifar(name)
    records = read((fake.pack if packed else fake.write)(kind, tmp_path))
    assert len(records) == len(fake.records)
    for got, expected, digest in zip(records, fake.records, fake.cifar.digests, strict=True):
        np.testing.assert_array_equal(got, expected)
        assert is_official(got, digest)


def test_archive_is_read_without_writing(fake_cifar, tmp_path):
    archive = fake_cifar("cifar100").pack("binary", tmp_path)
    before = sorted(tmp_path.rglob("*"))
    read(archive)
    assert sorted(tmp_path.rglob("*")) == before


def test_archive_members_elsewhere_and_links_are_passed_over(fake_cifar, tmp_path):
    fake = fake_cifar("cifar100")
    path = tmp_path / "cifar-100-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-100-binary/train.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
        for name in ("../train.bin", "/train.bin", "cifar-100-binary/../train.bin"):
            stray = tarfile.TarInfo(name)
            stray.size = 3
            archive.addfile(stray, io.BytesIO(b"bad"))
        for name, records in zip(("train.bin", "test.bin"), fake.records, strict=True):
            member = tarfile.TarInfo(f"./cifar-100-binary/{name}")
            member.size = records.nbytes
            archive.addfile(member, io.BytesIO(records.tobytes()))
    np.testing.assert_array_equal(read(path)[0], fake.records[0])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kept", [0, 100, 30_000])
def test_truncated_archive_names_file_and_bytes(kept, fake_cifar, tmp_path):
    archive = fake_cifar("cifar10").pack("binary", tmp_path)
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(
        InputError, match=rf"cifar-10-binary\.tar\.gz \({kept:,} bytes\), it is truncated or no archive"
    ):
        read(archive)


def test_file_missing_from_folder_or_archive(fake_cifar, tmp_path):
    fake = fake_cifar("cifar10")
    folder = fake.write("binary", tmp_path)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(
        InputError, match=r"there is no .*data_batch_3\.bin; CIFAR-10 needs .*`longtail data get cifar10`"
    ):
        read(folder)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-bin")
    with pytest.raises(InputError, match=r"there is no data_batch_3\.bin in .*tar\.gz"):
        read(archive)


def test_unreadable_file(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    (folder / "train.bin").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot read .*train\.bin"):
        read_cifar(CifarFiles(CIFAR100, CIFAR100.layouts[0], folder))


@pytest.mark.parametrize("cut", [-1, 1, -3074])
def test_wrong_size_names_bytes_found_and_needed(cut, fake_cifar, tmp_path):
    folder = fake_cifar("cifar100").write("binary", tmp_path)
    whole = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes((whole + b"\0")[: len(whole) + cut])
    found, needed = f"{len(whole) + cut:,}", f"{len(whole):,}"
    with pytest.raises(
        InputError, match=rf"train\.bin has {found} bytes, but {needed} are needed \(500 images of 3,074\)"
    ):
        read(folder)


def test_truncated_pickle_names_the_file(fake_cifar, tmp_path):
    folder = fake_cifar("cifar100").write("python", tmp_path)
    (folder / "test").write_bytes((folder / "test").read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cifar-100-python.test \([\d,]+ bytes\) is no readable pickle, truncated"):
        read(folder)


def test_label_out_of_range_names_the_image():
    record = bytes(3073)
    with pytest.raises(InputError, match="x: image 1 has label 10, but CIFAR-10 has labels 0 to 9"):
        binary_records(record + b"\x0a" + record[1:], CIFAR10, 2, "x")
    fine_label_last = bytes([255, 99]) + bytes(3072)
    assert binary_records(fine_label_last, CIFAR100, 1, "x")[0, 1] == 99


ZEROS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must hold a mapping with 'data' and labels, not a list"),
        ({"data": ZEROS}, "'labels' must be .* not missing"),
        ({"data": ZEROS, "labels": [1]}, r"'labels' must be .* of shape \(2,\), not int64 of shape \(1,\)"),
        ({"data": ZEROS, "labels": [1, -1]}, "'labels' must be whole numbers from 0 to 255"),
        ({"data": ZEROS, "labels": [1, [2]]}, "'labels' must be"),
        ({"data": ZEROS, "labels": ["a", "b"]}, "'labels' must be"),
        ({"data": ZEROS, "labels": [1, 17]}, "image 1 has label 17"),
        (
            {"data": ZEROS[:, :-1], "labels": [1, 2]},
            r"'data' must be .* of shape \(2, 3072\), not uint8 of shape \(2, 3071\)",
        ),
        ({"data": ZEROS + 0.5, "labels": [1, 2]}, "'data' must be whole numbers .* not float64"),
    ],
)
def test_pickle_of_another_content_is_refused(content, message):
    with pytest.raises(InputError, match="data_batch_1:? .*" + message):
        python_records(pickle.dumps(content), CIFAR10, 2, "data_batch_1")


def test_digest_tells_one_changed_bit():
    records = np.random.default_rng(1).integers(0, 256, (5, 3074), np.uint8)
    for algorithm in ("md5", "sha256"):
        digest = f"{algorithm}:{hashlib.new(algorithm, records.tobytes()).hexdigest()}"
        assert is_official(records, digest)
        changed = records.copy()
        changed[4, 3000] ^= 1
        assert not is_official(changed, digest)
