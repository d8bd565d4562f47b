// The console: signs in, asks the daemon again and again, and says when it does not answer.

import { Refused, Unreachable, get, kept, request } from './api.js';
import { Charts, parse, summary } from './charts.js';
import * as dialogs from './dialogs.js';
import { $ } from './dom.js';
import { LogView } from './log.js';
import { Audit, duration, headline, show, showSettings } from './panels.js';

/** How often the daemon is asked, by a hidden page, and for its whole state when nothing has changed: milliseconds. */
const POLL = 2000;
const POLL_HIDDEN = 10_000;
const REFRESH = 30_000;
const SIGNED_IN = 'fullon-signed-in';

const audit = new Audit();
const charts = new Charts($('figures'));
const log = new LogView({ onRefused: checkSession, onEnd: ended });

/** Of the address, until it is traded. */
let token = null;
let hasSignedIn = Boolean(kept(SIGNED_IN));
let session = null;
/** The last state, what of it the figures tell, and when it was asked for. */
let status = null;
let seen = '';
let asked = 0;
let started = null;
let isStopped = false;
let lostAt = null;

function notice(text, isBad = true) {
  const box = $('notice');
  delete box.dataset.passes;
  if (box.textContent === text) return;
  box.textContent = text;
  box.className = isBad ? 'bad' : '';
}

async function signIn() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    token = given;
    history.replaceState(null, '', location.pathname);
  }
  let refused = '';
  if (token) {
    try {
      await request('POST', '/admin/session', { token });
      hasSignedIn = true;
      kept(SIGNED_IN, 'yes');
    } catch (error) {
      if (error instanceof Unreachable) throw error;
      refused = error.status === 401
        ? 'This address was used before, or is older than a minute. `fullon console` prints a new one.'
        : error.message;
    }
    token = null;
  }
  try {
    if (!hasSignedIn) throw new Refused(401, {});
    begin(await get('/admin/session'));
  } catch (error) {
    if (error.status !== 401) throw error;
    if (session) ended('signed_out');
    else if ($('content').hidden) signedOut();
  }
  if (refused) notice(refused);
}

function may(scope) {
  return session?.scopes.includes(scope);
}

function begin(is) {
  session = is;
  $('signed-out').hidden = true;
  $('content').hidden = false;
  $('sign-out').hidden = false;
  $('who').textContent = `${is.subject}, until ${new Date(is.expires_at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}`;
  notice('');
  const isIdle = !may('admin:control');
  for (const button of $('actions').children) button.disabled = isIdle;
  $('may-not').hidden = !isIdle;
  soon();
  openLog();
}

function openLog() {
  if (may('admin:logs')) log.open();
  else log.close('This session may not read the log: it lacks admin:logs.');
}

function signedOut() {
  kept(SIGNED_IN, null);
  notice('');
  $('signed-out').hidden = false;
}

/** The daemon ended the stream, or refuses the session. What is in the page stays. */
function ended(reason) {
  if (reason !== 'signed_out') return soon();
  if (!session) return;
  session = null;
  $('sign-out').hidden = true;
  for (const button of $('actions').children) button.disabled = true;
  log.close('The session has ended');
  say('unknown', 'The session has ended', 'What is shown is of before.');
  notice('The session has ended. Run `fullon console`, and open its address here: this page goes on where it was.');
}

async function checkSession() {
  try {
    await get('/admin/session');
  } catch (error) {
    if (error.status === 401) ended('signed_out');
  }
}

function say(state, text, more) {
  $('headline').dataset.state = state;
  if ($('state').textContent !== text) $('state').textContent = text;
  if ($('state-more').textContent !== more) $('state-more').textContent = more;
  document.title = `${text} – Fullon console`;
}

function unreachable() {
  lostAt ??= new Date();
  const since = `Since ${lostAt.toLocaleTimeString()}; this page goes on when it is back.`;
  if (isStopped) say('down', 'Stopped', `As was asked for. ${since} \`fullon start\` starts it.`);
  else say('down', 'Not reachable', `${since} \`fullon status\` tells why, \`fullon start\` starts it.`);
}

async function refresh() {
  asked = Date.now();
  const [now, level, settings] = await Promise.all(['status', 'log-level', 'config'].map(name => get(`/admin/${name}`)));
  status = now;
  show(status, level);
  showSettings(settings, status.pending_restart);
}

/** That it fails is no reason to call the daemon gone. */
async function isRefreshed() {
  try {
    await refresh();
    if ($('notice').dataset.passes) notice('');
    return true;
  } catch (error) {
    if (error.status === 401) throw error;
    notice(`Not all could be asked for: ${error.message}`);
    $('notice').dataset.passes = 'yes';
    return false;
  }
}

async function look(mine) {
  const now = summary(parse(await get('/admin/metrics')));
  if (session !== mine) return;
  lostAt = null;
  if (now.started !== started) {
    if (started) openLog();
    started = now.started;
    isStopped = false;
  }
  charts.add(now);
  const sees = `${now.started} ${now.phase} ${now.checks} ${now.audit}`;
  if (sees !== seen || Date.now() - asked > REFRESH) {
    const isKnown = await isRefreshed();
    if (session !== mine) return;
    if (isKnown) seen = sees;
  }
  if (status) {
    const [state, text, more] = headline({ ...status, phase: now.phase ?? status.phase });
    say(state, text, `${more} Up for ${duration(now.uptime)}.`);
  }
  if (may('admin:logs')) audit.follow(`${now.started} ${now.audit}`);
}

let timer;
let isLooking = false;
let isWanted = false;
async function poll() {
  clearTimeout(timer);
  isWanted = true;
  if (isLooking) return;
  isLooking = true;
  while (isWanted && session) {
    isWanted = false;
    const mine = session;
    try {
      if (may('admin:read')) await look(mine);
      else say('unknown', 'Signed in', 'This session may not read the state: it lacks admin:read.');
    } catch (error) {
      if (session !== mine) continue;
      if (error instanceof Unreachable) unreachable();
      else if (error.status === 401) ended('signed_out');
      else say('unknown', 'Cannot tell', error.message);
    }
  }
  isLooking = false;
  if (session) timer = setTimeout(poll, document.hidden ? POLL_HIDDEN : POLL);
}

/** Something has changed. */
function soon() {
  asked = 0;
  poll();
}

const tell = { done: soon, notice };
$('act-level').onclick = () => dialogs.logLevel(tell, status);
$('act-reload').onclick = () => dialogs.reload(tell);
$('act-restart').onclick = () => dialogs.restart(tell, status);
$('act-stop').onclick = () => dialogs.stop({ ...tell, done: () => {
  isStopped = true;
  soon();
} });
$('sign-out').onclick = async () => {
  log.close('');
  try {
    await request('DELETE', '/admin/session');
    kept(SIGNED_IN, null);
    charts.forget();
    location.replace(location.pathname);
  } catch (error) {
    openLog();
    notice(error.message);
  }
};
document.addEventListener('visibilitychange', poll);
addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=')) start();
});

let starting;
async function start() {
  clearTimeout(starting);
  try {
    await signIn();
  } catch (error) {
    notice(error instanceof Refused ? error.message : 'The daemon does not answer. Trying again …');
    starting = setTimeout(start, POLL);
  }
}
start();
