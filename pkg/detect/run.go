package detect

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
)

// newRand returns the random numbers of one surrogate series.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, hash(seed))) }

// job is one bucket yet to be built.
type job struct {
	kind  kind
	proto int8
	port  uint16
	segs  []segment
}

// size is the number of cells of a job.
func (j job) size() (n int) {
	for _, s := range j.segs {
		n += len(s.cells)
	}
	return n
}

// run holds what the stages of Run share.
type run struct {
	in     *Input
	p      Params
	sp     *space
	ix     *index
	window uint32
	views  views
	// trim is the share of what a campaign covered that may stick out of its space.
	trim float64
	// buckets is how many buckets share the level of significance.
	buckets int
	// customary says that the space is one in which people have the same places in mind, as with ports: that ranges of it begin where others
	// end means nothing there.
	customary bool
	tests     int
	pool      *pool
	mu        sync.Mutex
	done      float64
	total     float64
	report    func(done, total float64)
}

// Run finds the campaigns in the input. It is a pure function of in and p except for the calls of progress,
// which may be nil: the number of Workers never changes the result. It returns ErrInput where the input
// contradicts itself, and the context's error where that ended.
func Run(ctx context.Context, in *Input, p Params, progress func(done, total float64)) (*Result, error) {
	p = p.withDefaults()
	sp, err := newSpace(in.Universe)
	if err != nil {
		return nil, err
	}
	ix, err := newIndex(ctx, in, sp)
	if err != nil {
		return nil, err
	}
	r := &run{in: in, p: p, sp: sp, ix: ix, report: progress, window: windowOf(in), trim: 0.1, pool: newPool(p.Workers)}
	r.views = newViews(sp, in.Start, r.window)
	w := &scratch{}
	first, second := r.jobs()
	own := r.portJobs()
	for _, j := range append(slices.Clone(first), second...) {
		r.total += float64(j.size())
	}
	r.buckets = len(first) + len(second) + len(own)
	found, undecided, err := r.search(ctx, w, first, nil)
	if err != nil {
		return nil, err
	}
	ported, err := r.searchPorts(ctx, w, own, r.claims(found))
	if err != nil {
		return nil, err
	}
	found = append(found, ported...)
	more, open, err := r.search(ctx, w, second, r.claims(found))
	if err != nil {
		return nil, err
	}
	res := &Result{Sources: ix.sources, Cells: ix.cells, Outside: ix.outside, Tests: r.tests}
	res.Campaigns = r.merge(append(found, more...))
	r.kin(res.Campaigns)
	res.Undecided = r.undecided(append(undecided, open...), res.Campaigns)
	return res, nil
}

// windowOf returns the length of the window in seconds, at least what the cells say.
func windowOf(in *Input) uint32 {
	w := uint32(1)
	if in.End > in.Start && in.End-in.Start < 1<<32 {
		w = uint32(in.End - in.Start)
	}
	for i := range in.Sources {
		for j := range in.Sources[i].Cells {
			if l := in.Sources[i].Cells[j].Last; l >= w && l != math.MaxUint32 {
				w = l + 1
			}
		}
	}
	return w
}

// jobs lists the buckets: first those that look at several ports or at objects at once, then port by port.
func (r *run) jobs() (first, second []job) {
	protos := map[int8]bool{}
	for _, p := range r.ix.order {
		protos[int8(p.Proto)] = true
	}
	for proto := -128; proto < 128; proto++ {
		if !protos[int8(proto)] {
			continue
		}
		if s := r.ix.objs[int8(proto)]; len(s) >= r.p.MinSources {
			first = append(first, job{perObject, int8(proto), 0, s})
		}
		if s := r.ix.multi[int8(proto)]; len(s) >= r.p.MinSources {
			first = append(first, job{manyPorts, int8(proto), 0, s})
		}
	}
	for _, p := range r.ix.order {
		if s := r.ix.ports[p]; len(s) >= r.p.MinSources {
			second = append(second, job{perPort, int8(p.Proto), p.Port, s})
		}
	}
	return first, second
}

func (r *run) step(j job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += float64(j.size())
	if r.report != nil {
		r.report(r.done, r.total)
	}
}

// find is a campaign as a bucket knows it.
type find struct {
	b        *bucket
	sliced   bool // b holds a slice of time only
	span     span
	tracks   []*track
	prob     []float64
	expected []float64
	observed []float64
	verdict  verdict
	portList []Port
	early    bool // it has covered too little to be whole, and goes on
	ownPorts bool // members share out ports, each having whole ones of its own
}

// open is a group that could not be decided.
type openGroup struct {
	b        *bucket
	span     span
	tracks   []*track
	expected float64
	observed float64
	coverage float64
	needed   float64
	meetings float64
}

