package report

// shownOutcome is the SQL of column outcome in answers over connections. The canned queries spell it out because they are plain
// SQL files to copy and change.
const shownOutcome = `  CASE WHEN probe THEN 'name probe' ELSE outcome END AS outcome`

// requestedSQL is what a connect asked for that a program of a cgroup sent elsewhere, as remote is written; NULL: it was not.
const requestedSQL = `CASE WHEN ip_plain(requested_address) GLOB '*:*' THEN '[' || ip_plain(requested_address) || ']:' ELSE ip_plain(requested_address) || ':' END || requested_port`
