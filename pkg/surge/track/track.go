// Package track does one run of surge detection: it reads hourly counts from the store, has pkg/surge find the surges, and
// writes them back. A run goes on where the last one ended, so that one every hour costs an hour's work.
package track

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"murmuration/pkg/store"
	"murmuration/pkg/surge"
)

// ErrNoData is returned when there is nothing in the time to look at; ErrAhead when it is asked to end where there can be nothing yet.
var (
	ErrNoData = errors.New("no probes to look at")
	ErrAhead  = errors.New("the hours would end in the future")
)

// tolerated is how far events may be ahead of the clock without a word: clocks of sensors differ.
const tolerated = time.Hour

// Window says which hours a run decides about.
type Window struct {
	All    bool          // all hours there are
	Length time.Duration // the last so many; 0: the hours since the last run, or all if there was none with these parameters
}

// Options of a run.
type Options struct {
	Window  Window
	At      time.Time // behind the last hour, cut to the hour; zero: the hour of the newest event that is not ahead of the clock, which may still go on, is left out
	Now     time.Time // the clock; zero: that of the machine
	Params  surge.Params
	Version string // of the program, for the record
	Logger  *slog.Logger
	// Progress, if set, is told how many rows of how many a stage has read.
	Progress func(stage string, done, total uint64)
}

// Report is what came of a run.
type Report struct {
	Run      string
	Started  time.Time
	From, To time.Time     // hours decided about; none if From is not before To: what came before From was decided about already
	Series   int           // busy enough to be looked at
	Found    []store.Surge // found or followed, by series
	Ready    time.Time     // hour from which alarms are possible at all
	Notes    []string      // what a reader should know about the run, in sentences
}

// Run decides about the hours of the window and records what it found. A run that fails leaves what earlier runs found
// as it is, and its own row says why it failed.
func Run(ctx context.Context, st *store.Store, opt Options) (*Report, error) {
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if err := opt.Params.Check(); err != nil {
		return nil, err //nolint:wrapcheck // It is a sentence.
	}
	if opt.Now.IsZero() {
		opt.Now = time.Now()
	}
	params, err := json.Marshal(opt.Params)
	if err != nil {
		return nil, fmt.Errorf("record parameters: %w", err)
	}
	born, from, to, err := hours(ctx, st, opt, string(params))
	if err != nil {
		return nil, err
	}
	kept, notes, err := dropped(ctx, st, born, from.Add(-time.Duration(opt.Params.Past())*time.Hour), to)
	if err != nil {
		return nil, err
	}
	if born = kept; from.Before(born) {
		from = born
	}
	started := opt.Now.UTC()
	run := store.SurgeRun{
		Run: started.Format("20060102T150405.000000Z"), Started: started, From: from, To: to, Parameters: string(params),
		Version: opt.Version, Status: store.RunRunning,
	}
	rep := &Report{Run: run.Run, Started: started, From: from, To: to, Ready: born.Add(time.Duration(opt.Params.Warmup) * time.Hour), Notes: notes}
	if !from.Before(to) {
		return rep, nil // Nothing new.
	}
	if err := st.PutSurgeRun(ctx, run); err != nil {
		return nil, fmt.Errorf("begin the run: %w", err)
	}
	if opt.Progress == nil {
		opt.Progress = func(string, uint64, uint64) {}
	}
	f := finder{progress: opt.Progress, params: opt.Params, born: hour(born), from: hour(from), to: hour(to)}
	err = f.run(ctx, st)
	if err == nil {
		run.Series, run.Surges, run.Finished = uint64(f.series), uint64(len(f.found)), time.Now().UTC() //nolint:gosec // Counts.
		err = st.SaveSurges(ctx, run, f.found)
	}
	if err != nil {
		return nil, errors.Join(err, fail(ctx, st, run, err))
	}
	rep.Series, rep.Found = f.series, f.found
	opt.Logger.InfoContext(ctx, "looked for surges", "from", from, "to", to, "series", rep.Series, "surges", len(rep.Found))
	return rep, nil
}

// fail records why a run failed, also when its context has ended.
func fail(ctx context.Context, st *store.Store, run store.SurgeRun, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	run.Status, run.Error, run.Finished = store.RunFailed, why.Error(), time.Now().UTC()
	if err := st.PutSurgeRun(ctx, run); err != nil {
		return fmt.Errorf("record the failed run: %w", err)
	}
	return nil
}