func (r *run) search(ctx context.Context, w *scratch, jobs []job, skip func(int32, *Cell) bool) ([]find, []openGroup, error) {
	found := make([][]find, len(jobs))
	open := make([][]openGroup, len(jobs))
	// The largest first, or one worker would be left with it in the end.
	order := everyIndex(len(jobs))
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(jobs[y].size(), jobs[x].size()) })
	r.pool.share(ctx, w, len(jobs), func(k int, w *scratch) {
		i := order[k]
		j := jobs[i]
		b := r.ix.bucketOf(j.kind, j.proto, j.port, j.segs, r.sp, r.window, skip)
		b.work = w
		found[i], open[i] = r.explore(ctx, b, 2*float64(r.buckets))
		found[i] = append(found[i], r.slices(ctx, b)...)
		r.step(j)
	})
	return slices.Concat(found...), slices.Concat(open...), ctx.Err()
}

// explore finds the campaigns of one bucket: test all groups, settle the members of the strongest, take them out,
// and look again until nothing is left. A group is tested once for as long as nobody was taken out of it.
//
// Share is the inverse of this bucket's share of the level of significance; within it all groups that exist before
// anything was looked at share alike: the blind and the held-out test of each have nine tenths of its share between them, that of seams the rest
// (weighted Bonferroni). Round k gets 1/k(k+1) of that.
func (r *run) explore(ctx context.Context, b *bucket, share float64) (found []find, open []openGroup) {
	failed := map[uint64]bool{}
	for round := 1; round < 32 && ctx.Err() == nil; round++ {
		fields, count := r.fields(ctx, b, failed)
		if count == 0 && round > 1 {
			break
		}
		r.countTests(count)
		paid := math.Log10(share * 2 / (1 - seamShare) * float64(max(1, count)) * float64(round*(round+1)))
		took, undecided := r.sift(ctx, b, fields, failed, paid)
		found, open = append(found, took...), append(open, undecided...)
		if len(took) == 0 {
			break
		}
	}
	return found, open
}

func (r *run) countTests(n int) {
	r.mu.Lock()
	r.tests += n
	r.mu.Unlock()
}

// maxBlind is the largest ratio of observed to expected overlap at which a group proves anything as it stands: beyond it, it
// holds so many strangers that it says nothing of those who would be picked out of it.
const maxBlind = 0.5

// field is the groups of one span that are worth a test, the strongest first.
type field struct {
	span   span
	a      *arena
	groups []group
}

// fields lists the groups of the bucket that are worth a test and have not failed one, the strongest first. It also counts those
// that are large enough to be tested, worth it or not, and enters among the failed those that are not worth it.
func (r *run) fields(ctx context.Context, b *bucket, failed map[uint64]bool) (fields []field, tests int) {
	places := r.apart(b, spans(b.tracks, r.p.MinSources))
	made := make([]field, len(places))
	unfit := make([][]uint64, len(places))
	counts := make([]int, len(places))
	r.pool.share(ctx, b.work, len(places), func(i int, w *scratch) {
		made[i], unfit[i], counts[i] = r.fieldOf(ctx, b, w, places[i], failed)
	})
	for i := range places {
		tests += counts[i]
		for _, key := range unfit[i] {
			failed[key] = true
		}
		if len(made[i].groups) > 0 {
			fields = append(fields, made[i])
		}
	}
	slices.SortStableFunc(fields, func(x, y field) int { return cmp.Compare(y.groups[0].blind, x.groups[0].blind) })
	return fields, tests
}

// fieldOf lists the groups of one span, the keys of those that are not worth a test, and how many are large enough for one.
func (r *run) fieldOf(ctx context.Context, b *bucket, w *scratch, st spanTracks, failed map[uint64]bool) (f field, unfit []uint64, tests int) {
	todo := slices.DeleteFunc(groups(b.tracks, st, b.time, r.p), func(g group) bool { return failed[g.key] })
	if len(todo) == 0 || ctx.Err() != nil {
		return f, nil, 0
	}
	a := newArena(b, w, st.tracks, st.span)
	looks := make([]survey, len(todo))
	r.pool.share(ctx, w, (len(todo)+looksAtOnce-1)/looksAtOnce, func(part int, w *scratch) {
		own := a.on(w)
		for i := part * looksAtOnce; i < min(len(todo), (part+1)*looksAtOnce); i++ {
			feet := own.feetOf(todo[i].members)
			looks[i] = own.look(feet)
			if todo[i].expected >= minExpected && !r.customary {
				todo[i].seams = r.seamEvidence(own, feet, hash(r.seed(b, todo[i]), 11), r.p.MinEvidence)
			}
		}
	})
	worth := todo[:0]
	for i, g := range todo {
		if g.expected >= minExpected {
			tests++
		}
		s := looks[i]
		g.blind, g.hopeful, g.blindly = chernoffBelow(s.expected, s.observed), s.hopeful, s.apart()
		if g.hopeful || g.blindly || g.seams >= r.p.MinEvidence {
			worth = append(worth, g)
		} else {
			unfit = append(unfit, g.key)
		}
	}
	slices.SortStableFunc(worth, func(x, y group) int { return cmp.Compare(y.blind, x.blind) })
	return field{st.span, a, slices.Clone(worth)}, unfit, tests
}

