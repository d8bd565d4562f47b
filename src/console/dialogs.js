// Operations that ask for confirmation.

import { ProblemError, UnreachableError, get, request, withQuery } from './api.js';
import { $, make } from './dom.js';

let dialogCount = 0;

/** Asks for confirmation. If the dialog is closed, `run` continues and `notice` shows its error. */
function openDialog({ title, body, confirm, isDangerous, run, notice }) {
  const dialog = $('dialog');
  const number = ++dialogCount;
  const isShown = () => dialog.open && number === dialogCount;
  const [button, cancel, stepBox, errorBox] = ['confirm', 'cancel', 'steps', 'error'].map(id => $(`dialog-${id}`));
  let steps = make('ol');
  $('dialog-title').textContent = title;
  $('dialog-body').replaceChildren(...body);
  stepBox.replaceChildren();
  errorBox.textContent = '';
  cancel.textContent = 'Cancel';
  cancel.onclick = () => dialog.close();
  button.textContent = confirm;
  button.className = isDangerous ? 'danger' : 'primary';
  button.hidden = button.disabled = false;
  const step = text => {
    const item = make('li', {}, text);
    steps.append(item);
    if (isShown()) stepBox.replaceChildren(steps);
    return updated => { item.textContent = updated; };
  };
  dialog.querySelector('form').onsubmit = async event => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    cancel.textContent = 'Close';
    errorBox.textContent = '';
    steps = make('ol');
    try {
      await run(step, isShown);
      if (!isShown()) return;
      button.hidden = true;
      cancel.focus();
    } catch (error) {
      if (!isShown()) return notice(`${title} ${explain(error).map(part => part.textContent ?? part).join(' ')}`);
      errorBox.replaceChildren(...explain(error));
      button.disabled = false;
      button.focus();
    }
  };
  dialog.showModal();
}

function explain(error) {
  if (error instanceof UnreachableError) return ['The daemon does not answer. Whether it did this is not known: `fullon status` tells.'];
  if (!(error instanceof ProblemError)) return [String(error)];
  if (!error.errors.length) return [error.message];
  const list = error.errors.map(({ setting, message }) => make('li', {}, make('code', {}, setting), ` ${message}`));
  return ['Nothing was changed. What is wrong:', make('ul', {}, ...list)];
}

const paragraph = text => make('p', {}, text);

/** Each operation calls `done` after a change. */
export function logLevel({ done, notice }, status) {
  const level = make('select', {}, ...['error', 'warn', 'info', 'debug', 'trace', 'off'].map(name => make('option', {}, name)));
  const other = make('input', { type: 'text', placeholder: 'such as info,hyper=debug', autocomplete: 'off', spellcheck: false });
  const current = status?.log_level.toLowerCase() ?? 'info';
  level.value = current;
  if (level.value !== current) [level.value, other.value] = ['info', status.log_level];
  const minutes = make('input', { type: 'number', min: 0, max: 1440, value: 15, required: true });
  const now = paragraph('Asking what is logged now …');
  get('/admin/log-level').then(current => {
    const left = current.revert_after_seconds;
    const reverts = left ? `, for ${Math.ceil(left / 60)} more minutes` : '';
    now.textContent = current.level === current.configured_level
      ? `Logged is ${current.level}, as LOG_LEVEL says.`
      : `Logged is ${current.level}${reverts}; LOG_LEVEL says ${current.configured_level}.`;
  }, error => { now.textContent = error.message; });
  openDialog({
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
      const result = await request('PUT', '/admin/log-level', { body });
      step(`Logged is ${result.level} from now on${seconds ? `, for ${minutes.value} minutes` : ''}.`);
      done();
    },
  });
}

const change = ({ name, from, to }) => `${name}: ${from ?? 'not set'} → ${to ?? 'not set'}`;

export function reload({ done, notice }) {
  openDialog({
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

/** Statuses of a restart whose new process did not take over. */
const FAILED_STATUSES = [422, 500, 504];

export function restart({ done, notice }, status) {
  openDialog({
    title: 'Replace the daemon?',
    body: [paragraph('A successor is started with the program and the settings that are on disk now, and takes over. No request is refused or lost. If it does not serve, this one goes on.')],
    confirm: 'Restart',
    notice,
    run: async (step, isShown) => {
      const startedAt = Date.now();
      const starting = step('The successor is starting …');
      let result;
      try {
        result = await request('POST', '/admin/restart', { timeout: 120_000 });
      } catch (error) {
        starting(FAILED_STATUSES.includes(error.status) ? 'The successor did not take over; the daemon goes on as before.' : 'Not restarted, as far as is known.');
        throw error;
      }
      starting(`The successor serves: process ${result.pid}, generation ${result.generation}, after ${((Date.now() - startedAt) / 1000).toFixed(1)} s.`);
      if (status && result.admin !== status.admin) {
        const text = `The admin API is at ${result.admin} now, and not here: \`fullon console\` prints the new address.`;
        step(text);
        return notice(text);
      }
      const draining = step(`Process ${result.old_pid} finishes the requests that it has …`);
      done();
      hasDrained(isShown).then(
        isDone => draining(isDone ? `Process ${result.old_pid} has finished.` : `Process ${result.old_pid} has not said yet that it has finished.`),
        () => draining(`Process ${result.old_pid} finishes the requests that it has. Its log tells when it is done.`),
      );
    },
  });
}

/** Waits for the log entry of the old process. False after a minute, or when the dialog closes. */
async function hasDrained(isShown) {
  // A time by the clock of the daemon.
  const { started_at: since } = await get('/admin/status');
  for (let tries = 0; tries < 120 && isShown(); tries++) {
    const page = await get(withQuery('/admin/logs', { lines: 20, contains: 'drained', since }));
    if (page.entries.some(entry => entry.message === 'drained')) return true;
    await new Promise(resolve => setTimeout(resolve, 500));
  }
  return false;
}

export function stop({ done, notice }) {
  openDialog({
    title: 'Stop the daemon?',
    body: [
      paragraph('The service ends: requests in flight are finished, then nothing answers any more, this page neither. It stays as it is and goes on once the daemon is back:'),
      make('pre', { tabIndex: 0 }, 'fullon start'),
    ],
    confirm: 'Stop the service',
    isDangerous: true,
    notice,
    run: async step => {
      const result = await request('POST', '/admin/stop');
      const requests = result.in_flight === 1 ? '1 request' : `${result.in_flight} requests`;
      step(`Process ${result.pid} stops. ${requests} in flight; what is not finished by ${new Date(result.deadline).toLocaleTimeString()} is cut off.`);
      done();
    },
  });
}
