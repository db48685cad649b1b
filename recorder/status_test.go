package recorder

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	start := time.Now()
	p := pace{at: start}
	for _, step := range []struct {
		seen  uint64
		after time.Duration
		want  float64
	}{
		{100, time.Second, 100},
		{94, 2 * time.Second, 0}, // six were the recorder's own
		{94, 2 * time.Second, 0},
		{124, 17 * time.Second, 2}, // a tick that came late
	} {
		if got := p.rate(step.seen, start.Add(step.after)); got != step.want {
			t.Errorf("%d seen after %v: %v a second, want %v", step.seen, step.after, got, step.want)
		}
	}
}
