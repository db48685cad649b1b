package report

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/test/testtape"
)

// every returns moments from a beginning to an end, each so long after the one before as next says.
func every(from, to time.Duration, next func() time.Duration) (at []time.Duration) {
	for t := from; t < to; t += max(next(), time.Millisecond) {
		at = append(at, t)
	}
	return at
}

// beaconSets are ways in which beacons behave, over three days.
func beaconSets(r *rand.Rand) map[string][]time.Duration {
	const span = 72 * time.Hour
	between := func(a, b time.Duration) func() time.Duration {
		return func() time.Duration { return a + time.Duration(r.Int64N(int64(b-a))) }
	}
	pairs := func(at []time.Duration, after time.Duration) (all []time.Duration) {
		for _, t := range at {
			all = append(all, t, t+after)
		}
		return all
	}
	whole := func(at []time.Duration) []time.Duration {
		for i := range at {
			at[i] = at[i].Truncate(time.Second) + 3*time.Millisecond
		}
		return at
	}
	nights := func(at []time.Duration) (day []time.Duration) {
		for _, t := range at {
			if hour := t % (24 * time.Hour) / time.Hour; hour >= 8 && hour < 19 {
				day = append(day, t)
			}
		}
		return day
	}
	return map[string][]time.Duration{
		"every 200 to 350 s (RITA, missing_host)": every(time.Minute, span, between(200*time.Second, 350*time.Second)),
		"60 s, 30% of jitter":                     every(time.Minute, span, between(42*time.Second, 78*time.Second)),
		"15 min, 30% of jitter":                   every(time.Minute, span, between(630*time.Second, 1170*time.Second)),
		"5 min, a pair 1.5 s apart":               pairs(every(time.Minute, span, between(299*time.Second, 301*time.Second)), 1500*time.Millisecond),
		"10 min with jitter, a pair 4 s apart":    pairs(every(time.Minute, span, between(480*time.Second, 720*time.Second)), 4*time.Second),
		"sleep 60 s plus latency":                 every(time.Minute, span, func() time.Duration { return time.Minute + time.Duration(r.ExpFloat64()*float64(3*time.Second)) }),
		"20 s by a whole-second clock":            whole(every(time.Minute, 12*time.Hour, between(18*time.Second, 22*time.Second))),
		"23 times every 3.366 s":                  every(30*time.Hour, 30*time.Hour+76*time.Second, between(3349*time.Millisecond, 3383*time.Millisecond)),
		"2 min, by day":                           nights(every(time.Minute, span, between(110*time.Second, 130*time.Second))),
		"4 h":                                     every(time.Minute, span, between(3*time.Hour+50*time.Minute, 4*time.Hour+10*time.Minute)),
	}
}

// benignTimers are 30 kinds of what connects by the clock and means no harm, as hosts have them: checkers of many places,
// agents of several programs that report to one place, pools of time servers, and single ones.
func benignTimers(r *rand.Rand) (timers []generate.Timer) {
	const span = 72 * time.Hour
	add := func(exe, to string, interval time.Duration, jitter float64) {
		timers = append(timers, generate.Timer{Exe: exe, Remote: netip.MustParseAddrPort(to), At: every(time.Duration(r.Int64N(int64(interval))), span, func() time.Duration {
			return interval + time.Duration((2*r.Float64()-1)*jitter*float64(interval))
		})})
	}
	for i := range 4 {
		add("/usr/sbin/chronyd", fmt.Sprintf("192.0.2.%d:123", 10+i), 17*time.Minute, 0.01)
		add("/usr/bin/blackbox_exporter", fmt.Sprintf("10.1.0.%d:443", i), 30*time.Second, 0)
		add("/usr/bin/kubelet", fmt.Sprintf("10.2.0.%d:8080", i), 10*time.Second, 0.001)
		add(fmt.Sprintf("/usr/bin/agent%d", i), "10.3.0.1:4318", time.Minute, 0.02)
		add(fmt.Sprintf("/opt/service%d/bin/run", i), "10.3.0.2:8125", 10*time.Second, 0)
	}
	for i := range 3 {
		add("/usr/bin/prometheus", fmt.Sprintf("10.4.0.%d:9100", i), 15*time.Second, 0)
		add(fmt.Sprintf("/usr/lib/update%d", i), "10.5.0.1:80", 2*time.Hour, 0.1)
	}
	add("/usr/sbin/cron", "10.6.0.1:25", time.Hour, 0)
	add("/usr/bin/dhclient", "10.6.0.2:67", 6*time.Hour, 0.2)
	add("/usr/bin/keepalive", "10.6.0.3:443", 4*time.Minute, 0)
	add("/usr/bin/snapd", "10.6.0.4:443", 5*time.Hour, 0.5)
	return timers
}

// Of each set the true beacon is found, among the first five, with 30 benign timers and the traffic of a host beside it.
// The table of docs/performance.md is what this prints.
func TestBeaconsAreAmongTheFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))
	true1 := "/usr/bin/curl2"
	for name, at := range beaconSets(r) {
		dir := filepath.Join(t.TempDir(), "tape")
		timers := append(benignTimers(r), generate.Timer{Exe: true1, Remote: netip.MustParseAddrPort("203.0.113.66:443"), At: at})
		planted := map[string]bool{}
		total := 0
		for _, timer := range timers {
			planted[timer.Exe+" "+timer.Remote.String()] = true
			total += len(timer.At)
		}
		o := generate.Options{Seed: 9, Connections: total + 60_000, Processes: 60, Images: 30, Endpoints: 2000, Begin: uint64(time.Hour), Span: 72 * time.Hour, Timers: timers}
		if err := generate.WriteTape(dir, generate.New(o), 2); err != nil {
			t.Fatal(err)
		}
		tape := testtape.Opened(t, dir)
		place, score, wrong := 0, "", 0
		rows := askCanned(t, tape, "beacons")
		for i, row := range rows {
			switch {
			case row["exe"] == true1:
				place, score = i+1, row["score"]
			case !planted[row["exe"]+" "+row["remote"]] && row["remote"] != "162.159.200.123:123" && row["remote"] != "127.0.0.1:8080" && row["remote"] != "10.0.0.9:9090" && row["remote"] != "10.0.0.25:25" && row["remote"] != "151.101.2.132:80":
				wrong++
			}
		}
		t.Logf("| %s | %d | %s | %d | %d |", name, place, score, len(rows), wrong)
		if place == 0 || place > 5 {
			t.Errorf("%s: place %d of %d, score %s", name, place, len(rows), score)
		}
	}
}
