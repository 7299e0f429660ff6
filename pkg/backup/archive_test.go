package backup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packed is an archive with two files.
func packed(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "b")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for _, f := range []string{"a", "b"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), make([]byte, 100_000), 0o600))
	}
	target, err := findPlace(filepath.Join(filepath.Dir(dir), name))
	require.NoError(t, err)
	require.NoError(t, pack(t.Context(), dir, target, func(uint64, uint64) {}))
	return target.path
}

// The checksum of a compressed archive stands behind everything that tar reads, and is read nevertheless.
func TestDamagedArchive(t *testing.T) {
	archive, into := packed(t, "x.tar.zst"), filepath.Join(t.TempDir(), "into")
	last := uint64(0)
	require.NoError(t, unpack(t.Context(), archive, into, func(done, _ uint64) { last = done }))
	data, err := os.ReadFile(archive)
	require.NoError(t, err)
	assert.Equal(t, uint64(len(data)), last, "it is read to its end")
	unpackOf := func(data []byte) error {
		require.NoError(t, os.WriteFile(archive, data, 0o600))
		require.NoError(t, os.RemoveAll(into))
		return unpack(t.Context(), archive, into, func(uint64, uint64) {})
	}
	short := data[:len(data)-1]
	err = unpackOf(short)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "was it cut off")
	data[len(data)-1] ^= 1 // Of the checksum of the frame: what is in it can be read all the same.
	err = unpackOf(data)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, archive)
	require.NotContains(t, err.Error(), "cut off")
}

// What a killed process left is swept; what is in use, and what is not an unpacked archive, is not.
func TestSweep(t *testing.T) {
	engine := t.TempDir()
	used, err := newRoom(engine)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(used.path(), 0o700))
	dead, err := newRoom(engine)
	require.NoError(t, err)
	require.NoError(t, dead.lock.Unlock(), "as the system does at the end of a process")
	without := filepath.Join(engine, "unpacked-1234")
	require.NoError(t, os.MkdirAll(filepath.Join(without, "data"), 0o700))
	other := filepath.Join(engine, "murmuration-x")
	require.NoError(t, os.Mkdir(other, 0o700))
	sweep(engine)
	require.DirExists(t, used.path())
	require.DirExists(t, other)
	require.NoDirExists(t, dead.dir)
	require.NoDirExists(t, without)
	used.remove()
	require.NoDirExists(t, used.dir)
}
