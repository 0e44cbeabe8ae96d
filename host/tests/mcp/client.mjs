// node client.mjs URL: uses the MCP server there with the official client. One of its calls is more than a guest can hold, and traps.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import assert from 'node:assert/strict';

const url = new URL(process.argv.at(-1));

async function connect() {
  const client = new Client({ name: 'test', version: '1' });
  const transport = new StreamableHTTPClientTransport(url);
  await client.connect(transport);
  assert.equal(transport.sessionId, undefined, 'a session');
  return client;
}

const work = (client, seconds, options) =>
  client.callTool({ name: 'slow_work', arguments: { seconds } }, undefined, options);

// Works for a second, and hears of each step.
async function worked(client) {
  const heard = [];
  const { content, isError } = await work(client, 1, { onprogress: ({ progress }) => heard.push(progress) });
  assert.deepEqual({ content, isError }, { content: [{ type: 'text', text: 'worked for 1 s' }], isError: false });
  assert.deepEqual(heard, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

const client = await connect();
const { tools } = await client.listTools();
assert.deepEqual(tools.map(({ name }) => name), ['what_am_i_running_on', 'slow_work']);
const { content: [{ text }] } = await client.callTool({ name: 'what_am_i_running_on' });
assert.match(text, /: instance \d+ in slot \d+ of 64$/);
await worked(client);
assert.deepEqual((await work(client, 100)).isError, true);
await assert.rejects(client.callTool({ name: 'nothing' }), /there is no such tool/);
await client.ping();

// The client gives the call up, tells so in a request of its own, and goes.
const [hurried, given] = [await connect(), new AbortController()];
const cancelled = work(hurried, 60, { signal: given.signal, onprogress: () => given.abort('enough') });
await assert.rejects(cancelled, /enough/);
await hurried.close();

const sessions = await Promise.all(Array.from({ length: 50 }, connect));
const [unlucky, ...others] = sessions;
const tooMuch = { name: 'slow_work', arguments: { seconds: 1, padding: 'x'.repeat(40e6) } };
const results = await Promise.all([assert.rejects(unlucky.callTool(tooMuch), /guest-failed/), ...others.map(worked)]);
assert.equal(results.length, 50);
// What trapped was an instance, and the next call has another.
await worked(unlucky);

const ask = async (method, headers, body) => (await fetch(url, { method, headers, body })).status;
const ping = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' });
assert.equal(await ask('GET', { accept: 'text/event-stream' }), 405);
assert.equal(await ask('DELETE', { 'mcp-session-id': 'made-up' }), 405);
assert.equal(await ask('POST', { 'mcp-session-id': 'made-up' }, ping), 200);
assert.equal(await ask('POST', { 'mcp-protocol-version': '1999-01-01' }, ping), 400);
assert.equal(await ask('POST', { origin: 'https://elsewhere.example' }, ping), 403);
assert.equal(await ask('POST', { origin: url.origin }, ping), 200);
assert.equal(await ask('POST', {}, 'no JSON'), 400);
assert.equal(await ask('POST', {}, JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' })), 202);
await Promise.all([client, ...sessions].map((session) => session.close()));
console.log('passed');
