"""Send generated requests to the live TES (schemathesis): no answer may be a 5xx or break the document's schemas.

``python -m tests.tes.fuzz EXAMPLES`` starts a server of its own; ``make schemathesis`` calls it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.live import LiveWeft

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("schemathesis")
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance"


def fuzz(server: LiveWeft, folder: Path, examples: int, *, seed: int | None = None) -> subprocess.CompletedProcess[str]:
    """Send about 9 requests for each of ``examples``; what schemathesis keeps, it keeps in ``folder``."""
    argv = [PROGRAM, "run", ROOT / "openapi" / "tes.yaml", "--url", server.tes, "--checks", CHECKS, "--no-color"]
    argv += ["--mode", "all", "--max-examples", str(examples)]
    argv += [] if seed is None else ["--seed", str(seed)]
    return subprocess.run(argv, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def main() -> int:
    """Run it long."""
    with tempfile.TemporaryDirectory(prefix="weft-fuzz-") as name:
        folder = Path(name)
        server = LiveWeft(folder / "data", flags=("--executor", "process"), env={"WEFT_MAX_RUNNING": "4"})
        server.start()
        try:
            done = fuzz(server, folder, int(sys.argv[1]))
            sys.stdout.write(done.stdout)
            return done.returncode
        finally:
            server.stop()


if __name__ == "__main__":
    raise SystemExit(main())
