package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/conntape/conntape/query"
	"github.com/peterh/liner"
	"golang.org/x/term"
)

// openLines returns the lines of stdin: with a prompt, completion and history when
// it is a terminal, and stdout too.
func (h *host) openLines(history string, completer *query.Completer) (lines lineSource, terminal bool, err error) {
	_, shown := h.width()
	file, ok := h.stdin.(*os.File)
	if !ok || !shown || !term.IsTerminal(int(file.Fd())) {
		return newPlainLines(h.stdin), false, nil
	}
	path, err := h.historyPath(history)
	if err != nil {
		return nil, false, err
	}
	editor := liner.NewLiner()
	editor.SetCtrlCAborts(true)
	editor.SetTabCompletionStyle(liner.TabPrints)
	editor.SetWordCompleter(completer.Complete)
	t := &terminalLines{editor: editor, path: path}
	if path != "" {
		if old, err := os.Open(path); err == nil {
			editor.ReadHistory(old) // a broken history is none
			old.Close()
		}
	}
	return t, true, nil
}

// historyPath returns where the history is, "" for nowhere.
func (h *host) historyPath(name string) (string, error) {
	rest, ok := strings.CutPrefix(name, "~/")
	if !ok {
		return name, nil
	}
	if state := h.getenv("XDG_STATE_HOME"); state != "" && name == defaultHistory {
		return filepath.Join(state, "conntape", "history"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", nil // no home, no history
	}
	return filepath.Join(home, rest), nil
}

// terminalLines are lines that somebody types.
type terminalLines struct {
	editor *liner.State
	path   string // of the history, "" for none
}

// Line shows the prompt and returns the line that is typed.
func (t *terminalLines) Line(prompt string) (string, error) {
	line, err := t.editor.Prompt(prompt)
	switch {
	case errors.Is(err, liner.ErrPromptAborted):
		return "", errAbandoned
	case errors.Is(err, io.EOF):
		fmt.Println()
	}
	return line, err
}

// Keep puts a question into the history.
func (t *terminalLines) Keep(question string) { t.editor.AppendHistory(question) }

// Close gives the terminal back and writes the history, readable by its owner
// alone: questions may name what is nobody's business.
func (t *terminalLines) Close() {
	if t.path != "" && os.MkdirAll(filepath.Dir(t.path), 0o700) == nil {
		if file, err := os.OpenFile(t.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err == nil {
			t.editor.WriteHistory(file)
			file.Close()
		}
	}
	t.editor.Close()
}
