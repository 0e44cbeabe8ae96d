// The demonstration guest in JavaScript once more, with the same answers as `app.js`, written against the interfaces of
// `wasi:http` themselves in place of the engine's `fetch`. It costs twice as much for each request (docs/guests.md), but one
// instance can serve several requests, which a `fetch` listener of this engine cannot. `cargo xtask guest js-direct` builds it.

import { currentThread, describe } from 'flexwasm:host/diagnostics@0.1.0';
import { now as instant, subscribeDuration } from 'wasi:clocks/monotonic-clock@0.2.10';
import { now as wallClock } from 'wasi:clocks/wall-clock@0.2.10';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

// A JSON body that carries only a name is never longer; what follows is not read.
const BODY_LIMIT = 64 * 1024;

export const incomingHandler = {
  handle(request, responseOut) {
    let status = 200;
    let answer;
    try {
      answer = receipt(request);
    } catch (problem) {
      if (!(problem instanceof BadRequest)) throw problem;
      status = 400;
      answer = problem.answer();
    }
    respond(responseOut, status, JSON.stringify(answer));
  },
};

function receipt(request) {
  const started = { wall: milliseconds(wallClock()), monotonic: instant() };
  const before = describe();
  const path = request.pathWithQuery() ?? '';
  const at = path.indexOf('?');
  const query = new URLSearchParams(at < 0 ? '' : path.slice(at + 1));

  const delay = delayIn(query, Number(before.invocation.timeoutMs) / 1000);
  let name = query.get('name') || null;
  if (name === null && request.method().tag === 'post') name = nameIn(read(request));
  // The host parks this instance, and its thread serves others meanwhile.
  if (delay > 0) subscribeDuration(BigInt(Math.round(delay * 1e9))).block();

  const elapsed = Number(instant() - started.monotonic) / 1e6;
  const { process, instance, invocation, machine } = before;
  const thread = ({ id, name }) => ({ id: Number(id), name });
  return {
    message: `Hello, ${name ?? 'World'}!`,
    request: { name, invocation_id: invocation.id ?? null },
    host: {
      process_id: process.id,
      thread_start: thread(process.thread),
      thread_end: thread(currentThread()),
      azure_instance: machine.azureInstance ?? null,
    },
    guest: {
      instance_id: Number(instance.id),
      slot: instance.slot,
      pool_size: instance.poolSize,
      requests_served: Number(instance.served),
      generation: Number(instance.generation),
      digest: instance.digest,
    },
    timing: {
      start: new Date(started.wall).toISOString(),
      end: new Date(started.wall + elapsed).toISOString(),
      requested_delay_seconds: delay,
      elapsed_ms: round(elapsed),
    },
    machine: machine.azureInstance ?? machine.hostName,
    system: {
      cpu_count: machine.cpuCount,
      cpu_model: machine.cpuModel,
      memory_total_gb: gigabytes(machine.memoryTotal),
      memory_available_gb: gigabytes(machine.memoryAvailable),
      platform: machine.platform,
    },
  };
}

// Why a request is refused: which parameter, what it said, and what would be right.
class BadRequest extends Error {
  constructor(parameter, value, expected) {
    super(`${parameter}: ${JSON.stringify(value)} is not accepted; expected ${expected}`);
    Object.assign(this, { parameter, value, expected });
  }

  static body(problem) {
    return new BadRequest('body', problem, 'a JSON object such as {"name": "Ada"}, at most 64 KiB');
  }

  answer() {
    const { message, parameter, value, expected } = this;
    return { error: { message, parameter, value, expected } };
  }
}

// Seconds to sleep; absent means none. The deadline itself is out of range: a guest that slept for all of it could not answer.
function delayIn(query, deadline) {
  const text = query.get('delay');
  if (text === null) return 0;
  const delay = /^[0-9]+(\.[0-9]*)?$/.test(text) ? Number(text) : NaN;
  if (delay < deadline) return delay;
  throw new BadRequest(
    'delay',
    text,
    `a number of seconds from 0 up to, but not including, ${deadline} (the function's deadline)`,
  );
}

// The name in a JSON body; a body that is empty, or has no name, asks for none.
function nameIn(body) {
  if (body.length === 0) return null;
  let value;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (problem) {
    throw BadRequest.body(problem.message);
  }
  const name = value?.name ?? null;
  if (name !== null && typeof name !== 'string') throw BadRequest.body('has a name that is not a string');
  return name;
}

// The request body, up to the limit.
function read(request) {
  const stream = request.consume().stream();
  let body = new Uint8Array();
  for (;;) {
    let chunk;
    try {
      chunk = stream.blockingRead(BigInt(BODY_LIMIT));
    } catch (problem) {
      if (problem.payload?.tag === 'closed') return body;
      throw BadRequest.body('broke off');
    }
    const longer = new Uint8Array(body.length + chunk.length);
    longer.set(body);
    longer.set(chunk, body.length);
    body = longer;
    if (body.length > BODY_LIMIT) throw BadRequest.body('is longer than 64 KiB');
  }
}

function respond(responseOut, status, text) {
  const bytes = new TextEncoder().encode(text);
  const header = (name, value) => [name, new TextEncoder().encode(value)];
  const headers = [header('content-type', 'application/json'), header('content-length', String(bytes.length))];
  const response = new OutgoingResponse(Fields.fromList(headers));
  response.setStatusCode(status);
  const body = response.body();
  ResponseOutparam.set(responseOut, { tag: 'ok', val: response });
  const stream = body.write();
  stream.blockingWriteAndFlush(bytes);
  stream[Symbol.dispose]();
  OutgoingBody.finish(body, undefined);
}

const milliseconds = ({ seconds, nanoseconds }) => Number(seconds) * 1000 + nanoseconds / 1e6;
const round = (number) => Math.round(number * 100) / 100;
// 2^30 bytes, as the original demonstration counted.
const gigabytes = (bytes) => round(Number(bytes) / 2 ** 30);
