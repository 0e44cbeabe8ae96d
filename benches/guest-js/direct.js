// The benchmark guest in JavaScript: the same answer as benches/guest, by the bindings that componentize-js generates.

import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

// benches/body.json
const items = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((id) => ({ id, name: `item-${id}`, price: 99 + 100 * id }));
const message = 'These 460 bytes of JSON come from every server: what differs is how each of them gets there.';
const encoder = new TextEncoder();

export const incomingHandler = {
  handle(request, responseOut) {
    const bytes = encoder.encode(JSON.stringify({ message, items, ok: true }) + '\n');
    const headers = { 'content-type': 'application/json', 'content-length': `${bytes.length}` };
    const encoded = Object.entries(headers).map(([name, value]) => [name, encoder.encode(value)]);
    const response = new OutgoingResponse(Fields.fromList(encoded));
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: 'ok', val: response });
    const stream = body.write();
    stream.blockingWriteAndFlush(bytes);
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
    // Without this the request lives until the collector gets to it, and the instance is not used again.
    request[Symbol.dispose]();
  },
};