// looksAtOnce is how many groups a worker looks at before another one may step in.
const looksAtOnce = 16

// sift goes once through the groups, and returns the campaigns it took out of the bucket. Paid is what evidence is
// lowered by for all that was tested.
func (r *run) sift(ctx context.Context, b *bucket, fields []field, failed map[uint64]bool, paid float64) (found []find, open []openGroup) {
	s := sieve{run: r, b: b, fields: fields, failed: failed, paid: paid}
	for _, f := range fields {
		a := f.a.on(b.work)
		s.heldOut(ctx, a, s.blind(ctx, a, f.groups))
	}
	return s.found, s.open
}

// sieve is one pass through the groups of a bucket. Tests are made several at once, and what they say is looked at in the
// order of the groups: a test does not depend on what others said before it, but whether it is still asked does.
type sieve struct {
	*run
	b      *bucket
	fields []field
	failed map[uint64]bool
	paid   float64

	found []find
	open  []openGroup
}

// gone tells of a group whose members were taken out in part: its evidence may be that of the campaign they went with, and
// the next round tests the rest anew.
func (s *sieve) gone(ctx context.Context, g group) bool {
	return ctx.Err() != nil || slices.ContainsFunc(g.members, func(i int32) bool { return s.b.tracks[i] == nil })
}

// try takes the members of a campaign out of the bucket, if the group is one.
func (s *sieve) try(g group, v verdict) bool {
	c, ok := s.accept(s.b, g, v)
	if ok {
		s.strengthen(s.b, &c, s.fields, s.paid)
		s.found = append(s.found, c)
		s.b.take(c)
	}
	return ok
}

// blind tests groups as they stand, and returns those in which a search is still worth it, the largest first.
func (s *sieve) blind(ctx context.Context, a *arena, todo []group) (rest []group) {
	for len(todo) > 0 {
		now := todo[:min(len(todo), testsAtOnce)]
		says := make([]verdict, len(now))
		s.pool.share(ctx, s.b.work, len(now), func(i int, w *scratch) {
			if g := &now[i]; !s.gone(ctx, *g) {
				own := a.on(w)
				g.feet = own.feetOf(g.members)
				if g.blindly && g.expected >= minExpected {
					says[i] = s.proveBlind(s.b, own, *g, s.paid)
				}
			}
		})
		for i, g := range now {
			todo = todo[1:]
			if s.gone(ctx, g) {
				continue
			}
			if g.blindly {
				if g.expected >= minExpected && s.try(g, says[i]) {
					break // The next ones are asked again: what they say depends on who is left.
				}
				s.open = s.promising(s.open, s.b, a, g, s.paid)
			}
			if c, v := s.proveSeams(a, g); v.evidence > 0 && s.try(c, v) {
				break
			}
			s.failed[g.key] = true
			if g.expected >= minExpected && g.hopeful {
				rest = append(rest, g)
			}
		}
	}
	slices.SortStableFunc(rest, func(x, y group) int { return cmp.Compare(y.expected, x.expected) })
	return rest
}

// heldOut searches groups for members on half of the addresses and tests these on the other half. Groups that are nearly another
// one are passed over.
func (s *sieve) heldOut(ctx context.Context, a *arena, groups []group) {
	var todo []group
	for _, g := range groups {
		if !s.gone(ctx, g) && !slices.ContainsFunc(todo, func(d group) bool { return d.covers(s.b, g) }) {
			todo = append(todo, g)
		}
	}
	for len(todo) > 0 && ctx.Err() == nil {
		now := todo[:min(len(todo), testsAtOnce)]
		todo = todo[len(now):]
		says := make([]verdict, len(now))
		s.pool.share(ctx, s.b.work, len(now), func(i int, w *scratch) { says[i] = s.proveHeldOut(s.b, a.on(w), now[i], s.paid) })
		for i, g := range now {
			if !s.gone(ctx, g) {
				s.try(g, says[i])
			}
		}
	}
}

// testsAtOnce is how many tests of one kind are made before what they say is looked at.
const testsAtOnce = 8

