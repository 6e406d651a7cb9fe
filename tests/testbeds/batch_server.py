"""An AWS Batch API on loopback that really runs multi-container jobs: moto's server, with ``ecsProperties`` added.

    DOCKER_HOST=unix://... python batch_server.py PORT

It is an emulator. Of ECS it has what a job definition of weft uses: containers in the order of their ``dependsOn``
(START, COMPLETE, SUCCESS), one essential container, volumes shared by the containers of a task, limits of memory and
cores, user, read-only root, exit codes and reasons by container, one log stream a container, credentials of the task's
role at an address that only the containers are told. It has no scheduling: what is submitted starts.

The containers have the network of the Docker Engine's own namespace; the server listens there too, on the same port.

Beside the services' API: ``POST /testbed/faults`` ``[{"operation", "kind": "500" | "throttle" | "lose", "times"}]``,
``GET /testbed/calls``, ``POST /testbed/hold`` ``{"status": "RUNNABLE", "reason": …}`` (null: let go), and
``POST /testbed/reclaim`` ``{"jobId"}``, which takes a job's host away.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import docker
from docker.errors import APIError, ImageNotFound, NotFound
from moto.batch import models
from moto.batch.responses import BatchResponse
from moto.server import DomainDispatcherApplication, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

LOCAL = threading.local()
ENDED = ("SUCCEEDED", "FAILED")
PORT = 0


class Controls:
    """What a test may do to the service."""

    lock = threading.Lock()
    faults: ClassVar[list[dict[str, Any]]] = []
    calls: ClassVar[Counter[str]] = Counter()
    hold: ClassVar[dict[str, Any]] = {}
    roles: ClassVar[dict[str, str]] = {}


class EcsTask:
    """The containers of one job."""

    def __init__(self, job: models.Job) -> None:
        self.job = job
        (self.properties,) = job.job_definition.ecs["taskProperties"]
        self.containers = [dict(one) for one in self.properties["containers"]]
        self._override()
        self.news = threading.Condition()
        self.running: dict[str, Any] = {}
        self.ended: dict[str, int | None] = {}
        self.status = "SUBMITTED"
        self.reason: str | None = None
        self.stop_reason: str | None = None
        self.stopping = False
        self.reclaimed = False
        self.id = uuid.uuid4().hex
        self.api = docker.from_env()
        self.volumes = {
            one["name"]: f"weft-batch-{self.id}-{one['name']}" for one in self.properties.get("volumes", ())
        }

    def _override(self) -> None:
        for task in (self.job.ecs_override or {}).get("taskProperties", ()):
            for change in task.get("containers", ()):
                mine = next(one for one in self.containers if one["name"] == change["name"])
                mine["environment"] = [*mine.get("environment", ()), *change.get("environment", ())]

    # -- life --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.status = "RUNNABLE"
        while Controls.hold and not self.stopping:
            self.status, self.reason = Controls.hold["status"], Controls.hold.get("reason")
            time.sleep(0.02)
        self.reason = None
        if self.stopping:
            self._end("FAILED", self.stop_reason)
            return
        self.status = "STARTING"
        for one in self.containers:
            try:
                self.api.images.get(one["image"])
            except ImageNotFound:
                one["reason"] = (
                    f"CannotPullContainerError: pull image manifest has been retried: {one['image']}: not found"
                )
                self._end("FAILED", "Task failed to start")
                return
        self.status, self.job.job_started_at = "RUNNING", models.datetime.now()
        limit = (self.job.timeout or {}).get("attemptDurationSeconds")
        threads = [threading.Thread(target=self._container, args=(one,), daemon=True) for one in self.containers]
        if limit is not None:
            threading.Timer(limit, self._time_out).start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._clean()
        essential = [self.ended.get(one["name"]) for one in self.containers if one.get("essential", True)]
        if self.stopping:
            self._end("FAILED", self.stop_reason)
        elif all(code == 0 for code in essential):
            self._end("SUCCEEDED", "Essential container in task exited")
        else:
            self._end("FAILED", "Essential container in task exited")

    def _end(self, status: str, reason: str | None) -> None:
        self.reason, self.job.job_stopped_at = reason, models.datetime.now()
        self.job.job_stopped = True
        self.status = status

    def _time_out(self) -> None:
        if self.status not in ENDED:
            self.stop("Job attempt duration exceeded timeout")

    def stop(self, reason: str) -> None:
        with self.news:
            if self.status in ENDED or self.stopping:
                return
            self.stopping, self.stop_reason = True, reason
            self.news.notify_all()
            running = list(self.running.items())
        for name, container in running:
            one = next(one for one in self.containers if one["name"] == name)
            seconds = one.get("stopTimeout", 30)
            threading.Thread(target=self._stop_container, args=(container, seconds), daemon=True).start()

    def _stop_container(self, container: Any, seconds: int) -> None:
        with suppress(APIError):
            container.kill() if self.reclaimed else container.stop(timeout=seconds)

    def _clean(self) -> None:
        for name in self.volumes.values():
            with suppress(NotFound, APIError):
                self.api.volumes.get(name).remove(force=True)

    # -- one container -----------------------------------------------------------------------------------------

    def _container(self, one: dict[str, Any]) -> None:
        name = one["name"]
        try:
            if self._wait_for_turn(one):
                self._run_container(one)
        except (APIError, NotFound) as error:
            one["reason"] = f"CannotStartContainerError: {error.explanation or error}"[:250]
        finally:
            with self.news:
                self.ended.setdefault(name, None)
                self.running.pop(name, None)
                self.news.notify_all()
            if one.get("essential", True) and not self.stopping:
                self._stop_others()

    def _stop_others(self) -> None:
        with self.news:
            running = list(self.running.values())
            self.ended.update(
                {one["name"]: None for one in self.containers if one["name"] not in self.ended | self.running}
            )
            self.news.notify_all()
        for container in running:
            self._stop_container(container, 2)

    def _wait_for_turn(self, one: dict[str, Any]) -> bool:
        with self.news:
            for dependency in one.get("dependsOn", ()):
                other, condition = dependency["containerName"], dependency["condition"]
                self.news.wait_for(
                    lambda other=other, condition=condition: (
                        self.stopping or other in self.ended or (condition == "START" and other in self.running)
                    )
                )
                if condition == "SUCCESS" and self.ended.get(other) != 0:
                    one["reason"] = f"dependency {other} did not end well"
                    return False
        return not self.stopping

    def _run_container(self, one: dict[str, Any]) -> None:
        name = one["name"]
        container = self.api.containers.create(**self._arguments(one))
        try:
            with self.news:
                if self.stopping:
                    return
                container.start()
                self.running[name] = container
                self.news.notify_all()
            logs = self._follow(one, container)
            code = container.wait()["StatusCode"]
            logs.join(10)
            container.reload()
            if container.attrs["State"].get("OOMKilled"):
                one["reason"] = "OutOfMemoryError: Container killed due to memory usage"
            one["exitCode"] = self.ended[name] = code
        finally:
            with suppress(APIError, NotFound):
                container.remove(force=True)

    def _arguments(self, one: dict[str, Any]) -> dict[str, Any]:
        needs = {item["type"]: float(item["value"]) for item in one["resourceRequirements"]}
        environment = {item["name"]: item["value"] for item in one.get("environment", ())}
        environment |= {"AWS_BATCH_JOB_ID": self.job.job_id, "AWS_BATCH_JOB_ATTEMPT": "1"}
        if self.properties.get("taskRoleArn"):
            Controls.roles[self.id] = self.properties["taskRoleArn"]
            environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://127.0.0.1:{PORT}/testbed/role/{self.id}"
        return {
            "image": one["image"],
            "command": one.get("command"),
            "environment": environment,
            "name": f"weft-batch-{self.id}-{one['name']}",
            "labels": {"weft-batch-job": self.job.job_id, "weft-batch-container": one["name"]},
            "mounts": [
                docker.types.Mount(
                    point["containerPath"],
                    self.volumes[point["sourceVolume"]],
                    type="volume",
                    read_only=point.get("readOnly", False),
                )
                for point in one.get("mountPoints", ())
            ],
            "mem_limit": f"{int(needs['MEMORY'])}m",
            "memswap_limit": f"{int(needs['MEMORY'])}m",
            "cpu_shares": max(2, int(needs["VCPU"] * 1024)),
            "user": one.get("user"),
            "read_only": one.get("readonlyRootFilesystem", False),
            "privileged": one.get("privileged", False),
            "init": one.get("linuxParameters", {}).get("initProcessEnabled", False),
            "network_mode": "host",
            "detach": True,
        }

    def _follow(self, one: dict[str, Any], container: Any) -> threading.Thread:
        options = one["logConfiguration"]["options"]
        stream = f"{options['awslogs-stream-prefix']}/{one['name']}/{self.id}"
        backend = self.job._log_backend
        backend.ensure_log_group(options["awslogs-group"])
        backend.ensure_log_stream(options["awslogs-group"], stream)
        one["logStreamName"] = stream

        def copy() -> None:
            rest = b""
            with suppress(APIError, NotFound):
                for piece in container.logs(stream=True, follow=True):
                    *lines, rest = (rest + piece).split(b"\n")
                    events = [
                        {"timestamp": int(time.time() * 1000), "message": line.decode("utf-8", "replace")}
                        for line in lines
                    ]
                    if events:
                        backend.put_log_events(options["awslogs-group"], stream, events)

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        return thread

    # -- what is said ------------------------------------------------------------------------------------------

    def describe(self, short: bool) -> dict[str, Any]:
        job = self.job
        found: dict[str, Any] = {
            "jobId": job.job_id,
            "jobArn": job.arn,
            "jobName": job.job_name,
            "createdAt": models.datetime2int_milliseconds(job.job_created_at),
            "status": self.status,
            "jobDefinition": job.job_definition.arn,
        }
        if self.reason is not None:
            found["statusReason"] = self.reason
        if self.status in ("RUNNING", *ENDED) and job.job_started_at.year > 1970:
            found["startedAt"] = models.datetime2int_milliseconds(job.job_started_at)
        if self.status in ENDED:
            found["stoppedAt"] = models.datetime2int_milliseconds(job.job_stopped_at)
        if short:
            return found
        details = {**self.properties, "containers": self.containers, "taskArn": f"arn:aws:ecs:task/{self.id}"}
        return found | {
            "jobQueue": job.job_queue.arn,
            "isTerminated": self.stopping and not self.reclaimed,
            "ecsProperties": {"taskProperties": [details]},
            "tags": job.backend.list_tags_for_resource(job.arn),
            "attempts": [],
        }


# -- moto's classes, with ecsProperties ------------------------------------------------------------------------


def with_ecs(method: Callable[[BatchResponse], str], *names: str) -> Callable[[BatchResponse], str]:
    def call(self: BatchResponse) -> str:
        for name in names:
            setattr(LOCAL, name, self._get_param(name))
        try:
            return method(self)
        finally:
            for name in names:
                setattr(LOCAL, name, None)

    return call


def patch() -> None:
    BatchResponse.registerjobdefinition = with_ecs(BatchResponse.registerjobdefinition, "ecsProperties")
    BatchResponse.submitjob = with_ecs(BatchResponse.submitjob, "ecsPropertiesOverride")

    made, validate, told = models.JobDefinition.__init__, models.JobDefinition._validate, models.JobDefinition.describe

    def definition_init(self: Any, *args: Any, **kwargs: Any) -> None:
        self.ecs = getattr(LOCAL, "ecsProperties", None)
        made(self, *args, **kwargs)

    def definition_validate(self: Any) -> None:
        if self.ecs is None:
            validate(self)

    def definition_describe(self: Any) -> dict[str, Any]:
        return told(self) | ({} if self.ecs is None else {"ecsProperties": self.ecs})

    models.JobDefinition.__init__ = definition_init
    models.JobDefinition._validate = definition_validate
    models.JobDefinition.describe = definition_describe

    begun, run, status = models.Job.__init__, models.Job.run, models.ManagedState.status
    describe, short, terminate = models.Job.describe, models.Job.describe_short, models.Job.terminate

    def job_init(self: Any, *args: Any, **kwargs: Any) -> None:
        self.ecs_override, self.ecs_task = getattr(LOCAL, "ecsPropertiesOverride", None), None
        begun(self, *args, **kwargs)
        if self.job_definition.ecs is not None:
            self.ecs_task = EcsTask(self)

    def job_status(self: Any) -> Any:
        return status.fget(self) if self.ecs_task is None else self.ecs_task.status

    models.Job.__init__ = job_init
    models.Job.run = lambda self: run(self) if self.ecs_task is None else self.ecs_task.run()
    models.Job.status = property(job_status, status.fset)
    models.Job.describe = lambda self: describe(self) if self.ecs_task is None else self.ecs_task.describe(False)
    models.Job.describe_short = lambda self: short(self) if self.ecs_task is None else self.ecs_task.describe(True)
    models.Job.terminate = lambda self, reason: (
        terminate(self, reason) if self.ecs_task is None else self.ecs_task.stop(reason)
    )


# -- the server ------------------------------------------------------------------------------------------------


class Door:
    """Counts calls, applies faults, answers the test's own questions; the rest is moto's."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/testbed/"):
            return self.testbed(path.removeprefix("/testbed/"), environ, start)
        operation = path.removeprefix("/v1/").lower() if path.startswith("/v1/") else ""
        kind = self.fault(operation)
        if kind == "throttle":
            return self.say(start, {"message": "slow down"}, "429 Too Many", "TooManyRequestsException")
        if kind == "500":
            return self.say(start, {"message": "failed"}, "500 Failed", "ServerException")
        answer = self.moto(environ, start)
        if kind == "lose":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer

    def fault(self, operation: str) -> str | None:
        with Controls.lock:
            if operation:
                Controls.calls[operation] += 1
            for fault in Controls.faults:
                if fault["operation"].lower() == operation and fault["times"] > 0:
                    fault["times"] -= 1
                    return str(fault["kind"])
        return None

    def testbed(self, path: str, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(size)) if size else None
        if path.startswith("role/"):
            return self.say(start, credentials(Controls.roles[path.removeprefix("role/")]))
        if path == "faults":
            Controls.faults[:] = body
        elif path == "hold":
            Controls.hold = body or {}
        elif path == "reclaim":
            job = next(job for backend in backends() if (job := backend._jobs.get(body["jobId"])))
            job.ecs_task.reclaimed = True
            job.ecs_task.stop("Host EC2 (instance i-0123456789abcdef0) terminated.")
        return self.say(start, dict(Controls.calls))

    def say(self, start: Any, body: Any, status: str = "200 OK", error: str | None = None) -> Iterable[bytes]:
        headers = [("Content-Type", "application/json")] + ([("x-amzn-ErrorType", error)] if error else [])
        start(status, headers)
        return [json.dumps(body).encode()]


