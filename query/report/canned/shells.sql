-- purpose: Connects of shells and interpreters, and of what a web server or database has started.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: processes WHERE process_id IN (SELECT process_id FROM judged WHERE reason <> '') | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: points | how unusual it is, the most unusual first
-- column: reason | what is unusual, and what it is: shell, interpreter, relay or service
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port, or path
-- column: outcome | what became of them; name probe for a port-0 UDP probe
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: UNIX sockets are left out: shells connect to those of the system all the time.
-- note: points: a relay such as nc 4, a shell 3, an interpreter 1; child of a server 4; code in the arguments 2; a script or program where anybody can write 3, a hidden one 2; first seen 2, the only one 1; a service of systemd, one that it has started itself, 2 less.
-- note: First seen: no earlier process on the tape ran that script or program below that parent program, and recording had gone on for an hour. The only one: no other process did, earlier or later. Both go by the whole tape, whatever the window.
-- false-positives: Scripts of administrators and services written in Python, Perl or PHP. A shell that connects by itself is rare, and so is a child of a web server.
-- example: conntape query shells --since 1d
WITH
name(pattern, reason, points) AS (
  VALUES ('sh', 'shell', 3), ('bash', 'shell', 3), ('dash', 'shell', 3), ('zsh', 'shell', 3), ('ksh*', 'shell', 3), ('mksh', 'shell', 3), ('ash', 'shell', 3),
    ('fish', 'shell', 3), ('tcsh', 'shell', 3), ('csh', 'shell', 3), ('busybox', 'shell', 3), ('pwsh', 'shell', 3),
    ('python*', 'interpreter', 1), ('perl*', 'interpreter', 1), ('ruby*', 'interpreter', 1), ('php*', 'interpreter', 1), ('node', 'interpreter', 1),
    ('nodejs', 'interpreter', 1), ('lua*', 'interpreter', 1), ('tclsh*', 'interpreter', 1), ('awk', 'interpreter', 1), ('gawk', 'interpreter', 1),
    ('mawk', 'interpreter', 1), ('socat', 'relay', 4), ('nc', 'relay', 4), ('nc.*', 'relay', 4), ('ncat', 'relay', 4)
),
server(pattern) AS (
  VALUES ('nginx'), ('apache2'), ('httpd'), ('lighttpd'), ('caddy'), ('php-fpm*'), ('uwsgi'), ('gunicorn'), ('tomcat*'), ('java'),
    ('mysqld'), ('mariadbd'), ('postgres'), ('mongod'), ('redis-server'), ('sqlservr'), ('oracle*')
),
program AS ( -- the clocks of two segments tell one moment some nanoseconds apart, and after the host's was set by far more
  SELECT DISTINCT process_id, parent_id, exe, ancestry, script, cmdline,
    min(coalesce(exec_time, start_time)) OVER (PARTITION BY process_id) AS began,
    replace(exe, rtrim(exe, replace(exe, '/', '')), '') AS base -- what follows the last slash
  FROM processes
),
told AS MATERIALIZED (
  SELECT process_id, parent_id, exe, ancestry, base, began, coalesce(script, exe) AS path, name.reason AS kind, coalesce(points, 0) AS points,
    NOT EXISTS (SELECT 1 FROM server WHERE base GLOB server.pattern)
      AND EXISTS (SELECT 1 FROM server WHERE ' > ' || ancestry GLOB '* > ' || server.pattern || '(*) > *') AS served,
    coalesce(' ' || cmdline || ' ' GLOB '* -[cer] *', 0) AS code,
    coalesce(ancestry GLOB 'systemd(1) > *' AND ancestry NOT GLOB '* > * > *', 0) AS service
  FROM program
  LEFT JOIN name ON base GLOB name.pattern
  WHERE kind IS NOT NULL OR served
),
kin AS MATERIALIZED ( -- processes of one program or script below one program
  SELECT told.process_id, told.path, parent.exe AS parent, told.began
  FROM told
  LEFT JOIN (SELECT process_id, max(exe) AS exe FROM program GROUP BY process_id) AS parent ON parent.process_id = told.parent_id
),
kind AS MATERIALIZED (
  SELECT path, parent, min(began) AS first, count(DISTINCT process_id) AS processes
  FROM kin
  GROUP BY path, parent
),
seen AS (
  SELECT told.*,
    coalesce(told.path GLOB '/tmp/*' OR told.path GLOB '/var/tmp/*' OR told.path GLOB '/dev/*' OR told.path GLOB '/run/user/*', 0) AS writable,
    coalesce(told.path GLOB '*/.*', 0) AS hidden,
    coalesce(told.began = kind.first AND kind.first > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', min(from_ns) / 1000000000 + 3600, 'unixepoch') FROM segments), 0) AS new,
    kind.processes = 1 AS alone
  FROM told
  JOIN kin USING (process_id)
  JOIN kind ON kind.path IS kin.path AND kind.parent IS kin.parent
),
judged AS MATERIALIZED ( -- there are far fewer processes than connects
  SELECT DISTINCT process_id, exe, ancestry, points + 4 * served + 2 * code + 3 * writable + 2 * hidden + 2 * new + alone - 2 * service AS points,
    concat_ws(', ', kind,
      CASE WHEN served THEN 'child of a server' END,
      CASE WHEN code THEN 'code in the arguments' END,
      CASE WHEN writable THEN 'where anybody can write' END,
      CASE WHEN hidden THEN 'hidden' END,
      CASE WHEN new THEN 'first seen' END,
      CASE WHEN alone THEN 'the only one' END,
      CASE WHEN service THEN 'service' END) AS reason
  FROM seen
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  points,
  reason,
  pid,
  user,
  container,
  remote,
  CASE WHEN probe THEN 'name probe' ELSE outcome END AS outcome,
  connections.exe AS exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  connections.ancestry AS ancestry
FROM connections
CROSS JOIN judged USING (process_id)
WHERE reason <> ''
  AND judged.exe IS connections.exe AND judged.ancestry IS connections.ancestry
  AND family IN ('ipv4', 'ipv6')
  AND (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container, remote, 10
ORDER BY points DESC, min(time_ns), remote
