"""What TES's ``GET /service-info`` answers: true, complete, and without members that clients do not know."""

from __future__ import annotations

from collections.abc import Collection

from weft.config import Settings
from weft.model import JsonObject

API_VERSION = "1.1.0"


def document(
    settings: Settings, *, schemes: Collection[str], backend_parameters: Collection[str], version: str
) -> JsonObject:
    """Give ``tesServiceInfo``.

    :param schemes: URL schemes that can be staged; ``file`` is shown by the folders that are open, not as a scheme.
    """
    roots = [f"file://{root.absolute()}" for root in settings.file_roots]
    return {
        "id": f"{settings.service_id}.tes",
        "name": settings.service_name,
        "type": {"group": "org.ga4gh", "artifact": "tes", "version": API_VERSION},
        "description": "Runs tasks: lists of commands in containers that share files",
        "organization": {"name": settings.organization_name, "url": settings.organization_url},
        "version": version,
        "storage": [*roots, *(f"{scheme}://" for scheme in sorted(schemes) if scheme not in ("file", ""))],
        "tesResources_backend_parameters": list(backend_parameters),
    }
