"""GA4GH Service Registry 1.0.0, and weft's own list of nodes: what the hub knows and the caller may know of them.

A site's services stand behind its firewall. The registry gives an address of the hub for each, which answers for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from weft.clock import Clock
from weft.config import Settings
from weft.errors import NotFound
from weft.federation.declaration import datasets_for, is_for
from weft.federation.proofs import BASE_PATH
from weft.http.request import Request
from weft.model import JsonObject
from weft.store import assignments, nodes
from weft.store.nodes import Node, Standing
from weft.store.store import Store

API_VERSION = "1.0.0"
#: Base path of a service of this hub, and what the service says of itself.
Own = tuple[str, Callable[[Request], JsonObject]]
_ARTIFACTS = ("tes", "wes")


class RegistryApi:
    """The registry's operations, and those of weft that show nodes."""

    def __init__(self, *, store: Store, settings: Settings, clock: Clock, own: tuple[Own, ...]) -> None:
        """Keep the collaborators."""
        self.store = store
        self.settings = settings
        self.clock = clock
        self.own = own

    # -- GA4GH -------------------------------------------------------------------------------------------------

    def get_services(self, request: Request) -> list[JsonObject]:
        """List the services that the caller may know of."""
        return list(self._services(request))

    def get_service_by_id(self, request: Request, serviceId: str) -> JsonObject:
        """Give one service.

        :raises NotFound: the caller knows none of this id.
        """
        for service in self._services(request):
            if service["id"] == serviceId:
                return service
        raise NotFound(f"there is no service {serviceId[:100]!r}", field="serviceId")

    def get_service_types(self, request: Request) -> list[JsonObject]:
        """List each type of service once."""
        types: list[JsonObject] = []
        for service in self._services(request):
            if service["type"] not in types:
                types.append(service["type"])
        return types

    def get_service_info(self) -> JsonObject:
        """Give the registry as a service."""
        settings = self.settings
        return {
            "id": f"{settings.service_id}.registry",
            "name": settings.service_name,
            "type": {"group": "org.ga4gh", "artifact": "service-registry", "version": API_VERSION},
            "description": "Lists the services of this hub and of the sites that joined it",
            "organization": {"name": settings.organization_name, "url": settings.organization_url},
            "version": version("weft"),
        }

    # -- nodes -------------------------------------------------------------------------------------------------

    def list_nodes(self, request: Request) -> JsonObject:
        """List the nodes that the caller may know of."""
        jobs = self.store.read(assignments.open_by_node)
        return {
            "nodes": [
                self._shown(node, sum(jobs.get(node.name, {}).values()), request) for node in self._nodes(request)
            ]
        }

    def get_node(self, request: Request, name: str) -> JsonObject:
        """Give one node.

        :raises NotFound: the caller knows none of this name.
        """
        jobs = self.store.read(assignments.open_by_node)
        node = self._node(request, name)
        return self._shown(node, sum(jobs.get(node.name, {}).values()), request)

    def get_node_service_info(self, request: Request, name: str, artifact: str) -> JsonObject:
        """Give what a node's service said of itself when it was last heard.

        :raises NotFound: the caller knows none such.
        """
        declared = self._node(request, name).declared.get(artifact) if artifact in _ARTIFACTS else None
        if not isinstance(declared, dict):
            raise NotFound(f"node {name[:40]!r} has no {artifact[:40]!r}", field="artifact")
        return declared

    # -- shared ------------------------------------------------------------------------------------------------

    def _services(self, request: Request) -> Iterator[JsonObject]:
        for path, info in self.own:
            yield {**info(request), "url": f"{request.base_url}{path}"}
        for node in self._nodes(request):
            for artifact in _ARTIFACTS:
                declared = node.declared.get(artifact)
                if isinstance(declared, dict):
                    yield {
                        **declared,
                        "id": f"{self.settings.service_id}.nodes.{node.name}.{artifact}",
                        "url": f"{request.base_url}{BASE_PATH}/nodes/{node.name}/{artifact}",
                        "node": node.name,
                        "health": self._health(node),
                        "updatedAt": _time(node.heard_at),
                    }

    def _nodes(self, request: Request) -> list[Node]:
        groups = request.principal.groups
        return [node for node in self.store.read(nodes.every) if is_for(node.declared, groups)]

    def _node(self, request: Request, name: str) -> Node:
        node = self.store.read(partial(nodes.get, name=name))
        if node is None or not is_for(node.declared, request.principal.groups):
            raise NotFound(f"there is no node {name[:40]!r}", field="name")
        return node

    def _health(self, node: Node) -> str:
        if node.standing is Standing.SUSPENDED:
            return "suspended"
        return "silent" if self.clock() - node.heard_at > self.settings.hub.silent_seconds else "active"

    def _shown(self, node: Node, jobs: int, request: Request) -> JsonObject:
        declared = node.declared
        return {
            "name": node.name,
            "health": self._health(node),
            "joined_at": _time(node.joined_at),
            "heard_at": _time(node.heard_at),
            "jobs": jobs,
            "load": node.load,
            "executor": declared.get("executor", {}),
            "datasets": datasets_for(declared, request.principal.groups),
            **{name: declared[name] for name in ("description", "jurisdiction", "images") if name in declared},
        }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
