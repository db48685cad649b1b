-- purpose: Scans: one process that connects to many addresses, or to many ports of one, in a short time.
-- param: seconds integer = 60 | length of the time in seconds
-- param: addresses integer = 20 | number of addresses in that time that makes a scan
-- param: ports integer = 15 | number of ports of one address in that time that makes a scan
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: time | when its busiest time began
-- column: addresses | addresses that it connected to in it
-- column: ports | ports of the address of which it tried most
-- column: n | connects in it
-- column: failed | of them: refused, timed out, unreachable, aborted, failed or denied
-- column: percent | of its connects that failed
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: example | one of the destinations
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: Times overlap by half, so that a scan is not cut in two. A process has one row, for the time in which it made most connects.
-- note: A connect that a program of a cgroup sent elsewhere counts for the address that it went to, not for the one that it asked for; see requested in conntape query who.
-- false-positives: Crawlers, mail servers, name servers that ask others, monitoring, service discovery, and browsers with a small --addresses.
-- example: conntape query fanout --since 1d
-- example: conntape query fanout --seconds 10 --addresses 100
WITH
attempt AS (
  SELECT (time_ns / 500000000 / max(:seconds, 1)) - half.behind AS slot, connections.*
  FROM connections, (SELECT 0 AS behind UNION ALL SELECT 1) AS half
  WHERE family IN ('ipv4', 'ipv6')
    AND (:all OR NOT probe AND family IS NOT 'unspec')
),
by_address AS (
  SELECT slot, process_id, count(DISTINCT remote_port) AS ports, sum(count) AS n, min(time_ns) AS first_ns, time,
    sum(failed * count) AS failed,
    pid, user, container, exe, coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline, ancestry,
    remote
  FROM attempt
  GROUP BY slot, process_id, coalesce(remote_ip, remote_address)
),
by_slot AS (
  SELECT slot, process_id, min(time) AS time, count(*) AS addresses, max(ports) AS ports, sum(n) AS n, sum(failed) AS failed,
    pid, user, container, exe, cmdline, ancestry, remote
  FROM by_address
  GROUP BY slot, process_id
  HAVING count(*) >= :addresses OR max(ports) >= :ports
),
ranked AS (
  SELECT *, row_number() OVER (PARTITION BY process_id ORDER BY n DESC, slot) AS rank
  FROM by_slot
)
SELECT time, addresses, ports, n, failed, round(100.0 * failed / n, 1) AS percent, pid, user, container, remote AS example, exe, cmdline, ancestry
FROM ranked
WHERE rank = 1
ORDER BY n DESC, time
