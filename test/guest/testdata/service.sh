#!/bin/bash
# Runs in a guest with systemd, at each boot. It says what holds in lines "ok …" and "not ok …", and ends with "end of boot N".
boot=$(($(cat /var/boots 2>/dev/null || echo 0) + 1))
echo $boot >/var/boots
say() { echo "$*" >/dev/ttyS0; }
check() { # name, command
	local name=$1
	shift
	if "$@" >/tmp/out 2>&1; then say "ok $name"; else say "not ok $name: $(tail -c 600 /tmp/out | tr '\n' '~')"; fi
}
active() { for _ in $(seq 300); do systemctl is-active -q conntape && return; sleep 0.3; done; systemctl status --no-pager conntape; false; }
pid() { systemctl show -p MainPID --value conntape; }
ask() { conntape query -q sql --format csv "$1" | tail -n +2; }

# ticker connects again and again, to an address that is the connect's number. Bash does it without a process for each.
ticker() {
	local n=0
	until [ -e /run/enough ]; do
		n=$((n + 1))
		exec 3<>/dev/udp/127.9.$((n / 250 + 1)).$((n % 250 + 1))/4321 && exec 3>&-
		echo $n >/run/ticks
		sleep 0.01
	done
}
ticks() { cat /run/ticks; }
# counted wants each of the ticker's connects to be there once.
counted() {
	local want=$(($2 - $1 + 1)) got
	for _ in $(seq 60); do
		got=$(ask "SELECT sum(n) || ' in ' || count(*) FROM (SELECT remote_address, sum(count) AS n FROM connections WHERE remote_port = 4321 GROUP BY 1)")
		[ "$got" = "$want in $want" ] && say "# $got connects" && return
		sleep 0.5
	done
	echo "$got, want $want"
	ask "SELECT cause, lost, detail FROM gaps"
	journalctl -u conntape --no-pager -n 20
	false
}

case $boot in
1)
	check "the service starts when the package is installed" dpkg -i /root/conntape_0.1.0_amd64.deb
	check "it is active" active
	first=1
	ticker &
	sleep 2
	check "systemctl restart" systemctl restart conntape
	sleep 1
	old=$(pid)
	check "kill -9" kill -9 "$old"
	again() { for _ in $(seq 100); do [ "$(pid)" != 0 ] && [ "$(pid)" != "$old" ] && active && return; sleep 0.2; done; false; }
	check "it comes back" again
	check "upgrade" dpkg -i /root/conntape_0.1.1_amd64.deb
	check "it is active" active
	echo 'ring = "4MiB"' >>/etc/conntape.toml
	check "restart with programs of other settings" systemctl restart conntape
	check "downgrade" dpkg --force-confold -i /root/conntape_0.1.0_amd64.deb
	check "it is active" active
	sleep 1
	touch /run/enough
	wait %1
	check "every connect is on the tape once" counted $first "$(ticks)"
	args() { [ "$(ask "SELECT DISTINCT cmdline FROM connections WHERE remote_port = 4321")" = "/bin/bash $0" ]; }
	check "processes from before the start have arguments" args
	lost() { [ "$(ask "SELECT coalesce(sum(lost), 0) FROM gaps")" = 0 ]; }
	check "nothing is lost" lost
	member() { su member -s /bin/sh -c 'conntape query recent -q' | grep -q 127.9; }
	stranger() { ! su stranger -s /bin/sh -c 'conntape query recent -q'; }
	check "a member of the group reads the tape" member
	check "others do not" stranger
	check "the pins are root's alone" sh -c '[ "$(stat -c "%a %U" /sys/fs/bpf/conntape)" = "700 root" ]'
	check "the tape verifies" conntape verify -q
	ask "SELECT count(*) FROM connections" >/var/rows
	;;
2)
	check "it is active after a reboot" active
	more() { [ "$(ask "SELECT count(*) FROM connections")" -ge "$(cat /var/rows)" ]; }
	check "the tape goes on" more
	check "the package is removed" dpkg -r conntape
	check "the tape stays" sh -c 'ls /var/lib/conntape/*.db'
	check "nothing stays pinned" sh -c '! ls -d /sys/fs/bpf/conntape'
	;;
esac
say "end of boot $boot"
sync
systemctl --no-block reboot
