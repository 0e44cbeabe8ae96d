"""The demonstration guest in Python: `GET|POST /api/http_trigger?name=&delay=`.

It does what `guest/` does in Rust, and answers with the same fields. `cargo xtask guest python` builds it with componentize-py.
Its language engine comes along: 19 MB of component, most of it the standard library.
"""

import json
import re
from datetime import datetime, timezone
from urllib.parse import parse_qsl

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import diagnostics, monotonic_clock, wall_clock
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# A JSON body that carries only a name is never longer; what follows is not read.
BODY_LIMIT = 64 * 1024


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        try:
            status, answer = 200, receipt(request)
        except BadRequest as problem:
            status, answer = 400, problem.answer()
        respond(response_out, status, json.dumps(answer, separators=(",", ":"), ensure_ascii=False))


def receipt(request: IncomingRequest) -> dict:
    now = wall_clock.now()
    wall, started = now.seconds + now.nanoseconds / 1e9, monotonic_clock.now()
    before = diagnostics.describe()
    _, _, query = (request.path_with_query() or "").partition("?")
    asked = dict(reversed(parse_qsl(query, keep_blank_values=True)))

    delay = delay_in(asked, before.invocation.timeout_ms / 1000)
    name = asked.get("name") or None
    if name is None and isinstance(request.method(), Method_Post):
        name = name_in(read(request))
    if delay > 0:
        # The host parks this instance, and its thread serves others meanwhile.
        monotonic_clock.subscribe_duration(round(delay * 1e9)).block()

    elapsed = (monotonic_clock.now() - started) / 1e9
    machine, instance = before.machine, before.instance
    return {
        "message": f"Hello, {name or 'World'}!",
        "request": {"name": name, "invocation_id": before.invocation.id},
        "host": {
            "process_id": before.process.id,
            "thread_start": thread(before.process.thread),
            "thread_end": thread(diagnostics.current_thread()),
            "azure_instance": machine.azure_instance,
        },
        "guest": {
            "instance_id": instance.id,
            "slot": instance.slot,
            "pool_size": instance.pool_size,
            "requests_served": instance.served,
            "generation": instance.generation,
            "digest": instance.digest,
        },
        "timing": {
            "start": time(wall),
            "end": time(wall + elapsed),
            "requested_delay_seconds": delay,
            "elapsed_ms": round(elapsed * 1e3, 2),
        },
        "machine": machine.azure_instance or machine.host_name,
        "system": {
            "cpu_count": machine.cpu_count,
            "cpu_model": machine.cpu_model,
            "memory_total_gb": gigabytes(machine.memory_total),
            "memory_available_gb": gigabytes(machine.memory_available),
            "platform": machine.platform,
        },
    }


class BadRequest(Exception):
    """Why a request is refused: which parameter, what it said, and what would be right."""

    def __init__(self, parameter: str, value: str, expected: str) -> None:
        self.parameter, self.value, self.expected = parameter, value, expected

    @classmethod
    def body(cls, problem: str) -> "BadRequest":
        return cls("body", problem, 'a JSON object such as {"name": "Ada"}, at most 64 KiB')

    def answer(self) -> dict:
        value = json.dumps(self.value, ensure_ascii=False)
        message = f"{self.parameter}: {value} is not accepted; expected {self.expected}"
        return {
            "error": {
                "message": message,
                "parameter": self.parameter,
                "value": self.value,
                "expected": self.expected,
            }
        }


def delay_in(asked: dict, deadline: float) -> float:
    """Seconds to sleep; absent means none. The deadline is out of range: a guest that slept for all of it could not answer."""
    text = asked.get("delay")
    if text is None:
        return 0.0
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text, re.ASCII) and float(text) < deadline:
        return float(text)
    expected = f"a number of seconds from 0 up to, but not including, {deadline:g} (the function's deadline)"
    raise BadRequest("delay", text, expected)


def name_in(body: bytes) -> str | None:
    """The name in a JSON body; a body that is empty, or has no name, asks for none."""
    if not body:
        return None
    try:
        value = json.loads(body)
    except ValueError as problem:
        raise BadRequest.body(str(problem)) from None
    name = value.get("name") if isinstance(value, dict) else None
    if name is not None and not isinstance(name, str):
        raise BadRequest.body("has a name that is not a string")
    return name


def read(request: IncomingRequest) -> bytes:
    """The request body, up to the limit."""
    body = b""
    with request.consume() as incoming, incoming.stream() as stream:
        while len(body) <= BODY_LIMIT:
            try:
                body += stream.blocking_read(BODY_LIMIT)
            except Err as problem:
                if isinstance(problem.value, StreamError_Closed):
                    return body
                raise BadRequest.body("broke off") from None
    raise BadRequest.body("is longer than 64 KiB")


def respond(response_out: ResponseOutparam, status: int, text: str) -> None:
    content = text.encode()
    headers = [("content-type", b"application/json"), ("content-length", str(len(content)).encode())]
    response = OutgoingResponse(Fields.from_list(headers))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        stream.blocking_write_and_flush(content)
    OutgoingBody.finish(body, None)


def thread(described: diagnostics.Thread) -> dict:
    return {"id": described.id, "name": described.name}


def time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def gigabytes(number: int) -> float:
    """2^30 bytes, as the original demonstration counted."""
    return round(number / 2**30, 2)
