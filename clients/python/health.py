"""Asks a daemon whether it is ready, and prints what it says as JSON. FULLON_PUBLIC is the address of its public API."""

import json
import os

import fullon_public as fullon

with fullon.ApiClient(fullon.Configuration(host=os.environ["FULLON_PUBLIC"])) as client:
    try:
        readiness = fullon.HealthApi(client).get_readiness()
    except fullon.ApiException as error:
        # 503 says the same in the same type.
        readiness: fullon.Readiness = error.data
    print(json.dumps(readiness.to_dict()))
