// The demonstration guest in JavaScript: `GET|POST /api/http_trigger?name=&delay=`.
//
// It does what `guest/` does in Rust, and answers with the same fields. It is written as JavaScript is written for every
// other platform: a listener for `fetch`. `cargo xtask guest js` builds it with componentize-js. Its language engine comes
// along: 13 MB of component.

import {
  currentThread, getInstance, getInvocation, getMachine, processId,
} from 'flexwasm:host/diagnostics@0.1.0';
import { BODY_LIMIT, BadRequest, delayIn, gigabytes, nameIn, round } from './request.js';

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
