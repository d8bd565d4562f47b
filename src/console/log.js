// The log: followed live, and only what is visible is in the page.

import { get, isOwn, withQuery } from './api.js';

const FIRST = 500;
const OLDER = 1000;
/** Lines that are kept. At the live end the oldest go; for whoever reads older ones, new ones are only counted. */
const MOST = 20_000;
const SLACK = 1000;
const RECONNECT = 2000;
/** New lines are shown this often, in milliseconds. */
const PACE = 100;

const $ = id => document.getElementById(id);

export class LogView {
  /** `onRefused` is called when the stream is refused, `onEnd` with the reason when the daemon ends it. */
  constructor({ onRefused, onEnd }) {
    Object.assign(this, { onRefused, onEnd });
    this.box = $('lines');
    this.rows = [];
    this.clear();
    this.rowHeight = 22;
    this.box.addEventListener('scroll', () => this.scrolled(), { passive: true });
    this.box.addEventListener('keydown', event => this.key(event));
    this.box.addEventListener('click', event => this.clicked(event));
    new ResizeObserver(() => this.render()).observe(this.box);
    $('follow').addEventListener('click', () => this.follows ? this.pause() : this.goLive());
    $('download').addEventListener('click', () => this.download());
    $('copy').addEventListener('click', () => this.copy());
    $('filter').addEventListener('submit', event => event.preventDefault());
    $('level').addEventListener('change', () => this.restart());
    $('own').addEventListener('change', () => this.restart());
    $('contains').addEventListener('input', () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.restart(), 300);
    });
  }

  clear() {
    this.lines = [];
    /** Number of the first of the lines; older ones have smaller numbers. */
    this.base = 0;
    this.first = null;
    this.last = null;
    this.chosen = null;
    this.unseen = 0;
    this.isCut = false;
    this.hasOlder = true;
    this.follows = true;
    this.generation = (this.generation ?? 0) + 1;
  }

  get parameters() {
    return { level: $('level').value, contains: $('contains').value };
  }

  /** Begins at the live end, with what the filter says. */
  restart() {
    clearTimeout(this.typing);
    this.stop();
    this.clear();
    this.choose(null);
    this.connect();
    this.render();
    this.tell();
  }

  stop() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  connect() {
    this.stop();
    const from = this.last ? { after: this.last } : { lines: FIRST };
    const source = new EventSource(withQuery('/admin/logs/stream', { ...this.parameters, ...from }));
    this.source = source;
    source.onopen = () => this.say('');
    source.addEventListener('log', event => this.receive(JSON.parse(event.data)));
    source.addEventListener('gap', () => {
      this.append({ gap: true, line: 'Lines are missing here: they were removed before they could be read.' });
    });
    source.addEventListener('end', event => {
      const { reason } = JSON.parse(event.data);
      this.append({ note: true, line: ENDS[reason] ?? reason });
      if (reason === 'signed_out') this.stop();
      this.onEnd(reason);
    });
    source.onerror = () => {
      this.say('Connecting again …');
      if (source.readyState !== EventSource.CLOSED) return;
      // Refused: the browser does not try again by itself.
      this.stop();
      this.onRefused();
      this.retry = setTimeout(() => this.connect(), RECONNECT);
    };
  }

  receive(entry) {
    this.last = entry.cursor;
    this.first ??= entry.cursor;
    if (!$('own').checked && isOwn(entry.line)) return;
    this.append(entry);
  }

  append(entry) {
    if (this.isCut || (!this.follows && this.lines.length >= MOST)) {
      this.isCut = true;
      this.unseen++;
      return this.schedule();
    }
    this.lines.push(entry);
    if (!this.follows) this.unseen++;
    else if (this.lines.length > MOST + SLACK) {
      this.lines.splice(0, SLACK);
      this.base += SLACK;
      this.first = this.lines.find(line => line.cursor)?.cursor;
      this.hasOlder = true;
    }
    this.schedule();
  }

  /** Renders soon: many lines at once. */
  schedule() {
    this.scheduled ??= setTimeout(() => {
      this.scheduled = null;
      requestAnimationFrame(() => this.render());
    }, PACE);
  }

  render() {
    const { box, lines, rowHeight, rows } = this;
    $('space').style.height = `${lines.length * rowHeight}px`;
    if (this.follows) this.scrollTo(lines.length * rowHeight);
    const begin = Math.max(0, Math.floor(box.scrollTop / rowHeight) - 5);
    const end = Math.min(lines.length, begin + Math.ceil(box.clientHeight / rowHeight) + 10);
    $('window').style.transform = `translateY(${begin * rowHeight}px)`;
    while (rows.length < end - begin) {
      const row = document.createElement('div');
      row.setAttribute('role', 'option');
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
      shown.row.setAttribute('aria-posinset', begin + at + 1);
      shown.row.setAttribute('aria-setsize', lines.length);
      shown.row.setAttribute('aria-selected', number === this.chosen);
    });
    const isShown = this.chosen != null && rows.some(row => row.number === this.chosen);
    if (isShown) box.setAttribute('aria-activedescendant', `line-${this.chosen}`);
    else box.removeAttribute('aria-activedescendant');
    const what = this.unseen ? `, ${this.unseen.toLocaleString('en')} new` : '';
    $('log-count').textContent = `${lines.length.toLocaleString('en')} lines${what}`;
    $('download').disabled = !lines.length;
  }

  scrollTo(top) {
    this.box.scrollTop = top;
    this.expected = this.box.scrollTop;
  }

  scrolled() {
    const { box } = this;
    if (box.scrollTop === this.expected) return;
    this.expected = null;
    const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - this.rowHeight;
    if (!isAtEnd && this.follows) this.pause();
    else if (isAtEnd && !this.follows && !this.isCut && !this.isHeld) this.goLive();
    if (box.scrollTop < 20 * this.rowHeight && !this.follows) this.loadOlder();
    this.render();
  }

  pause() {
    this.follows = false;
    // By the button and not by scrolling: then being at the end does not end it.
    this.isHeld = this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - this.rowHeight;
    this.tell();
  }

  goLive() {
    if (this.isCut) return this.restart();
    this.follows = true;
    this.isHeld = false;
    this.unseen = 0;
    this.tell();
    this.render();
  }

  tell() {
    $('follow').textContent = this.follows ? 'Pause' : 'Jump to live';
    this.say(this.follows ? '' : 'Paused');
  }

  say(text) {
    $('log-state').textContent = text || (this.follows ? 'Live' : 'Paused');
  }

  async loadOlder() {
    if (this.isLoading || !this.hasOlder || !this.first || this.lines.length >= MOST) return;
    this.isLoading = true;
    const { generation } = this;
    try {
      const path = withQuery('/admin/logs', { ...this.parameters, lines: OLDER, before: this.first });
      const page = await get(path);
      if (generation !== this.generation) return;
      this.first = page.first_cursor;
      this.hasOlder = page.first_cursor != null;
      const older = page.entries.filter(entry => $('own').checked || !isOwn(entry.line));
      if (!this.hasOlder) older.unshift({ note: true, line: 'The log begins here.' });
      this.lines.unshift(...older);
      this.base -= older.length;
      // What is read stays where it is.
      const { scrollTop } = this.box;
      $('space').style.height = `${this.lines.length * this.rowHeight}px`;
      this.scrollTo(scrollTop + older.length * this.rowHeight);
      this.render();
      this.isLoading = false;
      if (this.box.scrollTop < 20 * this.rowHeight) this.loadOlder();
    } catch (error) {
      this.say(`Older lines could not be loaded: ${error.message}`);
    } finally {
      this.isLoading = false;
    }
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.rowHeight) - 1);
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in steps) {
      const bottom = this.base + Math.floor((this.box.scrollTop + this.box.clientHeight) / this.rowHeight) - 1;
      this.choose(this.chosen == null ? bottom : this.chosen + steps[event.key]);
      if (this.chosen < this.base + 20) this.loadOlder();
    } else if (event.key === 'Home') this.choose(this.base);
    else if (event.key === 'End') {
      this.choose(null);
      this.goLive();
    } else if (event.key === 'c') this.copy();
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
    if (this.follows) {
      this.pause();
      this.isHeld = true;
    }
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
    const text = this.lines.map(entry => `${entry.gap || entry.note ? '# ' : ''}${entry.line}\n`);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(text, { type: 'text/plain' }));
    link.download = `fullon-${new Date().toISOString().replaceAll(':', '')}.log`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

const ENDS = {
  stopping: 'The daemon stops.',
  restarting: 'The daemon is replaced: its successor goes on.',
  signed_out: 'The session has ended.',
};

function fill(row, entry) {
  row.className = entry.gap ? 'gap' : entry.note ? 'note' : entry.level ?? '';
  const parts = entry.timestamp && entry.message != null
    ? [['time', entry.timestamp.slice(11, 23)], ['kind', entry.level ?? ''], ['text', `${entry.target ?? ''}: ${entry.message}`]]
    : [['text', entry.line]];
  row.replaceChildren(...parts.map(([name, text]) => {
    const part = document.createElement('span');
    part.className = name;
    part.textContent = text;
    return part;
  }));
}
