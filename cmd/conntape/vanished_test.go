package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/query/table"
	"github.com/conntape/conntape/store"
)

// A segment is removed after an answer has begun, as by retention: the answer reports it after its rows and by its exit
// code.
func TestSegmentRemovedMeanwhile(t *testing.T) {
	d := newDamagedTape(t)
	const count = "select count(*) as n from connections where pid > 0"
	for name, q := range map[string]question{
		"csv": {format: "csv"}, "quiet": {format: "csv", quiet: true}, "json": {format: "json"}, "html": {format: "html"}, "jsonl": {format: "jsonl"},
		"file": {format: "json", output: filepath.Join(t.TempDir(), "answer")},
	} {
		q.dir, q.zone = d.dir, time.UTC
		h, stdout, stderr := world("")
		told := map[string]bool{}
		if name == "csv" {
			h.told = told // as in the shell
		}
		asked := 0
		run := func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
			if asked++; asked == 1 {
				if err := os.Remove(d.path(2)); err != nil {
					t.Fatal(err)
				}
			}
			return table.RunSQL(context.Background(), tape, ask.Request{SQL: count}, out)
		}
		_, err := h.answerWith(t.Context(), q, run)
		d.put(t, 2, d.sealed[2])
		answer := stdout.String()
		if q.output != "" {
			text, err := os.ReadFile(q.output)
			if err != nil {
				t.Fatal(err)
			}
			answer = string(text)
		}
		want := d.path(2) + ": it was removed while it was read: 00000002.db; the answer may be partial"
		if code := h.report(err); code != exitDamaged || strings.Count(stderr.String(), "coverage: LEFT OUT "+want) != 1 {
			t.Errorf("%s: exit %d: %s", name, code, stderr)
		}
		if q.format == "json" && !strings.HasSuffix(answer, "\"cut\": null,\n\"left_out\": [\""+want+"\"]\n}\n") || q.format == "html" && !strings.Contains(answer, want) {
			t.Errorf("%s: the answer does not say so: %s", name, answer)
		}
		// The next answer says nothing of it.
		stdout.Reset()
		stderr.Reset()
		if _, err := h.answerWith(t.Context(), q, run); err != nil || strings.Contains(stderr.String()+stdout.String(), "partial") {
			t.Errorf("%s, again: %v: %s%s", name, err, stdout, stderr)
		}
	}
}

// Retention needs the room of a removed segment while it is read: the answer begins anew without it, and says that it was
// removed, not that the tape is damaged.
func TestSegmentCutMeanwhile(t *testing.T) {
	d := newDamagedTape(t)
	h, stdout, stderr := world("")
	asked := 0
	_, err := h.answerWith(t.Context(), question{dir: d.dir, zone: time.UTC, format: "csv"}, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		if asked++; asked == 1 {
			_, release, err := tape.Borrow(1)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			removed := filepath.Join(t.TempDir(), "removed")
			if err := errors.Join(os.Link(d.path(2), removed), os.Remove(d.path(2)), os.Truncate(removed, 0)); err != nil {
				t.Fatal(err)
			}
		}
		return ask.Run(context.Background(), tape.Conn(), ask.Request{SQL: "select time, pid, exe, remote_address from connections"}, out)
	})
	if code := h.report(err); code != exitDamaged || asked != 2 || !strings.Contains(stderr.String(), "LEFT OUT "+d.path(2)+": it was removed while it was read") || strings.Contains(stderr.String(), "amaged") {
		t.Errorf("exit %d, asked %d times, %d bytes: %s", code, asked, stdout.Len(), stderr)
	}
}

// removing removes a file with the first row.
type removing struct {
	format.RowWriter
	path string
}

func (r *removing) Row(values []format.Value) error {
	os.Remove(r.path)
	return r.RowWriter.Row(values)
}

// The same in the middle of the rows.
func TestSegmentRemovedAmongRows(t *testing.T) {
	d := newDamagedTape(t)
	h, stdout, stderr := world("")
	_, err := h.answerWith(t.Context(), question{dir: d.dir, zone: time.UTC, format: "csv"}, func(tape *store.Tape, out format.RowWriter) (ask.Result, error) {
		return ask.Run(context.Background(), tape.Conn(), ask.Request{SQL: "select time, pid from connections"}, &removing{out, d.path(3)})
	})
	if code := h.report(err); code != exitDamaged || strings.Count(stdout.String(), "\n") < 100 || !strings.Contains(stderr.String(), "LEFT OUT "+d.path(3)) {
		t.Errorf("exit %d, %d bytes: %s", code, stdout.Len(), stderr)
	}
}
