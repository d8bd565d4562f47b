// The least HTTP server that answers /health, for pm2 to keep.
const { createServer } = require("node:http");

const body = process.env.HEALTH_BODY;

createServer((request, response) => {
  if (request.url === "/health") {
    response.writeHead(200, { "content-type": "application/json" }).end(body);
  } else {
    response.writeHead(404).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
