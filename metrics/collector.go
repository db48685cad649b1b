package metrics

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("conntape_"+name, help, labels, nil)
}

// The metrics. Counters are those of the newest run: a sum over all runs would fall when retention removes one, and Prometheus
// would take that for a restart.
var (
	scraped = describe("scrape_success", "1: conntape status could be read.")
	info    = describe("info", "Always 1. What recorded last, and where.", "version", "backend", "kernel", "tape_id")

	recording = describe("recording", "1: a recorder runs now.")
	well      = describe("well", "1: all is as it should be, by the rules of conntape status --check.")
	since     = describe("recording_since_timestamp_seconds", "When the recorder that runs started.")
	lastBatch = describe("last_batch_timestamp_seconds", "When the recorder last wrote a batch, every 10 s at least: its proof of life.")
	oldest    = describe("oldest_timestamp_seconds", "Since when the tape has all that it recorded.")

	seen        = describe("attempts_seen_total", "Attempts to connect that the kernel counted.")
	stored      = describe("attempts_stored_total", "Attempts with a row of their own.")
	coalesced   = describe("attempts_coalesced_total", "Attempts that are counted in the row of another.")
	excluded    = describe("attempts_excluded_total", "Attempts that a rule (--exclude) keeps off the tape.")
	lost        = describe("attempts_lost_total", "Attempts that are on the tape as a number only, by reason.", "reason")
	inFlight    = describe("attempts_in_flight", "Attempts that have not returned, or are on their way to the tape.")
	unaccounted = describe("attempts_unaccounted", "Seen without stored, coalesced, excluded, lost and in flight. Not 0 for longer than a batch takes: a fault.")
	probes      = describe("probes_total", "Connects of the recorder's own that came back through its hooks.")

	ringLooks = describe("ring_looks_total", "Looks at the kernel's ring of connects.")
	ringBytes = describe("ring_bytes_total", "Bytes that the ring held at those looks. Its average fill is rate(ring_bytes_total)/rate(ring_looks_total).")
	batches   = describe("batches_total", "Batches that were written, or given up.")
	batchTime = describe("batch_seconds_total", "Time that batches took, retries included.")

	tapeBytes = describe("tape_bytes", "What the segments of the tape take on the disk.")
	reserved  = describe("reserved_bytes", "What is set aside on the disk for the tape, and empty.")
	room      = describe("room_bytes", "What the tape can still get from the disk, its reserve included.")
	segments  = describe("segments", "Segments of the tape, by state.", "state")
	leftOut   = describe("segments_left_out", "Segments that are damaged or gone, which no answer covers.")
	gaps      = describe("gaps", "Times for which the record is incomplete, by cause.", "cause")
	removals  = describe("removed_connections", "Connections that retention removed, by cause, as far as the tape still knows.", "cause")
)

// A collector reads the status whenever Prometheus asks.
type collector struct {
	read func(context.Context) (*status, error)
	log  func(error)
}

// Describe sends nothing: which labels there are depends on the tape. Such a collector is not checked when it is registered.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the status once. Where that fails, scrape_success is 0 and nothing else is there: an old number would be
// taken for a new one.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	st, err := c.read(context.Background())
	if err != nil {
		c.log(err)
		out <- prometheus.MustNewConstMetric(scraped, prometheus.GaugeValue, 0)
		return
	}
	out <- prometheus.MustNewConstMetric(scraped, prometheus.GaugeValue, 1)
	send := sender(out)
	send.gauge(info, 1, clean(st.Version), clean(strings.Join(st.Backends, ",")), clean(st.Kernel), clean(st.TapeID))
	send.gauge(recording, number(st.Recording))
	send.gauge(well, number(st.Well))
	send.time(since, st.Since)
	send.time(lastBatch, st.Committed)
	send.time(oldest, st.From)
	send.counters(st)
	send.gauge(tapeBytes, float64(st.Bytes))
	send.bytes(reserved, st.Reserved)
	send.bytes(room, st.Room)
	send.gauge(segments, float64(st.Sealed), "sealed")
	send.gauge(segments, float64(st.Segments-st.Sealed), "open")
	send.gauge(leftOut, float64(len(st.LeftOut)))
	send.byCause(st)
}

// sender makes metrics of numbers.
type sender chan<- prometheus.Metric

func (s sender) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sender) counter(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (s sender) time(d *prometheus.Desc, t *time.Time) {
	if t != nil {
		s.gauge(d, float64(t.UnixNano())/1e9)
	}
}

func (s sender) bytes(d *prometheus.Desc, n *int64) {
	if n != nil {
		s.gauge(d, float64(*n))
	}
}

// lossPrefix begins the names of the counters of losses by reason.
const lossPrefix = "lost_"

// counters sends the account. A reason for which nothing was lost is there too: an alert that waits for a first increase
// needs a 0 before it.
func (s sender) counters(st *status) {
	n := st.Counters
	s.counter(seen, float64(n["seen"]))
	s.counter(stored, float64(n["stored"]))
	s.counter(coalesced, float64(n["coalesced"]))
	s.counter(excluded, float64(n["excluded"]))
	reasons := map[string]uint64{"ring": 0, "memory": 0, "share": 0, "missed": 0, "store": 0, "unread": 0, "stolen": 0}
	for name, value := range n {
		if reason, ok := strings.CutPrefix(name, lossPrefix); ok {
			reasons[reason] = value
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		s.counter(lost, float64(reasons[reason]), clean(reason))
	}
	s.gauge(inFlight, float64(n["in_flight"]))
	s.gauge(unaccounted, float64(st.Unaccounted))
	s.counter(probes, float64(n["own"]))
	s.counter(ringLooks, float64(n["ring_looks"]))
	s.counter(ringBytes, float64(n["ring_bytes"]))
	s.counter(batches, float64(n["batches"]))
	s.counter(batchTime, float64(n["batch_ns"])/1e9)
}

// byCause sends gaps and removals, each cause once.
func (s sender) byCause(st *status) {
	count, gone := map[string]int{}, map[string]int64{}
	for _, g := range st.Gaps {
		count[clean(g.Cause)]++
	}
	for _, r := range st.Removed {
		if r.Connections != nil {
			gone[clean(r.Cause)] += *r.Connections
		}
	}
	for cause, n := range count {
		s.gauge(gaps, float64(n), cause)
	}
	for cause, n := range gone {
		s.gauge(removals, float64(n), cause)
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// clean keeps of a text from a tape what may be in a label: Prometheus refuses labels that are not UTF-8, and a terminal may
// show the rest.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
