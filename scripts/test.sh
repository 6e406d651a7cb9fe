#!/usr/bin/env bash
# Run every check and every test; the last line is pytest's summary. Nothing is started for the whole machine: the
# tests start a Docker Engine of their own, and stop it.
set -uo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh \
    bwrap=bubblewrap bowtie2=bowtie2 samtools=samtools bcftools=bcftools \
    mvn=maven java=default-jre-headless \
    /usr/share/doc/bowtie2/examples/reads/reads_1.fq.gz=bowtie2-examples \
    munged=munge slurmctld=slurmctld slurmd=slurmd sbatch=slurm-client \
    pg_createcluster=postgresql dockerd=docker.io iptables=iptables ip=iproute2 unshare=util-linux dpkg-deb=dpkg \
    curl=curl openssl=openssl || exit 1

# What a user has set for weft must not change what is tested.
for name in $(compgen -e | grep '^WEFT_' || true); do unset "$name"; done

scripts/check.sh
checks=$?
[ $checks = 0 ] || echo "The checks failed; the tests run all the same." >&2

.venv/bin/python -m pytest -n 2 --dist loadfile "$@"
tests=$?

[ $checks = 0 ] || { echo "make check: FAILED" >&2; exit 1; }
exit $tests