// promising adds to the undecided groups one that failed its tests although hardly anybody met. Of groups with the same
// members the one that expected more stays.
func (r *run) promising(open []openGroup, b *bucket, a *arena, g group, paid float64) []openGroup {
	const most = 0.2 // of the expected overlap
	e, o := a.overlap(a.feet, g.feet, float64(a.width))
	if o > most*e {
		return open
	}
	covered, universe, _, _ := a.cover(g.feet)
	if 2*covered < universe {
		return open
	}
	n := openGroup{b: b, span: a.span, expected: e, observed: o, coverage: covered / universe, needed: (r.p.MinEvidence + paid) * math.Ln10}
	// Blocks meet in whole stretches of cells: what counts is how many independent meetings the expectation amounts to.
	mean, variance := a.rotation(a.feet, g.feet, nil, -1, newRand(hash(r.p.Seed, g.key)), 32, 0)
	if scaledBelow(mean, variance, o) < 1 {
		// One group in ten looks like this.
		return open
	}
	n.meetings = mean * math.Min(1, mean/math.Max(variance, 1e-9))
	for _, i := range g.feet {
		n.tracks = append(n.tracks, a.track[i])
	}
	for k := range open {
		if shareTracks(open[k].tracks, n.tracks) {
			if open[k].expected < n.expected {
				open[k] = n
			}
			return open
		}
	}
	return append(open, n)
}

// shareTracks tells whether more than half of the smaller list is in the other.
func shareTracks(x, y []*track) bool {
	in := make(map[*track]bool, len(x))
	for _, t := range x {
		in[t] = true
	}
	both := 0
	for _, t := range y {
		if in[t] {
			both++
		}
	}
	return 2*both > min(len(x), len(y))
}

// accept settles the members of a group that passed its tests.
func (r *run) accept(b *bucket, g group, v verdict) (find, bool) {
	if v.evidence < r.p.MinEvidence+v.paid || v.ratio > r.p.MaxOverlap {
		return find{}, false
	}
	return r.confirm(b, g, v)
}

func (r *run) seed(b *bucket, g group) uint64 {
	return hash(r.p.Seed, g.key, uint64(b.kind), uint64(uint8(b.proto)), uint64(b.port))
}

// proveBlind tests a group as it stands, which was chosen without a look at overlaps.
func (r *run) proveBlind(b *bucket, a *arena, g group, paid float64) verdict {
	need := r.p.MinEvidence + paid
	v := a.judge(g.feet, r.seed(b, g), r.p, need)
	if v.evidence < need && g.rule.hi > 0 && v.tests.Rotation >= minTiling && v.ratio <= 0.1 {
		v = r.tiling(b, a, g, v)
	}
	if v.evidence < need && v.tests.Rotation >= minTiling && v.ratio <= r.p.MaxOverlap {
		v = a.searched(g.feet, v, r.seed(b, g), r.p)
	}
	if v.ratio > maxBlind {
		v.evidence = 0
	}
	v.paid = paid
	return v
}

// proveHeldOut tests those of a group that half of the addresses picks out of it on the other half.
func (r *run) proveHeldOut(b *bucket, a *arena, g group, paid float64) verdict {
	v := a.heldOut(g.feet, r.seed(b, g), r.p, r.p.MinEvidence+paid)
	v.paid = paid
	return v
}

// strengthen looks for the group that says most about the campaign among those that behaviour alone picked and that
// consist of nearly nobody but its members. All of them are paid for already.
func (r *run) strengthen(b *bucket, f *find, fields []field, paid float64) {
	at := slices.IndexFunc(fields, func(x field) bool { return x.span == f.span })
	if at < 0 {
		return
	}
	member := map[*track]bool{}
	for _, t := range f.tracks {
		member[t] = true
	}
	looked := 0
	a := fields[at].a.on(b.work)
	for _, g := range fields[at].groups {
		in := 0
		for _, i := range g.members {
			if t := b.tracks[i]; t != nil && member[t] {
				in++
			}
		}
		if 10*in < 9*len(g.members) || 2*in < len(f.tracks) || g.blind <= f.verdict.evidence {
			continue
		}
		if looked++; looked > 8 {
			return
		}
		seed := hash(r.p.Seed, g.key, uint64(b.kind), uint64(uint8(b.proto)), uint64(b.port))
		v := a.judge(a.feetOf(g.members), seed, r.p, r.p.MinEvidence+paid)
		if v.evidence > f.verdict.evidence {
			v.paid, v.tests.Seams = paid, f.verdict.tests.Seams
			f.verdict = v
		}
	}
}

// take removes the found tracks from the bucket, whose places stay empty.
func (b *bucket) take(f find) {
	gone := map[*track]bool{}
	for _, t := range f.tracks {
		gone[t] = true
	}
	for i, t := range b.tracks {
		if gone[t] {
			b.tracks[i] = nil
		}
	}
}
