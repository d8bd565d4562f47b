// What asks before it is done, and tells what became of it.

import { Refused, Unreachable, get, request, withQuery } from './api.js';
import { $, make } from './dom.js';

/** How often it has asked. */
let asked = 0;

/** Asks. `run` does what was confirmed, also when the dialog is closed meanwhile; then `notice` is told what it throws. */
function ask({ title, body, confirm, isDangerous, run, notice }) {
  const dialog = $('dialog');
  const number = ++asked;
  const isShown = () => dialog.open && number === asked;
  const [button, cancel] = [$('dialog-confirm'), $('dialog-cancel')];
  let steps = make('ol');
  $('dialog-title').textContent = title;
  $('dialog-body').replaceChildren(...body);
  $('dialog-steps').replaceChildren();
  $('dialog-error').textContent = '';
  cancel.textContent = 'Cancel';
  cancel.onclick = () => dialog.close();
  button.textContent = confirm;
  button.className = isDangerous ? 'danger' : 'primary';
  button.hidden = button.disabled = false;
  const step = text => {
    const item = make('li', { textContent: text });
    steps.append(item);
    if (isShown()) $('dialog-steps').replaceChildren(steps);
    return later => { item.textContent = later; };
  };
  dialog.querySelector('form').onsubmit = async event => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    cancel.textContent = 'Close';
    $('dialog-error').textContent = '';
    steps = make('ol');
    try {
      await run(step, isShown);
      if (!isShown()) return;
      button.hidden = true;
      cancel.focus();
    } catch (error) {
      if (!isShown()) return notice(`${title} ${explain(error).map(part => part.textContent ?? part).join(' ')}`);
      $('dialog-error').replaceChildren(...explain(error));
      button.disabled = false;
      button.focus();
    }
  };
  dialog.showModal();
}

function explain(error) {
  if (error instanceof Unreachable) return ['The daemon does not answer. Whether it did this is not known: `fullon status` tells.'];
  if (!(error instanceof Refused)) return [String(error)];
  if (!error.errors.length) return [error.message];
  const list = error.errors.map(({ setting, message }) => make('li', {}, make('code', { textContent: setting }), ` ${message}`));
  return ['Nothing was changed. What is wrong:', make('ul', {}, ...list)];
}

const paragraph = text => make('p', {}, text);

/** Each is called with `done`, what is to be done once something has changed. */
export function logLevel({ done, notice }, status) {
  const level = make('select', {}, ...['error', 'warn', 'info', 'debug', 'trace', 'off'].map(name => make('option', { textContent: name })));
  const other = make('input', { type: 'text', placeholder: 'such as info,hyper=debug', autocomplete: 'off', spellcheck: false });
  const is = status?.log_level.toLowerCase() ?? 'info';
  level.value = is;
  if (level.value !== is) [level.value, other.value] = ['info', status.log_level];
  const minutes = make('input', { type: 'number', min: 0, max: 1440, value: 15, required: true });
  const now = make('p', { textContent: 'Asking what is logged now …' });
  get('/admin/log-level').then(is => {
    const left = is.revert_after_seconds;
    const reverts = left ? `, for ${Math.ceil(left / 60)} more minutes` : '';
    now.textContent = is.level === is.configured_level
      ? `Logged is ${is.level}, as LOG_LEVEL says.`
      : `Logged is ${is.level}${reverts}; LOG_LEVEL says ${is.configured_level}.`;
  }, error => { now.textContent = error.message; });
  ask({
    title: 'Log more or less',
    body: [now,
      make('label', {}, 'Level ', level),
      make('label', {}, 'or a filter ', other),
      make('label', {}, 'Back to LOG_LEVEL after this many minutes; 0 is never by itself ', minutes)],
    confirm: 'Set',
    notice,
    run: async step => {
      const seconds = Number(minutes.value) * 60;
      const body = { level: other.value.trim() || level.value, ...(seconds && { revert_after_seconds: seconds }) };
      const is = await request('PUT', '/admin/log-level', { body });
      step(`Logged is ${is.level} from now on${seconds ? `, for ${minutes.value} minutes` : ''}.`);
      done();
    },
  });
}

const change = ({ name, from, to }) => `${name}: ${from ?? 'not set'} → ${to ?? 'not set'}`;

export function reload({ done, notice }) {
  ask({
    title: 'Read the settings again?',
    body: [paragraph('The settings are checked first; if something is wrong with them, nothing changes. Connections stay. The log file is opened anew.')],
    confirm: 'Reload',
    notice,
    run: async step => {
      const { changed, needs_restart } = await request('POST', '/admin/reload', { timeout: 60_000 });
      if (!changed.length && !needs_restart.length) step('Done. No setting was edited.');
      for (const each of changed) step(`In force now: ${change(each)}`);
      for (const each of needs_restart) step(`Waits for a restart: ${change(each)}`);
      done();
    },
  });
}

/** With these the daemon says that a successor did not take over. */
const FAILED = [422, 500, 504];

export function restart({ done, notice }, status) {
  ask({
    title: 'Replace the daemon?',
    body: [paragraph('A successor is started with the program and the settings that are on disk now, and takes over. No request is refused or lost. If it does not serve, this one goes on.')],
    confirm: 'Restart',
    notice,
    run: async (step, isShown) => {
      const begun = Date.now();
      const first = step('The successor is starting …');
      let is;
      try {
        is = await request('POST', '/admin/restart', { timeout: 120_000 });
      } catch (error) {
        first(FAILED.includes(error.status) ? 'The successor did not take over; the daemon goes on as before.' : 'Not restarted, as far as is known.');
        throw error;
      }
      first(`The successor serves: process ${is.pid}, generation ${is.generation}, after ${((Date.now() - begun) / 1000).toFixed(1)} s.`);
      if (status && is.admin !== status.admin) {
        const text = `The admin API is at ${is.admin} now, and not here: \`fullon console\` prints the new address.`;
        step(text);
        return notice(text);
      }
      const last = step(`Process ${is.old_pid} finishes the requests that it has …`);
      done();
      drained(isShown).then(
        isOver => last(isOver ? `Process ${is.old_pid} has finished.` : `Process ${is.old_pid} has not said yet that it has finished.`),
        () => last(`Process ${is.old_pid} finishes the requests that it has. Its log tells when it is done.`),
      );
    },
  });
}

/** Whether the process that was replaced has said that it is done. */
async function drained(isShown) {
  // By the clock of the daemon.
  const { started_at: since } = await get('/admin/status');
  for (let tries = 0; tries < 120 && isShown(); tries++) {
    const page = await get(withQuery('/admin/logs', { lines: 20, contains: 'drained', since }));
    if (page.entries.some(entry => entry.message === 'drained')) return true;
    await new Promise(resolve => setTimeout(resolve, 500));
  }
  return false;
}

export function stop({ done, notice }) {
  ask({
    title: 'Stop the daemon?',
    body: [
      paragraph('The service ends: requests in flight are finished, then nothing answers any more, this page neither. It stays as it is and goes on once the daemon is back:'),
      make('pre', { textContent: 'fullon start', tabIndex: 0 }),
    ],
    confirm: 'Stop the service',
    isDangerous: true,
    notice,
    run: async step => {
      const is = await request('POST', '/admin/stop');
      const requests = is.in_flight === 1 ? '1 request' : `${is.in_flight} requests`;
      step(`Process ${is.pid} stops. ${requests} in flight; what is not finished by ${new Date(is.deadline).toLocaleTimeString()} is cut off.`);
      done();
    },
  });
}