// hours returns the first hour of the data, and the hours to decide about.
func hours(ctx context.Context, st *store.Store, opt Options, params string) (born, from, to time.Time, err error) {
	first, last, err := st.Span(ctx)
	if err != nil {
		return born, from, to, fmt.Errorf("look up the time span of the data: %w", err)
	}
	if first.IsZero() {
		return born, from, to, fmt.Errorf("%w: no probe and no request is loaded yet; load a capture first (loader load FILE)", ErrNoData)
	}
	born = first.Truncate(time.Hour)
	if to, err = end(ctx, st, opt, last); err != nil {
		return born, from, to, err
	}
	from = born
	switch {
	case opt.Window.All:
	default:
		run, ok, err := st.LastSurgeRun(ctx)
		if err != nil {
			return born, from, to, fmt.Errorf("look up the last run: %w", err)
		}
		if ok = ok && run.Parameters == params && !run.From.After(to); ok {
			from = decided(run)
		}
		// Hours between what was decided and the last so many would never be looked at.
		if again := to.Add(-opt.Window.Length); opt.Window.Length > 0 && (!ok || again.Before(from)) {
			from = again
		}
	}
	if from.Before(born) {
		from = born
	}
	if to.Before(born) || from.After(last) && !from.Equal(to) && opt.Window.Length > 0 {
		return born, from, to, fmt.Errorf("%w: it is %s to %s, the data is of %s to %s", ErrNoData,
			from.Format(time.RFC3339), to.Format(time.RFC3339), first.Format(time.RFC3339), last.Format(time.RFC3339))
	}
	return born, from, to, nil
}

// end returns the hour at which the hours end, of data whose newest event is at last. Without Options.At that is never behind the clock's hour: an
// event with a wrong time would have the hours until then decided about before anything came in of them.
func end(ctx context.Context, st *store.Store, opt Options, last time.Time) (time.Time, error) {
	present := opt.Now.UTC().Truncate(time.Hour)
	if !opt.At.IsZero() {
		at := opt.At.UTC().Truncate(time.Hour)
		if at.After(present.Add(time.Hour)) && at.After(last.Truncate(time.Hour).Add(time.Hour)) {
			return at, fmt.Errorf("%w: %s is ahead of the clock (%s) and behind the newest event (%s); hours that nothing has come in of yet cannot be decided about",
				ErrAhead, at.Format(time.RFC3339), opt.Now.UTC().Format(time.RFC3339), last.Format(time.RFC3339))
		}
		return at, nil
	}
	to := last.Truncate(time.Hour)
	if !to.After(present) {
		return to, nil
	}
	if ahead := last.Sub(opt.Now); ahead > tolerated {
		opt.Logger.WarnContext(ctx, "surges are not looked for among events that are ahead of the clock: was the clock wrong of the machine that captured them, or is this one's?",
			"newest", last.Format(time.RFC3339), "ahead", inWords(ahead))
	}
	return newest(ctx, st, present, last)
}

// newest returns the last hour with probes that is not behind present.
func newest(ctx context.Context, st *store.Store, present, last time.Time) (time.Time, error) {
	hour, err := st.LastHour(ctx, present)
	if err == nil && hour.IsZero() {
		err = fmt.Errorf("%w: all hours that are kept are ahead of the clock, which says %s; the newest event is at %s", ErrNoData, present.Format(time.RFC3339), last.Format(time.RFC3339))
	}
	return hour, err //nolint:wrapcheck // It says what it did.
}

// inWords writes a length of time in days where it is days.
func inWords(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.Round(time.Minute).String()
}

// decided is the hour up to which a run decided. What was ahead of the clock when it ran is not decided about, whatever it was told: what came in
// of it later would never be looked at.
func decided(run store.SurgeRun) time.Time {
	if began := run.Started.Truncate(time.Hour); run.To.After(began) {
		return began
	}
	return run.To
}

