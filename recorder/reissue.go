package recorder

import (
	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// pendingIssues bounds what a generation remembers of io_uring connects in progress, in bytes: of small processes about
// 8,000, as many as the kernel side remembers.
const pendingIssues = 8 << 20

// writtenRow names a row of the tape, for an update. It is zero where there is none.
type writtenRow struct {
	boot, cookie uint64
	task         *store.Task
	remote       *store.Endpoint
}

func rowOf(c *store.Connection) writtenRow {
	return writtenRow{c.BootTime, c.Cookie, c.Task, c.Remote}
}

// issue is the first issue of an io_uring connect that was left in progress.
type issue struct {
	row  writtenRow // to which the result belongs; none when it is counted in another's
	same int        // first issues that this entry stands for
}

// size is the memory that is kept for it, in bytes.
func (i issue) size() int {
	n := 128
	if i.row.task != nil {
		n += taskBytes + int(processSize(i.row.task.Process)) + int(endpointSize(i.row.remote))
	}
	return n
}

// issuePlace finds the first issue where the backend cannot know a socket's cookie: by where that went, which is what the
// second asks for.
type issuePlace struct {
	key     bpf.ProcessKey
	netns   uint32
	family  uint16
	address string
	port    int32
}

func issuePlaceOf(c *bpf.Connect, remote *store.Endpoint) issuePlace {
	return issuePlace{c.Key, c.NetNS, remote.Family, remote.Address, remote.Port}
}

// reissues ties the second issue of an io_uring connect, which tells the result, to the row of the first.
type reissues struct {
	byCookie *generations[uint64, issue]
	byPlace  *generations[issuePlace, issue]
}

func newReissues() *reissues {
	return &reissues{
		byCookie: newWeighed(pendingIssues, func(_ uint64, i issue) int { return i.size() }),
		byPlace:  newWeighed(pendingIssues, func(_ issuePlace, i issue) int { return i.size() }),
	}
}

// remember notes an attempt that may be issued again, and its row if it has one of its own.
func (r *reissues) remember(c *bpf.Connect, row *store.Connection, own bool) {
	if c.Via != bpf.ViaIOUring || c.Errno != int32(unix.EINPROGRESS) && c.Errno != int32(unix.EAGAIN) && c.Errno != bpf.Unknown {
		return
	}
	i := issue{same: 1}
	if own {
		i.row = rowOf(row)
	}
	if c.Cookie != 0 {
		r.byCookie.put(c.Cookie, i)
		return
	}
	k := issuePlaceOf(c, row.Remote)
	if old, ok := r.byPlace.get(k); ok {
		i = issue{same: old.same + 1} // which of them a result belongs to is not known
	}
	r.byPlace.put(k, i)
}

// first returns the first issue of the attempt of which c is a later one. Where several are alike it returns one that
// has no row to change: which of them c belongs to is not known, and not guessed.
func (r *reissues) first(c *bpf.Connect, remote *store.Endpoint) (issue, bool) {
	again := c.Errno == int32(unix.EINPROGRESS)
	if c.Cookie != 0 {
		if i, ok := r.byCookie.get(c.Cookie); ok {
			if !again {
				r.byCookie.remove(c.Cookie)
			}
			return i, true
		}
	}
	k := issuePlaceOf(c, remote)
	i, ok := r.byPlace.get(k)
	switch {
	case !ok || again:
	case i.same > 1:
		r.byPlace.put(k, issue{same: i.same - 1})
	default:
		r.byPlace.remove(k)
	}
	return i, ok
}
