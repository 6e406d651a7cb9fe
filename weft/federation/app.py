"""Tie the handlers of the hub to their specs and addresses."""

from __future__ import annotations

from weft.federation.hub import NodesApi
from weft.federation.proofs import BASE_PATH
from weft.http.api import Service, spec_path

#: On the event loop: a claim waits there without a thread.
EXPRESS = ("ClaimJobs", "ReportJobs")


def service(api: NodesApi) -> Service:
    """Return the nodes' protocol for ``weft.http.api.build_app``."""
    return Service(
        name="nodes",
        spec=spec_path("nodes.yaml"),
        base_paths=(BASE_PATH,),
        handler=api,
        own_login=("/nodes",),
        express=EXPRESS,
    )
