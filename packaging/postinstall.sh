#!/bin/sh
# After installing or upgrading. An installation starts the recorder, an upgrade restarts it if it runs. Group and directory are as in
# sysusers.d and tmpfiles.d; they are made here too, for hosts, chroots and images without a running systemd.
set -e
systemd-sysusers conntape.conf 2>/dev/null || true
getent group conntape >/dev/null || groupadd --system conntape
mkdir -p /var/lib/conntape
chown root:conntape /var/lib/conntape
chmod 0750 /var/lib/conntape
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# deb: "configure" with the old version, if any; rpm: 1 to install, 2 to upgrade.
if { [ "$1" = configure ] && [ -z "$2" ]; } || [ "$1" = 1 ]; then
	systemctl enable --now conntape.service || true
else
	systemctl try-restart conntape.service || true
fi
