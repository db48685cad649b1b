package main

import (
	"context"
	"io"
	"log/slog"
)

// logHandler writes log lines to stderr. In front of journald, which knows the time of a
// line by itself, a line has no time, and begins with the number of its level in angle brackets
// (sd-daemon(3)), so that journalctl -p err finds it.
func logHandler(w io.Writer, level slog.Leveler, journal bool) slog.Handler {
	if !journal {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	}
	handler := func(priority string) slog.Handler {
		return slog.NewTextHandler(&prefixed{w, priority}, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	}
	return &journalHandler{debug: handler("<7>"), info: handler("<6>"), warn: handler("<4>"), fail: handler("<3>")}
}

// withoutTime leaves time and level of a line out.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// prefixed writes something in front of every line. A handler writes a line in one piece.
type prefixed struct {
	w      io.Writer
	prefix string
}

func (p *prefixed) Write(line []byte) (int, error) {
	if _, err := p.w.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// journalHandler has a handler for each level.
type journalHandler struct{ debug, info, warn, fail slog.Handler }

func (h *journalHandler) at(level slog.Level) slog.Handler {
	switch {
	case level >= slog.LevelError:
		return h.fail
	case level >= slog.LevelWarn:
		return h.warn
	case level >= slog.LevelInfo:
		return h.info
	}
	return h.debug
}

// Enabled reports whether a line of that level is written.
func (h *journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.at(level).Enabled(ctx, level)
}

// Handle writes a line.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.at(r.Level).Handle(ctx, r)
}

// WithAttrs returns a handler whose lines have these attributes too.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
}

// WithGroup returns a handler whose attributes are in a group.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}

func (h *journalHandler) each(change func(slog.Handler) slog.Handler) slog.Handler {
	return &journalHandler{change(h.debug), change(h.info), change(h.warn), change(h.fail)}
}
