// A wasi:http handler in JavaScript. What makes it worth measuring is its size: its engine comes along.
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.12';

export const incomingHandler = {
  handle(request, responseOut) {
    const text = JSON.stringify({ message: 'Hello from JavaScript', path: request.pathWithQuery() });
    const headers = Fields.fromList([['content-type', new TextEncoder().encode('application/json')]]);
    const response = new OutgoingResponse(headers);
    const body = response.body();
    ResponseOutparam.set(responseOut, { tag: 'ok', val: response });
    const stream = body.write();
    stream.blockingWriteAndFlush(new TextEncoder().encode(text));
    stream[Symbol.dispose]();
    OutgoingBody.finish(body, undefined);
  },
};
