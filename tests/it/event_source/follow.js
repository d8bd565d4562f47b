// Prints the lines of the log stream at FULLON_STREAM.
import polyfill from 'event-source-polyfill';

const source = new polyfill.EventSourcePolyfill(process.env.FULLON_STREAM, {
  headers: { Authorization: process.env.FULLON_AUTHORIZATION },
});
source.onopen = () => console.log('(open)');
source.addEventListener('log', event => console.log(JSON.parse(event.data).line));
source.addEventListener('gap', () => console.log('(gap)'));
source.addEventListener('error', event => {
  console.log(`(error ${event.status ?? ''})`);
  // After an error that it does not retry.
  if (source.readyState === polyfill.EventSourcePolyfill.CLOSED) process.exit(1);
});
