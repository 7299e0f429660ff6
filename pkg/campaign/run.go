// Package campaign does one detection run: it reads footprints from the store, has pkg/detect find the
// campaigns, recognises those of earlier runs, and writes the result back.
package campaign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
	"murmuration/pkg/proof"
	"murmuration/pkg/store"
)

// What keeps a run from being done.
var (
	// ErrNoData is returned when the window holds no probe and no request.
	ErrNoData = errors.New("no probes in the window")
	// ErrAhead is returned when a run is asked to look at the future.
	ErrAhead = errors.New("the window would end in the future")
	// ErrMemory is returned when the window holds more than there is memory for.
	ErrMemory = errors.New("too much for the memory that is free")
)

// Options of a run.
type Options struct {
	Window  time.Duration // how far back to look, 0 for all
	At      time.Time     // where the window ends; zero: behind the newest event
	Params  detect.Params
	Version string // of the program, for the record
	Logger  *slog.Logger
	Now     func() time.Time // nil is time.Now
	Run     string           // name of the run, which must sort by time; "" makes one of the time of its start
	// Tell lists destinations (notify.Sender.Destination) whose outboxes get what the run found out.
	Tell []string
	// Proof says how hard to look for what only one run of a tool can have left in several sources.
	Proof ProofEffort
	// Progress, if set, is told how far a stage of the run is, 0 to 1.
	Progress func(stage string, share float64)
	// FreeMemory, if set, says how many bytes a run may take; one that would need more is refused (ErrMemory).
	FreeMemory func() (uint64, error)
}

// Found is a campaign with its identity.
type Found struct {
	ID     string
	New    bool          // no earlier run knew it
	State  string        // emerging, active, dormant or ended
	Pause  time.Duration // the longest silence of its life, watched time only
	Silent time.Duration // the silence since its last touch, watched time only
	Proofs []Proof       // what its members share that only one run of a tool can have given them
	detect.Campaign
}

// PortNames lists the ports as people write them: "80" for TCP, else with the protocol, "5060/udp", "icmp".
func (f *Found) PortNames() []string {
	var out []string
	for _, p := range f.Ports {
		switch p.Proto {
		case event.ProtoTCP:
			out = append(out, strconv.Itoa(int(p.Port)))
		case event.ProtoUDP, event.ProtoSCTP:
			out = append(out, fmt.Sprintf("%d/%s", p.Port, p.Proto))
		default:
			out = append(out, p.Proto.String())
		}
	}
	return out
}

// Report is what came of a run.
type Report struct {
	Run                   string
	From, To              time.Time
	Found                 []Found
	Undecided             int
	Tests, Sources, Cells int
	Notes                 []string              // what a reader should know about the run, in sentences
	Links                 []store.CampaignLink  // what became of earlier campaigns
	States                []store.CampaignState // of every known campaign, found or not, by campaign
	Gaps                  []store.SensorGap     // hours of the window in which a sensor was dead
	Proofs                []Proof               // of all sources of the window, strongest first

	known map[string]*Known // what earlier runs knew, by campaign
}

