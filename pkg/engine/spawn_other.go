//go:build !linux

package engine

import (
	"fmt"
	"time"
)

// MaybeChild returns at once: the embedded engine runs on Linux.
func MaybeChild() {}

type process struct{ ended chan struct{} }

func (p *process) outcome() string        { return "" }
func (p *process) awaitEnd(time.Duration) {}

func spawn(layout, startRequest) (*link, *process, error) {
	return nil, nil, fmt.Errorf("%w: the embedded ClickHouse runs on Linux only; give the address of a server", ErrStart)
}

func lastLines(int, time.Time, ...string) string { return "" }
