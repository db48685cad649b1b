-- purpose: Connects of programs that were deleted, run from memory, hidden, or in a directory that anybody can write to.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: processes WHERE process_id IN (SELECT process_id FROM suspect WHERE reason <> '') | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: reason | what is unusual about the program, or about the script that it runs
-- column: destinations | how many addresses and ports
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: script | its script; NULL: it is none
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- false-positives: A daemon whose package was upgraded runs a deleted file until it is restarted. AppImages and installers run from /tmp; tools of one user are often in a hidden directory, such as ~/.local/bin.
-- example: conntape query suspicious-exe --since 7d
WITH
program AS (
  SELECT process_id, script, max(exe_deleted) AS deleted, max(exe_memfd) AS memfd, coalesce(script, exe) AS path
  FROM processes
  GROUP BY process_id
),
suspect AS MATERIALIZED (
  SELECT process_id, script, concat_ws(', ',
    CASE WHEN memfd THEN 'run from memory' WHEN deleted THEN 'deleted' END,
    CASE WHEN path GLOB '/tmp/*' OR path GLOB '/var/tmp/*' OR path GLOB '/dev/*' OR path GLOB '/run/user/*' OR path GLOB '/run/lock/*'
      THEN 'where anybody can write' END,
    CASE WHEN path GLOB '*/.*' THEN 'hidden' END) AS reason
  FROM program
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  reason,
  count(DISTINCT coalesce(remote_ip, remote_address) || ' ' || coalesce(remote_port, '')) AS destinations,
  pid,
  user,
  container,
  exe,
  script,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM connections
CROSS JOIN suspect USING (process_id)
WHERE reason <> ''
  AND (:all OR family <> 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0))
GROUP BY process_id, user, container
ORDER BY min(time_ns)
