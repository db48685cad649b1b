#!/bin/sh
# Before removing. The recorder is stopped unless this is an upgrade.
set -e
[ -d /run/systemd/system ] || exit 0
case "$1" in
	remove | 0)
		systemctl disable --now conntape.service conntape-metrics.service || true
		conntape unpin || true
		;;
esac
