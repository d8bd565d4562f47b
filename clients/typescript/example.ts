import { client } from "./generated/client.gen.ts";
import { getLogs, getStatus, restartDaemon } from "./generated/sdk.gen.ts";

client.setConfig({ baseUrl: process.env.FULLON_ADMIN, auth: process.env.FULLON_TOKEN, throwOnError: true });
console.log((await getStatus({ throwOnError: true })).data.pid);
const page = await getLogs({ query: { lines: 3, level: "info" }, throwOnError: true });
for (const entry of page.data.entries) console.log(entry.line);
console.log((await restartDaemon({ throwOnError: true })).data.pid);
