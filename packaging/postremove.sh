#!/bin/sh
# After removing. The tape in /var/lib/conntape and the group stay: a package must not delete evidence.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
