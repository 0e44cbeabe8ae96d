// What the demonstration takes, in both styles: the checks of its parameters, and how it rounds.

// A JSON body that carries only a name is never longer; what follows is not read.
export const BODY_LIMIT = 64 * 1024;

// Why a request is refused: which parameter, what it said, and what would be right.
export class BadRequest extends Error {
  constructor(parameter, value, expected) {
    super(`${parameter}: ${JSON.stringify(value)} is not accepted; expected ${expected}`);
    Object.assign(this, { parameter, value, expected });
  }

  static body(problem) {
    return new BadRequest('body', problem, 'a JSON object such as {"name": "Ada"}, at most 64 KiB');
  }

  answer() {
    const { message, parameter, value, expected } = this;
    return { error: { message, parameter, value, expected } };
  }
}

// Seconds to sleep; absent means none. The deadline itself is out of range: a guest that slept for all of it could not answer.
export function delayIn(query, deadline) {
  const text = query.get('delay');
  if (text === null) return 0;
  const delay = /^[0-9]+(\.[0-9]*)?$/.test(text) ? Number(text) : NaN;
  if (delay < deadline) return delay;
  throw new BadRequest(
    'delay',
    text,
    `a number of seconds from 0 up to, but not including, ${deadline} (the function's deadline)`,
  );
}

// The name in a JSON body; a body that is empty, or has no name, asks for none.
export function nameIn(body) {
  if (body.length === 0) return null;
  let value;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (problem) {
    throw BadRequest.body(problem.message);
  }
  const name = value?.name ?? null;
  if (name !== null && typeof name !== 'string') throw BadRequest.body('has a name that is not a string');
  return name;
}

export const round = (number) => Math.round(number * 100) / 100;
// 2^30 bytes, as the original demonstration counted.
export const gigabytes = (bytes) => round(Number(bytes) / 2 ** 30);
