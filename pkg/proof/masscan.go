package proof

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dchest/siphash"

	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
)

// masscan's sequence numbers are cookies: the low half of SipHash-2-4 over (their address, their port, own address, own
// port), four little-endian words of 32 bits, under a key that is the seed twice (robertdavidgraham/masscan
// src/syn-cookie.c and src/main.c, the same from 1.3.0 to the head of 2025). The seed is random unless --seed gives it, and
// must be given where shards are to fit. So the seed of a sharded scan is a number that somebody typed or a script drew,
// and a number can be searched. A source behind address translation made its cookies for an address that we do not
// see: nothing is found then.

// cookieBits is what one probe proves.
const cookieBits = 32

// message is what a cookie is made of.
type message [16]byte

func messageOf(src uint32, p *Probe) (message, bool) {
	var m message
	dst, ok := ipv4(p.Dst)
	for i, word := range [4]uint32{dst, uint32(p.Dport), src, uint32(p.Sport)} {
		binary.LittleEndian.PutUint32(m[4*i:], word)
	}
	return m, ok && p.Proto == event.ProtoTCP
}

// MasscanCookie returns the sequence number of masscan's probe p from the IPv4 address src under a seed.
func MasscanCookie(seed uint64, src uint32, p *Probe) uint32 {
	m, _ := messageOf(src, p)
	return m.cookie(seed)
}

func (m *message) cookie(seed uint64) uint32 { return uint32(siphash.Hash(seed, seed, m[:])) }

// cookie is one probe as the search sees it.
type cookie struct {
	m   message
	seq uint32
}

// cookiesOf returns the source's probes that can be cookies. A source that sends the same probe twice says one thing.
func cookiesOf(s *Source) []cookie {
	src, ok := ipv4(s.Addr)
	if !ok {
		return nil
	}
	seen := map[cookie]bool{}
	var out []cookie
	for i := range s.Probes {
		m, ok := messageOf(src, &s.Probes[i])
		if c := (cookie{m, s.Probes[i].Seq}); ok && !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out
}

// obey counts the probes that are cookies under the seed.
func obey(cookies []cookie, seed uint64) int {
	n := 0
	for i := range cookies {
		if cookies[i].m.cookie(seed) == cookies[i].seq {
			n++
		}
	}
	return n
}

// masscanSeeds finds the seeds that masscan's sources share.
func masscanSeeds(ctx context.Context, sources []Source, opt Options) ([]Proof, error) {
	var of []int
	cookies := map[int][]cookie{}
	for i := range sources {
		if sources[i].Tool != fingerprint.Masscan {
			continue
		}
		if c := cookiesOf(&sources[i]); len(c) >= least {
			of = append(of, i)
			cookies[i] = c
		}
	}
	work := worklist(sources, of, opt.Searches)
	var out []Proof
	spoken := map[int]bool{}
	tell := func(seed uint64, tries float64) {
		p := Proof{Kind: MasscanSeed, Value: fmt.Sprintf("seed %d", seed), Tries: tries}
		for _, i := range of {
			c := cookies[i]
			k := obey(c, seed)
			if k < least || spoken[i] {
				continue
			}
			p.Members = append(p.Members, Member{Source: i, For: k, Against: len(c) - k, Evidence: hits(k, len(c), cookieBits*math.Log10(2))})
		}
		for _, m := range p.Members {
			spoken[m.Source] = true
		}
		p.Coincidence = digits(seed, earliest(sources, p.Members))
		p.Evidence = linked(p.Members, p.Coincidence, tries, len(of))
		out = append(out, p)
	}
	known := slices.Clone(opt.Seeds)
	slices.Sort(known)
	for _, seed := range slices.Compact(known) {
		tell(seed, float64(len(known)))
	}
	// A group whose first source has no seed that can be found gets one more chance, not all of its members'.
	tries := float64(opt.SeedLimit) + float64(opt.SeedTime)
	for n, i := range work {
		opt.Progress(float64(n) / float64(len(work)))
		if spoken[i] {
			continue
		}
		first := uint64(max(0, sources[i].Probes[0].Time/1e6)) + 1
		found, err := searchSeed(ctx, cookies[i], first, opt)
		if err != nil {
			return nil, err
		}
		if found.ok {
			tell(found.seed, tries*float64(len(work)))
		}
	}
	opt.Progress(1)
	return out, nil
}

// earliest is the time of the first probe of the members, in seconds.
func earliest(sources []Source, members []Member) int64 {
	at := int64(math.MaxInt64)
	for _, m := range members {
		at = min(at, sources[m.Source].Probes[0].Time/1e6)
	}
	return at
}

// digits is how much it can mean at most that two runs have one seed. People choose small numbers, and many choose the
// same: a seed is worth its length. One that is the time at which the scan began was written by the clock, and says that
// two runs began within the same second of, say, a day.
func digits(seed uint64, first int64) float64 {
	const day = 86400
	d := math.Log10(float64(seed) + 1)
	if age := first - int64(min(seed, math.MaxInt64)); age >= 0 && age < day {
		return math.Min(d, math.Log10(day))
	}
	return d
}

// seedFound is a seed that at least two probes obey.
type seedFound struct {
	seed uint64
	ok   bool
}

// searchSeed tries the seeds below the limit and the times before first. It returns the smallest of the seeds that the
// first probe obeys and at least half of the others do, two at least.
func searchSeed(ctx context.Context, cookies []cookie, first uint64, opt Options) (seedFound, error) {
	ranges := [][2]uint64{{0, opt.SeedLimit}}
	if from := max(opt.SeedLimit, first-min(first, opt.SeedTime)); from < first {
		ranges = append(ranges, [2]uint64{from, first})
	}
	for _, r := range ranges {
		if f, err := searchRange(ctx, cookies, r[0], r[1], opt.Workers); err != nil || f.ok {
			return f, err
		}
	}
	return seedFound{}, nil
}

// searchRange tries the seeds from lo to hi, hi exclusive, in pieces dealt out to the workers.
func searchRange(ctx context.Context, cookies []cookie, lo, hi uint64, workers int) (seedFound, error) {
	const piece = 1 << 20
	var next, best atomic.Uint64
	next.Store(lo)
	best.Store(math.MaxUint64)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				from := next.Add(piece) - piece
				if from >= hi || from >= best.Load() {
					return
				}
				if seed, ok := searchPiece(cookies, from, min(hi, from+piece)); ok {
					lower(&best, seed)
				}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return seedFound{}, fmt.Errorf("search masscan's seed: %w", err)
	}
	seed := best.Load()
	return seedFound{seed, seed != math.MaxUint64}, nil
}

func lower(v *atomic.Uint64, to uint64) {
	for {
		old := v.Load()
		if to >= old || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// searchPiece tries the seeds from lo to hi on the first probe, and those that fit on the others.
func searchPiece(cookies []cookie, lo, hi uint64) (uint64, bool) {
	c := cookies[0]
	for s := lo; s < hi; s++ {
		if c.m.cookie(s) != c.seq {
			continue
		}
		if n := obey(cookies, s); n >= least && 2*n >= len(cookies) {
			return s, true
		}
	}
	return 0, false
}

// ParseSeed reads the seed out of the Value of a MasscanSeed proof.
func ParseSeed(value string) (uint64, bool) {
	digits, ok := strings.CutPrefix(value, "seed ")
	if !ok {
		return 0, false
	}
	seed, err := strconv.ParseUint(digits, 10, 64)
	return seed, err == nil
}
