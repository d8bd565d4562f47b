// Ignores clicks that the user meant for another page, or for something that was in the same place
// before: another site can open this page under a double click.

/** Elements that change something. The last one sends a request of the API documentation. */
const ACTS = '#actions button, #sign-out, #sessions button, #dialog-confirm, .execute';
/** In milliseconds. */
const DELAY = 1000;

const root = document.documentElement;
let timer;

/** Lets nothing act for a moment, because something else is under the pointer now. */
export function settle() {
  root.dataset.settling = '';
  clearTimeout(timer);
  timer = setTimeout(() => {
    // Otherwise the page comes to the front later, which starts this again.
    if (!document.hidden && document.hasFocus()) delete root.dataset.settling;
  }, DELAY);
}

for (const event of ['focus', 'blur', 'pageshow', 'pagehide']) addEventListener(event, settle);
document.addEventListener('visibilitychange', settle);
settle();

addEventListener('click', event => {
  // A script has no pointer. The second click of a double click is for what the first one did.
  if (!event.isTrusted || !event.target.closest(ACTS)) return;
  const isSettling = 'settling' in root.dataset;
  if (!isSettling && event.detail < 2) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  // Not with the keyboard: a key that is held clicks again and again.
  if (isSettling && event.detail) settle();
}, true);
