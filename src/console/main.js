// The console: signs in, polls the daemon, and reports when it is unreachable.

import { UnreachableError, get, request } from './api.js';
import { Charts, summarize } from './charts.js';
import { settle } from './clicks.js';
import * as dialogs from './dialogs.js';
import { $, setText } from './dom.js';
import { LogView } from './log.js';
import { Audit, Sessions, duration, headline, showSettings, showStatus } from './panels.js';
import { PAGE } from './page.js';
import * as sessions from './session.js';

/** Intervals of the status, on a hidden page too, and of the other data, in milliseconds. */
const POLL = 2000;
const POLL_HIDDEN = 10_000;
const REFRESH = 30_000;

$('no-script').remove();
// From the page that responds to links of other sites.
if (location.href.split('#')[0].endsWith('?')) history.replaceState(null, '', PAGE + location.hash);

const audit = new Audit();
const sessionList = new Sessions();
const charts = new Charts($('figures'));
const log = new LogView({ onEnd });

/** From the address, until it is exchanged for a session. */
let token = null;
let session = null;
/** The last status, what the other data belongs to, and when that was requested. */
let status = null;
let seenState = '';
let requestedAt = 0;
let isStopped = false;
/** Whether another tab has signed in since. */
let isReplaced = false;
let lostAt = null;

function notice(text, isBad = true) {
  const box = $('notice');
  delete box.dataset.passes;
  if (box.textContent === text) return;
  box.textContent = text;
  box.className = isBad ? 'bad' : '';
}

const USED = 'This address was used before, or has expired. Run `fullon console` for a new one.';

async function signIn() {
  const newToken = new URLSearchParams(location.hash.slice(1)).get('token');
  if (newToken) {
    // Other characters would be no valid header.
    token = /^[\w.-]+$/.test(newToken) ? newToken : '-';
    history.replaceState(null, '', PAGE);
  }
  const current = await currentSession();
  let refused = '';
  if (token) {
    try {
      const { subject, needs_confirmation, signed_in_as: other } = await get('admin/session/token', { token });
      if (needs_confirmation) askToSignIn(other, subject, token);
      else await createSession(token);
    } catch (error) {
      if (error instanceof UnreachableError) throw error;
      refused = error.status === 401 ? USED : error.message;
    }
    token = null;
  }
  if (current) {
    isReplaced = false;
    showSession(current);
  } else if (!session && $('content').hidden) showSignedOut();
  if (refused) notice(refused);
}

/** The session of this tab, if it is valid. */
async function currentSession() {
  if (!sessions.sessionValue()) return null;
  try {
    return await get('admin/session');
  } catch (error) {
    if (error.status !== 401) throw error;
    if (session) onRefused();
    return null;
  }
}

async function createSession(token) {
  isReplaced = false;
  const created = await request('POST', 'admin/session', { token });
  sessions.keep(created);
  showSession(created);
}

/** A link may hold the token of somebody else, in whose name this page would act then. */
function askToSignIn(current, subject, token) {
  dialogs.signIn({ notice, signIn: () => createSession(token) }, current, subject);
}

const hasScope = scope => session?.scopes.includes(scope);

function showSession(value) {
  session = value;
  if ($('content').hidden) settle();
  $('signed-out').hidden = true;
  $('content').hidden = false;
  $('sign-out').hidden = false;
  $('who').textContent = `${value.subject}, until ${new Date(value.expires_at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}`;
  notice('');
  const isIdle = !hasScope('admin:control');
  for (const button of $('actions').children) button.disabled = isIdle;
  $('may-not').hidden = !isIdle;
  refreshSoon();
  openLog();
}

function openLog() {
  if (hasScope('admin:logs')) log.open(session.id);
  else log.close('This session cannot read the log: it lacks admin:logs.');
}

/** The tab may still have values that the API refuses. They are enough to sign out. */
function showSignedOut() {
  const isRefused = Boolean(sessions.sessionValue());
  notice(isRefused ? REFUSED : '');
  $('sign-out').hidden = !isRefused;
  $('signed-out').hidden = false;
}

/** Signing out stays possible: another program may have said that the session has ended. */
function stopActing() {
  session = null;
  for (const button of $('actions').children) button.disabled = true;
}

const SIGN_OUT = 'Sign out here first: that ends what is left of the session, which `fullon sessions` shows.';
const OPEN = 'Close other tabs of the console. Then run `fullon console --open`, or open the address of `fullon console` here.';
const REPLACED = `This browser has signed in again in another tab. Continue there. ${SIGN_OUT}`;
const REFUSED = `Please sign in again: the daemon was started again, the session has ended, or its cookie was replaced. ${SIGN_OUT} ${OPEN}`;
const NOT_SIGNED_OUT = 'The daemon does not know this session: it has ended already, or another program responds. `fullon sessions` shows the sessions that are left, and can end them. To remove what this page shows, close the tab.';

/** The log stream has ended. The content stays. */
function onEnd(reason) {
  if (reason === 'refused') return onRefused(false);
  if (reason !== 'signed_out') return refreshSoon();
  stopActing();
  log.close('The session has ended');
  showState('unknown', 'The session has ended', 'The data shown is old.');
  notice('The session has ended: `fullon sessions` does not show it. Run `fullon console` and open its address here to continue.');
}

