import os
import fullon_admin as fullon

configuration = fullon.Configuration(host=os.environ["FULLON_ADMIN"], access_token=os.environ["FULLON_TOKEN"])
with fullon.ApiClient(configuration) as client:
    daemon, log = fullon.DaemonApi(client), fullon.LogApi(client)
    print(daemon.get_status().pid)
    for entry in log.get_logs(lines=3, level="info").entries:
        print(entry.line)
    print(daemon.restart_daemon().pid)
