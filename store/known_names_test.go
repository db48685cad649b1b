package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Answers of this boot are found as long as they are good, in whatever segment, with who got them; none that has expired, is of
// another boot, too old, no answer with records, or says what a client said.
func TestFindNames(t *testing.T) {
	dir := t.TempDir()
	w, x := mustOpenWriter(t, dir, options(100*second)), newWorld()
	w.now = func(string) (Anchor, error) { return at(150 * second), nil }
	answer := func(at uint64, task *Task, name string, kind uint32, answers string, ttl int64) SocketEvent {
		return x.answered(at, 1, task, Lookup{Name: name, Type: kind, Answers: answers, TTL: ttl})
	}
	again := answer(103*second, x.task, "again.example", 1, "192.0.2.3", 10)
	again.LastBootTime = 140 * second
	mustAppend(t, w, Batch{Now: 150 * second, Sockets: []SocketEvent{
		answer(101*second, x.task, "expired.example", 1, "192.0.2.1", 10),
		answer(102*second, nil, "good.example", 1, "cname:b.example 192.0.2.2", 100),
		again,
		answer(104*second, x.task, "", 0, "", -1),
		answer(105*second, x.task, "none.example", 1, "", -1),
		answer(106*second, x.task, "said.example", LookupSNI, "alpn:h2", -1),
	}})
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, w, Batch{Now: 160 * second, Sockets: []SocketEvent{answer(151*second, x.task, "new.example", 28, "2001:db8::1", 0)}})
	mustClose(t, w, 161*second)
	find := func(boot string, within, slack time.Duration, most int) (names []string) {
		t.Helper()
		found, err := FindNames(t.Context(), dir, boot, 170*second, within, slack, most)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range found {
			names = append(names, fmt.Sprint(k.Name, " ", k.Answers, " ", k.TTL, " ", k.Last/second, " ", k.Tgid, " ", k.Exe, " ", k.NetNS))
		}
		return names
	}
	boot, curl := options(0).BootID, fmt.Sprint(x.task.Process.Key.Tgid, " /usr/bin/curl ", x.task.NetNS)
	all := []string{"new.example 2001:db8::1 0 151 " + curl, "again.example 192.0.2.3 10 140 " + curl, "good.example cname:b.example 192.0.2.2 100 102 0  7"}
	for _, c := range []struct {
		within, slack time.Duration
		most          int
		want          []string
	}{
		{time.Hour, 20 * time.Second, 10, all},
		{time.Hour, 20 * time.Second, 2, all[:2]},
		{time.Hour, 0, 10, all[2:]},
	} {
		if got := find(boot, c.within, c.slack, c.most); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %q, want %q", c, got, c.want)
		}
	}
	if got := find("another-boot", time.Hour, time.Hour, 10); len(got) != 0 {
		t.Errorf("of another boot: %q", got)
	}
	if found, err := FindNames(t.Context(), t.TempDir()+"/none", boot, 1, time.Hour, 0, 1); len(found) != 0 || err != nil {
		t.Errorf("of no tape: %v, %v", found, err)
	}
}
