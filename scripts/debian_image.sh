#!/usr/bin/env bash
# Write a container image's file system made of Debian packages to OUT.tar, without a registry, without root and
# without running the packages' scripts: good for command line tools, not for services.
#
#   scripts/debian_image.sh OUT.tar PACKAGE…
set -euo pipefail
out=$(realpath -m "$1")
shift
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
mkdir -p "$here/root" "$here/debs/partial"
: >"$here/status" # nothing counts as installed, so the closure does not depend on this machine

apt-get -qq -y --no-install-recommends --download-only \
    -o Dir::State::status="$here/status" -o Dir::Cache::archives="$here/debs" \
    -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 \
    install base-passwd base-files bash coreutils "$@" >&2

mkdir -p "$here"/root/usr/{bin,sbin,lib,lib64}
for name in bin sbin lib lib64; do ln -s usr/$name "$here/root/$name"; done
for package in "$here"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$here/root" -x --keep-directory-symlink --no-same-owner \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*'
done
cp "$here/root/usr/share/base-passwd/passwd.master" "$here/root/etc/passwd"
cp "$here/root/usr/share/base-passwd/group.master" "$here/root/etc/group"
[ -e "$here/root/usr/bin/sh" ] || ln -s bash "$here/root/usr/bin/sh"
[ -e "$here/root/usr/bin/awk" ] || [ ! -e "$here/root/usr/bin/mawk" ] || ln -s mawk "$here/root/usr/bin/awk"
/sbin/ldconfig -r "$here/root" 2>/dev/null || true
tar -C "$here/root" --owner=0 --group=0 -cf "$out" .
