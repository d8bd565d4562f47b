// What the daemon says of itself.

import { get, withQuery } from './api.js';
import { bytes } from './charts.js';

const $ = id => document.getElementById(id);

function make(name, text, className) {
  const made = document.createElement(name);
  if (text != null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

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

export function show(status) {
  const rows = [
    ['Version', status.version], ['Process', status.pid], ['Generation', status.generation],
    ['Started', time(status.started_at)], ['Public', status.server], ['Admin', status.admin],
    ['Log', status.log_file === '-' ? 'stdout' : status.log_file], ['Level', status.log_level],
    ['Memory', bytes(status.process.rss_bytes)], ['Connections', status.http.connections],
  ];
  $('facts').replaceChildren(...rows.flatMap(([name, value]) => {
    const row = make('div');
    row.append(make('dt', name), make('dd', value));
    return [row];
  }));
  $('checks').replaceChildren(...status.checks.map(check => {
    const item = make('li', null, check.state);
    const took = check.latency_ms == null ? '' : `, ${check.latency_ms.toFixed(1)} ms`;
    const since = check.since ? ` since ${time(check.since)}` : '';
    item.append(make('strong', check.name), ` ${check.state}${since}${took}`);
    if (check.last_error) item.append(make('span', check.last_error, 'why'));
    return item;
  }));
  showLastExit(status.last_exit);
}

const CAUSES = {
  stopped: 'It was stopped', signalled: 'A signal stopped it', interrupted: 'A second signal ended it before it had drained',
  restarted: 'Its successor took over', crashed: 'It crashed, or was killed',
};

function showLastExit(exit) {
  const box = $('before').querySelector('.body');
  if (!exit) return box.replaceChildren(make('p', 'None is known.'));
  const by = exit.by ? `, by ${exit.by}` : '';
  const parts = [make('p', `${CAUSES[exit.cause] ?? exit.cause}${by}: process ${exit.pid}${exit.at ? `, ${time(exit.at)}` : ''}.`)];
  if (exit.last_lines.length) {
    const lines = make('pre', exit.last_lines.join('\n'));
    lines.tabIndex = 0;
    lines.setAttribute('aria-label', 'Its last lines');
    parts.push(lines);
  }
  box.replaceChildren(...parts);
}

function row(cells, className) {
  const made = make('tr', null, className);
  made.append(...cells.map(cell => cell instanceof Node ? cell : make('td', cell)));
  return made;
}

export function showSettings(settings, pending) {
  const waits = new Set(pending);
  const box = $('settings');
  box.querySelector('.body').textContent = waits.size
    ? `Edited and not in force: ${pending.join(', ')}. A reload says which of them need a restart.`
    : 'What is in force is what is configured.';
  box.querySelector('tbody').replaceChildren(...settings.map(({ name, value, source }) => {
    const head = make('th', name);
    head.scope = 'row';
    return row([head, value ?? '', source], waits.has(name) ? 'waits' : source === 'default' || source === 'not set' ? 'usual' : '');
  }));
}

/** The audit trail, newest first: asked for again only from where it ends. */
export class Audit {
  entries = [];

  async refresh() {
    const since = this.entries[0]?.timestamp;
    const page = await get(withQuery('/admin/logs', { lines: 30, contains: 'audit', since }));
    const found = page.entries.filter(entry => entry.target === 'audit').reverse();
    const known = new Set(this.entries.map(entry => entry.cursor));
    this.entries = [...found.filter(entry => !known.has(entry.cursor)), ...this.entries].slice(0, 50);
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
    const none = make('td', 'None in the log.');
    none.colSpan = 6;
    $('audit').querySelector('tbody').replaceChildren(...(rows.length ? rows : [row([none])]));
  }
}
