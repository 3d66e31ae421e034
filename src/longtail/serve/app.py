"""The application: POST /predict, GET /health, GET /model and the OpenAPI page."""

import asyncio
import io
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from longtail._imports import check_installed
from longtail.data.decode import Decoding
from longtail.errors import InputError
from longtail.export import graph_of
from longtail.export.metadata import describe
from longtail.serve.batching import Batcher
from longtail.serve.requests import Limits, Refused, Upload, decode_upload, read_uploads
from longtail.version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

    from longtail.run import Run

logger = logging.getLogger("longtail")
READERS = 32
"""Requests that are read and decoded at the same time. Others wait, and their bytes stay with the client."""
LARGEST_TOP = 100

BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Malformed or empty request"},
    408: {"description": "The request does not arrive in time"},
    413: {"description": "Too many bytes or images"},
    415: {"description": "Type that is not accepted"},
    422: {"description": "File that cannot be read as an image"},
}


def require_packages() -> None:
    """Check that the packages of the extra `serve` are installed.

    Raises:
        InputError: If one is missing.
    """
    for package in ("fastapi", "uvicorn", "python_multipart"):
        name = package.replace("_", "-")
        check_installed(package, f"the service needs the package {name}; install longtail[serve]")


@dataclass(frozen=True, eq=False)
class Service:
    """State that the requests share.

    Args:
        batcher: Queue in front of the model.
        names: Names of the C classes.
        size: Side of the images that the model sees, in pixels.
        how: Settings to decode images with.
        limits: Limits of the input.
        readers: Bound of the requests that are read and decoded at the same time.
        decoders: Threads that decode images.
    """

    batcher: Batcher
    names: tuple[str, ...]
    size: int
    how: Decoding
    limits: Limits
    readers: asyncio.Semaphore
    decoders: ThreadPoolExecutor

    async def warm_up(self) -> None:
        """Answer a blank image, so that the first request does not wait for imports."""
        file = io.BytesIO()
        Image.new("RGB", (self.size + 1, self.size + 1)).save(file, "PNG")
        await self.batcher.probabilities(await self._view(Upload(None, file.getvalue())))

    async def predict(self, request: Any, top: int) -> dict[str, Any]:
        """Return the answer to a request.

        Args:
            request: Request with one or several images.
            top: Number of classes for each image.
        """
        async with self.readers:
            uploads = await read_uploads(request, self.limits)
            views = await asyncio.gather(*(self._view(upload) for upload in uploads), return_exceptions=True)
        for view in views:  # all are awaited, so that no decoder is left running
            if isinstance(view, BaseException):
                raise view
        answers = await asyncio.gather(
            *(self.batcher.probabilities(view) for view in views if isinstance(view, Tensor))
        )
        named = zip(uploads, answers, strict=True)
        return {"predictions": [{"file": upload.name, **self._answer(answer, top)} for upload, answer in named]}

    async def _view(self, upload: Upload) -> Tensor:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.decoders, decode_upload, upload, self.size, self.how)

    def _answer(self, probabilities_C: Tensor, top: int) -> dict[str, Any]:
        best = probabilities_C.topk(min(top, len(self.names)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ranked = [{"label": self.names[index], "probability": value} for index, value in pairs]
        return {**ranked[0], "top": ranked}


def create_app(
    run: "Run", limits: Limits | None = None, *, device: str | torch.device = "cpu", test_prior: str | None = None
) -> "FastAPI":
    """Build the application for a run. The model is loaded now.

    Args:
        run: Finished run.
        limits: Limits of the input. None takes the defaults.
        device: Device of the model.
        test_prior: Class frequencies of the use, to which the probabilities are shifted, as in `export_run`.

    Raises:
        InputError: If a package is missing, the run is not finished, or its model takes features.
    """
    require_packages()
    from fastapi import FastAPI

    where, limits = torch.device(device), limits or Limits()
    graph, trained, prior_C = graph_of(run, test_prior)
    if not graph.takes_images:
        raise InputError(f"{run.folder} was trained on features, but the service takes images; serve a run on images")
    facts = describe(run, trained, prior_C)
    batcher = Batcher(graph.to(where), where, limits.max_batch)
    service = Service(
        batcher,
        trained.class_names,
        trained.image_size,
        Decoding(trained.bits, limits.max_pixels, trained.resize),
        limits,
        asyncio.Semaphore(READERS),
        ThreadPoolExecutor(min(4, os.cpu_count() or 1), "decoder"),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        await service.warm_up()
        yield
        await batcher.stop()
        service.decoders.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title=f"longtail: {run.folder.name}", version=__version__, lifespan=lifespan)
    app.state.service = service
    _add_routes(app, service, facts)
    _add_errors(app)
    return app


def _add_routes(app: "FastAPI", service: Service, facts: dict[str, Any]) -> None:
    from fastapi import Query, Request

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Return that the service is ready, and the number of images that wait."""
        return {"status": "ok", "version": __version__, "waiting": service.batcher.waiting}

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """Return the metadata of the model: classes, class frequencies, preprocessing, origin and scores."""
        return facts

    @app.post("/predict", openapi_extra={"requestBody": BODY}, responses=REFUSALS)
    async def predict(request: Request, top: int = Query(5, ge=1, le=LARGEST_TOP)) -> dict[str, Any]:
        """Classify one image (the body) or several (a form with files), in the order of the request."""
        return await service.predict(request, top)


def _add_errors(app: "FastAPI") -> None:
    from fastapi.exceptions import RequestValidationError
    from fastapi.requests import Request
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        logger.info("%s refused: %s", error.status, error.message)
        file = {} if error.file is None else {"file": error.file}
        # the rest of a body that was not read cannot be told from the next request
        headers = {"Connection": "close"} if error.status in (408, 413) else None
        return JSONResponse({"error": error.message, **file}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}; see /docs for the addresses of the service"
        return JSONResponse({"error": message}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": f"`top` must be an integer from 1 to {LARGEST_TOP}; change it"}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "the client closed the connection"}, 400)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "internal error; see the log of the service"}, 500)
