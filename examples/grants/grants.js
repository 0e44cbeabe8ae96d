// Both functions in JavaScript: a counter, and a blob that is read without a secret. `cargo xtask guest grants-js` builds it.

import { get } from 'wasi:config/store@0.2.0-rc.1';
import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft2';
import { open } from 'wasi:keyvalue/store@0.2.0-draft2';

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const [, name] = new URL(request.url).pathname.split('/counter/');
  try {
    return name === undefined ? await report() : new Response(`${count(name)}\n`);
  } catch (problem) {
    // What an interface of WASI answers has a tag, and perhaps words.
    const why = problem.payload?.val ?? problem.payload?.tag ?? problem.message;
    return new Response(`${why}\n`, { status: 502 });
  }
}

// No increment is lost, however many instances count at the same time.
const count = (name) => increment(open('counters'), name, 1n);

// Asks for the blob as anybody would. The host adds the token; this code never has it.
async function report() {
  const url = get('REPORT_URL');
  if (url === undefined) throw new Error('REPORT_URL is not granted');
  const blob = await fetch(url);
  if (blob.status !== 200) throw new Error(`the storage account answered ${blob.status}`);
  return new Response(blob.body);
}
