import express from 'express'

const app = express()
const text = (response, body) => response.type('text/plain').send(body)

app.get('/', (request, response) => text(response, 'release 1 of Express'))

app.get('/slow', (request, response) => {
  const ms = Number(request.query.ms)
  setTimeout(() => text(response, `after ${ms} ms`), ms)
})

app.post('/echo', express.raw({ type: '*/*' }), (request, response) => {
  response.type(request.get('content-type')).send(request.body)
})

app.get('/pid', (request, response) => text(response, `${process.pid}`))

app.get('/headers', (request, response) => response.json(request.headers))

app.listen(process.env.PORT, process.env.HOST)
