package tapelog

// maxLogText bounds a text in the log: a leaf is a short line.
const maxLogText = 1000

// Cut returns as much of a text as a leaf takes.
func Cut(text string) string {
	if len(text) > maxLogText {
		return text[:maxLogText]
	}
	return text
}
