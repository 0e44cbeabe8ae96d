// Middleware in JavaScript: lets requests pass whose header `x-api-key` has the key in the app setting API_KEY, and answers 401 to others.
// It is for guests of WASI 0.2. `cargo xtask guest key-js` builds it.

import { getEnvironment } from 'wasi:cli/environment@0.2.10';
import { handle as passOn } from 'wasi:http/incoming-handler@0.2.10';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

export const incomingHandler = {
  handle(request, responseOut) {
    const [, key = ''] = getEnvironment().find(([name]) => name === 'API_KEY') ?? [];
    const headers = request.headers();
    const given = headers.get('x-api-key');
    // It belongs to the request, which is not passed on before it is dropped.
    headers[Symbol.dispose]();
    if (key && given.length === 1 && same(given[0], new TextEncoder().encode(key))) passOn(request, responseOut);
    else refuse(responseOut);
  },
};

// Takes as long wherever two keys of one length differ.
const same = (a, b) => a.length === b.length && a.reduce((differs, byte, at) => differs | (byte ^ b[at]), 0) === 0;

function refuse(responseOut) {
  const response = new OutgoingResponse(new Fields());
  response.setStatusCode(401);
  const body = response.body();
  ResponseOutparam.set(responseOut, { tag: 'ok', val: response });
  OutgoingBody.finish(body, undefined);
}
