package format

import (
	"bufio"
	"io"
	"strings"

	"github.com/conntape/conntape/store/escape"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

const (
	pageRows  = 500 // rows held back to measure columns before they are written
	columnGap = 2   // blanks between two columns
	fewRows   = 2   // up to this many rows, a row is a block of lines before a column is dropped
	narrowest = 8   // no column of text is squeezed below this
)

// tableWriter writes aligned columns. It formats a page of rows at a time, so widths may change between pages;
// table_fit.go fits them to the terminal. If they cannot fit, each row is a block of lines, one per column.
type tableWriter struct {
	out     *bufio.Writer
	width   int  // of the terminal, 0 for no limit
	wrap    bool // wrap long cells instead of cutting them
	paint   Palette
	columns []string
	times   []bool // time columns: only the fraction is cut
	numbers []bool // numeric columns, right-aligned
	natural []int  // widest cell so far
	names   []int  // widest name at the end of a path so far
	filled  []bool // columns with a value so far
	fitted  fit    // how the columns are shown
	page    [][]string
	rows    int64
	headed  bool
	blocks  bool // one column a line
	scratch []byte
}

func newTable(w io.Writer, o Options) *tableWriter {
	return &tableWriter{out: bufio.NewWriterSize(w, 64<<10), width: o.Width, wrap: o.Wrap, paint: o.Paint}
}

// Begin sets the columns.
func (t *tableWriter) Begin(columns []string) error {
	for _, name := range columns {
		name = escape.Safe(name)
		t.columns = append(t.columns, name)
		t.natural = append(t.natural, displayWidth(name))
		t.times = append(t.times, isTimeColumn(name))
		t.numbers = append(t.numbers, true)
		t.filled = append(t.filled, false)
		t.names = append(t.names, 0)
	}
	return nil
}

// Row keeps a row until its page is full.
func (t *tableWriter) Row(values []Value) error {
	cells := make([]string, len(values))
	for i, v := range values {
		t.scratch = v.AppendPlain(t.scratch[:0], false)
		cells[i] = string(t.scratch)
		t.natural[i] = max(t.natural[i], displayWidth(cells[i]))
		t.names[i] = max(t.names[i], nameWidth(cells[i]))
		t.filled[i] = t.filled[i] || v.Kind != Null
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

// End writes the held rows.
func (t *tableWriter) End(string) error {
	if len(t.page) > 0 || !t.headed {
		if err := t.writePage(); err != nil {
			return err
		}
	}
	if names := t.hidden(); len(names) > 0 && t.rows > 0 {
		line := "… not shown, for want of room (-o FILE writes all): " + strings.Join(names, ", ")
		if _, err := t.out.WriteString(WrapText(line, t.width, 0) + "\n"); err != nil {
			return err
		}
	}
	return t.out.Flush()
}

// writePage writes the held rows, and the header before the first page.
func (t *tableWriter) writePage() error {
	var fits bool
	t.fitted, fits = t.fit()
	if !t.headed {
		isFew := len(t.page) <= fewRows && len(t.fitted.shown) < len(t.columns)
		t.blocks = (!fits || isFew) && len(t.page) > 0
	}
	defer func() { t.rows += int64(len(t.page)); t.page = t.page[:0]; t.headed = true }()
	if t.blocks {
		return t.writeBlocks()
	}
	pretty := table.NewWriter()
	pretty.SetStyle(plainStyle())
	pretty.SuppressTrailingSpaces()
	var configs []table.ColumnConfig
	for _, i := range t.fitted.shown {
		w := t.fitted.widths[i]
		config := table.ColumnConfig{Number: len(configs) + 1, WidthMin: w, WidthMax: w, WidthMaxEnforcer: snip}
		if t.wrap {
			config.WidthMaxEnforcer = text.WrapSoft
		}
		if t.numbers[i] && t.rows+int64(len(t.page)) > 0 {
			config.Align, config.AlignHeader = text.AlignRight, text.AlignRight
		}
		configs = append(configs, config)
	}
	pretty.SetColumnConfigs(configs)
	if !t.headed {
		pretty.AppendHeader(t.header())
	}
	for _, cells := range t.page {
		pretty.AppendRow(t.paintRow(t.toRow(cells)))
	}
	if _, err := t.out.WriteString(pretty.Render()); err != nil {
		return err
	}
	return t.out.WriteByte('\n')
}

// writeBlocks writes the held rows, one column per line.
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

// toRow cuts the shown cells to their widths.
func (t *tableWriter) toRow(cells []string) table.Row {
	row := make(table.Row, 0, len(cells))
	for _, i := range t.fitted.shown {
		cell, width := cells[i], t.fitted.widths[i]
		switch {
		case t.times[i]:
			cell = dropDecimals(cell, t.fitted.lost)
		case !t.wrap:
			cell = t.shorten(cell, i, width)
		}
		row = append(row, cell)
	}
	return row
}

// header returns the highlighted names of the shown columns.
func (t *tableWriter) header() table.Row {
	row := make(table.Row, 0, len(t.columns))
	for _, i := range t.fitted.shown {
		row = append(row, t.paint.paint(colorBold, snip(t.columns[i], t.fitted.widths[i])))
	}
	return row
}

// paintRow colours outcomes, changes, bars and sparklines, which are safe and cut already.
func (t *tableWriter) paintRow(row table.Row) table.Row {
	for i, column := range t.fitted.shown {
		cell := row[i].(string)
		switch t.columns[column] {
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

// plainStyle has no lines except one below the header.
func plainStyle() table.Style {
	style := table.StyleLight
	style.Box.PaddingLeft, style.Box.PaddingRight = "", ""
	style.Box.MiddleVertical, style.Box.MiddleSeparator = "  ", "──"
	style.Format.Header = text.FormatDefault
	style.Options = table.Options{SeparateColumns: true, SeparateHeader: true}
	return style
}
