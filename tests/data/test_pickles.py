import os
import pickle
import pickletools

import numpy as np
import pytest

from longtail.data.pickles import load_arrays
from longtail.errors import InputError


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
            InputError, match=rf"^test \({length:,} bytes\) is no readable pickle, truncated or damaged"
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
    with pytest.raises(InputError, match="no readable pickle"):
        load_arrays(raw, "train")
