// Charts of the last minutes.

import { make, setText } from './dom.js';

/** Time span of a chart, in milliseconds. */
const MAX_SPAN = 5 * 60_000;
const MIN_SPAN = 60_000;
/** Longest gap within a line: a hidden page may run only once a minute. */
const MAX_GAP = 90_000;
const STORAGE_KEY = 'fullon-points';
const SVG = 'http://www.w3.org/2000/svg';

/** What the charts show of a status. */
export function summarize(status) {
  const { total, without_health: served, errors, durations } = status.public_requests;
  return {
    at: Date.now(), process: status.instance, requests: total, served, errors,
    buckets: new Map(durations.map(({ up_to_seconds: bound, count }) => [bound ?? Infinity, count])),
    memory: status.process.rss_bytes, cpu: status.process.cpu_seconds, followers: status.log_followers,
  };
}

/** Interpolated quantile of the response times between two summaries, in seconds. */
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
  { title: 'Errors', note: '5xx, without /health', series: [['errors', '']], show: percent, minTop: 0.01 },
  { title: 'Latency', note: 'of the public port', series: [['p50', 'p50'], ['p99', 'p99']], show: seconds },
  { title: 'Memory', note: 'resident', series: [['memory', '']], show: bytes },
  { title: 'CPU', note: 'of one core', series: [['cpu', '']], show: percent, minTop: 0.05 },
  { title: 'Followers', note: 'of the log', series: [['followers', '']], show: value => number(value), minTop: 2 },
];

function svgElement(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export class Charts {
  constructor(box) {
    this.points = [];
    try {
      const points = JSON.parse(sessionStorage[STORAGE_KEY] ?? '[]');
      const isNumber = value => value === null || Number.isFinite(value);
      const isRecent = ({ at }) => at > Date.now() - MAX_SPAN && at <= Date.now();
      this.points = points.filter(point => isRecent(point) && Object.values(point).every(isNumber));
    } catch { /* Start empty. */ }
    addEventListener('pagehide', () => {
      try {
        sessionStorage[STORAGE_KEY] = JSON.stringify(this.points);
      } catch { /* Full or unavailable. */ }
    });
    this.charts = CHARTS.map(chart => {
      const value = make('output', { className: 'value', ariaLive: 'off' });
      const paths = chart.series.map(([name]) => svgElement('path', { class: name }));
      const marker = svgElement('line', { class: 'marker', y1: 0, y2: 100, x1: -9, x2: -9 });
      const svg = svgElement('svg', { viewBox: '0 0 300 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...paths, marker);
      const topLabel = make('span', { className: 'most' });
      const caption = make('figcaption', {}, make('strong', {}, chart.title), ' ', make('span', { className: 'note' }, chart.note), value);
      box.append(make('figure', {}, caption, svg, topLabel));
      const view = { ...chart, value, paths, topLabel, marker };
      svg.onpointermove = event => this.hover(view, event.offsetX / svg.clientWidth);
      svg.onpointerleave = () => this.hover(view, null);
      return view;
    });
    this.draw();
  }

  /** Adds the difference to the last summary. */
  add(now) {
    const last = this.last;
    this.last = now;
    const isContinuous = last && last.process === now.process && now.at > last.at && now.at - last.at < MAX_GAP;
    if (!isContinuous) {
      // A point without values interrupts the lines.
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
        followers: now.followers,
      });
    }
    this.draw();
  }

  clear() {
    this.points = [];
  }

  draw() {
    const now = Date.now();
    while (this.points.length && this.points[0].at < now - MAX_SPAN) this.points.shift();
    const span = this.span = Math.max(MIN_SPAN, now - (this.points[0]?.at ?? now));
    const minutes = Math.ceil(span / 60_000);
    const title = minutes > 1 ? `The last ${minutes} minutes` : 'The last minute';
    setText('charts-title', title);
    for (const chart of this.charts) {
      const values = this.points.flatMap(point => chart.series.map(([name]) => point[name]).filter(value => value != null));
      const top = Math.max(chart.minTop ?? 0, ...values) * 1.1 || 1;
      chart.topLabel.textContent = values.length ? chart.show(top) : '';
      chart.series.forEach(([name], at) => {
        let path = '', command = 'M';
        for (const point of this.points) {
          const value = point[name];
          const x = (300 * (1 - (now - point.at) / span)).toFixed(1);
          if (value != null) path += `${command}${x} ${(98 - 96 * value / top).toFixed(1)}`;
          command = value == null ? 'M' : 'L';
        }
        chart.paths[at].setAttribute('d', path);
      });
      if (chart.hovered == null) this.showValue(chart, this.points.at(-1));
    }
  }

  /** Shows the values at a share of the width, or the latest. */
  hover(chart, share) {
    chart.hovered = share;
    const at = share == null ? null : Date.now() - this.span * (1 - share);
    const nearest = at && this.points.reduce((best, point) => !best || Math.abs(point.at - at) < Math.abs(best.at - at) ? point : best, null);
    const x = share == null ? -9 : 300 * share;
    chart.marker.setAttribute('x1', x);
    chart.marker.setAttribute('x2', x);
    this.showValue(chart, nearest || this.points.at(-1), nearest);
  }

  showValue(chart, point, isPast) {
    const texts = chart.series
      .map(([name, label]) => point?.[name] == null ? '' : `${label} ${chart.show(point[name])}`.trim())
      .filter(Boolean);
    const time = isPast ? `${new Date(point.at).toLocaleTimeString()}: ` : '';
    chart.value.textContent = texts.length ? time + texts.join(', ') : '–';
  }
}
