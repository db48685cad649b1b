package query

import (
	"bufio"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

const (
	pageRows  = 500 // rows held back to measure columns before they are written
	columnGap = 2   // blanks between two columns
	briefer   = 6   // digits that a time loses when it is shown to the millisecond
	narrowest = 8   // no column of text is squeezed below this
)

// tableWriter writes aligned columns. It holds a page of rows at a time, so the
// widths may change from one page to the next. Where the columns do not fit the
// terminal, times are shown to the millisecond and the widest columns are cut
// with an ellipsis; where even that is not enough, each row is written as a block
// of lines, one column a line.
type tableWriter struct {
	out     *bufio.Writer
	width   int // of the terminal, 0 for no limit
	paint   Palette
	columns []string
	times   []bool // columns of times: never cut, but shown to the millisecond
	brief   []bool // columns of times that are shown so
	numbers []bool // columns of numbers alone, set to the right
	natural []int  // widest cell so far
	page    [][]string
	rows    int64
	headed  bool
	blocks  bool // one column a line
	scratch []byte
}

func newTable(w io.Writer, width int, paint Palette) *tableWriter {
	return &tableWriter{out: bufio.NewWriterSize(w, 64<<10), width: width, paint: paint}
}

// Begin takes the names of the columns.
func (t *tableWriter) Begin(columns []string) error {
	for _, name := range columns {
		name = Safe(name)
		t.columns = append(t.columns, name)
		t.natural = append(t.natural, displayWidth(name))
		t.times = append(t.times, isTimeColumn(name))
		t.brief = append(t.brief, false)
		t.numbers = append(t.numbers, true)
	}
	return nil
}

// Row keeps a row until its page is full.
func (t *tableWriter) Row(values []Value) error {
	cells := make([]string, len(values))
	for i, v := range values {
		t.scratch = v.appendPlain(t.scratch[:0], false)
		cells[i] = string(t.scratch)
		t.natural[i] = max(t.natural[i], displayWidth(cells[i]))
		t.numbers[i] = t.numbers[i] && (v.IsNumber() || v.Kind == Null)
	}
	t.page = append(t.page, cells)
	if len(t.page) < pageRows {
		return nil
	}
	if err := t.writePage(); err != nil {
		return err
	}
	return t.out.Flush()
}

// End writes what is held back.
func (t *tableWriter) End(string) error {
	if len(t.page) > 0 || !t.headed {
		if err := t.writePage(); err != nil {
			return err
		}
	}
	return t.out.Flush()
}

// writePage writes the rows held back, and the header before the first of them.
func (t *tableWriter) writePage() error {
	widths, fits := t.fit()
	if !t.headed {
		t.blocks = !fits && len(t.page) > 0
	}
	defer func() { t.rows += int64(len(t.page)); t.page = t.page[:0]; t.headed = true }()
	if t.blocks {
		return t.writeBlocks()
	}
	pretty := table.NewWriter()
	pretty.SetStyle(plainStyle())
	pretty.SuppressTrailingSpaces()
	configs := make([]table.ColumnConfig, len(t.columns))
	for i, w := range widths {
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMin: w, WidthMax: w, WidthMaxEnforcer: snip}
		if t.numbers[i] && t.rows+int64(len(t.page)) > 0 {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	pretty.SetColumnConfigs(configs)
	if !t.headed {
		pretty.AppendHeader(t.paintHeader(t.toRow(t.columns, widths)))
	}
	for _, cells := range t.page {
		pretty.AppendRow(t.paintRow(t.toRow(cells, widths)))
	}
	if _, err := t.out.WriteString(pretty.Render()); err != nil {
		return err
	}
	return t.out.WriteByte('\n')
}

// fit returns the width of each column and whether they fit the terminal.
func (t *tableWriter) fit() (widths []int, fits bool) {
	widths = append(widths, t.natural...)
	if t.width == 0 {
		return widths, true
	}
	excess := columnGap*(len(widths)-1) - t.width
	for _, w := range widths {
		excess += w
	}
	for i := range widths {
		if excess > 0 && t.times[i] && widths[i] == t.natural[i] && t.natural[i] >= len(tapeTime) {
			t.brief[i] = true
			widths[i] -= briefer
			excess -= briefer
		}
	}
	for ; excess > 0; excess-- {
		widest := -1
		for i, w := range widths {
			if !t.times[i] && !t.numbers[i] && w > narrowest && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return widths, false
		}
		widths[widest]--
	}
	return widths, true
}

// writeBlocks writes the rows held back one column a line.
func (t *tableWriter) writeBlocks() error {
	label := 0
	for _, name := range t.columns {
		label = max(label, displayWidth(name))
	}
	for i, cells := range t.page {
		if t.rows > 0 || i > 0 {
			if err := t.out.WriteByte('\n'); err != nil {
				return err
			}
		}
		for c, cell := range cells {
			gap := strings.Repeat(" ", label-displayWidth(t.columns[c])+columnGap)
			line := strings.TrimRight(t.columns[c]+gap+cell, " ")
			if _, err := t.out.WriteString(line + "\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// toRow cuts cells to their widths.
func (t *tableWriter) toRow(cells []string, widths []int) table.Row {
	row := make(table.Row, len(cells))
	for i, cell := range cells {
		if t.brief[i] {
			cell = toMillisecond(cell)
		}
		row[i] = snip(cell, widths[i])
	}
	return row
}

// paintHeader makes the names of columns stand out.
func (t *tableWriter) paintHeader(row table.Row) table.Row {
	for i := range row {
		row[i] = t.paint.paint(colorBold, row[i].(string))
	}
	return row
}

// paintRow paints outcomes, changes, bars and sparklines. What it paints is safe and cut already.
func (t *tableWriter) paintRow(row table.Row) table.Row {
	for i, name := range t.columns {
		cell := row[i].(string)
		switch name {
		case "outcome":
			row[i] = t.paint.outcome(cell, cell)
		case "change":
			row[i] = t.paint.paint(changeColor(cell), cell)
		case "bar", "sparkline":
			row[i] = t.paint.paint(colorCyan, cell)
		}
	}
	return row
}

// toMillisecond drops the last six of the nine decimals of a time.
func toMillisecond(cell string) string {
	const decimals = len("2006-01-02T15:04:05.000000000")
	if len(cell) < decimals || cell[decimals-10] != '.' {
		return cell
	}
	return cell[:decimals-briefer] + cell[decimals:]
}

// snip cuts a cell to a width and marks the cut.
func snip(cell string, width int) string { return text.Snip(cell, width, "…") }

// plainStyle is columns without lines, but for one below the header.
func plainStyle() table.Style {
	style := table.StyleLight
	style.Box.PaddingLeft, style.Box.PaddingRight = "", ""
	style.Box.MiddleVertical, style.Box.MiddleSeparator = "  ", "──"
	style.Format.Header = text.FormatDefault
	style.Options = table.Options{SeparateColumns: true, SeparateHeader: true}
	return style
}

// isTimeColumn reports whether a column of the public views, going by its name,
// holds times as text.
func isTimeColumn(name string) bool { return name == "time" || strings.HasSuffix(name, "_time") }

// displayWidth returns how many columns of a terminal a safe text takes.
func displayWidth(s string) int { return text.StringWidthWithoutEscSequences(s) }
