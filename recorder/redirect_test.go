package recorder

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// A row has where the connect went, and what was asked for beside it. One that was written before it was sent anywhere says
// that its address was asked for alone.
func TestRedirectedRows(t *testing.T) {
	src, out := newScript(), newMemory()
	c := quick()
	c.flightAge = 1
	stop := start(t, src, out, c, Options{})
	k := key(1, 1, 1)
	now := bootNow()
	asked, went := ipv4(10, 96, 0, 1, 80), ipv4(10, 0, 0, 5, 8080)
	told := connectBy(k, now+1)
	told.Remote, told.Requested = went, asked
	src.connect(told)
	hanging := connectBy(k, now)
	hanging.Remote, hanging.Errno, hanging.Cookie = asked, bpf.Unknown, 9
	src.begin(hanging)
	waitFor(t, "both rows", func() bool { return out.count() == 2 })
	hanging.Remote, hanging.Requested, hanging.Errno = went, asked, 0
	src.end(hanging)
	waitFor(t, "the result", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		for _, row := range out.rows {
			if row.BootTime == now {
				return row.Shape.Errno == 0
			}
		}
		return false
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	for _, row := range out.rows {
		switch q := row.Remote.Requested; {
		case row.BootTime == now:
			if row.Remote.Address != "10.96.0.1" || q != nil || row.Shape.AddressSource != store.AddressAsked {
				t.Errorf("the row that was written before: %+v %+v", row.Remote, row.Shape)
			}
		case q == nil || q.Address != "10.96.0.1" || q.Port != 80 || row.Remote.Address != "10.0.0.5" || row.Remote.Port != 8080 || row.Shape.AddressSource != "kernel":
			t.Errorf("the row of a connect that was sent elsewhere: %+v %+v", row.Remote, q)
		}
	}
}

// The second issue of an io_uring request asks for where the first was sent.
func TestSecondIssueOfRedirected(t *testing.T) {
	src, out := newScript(), newMemory()
	stop := start(t, src, out, quick(), Options{})
	first := connectBy(key(1, 1, 1), bootNow())
	first.Via, first.Cookie, first.Errno, first.FD = bpf.ViaIOUring, 0, int32(unix.EINPROGRESS), -1
	first.Remote, first.Requested = ipv4(10, 0, 0, 5, 8080), ipv4(10, 96, 0, 1, 80)
	second := first
	second.BootTime, second.Errno, second.Flags, second.Requested = first.BootTime+1, int32(unix.ECONNREFUSED), bpf.Reissue, nil
	src.connect(first, second)
	waitFor(t, "its row", func() bool { return out.count() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	if row := out.rows[0]; row.Shape.Errno != int32(unix.ECONNREFUSED) || row.Remote.Requested == nil {
		t.Errorf("%+v %+v", row.Remote, row.Shape)
	}
}
