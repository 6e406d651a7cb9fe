"""wes-service's own client with a bearer token or Basic: URL bearer|basic SECRET. Runs in .venv-clients."""

import base64
import json
import sys

from wes_client.util import WESClient

url, scheme, secret = sys.argv[1:]
protocol, _, host = url.partition("://")
auth = (
    {"Authorization": f"Bearer {secret}"}
    if scheme == "bearer"
    else {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}
)
client = WESClient({"auth": auth, "proto": protocol, "host": host})
print(
    json.dumps({"info": client.get_service_info()["workflow_type_versions"] != {}, "runs": client.list_runs()["runs"]})
)
