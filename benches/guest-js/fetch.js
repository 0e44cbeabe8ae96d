// The benchmark guest in JavaScript: the same answer as benches/guest, by a listener for `fetch`. As in direct.js, it is made before
// the engine's snapshot is taken.

// benches/body.json
const items = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((id) => ({ id, name: `item-${id}`, price: 99 + 100 * id }));
const message = 'These 460 bytes of JSON come from every server: what differs is how each of them gets there.';
const body = JSON.stringify({ message, items, ok: true }) + '\n';
// In ASCII, so that its characters are its bytes.
const headers = { 'content-type': 'application/json', 'content-length': `${body.length}` };

addEventListener('fetch', (event) => event.respondWith(new Response(body, { headers })));
