"""Tie ``TesApi`` to its spec and its addresses."""

from __future__ import annotations

from tes_service.api import TesApi
from weft.http.api import Service, spec_path

#: Clients such as py-tes 0.4 and toil know only ``/v1``.
BASE_PATHS = ("/ga4gh/tes/v1", "/v1")


def service(api: TesApi) -> Service:
    """Return TES with weft's additions for ``weft.http.api.build_app``.

    The only API that engines may use with the token of their run.
    """
    return Service(
        name="TES",
        spec=spec_path("tes.yaml"),
        base_paths=BASE_PATHS,
        handler=api,
        additions=spec_path("tes-weft.yaml"),
        open_to_engines=True,
        scope="tes",
        express=("GetTask", "ListTasks", "CreateTask"),
    )
