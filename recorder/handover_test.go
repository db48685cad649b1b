package recorder

import (
	"context"
	"strings"
	"testing"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/segment"
)

// left is what a recorder leaves to the next one.
type left struct {
	*script
	list    []bpf.Handover
	written []bpf.Handover
}

func (l *left) Marks() (connects, outcomes, events bpf.Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, read := l.counters.Sent-uint64(len(l.connects)), l.counters.OutcomeSent-uint64(len(l.script.outcomes))
	return bpf.Mark{Position: 100 * n, Records: n}, bpf.Mark{Position: 100 * read, Records: read}, bpf.Mark{}
}
func (l *left) SendsTold(bool) (uint32, error) { return 1, nil }
func (l *left) Handover(h *bpf.Handover) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, *h)
	return uint64(len(l.list)), nil
}
func (l *left) Written(h *bpf.Handover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written = append(l.written, *h)
}

// What a recorder that leaves its programs in the kernel has not read, and what hangs, is the next one's: it neither waits for it nor
// counts it as lost, and the next one neither writes a second row of what hung nor counts it again.
func TestHandover(t *testing.T) {
	src, out := newScript(), newMemory()
	heir := &left{script: src}
	r := newRecorder(src, out, quick(), hostFiles{proc: procOf(t)})
	r.heritage = heir
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, Options{}) }()
	one, hung := connectBy(bpf.ProcessKey{Tgid: 1}, bootNow()), connectBy(bpf.ProcessKey{Tgid: 2}, bootNow()+1)
	src.connect(one)
	src.begin(hung)
	waitFor(t, "two rows", func() bool { return out.count() == 2 })
	young := connectBy(bpf.ProcessKey{Tgid: 3}, bootNow())
	src.begin(young)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c := out.counters
	if c["seen"] != 3 || c["stored"] != 2 || c["in_flight"] != 1 || c["lost"] != 0 || c[segment.HandoverCounter] != uint64(len(heir.list)) {
		t.Errorf("counters %v", c)
	}
	last := heir.list[len(heir.list)-1]
	if len(last.Hanging) != 1 || last.Hanging[0].ID != hung.ID() || last.Connects.Records != 1 || last.Counters.Sent != 1 || len(heir.written) == 0 {
		t.Fatalf("%d handovers were written, the last is %+v", len(heir.written), last)
	}

	src.mu.Lock() // as a capture that takes over counts
	src.counters.Seen, src.counters.Sent = 2, 0
	src.mu.Unlock()
	again := newMemory()
	r = newRecorder(src, again, quick(), hostFiles{proc: procOf(t)})
	r.heritage = heir
	r.takeOver(&bpf.Taken{Handover: last})
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- r.run(ctx, Options{}) }()
	hung.Errno, young.Errno = 0, 0
	src.end(hung)
	src.end(young)
	waitFor(t, "a row", func() bool { return again.count() == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if c := again.counters; c["seen"] != 1 || c["stored"] != 1 || c["updated"] != 1 || c["lost"] != 0 || c["in_flight"] != 0 {
		t.Errorf("counters of the next: %v", c)
	}
}

// What programs of another version left, and nobody can read, is lost in a gap that says so, and counted as seen and lost.
func TestUnreadableLeftovers(t *testing.T) {
	src, out := newScript(), newMemory()
	src.counters.Seen = 3
	heir := &left{script: src}
	r := newRecorder(src, out, quick(), hostFiles{proc: procOf(t)})
	r.heritage = heir
	r.takeOver(&bpf.Taken{Unread: 3, UnreadBytes: 528, Handover: bpf.Handover{Time: 5}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, Options{}) }()
	src.connect(connectBy(bpf.ProcessKey{Tgid: 1}, bootNow()))
	waitFor(t, "a row", func() bool { return out.count() == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if c := out.counters; c["seen"] != 4 || c["lost_unread"] != 3 || c["lost"] != 3 || c["stored"] != 1 {
		t.Errorf("counters %v", c)
	}
	var gaps []store.Gap
	for _, g := range out.gaps {
		if g.Cause == causeUnread {
			gaps = append(gaps, g)
		}
	}
	if len(gaps) != 1 || gaps[0].Lost != 3 || gaps[0].From != 5 || !strings.Contains(gaps[0].Detail, "528 bytes") {
		t.Errorf("gaps %+v", gaps)
	}
}
