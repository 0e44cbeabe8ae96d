// The demonstration guest in JavaScript: `GET|POST /api/http_trigger?name=&delay=`.
//
// It does what `guest/` does in Rust, and answers with the same fields. It is written as JavaScript is written for every
// other platform: a listener for `fetch`. `cargo xtask guest js` builds it with componentize-js. Its language engine comes
// along: 13 MB of component.

import {
  currentThread, getInstance, getInvocation, getMachine, processId,
} from 'flexwasm:host/diagnostics@0.1.0';

// A JSON body that carries only a name is never longer; what follows is not read.
const BODY_LIMIT = 64 * 1024;

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  try {
    return json(200, await receipt(request));
  } catch (problem) {
    if (!(problem instanceof BadRequest)) throw problem;
    return json(400, problem.answer());
  }
}

const json = (status, value) =>
  new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json' } });

async function receipt(request) {
  const started = { wall: Date.now(), monotonic: performance.now(), thread: currentThread() };
  const invocation = getInvocation();
  const query = new URL(request.url).searchParams;

  const delay = delayIn(query, Number(invocation.timeoutMs) / 1000);
  let name = query.get('name') || null;
  if (name === null && request.method === 'POST') name = nameIn(await read(request));
  // The host parks this instance, and its thread serves others meanwhile.
  if (delay > 0) await sleep(delay * 1000);

  const elapsed = performance.now() - started.monotonic;
  const instance = getInstance();
  const machine = getMachine();
  const thread = ({ id, name }) => ({ id: Number(id), name });
  return {
    message: `Hello, ${name ?? 'World'}!`,
    request: { name, invocation_id: invocation.id ?? null },
    host: {
      process_id: processId(),
      thread_start: thread(started.thread),
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
async function read(request) {
  const parts = [];
  let length = 0;
  const reader = request.body?.getReader();
  for (;;) {
    let part;
    try {
      part = (await reader?.read()) ?? { done: true };
    } catch {
      throw BadRequest.body('broke off');
    }
    if (part.done) break;
    parts.push(part.value);
    length += part.value.length;
    if (length > BODY_LIMIT) throw BadRequest.body('is longer than 64 KiB');
  }
  const body = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const round = (number) => Math.round(number * 100) / 100;
// 2^30 bytes, as the original demonstration counted.
const gigabytes = (bytes) => round(Number(bytes) / 2 ** 30);
