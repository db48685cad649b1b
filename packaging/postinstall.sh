#!/bin/sh
# After installing or upgrading. The recorder is started the first time, and restarted by an upgrade if it runs. Group and directory are what
# sysusers.d and tmpfiles.d say, made here too for hosts, chroots and images where systemd does not run.
set -e
systemd-sysusers conntape.conf 2>/dev/null || true
getent group conntape >/dev/null || groupadd --system conntape
mkdir -p /var/lib/conntape
chown root:conntape /var/lib/conntape
chmod 0750 /var/lib/conntape
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# deb: "configure" with the version before, if any; rpm: 1 to install, 2 to upgrade.
if { [ "$1" = configure ] && [ -z "$2" ]; } || [ "$1" = 1 ]; then
	systemctl enable --now conntape.service || true
else
	systemctl try-restart conntape.service || true
fi
