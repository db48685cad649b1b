#!/bin/sh
# After removing. The tape in /var/lib/conntape and the group stay: they are evidence, and no package's to throw away.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
