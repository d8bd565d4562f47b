// The same steps as operate.ts, with a client that openapi-generator makes for axios.

import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { type AxiosResponse, isAxiosError } from "axios";
import { AuditApi, Configuration, DaemonApi, LogApi, type Problem, SettingsApi } from "./generated-axios/admin/index.js";

function report(step: string, value: unknown): void {
  console.log(JSON.stringify({ [step]: value }));
}

/** The problem of an error response. */
async function problemOf(call: Promise<unknown>): Promise<object> {
  try {
    await call;
  } catch (error) {
    if (!isAxiosError<Problem>(error) || error.response === undefined) throw error;
    const { status, title, detail } = error.response.data;
    return { status, title, detail };
  }
  throw new Error("the call was not refused");
}

/** Names and data of the first events. The generated client does not parse event streams (HTML standard, section 9.2). */
async function follow(log: LogApi, count: number): Promise<object[]> {
  const response: AxiosResponse<unknown> = await log.streamLogs(count, undefined, undefined, undefined, undefined, undefined, { responseType: "stream" });
  const body = response.data as Readable;
  const events: object[] = [];
  let name: string | undefined;
  for await (const line of createInterface(body)) {
    const [field, value] = line.split(/: (.*)/, 2);
    if (field === "event") name = value;
    else if (field === "data" && value !== undefined) events.push({ event: name, entry: JSON.parse(value) });
    if (events.length === count) {
      body.destroy();
      return events;
    }
  }
  throw new Error("the stream ended");
}

const basePath = process.env.FULLON_ADMIN;
report("refused", await problemOf(new DaemonApi(new Configuration({ basePath, accessToken: "none" })).getStatus()));
const configuration = new Configuration({ basePath, accessToken: process.env.FULLON_TOKEN });
const [daemon, log] = [new DaemonApi(configuration), new LogApi(configuration)];
report("status", (await daemon.getStatus()).data);
report("bad_parameter", await problemOf(log.getLogs(undefined, undefined, undefined, "soon")));
const before = (await log.getLogLevel()).data;
const now = (await log.setLogLevel({ level: "debug", revert_after_seconds: 600 })).data;
report("log_level", { before: before.level, now: now.level, configured: now.configured_level });
report("logs", (await log.getLogs(2)).data.entries);
report("events", await follow(log, 2));
report("reload", (await new SettingsApi(configuration).reloadSettings()).data);
report("audit", (await new AuditApi(configuration).getAudit(1)).data.records);
report("restart", (await daemon.restartDaemon()).data);
report("stop", (await daemon.stopDaemon({ timeout_seconds: 5 })).data);
