"""Prints the readiness of a daemon as JSON. FULLON_PUBLIC is the address of its public API."""

import os

import fullon_public as fullon

with fullon.ApiClient(fullon.Configuration(host=os.environ["FULLON_PUBLIC"])) as client:
    try:
        readiness = fullon.HealthApi(client).get_readiness()
    except fullon.ApiException as error:
        # The body of a 503 has the same type.
        readiness: fullon.ReadinessReport = error.data
    print(readiness.to_json())
