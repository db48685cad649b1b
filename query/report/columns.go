package report

import "strings"

// remoteAndOutcome is the SQL of columns remote and outcome over connections. The canned queries spell it out because
// they are plain SQL files to copy and change.
const remoteAndOutcome = `
  CASE
    WHEN remote_port IS NULL THEN remote_address
    WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
    ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
  END AS remote,
  CASE WHEN type = 'dgram' AND remote_port IS 0 THEN 'name probe' ELSE outcome END AS outcome`

// remoteAndOutcomeWords has the outcome in words.
var remoteAndOutcomeWords = strings.Replace(remoteAndOutcome, "ELSE outcome END", "ELSE outcome_words(outcome, count, duration_ns, bytes_sent, bytes_received) END", 1)

// requestedSQL is what a connect asked for that a program of a cgroup sent elsewhere, as remote is written; NULL: it was not.
const requestedSQL = `CASE WHEN ip_plain(requested_address) GLOB '*:*' THEN '[' || ip_plain(requested_address) || ']:' ELSE ip_plain(requested_address) || ':' END || requested_port`
