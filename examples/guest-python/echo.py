"""An echo in Python that writes while it reads: `POST` a body of any length. `cargo xtask guest python-echo` builds it."""

from collections.abc import Iterator

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import InputStream, StreamError_Closed
from wit_world.imports.types import Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

# The most that blocking_write_and_flush takes.
PIECE = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/octet-stream")]))
        answer = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        body = request.consume()
        with body.stream() as source, answer.write() as sink:
            for piece in pieces(source):
                sink.blocking_write_and_flush(piece)
        IncomingBody.finish(body)
        OutgoingBody.finish(answer, None)


def pieces(source: InputStream) -> Iterator[bytes]:
    """What arrives, until the body ends. A body that breaks off is an exception: the answer breaks off, too."""
    while True:
        try:
            yield source.blocking_read(PIECE)
        except Err as error:
            if isinstance(error.value, StreamError_Closed):
                return
            raise