def backends() -> Iterable[models.BatchBackend]:
    return [backend for account in models.batch_backends.values() for backend in account.values()]


def credentials(role: str) -> dict[str, str]:
    account = role.split(":")[4]
    assumed = sts_backends[account]["aws"].assume_role("us-east-1", "job", role, "", 3600, "")
    return {
        "AccessKeyId": assumed.access_key_id,
        "SecretAccessKey": assumed.secret_access_key,
        "Token": assumed.session_token,
        "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600)),
    }


def engine_namespace() -> str | None:
    """Find the network namespace of the Docker Engine by who listens on its socket."""
    path = os.environ["DOCKER_HOST"].removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    theirs = Path(f"/proc/{pid}/ns/net")
    return None if theirs.readlink() == Path("/proc/self/ns/net").readlink() else str(theirs)


def listen_in(namespace: str, port: int) -> socket.socket:
    """Make a socket in another namespace; a thread goes there and ends."""
    made: list[socket.socket] = []

    def go() -> None:
        handle = os.open(namespace, os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(handle, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(handle)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        made.append(listener)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    return made[0]


def main() -> None:
    global PORT
    PORT = int(sys.argv[1])
    os.environ["MOTO_PORT"] = str(PORT)
    patch()
    door = Door()
    servers = [make_server("127.0.0.1", PORT, door, threaded=True)]
    namespace = engine_namespace()
    if namespace is not None:
        listener = listen_in(namespace, PORT)
        servers.append(make_server("127.0.0.1", PORT, door, threaded=True, fd=listener.fileno()))
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
