import http from 'node:http'

const respond = (response, body, type = 'text/plain') => {
  response.setHeader('Content-Type', type)
  response.end(body)
}

const server = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost')
  if (pathname === '/') {
    respond(response, 'release 1 of Node')
  } else if (pathname === '/slow') {
    const ms = Number(searchParams.get('ms'))
    setTimeout(() => respond(response, `after ${ms} ms`), ms)
  } else if (pathname === '/echo') {
    response.setHeader('Content-Type', request.headers['content-type'])
    request.pipe(response)
  } else if (pathname === '/pid') {
    respond(response, `${process.pid}`)
  } else if (pathname === '/headers') {
    respond(response, JSON.stringify(request.headers), 'application/json')
  } else {
    response.statusCode = 404
    respond(response, 'nothing here')
  }
})

server.listen({ fd: 3 })
