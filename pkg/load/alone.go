package load

import (
	"context"
	"fmt"
	"strings"
)

// alone runs f while no other process loads what begins with head, wherever it runs and whatever the input is called
// there. It waits for one that does.
func (l *Loader) alone(ctx context.Context, name string, head [32]byte, f func(context.Context) error) error {
	held, lease, err := l.store.WaitLease(ctx, leaseName(head), func(holder error) {
		_, who, _ := strings.Cut(holder.Error(), ": ")
		l.opt.Logger.WarnContext(ctx, "waiting for another load of this content", "input", name, "holder", who)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	err = f(held)
	if cause := context.Cause(held); err != nil && cause != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w; load it again to go on", name, cause) // The lease was lost, and with it everything else.
	}
	// A lease that cannot be given back runs out by itself: after another error it is not worth a word.
	if releaseErr := lease.Release(ctx); err == nil {
		err = releaseErr
	}
	return err
}

// leaseName is the name of the lease of inputs that begin with head: lower-case letters, as leases are named.
func leaseName(head [32]byte) string {
	name := []byte("load")
	for _, b := range head[:8] {
		name = append(name, 'a'+b>>4, 'a'+b&15)
	}
	return string(name)
}
