// The function `orders` in JavaScript: a queue message becomes a blob. `cargo xtask guest orders-js` builds it.

addEventListener('fetch', (event) => event.respondWith(receipt(event.request)));

async function receipt(request) {
  const order = await request.text();
  // Azure tries again what is no success.
  if (order === '') return new Response('an order has at least one letter', { status: 500 });
  const id = request.headers.get('ce-id');
  console.log(`order ${id} is taken`);
  return new Response(`receipt of order ${id}\n${order}\n`);
}
