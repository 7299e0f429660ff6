package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"murmuration/pkg/load"
)

// lineEvery is how often progress is written where it cannot be redrawn: often enough to see that the
// job lives, seldom enough for a log.
const lineEvery = 10 * time.Second

// progress shows how far a load is: a bar with rate, share and time left on a terminal, plain lines elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	title    string
	began    time.Time
	written  time.Time
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// start begins the progress of input i of n.
func (p *progress) start(in load.Input, i, n int) {
	p.began, p.written = time.Now(), time.Now()
	p.title = in.Name
	if n > 1 {
		p.title = fmt.Sprintf("[%d/%d] %s", i, n, in.Name)
	}
	if !p.terminal {
		return
	}
	size := in.Size
	if size == 0 {
		size = -1 // a spinner: nobody knows how much comes through a pipe
	}
	p.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(p.title),
		progressbar.OptionShowBytes(true), progressbar.OptionSetPredictTime(true), progressbar.OptionShowElapsedTimeOnFinish(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
}

func (p *progress) show(x load.Progress) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%s %s packets", p.title, thousands(x.Packets)))
		// The bar's only error is that the terminal cannot be written to, which is no reason to stop loading.
		_ = p.bar.Set64(x.Read)
		return
	}
	if now := time.Now(); now.Sub(p.written) >= lineEvery {
		p.written = now
		fmt.Fprintln(p.w, p.line(x, now.Sub(p.began)))
	}
}

// line is one plain line: share, packets, rate and time left as far as they are known.
func (p *progress) line(x load.Progress, elapsed time.Duration) string {
	s := fmt.Sprintf("%s: %s packets, %s events, %s packets/s", p.title, thousands(x.Packets), thousands(x.Rows), thousands(perSecond(x.Packets, elapsed)))
	if x.Size <= 0 || x.Read <= 0 {
		return s
	}
	share := min(float64(x.Read)/float64(x.Size), 1)
	left := time.Duration(float64(elapsed) * (1 - share) / share)
	return fmt.Sprintf("%s, %.0f %%, %s left", s, 100*share, left.Round(time.Second))
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
