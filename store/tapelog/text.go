package tapelog

// maxLogText limits a text in the log, in bytes: a leaf is a short line.
const maxLogText = 1000

// Cut shortens a text to the limit of a leaf.
func Cut(text string) string {
	if len(text) > maxLogText {
		return text[:maxLogText]
	}
	return text
}
