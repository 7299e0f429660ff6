package proof

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

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
type message struct{ a, b uint64 }

func messageOf(src uint32, p *Probe) (message, bool) {
	dst, ok := ipv4(p.Dst)
	return message{
		a: uint64(dst) | uint64(p.Dport)<<32,
		b: uint64(src) | uint64(p.Sport)<<32,
	}, ok && p.Proto == event.ProtoTCP
}

// MasscanCookie returns the sequence number of masscan's probe p from the IPv4 address src under a seed.
func MasscanCookie(seed uint64, src uint32, p *Probe) uint32 {
	m, _ := messageOf(src, p)
	c, _ := m.cookies(seed, seed)
	return c
}

// cookies returns the cookies of two seeds at once: the two computations do not wait for each other, which the
// search needs and a general library does not offer.
func (m message) cookies(s, t uint64) (uint32, uint32) {
	const c0, c1, c2, c3 = 0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261, 0x7465646279746573
	a0, a1, a2, a3 := s^c0, s^c1, s^c2, s^c3
	b0, b1, b2, b3 := t^c0, t^c1, t^c2, t^c3
	for _, w := range [3]uint64{m.a, m.b, 16 << 56} {
		a3 ^= w
		b3 ^= w
		for range 2 {
			a0, a1, a2, a3 = sipRound(a0, a1, a2, a3)
			b0, b1, b2, b3 = sipRound(b0, b1, b2, b3)
		}
		a0 ^= w
		b0 ^= w
	}
	a2 ^= 0xff
	b2 ^= 0xff
	for range 4 {
		a0, a1, a2, a3 = sipRound(a0, a1, a2, a3)
		b0, b1, b2, b3 = sipRound(b0, b1, b2, b3)
	}
	return uint32(a0 ^ a1 ^ a2 ^ a3), uint32(b0 ^ b1 ^ b2 ^ b3)
}

// sipRound is the round of SipHash (Aumasson and Bernstein 2012).
func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v1
	v0 += v3
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

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
	for _, c := range cookies {
		if got, _ := c.m.cookies(seed, seed); got == c.seq {
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
		p.Evidence = linked(p.Members, digits(seed, earliest(sources, p.Members)), tries, len(of))
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
	fits := func(seed uint64) bool {
		n := obey(cookies, seed)
		return n >= least && 2*n >= len(cookies)
	}
	for s := lo; s < hi; s += 2 {
		x, y := c.m.cookies(s, s+1)
		if x == c.seq && fits(s) {
			return s, true
		}
		if y == c.seq && s+1 < hi && fits(s+1) {
			return s + 1, true
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
