"""Tie the handlers of the hub to their specs and addresses."""

from __future__ import annotations

from typing import Any

from weft.federation.hub import NodesApi
from weft.federation.proofs import BASE_PATH
from weft.federation.registry import RegistryApi
from weft.http.api import Service, spec_path

REGISTRY = "/ga4gh/registry/v1"
#: On the event loop: a claim waits there without a thread.
EXPRESS = ("ClaimJobs", "ReportJobs")


class Handlers:
    """The operations of ``openapi/nodes.yaml``: the protocol and what is shown of the nodes."""

    def __init__(self, api: NodesApi, registry: RegistryApi) -> None:
        """Keep who answers."""
        self._parts = (api, registry)

    def __getattr__(self, name: str) -> Any:
        """Return the operation of the part that has it."""
        for part in self._parts:
            if hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(name)


def services(api: NodesApi, registry: RegistryApi) -> tuple[Service, Service]:
    """Return the nodes' protocol and the registry for ``weft.http.api.build_app``."""
    handlers = Handlers(api, registry)
    nodes = spec_path("nodes.yaml")
    return (
        Service(
            name="nodes",
            spec=nodes,
            base_paths=(BASE_PATH,),
            handler=handlers,
            own_login=("/nodes",),
            express=EXPRESS,
            ui=False,
            close=api.switchboard.close,
        ),
        Service(name="registry", spec=spec_path("registry.yaml"), base_paths=(REGISTRY,), handler=registry),
    )
