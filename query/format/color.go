package format

// Palette says whether to use colours. A text is made safe before it is coloured; colours are around the text and never
// part of a cell.
type Palette bool

// Escape sequences of colours: https://www.ecma-international.org/publications-and-standards/standards/ecma-48/
const (
	colorNone   = "\x1b[0m"
	colorBold   = "\x1b[1m"
	colorFaint  = "\x1b[2m"
	colorRed    = "\x1b[31m"
	colorGreen  = "\x1b[32m"
	colorYellow = "\x1b[33m"
	colorCyan   = "\x1b[36m"
)

// paint puts a colour around a text.
func (p Palette) paint(color, text string) string {
	if !bool(p) || color == "" || text == "" {
		return text
	}
	return color + text + colorNone
}

// outcome paints a text that shows an outcome.
func (p Palette) outcome(outcome, shown string) string { return p.paint(outcomeColor(outcome), shown) }

// changeColor returns the colour of a change that diff tells.
func changeColor(change string) string {
	switch change {
	case "new", "more":
		return colorGreen
	case "gone", "less":
		return colorRed
	}
	return ""
}

// outcomeColor returns the colour of an outcome, "" for most.
func outcomeColor(outcome string) string {
	switch outcomeWord(outcome) {
	case "established":
		return colorGreen
	case "denied", "refused", "failed":
		return colorRed
	case "timed out", "unreachable", "interrupted", "reset", "aborted":
		return colorYellow
	case "name probe", "disconnected", "unknown":
		return colorFaint
	}
	return ""
}
