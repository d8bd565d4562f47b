import asyncio
import os

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def index():
    return "release 1 of FastAPI"


@app.get("/slow", response_class=PlainTextResponse)
async def slow(ms: int):
    await asyncio.sleep(ms / 1000)
    return f"after {ms} ms"


@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body(), media_type=request.headers.get("content-type"))


@app.get("/pid", response_class=PlainTextResponse)
async def pid():
    return str(os.getpid())


@app.get("/headers")
async def headers(request: Request):
    client = request.client.host if request.client else None
    return {**request.headers, "seen-client": client, "seen-url": str(request.url)}


@app.websocket("/socket")
async def socket(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass
