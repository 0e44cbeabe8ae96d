"""The function `orders` in Python: a queue message becomes a blob. `cargo xtask guest orders-python` builds it."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

# The most that blocking_write_and_flush takes.
PIECE = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        order = read(request)
        if not order:
            # Azure tries again what is no success.
            respond(response_out, 500, b"an order has at least one letter")
            return
        identity = b"".join(request.headers().get("ce-id")).decode()
        print(f"order {identity} is taken")
        respond(response_out, 200, f"receipt of order {identity}\n".encode() + order + b"\n")


def read(request: IncomingRequest) -> bytes:
    """The whole body. One that breaks off is an exception: the event fails, and comes again."""
    pieces = []
    with request.consume() as body, body.stream() as stream:
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
