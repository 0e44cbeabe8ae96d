"""The guest. Each event calls IncomingHandler.handle in an instance of its own; the body is what was sent, and headers tell about it."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        payload = read(request)
        kind, identity = (b"".join(request.headers().get(name)).decode() for name in ("ce-type", "ce-id"))
        print(f"took {kind} {identity}: {len(payload)} bytes")
        # 2xx: the event is done, and a body would be the value of an output binding. After anything else Azure tries again, if it can.
        response = OutgoingResponse(Fields.from_list([]))
        response.set_status_code(204)
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        OutgoingBody.finish(body, None)


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
