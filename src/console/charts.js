// Figures of the daemon over the last minutes, out of its metrics, and their charts.

import { $, make } from './dom.js';

/** The time that a chart shows, at most and at least. */
const SPAN = 5 * 60_000;
const LEAST = 60_000;
/** Between two points of a line: a hidden page may do something once a minute. */
const LONGEST = 90_000;
const KEPT = 'fullon-points';
const SVG = 'http://www.w3.org/2000/svg';

/** Samples: `[name, labels, value]`. */
export function parse(text) {
  const samples = [];
  for (const line of text.split('\n')) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? '').matchAll(/(\w+)="((?:\\.|[^"\\])*)"/g)) labels[name] = value;
    samples.push([match[1], labels, Number(match[3])]);
  }
  return samples;
}

export function summary(samples) {
  const sum = { at: Date.now(), requests: 0, served: 0, errors: 0, buckets: new Map(), checks: '' };
  const plain = {
    process_start_time_seconds: 'started', process_resident_memory_bytes: 'memory', process_cpu_seconds_total: 'cpu',
    fullon_log_followers: 'followers', fullon_uptime_seconds: 'uptime',
  };
  for (const [name, labels, value] of samples) {
    if (plain[name]) sum[plain[name]] = value;
    else if (name === 'fullon_phase' && value === 1) sum.phase = labels.phase;
    else if (name === 'fullon_check_up') sum.checks += `${labels.check}=${value};`;
    else if (name === 'fullon_audit_events_total') sum.audit = (sum.audit ?? 0) + value;
    else if (name === 'fullon_http_requests_total' && labels.server === 'public') {
      sum.requests += value;
      if (labels.route.startsWith('/health')) continue;
      sum.served += value;
      if (labels.status === '5xx') sum.errors += value;
    } else if (name === 'fullon_http_request_duration_seconds_bucket' && labels.server === 'public') {
      const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
      sum.buckets.set(bound, (sum.buckets.get(bound) ?? 0) + value);
    }
  }
  return sum;
}

/** In how many seconds this share of the requests between two summaries was answered. */
function quantile(share, before, after) {
  const bounds = [...after.keys()].sort((a, b) => a - b);
  const counts = bounds.map(bound => after.get(bound) - (before.get(bound) ?? 0));
  const all = counts.at(-1);
  if (!all) return null;
  const rank = share * all;
  const at = counts.findIndex(count => count >= rank);
  if (bounds[at] === Infinity) return bounds[at - 1];
  const [low, below] = at ? [bounds[at - 1], counts[at - 1]] : [0, 0];
  return low + (bounds[at] - low) * (rank - below) / (counts[at] - below);
}

const number = (value, digits = 3) => value.toLocaleString('en', { maximumSignificantDigits: digits });
const perSecond = value => `${number(value)}/s`;
const percent = value => `${number(100 * value, 2)} %`;
const seconds = value => value < 0.001 ? `${number(value * 1e6)} µs` : value < 1 ? `${number(value * 1e3)} ms` : `${number(value)} s`;
export const bytes = value => value < 1024 ** 2 ? `${number(value / 1024)} KiB` : `${number(value / 1024 ** 2)} MiB`;

