package main

import (
	"context"
	"io"
	"log/slog"
)

// logHandler writes log lines to stderr. For journald, which adds the time itself, a line has no time and begins with
// its priority in angle brackets (sd-daemon(3)), so that journalctl -p err finds it.
func logHandler(w io.Writer, level slog.Leveler, journal bool) slog.Handler {
	if !journal {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	}
	handler := func(priority string) slog.Handler {
		return slog.NewTextHandler(&prefixed{w, priority}, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	}
	return &journalHandler{debug: handler("<7>"), info: handler("<6>"), warn: handler("<4>"), fail: handler("<3>")}
}

// withoutTime removes time and level from a line.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// prefixed writes a prefix before each line. A handler writes a line with one Write.
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

// Enabled reports whether lines of this level are written.
func (h *journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.at(level).Enabled(ctx, level)
}

// Handle writes a line.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.at(r.Level).Handle(ctx, r)
}

// WithAttrs returns a handler that adds these attributes.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(s slog.Handler) slog.Handler { return s.WithAttrs(attrs) })
}

// WithGroup returns a handler that puts attributes into a group.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(s slog.Handler) slog.Handler { return s.WithGroup(name) })
}

func (h *journalHandler) each(change func(slog.Handler) slog.Handler) slog.Handler {
	return &journalHandler{change(h.debug), change(h.info), change(h.warn), change(h.fail)}
}
