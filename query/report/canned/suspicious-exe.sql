-- purpose: Connects of programs that were deleted, run from memory, hidden, where anybody can write, or in a mount namespace of their own.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: processes WHERE process_id IN (SELECT process_id FROM suspect WHERE reason <> '') | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: points | how unusual it is, the most unusual first
-- column: reason | what is unusual about the program, or about the script that it runs
-- column: destinations | how many addresses and ports
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: script | its script; NULL: it is none
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: points: run from memory 5; deleted 3, of a package 1; where anybody can write 4; hidden 3, in the directory of a tool in a home (.local, .cargo, .nvm and the like) 1; in a mount namespace that is neither the host's nor a known container's 4, of a service 1; child of a server 3; first seen 2; the only process of its program 1.
-- note: First seen: no earlier process on the tape ran the program or script, and recording had gone on for an hour, whatever the window.
-- false-positives: A daemon whose package was upgraded runs a deleted file until it is restarted. AppImages and installers run from /tmp; tools of one user are often in a hidden directory, such as ~/.local/bin. systemd gives services, and browsers their helpers, a mount namespace of their own.
-- example: conntape query suspicious-exe --since 7d
WITH
program AS (
  SELECT process_id, script, max(exe_deleted) AS deleted, max(exe_memfd) AS memfd, coalesce(script, exe) AS path, ancestry,
    max(mntns_is_host = 0 AND container IS NULL) AS apart, max(unit GLOB '*.service' AND NOT unit GLOB 'user@*') AS service,
    min(coalesce(exec_time, start_time)) AS began
  FROM processes
  GROUP BY process_id
),
rarity AS (
  SELECT path, count(*) AS processes, min(began) AS first
  FROM program
  GROUP BY path
),
seen AS (
  SELECT process_id, script, processes,
    coalesce(began = first AND first > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', min(from_ns) / 1000000000 + 3600, 'unixepoch') FROM segments), 0) AS new,
    coalesce(memfd, 0) AS memfd,
    coalesce(apart, 0) AS apart,
    coalesce(service, 0) AS service,
    coalesce(deleted AND NOT memfd, 0) AS deleted,
    coalesce(deleted AND NOT memfd AND (path GLOB '/usr/*' OR path GLOB '/bin/*' OR path GLOB '/sbin/*' OR path GLOB '/lib*' OR path GLOB '/opt/*'), 0) AS packaged,
    path GLOB '/tmp/*' OR path GLOB '/var/tmp/*' OR path GLOB '/dev/*' OR path GLOB '/run/user/*' OR path GLOB '/run/lock/*' AS writable,
    path GLOB '*/.*' AS hidden,
    (path GLOB '/home/*' OR path GLOB '/root/*') AND (path GLOB '*/.local/*' OR path GLOB '*/.cargo/*' OR path GLOB '*/.rustup/*' OR path GLOB '*/.nvm/*' OR path GLOB '*/.npm/*'
      OR path GLOB '*/.pyenv/*' OR path GLOB '*/.rbenv/*' OR path GLOB '*/.vscode*/*' OR path GLOB '*/.cursor*/*' OR path GLOB '*/.sdkman/*' OR path GLOB '*/.dotnet/*' OR path GLOB '*/.deno/*'
      OR path GLOB '*/.bun/*' OR path GLOB '*/.venv/*' OR path GLOB '*/.linuxbrew/*') AS tool,
    ' > ' || ancestry GLOB '* > nginx(*) > *' OR ' > ' || ancestry GLOB '* > apache2(*) > *' OR ' > ' || ancestry GLOB '* > httpd(*) > *' OR ' > ' || ancestry GLOB '* > php-fpm*(*) > *'
      OR ' > ' || ancestry GLOB '* > java(*) > *' OR ' > ' || ancestry GLOB '* > postgres(*) > *' OR ' > ' || ancestry GLOB '* > mysqld(*) > *' OR ' > ' || ancestry GLOB '* > redis-server(*) > *' AS served
  FROM program
  JOIN rarity USING (path)
),
suspect AS MATERIALIZED (
  SELECT process_id, script,
    5 * memfd + 3 * deleted - 2 * packaged + 4 * writable + 3 * hidden - 2 * (hidden AND tool) + 4 * apart - 3 * (apart AND service) + 3 * coalesce(served, 0) + 2 * new + (processes = 1) AS points,
    concat_ws(', ',
      CASE WHEN memfd THEN 'run from memory' WHEN packaged THEN 'deleted, of a package' WHEN deleted THEN 'deleted' END,
      CASE WHEN writable THEN 'where anybody can write' END,
      CASE WHEN hidden AND tool THEN 'hidden, a tool of a user' WHEN hidden THEN 'hidden' END,
      CASE WHEN apart THEN 'in another mount namespace' END,
      CASE WHEN served THEN 'child of a server' END,
      CASE WHEN new THEN 'first seen' END,
      CASE WHEN processes = 1 THEN 'the only process' END) AS reason
  FROM seen
  WHERE memfd OR deleted OR writable OR hidden OR apart
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  points,
  reason,
  count(DISTINCT remote) AS destinations,
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
  AND (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container
ORDER BY points DESC, min(time_ns)
