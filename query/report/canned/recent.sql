-- purpose: The newest connections, newest first.
-- param: limit integer = 50 | most connections to show; 0 for all
-- column: time | when the connect was issued
-- column: pid | process that issued it
-- column: user | its user
-- column: exe | its program
-- column: remote | address and port, or path, that it connected to
-- column: name | names that were looked up and led there; NULL: none that is known
-- column: outcome | what became of it, with its bytes and duration when it has ended
-- column: n | connects that are counted together in this row
-- column: cmdline | arguments of the program, or its name in brackets when there are none
-- column: requested | address and port that were asked for, where a program of a cgroup sent it to remote; NULL: remote
-- column: peer | program and pid of the daemon that a UNIX connect reached; NULL: another kind, or nobody knows
-- note: The outcome of TCP is what became of the connection in the end; until there is an answer it is "in progress".
-- example: conntape query recent --since 2h
-- example: conntape query recent --limit 10 --format jsonl
SELECT
  time,
  pid,
  user,
  exe,
  remote,
  remote_name AS name,
  outcome_words(outcome, count, duration_ns, bytes_sent, bytes_received) || CASE outcome_source WHEN 'not in this file' THEN ', outcome not in this file' ELSE '' END AS outcome,
  count AS n,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  CASE WHEN ip_plain(requested_address) GLOB '*:*' THEN '[' || ip_plain(requested_address) || ']:' ELSE ip_plain(requested_address) || ':' END || requested_port AS requested,
  coalesce(peer_exe || '(' || peer_pid || ')', 'pid ' || peer_pid) AS peer
FROM connections
ORDER BY time_ns DESC
LIMIT :limit
