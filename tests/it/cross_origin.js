// What a page of another site can try. Resolves to what it came to know, by name: nothing but errors, if all is well.
// arguments: the admin API's origin, a valid token, where the page's own server sends elsewhere.
const [admin, token, redirect] = arguments;
const reads = ['/admin/status', '/admin/config', '/admin/logs', '/admin/logs/stream'];
const changes = ['/admin/stop', '/admin/restart', '/admin/reload', '/admin/session'];
const order = JSON.stringify({ timeout_seconds: 0 });
const learned = {};
const tries = [];

function attempt(name, action) {
    const late = new Promise(resolve => setTimeout(resolve, 25000, 'late'));
    const done = Promise.resolve().then(action).catch(error => error.name);
    tries.push(Promise.race([done, late]).then(result => learned[name] = result));
}

// All that the script may see of an answer.
async function seen(answer) {
    return [answer.type, answer.status, await answer.text(), ...answer.headers.keys()].filter(part => part).join(' ');
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

// What a frame shows, as far as the page may look into it.
function inside(frame) {
    return frame.contentDocument?.documentElement.outerHTML ?? 'closed';
}

// Sends a form into a frame.
async function send(action, attributes, fields) {
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
    return inside(frame);
}

for (const path of reads) {
    const url = admin + path;
    attempt('fetch ' + path, () => fetch(url).then(seen));
    attempt('fetch with cookies ' + path, () => fetch(url, { credentials: 'include' }).then(seen));
    attempt('blind fetch ' + path, () => fetch(url, { mode: 'no-cors', credentials: 'include' }).then(seen));
    attempt('same-origin fetch ' + path, () => fetch(url, { mode: 'same-origin' }).then(seen));
    attempt('fetch with token ' + path, () =>
        fetch(url, { headers: { Authorization: 'Bearer ' + token } }).then(seen));
    attempt('fetch with a header ' + path, () =>
        fetch(url, { credentials: 'include', headers: { 'X-Requested-With': 'x' } }).then(seen));
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
    attempt('object ' + path, () => load(create('object'), { data: url }).then(inside));
    attempt('frame ' + path, () => load(create('iframe'), { src: url }).then(inside));
    attempt('frame reached into ' + path, () =>
        load(create('iframe'), { src: url }).then(frame => frame.contentWindow.document.body.innerText));
    attempt('module ' + path, () => import(url).then(Object.keys));
    attempt('worker ' + path, () => new Worker(url) && 'worker');
    attempt('redirect ' + path, () => fetch(redirect + url, { credentials: 'include' }).then(seen));
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
        // Until it is there, it is an empty page of our own.
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
    const blind = { method: 'POST', mode: 'no-cors', credentials: 'include' };
    const plain = { 'Content-Type': 'text/plain' };
    const json = { 'Content-Type': 'application/json' };
    attempt('blind post ' + path, () => fetch(url, blind).then(seen));
    attempt('blind post with body ' + path, () => fetch(url, { ...blind, body: order, headers: plain }).then(seen));
    attempt('blind post that outlives the page ' + path, () => fetch(url, { ...blind, keepalive: true }).then(seen));
    attempt('post ' + path, () => fetch(url, { method: 'POST', credentials: 'include' }).then(seen));
    attempt('post of JSON ' + path, () =>
        fetch(url, { method: 'POST', credentials: 'include', headers: json, body: order }).then(seen));
    attempt('post with token ' + path, () =>
        fetch(url, { method: 'POST', headers: { Authorization: 'Bearer ' + token } }).then(seen));
    attempt('delete ' + path, () => fetch(url, { method: 'DELETE', credentials: 'include' }).then(seen));
    attempt('XHR post ' + path, () => new Promise(resolve => {
        const request = new XMLHttpRequest();
        request.open('POST', url);
        request.withCredentials = true;
        request.onloadend = () => resolve(request.status + request.responseText);
        request.send(order);
    }));
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json']) {
        attempt(`beacon ${type} ${path}`, () => `${navigator.sendBeacon(url, new Blob([order], { type }))}`);
    }
    for (const enctype of ['application/x-www-form-urlencoded', 'multipart/form-data']) {
        attempt(`form ${enctype} ${path}`, () => send(url, { enctype }, { timeout_seconds: 0 }));
    }
    // Written out, this is JSON.
    const fields = { '{"timeout_seconds":0,"x":"': '"}' };
    attempt('form of JSON ' + path, () => send(url, { enctype: 'text/plain' }, fields));
    attempt('form in disguise ' + path, () => send(url, {}, { _method: 'DELETE', access_token: token }));
    attempt('form redirected ' + path, () => send(redirect + url, {}, fields));
    attempt('post redirected ' + path, () => fetch(redirect + url, blind).then(seen));
    // Neither has an origin.
    attempt('form in a sandbox ' + path, () => load(create('iframe'), {
        sandbox: 'allow-scripts allow-forms',
        srcdoc: `<form method=post action="${url}"></form><script>document.forms[0].submit()</script>`,
    }).then(inside));
    attempt('post from a sandbox ' + path, () => load(create('iframe'), {
        sandbox: 'allow-scripts',
        srcdoc: `<script>fetch("${url}", { method: 'POST', mode: 'no-cors', credentials: 'include' })</script>`,
    }).then(inside));
    attempt('post without a referrer ' + path, () =>
        fetch(url, { ...blind, referrerPolicy: 'no-referrer' }).then(seen));
}

return Promise.all(tries).then(() => learned);
