// Operations that ask for confirmation.

import { ProblemError, UnreachableError, get, request, withQuery } from './api.js';
import { settle } from './clicks.js';
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
  settle();
  dialog.showModal();
}

function explain(error) {
  if (error instanceof UnreachableError) return ['The daemon does not respond, so the result is unknown. Run `fullon status`.'];
  if (!(error instanceof ProblemError)) return [String(error)];
  if (!error.errors.length) return [error.message];
  const list = error.errors.map(({ setting, message }) => make('li', {}, make('code', {}, setting), ` ${message}`));
  return ['Nothing has changed. Errors:', make('ul', {}, ...list)];
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
  const now = paragraph('Loading …');
  get('admin/log-level').then(current => {
    const left = current.revert_after_seconds;
    const reverts = left ? `, for ${Math.ceil(left / 60)} more minutes` : '';
    now.textContent = current.level === current.configured_level
      ? `Active level: ${current.level}, as in LOG_LEVEL.`
      : `Active level: ${current.level}${reverts}. LOG_LEVEL is ${current.configured_level}.`;
  }, error => { now.textContent = error.message; });
  openDialog({
    title: 'Change the log level',
    body: [now,
      make('label', {}, 'Level ', level),
      make('label', {}, 'or filter directives ', other),
      make('label', {}, 'Minutes until it reverts to LOG_LEVEL (0: never) ', minutes)],
    confirm: 'Set',
    notice,
    run: async step => {
      const seconds = Number(minutes.value) * 60;
      const body = { level: other.value.trim() || level.value, ...(seconds && { revert_after_seconds: seconds }) };
      const result = await request('PUT', 'admin/log-level', { body });
      step(`Active level: ${result.level}${seconds ? `, for ${minutes.value} minutes` : ''}.`);
      done();
    },
  });
}

const change = ({ name, from, to }) => `${name}: ${from ?? 'not set'} → ${to ?? 'not set'}`;

/** Asks before an address signs in, which somebody else may have sent. `current` may be unknown. */
export function signIn({ notice, signIn }, current, next) {
  openDialog({
    title: `Sign in as ${next}?`,
    body: [
      paragraph(`${current ? `This tab is signed in as ${current}. ` : ''}The address that was opened signs in as ${next}. Tabs of the console that are open in this browser are signed out.`),
      paragraph('If somebody else sent you the address, cancel: what you do here would be done in that name.'),
    ],
    confirm: `Sign in as ${next}`,
    notice,
    run: async () => {
      await signIn();
      $('dialog').close();
    },
  });
}

export function endSession({ done, notice }, { id, subject }) {
  openDialog({
    title: `End the session of ${subject}?`,
    body: [paragraph('Its pages are signed out, and its log streams end.')],
    confirm: 'End the session',
    notice,
    run: async step => {
      await request('DELETE', `admin/sessions/${id}`);
      step('The session has ended.');
      done();
    },
  });
}

export function reload({ done, notice }) {
  openDialog({
    title: 'Reload the settings?',
    body: [paragraph('Invalid settings change nothing. Connections stay open. The log file is reopened.')],
    confirm: 'Reload',
    notice,
    run: async step => {
      const { changed, needs_restart } = await request('POST', 'admin/reload', { timeout: 60_000 });
      if (!changed.length && !needs_restart.length) step('Reloaded. No setting has changed.');
      for (const each of changed) step(`Active now: ${change(each)}`);
      for (const each of needs_restart) {
        // A running daemon keeps its PID file.
        const when = each.name === 'PID_FILE' ? 'a stop and a start' : 'a restart';
        step(`Not active until ${when}: ${change(each)}`);
      }
      done();
    },
  });
}

/** Statuses of a restart whose new process did not take over. */
const FAILED_STATUSES = [422, 500, 504];

export function restart({ done, notice }, status) {
  openDialog({
    title: 'Restart without downtime?',
    body: [paragraph('A new process starts with the program and the settings on disk, and takes over. No request is refused or lost. If it fails, nothing changes.')],
    confirm: 'Restart',
    notice,
    run: async (step, isShown) => {
      const startedAt = Date.now();
      const starting = step('The new process is starting …');
      let result;
      try {
        result = await request('POST', 'admin/restart', { timeout: 120_000 });
      } catch (error) {
        const unchanged = FAILED_STATUSES.includes(error.status) ? 'Restart failed. The daemon continues as before.' : 'Not restarted.';
        starting(error.status ? unchanged : 'The result of the restart is unknown.');
        throw error;
      }
      starting(`The new process serves: process ${result.pid}, generation ${result.generation}, after ${((Date.now() - startedAt) / 1000).toFixed(1)} s.`);
      if (status && result.admin !== status.admin) {
        const text = `The admin API has moved to ${result.admin}. Run \`fullon console\` for the new address.`;
        step(text);
        return notice(text);
      }
      const draining = step(`Process ${result.old_pid} finishes its requests …`);
      done();
      hasDrained(isShown).then(
        isDone => draining(isDone ? `Process ${result.old_pid} has finished.` : `Process ${result.old_pid} is still draining.`),
        () => draining(`Process ${result.old_pid} finishes its requests. The log shows when it is done.`),
      );
    },
  });
}

/** Waits for the log entry of the old process. False after a minute, or when the dialog closes. */
async function hasDrained(isShown) {
  // A time by the clock of the daemon.
  const { started_at: since } = await get('admin/status');
  for (let tries = 0; tries < 120 && isShown(); tries++) {
    const page = await get(withQuery('admin/logs', { lines: 20, contains: 'drained', since }));
    if (page.entries.some(entry => entry.message === 'drained')) return true;
    await new Promise(resolve => setTimeout(resolve, 500));
  }
  return false;
}

export function stop({ done, notice }) {
  openDialog({
    title: 'Stop the daemon?',
    body: [
      paragraph('Requests in flight finish, then the service and this page stop responding. The page reconnects once the daemon is started again:'),
      make('pre', { tabIndex: 0 }, 'fullon start'),
    ],
    confirm: 'Stop the service',
    isDangerous: true,
    notice,
    run: async step => {
      const result = await request('POST', 'admin/stop');
      const requests = result.in_flight === 1 ? '1 request' : `${result.in_flight} requests`;
      step(`Process ${result.pid} stops. ${requests} in flight, which may finish until ${new Date(result.deadline).toLocaleTimeString()}.`);
      done();
    },
  });
}
