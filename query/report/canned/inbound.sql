-- purpose: Who came in: connections that were accepted, by listener and peer.
-- param: limit integer = 50 | most rows to show; 0 for all
-- column: first_time | when the first of them was accepted
-- column: last_time | when the last one was
-- column: n | connections
-- column: local | address and port, or path, that they came to
-- column: peer | address that they came from, and its port where it is one connection; pid N: a process that came through a UNIX socket; NULL: one of more peers than were kept
-- column: outcome | failed: all of them ended by an error; with the bytes of those that ended and the longest time
-- column: open | of them: those whose end was not told
-- column: pid | process that accepted them
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: The tape has them unless they were not recorded: see conntape record --events. The newest are the first.
-- note: The peer of a connection through a proxy or a balancer is that one.
-- false-positives: Health checks and monitoring come in all day. An address of nobody you know, on a port for administrators, is a finding.
-- example: conntape query inbound --since 1d
-- example: conntape query inbound --port 22 --limit 0 --format csv
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  CASE
    WHEN local_port IS NULL THEN local_address
    WHEN local_address GLOB '*:*' THEN '[' || local_address || ']:' || local_port
    ELSE local_address || ':' || local_port
  END AS local,
  CASE
    WHEN peer_pid IS NOT NULL THEN 'pid ' || peer_pid
    WHEN remote_port IS NULL THEN coalesce(remote_ip, remote_address)
    WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
    ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
  END AS peer,
  outcome_words(outcome, sum(count), max(longest_ns), sum(bytes_sent), sum(bytes_received)) AS outcome,
  max(0, sum(count) - sum(ended)) AS open,
  pid,
  user,
  container,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM inbound
GROUP BY process_id, user, container, local, peer, outcome
ORDER BY max(time_ns) DESC, local, peer
LIMIT :limit
