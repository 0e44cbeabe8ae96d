// A guest in JavaScript with a router that people use, Hono, and an answer that streams. `cargo xtask guest js-router` builds it.

import { Hono } from 'hono';
import { stream } from 'hono/streaming';

// Paths begin with the app's routePrefix.
const app = new Hono().basePath('/api');

app.get('/items/:id', (c) => c.json({ id: c.req.param('id'), wanted: c.req.query('wanted') ?? null }));

app.post('/echo', (c) => c.body(c.req.raw.body));

// One line at a time: the client reads the first while the guest waits to write the second.
app.get('/count/:to', (c) =>
  stream(c, async (lines) => {
    for (let line = 1; line <= Number(c.req.param('to')); line++) {
      await lines.writeln(String(line));
      await lines.sleep(200);
    }
  }),
);

app.notFound((c) => c.json({ error: `there is no ${c.req.path}` }, 404));

app.fire();
