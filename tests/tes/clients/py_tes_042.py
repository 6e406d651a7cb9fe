"""Runs in .venv-clients: py-tes 0.4.2 against the server at argv[1]; prints what it saw as JSON."""

import json
import sys
import time

import tes


def cancelled_state(task_id: str) -> str:
    """Wait for the end of a cancel; this client cannot read CANCELING, which came with TES 1.1."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return str(client.wait(task_id).state)
        except tes.utils.UnmarshalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


client = tes.HTTPClient(sys.argv[1], timeout=20)
hello = tes.Task(
    name="old client",
    executors=[tes.Executor(image="busybox", command=["echo", "hello"])],
    resources=tes.Resources(cpu_cores=1),
    tags={"from": "py-tes 0.4.2"},
)
task_id = client.create_task(hello)
done = client.wait(task_id)
full = client.get_task(task_id, "FULL")
waiting = client.create_task(tes.Task(executors=[tes.Executor(image="busybox", command=["sleep", "60"])]))
listed = [task.id for task in client.list_tasks(page_size=10).tasks]
client.cancel_task(waiting)
print(
    json.dumps(
        {
            "state": done.state,
            "stdout": full.logs[0].logs[0].stdout,
            "exit_code": full.logs[0].logs[0].exit_code,
            "listed": listed == [waiting, task_id],
            "cancelled": cancelled_state(waiting),
        }
    )
)
