// Operates a daemon, and prints one JSON object a step. FULLON_ADMIN is the address of its admin API, FULLON_TOKEN a token.

import { client } from "./generated/client.gen.ts";
import { getLogLevel, getLogs, getStatus, reload, restart, setLogLevel, stop, streamLogs } from "./generated/sdk.gen.ts";
import type { Problem } from "./generated/types.gen.ts";

function say(step: string, value: unknown): void {
  console.log(JSON.stringify({ [step]: value }));
}

/** What the API said that refused the call. */
function problemOf(error: Problem | undefined): object {
  if (error === undefined) throw new Error("this should have been refused");
  return { status: error.status, title: error.title, detail: error.detail };
}

/** The first events: their names, and their data. */
async function follow(count: number): Promise<object[]> {
  const events: object[] = [];
  const aborted = new AbortController();
  let name: string | undefined;
  const { stream } = await streamLogs({
    query: { lines: count },
    signal: aborted.signal,
    onSseEvent: (event) => (name = event.event),
  });
  for await (const data of stream) {
    if (typeof data !== "object" || data === null || !("line" in data)) throw new Error("this is no line of the log");
    events.push({ event: name, entry: data });
    if (events.length === count) break;
  }
  aborted.abort();
  return events;
}

/** A connection that was kept leads to the process that was replaced. That one says so with 409, once a connection. */
async function stopSuccessor() {
  for (;;) {
    const { data, error, response } = await stop({ body: { timeout_seconds: 5 } });
    if (data !== undefined) return data;
    if (response?.status !== 409) throw new Error(error?.detail);
  }
}

client.setConfig({ baseUrl: process.env.FULLON_ADMIN, auth: "none" });
say("refused", problemOf((await getStatus()).error));
client.setConfig({ auth: process.env.FULLON_TOKEN });
say("status", (await getStatus({ throwOnError: true })).data);
say("bad_parameter", problemOf((await getLogs({ query: { since: "soon" } })).error));
const before = (await getLogLevel({ throwOnError: true })).data;
const now = (await setLogLevel({ body: { level: "debug", revert_after_seconds: 600 }, throwOnError: true })).data;
say("log_level", { before: before.level, now: now.level, configured: now.configured_level });
const page = await getLogs({ query: { lines: 2 }, throwOnError: true });
say("logs", page.data.entries);
say("events", await follow(2));
say("reload", (await reload({ throwOnError: true })).data);
say("restart", (await restart({ throwOnError: true })).data);
say("stop", await stopSuccessor());
