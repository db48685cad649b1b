package query

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