const CHARTS = [
  { title: 'Requests', note: 'of the public port', series: [['rate', '']], show: perSecond },
  { title: 'Errors', note: '5xx, without /health', series: [['errors', '']], show: percent, most: 0.01 },
  { title: 'Latency', note: 'of the public port', series: [['p50', 'p50'], ['p99', 'p99']], show: seconds },
  { title: 'Memory', note: 'resident', series: [['memory', '']], show: bytes },
  { title: 'CPU', note: 'of one core', series: [['cpu', '']], show: percent, most: 0.05 },
  { title: 'Followers', note: 'of the log', series: [['followers', '']], show: value => number(value), most: 2 },
];

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export class Charts {
  constructor(box) {
    this.points = [];
    try {
      const kept = JSON.parse(sessionStorage[KEPT] ?? '[]');
      this.points = kept.filter(point => point.at > Date.now() - SPAN);
    } catch { /* It is of no use. */ }
    addEventListener('pagehide', () => {
      try {
        sessionStorage[KEPT] = JSON.stringify(this.points);
      } catch { /* There is no room. */ }
    });
    this.charts = CHARTS.map(chart => {
      const value = make('output', { className: 'value', ariaLive: 'off' });
      const paths = chart.series.map(([name]) => shape('path', { class: name }));
      const marker = shape('line', { class: 'marker', y1: 0, y2: 100, x1: -9, x2: -9 });
      const svg = shape('svg', { viewBox: '0 0 300 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...paths, marker);
      const most = make('span', { className: 'most' });
      const caption = make('figcaption', {}, make('strong', {}, chart.title), ' ', make('span', { className: 'note' }, chart.note), value);
      box.append(make('figure', {}, caption, svg, most));
      const drawn = { ...chart, value, paths, svg, mostLabel: most, marker };
      svg.addEventListener('pointermove', event => this.point(drawn, event.offsetX / svg.clientWidth));
      svg.addEventListener('pointerleave', () => this.point(drawn, null));
      return drawn;
    });
    this.draw();
  }

  /** Adds what happened since the last summary. */
  add(now) {
    const last = this.last;
    this.last = now;
    const isSame = last && last.started === now.started && now.at > last.at && now.at - last.at < LONGEST;
    if (!isSame) {
      // A line that is drawn across would claim to know.
      this.points.push({ at: now.at });
    } else {
      const time = (now.at - last.at) / 1000;
      const served = now.served - last.served;
      this.points.push({
        at: now.at,
        rate: (now.requests - last.requests) / time,
        errors: served > 0 ? (now.errors - last.errors) / served : 0,
        p50: quantile(0.5, last.buckets, now.buckets),
        p99: quantile(0.99, last.buckets, now.buckets),
        memory: now.memory,
        cpu: (now.cpu - last.cpu) / time,
        followers: now.followers ?? 0,
      });
    }
    this.draw();
  }

  forget() {
    this.points = [];
  }

  draw() {
    const now = Date.now();
    while (this.points.length && this.points[0].at < now - SPAN) this.points.shift();
    const span = this.span = Math.max(LEAST, now - (this.points[0]?.at ?? now));
    const minutes = Math.ceil(span / 60_000);
    const title = minutes > 1 ? `The last ${minutes} minutes` : 'The last minute';
    if ($('charts-title').textContent !== title) $('charts-title').textContent = title;
    for (const chart of this.charts) {
      const values = this.points.flatMap(point => chart.series.map(([name]) => point[name]).filter(value => value != null));
      const most = Math.max(chart.most ?? 0, ...values) * 1.1 || 1;
      chart.mostLabel.textContent = values.length ? chart.show(most) : '';
      chart.series.forEach(([name], at) => {
        let path = '', isDrawn = false;
        for (const point of this.points) {
          const value = point[name];
          if (value == null) {
            isDrawn = false;
            continue;
          }
          const x = (300 * (1 - (now - point.at) / span)).toFixed(1);
          path += `${isDrawn ? 'L' : 'M'}${x} ${(98 - 96 * value / most).toFixed(1)}`;
          isDrawn = true;
        }
        chart.paths[at].setAttribute('d', path);
      });
      if (chart.pointed == null) this.tell(chart, this.points.at(-1));
    }
  }

  /** Tells of the moment at this share of the width, or of now. */
  point(chart, share) {
    chart.pointed = share;
    const at = share == null ? null : Date.now() - this.span * (1 - share);
    const nearest = at && this.points.reduce((best, point) => !best || Math.abs(point.at - at) < Math.abs(best.at - at) ? point : best, null);
    const x = share == null ? -9 : 300 * share;
    chart.marker.setAttribute('x1', x);
    chart.marker.setAttribute('x2', x);
    this.tell(chart, nearest || this.points.at(-1), nearest);
  }

  tell(chart, point, isPast) {
    const said = chart.series
      .map(([name, label]) => point?.[name] == null ? '' : `${label} ${chart.show(point[name])}`.trim())
      .filter(Boolean);
    const time = isPast ? `${new Date(point.at).toLocaleTimeString()}: ` : '';
    chart.value.textContent = said.length ? time + said.join(', ') : '–';
  }
}
