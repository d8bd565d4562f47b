import os
import time

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def index():
    return "release 1 of Flask"


@app.get("/slow")
def slow():
    ms = int(request.args["ms"])
    time.sleep(ms / 1000)
    return f"after {ms} ms"


@app.post("/echo")
def echo():
    return request.get_data(), {"Content-Type": request.headers["Content-Type"]}


@app.get("/pid")
def pid():
    return str(os.getpid())


@app.get("/headers")
def headers():
    return {name.lower(): value for name, value in request.headers.items()}
