package query

import "strings"

// remoteAndOutcome are the columns remote and outcome, in SQL over connections, as the canned queries have them: those are
// files of plain SQL, to be copied and changed, and have to spell it out.
const remoteAndOutcome = `
  CASE
    WHEN remote_port IS NULL THEN remote_address
    WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
    ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
  END AS remote,
  CASE WHEN type = 'dgram' AND remote_port IS 0 THEN 'name probe' ELSE outcome END AS outcome`

// remoteAndOutcomeWords are the same with the outcome of a connection in words.
var remoteAndOutcomeWords = strings.Replace(remoteAndOutcome, "ELSE outcome END", "ELSE outcome_words(outcome, count, duration_ns, bytes_sent, bytes_received) END", 1)