// dropped returns the hour at which the data of the hours begins: born, or a later one if the retention dropped what was before. Without this
// dropped hours would count as silent ones, and everything after them as a surge. A run that wanted hours from wanted on, and does not
// get them all, has a note; one that gets none, because they end at to, an error.
func dropped(ctx context.Context, st *store.Store, born, wanted, to time.Time) (begin time.Time, notes []string, err error) {
	kept, err := st.Horizon(ctx, store.TierHours)
	if err != nil {
		return born, nil, fmt.Errorf("look up how long hours are kept: %w", err)
	}
	if !kept.After(born) {
		return born, nil, nil
	}
	first, err := st.FirstHour(ctx)
	if err != nil {
		return born, nil, fmt.Errorf("look up the first hour that is kept: %w", err)
	}
	if first.IsZero() {
		return born, nil, fmt.Errorf("%w: all hours were dropped, which are kept from %s on; `loader retention` shows and changes it", ErrNoData, kept.Format(time.RFC3339))
	}
	if !first.After(born) {
		return born, nil, nil
	}
	if to.Before(first) {
		return born, nil, fmt.Errorf("%w: hours of before %s were dropped, and those asked for end at %s; `loader retention` shows how long hours are kept",
			ErrNoData, first.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	if wanted.Before(first) {
		notes = []string{fmt.Sprintf("the data begins at %s, and its hours of before %s were dropped: they are not looked at, and what is usual is learnt from there on; `loader retention` shows how long hours are kept",
			born.Format(time.RFC3339), first.Format(time.RFC3339))}
	}
	return first, notes, nil
}

func hour(t time.Time) surge.Hour { return surge.Hour(t.Unix() / 3600) }

func timeOf(h surge.Hour) time.Time { return time.Unix(int64(h)*3600, 0).UTC() }

// finder looks at every series.
type finder struct {
	progress       func(stage string, done, total uint64)
	params         surge.Params
	born, from, to surge.Hour
	reborn         []surge.Hour
	past           map[store.SeriesKey][]surge.Surge
	series         int
	found          []store.Surge
	counts         []uint32 // reused
}

func (f *finder) run(ctx context.Context, st *store.Store) error {
	past := surge.Hour(f.params.Past())
	first := max(f.from-past, 0)
	known, err := st.Surges(ctx, timeOf(first), timeOf(f.from))
	if back := f.reachBack(known, past); err == nil && back < first {
		// What is still open is followed from its alarm on, which may have been long before where hours were left undecided.
		first = back
		known, err = st.Surges(ctx, timeOf(first), timeOf(f.from))
	}
	if err != nil {
		return fmt.Errorf("read earlier surges: %w", err)
	}
	f.past = map[store.SeriesKey][]surge.Surge{}
	for i := len(known) - 1; i >= 0; i-- { // The store has the latest first.
		x := &known[i]
		f.past[x.SeriesKey] = append(f.past[x.SeriesKey], pastOf(x))
	}
	silence := surge.Hour(f.params.Silence())
	recorded, err := st.Hours(ctx, timeOf(max(first-silence, 0)), timeOf(f.to))
	if err != nil {
		return fmt.Errorf("read which hours there are: %w", err)
	}
	f.reborn = reborn(recorded, max(first-silence, 0), silence)
	const stage = "looking for surges"
	read := func(done, total uint64) { f.progress(stage, done, total) }
	err = st.EachSeries(ctx, timeOf(first), timeOf(f.from), timeOf(f.to), f.params.MinSources, read, func(key store.SeriesKey, counts []store.HourCount) error {
		f.look(key, counts)
		return ctx.Err() //nolint:wrapcheck // The caller knows.
	})
	f.progress(stage, 1, 1) // Ended, whatever the server guessed that there was to read.
	return err              //nolint:wrapcheck // It is a sentence.
}

// reachBack is the first hour that is needed of the surges that were open when the hours to decide about begin.
func (f *finder) reachBack(known []store.Surge, past surge.Hour) surge.Hour {
	first := f.from
	for i := range known {
		if x := pastOf(&known[i]); x.Detected < f.from && (x.State == surge.Open || x.Closed > f.from) {
			first = min(first, x.Start)
		}
	}
	return max(first-past, 0)
}

// reborn are the hours at which recording began anew after a silence, of those from since on in which anything was recorded.
func reborn(recorded []time.Time, since, silence surge.Hour) (out []surge.Hour) {
	last := since - 1
	for _, t := range recorded {
		if h := hour(t); h-last > silence {
			out = append(out, h)
		}
		last = hour(t)
	}
	return out
}

func (f *finder) look(key store.SeriesKey, counts []store.HourCount) {
	f.series++
	s := surge.Series{Born: f.born, Reborn: f.reborn, First: hour(counts[0].Hour)}
	n := int(hour(counts[len(counts)-1].Hour)-s.First) + 1
	f.counts = append(f.counts[:0], make([]uint32, n)...)
	for _, c := range counts {
		f.counts[hour(c.Hour)-s.First] = c.Sources
	}
	s.Counts = f.counts
	for _, x := range surge.Find(f.params, &s, f.from, f.to, f.past[key]) {
		f.found = append(f.found, found(key, &x))
	}
}

func pastOf(x *store.Surge) surge.Surge {
	s := surge.Surge{Start: hour(x.Start), Detected: hour(x.Detected), End: hour(x.End), State: surge.State(x.State)}
	if !x.Closed.IsZero() {
		s.Closed = hour(x.Closed)
	}
	return s
}

func found(key store.SeriesKey, x *surge.Surge) store.Surge {
	s := store.Surge{
		SeriesKey: key, Start: timeOf(x.Start), Detected: timeOf(x.Detected), Peak: timeOf(x.Peak), End: timeOf(x.End), State: string(x.State),
		Sources: x.Sources, Expected: x.Expected, Strength: x.Strength(), Excess: x.Excess, Evidence: x.Evidence,
	}
	if x.State != surge.Open {
		s.Closed = timeOf(x.Closed)
	}
	return s
}
