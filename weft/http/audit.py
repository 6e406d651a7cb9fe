"""``GET /weft/v1/audit``: the record, for an auditor."""

from __future__ import annotations

from weft.audit import export
from weft.authority import Authority
from weft.errors import NotFound
from weft.http.api import Service, spec_path
from weft.http.request import Request
from weft.model import JsonObject

BASE = "/weft/v1"


class AuditApi:
    """The operation of ``openapi/audit.yaml``."""

    def __init__(self, authority: Authority) -> None:
        """Keep who knows the auditors and the record."""
        self.authority = authority

    def list_entries(self, request: Request, after: int = 0, page_size: int = 100) -> JsonObject:
        """Give a page of entries, oldest first, and record that it was read.

        :raises Forbidden: the caller is no auditor.
        :raises NotFound: nothing is recorded here.
        """
        self.authority.check_auditor(request.principal)
        journal = self.authority.journal
        if journal is None:
            raise NotFound("this weft keeps no audit record", remedy="set audit = true")
        self.authority.record(self.authority.act("audit.read", request.principal, request.id, object=f"after {after}"))
        rows = journal.table.after(after, page_size)
        page: JsonObject = {"entries": [export.document(row) for row in rows]}
        if len(rows) == page_size:
            page["next_after"] = rows[-1].seq
        return page


def service(authority: Authority) -> Service:
    """Return the service for ``weft.http.api.build_app``."""
    return Service(
        name="audit", spec=spec_path("audit.yaml"), base_paths=(BASE,), handler=AuditApi(authority), ui=False
    )
