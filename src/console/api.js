// Requests to the admin API.

import { sessionValue } from './session.js';

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

/** Reads a stored value, or writes it if defined; `null` removes it. Works without storage. */
export function stored(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else if (value !== undefined) localStorage[name] = value;
    return localStorage[name] ?? value;
  } catch {
    return value;
  }
}

// The same in all windows, so that each log view recognises their requests.
const STORAGE_KEY = 'fullon-console';
const pageId = stored(STORAGE_KEY) ?? stored(STORAGE_KEY, 'console-' + [...crypto.getRandomValues(new Uint8Array(9))].map(byte => byte.toString(36)).join(''));
let requestCount = 0;

/** Whether a log entry is an access line of this page, not an audit event. */
export const isOwn = ({ target, line }) => target === 'access' && line.includes(pageId) && /server"?[=:]"admin"/.test(line);

/** The body of the response. Throws ProblemError or UnreachableError. `timeout` is in milliseconds. */
export async function request(method, path, { body, token, timeout = 10_000 } = {}) {
  const headers = { 'X-Request-Id': `${pageId}-${Date.now().toString(36)}-${++requestCount}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  // Beside a token, it is the session that a new one replaces.
  if (sessionValue()) headers['X-Fullon-Session'] = sessionValue();
  let response, text;
  try {
    const signal = AbortSignal.timeout(timeout);
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store', signal });
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
export async function checkStream(path) {
  const stop = new AbortController();
  let response, problem;
  try {
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(10_000)]);
    response = await fetch(path, { cache: 'no-store', signal });
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