/**
 * The API refuses the session, which may not have ended. After a crash of the daemon, the log stream
 * accepts it still.
 */
function onRefused(hasLog = hasScope('admin:logs') && !isReplaced) {
  stopActing();
  if (!hasLog) log.close('Please sign in again');
  showState('unknown', 'Please sign in again', hasLog ? 'The log continues. The other data is old.' : 'The data shown is old.');
  notice(isReplaced ? REPLACED : REFUSED);
}

let checking;
sessions.listen(change => {
  if (change === 'created') {
    isReplaced = Boolean(session);
    // Another page of this origin may say so again and again.
    checking ??= setTimeout(() => {
      checking = null;
      start();
    }, POLL);
  } else if (session) onEnd('signed_out');
});

function showState(state, text, more) {
  $('headline').dataset.state = state;
  setText('state', text);
  setText('state-more', more);
  document.title = `${text} – Fullon console`;
}

function showUnreachable() {
  lostAt ??= new Date();
  const since = `Since ${lostAt.toLocaleTimeString()}; this page reconnects by itself.`;
  if (isStopped) showState('down', 'Stopped', `${since} To start it again, run \`fullon start\`.`);
  else showState('down', 'Not reachable', `${since} Run \`fullon status\` to see why, and \`fullon start\` to start it.`);
}

async function refresh() {
  requestedAt = Date.now();
  const [level, settings] = await Promise.all(['log-level', 'config'].map(name => get(`admin/${name}`)));
  showStatus(status, level);
  showSettings(settings, status.pending_restart);
}

/** A failure does not mean that the daemon is unreachable. */
async function tryRefresh() {
  try {
    await refresh();
    if ($('notice').dataset.passes) notice('');
    return true;
  } catch (error) {
    if (error.status === 401) throw error;
    notice(`Some data could not be loaded: ${error.message}`);
    $('notice').dataset.passes = 'yes';
    return false;
  }
}

async function update(current) {
  const now = await get('admin/status');
  if (session !== current) return;
  lostAt = null;
  if (now.instance !== status?.instance) {
    if (status) openLog();
    isStopped = false;
  }
  status = now;
  charts.add(summarize(now));
  const checks = now.checks.map(({ name, state }) => [name, state]);
  const state = JSON.stringify([now.instance, now.phase, checks, now.audit, now.log_level, now.pending_restart]);
  if (state !== seenState || Date.now() - requestedAt > REFRESH) {
    const isRefreshed = await tryRefresh();
    if (session !== current) return;
    if (isRefreshed) seenState = state;
  }
  const [kind, text, more] = headline(now);
  showState(kind, text, `${more} Up for ${duration(now.uptime_seconds)}.`);
  if (!hasScope('admin:logs')) return;
  const { seq, error } = now.audit ?? {};
  audit.update(`${now.instance} ${seq} ${error}`, error);
  const end = hasScope('admin:control') ? each => dialogs.endSession(callbacks, each) : undefined;
  // A session also expires without an event.
  sessionList.update(`${now.instance} ${seq} ${session.id} ${Math.floor(Date.now() / REFRESH)}`, session.id, end);
}

let timer, isPolling, shouldPoll;
async function poll() {
  clearTimeout(timer);
  shouldPoll = true;
  if (isPolling) return;
  isPolling = true;
  while (shouldPoll && session) {
    shouldPoll = false;
    const current = session;
    try {
      if (hasScope('admin:read')) await update(current);
      else showState('unknown', 'Signed in', 'This session cannot read the status: it lacks admin:read.');
    } catch (error) {
      if (session !== current) continue;
      if (error instanceof UnreachableError) showUnreachable();
      else if (error.status === 401) onRefused();
      else showState('unknown', 'Status unknown', error.message);
    }
  }
  isPolling = false;
  if (session) timer = setTimeout(poll, document.hidden ? POLL_HIDDEN : POLL);
}

function refreshSoon() {
  requestedAt = 0;
  poll();
}

const callbacks = { done: refreshSoon, notice };
$('act-level').onclick = () => dialogs.logLevel(callbacks, status);
$('act-reload').onclick = () => dialogs.reload(callbacks);
$('act-restart').onclick = () => dialogs.restart(callbacks, status);
$('act-stop').onclick = () => dialogs.stop({ ...callbacks, done: () => {
  isStopped = true;
  refreshSoon();
} });
$('sign-out').onclick = async () => {
  log.disconnect();
  try {
    await request('DELETE', 'admin/session');
  } catch (error) {
    log.connect();
    return notice(error.status === 401 ? NOT_SIGNED_OUT : error.message);
  }
  sessions.forget();
  charts.clear();
  location.replace(PAGE);
};
document.addEventListener('visibilitychange', poll);
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=')) start();
});

let starting, isStarting, shouldStart;
async function start() {
  clearTimeout(starting);
  shouldStart = true;
  if (isStarting) return;
  isStarting = true;
  while (shouldStart) {
    shouldStart = false;
    try {
      await signIn();
    } catch (error) {
      const isUnreachable = error instanceof UnreachableError;
      notice(isUnreachable ? 'The daemon does not respond. Trying again …' : String(error.message));
      starting = setTimeout(start, POLL);
    }
  }
  isStarting = false;
}
start();
