// Everything that a foreign page can try. Resolves to the results by name, all of which should be errors.
// Arguments: the origin of the admin API, a valid token, and a URL of the page's own server that redirects.
const [admin, token, redirect] = arguments;
const reads = ['/admin/status', '/admin/config', '/admin/logs', '/admin/logs/stream'];
const changes = ['/admin/stop', '/admin/restart', '/admin/reload', '/admin/session'];
const stopBody = JSON.stringify({ timeout_seconds: 0 });
const results = {};
const attempts = [];

function attempt(name, action) {
    const late = new Promise(resolve => setTimeout(resolve, 25000, 'late'));
    const done = Promise.resolve().then(action).catch(error => error.name);
    attempts.push(Promise.race([done, late]).then(result => results[name] = result));
}

// Everything that the script can read of a response.
async function readable(response) {
    return [response.type, response.status, await response.text(), ...response.headers.keys()].filter(part => part).join(' ');
}

function load(element, attributes) {
    Object.assign(element, attributes);
    return new Promise((resolve, reject) => {
        element.onload = () => resolve(element);
        element.onerror = () => reject({ name: 'error' });
        document.body.append(element);
    });
}

const create = name => document.createElement(name);

// The content of a frame, as far as the page can read it.
function contentOf(frame) {
    return frame.contentDocument?.documentElement.outerHTML ?? 'closed';
}

// Submits a form into a frame.
async function submitForm(action, attributes, fields) {
    const frame = create('iframe');
    frame.name = 'frame' + Math.random();
    document.body.append(frame);
    const form = Object.assign(create('form'), { action, method: 'post', target: frame.name, ...attributes });
    for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(create('input'), { name, value }));
    }
    document.body.append(form);
    const loaded = new Promise(resolve => frame.onload = resolve);
    form.submit();
    await loaded;
    return contentOf(frame);
}

for (const path of reads) {
    const url = admin + path;
    attempt('fetch ' + path, () => fetch(url).then(readable));
    attempt('fetch with cookies ' + path, () => fetch(url, { credentials: 'include' }).then(readable));
    attempt('no-cors fetch ' + path, () => fetch(url, { mode: 'no-cors', credentials: 'include' }).then(readable));
    attempt('same-origin fetch ' + path, () => fetch(url, { mode: 'same-origin' }).then(readable));
    attempt('fetch with token ' + path, () =>
        fetch(url, { headers: { Authorization: 'Bearer ' + token } }).then(readable));
    attempt('fetch with a header ' + path, () =>
        fetch(url, { credentials: 'include', headers: { 'X-Requested-With': 'x' } }).then(readable));
    attempt('XHR ' + path, () => new Promise(resolve => {
        const request = new XMLHttpRequest();
        request.open('GET', url);
        request.withCredentials = true;
        request.onloadend = () => resolve(request.status + request.responseText + request.getAllResponseHeaders());
        request.send();
    }));
    attempt('image ' + path, () => load(new Image(), { src: url }).then(image => 'image ' + image.width));
    attempt('script ' + path, () => load(create('script'), { src: url }).then(() => 'script'));
    attempt('style ' + path, () =>
        load(create('link'), { rel: 'stylesheet', href: url }).then(link => 'style ' + link.sheet.cssRules.length));
    attempt('object ' + path, () => load(create('object'), { data: url }).then(contentOf));
    attempt('frame ' + path, () => load(create('iframe'), { src: url }).then(contentOf));
    attempt('frame reached into ' + path, () =>
        load(create('iframe'), { src: url }).then(frame => frame.contentWindow.document.body.innerText));
    attempt('module ' + path, () => import(url).then(Object.keys));
    attempt('worker ' + path, () => new Worker(url) && 'worker');
    attempt('redirect ' + path, () => fetch(redirect + url, { credentials: 'include' }).then(readable));
    attempt('redirected image ' + path, () => load(new Image(), { src: redirect + url }).then(() => 'image'));
}

