// The browser session of this tab. Its cookie, which all tabs share, is hidden from scripts; the page
// keeps the two other values. No other tab gets them: while the daemon was down, another program may
// have put a page of its own there, which has the origin of this one.

import { SESSION } from './page.js';

const channel = new BroadcastChannel(SESSION);
let values = read();
let onChange = () => {};

/** Checks what it reads: another program on the port may have stored it in this tab. */
function read() {
  try {
    const { id, session, ticket } = JSON.parse(sessionStorage[SESSION]);
    const isValid = [id, session, ticket].every(value => /^[\w-]{1,100}$/.test(value));
    return isValid ? { id, session, ticket } : null;
  } catch {
    return null;
  }
}

function store(newValues) {
  values = newValues;
  try {
    if (values) sessionStorage[SESSION] = JSON.stringify(values);
    else delete sessionStorage[SESSION];
  } catch {
    // Without storage, a reload forgets the session.
  }
}

channel.onmessage = ({ data }) => {
  if (data.created) {
    onChange('created');
  } else if (values && data.ended === values.id) {
    // Kept: a page of another program may say so. A new sign-in, or signing out here, ends it.
    onChange('ended');
  }
};

/** For the header of requests. */
export const sessionValue = () => values?.session;

/** For the address of the log stream. */
export const ticket = () => values?.ticket;

/** Calls `listener` when another tab signs in (`created`), or out of this session (`ended`). */
export function listen(listener) {
  onChange = listener;
}

/** Keeps a new session in this tab. It replaces the cookie of the others. */
export function keep({ id, session, ticket }) {
  store({ id, session, ticket });
  channel.postMessage({ created: true });
}

/** Forgets the session, also in copies of this tab. */
export function forget() {
  if (values) channel.postMessage({ ended: values.id });
  store(null);
}
