"""Both functions in Python: a counter, and a blob that is read without a secret. `cargo xtask guest grants-python` builds it."""

from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import atomics, outgoing_handler
from wit_world.imports import wasi_config_store as config
from wit_world.imports import wasi_keyvalue_store as store
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    IncomingResponse,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
    Scheme_Http,
    Scheme_Https,
)

# The most that blocking_write_and_flush takes.
PIECE = 4096


class Unavailable(Exception):
    """Why there is no answer, for the caller."""


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        _, counter, name = urlsplit(request.path_with_query() or "").path.partition("/counter/")
        try:
            status, answer = 200, f"{count(name)}\n".encode() if counter else report()
        except Unavailable as problem:
            status, answer = 502, f"{problem}\n".encode()
        except Err as problem:
            status, answer = 502, f"{problem.value}\n".encode()
        respond(response_out, status, answer)


def count(name: str) -> int:
    """No increment is lost, however many instances count at the same time."""
    with store.open("counters") as counters:
        return atomics.increment(counters, name, 1)


def report() -> bytes:
    """Asks for the blob as anybody would. The host adds the token; this code never has it."""
    url = config.get("REPORT_URL")
    if url is None:
        raise Unavailable("REPORT_URL is not granted")
    parts = urlsplit(url)
    request = OutgoingRequest(Fields())
    request.set_scheme(Scheme_Https() if parts.scheme == "https" else Scheme_Http())
    request.set_authority(parts.netloc)
    request.set_path_with_query(f"{parts.path}?{parts.query}" if parts.query else parts.path)
    with outgoing_handler.handle(request, None) as sent:
        with sent.subscribe() as ready:
            ready.block()
        blob = sent.get().value
    if isinstance(blob, Err):
        raise blob
    if blob.value.status() != 200:
        raise Unavailable(f"the storage account answered {blob.value.status()}")
    return read(blob.value)


def read(response: IncomingResponse) -> bytes:
    """The whole body. One that breaks off is an error."""
    pieces = []
    with response.consume() as body, body.stream() as stream:
        while True:
            try:
                pieces.append(stream.blocking_read(64 * 1024))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return b"".join(pieces)
                raise


def respond(response_out: ResponseOutparam, status: int, answer: bytes) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        for start in range(0, len(answer), PIECE):
            stream.blocking_write_and_flush(answer[start : start + PIECE])
    OutgoingBody.finish(body, None)
