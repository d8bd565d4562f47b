// What asks before it is done, and tells what became of it.

import { Refused, Unreachable, get, request, withQuery } from './api.js';

const $ = id => document.getElementById(id);

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Asks. `run` does what was confirmed; it is given `step`, and what it throws is shown. */
function ask({ title, body, confirm, isDangerous, run }) {
  const dialog = $('dialog');
  $('dialog-title').textContent = title;
  $('dialog-body').replaceChildren(...body);
  $('dialog-steps').replaceChildren();
  $('dialog-error').textContent = '';
  $('dialog-cancel').textContent = 'Cancel';
  const button = $('dialog-confirm');
  button.textContent = confirm;
  button.className = isDangerous ? 'danger' : 'primary';
  button.hidden = button.disabled = false;
  const step = text => {
    const item = make('li', { textContent: text });
    $('dialog-steps').append(item);
    return later => { item.textContent = later; };
  };
  button.onclick = async () => {
    if (![...dialog.querySelectorAll('input, select')].every(field => field.reportValidity())) return;
    button.disabled = true;
    $('dialog-error').textContent = '';
    $('dialog-steps').replaceChildren();
    try {
      await run(step);
      button.hidden = true;
      $('dialog-cancel').textContent = 'Close';
      $('dialog-cancel').focus();
    } catch (error) {
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

const paragraph = (...children) => make('p', {}, ...children);

/** Each is called with what is to be done once something has changed. */
export function logLevel({ done }) {
  const level = make('select', {}, ...['error', 'warn', 'info', 'debug', 'trace', 'off'].map(name => make('option', { textContent: name })));
  const other = make('input', { type: 'text', placeholder: 'such as info,hyper=debug', autocomplete: 'off', spellcheck: false });
  const minutes = make('input', { type: 'number', min: 0, max: 1440, value: 15, required: true });
  const now = make('p', { textContent: 'Asking what is logged now …' });
  get('/admin/log-level').then(is => {
    const left = is.revert_after_seconds;
    const reverts = left ? `, for ${Math.ceil(left / 60)} more minutes` : '';
    now.textContent = is.level === is.configured_level
      ? `Logged is ${is.level}, as LOG_LEVEL says.`
      : `Logged is ${is.level}${reverts}; LOG_LEVEL says ${is.configured_level}.`;
    if ([...level.options].some(option => option.value === is.level.toLowerCase())) level.value = is.level.toLowerCase();
  }, error => { now.textContent = error.message; });
  ask({
    title: 'Log more or less',
    body: [now,
      make('label', {}, 'Level ', level),
      make('label', {}, 'or a filter ', other),
      make('label', {}, 'Back to LOG_LEVEL after this many minutes; 0 is never by itself ', minutes)],
    confirm: 'Set',
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

export function reload({ done }) {
  ask({
    title: 'Read the settings again?',
    body: [paragraph('The settings are checked first; if something is wrong with them, nothing changes. Connections stay. The log file is opened anew.')],
    confirm: 'Reload',
    run: async step => {
      const { changed, needs_restart } = await request('POST', '/admin/reload', { timeout: 60_000 });
      if (!changed.length && !needs_restart.length) step('Done. No setting was edited.');
      for (const each of changed) step(`In force now: ${change(each)}`);
      for (const each of needs_restart) step(`Waits for a restart: ${change(each)}`);
      done();
    },
  });
}

export function restart({ done, pid }) {
  ask({
    title: 'Replace the daemon?',
    body: [paragraph('A successor is started with the program and the settings that are on disk now, and takes over. No request is refused or lost. If it does not serve, this one goes on.')],
    confirm: 'Restart',
    run: async step => {
      const begun = Date.now();
      const first = step('The successor is starting …');
      let is;
      try {
        is = await request('POST', '/admin/restart', { timeout: 120_000 });
      } catch (error) {
        first(`The successor did not take over; process ${pid ?? ''} goes on.`);
        throw error;
      }
      first(`The successor serves: process ${is.pid}, generation ${is.generation}, after ${((Date.now() - begun) / 1000).toFixed(1)} s.`);
      const last = step(`Process ${is.old_pid} finishes the requests that it has …`);
      done();
      await drained(begun).then(
        isOver => last(isOver ? `Process ${is.old_pid} has finished.` : `Process ${is.old_pid} still has requests; its log tells when it is done.`),
        () => last(`Process ${is.old_pid} finishes the requests that it has; its log tells when it is done.`),
      );
    },
  });
}

/** Whether the process that was replaced has said that it is done. */
async function drained(since) {
  for (let tries = 0; tries < 20; tries++) {
    const page = await get(withQuery('/admin/logs', { lines: 20, contains: 'drained', since: new Date(since - 1000).toISOString() }));
    if (page.entries.some(entry => entry.message === 'drained')) return true;
    await new Promise(resolve => setTimeout(resolve, 500));
  }
  return false;
}

export function stop({ done }) {
  ask({
    title: 'Stop the daemon?',
    body: [
      paragraph('The service ends: requests in flight are finished, then nothing answers any more, this page neither. It stays as it is and goes on once the daemon is back:'),
      make('pre', { textContent: 'fullon start', tabIndex: 0 }),
    ],
    confirm: 'Stop the service',
    isDangerous: true,
    run: async step => {
      const is = await request('POST', '/admin/stop');
      const requests = is.in_flight === 1 ? '1 request' : `${is.in_flight} requests`;
      step(`Process ${is.pid} stops. ${requests} in flight; what is not finished by ${new Date(is.deadline).toLocaleTimeString()} is cut off.`);
      done();
    },
  });
}
