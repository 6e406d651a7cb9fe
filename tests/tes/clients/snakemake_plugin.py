"""Runs in .venv-clients: a job as Snakemake's TES plugin sends it, to the server at argv[1], in the folder argv[2].

The plugin builds and follows the task by its own code; only Snakemake around it is played, because its real job
script installs Snakemake from the network.
"""

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import tes
from snakemake_executor_plugin_tes import Executor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

url, folder = sys.argv[1:]
os.chdir(folder)
os.environ["GITHUB_WORKSPACE"] = folder  # the plugin reads a log there when a task fails


class Limiter:
    async def __aenter__(self):
        pass

    async def __aexit__(self, *error):
        pass


class Played(Executor):
    """The plugin with its surroundings played."""

    def __init__(self):
        self.workflow = SimpleNamespace(
            executor_settings=SimpleNamespace(url=url, token=None, user=None, password=None),
            remote_execution_settings=SimpleNamespace(container_image="busybox"),
        )
        self.logger = logging.getLogger("played")
        self.logger.setLevel(logging.ERROR)
        self.jobname = "count-{jobid}"
        self.said = []
        self.submitted = []
        self.__post_init__()

    snakefile = f"{folder}/Snakefile"
    status_rate_limiter = Limiter()

    def get_jobscript(self, job):
        return f"{folder}/jobscript.sh"

    def write_jobscript(self, job, jobscript):
        prefix = self.get_job_exec_prefix(job)
        script = f"#!/bin/sh\n{prefix} && mkdir -p results && wc -c < data/in.txt > results/out.txt\n"
        Path(jobscript).write_text(script)

    def report_job_submission(self, info):
        self.submitted.append(info)

    def report_job_success(self, info):
        self.said.append("success")

    def report_job_error(self, info):
        self.said.append("error")


class Job:
    input = ("data/in.txt",)
    output = ("results/out.txt",)
    log = ()
    benchmark = None
    message = "count the bytes"

    def __init__(self):
        self.resources = {"_cores": 1, "mem_mb": 500, "disk_mb": 100}

    def is_group(self):
        return False

    def format_wildcards(self, text):
        return text.format(jobid=1)


async def follow(executor: Executor, active: list[SubmittedJobInfo]) -> None:
    deadline = time.monotonic() + 30
    while active and time.monotonic() < deadline:
        active = [info async for info in executor.check_active_jobs(active)]
        await asyncio.sleep(0.1)


executor = Played()
executor.run_job(Job())
asyncio.run(follow(executor, executor.submitted))
task = tes.HTTPClient(url, user="None", password="None").get_task(executor.submitted[0].external_jobid, "FULL")
said = [log.stderr for attempt in task.logs for log in attempt.logs] + [attempt.system_logs for attempt in task.logs]
print(json.dumps({"said": executor.said, "state": task.state, "log": said}))
