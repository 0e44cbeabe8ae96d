// The demonstration guest in JavaScript once more, with the same answers as `app.js`, written against the interfaces of
// `wasi:http` themselves in place of the engine's `fetch`. It costs more for each request, but one instance
// can serve several (docs/guests.md), which a `fetch` listener of this engine cannot. `cargo xtask guest js-direct` builds it.

import { currentThread, describe } from 'flexwasm:host/diagnostics@0.1.0';
import { now as instant, subscribeDuration } from 'wasi:clocks/monotonic-clock@0.2.10';
import { now as wallClock } from 'wasi:clocks/wall-clock@0.2.10';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';
import { BODY_LIMIT, BadRequest, delayIn, gigabytes, nameIn, round } from './request.js';

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
