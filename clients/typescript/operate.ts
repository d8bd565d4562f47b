// Operates a daemon and prints one JSON object per step. FULLON_ADMIN is the address of the admin API,
// FULLON_TOKEN a token.

import { client } from "./generated/client.gen.ts";
import { getAudit, getLogLevel, getLogs, getStatus, reloadSettings, restartDaemon, setLogLevel, stopDaemon, streamLogs } from "./generated/sdk.gen.ts";
import type { Problem } from "./generated/types.gen.ts";

function report(step: string, value: unknown): void {
  console.log(JSON.stringify({ [step]: value }));
}

/** The problem of an error response. */
function problemOf(error: Problem | undefined): object {
  if (error === undefined) throw new Error("the call was not refused");
  return { status: error.status, title: error.title, detail: error.detail };
}

/** Names and data of the first events. */
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
    if (typeof data !== "object" || data === null || !("line" in data)) throw new Error("not a log entry");
    events.push({ event: name, entry: data });
    if (events.length === count) break;
  }
  aborted.abort();
  return events;
}

/** A connection that is kept open leads to the old process, which responds with 409 once per connection. */
async function stopNewProcess() {
  for (;;) {
    const { data, error, response } = await stopDaemon({ body: { timeout_seconds: 5 } });
    if (data !== undefined) return data;
    if (response?.status !== 409) throw new Error(error?.detail);
  }
}

client.setConfig({ baseUrl: process.env.FULLON_ADMIN, auth: "none" });
report("refused", problemOf((await getStatus()).error));
client.setConfig({ auth: process.env.FULLON_TOKEN });
report("status", (await getStatus({ throwOnError: true })).data);
report("bad_parameter", problemOf((await getLogs({ query: { since: "soon" } })).error));
const before = (await getLogLevel({ throwOnError: true })).data;
const now = (await setLogLevel({ body: { level: "debug", revert_after_seconds: 600 }, throwOnError: true })).data;
report("log_level", { before: before.level, now: now.level, configured: now.configured_level });
const page = await getLogs({ query: { lines: 2 }, throwOnError: true });
report("logs", page.data.entries);
report("events", await follow(2));
report("reload", (await reloadSettings({ throwOnError: true })).data);
report("audit", (await getAudit({ query: { lines: 1 }, throwOnError: true })).data.records);
report("restart", (await restartDaemon({ throwOnError: true })).data);
report("stop", await stopNewProcess());
