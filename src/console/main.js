// The console: signs in, asks the daemon again and again, and says when it does not answer.

import { Refused, Unreachable, get, request } from './api.js';
import { Charts, parse, summary } from './charts.js';
import * as dialogs from './dialogs.js';
import { LogView } from './log.js';
import { Audit, duration, headline, show, showSettings } from './panels.js';

const POLL = 2000;
/** How often the whole state is asked for when nothing seems to have changed. */
const REFRESH = 30_000;

const $ = id => document.getElementById(id);
const audit = new Audit();
const charts = new Charts($('figures'));
const log = new LogView({ onRefused: checkSession, onEnd: ended });

let session = null;
/** The last state, and what of it is seen in the figures. */
let status = null;
let seen = '';
let asked = 0;
let isStopped = false;
let lostAt = null;

function notice(text, isBad = true) {
  const box = $('notice');
  if (box.textContent === text) return;
  box.textContent = text;
  box.className = isBad ? 'bad' : '';
}

/** Trades the token of the address for a session, or takes the one that there is. */
async function signIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  // It is of no use any more, and should not be seen.
  if (token) history.replaceState(null, '', location.pathname);
  let refused = '';
  if (token) {
    try {
      await request('POST', '/admin/session', { token });
    } catch (error) {
      if (error instanceof Unreachable) throw error;
      refused = error.status === 401
        ? 'This address was used before, or is older than a minute. `fullon console` prints a new one.'
        : error.message;
    }
  }
  try {
    begin(await get('/admin/session'));
    notice(refused, true);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (session) ended('signed_out');
    else signedOut();
    if (refused) notice(refused);
  }
}

function may(scope) {
  return session?.scopes.includes(scope);
}

function begin(is) {
  session = is;
  document.body.dataset.session = 'open';
  $('signed-out').hidden = true;
  $('content').hidden = false;
  $('sign-out').hidden = false;
  $('who').textContent = `${is.subject}, until ${new Date(is.expires_at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}`;
  notice('');
  const isIdle = !may('admin:control');
  for (const button of $('actions').children) button.disabled = isIdle;
  $('may-not').hidden = !isIdle;
  seen = '';
  poll();
  if (may('admin:logs')) log.connect();
  else log.say('This session may not read the log: it lacks admin:logs.');
}

function signedOut() {
  session = null;
  document.body.dataset.session = 'none';
  $('signed-out').hidden = false;
  $('content').hidden = true;
  $('sign-out').hidden = true;
  $('who').textContent = '';
  document.title = 'Fullon console';
}

/** The daemon ended the stream, or refuses the session. What is in the page stays. */
function ended(reason) {
  if (reason === 'restarting') return refresh();
  if (reason !== 'signed_out' || !session) return;
  session = null;
  log.stop();
  document.body.dataset.session = 'ended';
  $('sign-out').hidden = true;
  for (const button of $('actions').children) button.disabled = true;
  log.say('The session has ended');
  say('unknown', 'The session has ended', 'What is shown is of before.');
  notice('The session has ended. Run `fullon console`, and open its address here: this page goes on where it was.');
}

/** Asks whether the session still counts, when something was refused. */
async function checkSession() {
  if (!session) return;
  try {
    await get('/admin/session');
  } catch (error) {
    if (error instanceof Refused && error.status === 401) ended('signed_out');
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
  status = await get('/admin/status');
  show(status);
  showSettings(await get('/admin/config'), status.pending_restart);
}

function draw(now) {
  const [state, text, more] = headline({ ...status, phase: now.phase ?? status.phase });
  say(state, text, `${more} Up for ${duration(now.uptime)}.`);
}

async function look() {
  const now = summary(parse(await get('/admin/metrics')));
  if (!session) return;
  if (lostAt) {
    lostAt = null;
    isStopped = false;
    notice('');
  }
  charts.add(now);
  const sees = `${now.started} ${now.phase} ${now.checks}`;
  if (sees !== seen || Date.now() - asked > REFRESH) await refresh();
  seen = sees;
  draw(now);
  const trail = `${now.started} ${now.audit}`;
  if (trail !== audit.seen && may('admin:logs')) {
    await audit.refresh();
    audit.seen = trail;
  }
}

let timer;
async function poll() {
  clearTimeout(timer);
  if (!session || document.hidden) return;
  try {
    if (may('admin:read')) await look();
    else say('unknown', 'Signed in', 'This session may not read the state: it lacks admin:read.');
  } catch (error) {
    if (error instanceof Unreachable) unreachable();
    else if (error.status === 401) ended('signed_out');
    else notice(error.message);
  }
  clearTimeout(timer);
  timer = setTimeout(poll, POLL);
}

const soon = () => setTimeout(() => {
  seen = '';
  poll();
}, 200);
$('act-level').onclick = () => dialogs.logLevel({ done: soon });
$('act-reload').onclick = () => dialogs.reload({ done: soon });
$('act-restart').onclick = () => dialogs.restart({ done: soon, pid: status?.pid });
$('act-stop').onclick = () => dialogs.stop({ done: () => {
  isStopped = true;
  soon();
} });
$('sign-out').onclick = async () => {
  try {
    await request('DELETE', '/admin/session');
    log.stop();
    signedOut();
  } catch (error) {
    notice(error.message);
  }
};
document.addEventListener('visibilitychange', poll);
addEventListener('hashchange', start);

async function start() {
  try {
    await signIn();
  } catch {
    notice('The daemon does not answer. Trying again …');
    setTimeout(start, POLL);
  }
}
start();
