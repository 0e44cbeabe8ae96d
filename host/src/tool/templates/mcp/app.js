// The guest: an MCP server (Model Context Protocol over streamable HTTP). It has no sessions: each request calls it in an instance of
// its own, which knows nothing of the one before, so any machine can answer.

import { getInstance, getMachine } from 'flexwasm:host/diagnostics@0.1.0';

// Revisions of the protocol that this speaks, the newest first.
const VERSIONS = ['2025-11-25', '2025-06-18'];
const STEPS = 10;

const TOOLS = {
  what_am_i_running_on: {
    description: 'Tells which machine and which instance of this server answer.',
    inputSchema: { type: 'object' },
    run() {
      const { cpuCount, memoryTotal, platform } = getMachine();
      const { id, slot, poolSize } = getInstance();
      return `${platform}, ${cpuCount} processors, ${memoryTotal >> 20n} MB: instance ${id} in slot ${slot} of ${poolSize}`;
    },
  },
  slow_work: {
    description: 'Works for some seconds, and reports its progress.',
    inputSchema: {
      type: 'object',
      properties: { seconds: { type: 'number', minimum: 0, maximum: 60 } },
      required: ['seconds'],
    },
    async run({ seconds }, progress) {
      if (!(seconds >= 0 && seconds <= 60)) throw new Error('seconds must be a number from 0 to 60');
      for (let step = 1; step <= STEPS; step++) {
        // An instance that waits holds no thread.
        await new Promise((resolve) => setTimeout(resolve, (seconds * 1000) / STEPS));
        await progress(step);
      }
      return `worked for ${seconds} s`;
    },
  },
};

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { headers, method, url } = request;
  // A page of another site must not call tools through its reader's browser.
  const origin = headers.get('origin');
  if (origin !== null && origin !== new URL(url).origin) return new Response(null, { status: 403 });
  // Nothing to listen to beside the answers, and no session to end.
  if (method !== 'POST') return new Response(null, { status: 405, headers: { allow: 'POST' } });
  const version = headers.get('mcp-protocol-version') ?? VERSIONS[0];
  if (!VERSIONS.includes(version)) return json(400, failure(null, -32600, `this speaks ${VERSIONS.join(' and ')}`));
  let message;
  try {
    message = JSON.parse(await request.text());
  } catch {
    return json(400, failure(null, -32700, 'this is no JSON'));
  }
  if (message?.jsonrpc !== '2.0') return json(400, failure(null, -32600, 'this is no message of JSON-RPC 2.0'));
  // What nobody waits for. A cancelled call runs in another instance: it ends when its client closes the connection.
  if (message.id === undefined || message.method === undefined) return new Response(null, { status: 202 });
  const { id, params = {} } = message;
  switch (message.method) {
    case 'initialize':
      return json(200, success(id, {
        protocolVersion: VERSIONS.includes(params.protocolVersion) ? params.protocolVersion : VERSIONS[0],
        capabilities: { tools: {} },
        serverInfo: { name: 'NAME', version: '0.1.0' },
      }));
    case 'ping':
      return json(200, success(id, {}));
    case 'tools/list':
      return json(200, success(id, {
        tools: Object.entries(TOOLS).map(([name, { description, inputSchema }]) => ({ name, description, inputSchema })),
      }));
    case 'tools/call':
      if (!Object.hasOwn(TOOLS, params.name)) return json(200, failure(id, -32602, 'there is no such tool'));
      return call(id, TOOLS[params.name], params);
    default:
      return json(200, failure(id, -32601, 'there is no such method'));
  }
}

// A call answers with a stream of events, so that the client hears of its progress.
function call(id, tool, params) {
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const send = (message) => writer.write(new TextEncoder().encode(`data: ${JSON.stringify(message)}\n\n`));
  const progressToken = params._meta?.progressToken;
  const progress = async (step) => {
    if (progressToken === undefined) return;
    const told = { progressToken, progress: step, total: STEPS };
    await send({ jsonrpc: '2.0', method: 'notifications/progress', params: told });
  };
  (async () => {
    let text, isError = false;
    try {
      text = await tool.run(params.arguments ?? {}, progress);
    } catch (problem) {
      [text, isError] = [problem.message, true];
    }
    await send(success(id, { content: [{ type: 'text', text }], isError }));
    await writer.close();
  })();
  return new Response(readable, { headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' } });
}

const success = (id, result) => ({ jsonrpc: '2.0', id, result });
const failure = (id, code, message) => ({ jsonrpc: '2.0', id, error: { code, message } });
const json = (status, value) =>
  new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json' } });
