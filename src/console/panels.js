// What the daemon says of itself.

import { get, withQuery } from './api.js';
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

/** Phase and checks in a word, and in a sentence. */
export function headline(status) {
  const down = status.checks.filter(check => check.state === 'down').map(check => check.name);
  const unknown = status.checks.filter(check => check.state === 'unknown').map(check => check.name);
  if (status.phase === 'draining') return ['draining', 'Draining', 'It finishes the requests that it has, and ends.'];
  if (status.phase === 'starting') return ['starting', 'Starting', 'Not all listeners answer yet.'];
  if (down.length) return ['down', `Ready, but ${down.join(' and ')} ${down.length > 1 ? 'are' : 'is'} down`, 'Health says 503 unless only the log is concerned.'];
  if (unknown.length) return ['starting', 'Ready', `${unknown.join(' and ')} not answered yet.`];
  return ['ready', 'Ready', status.checks.length ? 'All checks are up.' : 'Nothing is checked: no dependency is configured.'];
}

function levelNow({ level, revert_after_seconds: left }) {
  return left == null ? level : `${level} until ${new Date(Date.now() + 1000 * left).toLocaleTimeString()}`;
}

export function show(status, level) {
  const rows = [
    ['Version', status.version], ['Process', status.pid], ['Generation', status.generation],
    ['Started', time(status.started_at)], ['Public', status.server], ['Admin', status.admin],
    ['Log', status.log_file === '-' ? 'stdout' : status.log_file], ['Level', levelNow(level)],
    ['Memory', bytes(status.process.rss_bytes)], ['Connections', status.http.connections],
  ];
  $('facts').replaceChildren(...rows.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value))));
  $('checks').replaceChildren(...status.checks.map(check => {
    const took = check.latency_ms == null ? '' : `, ${check.latency_ms.toFixed(1)} ms`;
    const since = check.since ? ` since ${time(check.since)}` : '';
    const why = check.last_error ? [make('span', { className: 'why' }, check.last_error)] : [];
    return make('li', { className: check.state }, make('strong', {}, check.name), ` ${check.state}${since}${took}`, ...why);
  }));
  showLastExit(status.last_exit);
}

const CAUSES = {
  stopped: 'It was stopped', signalled: 'A signal stopped it', interrupted: 'A second signal ended it before it had drained',
  restarted: 'Its successor took over', crashed: 'It crashed, or was killed',
};

let lastExit;
function showLastExit(exit) {
  if (JSON.stringify(exit) === lastExit) return;
  lastExit = JSON.stringify(exit);
  const box = $('before').querySelector('.body');
  if (!exit) return box.replaceChildren(make('p', {}, 'None is known.'));
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
  const waits = new Set(pending);
  const box = $('settings');
  box.querySelector('.body').textContent = waits.size
    ? `Edited and not in force: ${pending.join(', ')}. A reload says which of them need a restart.`
    : 'What is in force is what is configured.';
  box.querySelector('tbody').replaceChildren(...settings.map(({ name, value, source }) => {
    return row([make('th', { scope: 'row' }, name), value ?? '', source], waits.has(name) ? 'waits' : source === 'default' || source === 'not set' ? 'usual' : '');
  }));
}

/** What only lines of the audit trail contain, in either format: what others send is logged with quotes escaped. */
const MARKS = [' audit: ', '"target":"audit"'];

/** The audit trail, newest first: asked for again only from where it ends. */
export class Audit {
  entries = [];

  /** Asks for what is new once `trail` is another. */
  async follow(trail) {
    if (this.isAsking || trail === this.seen) return;
    this.isAsking = true;
    try {
      await this.refresh();
      // What is counted may be written a moment later.
      if (this.asked === trail) this.seen = trail;
      this.asked = trail;
      $('audit-error').textContent = '';
    } catch (error) {
      $('audit-error').textContent = `It cannot be read: ${error.message}`;
      // What is no fault of the moment is not asked for again and again.
      if (error.status < 500) this.seen = trail;
    }
    this.isAsking = false;
  }

  async refresh() {
    const since = this.entries[0]?.timestamp;
    const pages = await Promise.all(MARKS.map(contains => get(withQuery('/admin/logs', { lines: 50, contains, since }))));
    const known = new Set(this.entries.map(entry => entry.cursor));
    const isNew = entry => entry.target === 'audit' && !known.has(entry.cursor);
    const found = pages.flatMap(page => page.entries).filter(isNew);
    found.sort((a, b) => Date.parse(b.timestamp) - Date.parse(a.timestamp));
    this.entries = [...found, ...this.entries].slice(0, 50);
    this.draw();
  }

  draw() {
    const rows = this.entries.map(entry => {
      const fields = {};
      for (const [, name, quoted] of (entry.message ?? '').matchAll(/(\w+)=("(?:\\.|[^"\\])*"|\S+)/g)) {
        try {
          fields[name] = quoted.startsWith('"') ? JSON.parse(quoted) : quoted;
        } catch {
          fields[name] = quoted;
        }
      }
      const more = ['level', 'timeout_ms', 'status', 'reason'].filter(name => fields[name]).map(name => `${name} ${fields[name]}`);
      return row([time(entry.timestamp), fields.action ?? '', fields.outcome ?? '', fields.subject ?? '', fields.peer ?? '', more.join(', ')], fields.outcome);
    });
    $('audit').querySelector('tbody').replaceChildren(...(rows.length ? rows : [row([make('td', { colSpan: 6 }, 'None in the log.')])]));
  }
}
