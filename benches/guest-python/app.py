"""The benchmark guest in Python: the same answer as benches/guest, made before the interpreter's snapshot is taken."""

import json

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

# benches/body.json
ITEMS = [{"id": number, "name": f"item-{number}", "price": 99 + 100 * number} for number in range(1, 10)]
MESSAGE = "These 460 bytes of JSON come from every server: what differs is how each of them gets there."
CONTENT = (json.dumps({"message": MESSAGE, "items": ITEMS, "ok": True}, separators=(",", ":")) + "\n").encode()
HEADERS = [("content-type", b"application/json"), ("content-length", str(len(CONTENT)).encode())]


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        with request:
            response = OutgoingResponse(Fields.from_list(HEADERS))
            body = response.body()
            ResponseOutparam.set(response_out, Ok(response))
            with body.write() as stream:
                stream.blocking_write_and_flush(CONTENT)
            OutgoingBody.finish(body, None)
