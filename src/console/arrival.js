// The user comes from another site. That site may have opened this window, to which the browser has
// copied the session of its tab, or may have him click here by surprise. So the page starts signed
// out.

import { PAGE, SESSION } from './page.js';

try {
  delete sessionStorage[SESSION];
} catch { /* Unavailable, so nothing is stored. */ }

// From this origin now, so that the page is not answered by this one again. The address differs:
// otherwise the browser would only look for the fragment.
const hasQuery = location.href.split('#')[0].includes('?');
location.replace(`${PAGE}${hasQuery ? '' : '?'}${location.hash}`);
