// The guest: a listener for `fetch`. Each request calls it in an instance of its own.

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const name = new URL(request.url).searchParams.get('name') ?? 'World';
  return new Response(`Hello, ${name}!\n`, { headers: { 'content-type': 'text/plain; charset=utf-8' } });
}
