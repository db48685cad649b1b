package recorder

import (
	"context"
	"errors"
	"log/slog"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/store/retain"
)

// Maintain has a request done to a tape: by its recorder, or, when there is none, at once, with what is done written to
// the log of the tape as a recorder would.
func Maintain(ctx context.Context, dir string, r store.Request, version string, log *slog.Logger) (a store.Answer, err error) {
	o := store.WriterOptions{Version: version, Now: takeAnchor(anchorStart), Logger: log, Context: ctx, Limits: retain.Limits{MaxHeldBytes: retain.DefaultMaxHeldBytes}}
	if err := describeHost(&o); err != nil {
		return a, err
	}
	keeper := store.NewLogKeeper(dir, store.LogOptions{
		Host: o.Host, MachineID: o.MachineID, BootID: o.BootID, Version: version, Logger: log,
	})
	o.Events = keeper.Listen
	a, err = store.Ask(dir, r, o, ctx.Done())
	return a, errors.Join(err, keeper.Close())
}
