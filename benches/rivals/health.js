// A minimal HTTP server for pm2. Without its `ready` message, `pm2 start` returns too early.
const { createServer } = require("node:http");

const body = process.env.HEALTH_BODY;

createServer((request, response) => {
  if (request.url === "/health") {
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body);
  } else {
    response.writeHead(404).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1", () => process.send?.("ready"));
