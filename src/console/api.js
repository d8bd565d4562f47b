// Requests to the admin API of the daemon that this page came from.

/** What the daemon refused: RFC 9457. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the daemon answered ${status}`);
    this.status = status;
    this.errors = problem.errors ?? [];
  }
}

/** Nobody answered. */
export class Unreachable extends Error {
  constructor() {
    super('the daemon cannot be reached');
  }
}

/** What the browser keeps under a name, if it keeps anything. */
export function kept(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else if (value !== undefined) localStorage[name] = value;
    return localStorage[name] ?? value;
  } catch {
    return value;
  }
}

// The same for all windows of a browser, so that the log view knows the requests of each.
const KEY = 'fullon-console';
const page = kept(KEY) ?? kept(KEY, 'console-' + [...crypto.getRandomValues(new Uint8Array(9))].map(byte => byte.toString(36)).join(''));
let count = 0;

/** Whether an entry of the log tells of a request of this page. What was changed by it does not count. */
export const isOwn = ({ target, line }) => target === 'access' && line.includes(page) && /server"?[=:]"admin"/.test(line);

/** The answer, or Refused, or Unreachable. `timeout` is in milliseconds. */
export async function request(method, path, { body, token, timeout = 10_000 } = {}) {
  const headers = { 'X-Request-Id': `${page}-${Date.now().toString(36)}-${++count}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer, text;
  try {
    const signal = AbortSignal.timeout(timeout);
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store', signal });
    text = await answer.text();
  } catch {
    throw new Unreachable();
  }
  const isJson = answer.headers.get('Content-Type')?.includes('json');
  const value = isJson ? JSON.parse(text) : text;
  if (!answer.ok) throw new Refused(answer.status, isJson ? value : {});
  return value;
}

export const get = (path, options) => request('GET', path, options);

/** A path with those parameters that have a value. */
export function withQuery(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== '' && value !== undefined && value !== null);
  return `${path}?${new URLSearchParams(given)}`;
}
