// Panels with the state of the daemon.

import { get } from './api.js';
import { bytes } from './charts.js';
import { $, make } from './dom.js';

export function duration(seconds) {
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = parts.findIndex(([length]) => seconds >= length);
  if (first < 0) return '0 s';
  const [[length, unit], next] = [parts[first], parts[first + 1]];
  const rest = next ? Math.floor(seconds % length / next[0]) : 0;
  return `${Math.floor(seconds / length)} ${unit}${rest ? ` ${rest} ${next[1]}` : ''}`;
}

const time = text => text ? new Date(text).toLocaleString() : '';

/** Phase and checks as a state, a headline, and a sentence. */
export function headline(status) {
  const namesOf = state => status.checks.filter(check => check.state === state).map(check => check.name);
  const [down, unknown] = ['down', 'unknown'].map(namesOf);
  if (status.phase === 'draining') return ['draining', 'Draining', 'It finishes the requests in flight and exits.'];
  if (status.phase === 'starting') return ['starting', 'Starting', 'Not all listeners respond yet.'];
  if (down.length) return ['down', `Ready, but ${down.join(' and ')} ${down.length > 1 ? 'are' : 'is'} down`, 'A dependency that is down makes /health respond with 503.'];
  if (unknown.length) return ['starting', 'Ready', `Not checked yet: ${unknown.join(' and ')}.`];
  return ['ready', 'Ready', status.checks.length ? 'All checks are up.' : 'No dependency is configured.'];
}

function levelText({ level, revert_after_seconds: secondsLeft }) {
  return secondsLeft == null ? level : `${level} until ${new Date(Date.now() + 1000 * secondsLeft).toLocaleTimeString()}`;
}

export function showStatus(status, level) {
  const rows = [
    ['Version', status.version], ['Process', status.pid], ['Generation', status.generation],
    ['Started', time(status.started_at)], ['Public', status.server], ['Admin', status.admin],
    ['Log', status.log_file === '-' ? 'stdout' : status.log_file], ['Level', levelText(level)],
    ['Memory', bytes(status.process.rss_bytes)], ['Connections', status.http.connections],
  ];
  $('facts').replaceChildren(...rows.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value))));
  $('checks').replaceChildren(...status.checks.map(check => {
    const latency = check.latency_ms == null ? '' : `, ${check.latency_ms.toFixed(1)} ms`;
    const since = check.since ? ` since ${time(check.since)}` : '';
    const error = check.last_error ? [make('span', { className: 'why' }, check.last_error)] : [];
    return make('li', { className: check.state }, make('strong', {}, check.name), ` ${check.state}${since}${latency}`, ...error);
  }), ...status.warnings.map(text => make('li', { className: 'down' }, text)));
  showLastExit(status.last_exit);
}

const CAUSES = {
  stopped: 'Stopped', signalled: 'Stopped by a signal', interrupted: 'Ended by a second signal while draining',
  restarted: 'Replaced by a new process', crashed: 'Crashed or killed',
};

let lastExit;
function showLastExit(exit) {
  if (JSON.stringify(exit) === lastExit) return;
  lastExit = JSON.stringify(exit);
  const box = $('before').querySelector('.body');
  if (!exit) return box.replaceChildren(make('p', {}, 'No record.'));
  const by = exit.by ? `, by ${exit.by}` : '';
  const parts = [make('p', {}, `${CAUSES[exit.cause] ?? exit.cause}${by}: process ${exit.pid}${exit.at ? `, ${time(exit.at)}` : ''}.`)];
  if (exit.last_lines.length) {
    parts.push(make('pre', { tabIndex: 0, ariaLabel: 'Its last lines' }, exit.last_lines.join('\n')));
  }
  box.replaceChildren(...parts);
}

function row(cells, className = '') {
  return make('tr', { className }, ...cells.map(cell => cell instanceof Node ? cell : make('td', {}, cell)));
}

export function showSettings(settings, pending) {
  const box = $('settings');
  box.querySelector('.body').textContent = pending.length
    ? `Changed, not active until a reload or restart: ${pending.join(', ')}.`
    : 'All configured settings are active.';
  box.querySelector('tbody').replaceChildren(...settings.map(({ name, value, source }) => {
    const className = pending.includes(name) ? 'waits' : ['default', 'not set'].includes(source) ? 'usual' : '';
    return row([make('th', { scope: 'row' }, name), value ?? '', source], className);
  }));
}

/** The audit trail, newest first. */
export class Audit {
  /** Loads the last records if `trail`, which counts them, has changed. `problem` is why records cannot be written. */
  async update(trail, problem) {
    if (this.isLoading || trail === this.loadedTrail) return;
    this.isLoading = true;
    try {
      this.draw((await get('admin/audit')).records.reverse());
      this.loadedTrail = trail;
      $('audit-error').textContent = problem ? `${problem}; records are kept in memory` : '';
    } catch (error) {
      $('audit-error').textContent = `Cannot read the audit trail: ${error.message}`;
      // A permanent error is not retried.
      if (error.status < 500) this.loadedTrail = trail;
    }
    this.isLoading = false;
  }

  draw(records) {
    const rows = records.map(record => {
      const fields = { ...record.detail, status: record.status, reason: record.reason };
      const shown = value => typeof value === 'object' ? JSON.stringify(value) : value;
      const more = Object.entries(fields).filter(([, value]) => value !== undefined).map(([name, value]) => `${name} ${shown(value)}`);
      return row([time(record.time), record.event, record.outcome, record.subject ?? '', record.client ?? record.peer ?? '', more.join(', ')], record.outcome);
    });
    $('audit').querySelector('tbody').replaceChildren(...(rows.length ? rows : [row([make('td', { colSpan: 6 }, 'No records.')])]));
  }
}

/** The browser sessions, oldest first. */
export class Sessions {
  /** Loads them if `trail` has changed. `own` is the id of this session; `end` is called with one to end, if this session may. */
  async update(trail, own, end) {
    if (this.isLoading || trail === this.loadedTrail) return;
    this.isLoading = true;
    try {
      this.draw(await get('admin/sessions'), own, end);
      this.loadedTrail = trail;
      $('sessions-error').textContent = '';
    } catch (error) {
      $('sessions-error').textContent = `Cannot load the sessions: ${error.message}`;
    }
    this.isLoading = false;
  }

  draw(sessions, own, end) {
    // Equal rows stay, so that a button keeps the focus.
    const text = JSON.stringify([sessions, own, Boolean(end)]);
    if (text === this.drawn) return;
    this.drawn = text;
    $('sessions').querySelector('tbody').replaceChildren(...sessions.map(session => {
      const who = session.id === own ? `${session.subject} (this session)` : session.subject;
      const scopes = session.log_only ? 'log only' : session.scopes.join(' ');
      const button = make('button', { type: 'button', disabled: !end, onclick: () => end(session) }, 'End');
      button.setAttribute('aria-label', `End the session of ${who} since ${time(session.created_at)}`);
      return row([who, scopes, time(session.created_at), time(session.expires_at), make('td', {}, button)]);
    }));
  }
}
