import http from 'node:http'
import { WebSocketServer } from 'ws'

const server = http.createServer((request, response) => response.end('release 1 of ws'))

new WebSocketServer({ server }).on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
})

server.listen({ fd: 3 })
