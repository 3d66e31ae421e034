import http.server
import io
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from longtail.data.download import SOURCES, Source, download_data
from longtail.data.formats.cifar import find_cifar
from longtail.data.formats.cifar_files import CIFARS
from longtail.errors import InputError


class Shop:
    """A local server whose responses the test sets."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}
        self.moved: dict[str, str] = {}
        self.no_length: set[str] = set()
        self.asked: list[str] = []
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shop.asked.append(self.path)
                if self.path in shop.moved:
                    self.send_response(302)
                    self.send_header("Location", shop.moved[self.path])
                    self.end_headers()
                    return
                if self.path not in shop.bodies:
                    self.send_error(404)
                    return
                body = shop.bodies[self.path]
                self.send_response(200)
                if self.path not in shop.no_length:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: shop.cut.get(self.path, len(body))])

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shop = Shop()
    thread = threading.Thread(target=shop.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield shop
    shop.server.shutdown()
    shop.server.server_close()
    thread.join()


def parquet(records: np.ndarray, label_keys: tuple[str, ...]) -> bytes:
    """Return a table in the format of the hub: PNG bytes in a struct column, and one column per label."""
    images = []
    for record in records:
        buffer = io.BytesIO()
        pixels = record[len(label_keys) :].reshape(3, 32, 32).transpose(1, 2, 0)
        Image.fromarray(pixels).save(buffer, "png")
        images.append({"bytes": buffer.getvalue(), "path": None})
    labels = {key.removesuffix("s"): records[:, i].astype(np.int64) for i, key in enumerate(label_keys)}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"img": images, **labels}), sink)
    return sink.getvalue()


BODIES: dict[tuple[str, tuple[int, ...] | None], dict[str, bytes]] = {}  # the same in every test, so made once


@pytest.fixture
def stocked(shop: Shop, fake_cifar: Callable, tmp_path: Path) -> Callable:
    """Return a function that puts a small data set on the server and returns the sources: hub, then university."""

    def stock(name: str, order: tuple[int, ...] | None = None):
        fake = fake_cifar(name)
        archive = fake.cifar.layouts[0].archive
        if (name, order) not in BODIES:
            keys = fake.cifar.label_keys
            train = np.concatenate([fake.records[i] for i in order or range(len(fake.records) - 1)])
            BODIES[name, order] = {
                "/train.parquet": parquet(train, keys),
                "/test.parquet": parquet(fake.records[-1], keys),
                f"/{archive}": fake.pack("binary", tmp_path / "university").read_bytes(),
            }
        shop.bodies.update(BODIES[name, order])
        hub = Source((shop.url("/train.parquet"), shop.url("/test.parquet")))
        return fake, [hub, Source((shop.url(f"/{archive}"),))]

    return stock


def check(fake, folder: Path, target: Path) -> None:
    assert folder == target / fake.cifar.layouts[0].folder
    for name, records in zip(fake.cifar.layouts[0].files, fake.records, strict=True):
        assert (folder / name).read_bytes() == records.tobytes()
    for name, names in fake.cifar.names.items():
        assert (folder / name).read_text().split() == list(names)
    assert [entry.name for entry in target.iterdir()] == [folder.name]
    assert len(find_cifar(fake.cifar.name, str(target)).read()) == len(fake.records)


def test_hub_first_then_the_university():
    for name, (hub, university) in SOURCES.items():
        assert (hub.host, university.host) == ("huggingface.co", "www.cs.toronto.edu")
        assert [Path(url).name for url in hub.urls] == [f"{p}-00000-of-00001.parquet" for p in ("train", "test")]
        assert f"/uoft-cs/{name}/resolve/main/" in hub.urls[0]
        assert Path(university.urls[0]).name == CIFARS[name].layouts[0].archive


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_parquet_becomes_the_official_files(name, stocked, shop, tmp_path):
    fake, sources = stocked(name)
    check(fake, download_data(name, tmp_path / "data", sources=sources), tmp_path / "data")
    assert shop.asked == ["/train.parquet", "/test.parquet"]


def test_batches_in_another_order_are_put_back(stocked, shop, tmp_path):
    fake, sources = stocked("cifar10", order=(3, 2, 1, 4, 0))
    check(fake, download_data("cifar10", tmp_path / "data", sources=sources), tmp_path / "data")
    assert "/cifar-10-binary.tar.gz" not in shop.asked


def test_redirects_are_followed(stocked, shop, tmp_path):
    fake, sources = stocked("cifar100")
    shop.bodies["/far/away"] = shop.bodies.pop("/train.parquet")
    shop.moved["/train.parquet"] = shop.url("/far/away")
    check(fake, download_data("cifar100", tmp_path / "data", sources=sources), tmp_path / "data")


def spoil_404(shop: Shop) -> str:
    del shop.bodies["/test.parquet"]
    return "404"


def spoil_cut(shop: Shop) -> str:
    shop.cut["/train.parquet"] = 1000
    return r"train\.parquet stopped after 1,000 of"


def spoil_pixels(shop: Shop) -> str:
    table = pyarrow.parquet.read_table(io.BytesIO(shop.bodies["/test.parquet"]))
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.set_column(1, "coarse_label", pyarrow.array([0] * len(table))), sink)
    shop.bodies["/test.parquet"] = sink.getvalue()
    return r"not the official test\.bin: no part of them has sha256:"


def spoil_format(shop: Shop) -> str:
    shop.bodies["/train.parquet"] = b"<html>log in first</html>"
    return "Parquet"


def spoil_columns(shop: Shop) -> str:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"image": [1]}), sink)
    shop.bodies["/train.parquet"] = sink.getvalue()
    return "img"


SPOILERS = [spoil_404, spoil_cut, spoil_pixels, spoil_format, spoil_columns]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_hub_that_fails_gives_way_to_the_university(spoil, stocked, shop, tmp_path):
    fake, sources = stocked("cifar100")
    spoil(shop)
    check(fake, download_data("cifar100", tmp_path / "data", sources=sources), tmp_path / "data")
    assert shop.asked[-1] == "/cifar-100-binary.tar.gz"


@pytest.mark.parametrize("spoil", SPOILERS)
def test_every_failure_is_reported_and_leaves_nothing(spoil, stocked, shop, tmp_path):
    _, sources = stocked("cifar100")
    reason = spoil(shop)
    shop.bodies["/cifar-100-binary.tar.gz"] = shop.bodies["/cifar-100-binary.tar.gz"][:5000]
    with pytest.raises(InputError, match=reason) as error:
        download_data("cifar100", tmp_path / "data", sources=sources)
    assert str(error.value).count(f"\n  {shop.host}: ") == 2
    assert "5,000 bytes), it is truncated or not an archive" in str(error.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_no_network_says_what_was_tried_and_what_to_do(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    sources = [
        Source((f"http://{host}/a.parquet", f"http://{host}/b.parquet")),
        Source((f"http://{host}/cifar-10-binary.tar.gz",)),
    ]
    with pytest.raises(InputError) as error:
        download_data("cifar10", tmp_path, sources=sources, timeout=5)
    message = str(error.value)
    assert message.startswith(f"cannot download CIFAR-10; tried\n  {host}: ")
    for part in (
        "refused",
        f"download http://{host}/cifar-10-binary.tar.gz and put it into {tmp_path} without unpacking it",
        "cifar-10-binary.tar.gz or cifar-10-python.tar.gz",
        "LONGTAIL_DATA",
    ):
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_progress_per_file(stocked, shop, tmp_path):
    _, sources = stocked("cifar100")
    seen: list[tuple[int, int | None]] = []
    download_data(
        "cifar100", tmp_path / "data", sources=sources, on_progress=lambda done, total: seen.append((done, total))
    )
    sizes = [len(shop.bodies[path]) for path in ("/train.parquet", "/test.parquet")]
    assert [done for done, total in seen if done == total] == sizes
    assert all(0 < done <= total for done, total in seen if total is not None)
    assert len(seen) > 2


def test_progress_without_a_known_size(stocked, shop, tmp_path):
    _, sources = stocked("cifar100")
    shop.no_length |= {"/train.parquet", "/test.parquet"}
    seen = []
    download_data("cifar100", tmp_path / "data", sources=sources, on_progress=lambda done, total: seen.append(total))
    assert set(seen) == {None}


def test_interruption_leaves_nothing(stocked, tmp_path):
    _, sources = stocked("cifar100")

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_data("cifar100", tmp_path / "data", sources=sources, on_progress=stop)
    assert list((tmp_path / "data").iterdir()) == []


def test_complete_files_are_kept_and_damaged_files_are_downloaded_again(stocked, shop, tmp_path):
    fake, sources = stocked("cifar100")
    target = tmp_path / "data"
    folder = download_data("cifar100", target, sources=sources)
    fetched = len(shop.asked)
    download_data("cifar100", target, sources=sources)
    assert len(shop.asked) == fetched
    content = (folder / "train.bin").read_bytes()
    for damaged in (content[:-7], content[:-1] + bytes([content[-1] ^ 1])):
        (folder / "train.bin").write_bytes(damaged)
        check(fake, download_data("cifar100", target, sources=sources), target)


def test_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file.data: .*LONGTAIL_DATA"):
        download_data("cifar100", tmp_path / "file" / "data", sources=[])


def test_unknown_name(tmp_path):
    with pytest.raises(InputError, match="no data set to download 'imagenet'; there are: cifar10, cifar100"):
        download_data("imagenet", tmp_path)