attempt('EventSource', () => new Promise(resolve => {
    const source = new EventSource(admin + '/admin/logs/stream?lines=50', { withCredentials: true });
    for (const name of ['open', 'log', 'gap', 'end', 'message']) {
        source.addEventListener(name, () => resolve(name));
    }
    source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? 'closed for good' : 'tries again');
}));

attempt('WebSocket', () => new Promise(resolve => {
    const socket = new WebSocket(admin.replace('http', 'ws') + '/admin/logs/stream');
    socket.onopen = () => resolve('open');
    socket.onerror = () => resolve('error');
}));

attempt('window', async () => {
    const opened = window.open(admin + '/admin/status');
    try {
        // Until it has loaded, it is an empty page of our own origin.
        for (;;) {
            const text = opened.document.documentElement.outerHTML;
            if (text.includes('timestamp') || text.includes('pid')) return text;
            await new Promise(resolve => setTimeout(resolve, 20));
        }
    } finally {
        opened.close();
    }
});

for (const path of changes) {
    const url = admin + path;
    const noCors = { method: 'POST', mode: 'no-cors', credentials: 'include' };
    const plain = { 'Content-Type': 'text/plain' };
    const json = { 'Content-Type': 'application/json' };
    attempt('no-cors post ' + path, () => fetch(url, noCors).then(readable));
    attempt('no-cors post with body ' + path, () => fetch(url, { ...noCors, body: stopBody, headers: plain }).then(readable));
    attempt('no-cors post that outlives the page ' + path, () => fetch(url, { ...noCors, keepalive: true }).then(readable));
    attempt('post ' + path, () => fetch(url, { method: 'POST', credentials: 'include' }).then(readable));
    attempt('post of JSON ' + path, () =>
        fetch(url, { method: 'POST', credentials: 'include', headers: json, body: stopBody }).then(readable));
    attempt('post with token ' + path, () =>
        fetch(url, { method: 'POST', headers: { Authorization: 'Bearer ' + token } }).then(readable));
    attempt('delete ' + path, () => fetch(url, { method: 'DELETE', credentials: 'include' }).then(readable));
    attempt('XHR post ' + path, () => new Promise(resolve => {
        const request = new XMLHttpRequest();
        request.open('POST', url);
        request.withCredentials = true;
        request.onloadend = () => resolve(request.status + request.responseText);
        request.send(stopBody);
    }));
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json']) {
        attempt(`beacon ${type} ${path}`, () => `${navigator.sendBeacon(url, new Blob([stopBody], { type }))}`);
    }
    for (const enctype of ['application/x-www-form-urlencoded', 'multipart/form-data']) {
        attempt(`form ${enctype} ${path}`, () => submitForm(url, { enctype }, { timeout_seconds: 0 }));
    }
    // Encoded as text, this is JSON.
    const fields = { '{"timeout_seconds":0,"x":"': '"}' };
    attempt('form of JSON ' + path, () => submitForm(url, { enctype: 'text/plain' }, fields));
    attempt('form in disguise ' + path, () => submitForm(url, {}, { _method: 'DELETE', access_token: token }));
    attempt('form redirected ' + path, () => submitForm(redirect + url, {}, fields));
    attempt('post redirected ' + path, () => fetch(redirect + url, noCors).then(readable));
    // Sandboxed frames have no origin.
    attempt('form in a sandbox ' + path, () => load(create('iframe'), {
        sandbox: 'allow-scripts allow-forms',
        srcdoc: `<form method=post action="${url}"></form><script>document.forms[0].submit()</script>`,
    }).then(contentOf));
    attempt('post from a sandbox ' + path, () => load(create('iframe'), {
        sandbox: 'allow-scripts',
        srcdoc: `<script>fetch("${url}", { method: 'POST', mode: 'no-cors', credentials: 'include' })</script>`,
    }).then(contentOf));
    attempt('post without a referrer ' + path, () =>
        fetch(url, { ...noCors, referrerPolicy: 'no-referrer' }).then(readable));
}

return Promise.all(attempts).then(() => results);
