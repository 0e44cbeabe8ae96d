"""The guest. Each request calls IncomingHandler.handle in an instance of its own."""

from urllib.parse import parse_qs

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        _, _, query = (request.path_with_query() or "").partition("?")
        name = parse_qs(query).get("name", ["World"])[0]
        respond(response_out, 200, f"Hello, {name}!\n")


def respond(response_out: ResponseOutparam, status: int, text: str) -> None:
    """Sends a whole answer."""
    content = text.encode()
    headers = [("content-type", b"text/plain; charset=utf-8"), ("content-length", str(len(content)).encode())]
    response = OutgoingResponse(Fields.from_list(headers))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        # A write takes 4096 bytes at the most.
        for at in range(0, len(content), 4096):
            stream.blocking_write_and_flush(content[at : at + 4096])
    OutgoingBody.finish(body, None)