// Run detects campaigns in the window and records the result. A run that fails leaves the last good
// result as it is, and its own row says why it failed.
func Run(ctx context.Context, st *store.Store, opt Options) (*Report, error) {
	if opt.Progress == nil {
		opt.Progress = func(string, float64) {}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	from, to, err := window(ctx, st, opt)
	if err != nil {
		return nil, err
	}
	params, err := json.Marshal(opt.Params)
	if err != nil {
		return nil, fmt.Errorf("record parameters: %w", err)
	}
	started := opt.Now().UTC()
	if opt.Run == "" {
		opt.Run = runName(started)
	}
	run := store.CampaignRun{
		Run: opt.Run, Started: started, From: from, To: to,
		Seed: opt.Params.Seed, Parameters: string(params), Version: opt.Version, Status: store.RunRunning,
	}
	if err := st.PutRun(ctx, run); err != nil {
		return nil, fmt.Errorf("begin the run: %w", err)
	}
	rep, err := detectAndSave(ctx, st, &run, opt)
	if err != nil {
		return nil, errors.Join(err, fail(ctx, st, run, opt.Now(), err))
	}
	return rep, nil
}

// fail records why a run failed, also when its context has ended.
func fail(ctx context.Context, st *store.Store, run store.CampaignRun, now time.Time, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	run.Status, run.Error, run.Finished = store.RunFailed, why.Error(), now.UTC()
	if err := st.PutRun(ctx, run); err != nil {
		return fmt.Errorf("record the failed run: %w", err)
	}
	return nil
}

// tolerated is how far events may be ahead of the clock without a word: clocks of sensors differ.
const tolerated = time.Hour

// end returns where the window ends, of data whose newest event is at last: behind it, but never ahead of the clock, since one event with a wrong time would
// have every window look at the time before it until then. A time that is ahead of both is refused: the states of campaigns are as of the latest that was looked at.
func end(ctx context.Context, st *store.Store, opt Options, last time.Time) (time.Time, error) {
	// The detector counts seconds; the second of the newest event belongs to the window.
	behind, present := last.Truncate(time.Second).Add(time.Second), opt.Now().UTC()
	if !opt.At.IsZero() {
		if opt.At.After(present.Add(tolerated)) && opt.At.After(behind.Add(tolerated)) {
			return behind, fmt.Errorf("%w: %s is ahead of the clock (%s) and of the newest event (%s)", ErrAhead, opt.At.Format(time.RFC3339), present.Format(time.RFC3339), last.Format(time.RFC3339))
		}
		return opt.At, nil
	}
	if !last.After(present.Add(tolerated)) {
		return behind, nil
	}
	hour, err := st.LastHour(ctx, present)
	if err != nil {
		return behind, fmt.Errorf("look up the newest hour: %w", err)
	}
	if hour.IsZero() {
		return behind, nil // There is nothing else to look at.
	}
	opt.Logger.WarnContext(ctx, "events that are ahead of the clock are left out: was the clock wrong of the machine that captured them, or is this one's?", "newest", last.Format(time.RFC3339))
	if to := hour.Add(time.Hour); to.Before(present) {
		return to, nil
	}
	return present, nil
}

// window returns the time to look at: [from, to).
func window(ctx context.Context, st *store.Store, opt Options) (from, to time.Time, err error) {
	first, last, err := st.Span(ctx)
	if err != nil {
		return from, to, fmt.Errorf("look up the time span of the data: %w", err)
	}
	if first.IsZero() {
		return from, to, fmt.Errorf("%w: no probe and no request is loaded yet; load a capture first (loader load FILE)", ErrNoData)
	}
	if to, err = end(ctx, st, opt, last); err != nil {
		return from, to, err
	}
	from = first.Truncate(time.Second)
	if opt.Window > 0 {
		from = to.Add(-opt.Window)
	}
	if !from.Before(to) || !first.Before(to) || last.Before(from) {
		return from, to, fmt.Errorf("%w: it is %s to %s, the data is of %s to %s", ErrNoData,
			from.Format(time.RFC3339), to.Format(time.RFC3339), first.Format(time.RFC3339), last.Format(time.RFC3339))
	}
	return from, to, nil
}

func detectAndSave(ctx context.Context, st *store.Store, run *store.CampaignRun, opt Options) (*Report, error) {
	telescopes, err := st.Telescopes(ctx)
	if err != nil {
		return nil, fmt.Errorf("read telescopes: %w", err)
	}
	earlier, err := known(ctx, st)
	if err != nil {
		return nil, err
	}
	k, err := readKept(ctx, st)
	if err != nil {
		return nil, err
	}
	w, err := watched(ctx, st, telescopes, oldest(earlier, run.From), run.From, run.To, k.hours)
	if err != nil {
		return nil, err
	}
	fp, err := opt.read(ctx, st, w)
	if err != nil {
		return nil, err
	}
	res, err := detect.Run(ctx, &fp.input, opt.Params, func(done, total float64) {
		if total > 0 {
			opt.Progress("clustering", min(done/total, 0.999))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("detect: %w", err)
	}
	opt.Progress("clustering", 1)
	proofs, err := opt.prove(ctx, st, run, fp, res)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("look for proofs: %w", ctx.Err())
	}
	rep := report(run, fp, res, proofs, earlier, w)
	rep.Notes = append(rep.Notes, k.notes(run.From, opt.Window == 0)...)
	if err != nil { // They are extra: campaigns stand without them.
		rep.Notes = append(rep.Notes, "no proofs were looked for: "+err.Error())
	}
	return opt.save(ctx, st, run, rep)
}

// report puts together what the run found, with what was known before.
func report(run *store.CampaignRun, fp *footprints, res *detect.Result, proofs []proof.Proof, earlier []Known, w *watch) *Report {
	rep := &Report{
		Run: run.Run, From: run.From, To: run.To, Undecided: len(res.Undecided),
		Tests: res.Tests, Sources: res.Sources, Cells: res.Cells, Notes: append(notes(fp), w.notes()...), Gaps: w.inWindow(),
		known: map[string]*Known{},
	}
	for i := range earlier {
		rep.known[earlier[i].ID] = &earlier[i]
	}
	of := newProven(res, proofs)
	ids, links := identify(res.Campaigns, of.identities(), earlier)
	rep.Links = append(links, of.links(ids)...)
	rep.Proofs = of.named(fp, ids)
	rep.Notes = append(rep.Notes, operatorNotes(rep.Proofs)...)
	for i := range res.Campaigns {
		k := rep.known[ids[i]]
		j := judge(&fp.input, &res.Campaigns[i], k, w, run.To.Unix())
		rep.Found = append(rep.Found, Found{
			ID: ids[i], New: k == nil, State: j.state, Pause: time.Duration(j.pause) * time.Second, Silent: time.Duration(j.silent) * time.Second,
			Campaign: res.Campaigns[i], Proofs: proofsOf(rep.Proofs, ids[i]),
		})
	}
	rep.States = states(rep, earlier, w)
	return rep
}

// notes says what a reader must know to judge the result.
func notes(fp *footprints) []string {
	var out []string
	if fp.inferred {
		var ps []string
		for _, b := range fp.input.Universe.Blocks {
			ps = append(ps, b.Prefix.String())
		}
		const most = 6
		if len(ps) > most {
			ps = append(ps[:most], fmt.Sprintf("%d more", len(fp.input.Universe.Blocks)-most))
		}
		out = append(out, "no telescope is registered, so the monitored space was guessed from the addresses probed: "+
			strings.Join(ps, " ")+"; say what you monitor with `loader telescope add PREFIX`")
	}
	if fp.outside > 0 {
		out = append(out, fmt.Sprintf("%d touches of addresses outside every telescope were left out", fp.outside))
	}
	return out
}

// oldest returns the time from which on it matters whether sensors lived: the last touch of the campaigns that have not
// ended, a year back at most.
func oldest(known []Known, from time.Time) time.Time {
	const most = 365 * 24 * time.Hour
	since := from
	for i := range known {
		if known[i].State != StateEnded {
			since = earlier(since, time.Unix(known[i].Last, 0).UTC())
		}
	}
	return later(since, from.Add(-most))
}

// known returns every campaign of the finished runs, each as the latest run that saw it described it: a
// campaign that a narrower window missed keeps its identity for the next run.
func known(ctx context.Context, st *store.Store) ([]Known, error) {
	lives, err := st.KnownLives(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the campaigns of earlier runs: %w", err)
	}
	_, sources, err := st.KnownCampaigns(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the members of earlier campaigns: %w", err)
	}
	byID := map[string]int{}
	out := make([]Known, len(lives))
	for i, l := range lives {
		byID[l.ID] = i
		out[i] = Known{
			ID: l.ID, Members: map[netip.Addr]bool{}, Tool: l.Tool, Signature: l.Signature, Targets: l.Targets, First: l.First.Unix(), Last: l.Last.Unix(),
			Pause: int64(l.Pause / time.Second), State: l.State, MergedInto: l.MergedInto, life: l,
		}
		for j, p := range l.Ports {
			out[i].Ports = append(out[i].Ports, detect.Port{Proto: l.Protos[j], Port: p})
		}
	}
	for _, m := range sources {
		if i, ok := byID[m.Campaign]; ok {
			out[i].Members[event.Addr(m.Src)] = true
		}
	}
	proofs, err := st.Proofs(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("read the proofs of earlier runs: %w", err)
	}
	for _, p := range proofs {
		for _, id := range p.Campaigns {
			if i, ok := byID[id]; ok && identifies(proof.Kind(p.Kind)) && p.Coincidence >= apart {
				if out[i].Proofs == nil {
					out[i].Proofs = map[string]bool{}
				}
				out[i].Proofs[p.ID] = true
			}
		}
	}
	return out, nil
}

// save writes the run's result back, its own row last.
func (opt *Options) save(ctx context.Context, st *store.Store, run *store.CampaignRun, rep *Report) (*Report, error) {
	var campaigns []store.Campaign
	var sources []store.CampaignSource
	detail := store.RunDetail{States: rep.States, Links: rep.Links, Gaps: rep.Gaps, Notes: rep.Notes}
	detail.Proofs, detail.Proven = proofRows(rep.Proofs)
	for i := range rep.Found {
		f := &rep.Found[i]
		campaigns = append(campaigns, row(f))
		detail.Behaviours = append(detail.Behaviours, store.CampaignBehaviour{
			Campaign: f.ID, Signature: f.Signature, UserAgent: f.UserAgent, Payload: f.Payload, Cut: string(f.Cut), Pause: f.Pause,
		})
		detail.Patterns = append(detail.Patterns, patternRow(f))
		for _, m := range f.Members {
			sources = append(sources, store.CampaignSource{
				Campaign: f.ID, Src: event.IPOf(m.Addr), Probability: m.Probability, Cells: uint64(m.Cells),
				First: time.Unix(m.First, 0), Last: time.Unix(m.Last, 0),
			})
		}
	}
	if err := st.PutRunDetail(ctx, run.Run, detail); err != nil {
		return nil, fmt.Errorf("save the details of the run: %w", err)
	}
	if err := opt.announce(ctx, st, rep); err != nil {
		return nil, err
	}
	run.Finished = opt.Now().UTC()
	run.Sources, run.Cells, run.Groups = uint64(rep.Sources), uint64(rep.Cells), uint64(rep.Tests)
	run.Campaigns = uint64(len(rep.Found))
	if err := st.SaveRun(ctx, *run, campaigns, sources); err != nil {
		return nil, fmt.Errorf("save the run: %w", err)
	}
	return rep, nil
}

func row(f *Found) store.Campaign {
	c := store.Campaign{
		ID: f.ID, First: time.Unix(f.First, 0), Last: time.Unix(f.Last, 0), Sources: uint64(len(f.Members)),
		Tool: toolName(&f.Campaign), Coverage: f.Coverage, OverlapRatio: f.OverlapRatio,
		ExpectedOverlap: f.Expected, ObservedOverlap: f.Observed, Evidence: f.Evidence, Pattern: string(f.Pattern),
		Universe: uint64(f.Universe), Targets: f.Space, Networks: uint64(f.Networks), Summary: strings.Join(f.Why, " "), State: f.State,
	}
	for _, p := range f.Ports {
		c.Ports, c.Protos = append(c.Ports, p.Port), append(c.Protos, p.Proto)
	}
	return c
}

func patternRow(f *Found) store.CampaignPattern {
	a := &f.Arrangement
	return store.CampaignPattern{
		Campaign: f.ID, Pattern: string(f.Pattern), Spread: string(a.Spread), Tempo: string(a.Tempo), Networks: uint64(f.Networks), Largest: a.Largest.String(),
		InLargest: uint64(a.InLargest), Effective: a.Effective, Together: a.Together, Handovers: uint64(a.Handovers), ByChance: a.ByChance,
		Stint: time.Duration(a.Stint) * time.Second, Pace: a.Pace,
	}
}

// toolName is how the tools of a campaign are written.
func toolName(c *detect.Campaign) string { return strings.Join(c.Tools, " ") }
