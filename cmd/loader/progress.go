package main

import (
	"fmt"
	"io"
	"os"
	"sync"
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
	read, size := uint64(min(x.Read, x.Size)), uint64(x.Size) //nolint:gosec // Above 0.
	return fmt.Sprintf("%s, %.0f %%, %s left", s, percent(read, size), timeLeft(0, read, size, elapsed))
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}

func percent(done, total uint64) float64 { return 100 * float64(done) / float64(total) }

// timeLeft is how long the rest takes at the pace so far: in elapsed, what is done grew from before.
func timeLeft(before, done, total uint64, elapsed time.Duration) time.Duration {
	return time.Duration(float64(elapsed) * float64(total-done) / float64(done-before)).Round(time.Second)
}

// pace writes share, rate and time left of a job; without a unit there is no rate, and before anything was done no time left.
func pace(before, done, total uint64, unit string, elapsed time.Duration) string {
	s := fmt.Sprintf("%.0f %%", percent(done, total))
	if unit != "" {
		s += fmt.Sprintf(", %s %s/s", thousands(perSecond(done-before, elapsed)), unit)
	}
	if done > before {
		s += fmt.Sprintf(", %s left", timeLeft(before, done, total, elapsed))
	}
	return s
}

// stages shows how far the stages of a long job are: one line that is redrawn on a terminal, a line now and then elsewhere. Its
// methods may be called by several goroutines.
type stages struct {
	mu             sync.Mutex
	p              *progress
	now            func() time.Time
	stage          string
	began, written time.Time
	before, done   uint64 // when the stage was first heard of, and now
}

func newStages(w io.Writer) *stages {
	return &stages{p: newProgress(w), now: time.Now, written: time.Now()}
}

// show tells that a stage has done so much of a total. A stage that goes back has begun again. On a total of 0 nothing is known.
func (s *stages) show(stage string, done, total uint64, unit string) {
	const redraw = 100 * time.Millisecond
	s.mu.Lock()
	defer s.mu.Unlock()
	now, fresh := s.now(), false
	if done = min(done, total); stage != s.stage || done < s.done {
		s.stage, s.began, s.before, fresh = stage, now, done, true
	}
	s.done = done
	switch {
	case total == 0:
	case s.p.terminal && done == total:
		fmt.Fprint(s.p.w, "\r\033[K")
	case s.p.terminal && (fresh || now.Sub(s.written) >= redraw):
		s.written = now
		fmt.Fprintf(s.p.w, "\r\033[K%s %s", stage, pace(s.before, done, total, unit, now.Sub(s.began)))
	case !s.p.terminal && now.Sub(s.written) >= lineEvery:
		s.written = now
		fmt.Fprintf(s.p.w, "%s: %s\n", stage, pace(s.before, done, total, unit, now.Sub(s.began)))
	}
}

// of is show for jobs that count in one unit.
func (s *stages) of(unit string) func(stage string, done, total uint64) {
	return func(stage string, done, total uint64) { s.show(stage, done, total, unit) }
}

// share is show for jobs that know what part of a stage is done, 0 to 1, and no more.
func (s *stages) share(stage string, share float64) {
	const whole = 1_000_000
	s.show(stage, uint64(whole*max(share, 0)), whole, "")
}
