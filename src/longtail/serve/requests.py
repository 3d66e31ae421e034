"""Read the images of an HTTP request within the limits of the service."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from longtail.data.decode import BadImage, Decoding, read_view
from longtail.ranges import check_ranges, ranged

if TYPE_CHECKING:
    from starlette.requests import Request

RAW = ("image/", "application/octet-stream")
"""Types of a body, or of a part of a form, that holds one image."""
DRAINED = 4
"""Bytes of a body beyond the limit that are read and dropped, in multiples of the limit. A client that is still sending
would not read the answer otherwise."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the input of the service.

    Args:
        max_batch: Largest number of images in a batch and in a request.
        max_bytes: Largest size of a request in bytes.
        max_pixels: Largest number of pixels of an image, checked before it is decoded.
        seconds: Longest time for reading a request.

    Raises:
        InputError: If a limit is out of range.
    """

    max_batch: int = ranged(32, at_least=1)
    max_bytes: int = ranged(10_000_000, at_least=1)
    max_pixels: int = ranged(50_000_000, at_least=1)
    seconds: float = ranged(30.0, above=0)

    def __post_init__(self) -> None:
        check_ranges(self)


class Refused(Exception):  # noqa: N818 (an answer, not a fault of the program)
    """A request that the service refuses.

    Args:
        status: HTTP status, 400 to 499.
        message: Value, rule and remedy.
        file: Name of the file that is refused, if the request holds several.
    """

    def __init__(self, status: int, message: str, file: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.file = status, message, file


@dataclass(frozen=True)
class Upload:
    """An image file of a request.

    Args:
        name: File name that the client gave, or None.
        content: Bytes of the file.
    """

    name: str | None
    content: bytes


async def read_uploads(request: "Request", limits: Limits) -> list[Upload]:
    """Return the image files of a request: its body, or the files of a form.

    Args:
        request: Request with a body of a type of `RAW`, or multipart/form-data.
        limits: Limits of the input.

    Raises:
        Refused: If the type or the size is not accepted, the form is malformed, or the body does not arrive in time.
    """
    kind = request.headers.get("content-type", "").lower()
    is_form = kind.startswith("multipart/form-data")
    if not is_form and not kind.startswith(RAW):
        raise Refused(
            415,
            f"the content type must be multipart/form-data, image/* or application/octet-stream, got {kind[:100]!r}; "
            "set the header Content-Type",
        )
    try:
        async with asyncio.timeout(limits.seconds):
            body = await _body(request, limits.max_bytes)
    except TimeoutError:
        raise Refused(408, f"the request must arrive within {limits.seconds:g} s; send smaller images") from None
    if is_form:
        return await _files(request, body, limits)
    if not body:
        raise Refused(400, "the request must hold an image, got an empty body; send the bytes of an image file")
    return [Upload(None, body)]


async def _body(request: "Request", max_bytes: int) -> bytes:
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            body += chunk
        elif size > DRAINED * max_bytes:
            break
        else:
            body.clear()
    if size > max_bytes:
        raise Refused(413, f"the request must have at most {max_bytes:,} bytes, got more; send fewer or smaller images")
    return bytes(body)


async def _files(request: "Request", body: bytes, limits: Limits) -> list[Upload]:
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.requests import Request

    async def replay() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    uploads: list[Upload] = []
    try:
        async with Request(request.scope, replay).form(max_files=limits.max_batch) as form:
            for field, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    raise Refused(
                        400, f"the form must hold files only, got text in the field {field[:100]!r}; remove it"
                    )
                if value.content_type and not value.content_type.lower().startswith(RAW):
                    raise Refused(
                        415,
                        f"a file must be an image, got the type {value.content_type[:100]!r}; send an image",
                        value.filename,
                    )
                uploads.append(Upload(value.filename, await value.read()))
    except HTTPException as error:
        raise _malformed(str(error.detail), limits) from error
    if not uploads:
        raise Refused(400, "the form must hold at least one image file, got none; add a file to the form")
    return uploads


def _malformed(reason: str, limits: Limits) -> Refused:
    if "too many files" in reason.lower():
        return Refused(
            413, f"a request must hold at most {limits.max_batch} images, got more; send them in several requests"
        )
    return Refused(400, f"the form must be valid multipart/form-data ({reason}); let a library build it")


def decode_upload(upload: Upload, size: int, how: Decoding) -> Tensor:
    """Return the view of an image that the model sees, uint8, shape (3, size, size).

    Args:
        upload: Image file.
        size: Side of the view in pixels.
        how: Settings of the run, with the largest number of pixels.

    Raises:
        Refused: If it cannot be read as an image within the limits.
    """
    name = upload.name or "image"
    try:
        return read_view(Path(name), size, how, content=upload.content)
    except BadImage as error:
        is_large = "`max_pixels`" in error.reason
        reason = f"it has more than the {how.max_pixels:,} pixels allowed" if is_large else error.reason
        message = f"{name[:200]!r} must be a readable image: {reason}; send another file"
        raise Refused(422, message, upload.name) from error
