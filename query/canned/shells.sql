-- purpose: Connects of shells and interpreters, and of what a web server or database has started.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: processes WHERE process_id IN (SELECT process_id FROM judged WHERE reason <> '') | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: reason | shell, interpreter, or child of a server
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port, or path
-- column: outcome | what became of them; name probe for a port-0 UDP probe
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: UNIX sockets are left out: shells connect to those of the system all the time.
-- false-positives: Scripts of administrators and services written in Python, Perl or PHP. A shell that connects by itself is rare, and so is a child of a web server.
-- example: conntape query shells --since 1d
WITH
name(pattern, reason) AS (
  VALUES ('sh', 'shell'), ('bash', 'shell'), ('dash', 'shell'), ('zsh', 'shell'), ('ksh*', 'shell'), ('mksh', 'shell'), ('ash', 'shell'),
    ('fish', 'shell'), ('tcsh', 'shell'), ('csh', 'shell'), ('busybox', 'shell'), ('pwsh', 'shell'),
    ('python*', 'interpreter'), ('perl*', 'interpreter'), ('ruby*', 'interpreter'), ('php*', 'interpreter'), ('node', 'interpreter'),
    ('nodejs', 'interpreter'), ('lua*', 'interpreter'), ('tclsh*', 'interpreter'), ('awk', 'interpreter'), ('gawk', 'interpreter'),
    ('mawk', 'interpreter'), ('socat', 'interpreter'), ('nc', 'interpreter'), ('nc.*', 'interpreter'), ('ncat', 'interpreter')
),
server(pattern) AS (
  VALUES ('nginx'), ('apache2'), ('httpd'), ('lighttpd'), ('caddy'), ('php-fpm*'), ('uwsgi'), ('gunicorn'), ('tomcat*'), ('java'),
    ('mysqld'), ('mariadbd'), ('postgres'), ('mongod'), ('redis-server'), ('sqlservr'), ('oracle*')
),
program AS (
  SELECT DISTINCT process_id, exe, ancestry,
    replace(exe, rtrim(exe, replace(exe, '/', '')), '') AS base -- what follows the last slash
  FROM processes
),
judged AS MATERIALIZED ( -- there are far fewer processes than connects
  SELECT process_id, exe, ancestry, concat_ws(', ',
    (SELECT reason FROM name WHERE base GLOB pattern),
    CASE WHEN NOT EXISTS (SELECT 1 FROM server WHERE base GLOB pattern)
      AND EXISTS (SELECT 1 FROM server WHERE ' > ' || ancestry GLOB '* > ' || pattern || '(*) > *')
      THEN 'child of a server' END) AS reason
  FROM program
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  reason,
  pid,
  user,
  container,
  CASE
    WHEN remote_port IS NULL THEN remote_address
    WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
    ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
  END AS remote,
  CASE WHEN type = 'dgram' AND remote_port IS 0 THEN 'name probe' ELSE outcome END AS outcome,
  connections.exe AS exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  connections.ancestry AS ancestry
FROM connections
CROSS JOIN judged USING (process_id)
WHERE reason <> ''
  AND judged.exe IS connections.exe AND judged.ancestry IS connections.ancestry
  AND family IN ('ipv4', 'ipv6')
  AND (:all OR family <> 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0))
GROUP BY process_id, user, container, remote, 9
ORDER BY min(time_ns), remote
