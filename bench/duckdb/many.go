package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/conntape/conntape/generate"
)

// The same rows in few segments and in many.
const (
	fewSegments, manySegments = 8, 2000
	segmentRows               = 1000 // rows of each of the many segments
	segmentRounds             = 15
)

// manySegments asks who connected to an address, in turns of two tapes with the same rows in few and in many segments.
func (b *bench) manySegments(out io.Writer) error {
	var tapes []asked
	for _, segments := range []int{fewSegments, manySegments} {
		tape := filepath.Join(b.dir, fmt.Sprintf("segments-%d", segments))
		if _, err := os.Stat(tape); err != nil {
			progress("writing a tape of %d segments", segments)
			o := generate.Issue5()
			o.Connections = manySegments * segmentRows
			if err := generate.WriteTape(tape, generate.New(o), segments); err != nil {
				return err
			}
		}
		tapes = append(tapes, asked{b.program, tape})
	}
	end, err := tapes[0].newest()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d connections in %d segments, and in %d; the least and the median of %d.\n\n", manySegments*segmentRows, fewSegments, manySegments, segmentRounds)
	fmt.Fprintf(out, "| question | %d segments | CPU | %d segments | CPU | ratio of the medians, of CPU |\n| --- | ---: | ---: | ---: | ---: | ---: |\n", fewSegments, manySegments)
	lastDay := end.Add(-24 * time.Hour).Format(time.RFC3339)
	for _, q := range []struct {
		name  string
		words []string
	}{
		{"an address that is nowhere, last day", []string{"query", "who", "9.9.9.9", "--since", lastDay}},
		{"an address that is nowhere, all", []string{"query", "who", "9.9.9.9"}},
		{"gaps of all", []string{"query", "gaps"}},
	} {
		progress("%s", q.name)
		var took, cpu [2][]time.Duration
		for range segmentRounds {
			for i := range tapes {
				t, c, _, err := tapes[i].ask(q.words...)
				if err != nil {
					return fmt.Errorf("%s: %w", q.name, err)
				}
				took[i], cpu[i] = append(took[i], t), append(cpu[i], c)
			}
		}
		row := "| " + q.name
		for i := range tapes {
			row += fmt.Sprintf(" | %s, %s | %s, %s", ms(slices.Min(took[i])), ms(median(took[i])), ms(slices.Min(cpu[i])), ms(median(cpu[i])))
		}
		fmt.Fprintf(out, "%s | %.2f, %.2f |\n", row, median(took[1]).Seconds()/median(took[0]).Seconds(), median(cpu[1]).Seconds()/median(cpu[0]).Seconds())
	}
	return nil
}

func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }
