// The names that several pages use.

/** Under this name, a tab keeps its session. The page of the API (`docs.rs`) knows it, too. */
export const SESSION = 'fullon-session';

/** This page without its query. Relative, because a whole path can begin with `//` behind a proxy. */
export const PAGE = `./${location.pathname.split('/').pop()}`;
