// The user comes from another site. That site may have opened this window, to which the browser has
// copied the session of its tab, or may have him click here by surprise. So the page starts signed
// out.

try {
  delete sessionStorage['fullon-session'];
} catch { /* Unavailable, so nothing is stored. */ }

// From this origin now, so that the page is not answered by this one again. The address differs:
// otherwise the browser would only look for the fragment.
// Relative: behind a proxy, a whole path can begin with `//`, which would name another host.
const hasQuery = location.href.split('#')[0].includes('?');
const page = `./${location.pathname.split('/').pop()}`;
location.replace(`${page}${hasQuery ? '' : '?'}${location.hash}`);
