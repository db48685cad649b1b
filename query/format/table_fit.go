package format

import (
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
)

// A table that is too wide gives up, in this order: digits of times (to milliseconds, then seconds), parts of long
// cells (see shorten.go), and whole columns, which are named below the table: first columns without values, then dispensable ones.
// Numbers and times are never cut in the middle. A path is cut at its start, because it ends with the program's name.

// dispensable returns the columns to drop on a narrow terminal, in order.
func dispensable() []string {
	return []string{"ancestry", "cmdline", "process_id", "last_time", "start_time", "days", "histogram", "duration",
		"sizes", "times", "alike", "processes", "programs", "sparkline", "first_time", "bar"}
}

// lastToGo is the number of columns, from the end, that are dropped only if narrow columns are not enough.
const lastToGo = 2

// fewestColumns is the least number of columns left.
const fewestColumns = 3

// fit is the layout of a table.
type fit struct {
	widths []int // of every column
	shown  []int // the columns that are shown, by number
	lost   int   // decimals removed from times
}

// Decimals removed from a time's nine: none, down to milliseconds, or all with the point.
const (
	toMillisecond = 6
	toSecond      = 10
)

// fit chooses the layout and reports whether the table fits.
func (t *tableWriter) fit() (fit, bool) {
	all := make([]int, len(t.columns))
	for i := range all {
		all[i] = i
	}
	if t.width == 0 {
		return fit{widths: slices.Clone(t.natural), shown: all}, true
	}
	tries := []fit{{shown: all}, {shown: all, lost: toMillisecond}, {shown: all, lost: toSecond}}
	shown := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return !t.filled[i] })
	for _, name := range append([]string{""}, dispensable()...) {
		shown = slices.DeleteFunc(slices.Clone(shown), func(i int) bool { return t.columns[i] == name })
		tries = append(tries, fit{shown: shown, lost: toSecond})
	}
	const filled = 3 // the first of tries without empty columns
	// Prefer a narrow column to dropping a time or a count, and leave out an empty one before either.
	wide := tries[:len(tries)-lastToGo]
	for i, f := range append(slices.Clone(wide), tries[filled:]...) {
		least := leastWidth
		if i < len(wide) {
			least = goodWidth
		}
		if t.headed && !slices.Equal(f.shown, t.fitted.shown) {
			continue // a later page keeps the header's columns
		}
		if t.shrink(&f, least) && len(f.shown) >= min(len(all), fewestColumns) {
			return f, true
		}
	}
	least := fit{shown: all, lost: toSecond}
	if t.headed {
		least.shown = t.fitted.shown
	}
	fits := t.shrink(&least, func(string) int { return narrowest })
	return least, fits
}

// shrink narrows the widest text columns until all fit, down to least, and reports whether they fit.
func (t *tableWriter) shrink(f *fit, least func(column string) int) bool {
	f.widths = slices.Clone(t.natural)
	excess := columnGap*(len(f.shown)-1) - t.width
	for _, i := range f.shown {
		if t.times[i] && t.natural[i] >= len(TapeTime) {
			f.widths[i] -= f.lost
		}
		excess += f.widths[i]
	}
	names := func(i int) int { // room for the names of programs
		if isPathColumn(t.columns[i]) {
			return max(least(t.columns[i]), t.names[i])
		}
		return least(t.columns[i])
	}
	excess = t.narrow(f, excess, names)
	return t.narrow(f, excess, func(i int) int { return least(t.columns[i]) }) == 0
}

// narrow narrows the widest text columns, down to least, until nothing is in excess. It returns what is.
func (t *tableWriter) narrow(f *fit, excess int, least func(column int) int) int {
	for ; excess > 0; excess-- {
		widest := -1
		for _, i := range f.shown {
			if !t.times[i] && !t.numbers[i] && f.widths[i] > least(i) && (widest < 0 || f.widths[i] > f.widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return excess
		}
		f.widths[widest]--
	}
	return 0
}

// goodWidth is the least width at which a text column is easy to read.
func goodWidth(column string) int {
	switch {
	case isAddressColumn(column):
		return 21 // an IPv4 address with its port
	case column == "name", column == "reason", column == "why":
		return 24
	case column == "outcome":
		return 11
	case isPathColumn(column):
		return widestName
	}
	return max(leastWidth(column), 10)
}

// leastWidth is the least width at which a text column is useful.
func leastWidth(column string) int {
	switch {
	case column == "remote", column == "most", strings.HasSuffix(column, "_address"), column == "remote_ip", column == "name":
		return 15 // an IPv4 address
	case column == "process": // name and pid, indented
		return 18
	case column == "cmdline", column == "ancestry":
		return 20
	case column == "sparkline":
		return 24 // whole: a part of a curve would mislead
	case isPathColumn(column):
		return 12
	}
	return narrowest
}

// hidden returns the names of the columns that have values and are not shown.
func (t *tableWriter) hidden() []string {
	var names []string
	for i, name := range t.columns {
		if !t.blocks && t.filled[i] && !slices.Contains(t.fitted.shown, i) {
			names = append(names, name)
		}
	}
	return names
}

// dropDecimals drops the last n of the decimals of a time that has nine of them.
func dropDecimals(cell string, n int) string {
	const decimals = len("2006-01-02T15:04:05.000000000")
	if len(cell) < decimals || cell[decimals-10] != '.' {
		return cell
	}
	return cell[:decimals-n] + cell[decimals:]
}

// snip cuts a cell to a width and marks the cut.
func snip(cell string, width int) string { return text.Snip(cell, width, "…") }

// isTimeColumn reports whether a column of the public views, going by its name,
// holds times as text.
func isTimeColumn(name string) bool { return name == "time" || strings.HasSuffix(name, "_time") }

// isAddressColumn reports whether a column, going by its name, holds addresses, most with a port.
func isAddressColumn(name string) bool {
	switch name {
	case "remote", "remote_ip", "most", "local", "peer", "answers", "requested", "example":
		return true
	}
	return strings.HasSuffix(name, "_address")
}

// isPathColumn reports whether a column, going by its name, holds paths of programs.
func isPathColumn(name string) bool { return name == "exe" || name == "script" || name == "cwd" }

// displayWidth returns how many columns of a terminal a safe text takes.
func displayWidth(s string) int { return text.StringWidthWithoutEscSequences(s) }
