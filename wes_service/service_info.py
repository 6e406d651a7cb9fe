"""What WES says of itself: only what is really there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from weft.config import Settings
from weft.model import JsonObject
from weft.ports import Engine
from weft.states import State
from wes_service import matching, translate

WES_VERSIONS = ("1.0.0", "1.0.1", "1.1.0")


def document(
    settings: Settings,
    engines: Sequence[Engine],
    schemes: Collection[str],
    counts: Mapping[State, int],
    *,
    version: str,
) -> JsonObject:
    """Give ``ServiceInfo``.

    :param schemes: of the URLs that weft can stage; "" (a bare path) is not listed.
    :param counts: runs by state.
    """
    types = matching.accepted_types(engines)
    return {
        "id": f"{settings.service_id}.wes",
        "name": settings.service_name,
        "type": {"group": "org.ga4gh", "artifact": "wes", "version": "1.1.0"},
        "description": "weft runs workflows whose every step is a TES task of the same server",
        "organization": {"name": settings.organization_name, "url": settings.organization_url},
        "contactUrl": settings.organization_url,
        "documentationUrl": settings.organization_url,
        "version": version,
        "workflow_type_versions": {name: {"workflow_type_version": accepted} for name, accepted in types.items()},
        "supported_wes_versions": list(WES_VERSIONS),
        "supported_filesystem_protocols": sorted(scheme for scheme in schemes if scheme),
        "workflow_engine_versions": {
            engine.info.name: {"workflow_engine_version": [engine.info.version]} for engine in engines
        },
        "default_workflow_engine_parameters": [
            {"name": parameter.name, "type": parameter.type, "default_value": parameter.default_value}
            for engine in engines
            for parameter in engine.info.parameters
        ],
        "system_state_counts": translate.service_counts(counts),
        "auth_instructions_url": settings.organization_url,
        "tags": {},
    }
