package capture

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A ticker connects a UDP socket again and again, to an address that is the connect's number, and remembers when.
type ticker struct {
	mu   sync.Mutex
	at   []time.Time // of connect number i
	quit chan struct{}
	done chan struct{}
}

const tickPort = 4321

// startTicker begins to connect about once in every.
func startTicker(t *testing.T, every time.Duration) *ticker {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &ticker{quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(k.done)
		defer unix.Close(fd)
		clock := time.NewTicker(every)
		defer clock.Stop()
		for {
			select {
			case <-k.quit:
				return
			case <-clock.C:
			}
			k.mu.Lock()
			n := len(k.at)
			k.at = append(k.at, time.Now())
			k.mu.Unlock()
			if err := unix.Connect(fd, tickAddress(n)); err != nil {
				t.Errorf("connect %d: %v", n, err)
				return
			}
		}
	}()
	return k
}

// tickAddress is 127.1.0.0 and the number behind it, never a broadcast address.
func tickAddress(n int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: tickPort, Addr: [4]byte{127, byte(1 + n/250/250), byte(1 + n/250%250), byte(1 + n%250)}}
}

// count is how many connects have been begun; all but the last are over.
func (k *ticker) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.at)
}

func (k *ticker) stop() {
	close(k.quit)
	<-k.done
}

// onTape returns the numbers of the ticker's connects that are on a tape, and how many rows each has.
func (k *ticker) onTape(t *testing.T, dir string) map[int]int64 {
	t.Helper()
	listed := rows(t, dir, `SELECT remote_raw, sum(count) AS n FROM connections WHERE pid = ? AND remote_port = ? GROUP BY 1`, unix.Getpid(), tickPort)
	numbers := map[string]int{}
	for n := range k.count() { // after the rows were read: it may still connect
		a := tickAddress(n).Addr
		numbers[string(a[:])] = n
	}
	found := map[int]int64{}
	for _, r := range listed {
		var h hexBytes
		if err := h.UnmarshalText([]byte(r.text("remote_raw"))); err != nil || len(h) < 8 {
			t.Fatalf("raw address %q", r.text("remote_raw"))
		}
		n, ok := numbers[string(h[4:8])]
		if !ok {
			t.Fatalf("an address that nobody connected to: %q", r.text("remote_raw"))
		}
		found[n] += r.int("n")
	}
	return found
}

// wantAll wants every connect from number `from` up to `to` on the tape, once.
func (k *ticker) wantAll(t *testing.T, dir string, from, to int) {
	t.Helper()
	found := k.onTape(t, dir)
	missing, twice := 0, 0
	for n := from; n < to; n++ {
		switch {
		case found[n] == 0:
			missing++
		case found[n] > 1:
			twice++
		}
	}
	t.Logf("%d connects while it was recording", to-from)
	if missing+twice > 0 {
		t.Errorf("of %d connects, %d are missing and %d are there more than once", to-from, missing, twice)
	}
}
