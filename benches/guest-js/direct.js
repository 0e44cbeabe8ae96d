// The benchmark guest in JavaScript: the same answer as benches/guest, by the bindings that componentize-js generates.
//
// The answer is made before the engine's snapshot is taken, so that a request measures what an instance costs and not how fast a
// cold interpreter builds JSON.

import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

// benches/body.json
const items = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((id) => ({ id, name: `item-${id}`, price: 99 + 100 * id }));
const message = 'These 460 bytes of JSON come from every server: what differs is how each of them gets there.';
const encoder = new TextEncoder();
const bytes = encoder.encode(JSON.stringify({ message, items, ok: true }) + '\n');
const headers = [
  ['content-type', encoder.encode('application/json')],
  ['content-length', encoder.encode(`${bytes.length}`)],
];

export const incomingHandler = {
  handle(request, responseOut) {
    const response = new OutgoingResponse(Fields.fromList(headers));
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
