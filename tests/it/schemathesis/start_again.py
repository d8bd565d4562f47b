"""A daemon that was told to stop is started again before anything else is asked."""

import os
import subprocess

import schemathesis


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code == 202:
        fullon = os.environ["FULLON"]
        # Returns when the process is gone; that it was gone already is no failure.
        subprocess.run([fullon, "stop"], capture_output=True)
        subprocess.run([fullon, "start"], capture_output=True, check=True)
