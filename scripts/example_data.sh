#!/usr/bin/env bash
# Put the lambda-phage genome and reads of Debian's package bowtie2-examples into DIR/data.
# Where the package is not installed (or documentation is left out, as in slim images), it is fetched and unpacked
# beside this checkout, which needs no root.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${1:?a folder}")/data
source=/usr/share/doc/bowtie2/examples
cache=$PWD/.run/bowtie2-examples

if [ ! -e $source/reads/reads_1.fq.gz ]; then
    if [ ! -e "$cache/$source/reads/reads_1.fq.gz" ]; then
        mkdir -p "$cache/partial"
        (cd "$cache/partial" && apt-get download -qq bowtie2-examples && dpkg-deb -x bowtie2-examples_*.deb "$cache")
        rm -rf "$cache/partial"
    fi
    source=$cache/$source
fi
mkdir -p "$target"
cp $source/reference/lambda_virus.fa.gz $source/reads/{reads_1,reads_2,longreads}.fq.gz "$target"
