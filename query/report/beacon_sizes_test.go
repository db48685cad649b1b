package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/test/testtape"
)

// sizedTimer is a program that connects by the clock and sends something each time.
type sizedTimer struct {
	exe    string
	every  time.Duration
	jitter float64
	sent   func() int64
}

// beaconsWithSizes are three beacons with jitter.
func beaconsWithSizes(r *rand.Rand) []sizedTimer {
	return []sizedTimer{
		{"/tmp/constant", 50 * time.Second, 0.3, func() int64 { return 517 }},
		{"/tmp/padded", 70 * time.Second, 0.3, func() int64 { return 400 + r.Int64N(1000) }},
		{"/tmp/tasked", 4 * time.Minute, 0.3, func() int64 { // every tenth answer is a file
			if r.IntN(10) == 0 {
				return 2000 + r.Int64N(400_000)
			}
			return 612 + r.Int64N(20)
		}},
	}
}

// uploads are programs with exact clocks that send as much as there is to send.
func uploads(r *rand.Rand) (timers []sizedTimer) {
	logNormal := func(median, sigma float64) func() int64 {
		return func() int64 { return int64(median * math.Exp(sigma*r.NormFloat64())) }
	}
	for i, sent := range []func() int64{
		logNormal(60_000, 1.5), logNormal(200_000, 1), logNormal(8_000, 2), logNormal(3e6, 0.8), logNormal(25_000, 1.2),
		func() int64 { return r.Int64N(500_000) }, func() int64 { return 40_000 << r.IntN(8) }, logNormal(120_000, 2),
	} {
		timers = append(timers, sizedTimer{fmt.Sprintf("/usr/bin/sync%d", i), time.Duration(60+40*i) * time.Second, 0.01, sent})
	}
	return timers
}

// Beacons with jitter, of one size, of padded sizes, and with a file now and then, stand before uploads by exact clocks,
// and among the first five. All of them begin in the middle of the window, on the Internet, beside timers of other hosts' kinds.
func TestBeaconsBeforeUploads(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 31))
	timers := publicTimers(r)
	wanted := beaconsWithSizes(r)
	for i, s := range slices.Concat(wanted, uploads(r)) {
		at := every(time.Duration(10+i)*time.Hour, heldOutSpan, func() time.Duration {
			return time.Duration(float64(s.every) * (1 + s.jitter*(2*r.Float64()-1)))
		})
		var sent []int64
		for range at {
			sent = append(sent, s.sent())
		}
		timers = append(timers, generate.Timer{Exe: s.exe, Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)}), 443), At: at, Sent: sent})
	}
	total := 0
	for _, timer := range timers {
		total += len(timer.At)
	}
	dir := filepath.Join(t.TempDir(), "tape")
	o := generate.Options{Seed: 5, Connections: total + 10_000, Processes: 50, Images: 25, Endpoints: 1500, Begin: uint64(time.Hour), Span: heldOutSpan, Timers: timers}
	if err := generate.WriteTape(dir, generate.New(o), 2); err != nil {
		t.Fatal(err)
	}
	rows := askCanned(t, testtape.Opened(t, dir), "beacons")
	firstOther := len(rows)
	for i, row := range rows[:15] {
		isWanted := slices.ContainsFunc(wanted, func(s sizedTimer) bool { return s.exe == row["exe"] })
		if !isWanted {
			firstOther = min(firstOther, i)
		}
		t.Logf("| %d | %s | %s | %s | %s |", i+1, row["exe"], row["score"], row["times"], row["sizes"])
	}
	for _, s := range wanted {
		place := slices.IndexFunc(rows, func(row map[string]string) bool { return row["exe"] == s.exe })
		if place < 0 || place >= 5 || place > firstOther {
			t.Errorf("%s: place %d of %d, after another one at %d", s.exe, place+1, len(rows), firstOther+1)
		}
	}
	for _, row := range rows {
		if known := row["sizes"] != ""; known != (slices.ContainsFunc(timers, func(o generate.Timer) bool { return o.Exe == row["exe"] && o.Sent != nil })) {
			t.Errorf("%s: sizes are %q", row["exe"], row["sizes"])
		}
		if _, err := strconv.ParseFloat(row["score"], 64); err != nil {
			t.Error(err)
		}
	}
}
