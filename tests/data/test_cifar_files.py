import hashlib
import io
import os
import pickle
import pickletools
import tarfile

import numpy as np
import pytest

from longtail.data.formats.cifar import detect_cifar
from longtail.data.formats.cifar_files import (
    CIFAR10,
    CIFAR100,
    CIFARS,
    CifarFiles,
    binary_records,
    is_official,
    load_arrays,
    python_records,
)
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


def read(path):
    files = detect_cifar(path)
    assert files is not None
    return files.read()


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
        InputError, match=rf"cifar-10-binary\.tar\.gz \({kept:,} bytes\), it is truncated or not an archive"
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
        CifarFiles(CIFAR100, CIFAR100.layouts[0], folder).read()


@pytest.mark.parametrize("cut", [-1, 1, -3074])
def test_wrong_size_names_bytes_found_and_needed(cut, fake_cifar, tmp_path):
    folder = fake_cifar("cifar100").write("binary", tmp_path)
    whole = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes((whole + b"\0")[: len(whole) + cut])
    found, needed = f"{len(whole) + cut:,}", f"{len(whole):,}"
    with pytest.raises(InputError, match=rf"train\.bin has {found} bytes, but needs {needed} \(500 images of 3,074\)"):
        read(folder)


def test_truncated_pickle_names_the_file(fake_cifar, tmp_path):
    folder = fake_cifar("cifar100").write("python", tmp_path)
    (folder / "test").write_bytes((folder / "test").read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cifar-100-python.test \([\d,]+ bytes\) is not a readable pickle, truncated"):
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
        ([1, 2], "must hold a mapping with 'data' and labels, got list"),
        ({"data": ZEROS}, "'labels' must be .* got nothing"),
        ({"data": ZEROS, "labels": [1]}, r"'labels' must be .* of shape \(2,\), got int64 of shape \(1,\)"),
        ({"data": ZEROS, "labels": [1, -1]}, "'labels' must be integers from 0 to 255"),
        ({"data": ZEROS, "labels": [1, [2]]}, "'labels' must be"),
        ({"data": ZEROS, "labels": ["a", "b"]}, "'labels' must be"),
        ({"data": ZEROS, "labels": [1, 17]}, "image 1 has label 17"),
        (
            {"data": ZEROS[:, :-1], "labels": [1, 2]},
            r"'data' must be .* of shape \(2, 3072\), got uint8 of shape \(2, 3071\)",
        ),
        ({"data": ZEROS + 0.5, "labels": [1, 2]}, "'data' must be integers .* got float64"),
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


def batch() -> dict[str, object]:
    data = np.random.default_rng(0).integers(0, 256, (4, 300), np.uint8)
    return {"data": data, "labels": [3, 1, 4, 1]}


def test_pickle_of_python_2_is_read_as_the_standard_library_reads_it(python2_pickle):
    raw = python2_pickle(batch())
    assert b"cnumpy.core.multiarray\n_reconstruct" in raw
    expected = pickle.loads(raw, encoding="bytes")
    got = load_arrays(raw, "data_batch_1")
    assert got.keys() == expected.keys() == {b"data", b"labels"}
    np.testing.assert_array_equal(got[b"data"], batch()["data"])
    assert got[b"labels"] == expected[b"labels"] == [3, 1, 4, 1]


@pytest.mark.parametrize("protocol", range(5))
def test_pickle_of_todays_numpy_is_read_in_every_protocol(protocol):
    got = load_arrays(pickle.dumps(batch(), protocol), "again")
    np.testing.assert_array_equal(got["data"], batch()["data"])


def test_bytes_written_for_python_2_come_back():
    raw = pickle.dumps({"name": b"caf\xe9"}, protocol=2)
    assert any(argument == "_codecs encode" for _, argument, _ in pickletools.genops(raw))
    assert load_arrays(raw, "names") == {"name": b"caf\xe9"}


class Harm:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"(posix|nt)\.system"), (eval, r"(builtins|__builtin__)\.eval"), (np.load, r"numpy\.load")],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_any_other_function_is_refused_by_name_and_never_called(function, named, protocol, tmp_path):
    witness = tmp_path / "witness"
    raw = pickle.dumps({"data": Harm(function, f"open({str(witness)!r}, 'w')")}, protocol)
    with pytest.raises(InputError, match=f"^train is a pickle that calls {named}; only NumPy arrays") as error:
        load_arrays(raw, "train")
    assert "use the official file" in str(error.value)
    assert not witness.exists()


def test_module_named_by_a_pickle_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "surprise.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"calls surprise\.anything"):
        load_arrays(b"csurprise\nanything\n.", "train")


def test_neighbours_of_the_allowed_names_are_refused():
    for name in ("numpy\nload", "numpy.core.multiarray\nfromfile", "_codecs\nlookup", "numpy\nndarray.tofile"):
        with pytest.raises(InputError, match="only NumPy arrays"):
            load_arrays(b"c" + name.encode() + b"\n.", "train")


def test_codec_other_than_latin_1_is_refused():
    raw = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."
    with pytest.raises(InputError, match="bytes in the encoding 'rot13'"):
        load_arrays(raw, "train")


def test_truncation_anywhere_is_named(python2_pickle):
    raw = python2_pickle(batch())
    for length in range(0, len(raw), 37):
        with pytest.raises(
            InputError, match=rf"^test \({length:,} bytes\) is not a readable pickle, truncated or damaged"
        ):
            load_arrays(raw[:length], "test")


@pytest.mark.parametrize(
    "raw",
    [
        b"PK\x03\x04 a zip",
        b"\x80\x02K\x01K\x02R.",
        b"\x80\x02\x8e" + b"\xff" * 8,
        b"\x80\x02cnumpy\ndtype\nK\x01\x85R.",
    ],
)
def test_nonsense_is_an_input_error(raw):
    with pytest.raises(InputError, match="not a readable pickle"):
        load_arrays(raw, "train")
