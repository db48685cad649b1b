-- purpose: What somebody who logged in connected to, whatever su or sudo made of them.
-- param: loginuid integer | only of this login uid
-- param: session integer | only of this session
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: tasks WHERE t.loginuid IS NOT NULL | for speed alone; the SQL is the whole question
-- column: loginuid | user id that logged in
-- column: session_id | audit session of that login
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: pid | process
-- column: user | its user
-- column: remote | address and port, or path
-- column: outcome | what became of them; name probe for a port-0 UDP probe
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: A login uid is set once, at login, and inherited. Daemons have none and are left out.
-- false-positives: Of a desktop, everything is part of the session. What cron starts has a login uid too.
-- example: conntape query session --since 1d
-- example: conntape query session --loginuid 1000 --session 4
SELECT
  loginuid,
  session_id,
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  pid,
  user,
  remote,
  CASE WHEN probe THEN 'name probe' ELSE outcome END AS outcome,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM connections
WHERE loginuid IS NOT NULL
  AND (:loginuid IS NULL OR loginuid = :loginuid)
  AND (:session IS NULL OR session_id = :session)
  AND (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY loginuid, session_id, process_id, user, remote, 9
ORDER BY loginuid, session_id, min(time_ns), remote
