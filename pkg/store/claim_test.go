package store

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A claim stands until its time, unless its process is known to be dead.
func TestClaims(t *testing.T) {
	now := time.Now()
	mine := claimText(now.Add(time.Minute))
	who, stands := readClaim(mine, now.UnixMilli())
	assert.True(t, stands)
	assert.Regexp(t, `^process \d+ on \S+$`, who)
	_, stands = readClaim(mine, now.Add(2*time.Minute).UnixMilli())
	assert.False(t, stands, "it ran out")

	ended := exec.Command("true")
	require.NoError(t, ended.Run())
	_, pid, _ := strings.Cut(mine, "process ")
	pid, _, _ = strings.Cut(pid, " ")
	dead := strings.Replace(mine, "process "+pid+" ", "process "+strconv.Itoa(ended.Process.Pid)+" ", 1)
	who, stands = readClaim(dead, now.UnixMilli())
	assert.False(t, stands, "its process ended")
	assert.Contains(t, who, strconv.Itoa(ended.Process.Pid))

	// One that is dead and not waited for.
	zombie := exec.Command("cat")
	in, err := zombie.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, zombie.Start())
	assert.False(t, isDead(zombie.Process.Pid, processSpace()))
	require.NoError(t, in.Close())
	assert.Eventually(t, func() bool { return isDead(zombie.Process.Pid, processSpace()) }, 10*time.Second, time.Millisecond)
	require.NoError(t, zombie.Wait())

	// Of a process of another machine or container nothing is known, nor of one that did not say.
	_, stands = readClaim(strings.Replace(dead, "pid:[", "pid:[9", 1), now.UnixMilli())
	assert.True(t, stands)
	old, _, _ := strings.Cut(dead, " (")
	_, stands = readClaim(old, now.UnixMilli())
	assert.True(t, stands)
	_, stands = readClaim("until whenever", now.UnixMilli())
	assert.False(t, stands)
	assert.NotEmpty(t, processSpace())
	assert.False(t, isDead(os.Getpid(), processSpace()))
}
