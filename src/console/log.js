// The live log. Only visible lines are elements of the page.

import { ProblemError, address, checkStream, get, withQuery } from './api.js';
import { $, make, setText } from './dom.js';
import { ticket } from './session.js';

const INITIAL_LINES = 500;
const PAGE_LINES = 1000;
/** Pages loaded in a row while all their lines are hidden. */
const MAX_PAGES = 5;
/** Limits of what is kept: the newest, or the oldest while scrolled back. */
const MAX_LINES = 20_000;
const MAX_CHARACTERS = 16_000_000;
/** Characters of a line that a row shows. */
const ROW_CHARACTERS = 1000;
const RECONNECT_DELAY = 2000;
/** A hidden page disconnects after this, because a browser has six connections per host. */
const HIDDEN_DELAY = 10_000;
const RENDER_INTERVAL = 100;

export class LogView {
  /** Calls `onEnd` with a reason when the stream ends. */
  constructor({ onEnd }) {
    this.onEnd = onEnd;
    this.box = $('lines');
    this.rows = [];
    this.rowHeight = 22;
    this.isOpen = false;
    /** The sessions that this page has had. */
    this.sessionIds = new Set();
    this.clear();
    this.box.addEventListener('scroll', () => this.onScroll(), { passive: true });
    this.box.onkeydown = event => this.onKey(event);
    this.box.onclick = event => this.onClick(event);
    new ResizeObserver(() => this.render()).observe(this.box);
    $('follow').onclick = () => this.isLive ? this.pause(true) : this.goLive();
    $('older').onclick = () => this.readBack();
    $('download').onclick = () => this.download();
    $('copy').onclick = () => this.copy();
    $('filter').onsubmit = event => event.preventDefault();
    $('level').onchange = $('own').onchange = () => this.restart();
    $('contains').oninput = () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.restart(), 300);
    };
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.leaving);
      if (document.hidden) this.leaving = setTimeout(() => this.disconnect(), HIDDEN_DELAY);
      else if (!this.source && !this.isRefused) this.connect();
    });
  }

  clear() {
    Object.assign(this, {
      lines: [], size: 0,
      /** Number of the first line. Older lines get smaller numbers. */
      base: 0,
      first: null, last: null, selected: null, unseen: 0, generation: (this.generation ?? 0) + 1,
      isTruncated: false, hasOlder: true, hasFilledView: false, isLive: true, isPausedByUser: false,
    });
  }

  get parameters() {
    return { level: $('level').value, contains: $('contains').value };
  }

  get query() {
    return `${$('own').checked} ${new URLSearchParams(this.parameters)}`;
  }

  open(sessionId) {
    this.isOpen = true;
    this.sessionIds.add(sessionId);
    if (this.activeQuery && this.activeQuery !== this.query) this.restart();
    else this.connect();
  }

  /** Stops. The lines stay. */
  close(why) {
    this.isOpen = false;
    this.disconnect();
    this.setTrouble(why);
    this.render();
  }

  restart() {
    clearTimeout(this.typing);
    if (!this.isOpen) return;
    this.clear();
    this.select(null);
    this.connect();
    this.render();
    this.showState();
  }

  disconnect() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  streamAddress(from) {
    return address(withQuery('admin/logs/stream', { ...this.parameters, ...from, ticket: ticket() }));
  }

  connect() {
    this.disconnect();
    if (!this.isOpen || document.hidden) return;
    this.isRefused = false;
    this.activeQuery = this.query;
    const from = this.last ? { after: this.last } : { lines: INITIAL_LINES };
    const source = new EventSource(this.streamAddress(from));
    this.source = source;
    source.onopen = () => this.setTrouble('');
    source.addEventListener('log', event => this.receive(JSON.parse(event.data)));
    source.addEventListener('gap', () => {
      this.append({ kind: 'gap', line: 'Lines are missing here: they were rotated away.' });
    });
    source.addEventListener('end', event => {
      const { reason } = JSON.parse(event.data);
      this.append({ kind: 'note', line: END_TEXTS[reason] ?? reason });
      this.onEnd(reason);
    });
    source.onerror = () => {
      if (source !== this.source) return;
      this.setTrouble('Reconnecting …');
      if (source.readyState === EventSource.CLOSED) this.onClosed();
    };
  }

  /** The browser neither reports the reason nor reconnects. */
  async onClosed() {
    this.disconnect();
    const { activeQuery } = this;
    let error;
    try {
      await checkStream(this.streamAddress({ lines: 0 }));
    } catch (thrown) {
      error = thrown;
    }
    if (!this.isOpen || this.source || activeQuery !== this.activeQuery) return;
    if (error?.status === 401) return this.onEnd('refused');
    if (error instanceof ProblemError) this.setTrouble(error.message);
    this.isRefused = error instanceof ProblemError && error.status < 500 && error.status !== 429;
    if (!this.isRefused) this.retry = setTimeout(() => this.connect(), RECONNECT_DELAY);
  }

  receive(entry) {
    this.last = entry.cursor;
    this.first ??= entry.cursor;
    if (this.isWanted(entry)) this.append(entry);
    else if (!this.hasFilledView) this.schedule();
  }

  /**
   * Hides requests of the own session. The daemon names it: a client cannot hide its requests. Shows
   * who reads the log stream, because another program on the port may have got the values for that.
   */
  isWanted({ target, line }) {
    if ($('own').checked || target !== 'access') return true;
    if (/(?: path=|"path":)"\/admin\/logs\/stream"/.test(line)) return true;
    // In a value, the quotation marks would be escaped, and there is no space in a path.
    const id = /(?: session_id=|"session_id":)"([0-9a-f-]{36})"/.exec(line)?.[1];
    return !this.sessionIds.has(id);
  }

  get isFull() {
    return this.lines.length >= MAX_LINES || this.size > MAX_CHARACTERS;
  }

  append(entry) {
    if (this.isTruncated || (!this.isLive && this.isFull)) {
      this.isTruncated = true;
      this.unseen++;
      return this.schedule();
    }
    this.lines.push(entry);
    this.size += entry.line.length;
    if (!this.isLive) this.unseen++;
    else if (this.isFull) {
      const { length } = this.drop(0, Math.ceil(this.lines.length / 20));
      this.base += length;
      this.first = this.lines.find(line => line.cursor)?.cursor;
      this.hasOlder = true;
    }
    this.schedule();
  }

  drop(from, count) {
    const removed = this.lines.splice(from, count);
    for (const { line } of removed) this.size -= line.length;
    return removed;
  }

  /** Renders many lines at once. */
  schedule() {
    this.scheduled ??= setTimeout(() => requestAnimationFrame(() => {
      this.scheduled = null;
      this.render();
    }), RENDER_INTERVAL);
  }

  render() {
    const { box, lines, rowHeight, rows } = this;
    const height = lines.length * rowHeight;
    $('space').style.height = `${height}px`;
    if (this.isLive) this.scrollTo(height);
    const begin = Math.max(0, Math.floor(box.scrollTop / rowHeight) - 5);
    const end = Math.min(lines.length, begin + Math.ceil(box.clientHeight / rowHeight) + 10);
    $('window').style.transform = `translateY(${begin * rowHeight}px)`;
    while (rows.length < end - begin) {
      const row = make('div', { role: 'option' });
      $('window').append(row);
      rows.push({ row });
    }
    while (rows.length > end - begin) rows.pop().row.remove();
    rows.forEach((view, at) => {
      const number = this.base + begin + at;
      const entry = lines[begin + at];
      if (view.entry !== entry) {
        view.entry = entry;
        fillRow(view.row, entry);
      }
      if (view.number !== number) {
        view.number = number;
        view.row.id = `line-${number}`;
        view.row.dataset.number = number;
      }
      Object.assign(view.row, { ariaPosInSet: begin + at + 1, ariaSetSize: lines.length, ariaSelected: number === this.selected });
    });
    if (rows.some(row => row.number === this.selected)) box.setAttribute('aria-activedescendant', `line-${this.selected}`);
    else box.removeAttribute('aria-activedescendant');
    const what = this.unseen ? `, ${this.unseen.toLocaleString('en')} new` : '';
    $('log-count').textContent = `${lines.length.toLocaleString('en')} lines${what}`;
    $('download').disabled = !lines.length;
    $('older').disabled = !this.hasOlder || !this.first || !this.isOpen;
    if (!this.hasFilledView && this.first && height < box.clientHeight) {
      this.hasFilledView = true;
      this.loadOlder();
    }
  }

  scrollTo(top) {
    this.box.scrollTop = top;
    this.expectedTop = this.box.scrollTop;
  }

  onScroll() {
    const { box, rowHeight } = this;
    if (box.scrollTop === this.expectedTop) return;
    this.expectedTop = null;
    const left = box.scrollHeight - box.clientHeight - box.scrollTop;
    if (left > rowHeight) this.isPausedByUser = false;
    if (this.isLive && left > 2) this.pause(false);
    else if (!this.isLive && left < 2 && !this.isTruncated && !this.isPausedByUser) this.goLive();
    if (this.isAtTop) this.loadOlder();
    this.render();
  }

  get isAtTop() {
    return !this.isLive && this.box.scrollTop < 20 * this.rowHeight;
  }

  /** A pause by the user does not end at the last line. */
  pause(isByUser) {
    this.isLive = false;
    this.isPausedByUser = isByUser;
    this.showState();
  }

  goLive() {
    if (this.isTruncated) {
      if (this.source?.readyState === EventSource.OPEN) this.restart();
      return;
    }
    this.select(null);
    Object.assign(this, { isLive: true, isPausedByUser: false, unseen: 0 });
    this.showState();
    this.render();
  }

  readBack() {
    if (this.isLive) this.pause(true);
    this.scrollTo(0);
    this.loadOlder();
    this.render();
  }

  setTrouble(trouble) {
    this.trouble = trouble;
    this.showState();
  }

  showState() {
    setText('follow', this.isLive ? 'Pause' : 'Jump to live');
    setText('log-state', this.trouble || (this.isLive ? 'Live' : 'Paused'));
  }

  async loadOlder() {
    const { generation } = this;
    if (this.loading === generation || !this.hasOlder || !this.first || !this.isOpen) return;
    this.loading = generation;
    if (this.hasOlderFailed) this.setTrouble('');
    this.hasOlderFailed = false;
    try {
      for (let pages = 0; pages < MAX_PAGES; pages++) {
        const page = await get(withQuery('admin/logs', { ...this.parameters, lines: PAGE_LINES, before: this.first }));
        if (generation !== this.generation) return;
        const { length } = this.prepend(page);
        if (!this.hasOlder || (length && !this.isAtTop)) break;
      }
    } catch (error) {
      if (generation !== this.generation) return;
      if (error.status === 404) this.prepend({ entries: [], first_cursor: null, incomplete_files: [] }, 'Older lines were rotated away.');
      else {
        this.hasOlderFailed = true;
        this.setTrouble(`Older lines could not be loaded: ${error.message}`);
      }
    } finally {
      if (this.loading === generation) this.loading = null;
    }
  }

  /** Adds older lines without moving the visible ones. */
  prepend(page, begins = 'The log begins here.') {
    const { scrollTop } = this.box;
    this.first = page.first_cursor;
    this.hasOlder = this.first != null;
    const older = page.entries.filter(entry => this.isWanted(entry));
    for (const { file, reason } of page.incomplete_files) older.unshift({ kind: 'note', line: `${file}: ${reason}` });
    if (!this.hasOlder) older.unshift({ kind: 'note', line: begins });
    this.lines.unshift(...older);
    for (const { line } of older) this.size += line.length;
    this.base -= older.length;
    while (!this.isLive && this.isFull && this.lines.length > older.length) {
      this.isTruncated = true;
      this.unseen += this.drop(-Math.ceil((this.lines.length - older.length) / 20), Infinity).length;
    }
    $('space').style.height = `${this.lines.length * this.rowHeight}px`;
    this.scrollTo(scrollTop + older.length * this.rowHeight);
    this.render();
    return older;
  }

  onKey(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.rowHeight) - 1);
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in steps) {
      const bottom = this.base + Math.floor((this.box.scrollTop + this.box.clientHeight) / this.rowHeight) - 1;
      this.select(this.selected == null ? bottom : this.selected + steps[event.key]);
      if (this.selected < this.base + 20) this.loadOlder();
    } else if (event.key === 'Home') {
      this.select(this.base);
      this.loadOlder();
    } else if (event.key === 'End') this.goLive();
    else if (event.key === 'c') this.copy();
    else return;
    event.preventDefault();
  }

  onClick(event) {
    const row = event.target.closest('[data-number]');
    if (row) this.select(Number(row.dataset.number));
  }

  /** Shows the whole line below, and pauses. */
  select(number) {
    const last = this.base + this.lines.length - 1;
    this.selected = number == null || last < this.base ? null : Math.min(Math.max(number, this.base), last);
    $('line').hidden = this.selected == null;
    $('copied').textContent = '';
    if (this.selected == null) return;
    if (this.isLive) this.pause(true);
    $('line-text').textContent = this.lines[this.selected - this.base].line;
    const top = (this.selected - this.base) * this.rowHeight;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.scrollTo(top);
    else if (top + this.rowHeight > scrollTop + clientHeight) this.scrollTo(top + this.rowHeight - clientHeight);
    this.render();
  }

  async copy() {
    if (this.selected == null) return;
    try {
      await navigator.clipboard.writeText($('line-text').textContent);
      $('copied').textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren($('line-text'));
      $('copied').textContent = 'The browser blocks copying. The line is selected: press Ctrl+C.';
    }
  }

  download() {
    const text = this.lines.map(({ kind, line }) => `${kind ? '# ' : ''}${line}\n`);
    const href = URL.createObjectURL(new Blob(text, { type: 'text/plain' }));
    make('a', { href, download: `fullon-${new Date().toISOString().replaceAll(':', '')}.log` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  }
}

const END_TEXTS = {
  stopping: 'The daemon is stopping.',
  restarting: 'The daemon restarts.',
  signed_out: 'The session has ended.',
};

function fillRow(row, entry) {
  row.className = entry.kind ?? entry.level ?? '';
  const parts = entry.timestamp && entry.message != null
    ? [['time', entry.timestamp.slice(11, 23)], ['level', entry.level ?? ''], ['text', `${entry.target ?? ''}: ${entry.message.slice(0, ROW_CHARACTERS)}`]]
    : [['text', entry.line.slice(0, ROW_CHARACTERS)]];
  row.replaceChildren(...parts.map(([className, textContent]) => make('span', { className, textContent })));
}
