// Requests to the admin API.

import { sessionValue } from './session.js';

/**
 * The daemon may be behind a path prefix. The address of the page may have credentials, which no
 * request may have. That of a module has none.
 */
const ROOT = new URL('..', import.meta.url);

/** The address of a path such as `admin/status`. */
export const address = path => new URL(path, ROOT);

/** An error response of the daemon (RFC 9457). */
export class ProblemError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the daemon responded with ${status}`);
    this.status = status;
    this.errors = problem.errors ?? [];
  }
}

export class UnreachableError extends Error {
  constructor() {
    super('the daemon cannot be reached');
  }
}

/** The body of the response. Throws ProblemError or UnreachableError. `timeout` is in milliseconds. */
export async function request(method, path, { body, token, timeout = 10_000 } = {}) {
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  // Beside a token, it is the session that a new one replaces.
  if (sessionValue()) headers['X-Fullon-Session'] = sessionValue();
  const signal = AbortSignal.timeout(timeout);
  // An invalid header is an error of its own.
  const fetched = new Request(address(path), { method, headers, body: body && JSON.stringify(body), cache: 'no-store', signal });
  let response, text;
  try {
    response = await fetch(fetched);
    text = await response.text();
  } catch {
    throw new UnreachableError();
  }
  const isJson = response.headers.get('Content-Type')?.includes('json');
  const value = isJson ? JSON.parse(text) : text;
  if (!response.ok) throw new ProblemError(response.status, isJson ? value : {});
  return value;
}

/** Throws the error of a stream that the browser has closed without a reason, if it has one. */
export async function checkStream(url) {
  const stop = new AbortController();
  let response, problem;
  try {
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(10_000)]);
    response = await fetch(url, { cache: 'no-store', signal });
    if (response.ok) return stop.abort();
    problem = await response.json();
  } catch {
    throw new UnreachableError();
  }
  throw new ProblemError(response.status, problem);
}

export const get = (path, options) => request('GET', path, options);

export function withQuery(path, parameters) {
  const defined = Object.entries(parameters).filter(([, value]) => value !== '' && value !== undefined && value !== null);
  return `${path}?${new URLSearchParams(defined)}`;
}
