package recorder

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/conntape/conntape/bpf"
	"github.com/conntape/conntape/store"
)

// says plays what the client of a connect sends, of which at bytes were sent before.
func (s *script) says(c bpf.Connect, after uint64, at int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counters.AnswerSeen++
	s.counters.AnswerSent++
	s.answers = append(s.answers, bpf.Answer{
		BootTime: c.BootTime + after, Cookie: c.Cookie, Key: c.Key, NetNS: c.NetNS, TCP: true, From: netip.MustParseAddr("192.0.2.1"), Port: 443,
		Hello: true, Attempt: c.ID(), Sequence: uint32(at), Whole: len(text), Bytes: []byte(text),
	})
}

func request(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }

func hearing() config {
	c := naming1()
	c.hellos, c.batchAge = true, time.Minute
	return c
}

// A connection whose client names the server has that name, in one part or in several, whether it is read before the connect or after it,
// and whatever names DNS has; the lookups have it too. No other connection has it, of the same process, address or socket.
func TestHellosNameTheirConnection(t *testing.T) {
	src, out := newScript(), newMemory()
	const here = 11
	curl, other := key(1, 1, 1), key(2, 2, 1)
	now := bootNow() - uint64(2*time.Second)
	for k, exe := range map[bpf.ProcessKey]string{curl: "/bin/curl", other: "/bin/other"} {
		src.process(execOf(k, bpf.ProcessKey{}, now, exe, "x\x00"))
	}
	asks, to := asking(curl, now, here), [4]byte{192, 0, 2, 1}
	src.answer(t, asks, 1, 100, "dns.example.", "192.0.2.1")
	var all []bpf.Connect
	for i, k := range []bpf.ProcessKey{curl, curl, curl, other, curl} {
		all = append(all, going(k, now+uint64(i+1)*1000, here, to))
	}
	src.says(all[0], 10, 0, request("early.example"))
	text := request("parts.example")
	src.says(all[1], 10, 0, text[:20])
	src.says(all[3], 11, 0, request("Other.example:8080"))
	src.says(all[1], 12, 20, text[20:])
	src.says(all[4], 12, 0, "GET nonsense\r\n\r\n")
	src.connect(append([]bpf.Connect{asks}, all...)...)
	later := going(curl, now+9000, here, to)
	stop := start(t, src, out, hearing(), Options{})
	time.Sleep(10 * time.Millisecond)
	src.connect(later)
	time.Sleep(300 * time.Millisecond) // it has been read
	src.says(later, 10, 0, request("later.example"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	want := []string{"early.example/http", "parts.example/http", "dns.example/dns", "other.example/http", "dns.example/dns", "later.example/http"}
	if got := namesOf(out); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	lookups := lookupsOf(out)
	for _, name := range []string{"early.example  /bin/curl", "parts.example  /bin/curl", "other.example  /bin/other", "later.example  /bin/curl"} {
		if lookups[name] != 1 {
			t.Errorf("lookups have %q %d times, of %v", name, lookups[name], lookups)
		}
	}
	if c := out.counters; c["lookup_bad"] != 1 || c["lookup_seen"] != c["lookup_read"]+c["lookup_lost"] {
		t.Errorf("counters %v", c)
	}
}

// Names of connects that never come are few at a time, and so are the rows that await one; the rows of the lookups have all.
func TestHellosAreBounded(t *testing.T) {
	src, out := newScript(), newMemory()
	now, flood := bootNow()-uint64(time.Second), key(1, 1, 1)
	src.process(execOf(flood, bpf.ProcessKey{}, now, "/bin/flood", "x\x00"))
	const n = mostHellos + 500
	for i := range n {
		c := going(flood, now+uint64(i), 1, [4]byte{192, 0, 2, 1})
		src.says(c, 1, 0, request(fmt.Sprintf("n%d.example", i%10)))
	}
	r := newRecorder(src, out, hearing(), hostFiles{proc: procOf(t)})
	if err := r.drainProcessesAndAnswers(n); err != nil {
		t.Fatal(err)
	}
	h, l := &r.lookups.hellos, &r.ledger.lookups
	if len(h.waiting) != mostHellos || l.late != 500 {
		t.Errorf("%d wait, %d are late", len(h.waiting), l.late)
	}
	r.expireHellos(bootNow()+helloWaits+uint64(time.Second), false)
	if len(h.waiting) != 0 || l.late != mostHellos || l.refused != 500 || len(r.queue.open.Namings) != mostHellos {
		t.Errorf("%d wait, %d are late, %d refused", len(h.waiting), l.late, l.refused)
	}
	if len(r.lookups.folds.folds) != 10 {
		t.Errorf("%d folds", len(r.lookups.folds.folds))
	}
}

func (r *recorder) drainProcessesAndAnswers(most int) error {
	if _, err := r.drainProcesses(); err != nil {
		return err
	}
	return r.drainAnswers(most, forever)
}

// A name that a client says after the row of its connection was written goes to the tape, which gives it to the row: once, whatever the
// row's batch, and also when recording ends before anything else happens.
func TestLateHelloGoesToTheTape(t *testing.T) {
	src, out := newScript(), newMemory()
	curl, now := key(1, 1, 1), bootNow()-uint64(time.Second)
	src.process(execOf(curl, bpf.ProcessKey{}, now, "/bin/curl", "x\x00"))
	late := going(curl, now, 11, [4]byte{192, 0, 2, 1})
	src.connect(late)
	c := hearing()
	c.batchAge = 10 * time.Millisecond
	stop := start(t, src, out, c, Options{})
	waitFor(t, "the row", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		return len(out.rows) == 1
	})
	src.says(late, uint64(time.Second), 0, request("late.example"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	accounted(t, out)
	var got []store.Naming
	for _, b := range out.batches {
		got = append(got, b.Namings...)
	}
	want := []store.Naming{{Connect: late.BootTime, Tid: late.Tid, Port: 443, Name: "late.example", Source: store.NameHTTP}}
	if !slices.Equal(got, want) || out.counters["lookup_late"] != 1 || out.counters["lookup_refused"] != 0 {
		t.Errorf("got %+v, want %+v; counters %v", got, want, out.counters)
	}
	if lookupsOf(out)["late.example  /bin/curl"] != 1 {
		t.Errorf("lookups %v", lookupsOf(out))
	}
}
