package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/generate"
	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/input"
	"github.com/conntape/conntape/store"
)

// Every beacon and scan that is planted is found, among the timers of a host: beacons
// with no jitter to 30%. Precision counts what else is found, of beacons without the
// timers that a host has, which no query can tell from them.
func TestPlantedIsFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tape")
	s := generate.New(generate.Options{Seed: 11, Connections: 60_000, Processes: 100, Images: 40, Endpoints: 2000,
		Begin: uint64(time.Hour), Span: 24 * time.Hour, Intrusion: true, Story: true})
	if err := generate.WriteTape(dir, s, 3); err != nil {
		t.Fatal(err)
	}
	tape, err := store.OpenTape(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tape.Close()
	for name, of := range map[string]generate.Kind{"beacons": generate.Beacon, "fanout": generate.Scan} {
		rows := askCanned(t, tape, name)
		planted := make(map[string]bool) // whether it was found, by program and, of beacons, destination
		benign := make(map[string]bool)
		key := func(exe, remote string) string {
			if name == "fanout" {
				return exe
			}
			return exe + " " + remote
		}
		for _, p := range s.Planted() {
			k := key(p.Process.Exe, fmt.Sprintf("%s:%d", p.Remotes[0].Address, p.Remotes[0].Port))
			switch p.Kind {
			case of:
				planted[k] = false
			case generate.Periodic, generate.Exfiltration:
				benign[k] = true
			}
		}
		wrong := 0
		for _, row := range rows {
			k := key(row["exe"], row["remote"])
			_, isPlanted := planted[k]
			switch {
			case isPlanted:
				planted[k] = true
			case !benign[k]:
				wrong++
			}
		}
		found := 0
		for k, ok := range planted {
			if ok {
				found++
			} else {
				t.Errorf("%s: %s is not found", name, k)
			}
		}
		t.Logf("%s: %d planted, %d found; recall %.2f, precision %.2f (%d others)", name, len(planted), found,
			float64(found)/float64(len(planted)), float64(found)/float64(found+wrong), wrong)
		if found == 0 || wrong > 40*found {
			t.Errorf("%s: %d of %d found, %d others", name, found, len(planted), wrong)
		}
	}
}

// askCanned asks a canned query with its defaults and returns the rows by column.
func askCanned(t *testing.T, tape *store.Tape, name string) []map[string]string {
	t.Helper()
	c := cannedNamed(t, name)
	params, err := c.Bind(nil, input.Clock{}, input.Window{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	to, err := format.NewRowWriter("csv", &out, format.Options{Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewPlanned(tape, c, ask.Request{SQL: c.Source, Params: params}, input.Window{}).Run(context.Background(), to); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, r := range records[1:] {
		row := make(map[string]string)
		for i, cell := range r {
			row[records[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return rows
}
