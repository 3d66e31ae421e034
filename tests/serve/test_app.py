"""Answers and refusals of the service, by a client within the process."""

import pytest
import torch
from starlette.testclient import TestClient

from longtail.cli.serve import size_of
from longtail.errors import InputError
from longtail.serve import Limits, create_app

from .pictures import TRUNCATED, bomb, picture

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def client(run):
    with TestClient(create_app(run, Limits(max_batch=4, max_bytes=20_000, max_pixels=10_000))) as client:
        yield client


def test_answers_are_those_of_predict(client, run, tmp_path):
    files = {f"{seed}.png": picture(seed=seed) for seed in range(3)}
    answer = client.post("/predict?top=2", files=[("images", (name, data)) for name, data in files.items()])
    assert answer.status_code == 200
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    expected = run.predict([tmp_path / name for name in files], workers=0)
    found = answer.json()["predictions"]
    assert [each["file"] for each in found] == list(files)
    assert [each["label"] for each in found] == expected.labels
    assert [len(each["top"]) for each in found] == [2, 2, 2]
    torch.testing.assert_close(torch.tensor([each["probability"] for each in found]), expected.probabilities.amax(1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_the_body_may_be_an_image(client, kind):
    answer = client.post("/predict", content=picture(kind), headers={"content-type": f"image/{kind.lower()}"})
    assert answer.status_code == 200
    [only] = answer.json()["predictions"]
    assert only["file"] is None
    assert 0 < only["probability"] <= 1


def test_a_test_prior_shifts_the_answers(run, client):
    with TestClient(create_app(run, test_prior="train")) as shifted:
        answers = [
            each.post("/predict?top=10", content=picture(), headers=PNG).json()["predictions"][0]["top"]
            for each in (client, shifted)
        ]
        assert shifted.get("/model").json()["test_prior"] == shifted.get("/model").json()["training_prior"]
    plain, moved = ({each["label"]: each["probability"] for each in top} for top in answers)
    prior = (run.predictions().class_counts / run.predictions().class_counts.sum()).tolist()
    joint = {name: plain[name] * share for name, share in zip(run.class_names, prior, strict=True)}
    assert moved == pytest.approx({name: value / sum(joint.values()) for name, value in joint.items()}, abs=1e-4)


def form(*files):
    return {"files": [("images", file) for file in files]}


def body(content, kind="image/png"):
    return {"content": content, "headers": {"content-type": kind}}


REFUSED = {
    "empty": (body(b""), 400, "got an empty body; send the bytes of an image file"),
    "text": (body(b"hello"), 422, "'image' must be a readable image: it is not an image in a supported format"),
    "truncated": (body(TRUNCATED), 422, "must be a readable image"),
    "bomb": (body(bomb()), 422, "it has more than the 10,000 pixels allowed"),
    "large image": (body(picture("JPEG", 101)), 422, "it has more than the 10,000 pixels allowed"),
    "too large": (body(bytes(20_001)), 413, "must have at most 20,000 bytes"),
    "much too large": (body(bytes(200_000)), 413, "must have at most 20,000 bytes"),
    "type": (body(picture(), "application/json"), 415, "got 'application/json'; set the header Content-Type"),
    "no type": ({"content": picture()}, 415, "got ''"),
    "form without files": ({"data": {"a": "b"}, "files": {}}, 415, "got 'application/x-www-form-urlencoded'"),
    "text in the form": ({"data": {"a": "b"}, **form(("a.png", picture()))}, 400, "got text in the field 'a'"),
    "malformed form": (body(b"--x\r\nno", "multipart/form-data; boundary=x"), 400, "the form must"),
    "no boundary": (body(b"--x", "multipart/form-data"), 400, "must be valid multipart/form-data"),
    "bad file": (form(("a.png", picture()), ("b.png", TRUNCATED)), 422, "'b.png' must be a readable image"),
    "file of another type": (form(("a.pdf", b"%PDF", "application/pdf")), 415, "got the type 'application/pdf'"),
    "too many files": (form(*[("a.png", picture())] * 5), 413, "at most 4 images, got more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_requests_are_refused_with_a_reason(client, case):
    request, status, message = REFUSED[case]
    answer = client.post("/predict", **request)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert client.get("/health").json()["status"] == "ok"


def test_a_refused_file_is_named(client):
    answer = client.post("/predict", **form(("a.png", picture()), ("b.png", TRUNCATED)))
    assert answer.json()["file"] == "b.png"


@pytest.mark.parametrize("top", ["0", "x", "101", "-1"])
def test_top_is_checked(client, top):
    answer = client.post(f"/predict?top={top}", **body(picture()))
    assert (answer.status_code, answer.json()["error"]) == (422, "`top` must be an integer from 1 to 100; change it")


def test_other_addresses_are_refused_as_json(client):
    assert client.get("/predict").status_code == 405
    assert "see /docs" in client.get("/nothing").json()["error"]


def test_the_description_names_the_body_and_the_refusals(client):
    described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert "multipart/form-data" in described["requestBody"]["content"]
    assert {"200", "400", "413", "415", "422"} <= described["responses"].keys()
    assert client.get("/docs").status_code == 200
    assert client.get("/model").json()["class_names"][0] == "0"


def test_a_failing_model_gives_500_and_the_service_continues(run):
    app = create_app(run)
    with TestClient(app, raise_server_exceptions=False) as client:
        graph, app.state.service.batcher.graph = app.state.service.batcher.graph, torch.nn.Identity()
        assert client.post("/predict", **body(picture())).status_code == 500
        app.state.service.batcher.graph = graph
        assert client.post("/predict", **body(picture())).status_code == 200


@pytest.mark.parametrize("text", ["ten", "-1", "1.5MB", "10XB", ""])
def test_sizes_are_checked(text):
    with pytest.raises(InputError, match="`max_bytes` must be a size"):
        size_of(text)


@pytest.mark.parametrize("name", ["max_batch", "max_bytes", "max_pixels", "seconds"])
def test_limits_are_checked(name):
    with pytest.raises(InputError, match=f"`{name}` must be"):
        Limits(**{name: 0})
