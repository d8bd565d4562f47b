// The log: followed live, and only what is visible is in the page.

import { Refused, get, isOwn, withQuery } from './api.js';
import { $, make } from './dom.js';

const FIRST = 500;
const OLDER = 1000;
/** Pages that are loaded at once when nothing in them is to be shown. */
const PAGES = 5;
/** Lines and characters that are kept: the newest, or for whoever reads back the oldest. */
const MOST = 20_000;
const MOST_TEXT = 16_000_000;
/** What a row shows of a line, in characters. */
const SHOWN = 1000;
const RECONNECT = 2000;
/** How long a hidden page keeps its connection: a browser has six for each host. */
const LINGER = 10_000;
/** How often new lines are shown, in milliseconds. */
const PACE = 100;

export class LogView {
  /** `onRefused` is called when the session does not count, `onEnd` with the reason when the daemon ends the stream. */
  constructor({ onRefused, onEnd }) {
    Object.assign(this, { onRefused, onEnd });
    this.box = $('lines');
    this.rows = [];
    this.rowHeight = 22;
    this.isOpen = false;
    this.clear();
    this.box.addEventListener('scroll', () => this.scrolled(), { passive: true });
    this.box.addEventListener('keydown', event => this.key(event));
    this.box.addEventListener('click', event => this.clicked(event));
    new ResizeObserver(() => this.render()).observe(this.box);
    $('follow').addEventListener('click', () => this.follows ? this.pause(true) : this.goLive());
    $('older').addEventListener('click', () => this.readBack());
    $('download').addEventListener('click', () => this.download());
    $('copy').addEventListener('click', () => this.copy());
    $('filter').addEventListener('submit', event => event.preventDefault());
    $('level').addEventListener('change', () => this.restart());
    $('own').addEventListener('change', () => this.restart());
    $('contains').addEventListener('input', () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.restart(), 300);
    });
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.leaving);
      if (document.hidden) this.leaving = setTimeout(() => this.disconnect(), LINGER);
      else if (!this.source && !this.isRefused) this.connect();
    });
  }

  clear() {
    this.lines = [];
    this.size = 0;
    /** Number of the first of the lines; older ones have smaller numbers. */
    this.base = 0;
    this.first = null;
    this.last = null;
    this.chosen = null;
    this.unseen = 0;
    this.isCut = false;
    this.hasOlder = true;
    this.isFilled = false;
    this.follows = true;
    this.isHeld = false;
    this.generation = (this.generation ?? 0) + 1;
  }

  get parameters() {
    return { level: $('level').value, contains: $('contains').value };
  }

  get wanted() {
    return `${$('own').checked} ${new URLSearchParams(this.parameters)}`;
  }

  /** Begins, or goes on where it was. */
  open() {
    this.isOpen = true;
    if (this.shown && this.shown !== this.wanted) this.restart();
    else this.connect();
  }

  /** Ends, and says why. The lines stay. */
  close(why) {
    this.isOpen = false;
    this.disconnect();
    this.say(why);
    this.render();
  }

  /** Begins at the live end, with what the filter says. */
  restart() {
    clearTimeout(this.typing);
    if (!this.isOpen) return;
    this.clear();
    this.choose(null);
    this.connect();
    this.render();
    this.tell();
  }

  disconnect() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  connect() {
    this.disconnect();
    if (!this.isOpen || document.hidden) return;
    this.isRefused = false;
    this.shown = this.wanted;
    const from = this.last ? { after: this.last } : { lines: FIRST };
    const source = new EventSource(withQuery('/admin/logs/stream', { ...this.parameters, ...from }));
    this.source = source;
    source.onopen = () => this.say('');
    source.addEventListener('log', event => this.receive(JSON.parse(event.data)));
    source.addEventListener('gap', () => {
      this.append({ kind: 'gap', line: 'Lines are missing here: they were removed before they could be read.' });
    });
    source.addEventListener('end', event => {
      const { reason } = JSON.parse(event.data);
      this.append({ kind: 'note', line: ENDS[reason] ?? reason });
      this.onEnd(reason);
    });
    source.onerror = () => {
      if (source !== this.source) return;
      this.say('Connecting again …');
      if (source.readyState === EventSource.CLOSED) this.refused();
    };
  }

  /** The browser neither says why nor tries again. */
  async refused() {
    this.disconnect();
    const { shown } = this;
    let error;
    try {
      await get(withQuery('/admin/logs', { ...this.parameters, lines: 1 }));
    } catch (thrown) {
      error = thrown;
    }
    if (!this.isOpen || this.source || shown !== this.shown) return;
    if (error?.status === 401) return this.onRefused();
    const isFinal = error instanceof Refused && error.status < 500 && error.status !== 429;
    if (error instanceof Refused) this.say(error.message);
    this.isRefused = isFinal;
    if (!isFinal) this.retry = setTimeout(() => this.connect(), RECONNECT);
  }

  receive(entry) {
    this.last = entry.cursor;
    this.first ??= entry.cursor;
    if ($('own').checked || !isOwn(entry)) this.append(entry);
    else if (!this.isFilled) this.schedule();
  }

  get isFull() {
    return this.lines.length >= MOST || this.size > MOST_TEXT;
  }

  append(entry) {
    if (this.isCut || (!this.follows && this.isFull)) {
      this.isCut = true;
      this.unseen++;
      return this.schedule();
    }
    this.lines.push(entry);
    this.size += entry.line.length;
    if (!this.follows) this.unseen++;
    else if (this.isFull) {
      const { length } = this.drop(0, Math.ceil(this.lines.length / 20));
      this.base += length;
      this.first = this.lines.find(line => line.cursor)?.cursor;
      this.hasOlder = true;
    }
    this.schedule();
  }

  /** Lines that are not kept. */
  drop(from, count) {
    const dropped = this.lines.splice(from, count);
    for (const { line } of dropped) this.size -= line.length;
    return dropped;
  }

  /** Renders soon: many lines at once. */
  schedule() {
    this.scheduled ??= setTimeout(() => requestAnimationFrame(() => {
      this.scheduled = null;
      this.render();
    }), PACE);
  }

  render() {
    const { box, lines, rowHeight, rows } = this;
    const height = lines.length * rowHeight;
    $('space').style.height = `${height}px`;
    if (this.follows) this.scrollTo(height);
    const begin = Math.max(0, Math.floor(box.scrollTop / rowHeight) - 5);
    const end = Math.min(lines.length, begin + Math.ceil(box.clientHeight / rowHeight) + 10);
    $('window').style.transform = `translateY(${begin * rowHeight}px)`;
    while (rows.length < end - begin) {
      const row = make('div', { role: 'option' });
      $('window').append(row);
      rows.push({ row });
    }
    while (rows.length > end - begin) rows.pop().row.remove();
    rows.forEach((shown, at) => {
      const number = this.base + begin + at;
      const entry = lines[begin + at];
      if (shown.entry !== entry) {
        shown.entry = entry;
        fill(shown.row, entry);
      }
      if (shown.number !== number) {
        shown.number = number;
        shown.row.id = `line-${number}`;
        shown.row.dataset.number = number;
      }
      Object.assign(shown.row, { ariaPosInSet: begin + at + 1, ariaSetSize: lines.length, ariaSelected: number === this.chosen });
    });
    const isShown = this.chosen != null && rows.some(row => row.number === this.chosen);
    if (isShown) box.setAttribute('aria-activedescendant', `line-${this.chosen}`);
    else box.removeAttribute('aria-activedescendant');
    const what = this.unseen ? `, ${this.unseen.toLocaleString('en')} new` : '';
    $('log-count').textContent = `${lines.length.toLocaleString('en')} lines${what}`;
    $('download').disabled = !lines.length;
    $('older').disabled = !this.hasOlder || !this.first || !this.isOpen;
    if (!this.isFilled && this.first && height < box.clientHeight) {
      this.isFilled = true;
      this.loadOlder();
    }
  }

  scrollTo(top) {
    this.box.scrollTop = top;
    this.expected = this.box.scrollTop;
  }

  scrolled() {
    const { box, rowHeight } = this;
    if (box.scrollTop === this.expected) return;
    this.expected = null;
    const left = box.scrollHeight - box.clientHeight - box.scrollTop;
    if (left > rowHeight) this.isHeld = false;
    if (this.follows && left > 2) this.pause(false);
    else if (!this.follows && left < 2 && !this.isCut && !this.isHeld) this.goLive();
    if (this.isAtTop) this.loadOlder();
    this.render();
  }

  get isAtTop() {
    return !this.follows && this.box.scrollTop < 20 * this.rowHeight;
  }

  /** When `isHeld`, reaching the end does not end it. */
  pause(isHeld) {
    this.follows = false;
    this.isHeld = isHeld;
    this.tell();
  }

  goLive() {
    if (this.isCut) {
      if (this.source?.readyState === EventSource.OPEN) this.restart();
      return;
    }
    this.choose(null);
    this.follows = true;
    this.isHeld = false;
    this.unseen = 0;
    this.tell();
    this.render();
  }

  readBack() {
    if (this.follows) this.pause(true);
    this.scrollTo(0);
    this.loadOlder();
    this.render();
  }

  say(trouble) {
    this.trouble = trouble;
    this.tell();
  }

  tell() {
    const text = this.follows ? 'Pause' : 'Jump to live';
    if ($('follow').textContent !== text) $('follow').textContent = text;
    const state = this.trouble || (this.follows ? 'Live' : 'Paused');
    if ($('log-state').textContent !== state) $('log-state').textContent = state;
  }

  async loadOlder() {
    const { generation } = this;
    if (this.loading === generation || !this.hasOlder || !this.first || !this.isOpen) return;
    this.loading = generation;
    if (this.isOlderMissed) this.say('');
    this.isOlderMissed = false;
    try {
      for (let pages = 0; pages < PAGES; pages++) {
        const path = withQuery('/admin/logs', { ...this.parameters, lines: OLDER, before: this.first });
        const page = await get(path);
        if (generation !== this.generation) return;
        const { length } = this.prepend(page);
        if (!this.hasOlder || (length && !this.isAtTop)) break;
      }
    } catch (error) {
      if (generation !== this.generation) return;
      if (error.status === 404) this.prepend({ entries: [], first_cursor: null }, 'What was before was removed.');
      else {
        this.isOlderMissed = true;
        this.say(`Older lines could not be loaded: ${error.message}`);
      }
    } finally {
      if (this.loading === generation) this.loading = null;
    }
  }

  /** Adds a page of older lines; what is read stays where it is. */
  prepend(page, begins = 'The log begins here.') {
    const { scrollTop } = this.box;
    this.first = page.first_cursor;
    this.hasOlder = page.first_cursor != null;
    const older = page.entries.filter(entry => $('own').checked || !isOwn(entry));
    if (!this.hasOlder) older.unshift({ kind: 'note', line: begins });
    this.lines.unshift(...older);
    for (const { line } of older) this.size += line.length;
    this.base -= older.length;
    while (!this.follows && this.isFull && this.lines.length > older.length) {
      this.isCut = true;
      this.unseen += this.drop(-Math.ceil((this.lines.length - older.length) / 20), Infinity).length;
    }
    $('space').style.height = `${this.lines.length * this.rowHeight}px`;
    this.scrollTo(scrollTop + older.length * this.rowHeight);
    this.render();
    return older;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.rowHeight) - 1);
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in steps) {
      const bottom = this.base + Math.floor((this.box.scrollTop + this.box.clientHeight) / this.rowHeight) - 1;
      this.choose(this.chosen == null ? bottom : this.chosen + steps[event.key]);
      if (this.chosen < this.base + 20) this.loadOlder();
    } else if (event.key === 'Home') {
      this.choose(this.base);
      this.loadOlder();
    } else if (event.key === 'End') this.goLive();
    else if (event.key === 'c') this.copy();
    else return;
    event.preventDefault();
  }

  clicked(event) {
    const row = event.target.closest('[data-number]');
    if (row) this.choose(Number(row.dataset.number));
  }

  /** Shows all of a line below, and pauses: what is chosen must not run away. */
  choose(number) {
    const last = this.base + this.lines.length - 1;
    this.chosen = number == null || last < this.base ? null : Math.min(Math.max(number, this.base), last);
    const entry = this.lines[this.chosen - this.base];
    $('line').hidden = this.chosen == null;
    $('copied').textContent = '';
    if (this.chosen == null) return;
    if (this.follows) this.pause(true);
    $('line-text').textContent = entry.line;
    const top = (this.chosen - this.base) * this.rowHeight;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.scrollTo(top);
    else if (top + this.rowHeight > scrollTop + clientHeight) this.scrollTo(top + this.rowHeight - clientHeight);
    this.render();
  }

  async copy() {
    if (this.chosen == null) return;
    try {
      await navigator.clipboard.writeText($('line-text').textContent);
      $('copied').textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren($('line-text'));
      $('copied').textContent = 'The browser does not allow it: the line is selected, copy it yourself';
    }
  }

  download() {
    const text = this.lines.map(({ kind, line }) => `${kind ? '# ' : ''}${line}\n`);
    const href = URL.createObjectURL(new Blob(text, { type: 'text/plain' }));
    make('a', { href, download: `fullon-${new Date().toISOString().replaceAll(':', '')}.log` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  }
}

const ENDS = {
  stopping: 'The daemon stops.',
  restarting: 'The daemon is replaced: its successor goes on.',
  signed_out: 'The session has ended.',
};

function fill(row, entry) {
  row.className = entry.kind ?? entry.level ?? '';
  const parts = entry.timestamp && entry.message != null
    ? [['time', entry.timestamp.slice(11, 23)], ['level', entry.level ?? ''], ['text', `${entry.target ?? ''}: ${entry.message.slice(0, SHOWN)}`]]
    : [['text', entry.line.slice(0, SHOWN)]];
  row.replaceChildren(...parts.map(([className, textContent]) => make('span', { className, textContent })));
}
