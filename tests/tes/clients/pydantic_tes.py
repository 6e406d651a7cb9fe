"""Runs in .venv-clients: pydantic-tes against the server at argv[1]; prints what it saw as JSON."""

import json
import sys
import time

import pydantic
from pydantictes.api import TesClient
from pydantictes.models import TesExecutor, TesFileType, TesInput, TesTask

client = TesClient(sys.argv[1])


def state_of(task_id: str) -> str:
    try:
        return str(client.get_task(task_id, "FULL").state.value)
    except pydantic.ValidationError as error:  # it cannot read CANCELING, which came with TES 1.1
        if error.errors()[0]["input"] != "CANCELING":
            raise
        return "CANCELING"


def ended(task_id: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while state_of(task_id) in ("QUEUED", "INITIALIZING", "RUNNING", "CANCELING"):
        if time.monotonic() > deadline:
            raise SystemExit(f"{task_id} is {state_of(task_id)} after {seconds} s")
        time.sleep(0.05)
    return state_of(task_id)


write = TesExecutor(image="busybox", command=["sh", "-c", "cat /in > /shared/x"])
read = TesExecutor(image="busybox", command=["cat", "/shared/x"])
given = TesInput(path="/in", content="shared by volume", type=TesFileType.FILE)
made = client.create_task(TesTask(executors=[write, read], inputs=[given], volumes=["/shared"]))
state = ended(made.id, 30)
full = client.get_task(made.id, "FULL")
sleeps = client.create_task(TesTask(executors=[TesExecutor(image="busybox", command=["sleep", "60"])]))
while state_of(sleeps.id) != "RUNNING":
    time.sleep(0.05)
client.cancel_task(sleeps.id)
print(
    json.dumps(
        {
            "state": state,
            "stdout": full.logs[0].logs[1].stdout,
            "cancelled": ended(sleeps.id, 3),
            "listed": len(client.list_tasks().tasks) >= 2,
            "version": client.service_info().type.version,
        }
    )
)
