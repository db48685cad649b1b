package query

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/store"
)

// A recorder that has stopped and is asked to rotate before it has closed the tape was
// stopped all the same.
func TestStopMeetsRotation(t *testing.T) {
	dir := t.TempDir()
	now, err := store.ReadAnchor("start")
	if err != nil {
		t.Fatal(err)
	}
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "test", Backend: "fexit", BootID: "b", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(store.Batch{Now: now.Boot + 1, Counters: store.Counters{"seen": 0}}); err != nil {
		t.Fatal(err)
	}
	stopped := now.Boot + 2
	if err := w.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(store.Gap{From: stopped}, nil); err != nil {
		t.Fatal(err)
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	covered, err := tape.Coverage()
	if err != nil {
		t.Fatal(err)
	}
	c := NewCoverage(covered, Window{}, nil)
	if c.Ended != store.CauseStopped || len(c.Gaps) != 0 || !strings.Contains(c.Lines(true)[0], "(then stopped)") {
		t.Errorf("%+v: %q", c, c.Lines(true))
	}
}

// A number that nobody knows is neither 0 nor left out.
func TestUnknownLoss(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(1_800_000_000+s), 0).UTC() }
	for _, c := range []struct {
		lost       []store.Loss
		text, json string
	}{
		{[]store.Loss{{Known: 3}, {Known: 4}}, "7 connections lost", `"lost":7,"lost_unknown":false`},
		{[]store.Loss{{Unknown: true}}, "an unknown number of connections lost", `"lost":0,"lost_unknown":true`},
		{[]store.Loss{{Known: 1}, {Unknown: true}}, "1 connection and an unknown number more lost", `"lost":1,"lost_unknown":true`},
	} {
		covered := store.Coverage{From: at(0), To: at(100)}
		for i, l := range c.lost {
			covered.Gaps = append(covered.Gaps, store.GapInfo{From: at(i), To: at(i + 1), Cause: "crash", Lost: l})
			covered.Lost.Add(l)
		}
		coverage := NewCoverage(covered, Window{}, nil)
		text, err := json.Marshal(coverage)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Join(coverage.Lines(true), "\n"); !strings.Contains(lines, c.text) {
			t.Errorf("%q does not say %q", lines, c.text)
		}
		if !strings.Contains(string(text), c.json) || strings.Count(string(text), `"lost":null`) != unknown(c.lost) {
			t.Errorf("%s does not say %s", text, c.json)
		}
		var out bytes.Buffer
		if err := NewStatus("dir", covered, nil).WriteText(&out, time.UTC, at(200)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), c.text) || strings.Contains(out.String(), ", an unknown number lost") != (unknown(c.lost) > 0) {
			t.Errorf("status does not say %q:\n%s", c.text, &out)
		}
	}
}

func unknown(losses []store.Loss) (n int) {
	for _, l := range losses {
		if l.Unknown {
			n++
		}
	}
	return n
}
