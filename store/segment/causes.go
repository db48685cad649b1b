package segment

import "github.com/conntape/conntape/store/tapedir"

// Causes of gaps that the store itself writes.
const (
	CauseStart     = "start"            // nothing was recorded before this tape began
	CauseStopped   = "stopped"          // the recorder was stopped cleanly
	CauseCrash     = "crash"            // the recorder was killed, or the host lost power
	CauseUnwritten = "unwritten"        // seen by the kernel, and not written when the recorder was killed
	CauseHook      = "hook gone"        // somebody took our programs from their hooks, or silenced them
	CauseStolen    = "records stolen"   // somebody else read connects from the kernel's ring before the recorder could
	CauseTouched   = "recorder touched" // somebody traced or stopped the recorder, opened its memory, or moved its tape
	// CauseProcessesStolen: likewise what the kernel said of processes. Connects are complete.
	CauseProcessesStolen = "descriptions stolen"
	CauseStorage         = "storage" // a segment was set aside after an error
	CauseFull            = "full"    // a segment was removed before its time: the disk was full
)

// IsAlarm tells whether a gap of this cause is somebody's doing against the recorder.
func IsAlarm(cause string) bool {
	return cause == CauseHook || cause == CauseTouched || cause == CauseStolen || cause == CauseProcessesStolen
}

// RemovedDetail is the detail of the gap that tells of a segment which was removed.
func RemovedDetail(number int) string {
	return tapedir.SegmentName(number) + " was removed before its time: the disk was full"
}
