package segment

import (
	"strings"

	"github.com/conntape/conntape/store/tapedir"
)

// Causes of gaps that the store itself writes.
const (
	CauseStart     = "start"            // nothing was recorded before this tape began
	CauseStopped   = "stopped"          // the recorder was stopped cleanly
	CauseCrash     = "crash"            // the recorder was killed, or the host lost power
	CauseUnwritten = "unwritten"        // seen by the kernel, but not written when the recorder was killed
	CauseHook      = "hook gone"        // another program detached or silenced our hooks
	CauseStolen    = "records stolen"   // another program read connects from the kernel's ring before the recorder
	CauseTouched   = "recorder touched" // another program traced or stopped the recorder, opened its memory, or moved its tape
	// CauseProcessesStolen: the same for events of processes. Connects are complete.
	CauseProcessesStolen = "descriptions stolen"
	CauseExcluded        = "excluded by " // with a rule of the administrator: connects that are not on the tape because of it
	CauseStorage         = "storage"      // a segment was quarantined after an error
	CauseFull            = "full"         // a segment was removed early: the disk was full
)

// IsAlarm reports whether a gap with this cause means tampering with the recorder.
func IsAlarm(cause string) bool {
	return cause == CauseHook || cause == CauseTouched || cause == CauseStolen || cause == CauseProcessesStolen
}

// ExcludedBy returns the rule of a gap of connects that the administrator excluded, and whether it is one.
func ExcludedBy(cause string) (rule string, ok bool) { return strings.CutPrefix(cause, CauseExcluded) }

// RemovedDetail is the detail of the gap for a removed segment.
func RemovedDetail(number int) string {
	return tapedir.SegmentName(number) + " was removed before its time: the disk was full"
}
