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

// openLines returns the lines of stdin. If stdin and stdout are terminals, it has a prompt, completion and history.
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
			editor.ReadHistory(old) // a broken history is ignored
			old.Close()
		}
	}
	return t, true, nil
}

// historyPath returns the path of the history, "" for none.
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
		return "", nil // no home directory
	}
	return filepath.Join(home, rest), nil
}

// terminalLines reads lines from a terminal.
type terminalLines struct {
	editor *liner.State
	path   string // of the history; "": none
}

// Line shows the prompt and reads a line.
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

// Keep adds a question to the history.
func (t *terminalLines) Keep(question string) { t.editor.AppendHistory(question) }

// Close restores the terminal and writes the history, readable only by its owner: questions may be confidential.
func (t *terminalLines) Close() {
	if t.path != "" && os.MkdirAll(filepath.Dir(t.path), 0o700) == nil {
		if file, err := os.OpenFile(t.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err == nil {
			t.editor.WriteHistory(file)
			file.Close()
		}
	}
	t.editor.Close()
}
