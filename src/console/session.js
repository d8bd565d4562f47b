// The browser session. Its cookie is hidden from scripts; the page keeps the two other values.

const NAME = 'fullon-session';
/** How long other tabs may take to pass on their session, in milliseconds. */
const ANSWER_TIME = 500;

const channel = new BroadcastChannel(NAME);
let values = read();
let onChange = () => {};
let onAnswer = () => {};

function read() {
  try {
    return JSON.parse(sessionStorage[NAME] ?? 'null');
  } catch {
    return null;
  }
}

function store(newValues) {
  values = newValues;
  try {
    if (values) sessionStorage[NAME] = JSON.stringify(values);
    else delete sessionStorage[NAME];
  } catch {
    // Without storage, a reload asks the other tabs.
  }
}

channel.onmessage = ({ data }) => {
  if (data.asks) {
    if (values) channel.postMessage({ answer: values });
  } else if (data.answer) {
    if (!values) store(data.answer);
    onAnswer();
  } else if (data.created) {
    store(data.created);
    onChange('created');
  } else if (data.ended === values?.id) {
    store(null);
    onChange('ended');
  }
};

/** For the header of requests. */
export const sessionValue = () => values?.session;

/** For the address of the log stream. */
export const ticket = () => values?.ticket;

/** Calls `listener` when another tab signs in (`created`) or out (`ended`). */
export function listen(listener) {
  onChange = listener;
}

/** Whether this tab, or another one, has a session. It may be invalid. */
export async function find() {
  if (!values) {
    await new Promise(resolve => {
      onAnswer = resolve;
      setTimeout(resolve, ANSWER_TIME);
      channel.postMessage({ asks: true });
    });
  }
  return Boolean(values);
}

/** Keeps a new session, in all tabs. */
export function keep({ id, session, ticket }) {
  store({ id, session, ticket });
  channel.postMessage({ created: values });
}

/** Forgets the session, in all tabs. */
export function forget() {
  if (values) channel.postMessage({ ended: values.id });
  store(null);
}
