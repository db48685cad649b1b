-- purpose: Connects to UNIX sockets that give power over the host: containers, systemd, D-Bus and others.
-- narrow: endpoints WHERE address IN (SELECT address FROM known) | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: power | what whoever is let in can do
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | path of the socket, a relative one after the directory that the program was started in
-- column: peer | program and pid of the daemon that a UNIX connect reached; NULL: another kind, or nobody knows
-- column: outcome | what became of them
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: A socket inside a container has the path that it has there; what it is depends on what is mounted.
-- false-positives: Almost everything on a desktop talks to D-Bus. docker, kubelet and their helpers talk to their own sockets. The user and the container tell.
-- example: conntape query sockets --since 1d
WITH socket(pattern, power) AS (
  VALUES ('*/docker.sock', 'root through Docker'), ('*/containerd.sock*', 'root through containerd'), ('*/crio.sock', 'root through CRI-O'),
    ('*/podman.sock', 'containers through Podman'), ('*/dockershim.sock', 'root through kubelet'), ('*/cri-dockerd.sock', 'root through kubelet'),
    ('*/lxd/unix.socket', 'root through LXD'), ('*/incus/unix.socket', 'root through Incus'), ('*/libvirt-sock', 'machines through libvirt'),
    ('*/snapd.socket', 'packages through snapd'), ('*/systemd/private', 'units through systemd'), ('*/dbus/system_bus_socket', 'services through D-Bus'),
    ('*/kubelet.sock', 'devices through kubelet'), ('*/fail2ban.sock', 'bans through fail2ban'), ('*/mysqld.sock', 'data through MySQL'),
    ('*/.s.PGSQL.*', 'data through PostgreSQL'), ('*/gpg-agent*', 'keys through gpg-agent'), ('*/ssh-*/agent.*', 'keys through ssh-agent')
),
known AS MATERIALIZED ( -- there are far fewer paths than connects
  SELECT DISTINCT address
  FROM endpoints
  WHERE family = 'unix' AND (address NOT GLOB '[/@]*' OR EXISTS (SELECT 1 FROM socket WHERE address GLOB pattern))
),
reached AS ( -- a relative path may be any until it is resolved
  SELECT *, CASE WHEN remote_address GLOB '[/@]*' THEN remote_address ELSE rtrim(coalesce(cwd, ''), '/') || '/' || remote_address END AS path
  FROM connections
  WHERE remote_address IN (SELECT address FROM known) AND family = 'unix'
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  power,
  pid,
  user,
  container,
  path AS remote,
  coalesce(peer_exe || '(' || peer_pid || ')', 'pid ' || peer_pid) AS peer,
  outcome,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM reached
JOIN socket ON path GLOB pattern
GROUP BY process_id, user, container, path, peer, outcome, power
ORDER BY min(time_ns), remote, peer
