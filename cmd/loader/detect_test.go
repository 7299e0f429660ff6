package main

import (
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/require"
)

// A container of a large machine has what it was given, not what the machine has.
func TestFreeMemoryIsWithinTheLimit(t *testing.T) {
	machine, err := freeMemory(func() (uint64, error) { return 0, memlimit.ErrNoLimit })
	require.NoError(t, err)
	require.Greater(t, machine, uint64(64<<20), "this test runs in more")

	container, err := freeMemory(memlimit.Limit(32 << 20))
	require.NoError(t, err)
	require.Equal(t, uint64(32<<20), container)

	ample, err := freeMemory(memlimit.Limit(1 << 60))
	require.NoError(t, err)
	require.Less(t, ample, uint64(1<<50), "a limit above what there is gives nothing")
}
