package format

import "testing"

func TestOutcomeWords(t *testing.T) {
	known := func(n int64) Nullable { return Nullable{n, true} }
	none := Nullable{}
	for _, one := range []struct {
		outcome                  string
		n                        int64
		duration, sent, received Nullable
		want, word               string
	}{
		{"refused", 1, known(312_000), none, none, "refused after 0.3 ms", "refused"},
		{"refused", 20, known(12_400_000), none, none, "refused after up to 12 ms", "refused"},
		{"timed out", 1, known(127_000_000_000), none, none, "timed out after 2m 7s", "timed out"},
		{"established", 1, known(120_000_000_000), known(3_355_443), known(14_336), "3.2 MiB out, 14 KiB in, 2m", "established"},
		{"established", 1, Nullable{}, known(3_355_443), known(14_336), "3.2 MiB out, 14 KiB in so far", "established"},
		{"established", 3, known(7_320_000_000_000), known(0), known(1), "0 B out, 1 B in, up to 2h 2m", "established"},
		{"reset", 1, known(4_200_000_000), known(1023), known(1 << 40), "reset, 1023 B out, 1.0 TiB in, 4.2 s", "reset"},
		{"established", 1, none, none, none, "established", "established"},
		{"in progress", 1, none, none, none, "in progress", "in progress"},
		{"established", 1, known(8 * 86400_000_000_000), known(1 << 20), known(10189), "1.0 MiB out, 10 KiB in, 8d", "established"},
		{"name probe", 2, none, none, none, "name probe", "name probe"},
	} {
		got := OutcomeInWords(one.outcome, one.n, one.duration, one.sent, one.received)
		if got != one.want || outcomeWord(got) != one.word {
			t.Errorf("got %q of %q, want %q", got, outcomeWord(got), one.want)
		}
	}
}
