// The guest. Each event calls it in an instance of its own; the body is what was sent, and headers tell about it.

addEventListener('fetch', (event) => event.respondWith(take(event.request)));

async function take(request) {
  const payload = await request.arrayBuffer();
  console.log(`took ${request.headers.get('ce-type')} ${request.headers.get('ce-id')}: ${payload.byteLength} bytes`);
  // 2xx: the event is done, and a body would be the value of an output binding. After anything else Azure tries again, if it can.
  return new Response(null, { status: 204 });
}
