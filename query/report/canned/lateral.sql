-- purpose: Connects to remote administration, databases and orchestration inside private ranges.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: endpoints WHERE port IN (SELECT number FROM port) AND address IN (SELECT address FROM private) | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: service | what the port is for
-- column: addresses | different addresses of that service
-- column: failed | of the connects: refused, timed out, unreachable, aborted, failed or denied
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: example | one of the addresses, and its port
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: A connect that a program of a cgroup sent elsewhere counts by what it asked for, unless the place that it went to counts itself.
-- note: Loopback is left out. Ports are those of the list below: copy the query to change it.
-- false-positives: Administrators, configuration management, backup, and applications with their own database. Look at who the user is and whether it is new.
-- example: conntape query lateral --since 1d
WITH
port(number, service) AS (
  VALUES (22, 'ssh'), (23, 'telnet'), (111, 'rpcbind'), (135, 'msrpc'), (139, 'smb'), (445, 'smb'), (389, 'ldap'), (636, 'ldap'),
    (873, 'rsync'), (1433, 'mssql'), (1521, 'oracle'), (2049, 'nfs'), (2181, 'zookeeper'), (2375, 'docker'), (2376, 'docker'),
    (2379, 'etcd'), (2380, 'etcd'), (3306, 'mysql'), (3389, 'rdp'), (4646, 'nomad'), (5432, 'postgresql'), (5900, 'vnc'),
    (5985, 'winrm'), (5986, 'winrm'), (6379, 'redis'), (6443, 'kubernetes'), (8200, 'vault'), (8500, 'consul'), (9042, 'cassandra'),
    (9092, 'kafka'), (9200, 'elasticsearch'), (10250, 'kubelet'), (10255, 'kubelet'), (11211, 'memcached'), (27017, 'mongodb')
),
private AS MATERIALIZED ( -- there are far fewer addresses than connects
  SELECT DISTINCT address
  FROM endpoints
  WHERE is_private(address) AND NOT cidr_match(address, '127.0.0.0/8') AND NOT cidr_match(address, '::1')
),
reached AS (
  SELECT *, remote_ip AS its_ip, remote_port AS its_port FROM connections
  WHERE remote_port IN (SELECT number FROM port) AND remote_address IN (SELECT address FROM private)
  UNION ALL
  SELECT *, ip_plain(requested_address) AS its_ip, requested_port AS its_port FROM connections
  WHERE requested_port IN (SELECT number FROM port) AND requested_address IN (SELECT address FROM private)
    AND NOT (remote_port IN (SELECT number FROM port) AND remote_address IN (SELECT address FROM private))
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  service,
  count(DISTINCT its_ip) AS addresses,
  sum(failed * count) AS failed,
  pid,
  user,
  container,
  min(its_ip || ' ' || its_port) AS example,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM reached
CROSS JOIN port ON port.number = its_port
WHERE (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container, service
ORDER BY addresses DESC, min(time_ns), service
